"""Publishing audit records: what shares a message, and what an outage leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
import pytest

from tagstitch.core.errors import Unavailable
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.publish_audit import AuditPublisher


class SlowTopic:
    """A topic that takes nothing until it is released."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.published: list[list[str]] = []

    async def publish(
        self,
        topic: str,
        data: bytes,
        *,
        attributes: Mapping[str, str] | None = None,
        deadline: Deadline,
    ) -> str:
        del topic, attributes, deadline
        await self.released.wait()
        self.published.append(msgspec.json.decode(data)["records"])
        return "id"


def record(number: int) -> list[bytes]:
    return [msgspec.json.encode(f"record {number}")]


async def test_records_that_arrive_while_calls_are_under_way_share_the_next_message() -> None:
    topic = SlowTopic()
    publisher = AuditPublisher(topic)
    publishing = [
        asyncio.create_task(publisher.publish(record(number), deadline=Deadline.after(20)))
        for number in range(10)
    ]
    await asyncio.sleep(0)

    topic.released.set()
    await asyncio.gather(*publishing)

    assert [len(records) for records in topic.published] == [1, 9]


async def test_records_given_up_in_an_outage_are_not_kept_for_its_end() -> None:
    topic = SlowTopic()
    publisher = AuditPublisher(topic)
    given_up = [publisher.publish(record(n), deadline=Deadline.after(0.05)) for n in range(100)]
    results = await asyncio.gather(*given_up, return_exceptions=True)

    topic.released.set()
    await publisher.publish(record(100), deadline=Deadline.after(20))

    assert {type(result) for result in results} == {Unavailable}
    # Two calls were under way when their callers left, the second with what had waited for it
    # to be worth while; what was still waiting then has gone.
    assert [len(records) for records in topic.published] == [1, 32, 1]
    assert topic.published[2] == ["record 100"]


async def test_a_failed_call_is_heard_by_everybody_whose_record_it_carried() -> None:
    class ClosedTopic(SlowTopic):
        async def publish(self, *args: object, **options: object) -> str:
            del args, options
            await self.released.wait()
            raise Unavailable("pubsub")

    topic = ClosedTopic()
    publisher = AuditPublisher(topic)
    publishing = [
        asyncio.create_task(publisher.publish(record(n), deadline=Deadline.after(20)))
        for n in range(5)
    ]
    await asyncio.sleep(0)
    topic.released.set()

    for each in publishing:
        with pytest.raises(Unavailable):
            await each
