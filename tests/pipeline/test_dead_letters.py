"""Dead letters: nothing is lost, whatever its size, and nothing of a person is in the open."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from tagstitch.adapters.message_limits import check_message
from tagstitch.core.errors import InvalidInput, Unavailable
from tagstitch.pipeline.backend import RejectedRow
from tagstitch.pipeline.dead_letter import Message, publish_dead_letter
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.record_dead_letter import open_payload, record_dead_letter
from tagstitch.pipeline.replay_dead_letter import replay_dead_letter
from tests.pipeline.world import KEYRING, START, World


@dataclass
class LimitedTopic:
    """A topic with Pub/Sub's limits, which keeps what it took."""

    taken: list[tuple[bytes, Mapping[str, str]]] = field(default_factory=list)

    async def publish(
        self,
        topic: str,
        data: bytes,
        *,
        attributes: Mapping[str, str] | None = None,
        deadline: Deadline,
    ) -> str:
        del topic, deadline
        check_message(data, attributes or {})
        self.taken.append((data, attributes or {}))
        return "1"


async def bury(payload: bytes) -> Message:
    """Publish a dead letter; return the message that the sink gets."""
    topic = LimitedTopic()
    await publish_dead_letter(
        topic,
        Message(payload, "m1", "stitch-requests", START, {"origin": "crm"}),
        InvalidInput("invalid_json", "not JSON"),
        processor="stitch_async",
        failed_at=START,
        deadline=Deadline.after(20),
    )
    ((data, attributes),) = topic.taken
    return Message(data, "d1", "dead-letter", START, attributes)


async def record(world: World, message: Message) -> str:
    await record_dead_letter(world.backend, KEYRING, message, deadline=Deadline.after(20))
    (path,) = await world.paths("dead_letters")
    return path.partition("/")[2]


async def opened(world: World, letter_id: str) -> bytes | None:
    return await open_payload(world.backend, KEYRING, letter_id, deadline=Deadline.after(20))


class TestSizes:
    @pytest.mark.parametrize(
        "payload",
        [
            pytest.param(b"{not JSON", id="small"),
            pytest.param(b"x" * 8_000_000, id="too large in base64"),
            pytest.param(os.urandom(9_990_000), id="too large in base64, and random"),
        ],
    )
    async def test_a_message_of_any_size_becomes_the_same_dead_letter(
        self, world: World, payload: bytes
    ) -> None:
        letter_id = await record(world, await bury(payload))

        letter = await world.document(f"dead_letters/{letter_id}")
        assert await opened(world, letter_id) == payload
        assert letter["reason"]["code"] == "invalid_json"
        assert letter["source"]["topic"] == "stitch-requests"
        assert letter["processor"]["name"] == "stitch_async"

    async def test_what_no_message_can_carry_is_left_to_its_subscription(self) -> None:
        with pytest.raises(Unavailable):
            await bury(os.urandom(10_000_000))

    async def test_an_envelope_that_a_sender_wrote_on_its_own_message_counts_for_nothing(
        self, world: World
    ) -> None:
        ours = await bury(os.urandom(9_000_000))
        forwarded = {
            **ours.attributes,
            "CloudPubSubDeadLetterSourceSubscription": "stitch-requests-push",
        }

        letter_id = await record(world, Message(b"{}", "d2", "dead-letter", START, forwarded))

        letter = await world.document(f"dead_letters/{letter_id}")
        assert letter["reason"]["code"] == "delivery_attempts_exceeded"


class TestRedelivery:
    async def test_a_large_letter_survives_its_redelivery(self, world: World) -> None:
        payload = os.urandom(2_000_000)
        message = await bury(payload)
        world.down = {"audit_table"}
        with pytest.raises(Unavailable):
            await record(world, message)
        world.down = set()

        letter_id = await record(world, message)

        assert await opened(world, letter_id) == payload
        assert len(await world.rows()) == 1

    async def test_a_large_letter_survives_five_deliveries_at_once(self, world: World) -> None:
        payload = os.urandom(2_000_000)
        message = await bury(payload)
        read = world.backend.documents.get

        async def slow_read(path: str, *, deadline: Deadline) -> Any:
            document = await read(path, deadline=deadline)
            await asyncio.sleep(0.05)  # all look before the first one writes
            return document

        world.backend.documents.get = slow_read  # type: ignore[method-assign]
        letter_ids = await asyncio.gather(*(record(world, message) for _ in range(5)))

        assert len(set(letter_ids)) == 1
        assert await opened(world, letter_ids[0]) == payload


class TestPrivacy:
    @pytest.mark.parametrize("sender", ["us", "somebody"])
    async def test_a_request_id_that_is_none_is_not_recorded(
        self, world: World, sender: str
    ) -> None:
        payload = b'{"request_id": "jane.doe@example.com"}'
        message = Message(payload, "m1", "dead-letter", START)
        if sender == "us":
            envelope = json.loads((await bury(payload)).data)
            envelope["request_id"] = "jane.doe@example.com"
            envelope["reason"]["path"] = "identifiers.jane.doe@example.com"
            message = Message(json.dumps(envelope).encode(), "d1", "dead-letter", START)

        letter_id = await record(world, message)

        letter = await world.document(f"dead_letters/{letter_id}")
        assert "jane.doe" not in str(await world.rows())
        assert "jane.doe" not in str({**letter, "sealed": None})

    async def test_an_id_that_could_be_a_path_makes_no_envelope(self, world: World) -> None:
        envelope = json.loads((await bury(b"{}")).data)
        envelope["dead_letter_id"] = "a/b"

        data = json.dumps(envelope).encode()
        letter_id = await record(world, Message(data, "d1", "dead-letter", START))

        assert await opened(world, letter_id) == data


GRANT = {
    "identifiers": [{"type": "client_id", "value": "1294673677.1747154479"}],
    "consent": {"email": True},
}


class TestReplay:
    async def given_up(self, world: World, published_at: str) -> str:
        """Store the letter of a grant that its subscription gave up; return its id."""
        forwarded = {
            "CloudPubSubDeadLetterSourceSubscription": "stitch-requests-push",
            "CloudPubSubDeadLetterSourceTopicPublishTime": published_at,
        }
        data = json.dumps(GRANT).encode()
        message = Message(data, "m1", "dead-letter", world.now, forwarded)
        await record_dead_letter(world.backend, KEYRING, message, deadline=Deadline.after(5))
        [path] = await world.paths("dead_letters")
        return path.partition("/")[2]

    async def replay(self, world: World, letter_id: str) -> None:
        """Replay the letter and deliver what that publishes, an hour later."""
        await replay_dead_letter(world.backend, KEYRING, letter_id, deadline=Deadline.after(5))
        world.now += timedelta(hours=1)
        await world.stitch(world.published["stitch-requests"][-1], "m2")

    async def test_an_old_grant_does_not_undo_a_denial_that_came_between(
        self, world: World
    ) -> None:
        letter_id = await self.given_up(world, world.now.isoformat())
        world.now += timedelta(hours=1)
        denial = GRANT | {"consent": {"email": False}, "event": {"event_name": "login"}}
        await world.stitch(denial, "m3")

        await self.replay(world, letter_id)

        [profile] = (await world.collection("profiles")).values()
        assert profile["consent"]["email"]["granted"] is False

    async def test_a_letter_whose_publish_time_cannot_be_read_is_replayed_all_the_same(
        self, world: World
    ) -> None:
        letter_id = await self.given_up(world, "yesterday")

        await self.replay(world, letter_id)

        assert len(await world.paths("profiles")) == 1


async def test_a_record_that_the_table_refuses_is_in_the_log(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(*_: object, **__: object) -> list[RejectedRow]:
        return [RejectedRow(0, "no such column")]

    monkeypatch.setattr(world.backend.audit_table, "append", refuse)
    monkeypatch.setattr(
        logging.getLogger("tagstitch"), "propagate", True
    )  # functions switch it off
    with caplog.at_level(logging.ERROR, logger="tagstitch"):
        await record(world, await bury(b"{}"))

    assert "dead_letter_record_refused" in caplog.text
