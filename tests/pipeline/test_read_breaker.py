"""A store that does not answer is left alone, so that nobody waits for it in vain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from tagstitch.core.errors import Conflict, Unavailable
from tagstitch.pipeline.backend import Document
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.read_breaker import ReadBreaker


class Store:
    """Documents that fail when told to, and count who asks."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.asked = 0
        self.now = datetime(2026, 11, 22, 20, tzinfo=UTC)
        self.breaker = ReadBreaker(self, lambda: self.now)

    async def get(self, path: str, *, deadline: Deadline) -> Document | None:
        return (await self.get_many([path], deadline=deadline)).get(path)

    async def get_many(self, paths: Sequence[str], *, deadline: Deadline) -> Mapping[str, Document]:
        del deadline
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return {path: Document(path, {}, "1") for path in paths}

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    async def read(self, times: int = 1, *, seconds: float = 0.125) -> list[bool]:
        """Read by both calls in turn; return for each whether the store was asked."""
        asked = []
        for n in range(times):
            before = self.asked
            deadline = Deadline.after(seconds)
            read = self.breaker.get("a/b", deadline=deadline)
            reads = self.breaker.get_many(["a/b"], deadline=deadline)
            try:
                await (reads if n % 2 else read)
            except (Unavailable, Conflict):
                pass
            finally:
                read.close()
                reads.close()
            asked.append(self.asked > before)
        return asked

    async def fail_for_a_second(self) -> None:
        self.failure = Unavailable("firestore", "DEADLINE_EXCEEDED")
        for _ in range(5):
            await self.read()
            self.wait(0.25)


@pytest.fixture
def store() -> Store:
    return Store()


async def test_what_a_store_has_comes_through(store: Store) -> None:
    document = await store.breaker.get("a/b", deadline=Deadline.after(1))
    documents = await store.breaker.get_many(["a/b", "a/c"], deadline=Deadline.after(1))

    assert document == Document("a/b", {}, "1")
    assert list(documents) == ["a/b", "a/c"]


async def test_a_store_that_failed_for_a_second_is_not_asked(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await store.fail_for_a_second()

    with pytest.raises(Unavailable, match="left alone"):
        await store.breaker.get("a/b", deadline=Deadline.after(1))
    assert await store.read(10) == [False] * 10
    assert [record.message for record in caplog.records] == ["store_breaker_opened"]


async def test_many_failures_within_a_moment_are_a_hiccup(store: Store) -> None:
    store.failure = Unavailable("firestore")

    assert await store.read(100) == [True] * 100


async def test_one_read_finds_that_it_is_back_and_lets_all_others_through(store: Store) -> None:
    await store.fail_for_a_second()
    store.wait(0.5)
    store.failure = None

    assert await store.read(10) == [True] * 10


async def test_one_read_at_a_time_finds_that_it_is_not(store: Store) -> None:
    await store.fail_for_a_second()
    store.wait(0.5)

    assert await store.read(10) == [True] + [False] * 9


async def test_reads_without_a_fair_time_say_nothing_about_a_store(store: Store) -> None:
    store.failure = Unavailable("firestore", "DEADLINE_EXCEEDED")
    for _ in range(20):
        await store.read(seconds=0.01)
        store.wait(1)

    assert await store.read() == [True]


async def test_reads_without_a_fair_time_wait_for_nobody_else_to_find_that_it_is_back(
    store: Store,
) -> None:
    await store.fail_for_a_second()
    assert await store.read(3, seconds=0.01) == [False] * 3
    store.wait(0.5)
    assert await store.read(3, seconds=0.01) == [True] * 3
    store.failure = None
    await store.read(seconds=0.01)

    assert await store.read(3) == [True] * 3


async def test_only_what_did_not_answer_is_left_alone(store: Store) -> None:
    store.failure = Conflict()
    for _ in range(20):
        await store.read()
        store.wait(1)

    assert await store.read() == [True]
