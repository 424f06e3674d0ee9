"""Messages of every version that a release published are read; those of another are kept whole."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tagstitch.core.errors import InvalidInput
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.dead_letter import Message
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.record_audit import record_audit
from tagstitch.pipeline.record_dead_letter import open_payload, record_dead_letter
from tagstitch.pipeline.replay_dead_letter import replay_dead_letter
from tagstitch.pipeline.resume_outbox import OutboxDelivery
from tests.pipeline.world import KEYRING, START, World

KEPT: Final = Path(__file__).parents[1] / "messages"
UNKNOWN: Final = [2, 0, "1", None, True, {"major": 1}]

Read = Callable[..., Awaitable[None]]


def kept(version: str, topic: str) -> dict[str, Any]:
    message: dict[str, Any] = json.loads((KEPT / version / f"{topic}.json").read_text("utf-8"))
    return message


def message_of(topic: str, content: Any) -> Message:
    return Message(json.dumps(content).encode(), "m-9", topic, START)


def reader(world: World, topic: str) -> Read:
    """Return what reads the messages of a topic."""
    outbox = OutboxDelivery(world.backend, world.delivery, world.actions)
    readers: dict[str, Read] = {
        "stitch-requests": world.stitcher().process_message,
        "actions": outbox.resume_message,
        "audit": partial(record_audit, world.backend),
        "dead-letter": partial(record_dead_letter, world.backend, KEYRING),
    }
    return readers[topic]


async def read(world: World, topic: str, content: Any) -> None:
    await reader(world, topic)(message_of(topic, content), deadline=Deadline.after(20))


@pytest.mark.parametrize("version", sorted(path.name for path in KEPT.iterdir() if path.is_dir()))
class TestKeptMessages:
    async def test_a_stitch_request_is_processed(self, world: World, version: str) -> None:
        await read(world, "stitch-requests", kept(version, "stitch-requests"))

        [callback] = world.callbacks
        assert callback["headers"]["webhook-id"] == "kept-1"
        assert callback["body"]["data"]["context"] == {"page": "/account"}

    async def test_an_action_goes_on_with_its_entry(self, world: World, version: str) -> None:
        await read(world, "stitch-requests", kept("v1", "stitch-requests"))
        [(path, entry)] = (await world.collection("outbox")).items()
        data = json.dumps(world.callbacks[0]["body"]["data"]).encode()
        again = {**entry, "status": "pending", "data": data}
        del again["lease_until"]
        named = f"outbox/{kept(version, 'actions')['outbox_id']}"
        await world.store.commit([Put(named, again)], deadline=Deadline.after(5))

        await read(world, "actions", kept(version, "actions"))

        assert path != named
        assert len(world.callbacks) == 2
        assert (await world.document(named))["status"] == "delivered"

    async def test_a_record_is_stored_and_its_holder_cleared(
        self, world: World, version: str
    ) -> None:
        held = {"pending": 7, "pending_since": START}
        await world.store.commit([Put("processed/kept", held)], deadline=Deadline.after(5))

        await read(world, "audit", kept(version, "audit"))

        [row] = await world.rows()
        assert (row["record_id"], row["outcome"]) == ("kept-record", "linked")
        assert await world.document("processed/kept") == {}

    async def test_a_dead_letter_is_stored_with_its_payload(
        self, world: World, version: str
    ) -> None:
        letter = kept(version, "dead-letter")
        await read(world, "dead-letter", letter)

        stored = await world.document(f"dead_letters/{letter['dead_letter_id']}")
        payload = await open_payload(
            world.backend, KEYRING, letter["dead_letter_id"], deadline=Deadline.after(5)
        )
        assert (stored["reason"], stored["request_id"]) == (letter["reason"], "kept-2")
        assert payload == b'{"identifiers": []}'


@pytest.mark.parametrize("v", UNKNOWN)
@pytest.mark.parametrize("topic", ["stitch-requests", "actions", "audit"])
async def test_a_message_of_an_unknown_version_is_refused_before_anything_happens(
    world: World, topic: str, v: Any
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await read(world, topic, {**kept("v1", topic), "v": v})

    assert (refused.value.code, refused.value.path) == ("unsupported_version", "v")
    assert world.effects == []


@pytest.mark.parametrize("topic", ["stitch-requests", "actions", "audit", "dead-letter"])
async def test_a_message_without_a_version_is_of_the_first(world: World, topic: str) -> None:
    content = kept("v1", topic)
    del content["v"]

    await read(world, topic, content)

    letters = (await world.collection("dead_letters")).values()
    assert "unsupported_version" not in [letter["reason"]["code"] for letter in letters]


async def test_one_record_alone_has_a_version_too(world: World) -> None:
    [record] = kept("v1", "audit")["records"]

    await read(world, "audit", {**record, "v": 1})
    with pytest.raises(InvalidInput) as refused:
        await read(world, "audit", {**record, "v": 2})

    assert refused.value.code == "unsupported_version"
    [row] = await world.rows()
    assert "unknown_fields" not in row["extra"]


@pytest.mark.parametrize("v", UNKNOWN)
async def test_a_dead_letter_of_an_unknown_version_is_kept_whole_for_a_release_that_reads_it(
    world: World, v: Any
) -> None:
    envelope = {**kept("v1", "dead-letter"), "v": v, "reason": "of another shape"}

    await read(world, "dead-letter", envelope)

    [(path, stored)] = (await world.collection("dead_letters")).items()
    letter_id = path.partition("/")[2]
    payload = await open_payload(world.backend, KEYRING, letter_id, deadline=Deadline.after(5))
    assert stored["reason"]["code"] == "unsupported_version"
    assert stored["source"]["topic"] == "dead-letter"
    assert json.loads(payload or b"") == envelope
    topic = await replay_dead_letter(world.backend, KEYRING, letter_id, deadline=Deadline.after(5))
    assert topic == "dead-letter"
    assert world.published["dead-letter"] == [envelope]
