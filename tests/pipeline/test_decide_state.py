"""decide's pipeline: state and frequency caps under concurrency, logins, failures and denials."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta
from typing import Any

import pytest

from tagstitch.core.caller import Caller
from tagstitch.core.errors import Conflict
from tagstitch.core.identifier import Identifier
from tagstitch.core.token_bucket import RateLimit
from tagstitch.core.visitor_writes import VisitorWrites
from tagstitch.pipeline.decide import Decider
from tests.pipeline.world import KEYRING, START, World

CLIENT = Identifier("client_id", "1294673677.1747154479")
USER = Identifier("user_id", "u-1001")
SERVER = Caller("server", frozenset({"decide", "lookup", "stitch", "assert", "explain"}))
CLIENT_PATH = f"profiles/{KEYRING.profile_id(CLIENT)}"


def offer(**fields: Any) -> dict[str, Any]:
    return {
        "event_name_trigger": "view_item",
        "match_all": True,
        "action_type": "return_value",
        "action_details": {"key": "offer", "value": True},
        **fields,
    }


def mark(**fields: Any) -> dict[str, Any]:
    return {
        "target_event_name": "view_item",
        "match_all": True,
        "action_type": "modify_parameter",
        "action_details": {"parameter": "marked", "operator": "set", "operand": True},
        **fields,
    }


ONCE = offer(
    conditions={"user_state.shown": {"notEquals": True}}, updates_user_state={"shown": True}
)


def event(**parameters: Any) -> dict[str, Any]:
    return {"event_name": "view_item", "client_id": CLIENT.value, **parameters}


async def decide(decider: Decider, body: dict[str, Any] | None = None) -> dict[str, Any]:
    patient = {"deadline_ms": 5000} | (body or {"event": event()})
    answer = await decider.decide(patient, SERVER)
    decoded: dict[str, Any] = json.loads(answer)
    return decoded


def gives(answer: dict[str, Any]) -> int:
    """How many capped things an answer gives."""
    return len(answer["personalization"]["actions"]) + len(answer["event"]["modifications"])


async def caps(world: World, path: str = CLIENT_PATH) -> dict[str, list[float]]:
    found: dict[str, list[float]] = (await world.document(path)).get("caps", {})
    return found


async def uses(world: World, path: str = CLIENT_PATH) -> list[int]:
    return sorted(map(len, (await caps(world, path)).values()))


CAP_3 = {"max": 3, "within": "1h"}
GROUP_3 = {**CAP_3, "group": "offers"}


class TestCaps:
    @pytest.mark.parametrize("cap", [CAP_3, GROUP_3, {"max": 3}, {"max": 3, "per": "day"}])
    @pytest.mark.parametrize("kind", ["event", "personalization"])
    async def test_fifty_requests_at_once_get_no_more_than_the_cap_and_lose_no_use(
        self, world: World, cap: dict[str, Any], kind: str
    ) -> None:
        for_events = {"r": mark(frequency_cap=cap)} if kind == "event" else {}
        for_visitors = {"r": offer(frequency_cap=cap)} if kind == "personalization" else {}
        decider = world.decider(for_events, for_visitors)

        answers = await asyncio.gather(*(decide(decider) for _ in range(50)))
        given = sum(map(gives, answers))

        assert 1 <= given <= 3
        assert await uses(world) == [given]
        suppressed = [answer for answer in answers if not gives(answer)]
        assert given == 3 or all(answer["degraded"] == ["state"] for answer in suppressed)
        assert sum([gives(await decide(decider)) for _ in range(5)]) == 3 - given

    async def test_an_event_rule_and_a_personalization_rule_share_a_groups_cap_in_one_request(
        self, world: World
    ) -> None:
        group = {"max": 1, "group": "offers"}
        decider = world.decider({"e": mark(frequency_cap=group)}, {"p": offer(frequency_cap=group)})

        answer = await decide(decider)

        assert len(answer["event"]["modifications"]) == 1
        assert answer["personalization"] == {"reason": "NO_MATCH", "variants": {}, "actions": []}
        assert await uses(world) == [1]

    async def test_two_rules_of_one_group_use_it_twice_at_one_moment(self, world: World) -> None:
        group = {"max": 3, "group": "offers"}
        decider = world.decider(
            {}, {"a": offer(frequency_cap=group), "b": offer(frequency_cap=group)}
        )

        assert [gives(await decide(decider)) for _ in range(3)] == [2, 1, 0]

    async def test_a_rule_counts_for_itself_and_for_its_group(self, world: World) -> None:
        limits = [{"max": 2, "group": "all"}, {"max": 1, "within": "1h"}]
        decider = world.decider({}, {"a": offer(frequency_cap=limits)})

        first, second = gives(await decide(decider)), gives(await decide(decider))
        world.now += timedelta(hours=1)
        third = gives(await decide(decider))
        world.now += timedelta(hours=1)

        assert (first, second, third, gives(await decide(decider))) == (1, 0, 1, 0)

    async def test_a_calendar_day_begins_anew_in_its_own_time_zone(self, world: World) -> None:
        cap = {"max": 1, "per": "day", "time_zone": "Europe/Vienna"}
        decider = world.decider({}, {"a": offer(frequency_cap=cap)})
        given = []
        for minutes in (0, 179, 1, 10):  # START is 21:00 in Vienna
            world.now += timedelta(minutes=minutes)
            given.append(gives(await decide(decider)))

        assert given == [1, 0, 1, 0]

    async def test_state_and_caps_survive_a_login(self, world: World) -> None:
        decider = world.decider(
            {}, {"once": ONCE, "capped": offer(frequency_cap={"max": 1, "group": "x"})}
        )
        first = await decide(decider)
        await world.stitch(
            {"identifiers": [{"type": i.type, "value": i.value} for i in (USER, CLIENT)]}
        )
        world.restart()

        later = {"event": {"event_name": "view_item", "user_id": USER.value}}
        answers = [await decide(world.decider({}, {"once": ONCE}), later), await decide(decider)]

        assert gives(first) == 2
        assert [gives(answer) for answer in answers] == [0, 0]
        assert [path for path in await world.paths("profiles") if path == CLIENT_PATH]

    async def test_a_decision_that_was_not_stored_uses_nothing(self, world: World) -> None:
        decider = world.decider({}, {"r": offer(frequency_cap={"max": 1})})
        world.down = {"commit"}
        refused = await decide(decider)
        world.down = set()

        assert (gives(refused), refused["degraded"]) == (0, ["state"])
        assert refused["personalization"]["reason"] == "DEGRADED"
        assert await caps(world) == {}
        assert gives(await decide(decider)) == 1

    async def test_a_repeated_request_uses_no_cap_twice(self, world: World) -> None:
        decider = world.decider({}, {"r": offer(frequency_cap={"max": 2})})
        body = {"event": event(), "request_id": "r-1"}

        answers = await asyncio.gather(*(decide(decider, body) for _ in range(10)))
        later = await decide(decider, body)

        assert all(answer == later for answer in answers)
        assert gives(later) == 1
        assert await uses(world) == [1]

    async def test_an_event_rule_that_finds_nothing_to_change_uses_no_cap(
        self, world: World
    ) -> None:
        decider = world.decider({"r": mark(frequency_cap={"max": 1})})

        await decide(decider, {"event": event(marked=True)})

        assert world.commits == 0
        assert gives(await decide(decider)) == 1

    async def test_a_shadow_rule_uses_no_cap_and_stops_drops_and_sets_nothing(
        self, world: World
    ) -> None:
        once = {"max": 1, "group": "g"}
        decider = world.decider(
            {
                "a": mark(
                    action_type="drop_event", action_details={}, shadow=True, stop_on_match=True,
                    frequency_cap=once,
                ),
                "b": mark(priority=200),
            },
            {"a": {**ONCE, "shadow": True, "stop_on_match": True, "frequency_cap": once}},
        )  # fmt: skip

        answer = await decide(decider)
        await world.store_audit()

        assert (answer["event"]["drop"], answer["event"]["set"]) == (False, {"marked": True})
        assert answer["personalization"]["actions"] == []
        assert world.commits == 0
        told = {row["record_type"]: row["extra"]["shadow"] for row in await world.rows()}
        assert told == {
            "event_decision": [{"rule_id": "a", "modifications": [{"type": "drop_event"}]}],
            "personalization_decision": [{"rule_id": "a", "actions": ["value"]}],
        }

    async def test_a_capped_rule_no_longer_stops_the_others(self, world: World) -> None:
        first = offer(frequency_cap={"max": 1}, stop_on_match=True, priority=1)
        decider = world.decider({}, {"a": first, "b": offer()})

        given = [
            [action["rule_id"] for action in (await decide(decider))["personalization"]["actions"]]
            for _ in range(2)
        ]

        assert given == [["a"], ["b"]]


class TestState:
    async def test_two_rules_that_fire_once_fire_once_together(self, world: World) -> None:
        decider = world.decider({}, {"a": ONCE, "b": ONCE})

        answer = await decide(decider)

        assert [a["rule_id"] for a in answer["personalization"]["actions"]] == ["a"]

    async def test_a_race_lost_twice_leaves_the_action_out_and_says_so(self, world: World) -> None:
        decider = world.decider({"e": mark()}, {"a": ONCE})
        lost = []

        async def lose(*_: Any, **__: Any) -> None:
            lost.append(1)
            raise Conflict("profiles/x")

        world.store.commit = lose  # type: ignore[method-assign]
        answer = await decide(decider)

        assert len(lost) == 2
        assert answer["event"]["set"] == {"marked": True}
        assert answer["personalization"]["actions"] == []
        assert answer["degraded"] == ["state"]

    async def test_the_first_answer_after_a_lost_race_knows_what_the_winner_wrote(
        self, world: World
    ) -> None:
        decider = world.decider({}, {"a": ONCE})
        commit = world.store.commit
        won: list[dict[str, Any]] = []

        async def lose_once(*arguments: Any, **more: Any) -> None:
            if not won:
                won.append({})
                won[0] = await decide(world.decider({}, {"a": ONCE}))
            await commit(*arguments, **more)

        world.store.commit = lose_once  # type: ignore[method-assign]
        answer = await decide(decider)

        assert [gives(won[0]), gives(answer)] == [1, 0]
        assert answer["degraded"] == []


DENIED = {"event": event(), "consent": {"analytics_storage": False}}


class TestOneThatWritesTooOften:
    @pytest.fixture
    def decider(self, world: World) -> Decider:
        """A decider that lets a visitor write three times, and then once in ten seconds."""
        world.visitor_writes = VisitorWrites(RateLimit(per_second=0.1, burst=3))
        return world.decider({}, {"offer": offer(frequency_cap={"max": 100})})

    async def test_it_is_decided_without_state_until_some_time_has_passed(
        self, world: World, decider: Decider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers = [await decide(decider) for _ in range(5)]
        commits = world.commits
        before = time.monotonic
        monkeypatch.setattr("time.monotonic", lambda: before() + 11)
        later = await decide(decider)

        assert [answer["degraded"] for answer in answers] == [[], [], [], ["state"], ["state"]]
        assert [gives(answer) for answer in answers] == [1, 1, 1, 0, 0]
        assert commits == 3
        assert (later["degraded"], gives(later)) == ([], 1)

    async def test_others_write_as_before(self, decider: Decider) -> None:
        for _ in range(4):
            await decide(decider)

        answer = await decide(decider, {"event": event(client_id="2.2")})

        assert (answer["degraded"], gives(answer)) == ([], 1)

    async def test_a_repeated_request_is_answered_from_the_store(self, decider: Decider) -> None:
        first = await decide(decider, {"event": event(), "request_id": "r1"})
        for _ in range(4):
            await decide(decider)

        assert await decide(decider, {"event": event(), "request_id": "r1"}) == first


def test_a_process_counts_no_more_visitors_than_it_has_room_for() -> None:
    writes = VisitorWrites(RateLimit(per_second=0.1, burst=1), visitors_max=2)

    allowed = [writes.allow(visitor, 0.0) for visitor in ("a", "b", "a", "c", "b", "a")]

    # Who wrote last is remembered: `b` had to go when `c` came, and `a` when `b` came back.
    assert allowed == [True, True, False, True, True, True]
    assert len(writes._buckets) == 2


class TestNothingRemembered:
    RULES: tuple[dict[str, Any], dict[str, Any]] = (
        {"e": mark(frequency_cap={"max": 1})},
        {"p": ONCE, "w": offer(action_type="webhook", action_details={"endpoint": "hook"})},
    )

    @pytest.mark.parametrize(
        ("body", "reason", "degraded"),
        [
            (DENIED, "CONSENT_DENIED", []),
            ({"event": {"event_name": "view_item"}}, "NO_IDENTIFIER", []),
        ],
    )
    async def test_without_consent_or_identifier(
        self, world: World, body: dict[str, Any], reason: str, degraded: list[str]
    ) -> None:
        await world.put_profile(CLIENT, state={"shown": False})

        answer = await decide(world.decider(*self.RULES), body)
        await world.store_audit()

        assert gives(answer) == 0
        assert (answer["personalization"]["reason"], answer["degraded"]) == (reason, degraded)
        assert world.commits == 0
        rows = await world.rows()
        assert [row["subject"] for row in rows] == [None, None]
        assert [row["outcome"] for row in rows] == ["unchanged", reason.lower()]

    async def test_of_an_erased_visitor(self, world: World) -> None:
        await world.put_profile(CLIENT, erased_at=START)

        answer = await decide(world.decider(*self.RULES))
        await world.store_audit()

        assert gives(answer) == 0
        assert (answer["personalization"]["reason"], answer["degraded"]) == ("CONSENT_DENIED", [])
        assert world.commits == 0
        rows = await world.rows()
        assert [row["subject"] for row in rows] == [None, None]
        assert [row["outcome"] for row in rows] == ["unchanged", "consent_denied"]
        assert await world.paths("outbox") == []

    async def test_while_the_profile_is_unavailable(self, world: World) -> None:
        world.down = {"documents"}

        answer = await decide(world.decider(*self.RULES))
        await world.store_audit()

        assert gives(answer) == 0
        assert answer["personalization"]["reason"] == "DEGRADED"
        assert answer["degraded"] == ["profile"]
        rows = await world.rows()
        assert [row["outcome"] for row in rows] == ["degraded", "degraded"]
        assert [row["degraded"] for row in rows] == [["profile"], ["profile"]]

    async def test_a_denial_is_published_also_when_the_decision_changes_state(
        self, world: World
    ) -> None:
        await world.put_profile(
            CLIENT, consent={"ad_personalization": {"granted": True, "at": START}}
        )
        decider = world.decider({}, {"a": {**ONCE, "purposes": ["analytics_storage"]}})

        answer = await decide(
            decider, {"event": event(), "consent": {"ad_personalization": "denied"}}
        )

        assert gives(answer) == 1
        [request] = world.published["stitch-requests"]
        assert request["consent"] == {"ad_personalization": "denied"}

    async def test_a_denial_that_cannot_be_published_is_told_and_the_state_is_stored(
        self, world: World
    ) -> None:
        await world.put_profile(
            CLIENT, consent={"ad_personalization": {"granted": True, "at": START}}
        )
        world.down = {"publisher"}
        decider = world.decider({}, {"a": {**ONCE, "purposes": ["analytics_storage"]}})

        answer = await decide(
            decider, {"event": event(), "consent": {"ad_personalization": "denied"}}
        )

        assert (gives(answer), answer["degraded"]) == (1, ["stitch"])
        assert (await world.document(CLIENT_PATH))["state"] == {"shown": True}
