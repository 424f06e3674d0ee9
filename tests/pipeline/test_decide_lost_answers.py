"""decide when a commit seems to fail: the answer and the audit tell one truth."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from tagstitch.core.errors import Unavailable
from tagstitch.pipeline.backend import Write
from tagstitch.pipeline.deadline import Deadline
from tests.pipeline.test_decide import ONCE, decide, event
from tests.pipeline.world import World

BODY = {"event": event("view_item"), "request_id": "r1", "deadline_ms": 5000}


class LosesAnswers:
    """A store that makes the next commit, or not, and says nothing of it."""

    def __init__(
        self, world: World, *, is_made: bool = True, then: Callable[[], Awaitable[None]]
    ) -> None:
        self._store = world.store
        self._is_made = is_made
        self._then = then
        world.store = self
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, writes: Sequence[Write], *, deadline: Deadline) -> None:
        self._world.store = self._store
        if self._is_made:
            await self._store.commit(writes, deadline=deadline)
        await self._then()
        raise Unavailable("firestore", "the answer was lost")


async def nothing() -> None:
    """Nothing else happens."""


async def ids(world: World) -> list[str]:
    return [record_id.partition(":")[2] for record_id in await world.store_audit()]


class TestMade:
    @pytest.mark.parametrize("request_id", ["r1", None])
    async def test_what_was_committed_is_answered_and_recorded_once(
        self, world: World, request_id: str | None
    ) -> None:
        LosesAnswers(world, then=nothing)

        answer = await decide(world.decider({}, ONCE), BODY | {"request_id": request_id})

        assert [action["type"] for action in answer["personalization"]["actions"]] == ["set_cookie"]
        assert answer["degraded"] == []
        assert await ids(world) == ["event", "personalization"]
        await world.sweep()
        assert len(await ids(world)) == 2

    async def test_of_two_with_one_id_the_first_one_answers_both(self, world: World) -> None:
        decider = world.decider({}, ONCE)
        first: list[Any] = []

        async def another() -> None:
            first.append(await decide(decider, BODY))

        LosesAnswers(world, is_made=False, then=another)

        assert await decide(decider, BODY) == first[0]
        assert await ids(world) == ["event", "personalization"]

    async def test_where_nobody_can_tell_the_committed_record_has_an_id_of_its_own(
        self, world: World
    ) -> None:
        async def fall_silent() -> None:
            world.down = {"documents"}

        LosesAnswers(world, then=fall_silent)

        answer = await decide(world.decider({}, ONCE), BODY)
        world.down = set()
        told = await ids(world)
        repeated = await decide(world.decider({}, ONCE), BODY)

        assert (answer["personalization"]["actions"], answer["degraded"]) == ([], ["state"])
        assert told == ["event:uncommitted", "personalization:uncommitted"]
        assert len(repeated["personalization"]["actions"]) == 1
        assert (await ids(world))[2:] == ["event", "personalization"]


class TestNotMade:
    async def test_it_is_answered_without_the_state_and_said_so(self, world: World) -> None:
        LosesAnswers(world, is_made=False, then=nothing)

        answer = await decide(world.decider({}, ONCE), BODY)

        assert (answer["personalization"]["actions"], answer["degraded"]) == ([], ["state"])
        assert await ids(world) == ["event:uncommitted", "personalization:uncommitted"]
        assert await world.paths("processed") == []

    async def test_a_repetition_that_is_committed_has_records_of_its_own(
        self, world: World
    ) -> None:
        LosesAnswers(world, is_made=False, then=nothing)
        await decide(world.decider({}, ONCE), BODY)

        answer = await decide(world.decider({}, ONCE), BODY)

        assert len(answer["personalization"]["actions"]) == 1
        assert (await ids(world))[2:] == ["event", "personalization"]
