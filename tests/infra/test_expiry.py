"""The field by which Firestore deletes documents is one that the pipeline writes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tagstitch.core.caller import Caller
from tagstitch.core.errors import InvalidInput
from tagstitch.core.identity_limits import LINK_LOG_DAYS, LINKS_MARGIN_DAYS, QUARANTINE_DAYS
from tagstitch.core.limits import (
    DEAD_LETTER_EXPIRY_DAYS,
    EXPOSURE_EXPIRY_DAYS,
    IDEMPOTENCY_DAYS,
    OUTBOX_EXPIRY_DAYS,
    PROFILE_EXPIRY_DAYS,
)
from tagstitch.pipeline.dead_letter import Message, publish_dead_letter
from tagstitch.pipeline.deadline import Deadline
from tests.pipeline.world import START, World

FIRESTORE = Path(__file__).resolve().parents[2] / "infra" / "firestore.json"

DAYS = {
    "profiles": PROFILE_EXPIRY_DAYS,
    "processed": IDEMPOTENCY_DAYS,
    "outbox": OUTBOX_EXPIRY_DAYS,
    "dead_letters": DEAD_LETTER_EXPIRY_DAYS,
    "dead_letter_parts": DEAD_LETTER_EXPIRY_DAYS,
    "exposures": EXPOSURE_EXPIRY_DAYS,
    "identifiers": PROFILE_EXPIRY_DAYS + LINKS_MARGIN_DAYS,
    "contributions": PROFILE_EXPIRY_DAYS + LINKS_MARGIN_DAYS,
    "links": LINK_LOG_DAYS,
}

SERVER = Caller("server", frozenset({"decide", "lookup", "stitch", "assert", "explain"}))
BANNER = {
    "target_event_name": "view_item",
    "variants": [{"name": "control"}, {"name": "treatment"}],
    "sticky": True,
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.database.close()


async def do_something_of_everything(world: World) -> None:
    """Stitch two identifiers with a dead endpoint, count events, run an experiment, bury a message."""
    world.answers = [503]
    world.traits = {"orders": {"event": "purchase", "operation": "count"}}
    bought = {"event": {"event_name": "purchase"}}
    browser, user = {"type": "client_id", "value": "1.2"}, {"type": "user_id", "value": "u-1"}
    await world.stitch({"request_id": "r0", "identifiers": [browser], **bought})
    both = {"identifiers": [user, browser], "callback": "main"}
    await world.stitch({"request_id": "r1", **both, **bought})
    event = {"event_name": "view_item", "client_id": "1.2"}
    body = {"event": event, "request_id": "r2", "deadline_ms": 5000}
    await world.decider(experiments={"banner": BANNER}).decide(body, SERVER)
    await publish_dead_letter(
        world.backend.publisher,
        Message(os.urandom(2_000_000), "m1", "stitch-requests", START),
        InvalidInput("invalid_json", "not JSON"),
        processor="stitch_async",
        failed_at=START,
        deadline=Deadline.after(20),
    )
    await world.store_dead_letter()


async def expiries(world: World, collection: str) -> list[Any]:
    """Return when the documents expire; what only leads to another one lives as long as that."""
    found = [await world.document(path) for path in await world.paths(collection)]
    return [fields.get("expires_at") for fields in found if "merged_into" not in fields]


def test_documents_live_as_long_as_was_promised() -> None:
    """Whoever asks again within these days is answered as before; behind them nothing is left."""
    promised = {
        "processed": 7, "outbox": 30, "dead_letters": 7, "dead_letter_parts": 7, "exposures": 90,
    }  # fmt: skip

    assert {name: DAYS[name] for name in promised} == promised
    assert QUARANTINE_DAYS == 30


async def test_the_policies_delete_what_the_pipeline_wants_deleted(world: World) -> None:
    deployed = json.loads(FIRESTORE.read_text("utf-8"))
    await do_something_of_everything(world)

    for collection, days in DAYS.items():
        times = await expiries(world, collection)
        assert times, f"nothing was written to {collection}"
        assert deployed[collection]["ttl"] == "expires_at"
        assert all(isinstance(time, datetime) for time in times)
        # A second change in the same microsecond is stamped with the next one.
        late = {time - START - timedelta(days=days) for time in times}
        assert late <= {timedelta(0), timedelta(microseconds=1)}, collection
