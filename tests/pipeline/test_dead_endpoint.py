"""One endpoint is dead for hours, and everything goes on beside it."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import pytest
from msgspec import structs

from tagstitch.core.errors import Unavailable
from tests.pipeline.world import MAIN, World

HOURS = 3
MINUTES = range(0, HOURS * 60, 5)
DEAD = structs.replace(MAIN, id="dead", url="https://dead.example.com/callback")


async def stitch(world: World, endpoint: str, minute: int) -> None:
    """Have a visitor of their own stitched, with a callback to the endpoint."""
    await world.stitch(
        {
            "request_id": f"{endpoint}-{minute}",
            "identifiers": [{"type": "client_id", "value": f"{minute}.{ord(endpoint[0])}"}],
            "callback": endpoint,
        }
    )


async def deliver_again(world: World) -> None:
    """Deliver what topic `actions` holds, as Pub/Sub would after its backoff."""
    for action in world.published.pop("actions", []):
        try:
            await world.act(action["outbox_id"])
        except Unavailable:  # not acknowledged: it comes again
            world.published.setdefault("actions", []).append(action)


@pytest.fixture
def two(world: World) -> World:
    """A world with a living endpoint and a dead one."""
    world.endpoints = {"main": MAIN, "dead": DEAD}
    world.dead = {DEAD.url}
    world.restart()
    return world


async def run(world: World) -> dict[str, datetime]:
    """Let hours pass, with a callback to each every few minutes; return when each came by."""
    came: dict[str, datetime] = {}
    for minute in range(HOURS * 60):
        if minute in MINUTES:
            for endpoint in ("dead", "main"):
                await stitch(world, endpoint, minute)
        for call in world.callbacks:
            came.setdefault(call["headers"]["webhook-id"], world.now)
        world.now += timedelta(minutes=1)
        await deliver_again(world)
    return came


async def test_the_living_one_hears_everything_at_once_while_the_dead_one_is_probed(
    two: World,
) -> None:
    start = two.now

    came = await run(two)

    posts = Counter(call["headers"]["webhook-id"] for call in two.callbacks)
    for minute in MINUTES:
        assert came[f"main-{minute}"] == start + timedelta(minutes=minute)
        assert posts[f"main-{minute}"] == 1
    probes = sum(call["url"] == DEAD.url for call in two.callbacks)
    assert len(MINUTES) // 2 <= probes <= 2 * len(MINUTES)
    assert len(await two.paths("profiles")) == 2 * len(MINUTES), "a link was missed"

    two.now += timedelta(minutes=11)
    await deliver_again(two)
    await two.store_audit()
    ended = Counter(
        (row["extra"]["callback"], row["outcome"])
        for row in await two.rows()
        if row["record_type"] == "callback_delivery"
    )
    assert ended == {("main", "delivered"): len(MINUTES), ("dead", "expired"): len(MINUTES)}


async def test_when_it_lives_again_it_hears_what_is_still_of_use(two: World) -> None:
    await run(two)
    two.dead = set()
    two.callbacks.clear()
    for _ in range(3):
        two.now += timedelta(minutes=2)
        await deliver_again(two)

    heard = [call["headers"]["webhook-id"] for call in two.callbacks]
    assert heard == [f"dead-{MINUTES[-1]}"]
