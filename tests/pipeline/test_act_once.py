"""Actions are done once, however often and at once they are decided and delivered, and whoever dies."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tagstitch.pipeline.backend import Delete
from tagstitch.pipeline.deadline import Deadline
from tests.pipeline.acting import (
    HOOK,
    HUB,
    MAIL,
    SENDGRID,
    decide,
    delivery_rows,
    destination,
    known_visitor,
    register,
    run_sweep,
    told,
)
from tests.pipeline.world import World


async def decide_hook(world: World) -> None:
    await decide(world, HOOK)


class TestOnce:
    @pytest.mark.parametrize("written", [SENDGRID, {**SENDGRID, "repeatable": True}])
    async def test_deliveries_at_once_send_once(self, world: World, written: Any) -> None:
        register(world, destination(written))
        await known_visitor(world)
        world.answers = [202]
        await decide(world, MAIL)
        message = world.published["actions"][-1]["outbox_id"]

        await asyncio.gather(*(world.act(message) for _ in range(12)))

        assert len(world.callbacks) == 1
        assert await told(world) == [("delivered", "SENT")]

    async def test_a_second_decision_of_the_window_sends_nothing_even_when_forgotten(
        self, world: World
    ) -> None:
        register(world, destination(HUB))
        profile_id = await known_visitor(world)
        await decide(world, {**HOOK, "once_per": "day"})
        await world.act()
        await world.store.commit(
            [Delete(f"profiles/{profile_id}")], deadline=Deadline.after(5)
        )  # an expired profile: its caps are gone with it

        answer = await decide(world, {**HOOK, "once_per": "day"})
        await world.act()

        assert answer["degraded"] == []
        assert len(world.callbacks) == 1
        assert len(await delivery_rows(world)) == 1

    @pytest.mark.parametrize("written", [SENDGRID, {**SENDGRID, "idempotency_header": "X-Key"}])
    async def test_a_crash_at_every_step_sends_at_most_once_or_with_one_key(
        self, tmp_path: Any, written: Any
    ) -> None:
        """Every point of the way dies once; then the message comes again, and the sweep."""
        number, is_over = 0, False
        while not is_over:
            for side in ("before", "behind"):
                world = World(tmp_path / f"{number}-{side}")
                register(world, destination(written))
                await known_visitor(world)
                await decide(world, MAIL)
                world.answers = [202] * 5
                world.crash_at = (len(world.effects) + number, side)
                try:
                    await world.run_until_crash(world.act())
                except AssertionError:
                    is_over = True
                world.restart()
                for _ in range(3):
                    world.now += timedelta(minutes=3)
                    await run_sweep(world)
                    await world.act()

                is_repeatable = "idempotency_header" in written
                keys = {sent["headers"].get("X-Key") for sent in world.callbacks}
                assert len(keys) <= 1
                if not is_repeatable:
                    assert len(world.callbacks) <= 1
                outcomes = await told(world)
                assert len(outcomes) == 1, (number, side, outcomes)
                if is_repeatable:
                    assert outcomes == [("delivered", "SENT")]
                else:
                    assert outcomes[0] in {
                        ("delivered", "SENT"), ("dead_letter", "OUTCOME_UNKNOWN"),
                    }  # fmt: skip
                world.database.close()
            number += 1
        assert number > 3

    async def test_wherever_decide_dies_it_is_sent_once_or_was_never_decided(
        self, tmp_path: Any
    ) -> None:
        ends = []
        for number in range(4):
            for side in ("before", "behind"):
                world = World(tmp_path / f"{number}-{side}")
                register(world, destination(HUB))
                await known_visitor(world)
                world.crash_at = (number, side)
                if number < 3:
                    await world.run_until_crash(decide_hook(world))
                world.restart()
                for _ in range(2):
                    world.now += timedelta(minutes=3)
                    await run_sweep(world)
                    for message in world.published.get("actions", []):
                        await world.act(message["outbox_id"])
                assert len(world.callbacks) == len(await world.paths("outbox"))
                ends.append(await told(world))
                world.database.close()

        assert ends == [[], *[[("delivered", "SENT")]] * 5, [], []]

    async def test_what_decide_could_not_publish_is_swept(self, world: World) -> None:
        register(world, destination(HUB))
        world.down = {"publisher"}
        answer = await decide(world, HOOK)
        world.down = set()
        assert answer["degraded"] == []

        world.now += timedelta(minutes=3)
        await run_sweep(world)
        await world.act()

        assert await told(world) == [("delivered", "SENT")]

    async def test_a_message_without_its_entry_does_nothing(self, world: World) -> None:
        await world.act("nobody-knows-this-one")

        assert world.callbacks == []
