from __future__ import annotations

import asyncio
import base64
import collections
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tagstitch.adapters.in_process_pubsub import InProcessPubSub, Push
from tagstitch.adapters.sqlite_database import SqliteDatabase
from tagstitch.adapters.topology import Subscription, Topic, Topology, read_topology
from tagstitch.core.errors import Unavailable
from tagstitch.pipeline.deadline import Deadline

ROOT = Path(__file__).resolve().parents[2]


def soon() -> Deadline:
    return Deadline.after(20)


def topology(**subscription: Any) -> Topology:
    """One topic `work` with one subscription, and a dead-letter topic with another."""
    work = {
        "topic": "work",
        "function": "worker",
        "path": "/work",
        "ack_deadline_s": 10,
        "backoff_min_s": 0.02,
        "backoff_max_s": 0.08,
    }
    dead = {**work, "topic": "dead", "path": "/dead"}
    return Topology(
        functions={},
        topics={"work": Topic(604800), "dead": Topic(604800)},
        subscriptions={
            "work-push": msgspec.convert(work | subscription, Subscription),
            "dead-push": msgspec.convert(dead, Subscription),
        },
        schedules={},
    )


POLICY = {"dead_letter_topic": "dead", "max_delivery_attempts": 3}


class Worker:
    """Takes pushes and answers as the test wants."""

    def __init__(self, answer: Callable[[dict[str, Any]], Awaitable[int]]) -> None:
        self._answer = answer
        self.bodies: list[dict[str, Any]] = []
        self.dead: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.in_flight = 0
        self.in_flight_max = 0

    async def push(self, function: str, path: str, body: bytes) -> int:
        assert function == "worker"
        decoded = json.loads(body)
        if path == "/dead":
            self.dead.append(decoded)
            return 204
        self.bodies.append(decoded)
        self.times.append(time.monotonic())
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            return await self._answer(decoded)
        finally:
            self.in_flight -= 1


def answering(*statuses: int) -> Callable[[dict[str, Any]], Awaitable[int]]:
    """Answer with these statuses, the last one again and again."""
    left = list(statuses)

    async def answer(body: dict[str, Any]) -> int:
        del body
        return left.pop(0) if len(left) > 1 else left[0]

    return answer


@contextlib.asynccontextmanager
async def delivering(pubsub: InProcessPubSub, push: Push) -> AsyncIterator[None]:
    task = asyncio.create_task(pubsub.run(push))
    try:
        yield
    finally:
        pubsub.stop()
        await asyncio.wait_for(task, 30)


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.005)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path)
    yield database
    database.close()


async def test_a_push_has_the_real_form(database: SqliteDatabase) -> None:
    pubsub = InProcessPubSub(database, topology(**POLICY), project="demo")
    worker = Worker(answering(204))
    async with delivering(pubsub, worker.push):
        message_id = await pubsub.publish("work", b"x\xff", attributes={"a": "b"}, deadline=soon())
        assert await pubsub.wait_idle(20)

    (body,) = worker.bodies
    published = body["message"].pop("publishTime")
    assert published.endswith("Z")
    assert body["message"].pop("publish_time") == published
    assert body == {
        "subscription": "projects/demo/subscriptions/work-push",
        "message": {
            "data": base64.b64encode(b"x\xff").decode(),
            "attributes": {"a": "b"},
            "messageId": message_id,
            "message_id": message_id,
        },
        "deliveryAttempt": 1,
    }


async def test_without_a_dead_letter_policy_there_is_no_delivery_attempt(
    database: SqliteDatabase,
) -> None:
    pubsub = InProcessPubSub(database, topology())
    worker = Worker(answering(204))
    async with delivering(pubsub, worker.push):
        await pubsub.publish("work", b"x", deadline=soon())
        assert await pubsub.wait_idle(20)

    assert "deliveryAttempt" not in worker.bodies[0]
    assert "attributes" not in worker.bodies[0]["message"]


@pytest.mark.parametrize("status", [102, 200, 201, 202, 204])
async def test_these_statuses_acknowledge(database: SqliteDatabase, status: int) -> None:
    pubsub = InProcessPubSub(database, topology())
    worker = Worker(answering(status))
    async with delivering(pubsub, worker.push):
        await pubsub.publish("work", b"x", deadline=soon())
        assert await pubsub.wait_idle(20)
        await asyncio.sleep(0.1)

    assert len(worker.bodies) == 1


@pytest.mark.parametrize("status", [203, 206, 301, 400, 404, 429, 500, 503])
async def test_any_other_status_is_delivered_again_as_the_same_message(
    database: SqliteDatabase, status: int
) -> None:
    pubsub = InProcessPubSub(database, topology(**POLICY))
    worker = Worker(answering(status, 204))
    async with delivering(pubsub, worker.push):
        await pubsub.publish("work", b"x", deadline=soon())
        await until(lambda: len(worker.bodies) == 2)
        assert await pubsub.wait_idle(20)

    first, second = worker.bodies
    assert first["message"] == second["message"]
    assert [first["deliveryAttempt"], second["deliveryAttempt"]] == [1, 2]


async def test_an_exception_is_delivered_again_and_its_text_not_logged(
    database: SqliteDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = []

    async def answer(body: dict[str, Any]) -> int:
        attempts.append(body)
        if len(attempts) == 1:
            raise ValueError("anna@example.com")
        return 204

    pubsub = InProcessPubSub(database, topology())
    async with delivering(pubsub, Worker(answer).push):
        await pubsub.publish("work", b"x", deadline=soon())
        await until(lambda: len(attempts) == 2)

    (record,) = caplog.records
    assert record.message == "push_failed"
    assert vars(record)["fields"] == {"subscription": "work-push", "error": "ValueError"}
    assert "anna" not in caplog.text


async def test_a_push_that_passes_the_ack_deadline_is_cancelled_and_delivered_again(
    database: SqliteDatabase,
) -> None:
    cancelled = []

    async def answer(body: dict[str, Any]) -> int:
        if body["deliveryAttempt"] > 1:
            return 204
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return 204

    pubsub = InProcessPubSub(database, topology(ack_deadline_s=0.1, **POLICY))
    worker = Worker(answer)
    async with delivering(pubsub, worker.push):
        await pubsub.publish("work", b"x", deadline=soon())
        await until(lambda: len(worker.bodies) == 2)

    assert cancelled == [True]
    assert worker.in_flight_max == 1


async def test_retries_wait_longer_and_longer_and_the_scale_shortens_them(
    database: SqliteDatabase,
) -> None:
    spec = topology(backoff_min_s=1, backoff_max_s=3)
    pubsub = InProcessPubSub(database, spec, retry_scale=0.1)
    worker = Worker(answering(500, 500, 500, 204))
    async with delivering(pubsub, worker.push):
        await pubsub.publish("work", b"x", deadline=soon())
        await until(lambda: len(worker.bodies) == 4)

    gaps = [b - a for a, b in zip(worker.times, worker.times[1:], strict=False)]
    assert 0.1 <= gaps[0] < 5
    assert gaps[1] >= 0.2
    assert gaps[2] >= 0.3
    assert sum(gaps) < 10


def test_the_backoff_doubles_between_its_bounds() -> None:
    subscription = read_topology().subscriptions["audit-push"]

    waits = [subscription.backoff_s(attempts) for attempts in (1, 2, 3, 7, 8, 10_000)]

    assert waits == [10, 20, 40, 600, 600, 600]


async def test_after_the_last_attempt_the_message_goes_to_the_dead_letter_topic(
    database: SqliteDatabase,
) -> None:
    pubsub = InProcessPubSub(database, topology(**POLICY), project="demo")
    worker = Worker(answering(500))
    async with delivering(pubsub, worker.push):
        message_id = await pubsub.publish("work", b"x", attributes={"a": "b"}, deadline=soon())
        await until(lambda: len(worker.dead) == 1)
        assert await pubsub.wait_idle(20)

    assert [body["deliveryAttempt"] for body in worker.bodies] == [1, 2, 3]
    dead = worker.dead[0]["message"]
    assert base64.b64decode(dead["data"]) == b"x"
    assert dead["messageId"] != message_id
    assert dead["attributes"] == {
        "a": "b",
        "CloudPubSubDeadLetterSourceDeliveryCount": "3",
        "CloudPubSubDeadLetterSourceSubscription": "work-push",
        "CloudPubSubDeadLetterSourceSubscriptionProject": "demo",
        "CloudPubSubDeadLetterSourceTopicPublishTime": worker.bodies[0]["message"]["publishTime"],
    }


async def test_without_a_policy_a_message_is_retried_on_and_on(database: SqliteDatabase) -> None:
    pubsub = InProcessPubSub(database, topology(), retry_scale=0.01)
    worker = Worker(answering(500))
    async with delivering(pubsub, worker.push):
        await pubsub.publish("work", b"x", deadline=soon())
        await until(lambda: len(worker.bodies) > 20)

    assert worker.dead == []


async def test_retention_ends_a_message(database: SqliteDatabase) -> None:
    spec = topology()
    pubsub = InProcessPubSub(database, msgspec.structs.replace(spec, topics={"work": Topic(0.001)}))
    await pubsub.publish("work", b"x", deadline=soon())
    await asyncio.sleep(0.01)
    worker = Worker(answering(204))
    async with delivering(pubsub, worker.push):
        assert await pubsub.wait_idle(20)

    assert worker.bodies == []


async def test_pushes_run_at_the_same_time_and_are_bounded(database: SqliteDatabase) -> None:
    release = asyncio.Event()

    async def answer(body: dict[str, Any]) -> int:
        del body
        await release.wait()
        return 204

    pubsub = InProcessPubSub(database, topology())
    worker = Worker(answer)
    for _ in range(100):
        await pubsub.publish("work", b"x", deadline=soon())
    async with delivering(pubsub, worker.push):
        await until(lambda: worker.in_flight == 32)
        await asyncio.sleep(0.05)
        release.set()
        assert await pubsub.wait_idle(20)

    assert worker.in_flight_max == 32
    assert (
        len({body["message"]["messageId"] for body in worker.bodies}) == 100 == len(worker.bodies)
    )


async def test_a_slow_subscription_does_not_hold_up_another(database: SqliteDatabase) -> None:
    async def answer(body: dict[str, Any]) -> int:
        del body
        await asyncio.sleep(30)
        return 204

    pubsub = InProcessPubSub(database, topology(ack_deadline_s=0.5))
    worker = Worker(answer)
    for _ in range(40):
        await pubsub.publish("work", b"x", deadline=soon())
    async with delivering(pubsub, worker.push):
        await until(lambda: worker.in_flight == 32)
        await pubsub.publish("dead", b"x", deadline=soon())
        await until(lambda: len(worker.dead) == 1, seconds=5)
        await pubsub.clear()


async def test_ten_thousand_messages_each_arrive_once(database: SqliteDatabase) -> None:
    pubsub = InProcessPubSub(database, topology())
    seen: collections.Counter[str] = collections.Counter()

    async def push(function: str, path: str, body: bytes) -> int:
        del function, path
        seen[json.loads(body)["message"]["messageId"]] += 1
        return 204

    async with delivering(pubsub, push):
        for _ in range(10_000):
            await pubsub.publish("work", b"x" * 500, deadline=soon())
            await asyncio.sleep(0)
        assert await pubsub.wait_idle(60)

    assert len(seen) == 10_000
    assert set(seen.values()) == {1}


async def test_a_message_from_another_connection_is_seen_soon(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    other = SqliteDatabase(tmp_path)
    pubsub = InProcessPubSub(database, topology())
    worker = Worker(answering(204))
    async with delivering(pubsub, worker.push):
        await asyncio.sleep(0.05)
        await InProcessPubSub(other, topology()).publish("work", b"x", deadline=soon())
        await until(lambda: len(worker.bodies) == 1, seconds=2)
    other.close()


async def test_only_one_process_delivers_from_a_data_folder(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    worker = Worker(answering(204))
    other = SqliteDatabase(tmp_path)
    async with delivering(InProcessPubSub(database, topology()), worker.push):
        await asyncio.sleep(0.01)
        with pytest.raises(Unavailable):
            await InProcessPubSub(other, topology()).run(worker.push)
    other.close()


async def test_stopping_waits_for_the_push_in_flight(database: SqliteDatabase) -> None:
    ended = []

    async def answer(body: dict[str, Any]) -> int:
        await asyncio.sleep(0.2)
        ended.append(body)
        return 204

    pubsub = InProcessPubSub(database, topology())
    worker = Worker(answer)
    async with delivering(pubsub, worker.push):
        await pubsub.publish("work", b"x", deadline=soon())
        await until(lambda: worker.in_flight == 1)

    assert len(ended) == 1
    assert await pubsub.is_idle()


async def test_a_push_that_is_broken_off_is_due_at_once_at_the_next_start(
    database: SqliteDatabase,
) -> None:
    async def hang(body: dict[str, Any]) -> int:
        del body
        await asyncio.sleep(30)
        return 204

    spec = topology(backoff_min_s=300, backoff_max_s=600, **POLICY)
    pubsub = InProcessPubSub(database, spec)
    worker = Worker(hang)
    task = asyncio.create_task(pubsub.run(worker.push))
    await pubsub.publish("work", b"x", deadline=soon())
    await until(lambda: worker.in_flight == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    again = Worker(answering(204))
    async with delivering(InProcessPubSub(database, spec), again.push):
        await until(lambda: len(again.bodies) == 1, seconds=5)

    assert again.bodies[0]["deliveryAttempt"] == 2


async def test_what_was_cleared_in_flight_is_not_retried(database: SqliteDatabase) -> None:
    release = asyncio.Event()

    async def answer(body: dict[str, Any]) -> int:
        del body
        await release.wait()
        return 500

    pubsub = InProcessPubSub(database, topology(**(POLICY | {"max_delivery_attempts": 1})))
    worker = Worker(answer)
    async with delivering(pubsub, worker.push):
        await pubsub.publish("work", b"x", deadline=soon())
        await until(lambda: worker.in_flight == 1)
        await pubsub.clear()
        assert not await pubsub.is_idle()
        release.set()
        assert await pubsub.wait_idle(20)
        await asyncio.sleep(0.1)

    assert len(worker.bodies) == 1
    assert worker.dead == []


PUBLISH_AND_DELIVER = """
import asyncio, pathlib, sys
from tagstitch.adapters.in_process_pubsub import InProcessPubSub
from tagstitch.adapters.sqlite_database import SqliteDatabase
from tagstitch.adapters.topology import read_topology
from tagstitch.pipeline.deadline import Deadline

async def main():
    pubsub = InProcessPubSub(SqliteDatabase(pathlib.Path(sys.argv[1])), read_topology())
    async def push(function, path, body):
        await asyncio.sleep(60)
    asyncio.create_task(pubsub.run(push))
    for n in range(1000000):
        print(await pubsub.publish("audit", str(n).encode(), deadline=Deadline.after(5)), flush=True)
        await asyncio.sleep(0)

asyncio.run(main())
"""


async def test_killing_the_process_loses_no_published_message(tmp_path: Path) -> None:
    process = subprocess.Popen(  # noqa: ASYNC220 - the pipe is read in a thread below
        [sys.executable, "-c", PUBLISH_AND_DELIVER, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    ids = [await asyncio.to_thread(process.stdout.readline) for _ in range(500)]
    process.send_signal(signal.SIGKILL)
    rest, _ = await asyncio.to_thread(process.communicate)
    complete = [line for line in (*ids, *rest.splitlines(keepends=True)) if line.endswith("\n")]
    published = {line.strip() for line in complete}

    seen: set[str] = set()

    async def push(function: str, path: str, body: bytes) -> int:
        del function, path
        seen.add(json.loads(body)["message"]["messageId"])
        return 204

    database = SqliteDatabase(tmp_path)
    pubsub = InProcessPubSub(database, read_topology())
    async with delivering(pubsub, push):
        assert await pubsub.wait_idle(30)
    database.close()

    assert len(published) >= 500
    assert published <= seen


def test_the_topology_names_only_what_exists(tmp_path: Path) -> None:
    path = tmp_path / "topology.json"
    text = (ROOT / "infra" / "topology.json").read_text()
    path.write_text(text.replace('"topic": "audit"', '"topic": "nowhere"'))

    with pytest.raises(ValueError, match="audit-push"):
        read_topology(path)
