"""The local stack dies at exact points of its work, is started again, and nothing is missing."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.crashing_stack import FLAG, POINTS
from tests.end_to_end.running_stack import RunningStack, running_stack, until

REQUESTS = 12
"""More than one, so that the crash meets others at every stage of their work."""

_STACKS_AT_ONCE = 4


@dataclass(frozen=True)
class Outcome:
    """What a crashed and restarted stack came to."""

    accepted: list[str]
    unmarked: set[str]
    """What the dead process had posted and not yet marked: only there a POST may repeat."""
    callbacks: list[dict[str, Any]]
    audit: list[dict[str, Any]]
    dead_letters: list[dict[str, Any]]
    lookups: list[dict[str, Any]]
    left_over: int
    exit_code: int


def request_body(number: int) -> dict[str, Any]:
    return {
        "mode": "async",
        "identifiers": {"client_id": f"{7000 + number}.1747154479", "user_id": f"u-{number}"},
        "callback": "main",
        "request_id": f"crash-{number}",
    }


def send(stack: RunningStack, numbers: list[int]) -> list[int]:
    """Return the requests that were not answered with 202: their senders will ask again."""

    def one(number: int) -> bool:
        try:
            answer = client.post("/stitch_sync", json=request_body(number))
        except httpx.TransportError:
            return False
        return answer.status_code == 202

    with stack.client() as client, ThreadPoolExecutor(4) as senders:
        arrived = list(senders.map(one, numbers))
    return [number for number, ok in zip(numbers, arrived, strict=True) if not ok]


def crash_and_restart(point: str, folder: Path) -> Outcome:
    with running_stack(folder, point=point, TAGSTITCH_RETRY_SCALE="0.01") as stack:
        unanswered = send(stack, list(range(REQUESTS)))
        assert stack.wait_for_death(30) == -9
        unmarked = set(json.loads((stack.data_dir / FLAG).read_text()))
        stack.start()
        assert send(stack, unanswered) == []
        until(
            lambda: stack.count("audit") >= 2 * REQUESTS,
            seconds=60,
            what=f"two audit records a request ({stack.count('audit')} are there)",
        )
        with stack.client() as client:
            lookups = [
                client.get("/stitch_sync", params={"client_id": f"{7000 + n}.1747154479"}).json()
                for n in range(REQUESTS)
            ]
            swept = client.post("/stitch_async/sweep", json={}).json()
        return Outcome(
            accepted=[f"crash-{n}" for n in range(REQUESTS)],
            unmarked=unmarked,
            callbacks=stack.listed("callbacks"),
            audit=stack.listed("audit"),
            dead_letters=stack.listed("deadletters"),
            lookups=lookups,
            left_over=swept["records"] + swept["actions"],
            exit_code=stack.stop(),
        )


def test_a_crash_at_any_point_loses_nothing_and_doubles_nothing(
    tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """What a dead process had leased waits for the lease's end, so the stacks run side by side."""
    folders = [tmp_path / str(number) for number in range(len(POINTS))]
    with ThreadPoolExecutor(_STACKS_AT_ONCE) as runs:
        outcomes = list(runs.map(crash_and_restart, POINTS, folders))

    for point, outcome in zip(POINTS, outcomes, strict=True):
        with subtests.test(point):
            check(outcome)


def check(outcome: Outcome) -> None:
    ids = Counter(callback["webhook_id"] for callback in outcome.callbacks)
    assert sorted(ids) == sorted(outcome.accepted)
    assert all(callback["signature_valid"] for callback in outcome.callbacks)
    assert {request_id for request_id, count in ids.items() if count > 1} <= outcome.unmarked
    assert max(ids.values()) <= 2
    assert outcome.dead_letters == []

    records = Counter((row["request_id"], row["record_type"]) for row in outcome.audit)
    assert records == {
        (request_id, kind): 1
        for request_id in outcome.accepted
        for kind in ("identity_link", "callback_delivery")
    }
    rows = {(row["request_id"], row["record_type"]): row for row in outcome.audit}
    assert {row["outcome"] for row in outcome.audit} == {"created", "delivered"}
    bodies = {callback["webhook_id"]: callback["body"]["data"] for callback in outcome.callbacks}
    profiles = [looked_up["profile_id"] for looked_up in outcome.lookups]
    assert [bodies[request_id]["profile_id"] for request_id in outcome.accepted] == profiles
    assert len(set(profiles)) == REQUESTS
    assert None not in profiles
    assert len({row["subject"] for row in rows.values()}) == REQUESTS
    assert outcome.left_over == 0
    assert outcome.exit_code == 0
