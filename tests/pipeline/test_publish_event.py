"""decide hands over to stitching what traits are computed from: once, within time, come what may."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tagstitch.core.caller import Caller
from tagstitch.core.errors import Unavailable
from tagstitch.core.identifier import Identifier, IdentitySettings
from tagstitch.core.profile_traits import TraitDefinitions
from tagstitch.core.stitch_request import parse_stitch_request
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.decide import Decider
from tagstitch.pipeline.load_traits import load_traits
from tagstitch.pipeline.refreshed import Refreshed
from tests.pipeline.world import KEYRING, START, World

CLIENT = Identifier("client_id", "1294673677.1747154479")
SERVER = Caller("server", frozenset({"decide", "lookup", "assert"}))
BROWSER = Caller("browser", frozenset({"decide"}))

ORDERS = {"orders": {"event": "purchase", "operation": "count"}}

ONCE = {
    "banner": {
        "event_name_trigger": "purchase",
        "conditions": {"user_state.shown": {"notEquals": True}},
        "action_type": "return_value",
        "action_details": {"key": "banner", "value": "ten"},
        "updates_user_state": {"shown": True},
        "purposes": ["analytics_storage"],
    }
}
DROP = {
    "internal": {
        "target_event_name": "purchase",
        "match_all": True,
        "action_type": "drop_event",
        "action_details": {},
    }
}


def purchase(**parameters: Any) -> dict[str, Any]:
    return {"event_name": "purchase", "client_id": CLIENT.value, "value": 7.5, **parameters}


async def ask(
    decider: Decider, event: dict[str, Any], caller: Caller = SERVER, **fields: Any
) -> dict[str, Any]:
    body = {"event": event, "deadline_ms": 5000, **fields}
    answer: dict[str, Any] = json.loads(await decider.decide(body, caller))
    return answer


def sent(world: World) -> list[dict[str, Any]]:
    return world.published.get("stitch-requests", [])


async def test_an_event_that_a_trait_names_is_published_as_it_arrived(world: World) -> None:
    answer = await ask(world.decider(DROP, traits=ORDERS), purchase(user_id="u-1001"))

    [message] = sent(world)
    assert answer["event"]["drop"] is True
    assert answer["degraded"] == []
    assert message["event"] == purchase(user_id="u-1001")
    assert message["identifiers"] == [
        {"type": "user_id", "value": "u-1001"},
        {"type": "client_id", "value": CLIENT.value},
    ]
    assert message["asserted"] is True
    assert message["event_id"] == answer["decision_id"]
    assert message["request_id"] == KEYRING.derived_id("traits", answer["decision_id"])
    assert message["occurred_at"] == START.isoformat()
    assert "consent" not in message


async def test_the_message_is_one_that_stitching_reads(world: World) -> None:
    event = purchase(event_timestamp_ms=1, items=[{"item_id": "P1"}])

    await ask(world.decider(traits=ORDERS), event, consent={"analytics_storage": True})

    [message] = sent(world)
    request = parse_stitch_request(
        message, IdentitySettings(), default_request_id="m1", received_at=START
    )
    assert request.event is not None
    assert request.event.parameters == event
    assert request.occurred_at.timestamp() == 0.001
    assert request.consent == {"analytics_storage": True}


async def test_without_the_scope_the_browser_alone_is_named(world: World) -> None:
    event = {**purchase(user_id="u-1001"), "x-ga-js_client_id": "77.88"}

    await ask(world.decider(traits=ORDERS), event, BROWSER)

    [message] = sent(world)
    assert message["identifiers"] == [{"type": "client_id", "value": CLIENT.value}]
    assert message["asserted"] is False


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ({**purchase(), "event_name": "page_view"}, {}),
        ({"event_name": "purchase", "value": 5}, {}),
        (purchase(), {"consent": {"analytics_storage": False}}),
        (purchase(**{"x-ga-gcs": "G100"}), {}),
    ],
    ids=["no trait names it", "no identifier", "denied by the request", "denied by the event"],
)
async def test_nothing_is_counted_of(
    world: World, event: dict[str, Any], fields: dict[str, Any]
) -> None:
    answer = await ask(world.decider(traits=ORDERS), event, **fields)

    assert answer["degraded"] == []
    assert all("event" not in message for message in sent(world))


async def test_nothing_is_counted_of_who_was_erased_or_denied_it_earlier(world: World) -> None:
    denied = {"analytics_storage": {"granted": False, "at": START}}
    for fields in ({"erased_at": START}, {"consent": denied}):
        await world.put_profile(CLIENT, **fields)
        world.restart()
        await ask(world.decider(traits=ORDERS), purchase())

    assert sent(world) == []


async def test_an_inactive_trait_counts_nothing(world: World) -> None:
    traits = {"orders": {**ORDERS["orders"], "is_active": False}}

    await ask(world.decider(traits=traits), purchase())

    assert sent(world) == []


async def test_an_event_that_no_message_can_hold_is_decided_and_not_counted(world: World) -> None:
    deep: Any = 1
    for _ in range(19):
        deep = [deep]

    body = purchase(deep=deep)
    answer = await world.decider(traits=ORDERS).make_event_decision(body, SERVER)

    assert json.loads(answer)["status"] == "success"
    assert sent(world) == []


async def test_the_largest_event_is_counted(world: World) -> None:
    await ask(world.decider(traits=ORDERS), purchase(text="x" * 1_048_000))

    assert len(sent(world)) == 1


async def test_a_denial_and_the_event_are_one_message(world: World) -> None:
    await world.put_profile(CLIENT, consent={"ad_personalization": {"granted": True, "at": START}})

    await ask(world.decider(traits=ORDERS), purchase(), consent={"ad_personalization": "denied"})

    [message] = sent(world)
    assert message["event"] == purchase()
    await world.stitch(message)
    profile = await world.document(f"profiles/{KEYRING.profile_id(CLIENT)}")
    assert profile["consent"]["ad_personalization"]["granted"] is False


@pytest.mark.parametrize("rules", [{}, ONCE], ids=["nothing to store", "state to store"])
async def test_a_failing_topic_is_told_and_changes_nothing_else(
    world: World, rules: dict[str, Any]
) -> None:
    world.down = {"publisher"}

    answer = await ask(world.decider({}, rules, traits=ORDERS), purchase())

    assert answer["degraded"] == (["stitch"] if rules else ["audit", "stitch"])
    assert len(answer["personalization"]["actions"]) == len(rules)


class TestDefinitions:
    async def test_that_could_never_be_loaded_are_told(self, world: World) -> None:
        traits = self.stored(world)
        decider = world.decider(traits=traits)
        world.down = {"documents"}

        first = await ask(decider, purchase())
        world.down = set()
        await self.become_due(traits)
        second = await ask(decider, purchase())

        assert first["degraded"] == ["profile", "stitch"]
        assert second["degraded"] == []
        assert sent(world) == []

    async def test_are_not_waited_for_where_nobody_is_to_be_counted(self, world: World) -> None:
        async def fail(_: Any, __: Deadline) -> TraitDefinitions:
            raise Unavailable("firestore")

        traits = Refreshed(fail, name="traits", interval_s=9, clock=world.backend.clock)
        answer = await ask(world.decider(traits=traits), {"event_name": "purchase"})

        assert answer["degraded"] == []

    async def test_that_cannot_be_refreshed_count_on(self, world: World) -> None:
        traits = self.stored(world)
        await self.put(world, ORDERS)
        decider = world.decider(traits=traits)
        await ask(decider, purchase())
        traits._load = self.failing
        traits._next_load_at = 0.0

        answer = await ask(decider, purchase())

        assert answer["degraded"] == []
        assert len(sent(world)) == 2

    async def test_that_change_are_seen_without_a_request_waiting_for_them(
        self, world: World
    ) -> None:
        traits = self.stored(world)
        decider = world.decider(traits=traits)
        await ask(decider, purchase())
        await self.put(world, ORDERS)
        await self.become_due(traits)

        await ask(decider, purchase())
        await asyncio.sleep(0.05)
        await ask(decider, purchase())

        assert 1 <= len(sent(world)) <= 2

    def stored(self, world: World) -> Refreshed[TraitDefinitions]:
        load = load_traits(world.backend.documents)
        return Refreshed(load, name="traits", interval_s=3600, clock=world.backend.clock)

    async def put(self, world: World, traits: dict[str, Any]) -> None:
        writes = [Put(f"traits/{name}", raw) for name, raw in traits.items()]
        await world.store.commit(writes, deadline=Deadline.after(5))

    async def become_due(self, traits: Refreshed[TraitDefinitions]) -> None:
        traits._next_load_at = 0.0

    async def failing(self, _: Any, __: Deadline) -> TraitDefinitions:
        raise Unavailable("firestore")


class TestRepetition:
    REQUEST = "order-1"

    async def test_has_the_ids_of_the_first_time(self, world: World) -> None:
        for rules in ({}, ONCE):
            decider = world.decider({}, rules, traits=ORDERS)
            await ask(decider, purchase(), request_id=self.REQUEST)
            await ask(decider, purchase(), request_id=self.REQUEST)

        assert {message["event_id"] for message in sent(world)} == {self.REQUEST}
        assert len({message["request_id"] for message in sent(world)}) == 1

    async def test_is_told_when_the_event_cannot_be_published_again(self, world: World) -> None:
        decider = world.decider({}, ONCE, traits=ORDERS)
        first = await ask(decider, purchase(), request_id=self.REQUEST)
        world.down = {"publisher"}

        second = await ask(decider, purchase(), request_id=self.REQUEST)

        assert (first.pop("degraded"), second.pop("degraded")) == ([], ["stitch"])
        assert first == second

    async def test_in_another_shape_says_its_status(self, world: World) -> None:
        decider = world.decider({}, ONCE, traits=ORDERS)
        answers = []
        for world.down in (set(), {"publisher"}):
            body = await decider.make_personalization_decision(purchase(), SERVER, self.REQUEST)
            answers.append(json.loads(body))

        assert [answer["status"] for answer in answers] == ["success", "degraded"]

    @pytest.mark.parametrize("side", ["before", "behind"])
    @pytest.mark.parametrize(
        ("rules", "effect"),
        [({}, 0), ({}, 1), (ONCE, 0), (ONCE, 1), (ONCE, 2)],
        ids=["1st of 2", "2nd of 2", "commit", "2nd of 3", "3rd of 3"],
    )
    async def test_after_a_crash_brings_the_event_to_stitching(
        self, world: World, rules: dict[str, Any], side: str, effect: int
    ) -> None:
        world.crash_at = (effect, side)
        decider = world.decider({}, rules, traits=ORDERS)
        await world.run_until_crash(self.ask_for_none(decider))
        world.restart()

        answer = await ask(
            world.decider({}, rules, traits=ORDERS), purchase(), request_id=self.REQUEST
        )

        assert answer["degraded"] == []
        assert 1 <= len(sent(world)) <= 2
        assert {message["event_id"] for message in sent(world)} == {self.REQUEST}
        assert len({message["request_id"] for message in sent(world)}) == 1
        assert len({json.dumps(message["event"]) for message in sent(world)}) == 1

    async def ask_for_none(self, decider: Decider) -> None:
        await ask(decider, purchase(), request_id=self.REQUEST)


async def test_state_is_committed_before_stitching_writes_the_same_profile(world: World) -> None:
    await ask(world.decider({}, ONCE, traits=ORDERS), purchase())

    assert world.effects[0] == "commit processed profiles"
    assert sorted(world.effects[1:]) == ["publish audit", "publish stitch-requests"]


async def test_a_lost_race_publishes_the_event_once(world: World) -> None:
    decider = world.decider({}, ONCE, traits=ORDERS)

    await asyncio.gather(*(ask(decider, purchase(), request_id=f"r{n}") for n in range(5)))

    assert sorted(message["event_id"] for message in sent(world)) == [f"r{n}" for n in range(5)]
