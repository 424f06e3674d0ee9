"""The more answers a process is at work on, the earlier the calls behind the next one end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tagstitch.core.caller import Caller
from tagstitch.core.identifier import IdentitySettings
from tagstitch.core.limits import DEADLINE_MS_MAX
from tagstitch.core.view import parse_views
from tagstitch.pipeline.activate import FeatureActivation
from tagstitch.pipeline.deadline import AnswersUnderWay, Deadline
from tests.pipeline.world import World

SITE = Caller("site", frozenset({"lookup", "decide", "assert"}))
VIEWS = parse_views({"banner": {"attributes": ["tier"], "identifier_types": ["anonymous_id"]}})
AT_ONCE = 300

Ask = Callable[[int], Awaitable[object]]


class Silent:
    """What never answers, and notes how many seconds each call was given."""

    def __init__(self) -> None:
        self.given_s: list[float] = []
        self.waited_for = asyncio.Semaphore(0)

    async def get(self, path: object, *, deadline: Deadline) -> Any:
        del path
        self.given_s.append(deadline.remaining_s)
        self.waited_for.release()
        await asyncio.Event().wait()

    get_many = get

    async def load(self, call: Any) -> Any:
        """Stand for decide's maker: the publishing of its record is what ends last."""
        await self.get("", deadline=call.stages.audit)


def lookups(world: World, silent: Silent) -> Ask:
    world.finder._documents = silent
    lookup = world.lookup()

    async def ask(number: int) -> object:
        body = {"identifiers": {"client_id": f"{number}.17"}, "deadline_ms": DEADLINE_MS_MAX}
        return await lookup.answer(body, SITE, request_id="r")

    return ask


def lookups_and_activations(world: World, silent: Silent) -> Ask:
    """Both are answered by one process."""
    world.finder._documents, world.views = silent, VIEWS
    under_way = AnswersUnderWay()
    lookup = world.lookup(under_way=under_way)
    activation = FeatureActivation(
        lookup, IdentitySettings(), views=world.refreshed(VIEWS), under_way=under_way
    )

    async def ask(number: int) -> object:
        browser = {"type": "anonymous_id", "value": f"visitor-{number}"}
        more = {"deadline_ms": DEADLINE_MS_MAX}
        if number < AT_ONCE - 1:
            body = {"identifiers": {browser["type"]: browser["value"]}, **more}
            return await lookup.answer(body, SITE, request_id="r")
        body = {"entity": "user", "id": browser, "view": "banner", **more}
        return await activation.answer(body, SITE, request_id="r")

    return ask


def decisions(world: World, silent: Silent) -> Ask:
    decider = world.decider()
    decider._maker = silent  # type: ignore[assignment]

    async def ask(number: int) -> object:
        event = {"event_name": "purchase", "client_id": f"{number}.17"}
        return await decider.decide({"event": event, "deadline_ms": DEADLINE_MS_MAX}, SITE)

    return ask


@pytest.mark.parametrize("kind", [lookups, lookups_and_activations, decisions])
async def test_the_last_of_many_is_given_less_time_than_the_first(
    world: World, kind: Callable[[World, Silent], Ask]
) -> None:
    silent = Silent()
    ask = kind(world, silent)
    await given_up(ask, silent, 1)  # imports

    await given_up(ask, silent, AT_ONCE)
    await given_up(ask, silent, 1)

    _, first_s, *_, last_s, afterwards_s = silent.given_s
    assert first_s - last_s > 0.1
    assert afterwards_s - last_s > 0.1


async def given_up(ask: Ask, silent: Silent, count: int) -> None:
    """Ask so many at once, and give up when all of them wait."""
    silent.waited_for = asyncio.Semaphore(0)
    asked = [asyncio.ensure_future(ask(number)) for number in range(count)]
    async with asyncio.timeout(30):
        for _ in asked:
            await silent.waited_for.acquire()
    for each in asked:
        each.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
