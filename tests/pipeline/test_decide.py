"""decide's pipeline: state, lost races, failing services, and what is recorded."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from datetime import timedelta
from typing import Any

import pytest

from tagstitch.core.caller import Caller
from tagstitch.core.errors import InvalidInput, Unavailable
from tagstitch.core.identifier import Identifier
from tagstitch.core.limits import DOCUMENT_BYTES_MAX
from tagstitch.core.rule_book import RuleBook
from tagstitch.core.view import Views
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.decide import Decider
from tagstitch.pipeline.refreshed import Refreshed
from tests.pipeline.world import KEYRING, START, World

CLIENT = Identifier("client_id", "1294673677.1747154479")
USER = Identifier("user_id", "u-1001")

RENAME = {
    "rename_micro_purchase": {
        "target_event_name": "purchase",
        "conditions": {"value": {"lessThan": 10}},
        "action_type": "rename_event",
        "action_details": {"new_event_name": "micro_purchase"},
        "priority": 10,
        "is_active": True,
    },
    "adjust_churn_risk_value": {
        "target_event_name": "purchase",
        "conditions": {"user_loyalty_tier": "Churn Risk"},
        "action_type": "modify_parameter",
        "action_details": {"parameter": "value", "operator": "multiply", "operand": 0.5},
        "priority": 20,
        "is_active": True,
    },
}

ONCE = {
    "once_only_offer": {
        "event_name_trigger": "view_item",
        "conditions": {
            "user_state.offer_shown": {"notEquals": True},
            "client_id": {"exists": True},
        },
        "action_type": "set_client_cookie",
        "action_details": {"cookie_name": "offer", "cookie_value": "ten"},
        "updates_user_state": {"offer_shown": True},
        "priority": 1,
        "is_active": True,
    }
}

SERVER = Caller("server", frozenset({"decide", "lookup", "stitch", "assert", "explain"}))
BROWSER = Caller("browser", frozenset({"decide", "lookup"}))


def event(name: str = "purchase", **parameters: Any) -> dict[str, Any]:
    return {"event_name": name, "client_id": CLIENT.value, **parameters}


async def decide(decider: Decider, body: dict[str, Any], caller: Caller = SERVER) -> dict[str, Any]:
    answer = await decider.decide(body, caller)
    decoded: dict[str, Any] = json.loads(answer)
    return decoded


class TestDeciding:
    async def test_the_profile_enriches_the_event_and_one_read_is_enough(
        self, world: World
    ) -> None:
        await world.put_profile(CLIENT, attributes={"user_loyalty_tier": "Churn Risk"})

        answer = await decide(world.decider(RENAME), {"event": event(value=7.5)})

        assert answer["event"]["rename"] == "micro_purchase"
        assert answer["event"]["set"] == {
            "value": 3.75,
            "_original_event_name": "purchase",
        }
        assert (world.reads, world.commits) == (1, 0)

    async def test_an_event_that_changes_no_state_writes_nothing(self, world: World) -> None:
        decider = world.decider(RENAME, ONCE)

        for _ in range(3):
            await decide(decider, {"event": event(value=7.5)})

        assert world.commits == 0
        assert world.effects == ["publish audit"] * 3

    async def test_an_event_without_identifiers_is_decided_without_a_profile(
        self, world: World
    ) -> None:
        answer = await decide(
            world.decider(RENAME), {"event": {"event_name": "purchase", "value": 1}}
        )

        assert answer["event"]["rename"] == "micro_purchase"
        assert answer["personalization"]["reason"] == "NO_IDENTIFIER"
        assert world.reads == 0

    async def test_a_browsers_user_id_selects_nobody_without_the_scope_assert(
        self, world: World
    ) -> None:
        await world.put_profile(USER, attributes={"user_loyalty_tier": "Churn Risk"})
        body = {"event": event(value=100, user_id=USER.value), "include": ["event", "profile"]}

        forged = await decide(world.decider(RENAME), body, BROWSER)
        vouched = await decide(world.decider(RENAME), body, SERVER)

        assert forged["profile"]["found"] is False
        assert forged["event"]["set"] == {}
        assert vouched["event"]["set"] == {"value": 50}

    async def test_a_rule_that_failed_is_in_the_audit_and_in_the_log(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        details = {"parameter": "value", "operator": "multiply", "operand": 10}
        rule = {**RENAME["adjust_churn_risk_value"], "action_details": details}
        bomb = {**rule, "conditions": {"event_name": "purchase"}}
        decider = world.decider({"bomb": bomb, "rename": RENAME["rename_micro_purchase"]})

        with caplog.at_level(logging.WARNING, logger="tagstitch"):
            await decide(decider, {"event": event(value=1e15), "include": ["event"]})
        await decide(decider, {"event": event(value="7.5"), "include": ["event"]})
        await world.store_audit()

        skipped = [{"rule_id": "bomb", "error": "ResultOutOfRange"}]
        logged = {"skipped": skipped, "skipped_count": 1}
        assert [r.__dict__["fields"] for r in caplog.records] == [logged]
        failed, coerced = [row["extra"] for row in await world.rows()]
        assert failed == logged | {"replayable": False}
        assert coerced == {
            "coercions": 2,
            "replayable": False,
        }  # the comparison and the multiplication

    @pytest.mark.parametrize(
        ("path", "event_has_it", "is_hidden"),
        [
            ("profile.margin", False, True),
            ("margin", False, True),
            ("margin", True, False),  # what the caller sent is no secret
            ("profile.costs.net", False, True),
            ("profile.tier", False, False),
        ],
    )
    async def test_a_trace_leaves_out_what_is_concealed(
        self, world: World, path: str, *, event_has_it: bool, is_hidden: bool
    ) -> None:
        attributes = {"margin": 0.75, "costs": {"net": 0.75}, "tier": 0.75}
        await world.put_profile(CLIENT, attributes=attributes)
        views = Views(concealed=frozenset({"margin", "costs"}))
        rule = {**RENAME["rename_micro_purchase"], "conditions": {path: {"lessThan": 0}}}
        trigger = {**ONCE["once_only_offer"], "event_name_trigger": "purchase"}
        personal = {**trigger, "conditions": {path: {"lessThan": 0}}}
        decider = world.decider({"r": rule}, {"p": personal})
        decider._views = world.refreshed(views)
        body = {"event": event() | ({"margin": 0.75} if event_has_it else {}), "explain": True}

        outside = await decide(decider, body)
        insider = Caller("insider", SERVER.scopes | {"concealed"})
        inside = await decide(decider, body, insider)

        for part in ("event", "personalization"):
            [line] = outside["trace"][part][0]["conditions"]
            [whole] = inside["trace"][part][0]["conditions"]
            assert (line.get("concealed", False), line["actual"]) == (
                (True, None) if is_hidden else (False, 0.75)
            )
            assert (whole["actual"], whole["result"], line["result"]) == (0.75, False, False)

    async def test_without_the_views_a_trace_shows_nothing_of_a_profile(self, world: World) -> None:
        await world.put_profile(CLIENT, attributes={"user_loyalty_tier": "Churn Risk"})

        async def fail(_present: Any, _deadline: Deadline) -> Views:
            raise Unavailable("firestore")

        decider = world.decider({"r": RENAME["adjust_churn_risk_value"]})
        decider._views = Refreshed(fail, name="views", interval_s=9, clock=world.backend.clock)

        answer = await decide(decider, {"event": event(value=9), "explain": True})

        [line] = answer["trace"]["event"][0]["conditions"]
        assert (line["actual"], line["concealed"], line["result"]) == (None, True, True)

    async def test_the_profile_part_needs_its_scope(self, world: World) -> None:
        with pytest.raises(InvalidInput) as caught:
            await decide(
                world.decider(),
                {"event": event(), "include": ["profile"]},
                Caller("k", frozenset({"decide"})),
            )

        assert caught.value.code == "unauthorized"

    async def test_a_visitor_without_consent_is_not_looked_up_or_written(
        self, world: World
    ) -> None:
        await world.put_profile(CLIENT, attributes={"user_loyalty_tier": "Churn Risk"})
        body = {
            "event": event("view_item"),
            "consent": {"analytics_storage": False},
            "include": ["event", "personalization", "profile"],
        }

        answer = await decide(world.decider(RENAME, ONCE), body)

        assert answer["profile"] == {"found": False, "profile_id": None, "attributes": {}}
        assert answer["personalization"]["actions"] == []
        assert (world.reads, world.commits) == (0, 0)
        await world.store_audit()
        assert {row["subject"] for row in await world.rows()} == {None}

    async def test_a_denial_in_the_event_reaches_stitching_once_an_hour(self, world: World) -> None:
        await world.put_profile(
            CLIENT, consent={"ad_personalization": {"granted": True, "at": START}}
        )
        decider = world.decider()
        body = {"event": event(), "consent": {"ad_personalization": "denied"}}

        await decide(decider, body)
        await decide(decider, body)

        [request] = world.published["stitch-requests"]
        assert request["consent"] == {"ad_personalization": "denied"}


class TestState:
    async def test_state_mark_and_records_are_one_commit(self, world: World) -> None:
        answer = await decide(world.decider({}, ONCE), {"event": event("view_item")})

        assert answer["personalization"]["actions"][0]["type"] == "set_cookie"
        assert world.effects == ["commit processed profiles", "publish audit"]
        profile = await world.document(f"profiles/{KEYRING.profile_id(CLIENT)}")
        assert profile["state"] == {"offer_shown": True}

    async def test_a_once_only_offer_is_given_once(self, world: World) -> None:
        decider = world.decider({}, ONCE)

        first = await decide(decider, {"event": event("view_item")})
        second = await decide(decider, {"event": event("view_item")})

        assert len(first["personalization"]["actions"]) == 1
        assert second["personalization"]["actions"] == []

    async def test_concurrent_requests_share_one_once_only_offer(self, world: World) -> None:
        decider = world.decider({}, ONCE)

        answers = await asyncio.gather(
            *(decide(decider, {"event": event("view_item")}) for _ in range(10))
        )

        offers = [a for a in answers if a["personalization"]["actions"]]
        assert len(offers) == 1

    async def test_the_state_lands_in_the_profile_that_the_identifier_was_linked_to(
        self, world: World
    ) -> None:
        profile_id = await world.put_profile(USER, attributes={"a": 1})
        await world.stitch(
            {
                "request_id": "r1",
                "identifiers": [{"type": i.type, "value": i.value} for i in (USER, CLIENT)],
            }
        )

        await decide(world.decider({}, ONCE), {"event": event("view_item")})

        profile = await world.document(f"profiles/{profile_id}")
        assert profile["state"] == {"offer_shown": True}
        assert profile["attributes"] == {"a": 1}
        alias = await world.document(f"profiles/{KEYRING.profile_id(CLIENT)}")
        assert alias["merged_into"] == profile_id

    async def test_an_expired_link_gives_a_once_only_offer_once(self, world: World) -> None:
        """The pointer to an expired profile must not hide the one that decide then makes."""
        await world.stitch(
            {
                "request_id": "r1",
                "identifiers": [{"type": i.type, "value": i.value} for i in (USER, CLIENT)],
            }
        )
        world.now += timedelta(days=400)
        world.restart()
        decider = world.decider({}, ONCE)

        answers = [await decide(decider, {"event": event("view_item")}) for _ in range(3)]

        assert [len(a["personalization"]["actions"]) for a in answers] == [1, 0, 0]

    async def test_an_erased_visitor_gets_no_state(self, world: World) -> None:
        await world.put_profile(CLIENT, erased_at=START)

        answer = await decide(world.decider({}, ONCE), {"event": event("view_item")})

        assert answer["personalization"]["actions"] == []
        assert world.commits == 0


class TestIdempotency:
    BODY = {"event": event("view_item"), "request_id": "r-7"}  # noqa: RUF012 - read only

    async def test_a_repeat_of_a_stored_decision_gives_the_same_bytes(self, world: World) -> None:
        decider = world.decider({}, ONCE)

        first = await decider.decide(self.BODY, SERVER)
        second = await decider.decide(self.BODY, SERVER)

        assert first == second
        assert world.commits == 1

    async def test_the_same_id_with_another_body_is_a_conflict(self, world: World) -> None:
        decider = world.decider({}, ONCE)
        await decide(decider, self.BODY)

        with pytest.raises(InvalidInput) as caught:
            await decide(decider, {**self.BODY, "event": event("view_item", value=1)})

        assert caught.value.code == "idempotency_conflict"

    async def test_two_keys_may_use_the_same_id(self, world: World) -> None:
        decider = world.decider({}, ONCE)
        await decide(decider, self.BODY, SERVER)

        other = await decide(decider, {**self.BODY, "event": event("view_item", value=1)}, BROWSER)

        assert other["personalization"]["actions"] == []

    async def test_two_bodies_under_one_id_that_change_nothing_leave_records_of_their_own(
        self, world: World
    ) -> None:
        decider = world.decider(RENAME)
        for value in (7.5, 8.5):
            body = {"event": event(value=value), "include": ["event"], "request_id": "r-9"}
            await decide(decider, body)

        assert len(await world.store_audit()) == 2

    async def test_an_id_is_forgotten_after_seven_days(self, world: World) -> None:
        decider = world.decider({}, ONCE)
        await decide(decider, self.BODY)
        world.now += timedelta(days=8)

        await decide(decider, {**self.BODY, "event": event("view_item", value=1)})

    async def test_repeating_a_decision_that_changed_nothing_gives_the_same_record(
        self, world: World
    ) -> None:
        body = {"event": event(value=7.5), "request_id": "r-8"}
        decider = world.decider(RENAME)

        await decide(decider, body)
        await decide(decider, body)

        ids = await world.store_audit()
        assert len(ids) == 2
        assert {row["record_type"] for row in await world.rows()} == {
            "event_decision",
            "personalization_decision",
        }


class TestServicesDown:
    async def test_without_profiles_only_rules_that_need_none_apply(self, world: World) -> None:
        await world.put_profile(CLIENT, attributes={"user_loyalty_tier": "Churn Risk"})
        world.down = {"documents"}

        answer = await decide(world.decider(RENAME, ONCE), {"event": event(value=7.5)})

        assert answer["event"]["rename"] == "micro_purchase"
        assert "value" not in answer["event"]["set"]
        assert answer["degraded"] == ["profile"]

    async def test_an_action_whose_state_cannot_be_committed_is_not_given(
        self, world: World
    ) -> None:
        world.down = {"commit"}

        answer = await decide(world.decider({}, ONCE), {"event": event("view_item")})

        assert answer["personalization"]["actions"] == []
        assert answer["degraded"] == ["state"]

    async def test_without_pubsub_the_record_leaves_as_a_log_line(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        world.down = {"publisher"}

        with caplog.at_level(logging.ERROR, logger="tagstitch"):
            answer = await decide(world.decider(RENAME), {"event": event(value=7.5)})

        assert answer["degraded"] == ["audit"]
        lines = [r for r in caplog.records if r.message == "AUDIT_FALLBACK"]
        assert len(lines) == 2

    async def test_without_rules_the_event_leaves_unchanged(self, world: World) -> None:
        async def fail(_present: RuleBook | None, _deadline: Deadline) -> RuleBook:
            raise Unavailable("firestore")

        empty = Refreshed(fail, name="rules", interval_s=10, clock=world.backend.clock)

        answer = await decide(world.decider(rule_book=empty), {"event": event(value=7.5)})

        assert answer["event"] == {
            "drop": False,
            "rename": None,
            "set": {},
            "unset": [],
            "modifications": [],
        }
        assert answer["degraded"] == ["rules"]
        assert answer["rules_version"] is None

    async def test_a_store_that_never_answers_does_not_make_it_late(self, world: World) -> None:
        """Adapters keep their deadlines; here one hangs for as long as it is given."""

        class Hanging:
            async def get_many(self, paths: Any, *, deadline: Deadline) -> Any:
                del paths
                await asyncio.sleep(deadline.remaining_s)
                raise Unavailable("firestore")

            get = get_many

        decider = world.decider(RENAME)
        decider._maker._finder._documents = Hanging()
        started = time.perf_counter()

        answer = await decide(decider, {"event": event(value=7.5), "deadline_ms": 200})

        assert answer["degraded"] == ["profile"]
        assert time.perf_counter() - started < 0.22


class TestAudit:
    async def test_only_listed_parameters_values_are_recorded(self, world: World) -> None:
        rules = {
            "redact_coupon": {
                "target_event_name": "purchase",
                "match_all": True,
                "actions": [
                    {
                        "type": "modify_parameter",
                        "parameter": "coupon",
                        "operator": "set",
                        "operand": "Y",
                    },
                    {
                        "type": "modify_parameter",
                        "parameter": "value",
                        "operator": "add",
                        "operand": 1,
                    },
                ],
                "priority": 1,
                "is_active": True,
            }
        }

        await decide(world.decider(rules), {"event": event(value=7.5, coupon="anna@example.com")})

        await world.store_audit()
        [row] = [r for r in await world.rows() if r["record_type"] == "event_decision"]
        by_parameter = {m["parameter"]: m for m in row["modifications"]}
        assert "old_value" not in by_parameter["coupon"]
        assert by_parameter["value"]["new_value"] == 8.5
        assert "anna" not in json.dumps(row, default=str)

    async def test_the_subject_is_a_pseudonym_with_its_key_id(self, world: World) -> None:
        await decide(world.decider(RENAME), {"event": event()})

        await world.store_audit()
        subjects = {row["subject"] for row in await world.rows()}
        assert subjects == {KEYRING.pseudonym(KEYRING.profile_id(CLIENT))}
        assert subjects.pop().startswith("t1:")


class TestWhatDoesNotFit:
    """State that no document can hold is state that could not be committed, never a 400."""

    async def test_a_full_profile_leaves_out_the_state_and_its_actions(self, world: World) -> None:
        size = DOCUMENT_BYTES_MAX
        while True:  # the largest document that fits
            try:
                await world.put_profile(CLIENT, attributes={"x": "y" * size})
            except InvalidInput:
                size -= 10
            else:
                break

        answer = await decide(
            world.decider(personalization_rules=ONCE), {"event": event("view_item")}
        )

        assert answer["degraded"] == ["state"]
        assert answer["personalization"]["actions"] == []

    async def test_a_large_answer_is_stored_only_for_a_request_that_can_repeat(
        self, world: World
    ) -> None:
        upper = {
            "target_event_name": "view_item",
            "match_all": True,
            "action_type": "modify_parameter",
            "action_details": {"parameter": "blob", "operator": "upper"},
        }
        decider = world.decider({"upper": upper}, ONCE)
        body = {"event": event("view_item", blob="x" * 600_000)}

        named = await decide(decider, {**body, "request_id": "r1"})
        nameless = await decide(decider, body)

        assert (named["degraded"], named["personalization"]["actions"]) == (["state"], [])
        assert (nameless["degraded"], len(nameless["personalization"]["actions"])) == ([], 1)
        assert named["event"]["set"] == nameless["event"]["set"] == {"blob": "X" * 600_000}


FILTER = {
    "target_event_name": "purchase",
    "match_all": True,
    "action_type": "filter_items",
    "action_details": {"item_property": "stock", "operator": "equals", "operand": "in"},
}


@pytest.mark.parametrize(("listed", "recorded"), [((), None), (("items",), ["anna@example.com"])])
async def test_ids_of_removed_items_are_recorded_only_when_items_are(
    world: World, listed: tuple[str, ...], recorded: list[str] | None
) -> None:
    decider = world.decider({"in_stock": FILTER}, audit_parameters=listed)

    answer = await decide(decider, {"event": event(items=[{"item_id": "anna@example.com"}])})

    (record,) = world.published["audit"][0]["records"][:1]
    (modification,) = record["modifications"]
    assert answer["event"]["modifications"][0]["removed_items"] == ["anna@example.com"]
    assert modification["removed_count"] == 1
    assert modification.get("removed_items") == recorded


LOUD_NOTES = {
    "target_event_name": "purchase",
    "match_all": True,
    "actions": [{"type": "map_items", "item_property": "note", "operator": "upper"}],
}


@pytest.mark.parametrize("listed", [(), ("items",)])
async def test_values_of_changed_items_are_recorded_only_when_items_are(
    world: World, listed: tuple[str, ...]
) -> None:
    decider = world.decider({"loud": LOUD_NOTES}, audit_parameters=listed)

    answer = await decide(decider, {"event": event(items=[{"item_id": "1", "note": "anna"}])})

    (record,) = world.published["audit"][0]["records"][:1]
    (modification,) = record["modifications"]
    changed = [{"item": "1", "old_value": "anna", "new_value": "ANNA"}]
    assert answer["event"]["modifications"][0]["changed_items"] == changed
    assert modification["changed_count"] == 1
    assert modification.get("changed_items") == (changed if listed else None)
