"""stitch_async killed at the worst moments; the Pub/Sub emulator delivers the message again."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tagstitch.local_stack.emulators import Emulators
from tests.end_to_end.deployment import Deployment, deploy, until

pytestmark = pytest.mark.emulators

CRASHING = Path(__file__).parent / "crashing_stitch_async" / "main.py"


POSTS = {
    "between commit and publish": 1,
    "between publish and acknowledge": 1,
    "between the callback and its mark": 2,
}
"""Where it dies, and how often the endpoint then hears of it, always under one webhook id."""


@pytest.fixture(params=POSTS)
def crashing(
    request: pytest.FixtureRequest, emulators: Emulators, tmp_path: Path
) -> Iterator[tuple[str, Deployment]]:
    """A deployment whose stitch_async dies once, with the name of the point."""
    with deploy(
        emulators,
        tmp_path,
        functions=("stitch_async", "audit_sink"),
        sources={"stitch_async": CRASHING},
        environment={"CRASH_POINT": request.param, "CRASH_MARK": str(tmp_path / "crashed")},
        retry_scale=0.2,
    ) as deployment:
        yield request.param, deployment


async def test_a_request_whose_process_was_killed_has_one_effect_and_one_record(
    crashing: tuple[str, Deployment], tmp_path: Path
) -> None:
    point, deployment = crashing
    process = deployment.functions["stitch_async"]
    request_id = "crash-" + secrets.token_hex(4)
    await deployment.publish("stitch-requests", stitch_request(request_id))
    await asyncio.to_thread(process.wait_until_dead)
    assert (tmp_path / "crashed").exists()
    assert len(await deployment.documents("processed")) == 1

    process.start()
    await asyncio.to_thread(process.wait_until_ready)
    await deployment.wait_for_audit(request_id, count=2)

    async def settled() -> bool:
        held = [*await deployment.documents("processed"), *await deployment.documents("outbox")]
        lines = process.log_lines("request")
        acknowledged = any(line["status"] == 204 and line["path"] == "/" for line in lines)
        return acknowledged and not any("pending" in document for document in held)

    await until(settled)
    rows = await deployment.audit(request_id, table="audit_deduplicated")
    new = [each for each in await deployment.documents("profiles") if is_new(each)]
    callbacks = deployment.sgtm.of(request_id)

    assert sorted(row["record_type"] for row in rows) == ["callback_delivery", "identity_link"]
    assert len(await deployment.documents("links")) == 1
    assert len(new) == 1
    assert len(callbacks) == POSTS[point]
    assert {callback.webhook_id for callback in callbacks} == {request_id}
    assert all(callback.is_signed for callback in callbacks)


def stitch_request(request_id: str) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "callback": "main",
        "identifiers": [
            {"type": "client_id", "value": "77.1763700000"},
            {"type": "user_id", "value": "u-of-" + request_id},
        ],
    }


def is_new(profile: Mapping[str, Any]) -> bool:
    """The samples have attributes, a visitor that was just created has none; an alias is nobody."""
    return "merged_into" not in profile and not profile["attributes"]
