"""Endpoints that are gone: what one process learns, the others hear within their next look."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tagstitch.pipeline import disabled_endpoints
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.disabled_endpoints import DisabledEndpoints
from tests.pipeline.world import World

KEY, URL = "callback:main", "https://sgtm.example.com/callback"


@pytest.fixture
def process(world: World, monkeypatch: pytest.MonkeyPatch) -> DisabledEndpoints:
    """A process that looks at the store whenever it is asked, and that met a 410."""
    monkeypatch.setattr(disabled_endpoints, "_REFRESH_S", 0.0)
    return another_process(world)


def another_process(world: World) -> DisabledEndpoints:
    return DisabledEndpoints(world.backend.documents, world.backend.clock)


async def holds(process: DisabledEndpoints) -> bool:
    return await process.holds(KEY, URL, deadline=Deadline.after(5))


async def until_enabled(process: DisabledEndpoints) -> None:
    for _ in range(1000):
        if not await holds(process):
            return
        await asyncio.sleep(0.01)  # the look goes on beside whoever asks
    pytest.fail("it is still disabled here")


async def test_one_that_another_process_found_alive_is_enabled_here_too(
    world: World, process: DisabledEndpoints
) -> None:
    await process.add(KEY, URL)
    world.now += timedelta(seconds=1)
    other = another_process(world)
    assert await holds(other)
    await other.remove(KEY, URL)
    world.now += timedelta(seconds=30)

    await until_enabled(process)


async def test_a_process_that_lives_longer_than_a_week_asks_again(
    world: World, process: DisabledEndpoints
) -> None:
    await process.add(KEY, URL)
    assert await holds(process)

    world.now += timedelta(days=8)

    await until_enabled(process)
