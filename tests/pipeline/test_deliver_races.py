"""What happens to an entry while its request is under way: it is erased, or another process has it."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from tagstitch.core.errors import Unavailable
from tagstitch.pipeline.backend import CallbackAnswer, CallbackSender, Write
from tagstitch.pipeline.deadline import Deadline
from tests.pipeline.acting import (
    CLIENT,
    HOOK,
    HUB,
    MAIL,
    SENDGRID,
    decide,
    destination,
    known_visitor,
    register,
)
from tests.pipeline.acting import told as told_of_actions
from tests.pipeline.erasing import erase
from tests.pipeline.world import World

REQUEST = {
    "request_id": "r1",
    "identifiers": [{"type": CLIENT.type, "value": CLIENT.value}],
    "event": {"event_name": "login"},
    "callback": "main",
}


@dataclass
class Meanwhile:
    """An endpoint that has heard the first request, and answers when something else has happened."""

    sender: CallbackSender
    other: Callable[[], Awaitable[Any]]
    has_happened: bool = False

    async def post(self, url: str, **options: Any) -> CallbackAnswer:
        answer = await self.sender.post(url, **options)
        if not self.has_happened:
            self.has_happened = True
            await self.other()
        return answer


def during_the_first_request(world: World, other: Callable[[], Awaitable[Any]]) -> None:
    world.backend = replace(world.backend, callbacks=Meanwhile(world.backend.callbacks, other))
    world.restart()


async def told_of_callbacks(world: World) -> list[str]:
    await world.store_audit()
    rows = [row for row in await world.rows() if row["record_type"] == "callback_delivery"]
    return [row["outcome"] for row in rows]


async def told_of_attempts(world: World) -> list[int]:
    rows = [row for row in await world.rows() if row["record_type"].endswith("_delivery")]
    return [row["extra"]["attempts"] for row in rows]


@pytest.mark.parametrize("status", [200, 401, 503])
async def test_a_callback_whose_person_is_erased_meanwhile_is_posted_once(
    world: World, status: int
) -> None:
    await known_visitor(world)
    during_the_first_request(world, lambda: erase(world, CLIENT))
    world.answers = [status]

    await world.stitch(REQUEST)  # and acknowledged: another delivery would post again

    assert len(world.callbacks) == 1
    assert await world.paths("outbox") == []
    assert "dead-letter" not in world.published
    assert await told_of_callbacks(world) == ["suppressed"]
    assert await told_of_attempts(world) == [1], "it may have arrived"


async def test_an_action_whose_person_is_erased_meanwhile_is_sent_once(world: World) -> None:
    register(world, destination(HUB))
    await known_visitor(world)
    await decide(world, HOOK)
    during_the_first_request(world, lambda: erase(world, CLIENT))

    await world.act()

    assert len(world.callbacks) == 1
    assert await told_of_actions(world) == [("suppressed", "ERASED")]
    assert await told_of_attempts(world) == [1], "it may have arrived"


async def test_a_refusal_that_comes_late_does_not_undo_a_delivery(world: World) -> None:
    """A process slept beyond its lease, and another one delivered meanwhile."""

    async def deliver_elsewhere() -> None:
        world.now += timedelta(seconds=9)
        [path] = await world.paths("outbox")
        another = world.callback_delivery()
        await another.resume(path.partition("/")[2], deadline=Deadline.after(5))

    during_the_first_request(world, deliver_elsewhere)
    world.answers = [401, 200]

    await world.stitch(REQUEST)

    assert "dead-letter" not in world.published
    assert await told_of_callbacks(world) == ["delivered"]


def the_next_commit_fails(world: World, monkeypatch: pytest.MonkeyPatch, *, is_made: bool) -> None:
    """Let the store be silent once, after the commit has been made or before."""
    commit = world.store.commit

    async def fail_once(writes: Sequence[Write], *, deadline: Deadline) -> None:
        monkeypatch.setattr(world.store, "commit", commit)
        if is_made:
            await commit(writes, deadline=deadline)
        raise Unavailable("documents")

    monkeypatch.setattr(world.store, "commit", fail_once)


@pytest.mark.parametrize("is_made", [False, True])
async def test_an_attempt_that_was_not_begun_is_none_of_unknown_outcome(
    world: World, monkeypatch: pytest.MonkeyPatch, *, is_made: bool
) -> None:
    register(world, destination(SENDGRID))
    await known_visitor(world)
    await decide(world, MAIL)
    world.answers = [202]
    the_next_commit_fails(world, monkeypatch, is_made=is_made)

    with contextlib.suppress(Unavailable):
        await world.act()
    world.now += timedelta(minutes=1)
    await world.act()

    assert len(world.callbacks) == 1
    assert await told_of_actions(world) == [("delivered", "SENT")]


@pytest.mark.parametrize("is_made", [False, True])
async def test_what_surely_was_not_done_is_tried_again_though_a_commit_fails(
    world: World, monkeypatch: pytest.MonkeyPatch, *, is_made: bool
) -> None:
    """The lease must be given back: without it the attempt's outcome would be unknown."""

    async def begin_to_fail() -> None:
        the_next_commit_fails(world, monkeypatch, is_made=is_made)

    register(world, destination(SENDGRID))
    await known_visitor(world)
    await decide(world, MAIL)
    world.answers = [503, 202]
    during_the_first_request(world, begin_to_fail)

    with pytest.raises(Unavailable, match="asks to try later"):
        await world.act()
    world.now += timedelta(minutes=1)
    await world.act()

    assert len(world.callbacks) == 2
    assert await told_of_actions(world) == [("delivered", "SENT")]


async def test_a_refusal_whose_dead_letter_could_not_be_published_stays_one(world: World) -> None:
    async def lose_the_topics() -> None:
        world.down = {"publisher"}

    register(world, destination(SENDGRID))
    await known_visitor(world)
    await decide(world, MAIL)
    world.answers = [400, 400]
    during_the_first_request(world, lose_the_topics)

    with pytest.raises(Unavailable):
        await world.act()
    world.down = set()
    world.now += timedelta(minutes=1)
    await world.act()

    assert len(world.published["dead-letter"]) == 1
    assert await told_of_actions(world) == [("dead_letter", "REFUSED")]
