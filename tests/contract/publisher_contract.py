"""What every publisher must do; a backend's test file subclasses with its fixtures.

Fixtures of the subclass: `publisher`; `topic`, the name of an existing topic of which nobody else
takes messages; `receive`, which waits for that many messages of the topic (redelivered copies
folded by id) and returns them in any order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from tagstitch.core.errors import InvalidInput, TagstitchError, Unavailable
from tagstitch.pipeline.backend import Publisher
from tagstitch.pipeline.deadline import Deadline


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A message as a subscriber got it."""

    message_id: str
    data: bytes
    attributes: dict[str, str]


Receive = Callable[[int], Awaitable[list[ReceivedMessage]]]


def soon() -> Deadline:
    return Deadline.after(20)


class PublisherContract:
    @pytest.mark.parametrize(
        "data",
        [b'{"v": 1}', "Grüße 🙂".encode(), bytes(range(256)), b"x" * 1_000_000],
        ids=["JSON", "non-ASCII", "binary", "a megabyte"],
    )
    async def test_data_arrives_byte_for_byte(
        self, publisher: Publisher, topic: str, receive: Receive, data: bytes
    ) -> None:
        message_id = await publisher.publish(topic, data, deadline=soon())

        (message,) = await receive(1)

        assert message == ReceivedMessage(message_id, data, {})
        assert message_id

    async def test_attributes_arrive_also_without_data(
        self, publisher: Publisher, topic: str, receive: Receive
    ) -> None:
        attributes = {"reason": "invalid_json", "ü": "ß", "empty": ""}
        message_id = await publisher.publish(topic, b"", attributes=attributes, deadline=soon())

        assert await receive(1) == [ReceivedMessage(message_id, b"", attributes)]

    async def test_concurrent_messages_all_arrive_with_ids_of_their_own(
        self, publisher: Publisher, topic: str, receive: Receive
    ) -> None:
        sent = [str(n).encode() for n in range(100)]
        ids = await asyncio.gather(
            *(publisher.publish(topic, data, deadline=soon()) for data in sent)
        )

        messages = await receive(100)

        assert {m.message_id: m.data for m in messages} == dict(zip(ids, sent, strict=True))
        assert len(set(ids)) == 100

    async def test_an_unknown_topic_is_an_error_of_the_tree(self, publisher: Publisher) -> None:
        with pytest.raises(TagstitchError):
            await publisher.publish("no-such-topic", b"x", deadline=Deadline.after(5))

    async def test_a_message_above_ten_megabytes_is_refused_for_good(
        self, publisher: Publisher, topic: str
    ) -> None:
        with pytest.raises(InvalidInput):
            await publisher.publish(topic, b"x" * 10_000_001, deadline=soon())

    async def test_a_message_with_neither_data_nor_attributes_is_refused_for_good(
        self, publisher: Publisher, topic: str
    ) -> None:
        with pytest.raises(InvalidInput):
            await publisher.publish(topic, b"", deadline=soon())

    @pytest.mark.parametrize(
        "attributes",
        [
            {"name": "x" * 1_025},
            {"x" * 257: "value"},
            {f"name{n}": "value" for n in range(101)},
            {"": "value"},
            {"googReserved": "value"},
        ],
        ids=["long value", "long name", "too many", "empty name", "reserved name"],
    )
    async def test_attributes_beyond_the_limits_are_refused_for_good(
        self, publisher: Publisher, topic: str, attributes: dict[str, str]
    ) -> None:
        with pytest.raises(InvalidInput):
            await publisher.publish(topic, b"x", attributes=attributes, deadline=soon())

    async def test_a_call_whose_deadline_is_over_is_unavailable(
        self, publisher: Publisher, topic: str
    ) -> None:
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable):
                await publisher.publish(topic, b"x", deadline=Deadline.after(-1))
