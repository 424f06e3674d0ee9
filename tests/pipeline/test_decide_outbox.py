"""decide's pipeline: what is to be done outside is committed with the decision, once per window."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from tagstitch.core.caller import Caller
from tagstitch.core.identifier import Identifier
from tagstitch.core.limits import OUTBOX_ENTRIES_MAX
from tagstitch.pipeline.decide import Decider
from tests.pipeline.world import START, World

CLIENT = Identifier("client_id", "1294673677.1747154479")
SERVER = Caller("server", frozenset({"decide", "lookup", "stitch", "assert", "explain"}))
MAIL = {
    "type": "send_email", "template_id": "cart", "recipient": "profile.email",
    "data": {"value": {"from": "event.value"}},
}  # fmt: skip
HOOK = {"type": "webhook", "endpoint": "hook", "body": {"value": {"from": "event.value"}}}
GRANTED = {"email": {"granted": True, "at": START, "source": "import"}}
ADDRESS = "ada@example.net"


def rule(*actions: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "event_name_trigger": "add_to_cart",
        "match_all": True,
        "actions": list(actions),
        **fields,
    }


async def decide(decider: Decider, **body: Any) -> dict[str, Any]:
    event = {"event_name": "add_to_cart", "client_id": CLIENT.value, "value": 7.5}
    answer = await decider.decide({"event": event, "deadline_ms": 5000, **body}, SERVER)
    decoded: dict[str, Any] = json.loads(answer)
    return decoded


async def entries(world: World) -> list[dict[str, Any]]:
    return [await world.document(path) for path in await world.paths("outbox")]


class TestEntries:
    async def test_an_entry_is_committed_with_the_decision_and_waits(self, world: World) -> None:
        await world.put_profile(CLIENT, attributes={"email": ADDRESS}, consent=GRANTED)

        answer = await decide(world.decider({}, {"mail": rule(MAIL)}))

        assert world.effects[0] == "commit outbox processed profiles"
        assert answer["personalization"] == {"reason": "MATCHED", "variants": {}, "actions": []}
        [entry] = await entries(world)
        assert (entry["kind"], entry["status"]) == ("action", "pending")
        assert entry["decision_id"] == answer["decision_id"]
        fields = json.loads(entry["action"]["fields"])
        assert entry["action"] | {"fields": fields} == {
            "rule_id": "mail", "type": "send_email", "action_key": "mail:0",
            "once_per": "decision", "purposes": ["email"], "needs_recorded_grant": True,
            "fields": {"template_id": "cart", "recipient": "profile.email", "data": {"value": 7.5}},
        }  # fmt: skip
        assert ADDRESS not in str(entry)
        assert entry["expires_at"] == START + timedelta(days=30)

    async def test_what_no_document_can_hold_is_sent_all_the_same(self, world: World) -> None:
        odd = {"": 1, "__x__": [[1, [2]], []], "a.b": {"`": None}}
        hook = {**HOOK, "body": {"odd": {"from": "event.odd"}}}
        event = {"event_name": "add_to_cart", "client_id": CLIENT.value, "odd": odd}

        answer = await decide(world.decider({}, {"hook": rule(hook)}), event=event)

        assert answer["degraded"] == []
        [entry] = await entries(world)
        assert json.loads(entry["action"]["fields"])["body"] == {"odd": odd}

    async def test_the_audit_names_rule_and_type_and_no_value(self, world: World) -> None:
        await decide(world.decider({}, {"hook": rule(HOOK)}), include=["personalization"])
        await world.store_audit()

        [row] = await world.rows()

        assert row["extra"] == {
            "actions": [],
            "outbox": [{"rule_id": "hook", "type": "webhook"}],
        }

    @pytest.mark.parametrize(
        ("consent", "body"),
        [
            ({}, {}),
            ({"email": {"granted": False, "at": START}}, {}),
            (GRANTED, {"consent": {"email": "denied"}}),
        ],
    )
    async def test_an_email_needs_a_grant_on_record_that_this_request_does_not_deny(
        self, world: World, consent: dict[str, Any], body: dict[str, Any]
    ) -> None:
        await world.put_profile(CLIENT, consent=consent)
        once = {"updates_user_state": {"mailed": True}, "frequency_cap": {"max": 1}}

        answer = await decide(world.decider({}, {"mail": rule(MAIL, **once)}), **body)

        assert answer["personalization"]["reason"] == "CONSENT_DENIED"
        assert await entries(world) == []
        assert world.commits == 0, "nothing was done that state could tell of"

    async def test_of_two_actions_the_allowed_one_is_done(self, world: World) -> None:
        answer = await decide(world.decider({}, {"r": rule(MAIL, HOOK)}))

        assert answer["personalization"]["reason"] == "MATCHED"
        assert [entry["action"]["type"] for entry in await entries(world)] == ["webhook"]

    async def test_without_a_commit_nothing_is_sent(self, world: World) -> None:
        world.down = {"commit"}

        answer = await decide(world.decider({}, {"r": rule(HOOK)}))
        world.down = set()

        assert answer["degraded"] == ["state"]
        assert await entries(world) == []

    async def test_more_than_a_commit_can_hold_is_left_out_and_said(self, world: World) -> None:
        rules = {f"r{number:02}": rule(*[HOOK] * 20) for number in range(10)}

        answer = await decide(world.decider({}, rules))

        assert answer["degraded"] == ["state"]
        assert len(await entries(world)) == OUTBOX_ENTRIES_MAX


class TestWindows:
    @pytest.mark.parametrize(
        ("once_per", "wait"),
        [
            ("hour", timedelta(hours=1)),
            ("day", timedelta(days=1)),
            ("week", timedelta(days=7)),
            ("month", timedelta(days=31)),
        ],
    )
    async def test_the_second_decision_of_a_window_sends_nothing(
        self, world: World, once_per: str, wait: timedelta
    ) -> None:
        decider = world.decider({}, {"r": rule({**HOOK, "once_per": once_per})})
        await decide(decider)
        world.now += timedelta(minutes=1)
        await decide(decider)
        within = len(await entries(world))
        world.now += wait
        await decide(decider)

        assert (within, len(await entries(world))) == (1, 2)

    async def test_many_requests_at_once_send_one(self, world: World) -> None:
        decider = world.decider({}, {"r": rule({**HOOK, "once_per": "day"})})

        await asyncio.gather(*(decide(decider) for _ in range(20)))

        assert len(await entries(world)) == 1

    async def test_a_clock_that_is_behind_sends_nothing_twice(self, world: World) -> None:
        decider = world.decider({}, {"r": rule({**HOOK, "once_per": "day"})})
        midnight = START + timedelta(hours=4)
        for seconds in (-60, 1, -1):  # the last by an instance whose clock is two seconds behind
            world.now = midnight + timedelta(seconds=seconds)
            await decide(decider)

        assert len(await entries(world)) == 2

    async def test_the_id_is_that_of_the_visitor_action_and_window(self, world: World) -> None:
        one = world.decider({}, {"r": rule({**HOOK, "once_per": "visitor"})})
        await decide(one)
        [path] = await world.paths("outbox")
        world.now += timedelta(days=300)
        await decide(one)

        assert await world.paths("outbox") == [path]
