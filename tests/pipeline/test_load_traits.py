"""Definitions of traits are loaded from the store, and compiled again only when one changed."""

from __future__ import annotations

import pytest

from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.load_traits import load_traits
from tests.pipeline.world import World


async def test_definitions_are_compiled_again_only_when_one_changed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    load = load_traits(world.backend.documents)
    orders = {"event": "purchase", "operation": "count"}
    await world.store.commit([Put("traits/orders", orders)], deadline=Deadline.after(5))

    first = await load(None, Deadline.after(5))
    second = await load(first, Deadline.after(5))
    await world.store.commit(
        [Put("traits/broken", {"event": "purchase"})], deadline=Deadline.after(5)
    )
    third = await load(second, Deadline.after(5))
    fourth = await load(third, Deadline.after(5))

    assert second is first
    assert [definition.name for definition in first.of_event("purchase")] == ["orders"]
    assert third.names == {"orders"}
    assert [broken.rule_id for broken in third.broken] == ["broken"]
    assert fourth is third
    assert [record.message for record in caplog.records] == ["traits_broken"]


async def test_the_clock_is_that_of_the_project(world: World) -> None:
    raw = {"event": "*", "operation": "hour_of_day"}
    await world.store.commit([Put("traits/hour", raw)], deadline=Deadline.after(5))

    load = load_traits(world.backend.documents, time_zone="Asia/Tokyo")
    found = await load(None, Deadline.after(5))

    assert str(found.by_name["hour"].time_zone) == "Asia/Tokyo"
