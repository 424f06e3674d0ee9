"""Activations: what they read, that they never write, and what they say when a store is silent."""

from __future__ import annotations

from typing import Any

import pytest

from tagstitch.core.activation import ActivationAnswer
from tagstitch.core.caller import Caller
from tagstitch.core.errors import InvalidInput, Unavailable
from tagstitch.core.identifier import Identifier, IdentitySettings
from tagstitch.core.view import Views, parse_views
from tagstitch.pipeline.activate import FeatureActivation
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.refreshed import Refreshed
from tests.pipeline.world import START, World

BROWSER = Identifier("anonymous_id", "5f0c2a9e-3b1d-4c58-9a67-1e2d3c4b5a69")
CALLER = Caller("site", frozenset({"lookup", "stitch", "assert"}))
VIEWS = parse_views({"banner": {"attributes": ["tier", "city"], "identifier_types": ["anonymous_id"]}})  # fmt: skip
BODY = {"entity": "user", "id": {"type": BROWSER.type, "value": BROWSER.value}, "view": "banner"}


def activation(world: World, views: Refreshed[Views] | None = None) -> FeatureActivation:
    world.views = VIEWS
    views = views or world.refreshed(VIEWS)
    lookup = world.lookup()
    lookup._views = views
    return FeatureActivation(lookup, IdentitySettings(), views=views)


async def activate(world: World, **others: Any) -> ActivationAnswer:
    return await activation(world).answer({**BODY, **others}, CALLER, request_id="r")


async def test_somebody_known_costs_one_read_and_no_effect(world: World) -> None:
    await world.put_profile(BROWSER, attributes={"tier": "Gold", "margin": 0.4})

    answer = await activate(world)

    assert (answer.reason, answer.features) == ("KNOWN_PROFILE", {"tier": "Gold", "city": None})
    assert (world.reads, world.effects) == (1, [])


@pytest.mark.parametrize(
    "others",
    [
        {"consent": {"analytics_storage": False}},
        {"id": {"type": "anonymous_id", "value": "undefined"}},
    ],
)
async def test_what_may_not_be_looked_up_is_not_read(world: World, others: dict[str, Any]) -> None:
    await world.put_profile(BROWSER, attributes={"tier": "Gold"})

    answer = await activate(world, **others)

    assert (answer.found, answer.features) == (False, {"tier": None, "city": None})
    assert world.reads == 0


async def test_a_denial_in_the_profile_hides_it(world: World) -> None:
    denial = {"analytics_storage": {"granted": False, "at": START}}
    await world.put_profile(BROWSER, attributes={"tier": "Gold"}, consent=denial)

    answer = await activate(world)

    assert (answer.reason, answer.features) == ("CONSENT_DENIED", {"tier": None, "city": None})


async def test_a_view_for_other_identifiers_is_refused_before_anybody_is_read(world: World) -> None:
    await world.put_profile(Identifier("user_id", "u-1"), attributes={"tier": "Gold"})

    with pytest.raises(InvalidInput) as caught:
        await activate(world, id={"type": "user_id", "value": "u-1"})

    assert (caught.value.path, world.reads) == ("id.type", 0)


async def test_a_silent_store_leaves_the_keys_in_place(world: World) -> None:
    world.down = {"documents"}

    answer = await activate(world)

    assert answer.to_json() == {
        "data": {"banner": {"tier": None, "city": None}},
        "found": False,
        "reason": "ERROR",
        "request_id": "r",
        "degraded": ["profile"],
    }


async def test_before_the_views_are_known_there_are_no_keys_and_no_error(world: World) -> None:
    async def load(_present: Views | None, _deadline: Deadline) -> Views:
        raise Unavailable("firestore")

    views = Refreshed(load, name="views", interval_s=0, clock=world.backend.clock)

    answer = await activation(world, views).answer(BODY, CALLER, request_id="r")

    assert answer.to_json()["data"] == {"banner": {}}
    assert (answer.reason, answer.degraded, world.reads) == ("ERROR", ("profile",), 0)


async def test_views_that_could_not_be_read_again_make_the_answer_stale(world: World) -> None:
    await world.put_profile(BROWSER, attributes={"tier": "Gold"})
    views = world.refreshed(VIEWS)
    await views.get(Deadline.after(1))
    views.is_stale = True

    answer = await activation(world, views).answer(BODY, CALLER, request_id="r")

    assert (answer.found, answer.reason) == (True, "STALE")
