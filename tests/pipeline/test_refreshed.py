"""Definitions in memory: who waits for them, and what counts while they cannot be had."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest

from tagstitch.core.errors import Unavailable
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.refreshed import Refreshed


class Source:
    """Loads that end when told to."""

    def __init__(self) -> None:
        self.loads = 0
        self.ends: asyncio.Queue[str | None] = asyncio.Queue()
        """What the next load gives; None fails it."""

    def refreshed(self) -> Refreshed[str]:
        return Refreshed(self._load, name="x", interval_s=0, clock=lambda: datetime.now(UTC))

    async def _load(self, _present: str | None, _deadline: Deadline) -> str:
        self.loads += 1
        value = await self.ends.get()
        if value is None:
            raise Unavailable("firestore")
        return value


@pytest.fixture
def source() -> Source:
    return Source()


async def get(refreshed: Refreshed[str], seconds: float) -> tuple[str | None, float]:
    started = time.monotonic()
    value = await refreshed.get(Deadline.after(seconds))
    return value, time.monotonic() - started


async def test_all_first_requests_wait_for_one_load(source: Source) -> None:
    refreshed = source.refreshed()
    waiting = [asyncio.create_task(get(refreshed, 20)) for _ in range(50)]
    await asyncio.sleep(0.05)
    source.ends.put_nowait("a")

    assert {value for value, _ in await asyncio.gather(*waiting)} == {"a"}
    assert source.loads == 1


async def test_a_first_load_that_hangs_is_waited_for_until_the_deadline(source: Source) -> None:
    value, seconds = await get(source.refreshed(), 0.1)

    assert value is None
    assert 0.09 < seconds < 5


async def test_once_the_first_load_has_failed_only_one_waits_long_for_the_next(
    source: Source,
) -> None:
    refreshed = source.refreshed()
    source.ends.put_nowait(None)
    assert (await get(refreshed, 20))[0] is None

    one = asyncio.create_task(get(refreshed, 20))
    await asyncio.sleep(0)
    others = [await get(refreshed, 20) for _ in range(10)]
    source.ends.put_nowait("a")

    assert {value for value, _ in others} == {None}
    assert max(seconds for _, seconds in others) < 5
    assert (await one)[0] == "a"
    assert (await get(refreshed, 0))[0] == "a"


async def test_a_refresh_that_fails_or_hangs_leaves_the_present_value(source: Source) -> None:
    refreshed = source.refreshed()
    source.ends.put_nowait("a")
    await get(refreshed, 20)

    source.ends.put_nowait(None)
    failed = await get(refreshed, 20)
    is_stale = refreshed.is_stale
    hanging = await get(refreshed, 20)

    assert (failed[0], is_stale, hanging[0]) == ("a", True, "a")
    assert hanging[1] < 5
