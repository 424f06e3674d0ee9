"""Each static check has rules that trigger it and a near miss that does not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagstitch.core.consent import resolve_consent
from tagstitch.core.event import Event
from tagstitch.core.field_catalogue import FieldCatalogue
from tagstitch.core.finding import SEVERITIES
from tagstitch.core.profile import Profile
from tagstitch.core.rule_book import compile_rule_book
from tagstitch.core.rule_checks import CheckContext, check_rules
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.core.rule_pairs import Budget
from tests.core.deciding import decide_both
from tests.core.test_decision_properties import (
    EVENT_ACTIONS,
    EVENTS,
    NAMES,
    PERSONAL_ACTIONS,
    PROFILES,
    VALUES,
    relaxed,
    rules,
)

Rules = dict[str, dict[str, Any]]

DROP = {"action_type": "drop_event"}
STOP = {"action_type": "redact", "action_details": {"parameters": ["z"]}, "stop_on_match": True}
LATE = {"priority": 200}


def rule(conditions: Any = None, **fields: Any) -> dict[str, Any]:
    given_action = {} if "action_type" in fields or "actions" in fields else write("q", 1)
    return {
        "target_event_name": "purchase",
        **({"match_all": True} if conditions is None else {"conditions": conditions}),
        **given_action,
        **fields,
    }


def write(parameter: str, value: Any, operator: str = "set") -> dict[str, Any]:
    details = {"parameter": parameter, "operator": operator, "operand": value}
    return {"action_type": "modify_parameter", "action_details": details}


def rename(name: str, event: Any = "purchase", conditions: Any = None, **fields: Any) -> Any:
    action = {"action_type": "rename_event", "action_details": {"new_event_name": name}}
    return rule(conditions, target_event_name=event, **action, **fields)


def cookie(conditions: Any, **fields: Any) -> dict[str, Any]:
    action = {"action_type": "return_value", "action_details": {"key": "k", "value": 1}}
    return rule(conditions, **action, **fields)


def catalogue() -> FieldCatalogue:
    found = FieldCatalogue()
    for value in (7.5, 3):
        item = {"item_id": "A", "price": value, "tags": ["x"]}
        found.add_event("purchase", {"value": value, "order": "5", "coupon": "X", "items": [item]})
    found.add_event("view_item", {"item_id": "A", "gtm.start": 1, "geo": {"country": "AT"}})
    found.add_profile({"tier": "Gold", "spent": 12, "address": {"city": "Graz"}})
    return found


def codes(
    event_rules: Rules | None = None,
    personalization_rules: Rules | None = None,
    context: CheckContext | None = None,
) -> set[tuple[str, str]]:
    definitions = RuleDefinitions(event_rules or {}, personalization_rules or {})
    report = check_rules(definitions, context or CheckContext())
    return {(finding.code, finding.rule_id) for finding in report.findings}


CONDITIONS_OF_ONE_RULE: list[tuple[Any, set[str]]] = [
    ({"a": {"equals": 1, "in": [2]}}, {"never_holds"}),
    ({"a": {"equals": 1, "in": [1, 2]}}, set()),
    ({"a": {"lessThan": 5, "greaterThan": 9}}, {"never_holds"}),
    ({"a": {"lessThan": 9, "greaterThan": 5}}, set()),
    ({"all": [{"a": 1}, {"a": 2}]}, {"never_holds"}),
    ({"all": [{"a": 1}, {"b": 2}]}, set()),
    ({"a": 1, "none": [{"a": 1}]}, {"never_holds"}),
    ({"a": 1, "none": [{"a": 1, "b": 1}]}, set()),
    ({"a": 1, "any": [{"a": 2}, {"a": 3}]}, {"never_holds"}),
    ({"a": 1, "any": [{"a": 2}, {"a": 1}]}, set()),
    ({"a": {"exists": False, "equals": "x"}}, {"never_holds"}),
    ({"a": {"startsWith": "x", "type": "number"}}, {"never_holds"}),
    ({"items.$.x": 1, "items": {"exists": False}}, {"never_holds"}),
    ({"items.$.x": 1, "items": {"exists": True}}, set()),
    ({"items.$all.x": 1, "items.$any.x": 2}, {"never_holds"}),
    ({"items.$any.x": 1, "items.$.x": 2}, set()),
    ({"items.$none.x": [1, 2], "items.$.x": 1}, {"never_holds"}),
    ({"items.$count": {"lessThan": 0}}, {"never_holds"}),
    ({"items.$count": {"lessThan": 1}}, set()),
    ({"items.$": {"match": {"a": {"lessThan": 1, "atLeast": 1}}}}, {"never_holds"}),
    ({"items.$": {"match": {"a": {"lessThan": 1, "atLeast": 0}}}}, set()),
    ({"items.$none": {"match": {"a": {"lessThan": 1, "atLeast": 1}}}}, {"always_holds"}),
    ({"any": [{"a": {"exists": True}}, {"a": {"exists": False}}]}, {"always_holds"}),
    ({"any": [{"a": {"exists": True}}, {"b": {"exists": False}}]}, set()),
    ({"items.$count": {"atLeast": 0}, "a": 1}, {"always_holds"}),
    ({"any": [{"a": {"lessThan": 1, "greaterThan": 2}}, {"b": 1}]}, {"dead_alternative"}),
    ({"any": [{"a": {"lessThan": 2, "greaterThan": 1}}, {"b": 1}]}, set()),
    ({"a": ["x"], "all": [{"a": ["y"]}]}, {"lists_only"}),
    ({"a": ["x"], "all": [{"a": ["x", "y"]}]}, set()),
    ({"a": {"in": ["x"], "anyOf": ["y"]}}, set()),
    ({"a": {"notEquals": 1}}, {"true_when_absent"}),
    ({"a": {"exists": True, "notEquals": 1}}, set()),
    ({"a": {"notIn": ["x"], "startsWith": "y"}}, set()),
    ({"a": {"exists": True}, "any": [{"a": {"notEquals": 1}}, {"b": 1}]}, set()),
    ({"b": {"exists": True}, "any": [{"a": {"notEquals": 1}}, {"b": 1}]}, {"true_when_absent"}),
    ({"user_state.shown": {"notEquals": True}}, set()),
    ({"none": [{"a": 1}]}, set()),
    ({"a": {"before": "2026-11-21", "after": "2026-11-22"}}, {"never_holds"}),
    ({"a": {"before": "2026-11-22", "after": "2026-11-21"}}, set()),
    ({"a": {"versionAtLeast": "2", "versionBelow": "2"}}, {"never_holds"}),
    ({"a": {"cidr": "10.0.0.0/8", "type": "number"}}, {"never_holds"}),
    ({"a": {"changed": True, "exists": False}, "event.a": {"exists": False}}, {"never_holds"}),
    ({"a": {"changed": True}}, set()),
    ({"a": {"notChanged": True}}, {"true_when_absent"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("conditions", "expected"),
    CONDITIONS_OF_ONE_RULE,
    ids=[str(row[0]) for row in CONDITIONS_OF_ONE_RULE],
)
def test_conditions_of_one_rule(conditions: Any, expected: set[str]) -> None:
    assert codes({"r": rule(conditions)}) == {(code, "r") for code in expected}


DROPS: list[tuple[dict[str, Any], set[str]]] = [
    (rule(target_event_name="*", **DROP), {"drops_everything"}),
    (rule({"a": 1}, target_event_name="*", **DROP), set()),
    (rule(**DROP), {"drops_every_event_of_a_name"}),
    (rule({"any": [{"a": {"exists": True}}, {"a": {"exists": False}}]}, target_event_name="*", **DROP),
     {"drops_everything", "always_holds"}),
    (rule(target_event_name="*", is_active=False, **DROP), set()),
    (rule(target_event_name="*", shadow=True, **DROP), set()),
    (rule(target_event_name="*", rollout={"percent": 10}, **DROP), set()),
    (rule(target_event_name="*", schedule={"until": "2026-11-21"}, **DROP), set()),
    (rule(target_event_name="*", frequency_cap={"max": 1, "per": "day"}, **DROP), set()),
    (rule(target_event_name="*", purposes=["a"], **DROP), set()),
    (rule(target_event_name="*", actions=[{"type": "drop_event", "purposes": ["a"]}]), set()),
    (rule(target_event_name="*", actions=[{"type": "redact", "parameters": ["z"]}, {"type": "drop_event"}]),
     {"drops_everything"}),
    (rule(target_event_name="*", actions=[{"type": "sample", "percent": 10}]), set()),
    (rule(action_type="sample", action_details={"percent": 0}), set()),
]  # fmt: skip


@pytest.mark.parametrize(("definition", "expected"), DROPS)
def test_a_drop_of_everything(definition: dict[str, Any], expected: set[str]) -> None:
    assert {code for code, _ in codes({"r": definition})} == expected


@pytest.mark.parametrize(("priority", "expected"), [(1, False), (200, True)])
def test_what_earlier_rules_let_through_is_not_dropped(priority: int, expected: bool) -> None:  # noqa: FBT001 - a column of the table
    let_through = rule({"a": 1}, target_event_name=["purchase", "view"], priority=priority, **STOP)
    found = codes({"let_through": let_through, "drop": rule(target_event_name="*", **DROP)})

    assert (("drops_everything", "drop") in found) is expected
    assert (("drops_every_event_of_a_name", "drop") in found) is not expected


FIRST_AND_SECOND: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    (rule({"a": 1}, **STOP), rule({"a": 1, "b": 2}, **LATE), True),
    (rule({"a": 1}, **DROP), rule({"a": 1}, **LATE), True),
    (rule({"a": 1}, **DROP), rule({"a": 1}, priority=1), False),
    (rule({"a": 1}), rule({"a": 1}, **LATE), False),
    (rule({"a": 1, "b": 2}, **STOP), rule({"a": 1}, **LATE), False),
    (rule({"a": {"atLeast": 5}}, **STOP), rule({"a": {"between": [6, 7]}}, **LATE), True),
    (rule({"a": {"atLeast": 5}}, **STOP), rule({"a": {"between": [4, 7]}}, **LATE), False),
    (rule({"a": [1, 2]}, **STOP), rule({"any": [{"a": 1}, {"a": 2, "b": 1}]}, **LATE), True),
    (rule({"a": [1, 2]}, **STOP), rule({"any": [{"a": 1}, {"a": 3, "b": 1}]}, **LATE), False),
    (rule(target_event_name="*", **STOP), rule({"a": 1}, **LATE), True),
    (rule({"a": 1}, target_event_name="view", **STOP), rule({"a": 1}, **LATE), False),
    (rule({"a": 1}, **STOP), rule({"a": 1}, target_event_name="*", **LATE), False),
    (rule({"a": 1}, **STOP), rule({"a": 1}, target_event_name=["purchase", "b"], **LATE), False),
    (rule({"a": 1}, target_event_name=["purchase", "b"], **STOP),
     rule({"a": 1}, target_event_name=["purchase", "b"], **LATE), True),
    (rule({"user_state.a": 1}, **STOP), rule({"user_state.a": 1}, **LATE), False),
    (rule({"a": 1}, is_active=False, **STOP), rule({"a": 1}, **LATE), False),
    (rule({"a": 1}, shadow=True, **STOP), rule({"a": 1}, **LATE), False),
    (rule({"a": 1}, **STOP), rule({"a": 1}, shadow=True, **LATE), True),
    (rule({"a": 1}, chain=True, **STOP), rule({"a": 1}, **LATE), False),
    (rule({"a": 1}, **STOP), rule({"a": 1}, chain=True, **LATE), False),
    (rule({"a": 1}, schedule={"until": "2026-11-21"}, **STOP), rule({"a": 1}, **LATE), False),
    (rule({"a": 1}, **STOP), rule({"a": 1}, schedule={"until": "2026-11-21"}, **LATE), True),
    (rule({"a": 1}, rollout={"percent": 99}, **STOP), rule({"a": 1}, **LATE), False),
    (rule({"a": 1}, frequency_cap={"max": 1, "per": "day"}, **STOP), rule({"a": 1}, **LATE), False),
    (rule({"a": 1}, purposes=["p"], **STOP), rule({"a": 1}, **LATE), False),
    (rule({"a": 1}, consent={"purpose": "p"}, **STOP), rule({"a": 1}, purposes=["p"], **LATE), True),
    (rule({"a": 1}, actions=[{"type": "drop_event", "purposes": ["p"]}]), rule({"a": 1}, **LATE), False),
    (rule({"a": 1}, action_type="sample", action_details={"percent": 0}), rule({"a": 1}, **LATE), False),
    (rule({"a": {"after": "2026-11-21"}}, **STOP), rule({"a": {"after": "2026-11-22"}}, **LATE), True),
    (rule({"a": {"after": "now-1d"}}, **STOP), rule({"a": {"after": "2026-11-22"}}, **LATE), False),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "is_hidden"), FIRST_AND_SECOND)
def test_a_rule_behind_one_that_always_ends_first(
    first: dict[str, Any],
    second: dict[str, Any],
    is_hidden: bool,  # noqa: FBT001 - a column of the table
) -> None:
    found = codes({"first": first, "second": second})

    assert (("unreachable", "second") in found) is is_hidden
    assert ("unreachable", "first") not in found


def test_several_rules_together_hide_one_of_several_names() -> None:
    definitions = {
        "x": rule({"a": 1}, target_event_name="x", **STOP),
        "y": rule({"a": 1}, target_event_name="y", **DROP),
        "z": rule({"a": 1}, target_event_name=["x", "y"], **LATE),
    }
    report = check_rules(RuleDefinitions(definitions))

    [finding] = [f for f in report.findings if f.code == "unreachable"]
    assert (finding.rule_id, finding.related) == ("z", ("x", "y"))


@pytest.mark.parametrize(
    ("first", "second", "is_hidden"),
    [
        ({}, {}, True),
        ({"purposes": ["a", "b"]}, {"purposes": ["a"]}, False),
        ({"purposes": ["a"]}, {"purposes": ["a", "b"]}, True),
        ({"updates_user_state": {"x": 1}}, {}, False),
        ({"updates_user_state": {"x": 1}}, {"updates_user_state": {"x": 2}}, True),
        ({"frequency_cap": {"max": 1, "per": "day"}}, {}, False),
        ({"action_details": {"key": "k", "value": 1, "purposes": ["a"]}}, {}, False),
        (
            {"action_details": {"key": "k", "value": 1, "purposes": ["a"]}},
            {"purposes": ["a", "ad_personalization"]},
            True,
        ),
        ({"action_type": "webhook", "action_details": {"endpoint": "e"}}, {}, False),
        ({}, {"action_type": "webhook", "action_details": {"endpoint": "e"}}, True),
    ],
)
def test_a_personalization_that_consent_may_keep_out_hides_nothing(
    first: dict[str, Any],
    second: dict[str, Any],
    is_hidden: bool,  # noqa: FBT001 - a column of the table
) -> None:
    definitions = {
        "first": {**cookie({"a": 1}, stop_on_match=True), **first},
        "second": {**cookie({"a": 1}, **LATE), **second},
    }

    assert (("unreachable", "second") in codes({}, definitions)) is is_hidden


OVERLAPS: list[tuple[Rules, set[str]]] = [
    ({"a": rename("x", conditions={"p": 1}), "b": rename("y", conditions={"q": 1})},
     {"overlapping_renames"}),
    ({"a": rename("x", conditions={"p": 1}), "b": rename("x", conditions={"q": 1})}, set()),
    ({"a": rename("x", conditions={"p": 1}), "b": rename("y", conditions={"p": 2})}, set()),
    ({"a": rename("x", conditions={"p": {"lessThan": 5}}),
      "b": rename("y", conditions={"p": {"atLeast": 5}})}, set()),
    ({"a": rename("x", conditions={"p": 1}, stop_on_match=True),
      "b": rename("y", conditions={"q": 1})}, set()),
    ({"a": rename("x", "view", {"p": 1}), "b": rename("y", conditions={"p": 1})}, set()),
    ({"a": rename("x", "*", {"p": 1}), "b": rename("y", conditions={"q": 1})},
     {"overlapping_renames"}),
    ({"a": rule({"p": 1}, **write("v", 1)), "b": rule({"q": 1}, **write("v", 2))},
     {"overlapping_writes"}),
    ({"a": rule({"p": 1}, **write("v", 1)), "b": rule({"q": 1}, **write("w", 2))}, set()),
    ({"a": rule({"p": 1}, **write("v", 1)), "b": rule({"q": 1}, **write("event.v", 2))},
     {"overlapping_writes"}),
    ({"a": rule({"p": 1}, **write("v", 1)), "b": rule({"q": 1}, **write("v", 2, "multiply"))}, set()),
    ({"a": rename("x", conditions={"p": 1}, shadow=True), "b": rename("y", conditions={"q": 1})}, set()),
    ({"a": rename("x", conditions={"p": 1}, schedule={"until": "2026-11-21"}),
      "b": rename("y", conditions={"q": 1}, schedule={"from": "2026-11-22"})}, set()),
    ({"a": rename("x", conditions={"p": 1}, schedule={"until": "2026-11-21"}),
      "b": rename("y", conditions={"q": 1}, schedule={"from": "2026-11-21"})}, {"overlapping_renames"}),
    ({"a": rename("x", conditions={"p": {"percent": [0, 50], "salt": "s"}}),
      "b": rename("y", conditions={"p": {"percent": [50, 100], "salt": "s"}})}, set()),
    ({"a": rename("x", conditions={"p": {"percent": [0, 50], "salt": "s"}}),
      "b": rename("y", conditions={"p": {"percent": [50, 100], "salt": "t"}})}, {"overlapping_renames"}),
    ({"a": rename("b", "a", {"p": 1}), "b": rename("a", "b", {"p": 1}, shadow=True)}, set()),
    ({"a": rename("b", "a", {"p": 1}), "b": rename("a", "b", {"p": 1})}, {"rename_cycle"}),
    ({"a": rename("b", "a", {"p": 1}), "b": rename("c", "b", {"p": 1})}, set()),
    ({"a": rename("b", "a", {"p": 1}), "b": rename("c", "b", {"p": 1}),
      "c": rename("a", "c", {"p": 1})}, {"rename_cycle"}),
    ({"a": rename("b", "*", {"p": 1})}, set()),
    ({"a": rename("b", "*", {"p": 1}), "b": rename("c", "b", {"p": 2})}, {"rename_cycle"}),
]  # fmt: skip


@pytest.mark.parametrize(("definitions", "expected"), OVERLAPS)
def test_rules_that_do_things_to_the_same_event(definitions: Rules, expected: set[str]) -> None:
    assert {code for code, _ in codes(definitions)} == expected


def test_a_note_says_that_not_all_pairs_were_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    definitions = {f"r{i}": rename(f"x{i}", conditions={"p": {"between": [i, i + 0.5]}}) for i in range(9)}  # fmt: skip
    complete = check_rules(RuleDefinitions(definitions))
    monkeypatch.setattr("tagstitch.core.rule_checks.Budget", lambda: Budget(5))
    cut = check_rules(RuleDefinitions(definitions))

    assert (complete.findings, complete.notes) == ((), ())
    assert cut.notes == (
        "too many pairs of rules to compare: not all overlapping rules are listed",
    )


def test_the_rule_that_wins_names_the_other() -> None:
    definitions = {"a": rename("x", conditions={"p": 1}), "b": rename("y", priority=1, conditions={"p": 1})}  # fmt: skip

    [finding] = check_rules(RuleDefinitions(definitions)).findings

    assert (finding.rule_id, finding.related) == ("a", ("b",))
    assert finding.path == "action_details"


PURPOSES = CheckContext(attribute_purposes={"health": ["medical"], "tier": ["ad_personalization"]})


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        (cookie({"profile.health": "good"}), {"purpose_missing"}),
        (cookie({"profile.health": "good"}, purposes=["medical"]), set()),
        (cookie({"profile.health.score": 5}), {"purpose_missing"}),
        (cookie({"profile.tier": "Gold"}), set()),
        (cookie({"profile.tier": "Gold"}, consent={"purpose": "other"}), {"purpose_missing"}),
        (cookie({"event.health": "good"}), set()),
        (cookie({"health": "good"}), {"purpose_missing", "forgeable_condition"}),
        (cookie({"tier": "Gold"}), {"forgeable_condition"}),
        (cookie({"other": "Gold"}), set()),
    ],
)
def test_attributes_with_purposes(definition: dict[str, Any], expected: set[str]) -> None:
    assert {code for code, _ in codes({}, {"r": definition}, PURPOSES)} == expected


RETURN = {"type": "return_value", "key": "k", "value": 1}
EMAIL = {"type": "send_email", "template_id": "t", "recipient": "profile.mail"}
CRM = {
    "type": "update_crm", "object": "o", "external_id": "profile.crm_id",
    "fields": {"f": {"from": "profile.health"}},
}  # fmt: skip
WEBHOOK = {"type": "webhook", "endpoint": "e", "body": {"f": "is ${health}"}}
PUSH = {"type": "push_message", "channel": "c", "payload": {"f": 1}}


def act(*actions: dict[str, Any], conditions: Any = None, **fields: Any) -> dict[str, Any]:
    return rule(conditions or {"profile.b": 2}, actions=list(actions), **fields)


@pytest.mark.parametrize(
    ("definition", "path"),
    [
        (act(EMAIL, conditions={"a": 1, "event.b": 2}), "actions[0]"),
        (act(EMAIL, conditions={"a": 1, "profile.b": 2}), None),
        (act(EMAIL, conditions={"items.$": {"match": {"a": 1}}}), "actions[0]"),
        (act(EMAIL, conditions={"user_state.a": {"exists": False}}), None),
        (act(EMAIL, conditions={"a": 1, "profile": {"inAudience": "vip"}}), None),
        (act(RETURN, CRM, conditions={"a": 1}), "actions[1]"),
        (act(WEBHOOK, conditions={"a": 1}), "actions[0]"),
        (act(PUSH, conditions={"a": 1}), None),
        (rule({"a": 1}, action_type="send_marketing_email",
              action_details={"template_id": "t", "recipient": "profile.mail"}), "action_details"),
    ],
)  # fmt: skip
def test_something_is_sent_because_of_an_event_alone(
    definition: dict[str, Any], path: str | None
) -> None:
    definitions = RuleDefinitions(
        personalization_rules={"r": definition},
        audiences={"vip": {"conditions": {"tier": "Gold"}}},
    )
    report = check_rules(definitions)

    found = [finding.path for finding in report.findings if finding.code == "forgeable_sending"]
    assert found == ([] if path is None else [path])


@pytest.mark.parametrize(
    ("definition", "paths"),
    [
        (act(EMAIL), []),
        (act({**EMAIL, "purposes": ["other"]}), ["actions[0]"]),
        (act({**EMAIL, "purposes": ["other"]}, purposes=["email"]), []),
        (act(CRM), ["actions[0]"]),
        (act(CRM, purposes=["medical"]), []),
        (act({**CRM, "purposes": ["medical", "crm"]}), []),
        (act(RETURN, WEBHOOK), ["actions[1]"]),
        (act(RETURN, {**WEBHOOK, "purposes": ["medical"]}), []),
        (act({**RETURN, "purposes": ["medical"]}, conditions={"profile.health": 1}), []),
        (act({**RETURN, "purposes": ["medical"]}, RETURN, conditions={"profile.health": 1}),
         ["conditions.profile.health"]),
    ],
)  # fmt: skip
def test_what_an_action_sends_is_read_for_a_purpose_too(
    definition: dict[str, Any], paths: list[str]
) -> None:
    purposes = {"mail": ["email"], "health": ["medical"], "crm_id": ["crm"]}
    report = check_rules(RuleDefinitions({}, {"r": definition}), CheckContext(purposes))

    assert [f.path for f in report.findings if f.code == "purpose_missing"] == paths


def test_a_protected_attribute_cannot_be_forged() -> None:
    definitions = RuleDefinitions({}, {"r": cookie({"tier": "Gold"})}, protected=("tier",))

    assert check_rules(definitions, PURPOSES).findings == ()


def experiment(conditions: Any = None, **fields: Any) -> dict[str, Any]:
    variants = [{"name": "a"}, {"name": "b", "value": 1}]
    given = {} if conditions is None else {"conditions": conditions}
    return {"target_event_name": "purchase", "variants": variants, **given, **fields}


PLAIN = {"variants": {"a": 0.5, "b": 0.5}}


def part(low: float, high: float, **fields: Any) -> dict[str, Any]:
    return experiment(namespace={"id": "n", "range": [low, high]}, **fields)


DECLARED: list[tuple[dict[str, Any], set[tuple[str, str]]]] = [
    ({"experiments": {"e": experiment({"a": {"equals": 1, "in": [2]}})}}, {("never_holds", "e")}),
    ({"experiments": {"e": experiment({"a": {"equals": 1, "in": [1]}})}}, set()),
    ({"experiments": {"e": experiment({"a": {"equals": 1, "in": [2]}}, is_active=False)}}, set()),
    ({"experiments": {"e": experiment(forced=[{"variant": "a", "conditions": {"a": {"lessThan": 1, "atLeast": 1}}}])}},
     {("never_holds", "e")}),
    ({"experiments": {"e": experiment({"any": [{"a": {"equals": 1, "in": [2]}}, {"a": 1}]})}},
     {("dead_alternative", "e")}),
    ({"experiments": {"e": experiment({"a": {"notEquals": 1}})}}, {("true_when_absent", "e")}),
    ({"audiences": {"v": {"conditions": {"a": {"equals": 1, "in": [2]}}}}}, {("never_holds", "v")}),
    ({"audiences": {"v": {"conditions": {"a": {"equals": 1, "in": [1]}}}}}, set()),
    ({"audiences": {"v": {"conditions": {"a": {"notEquals": 1}}}},
      "event_rules": {"r": rule({"profile": {"inAudience": "v"}})}}, {("true_when_absent", "v")}),
    ({"audiences": {"v": {"conditions": {"a": 1}}},
      "event_rules": {"r": rule({"profile": {"inAudience": "v"}, "profile.a": 2})}}, {("never_holds", "r")}),
    ({"audiences": {"v": {"conditions": {"a": 1}}},
      "event_rules": {"r": rule({"profile": {"inAudience": "v"}, "profile.a": [1, 2]})}}, set()),
    ({"experiments": {"e": experiment(holdout={"id": "h", "percent": 5}),
                      "f": experiment(holdout={"id": "h", "percent": 6})}},
     {("holdout_mismatch", "e"), ("holdout_mismatch", "f")}),
    ({"experiments": {"e": experiment(holdout={"id": "h", "percent": 5}),
                      "f": experiment(holdout={"id": "h", "percent": 5})}}, set()),
    ({"experiments": {"e": experiment(holdout={"id": "h", "percent": 5}),
                      "f": experiment(holdout={"id": "h", "percent": 6}, is_active=False)}}, set()),
    ({"experiments": {"e": part(0, 0.5), "f": part(0.4, 1)}},
     {("namespace_overlap", "e"), ("namespace_overlap", "f")}),
    ({"experiments": {"e": part(0, 0.5), "f": part(0.5, 1)}}, set()),
    ({"experiments": {"e": part(0, 0.5), "f": part(0.4, 1, is_active=False)}}, set()),
    ({"experiments": {"e": part(0, 0.5), "f": experiment(namespace={"id": "m", "range": [0, 1]})}}, set()),
    ({"experiments": {"e": part(0, 0.5, schedule={"until": "2026-11-21"}),
                      "f": part(0.4, 1, schedule={"from": "2026-11-22"})}}, set()),
    ({"experiments": {"e": experiment(**PLAIN)}}, {("unread_experiment", "e")}),
    ({"experiments": {"e": experiment(**PLAIN, is_active=False)}}, set()),
    ({"experiments": {"e": experiment(**PLAIN)}, "event_rules": {"r": rule({"experiment.e": "a"})}}, set()),
    ({"experiments": {"e": experiment(**PLAIN)},
      "event_rules": {"r": rule({"experiment.e": "a"}, is_active=False)}}, {("unread_experiment", "e")}),
    ({"experiments": {"e": experiment(**PLAIN)},
      "personalization_rules": {"r": cookie({"experiment.e": "a"})}}, set()),
    ({"experiments": {"e": experiment(**PLAIN)},
      "event_rules": {"r": rule({"experiment.e": "a", "none": [{"experiment.e": "a"}]})}}, {("never_holds", "r")}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("collections", "expected"), DECLARED, ids=[str(row[0]) for row in DECLARED]
)
def test_experiments_and_audiences(
    collections: dict[str, Any], expected: set[tuple[str, str]]
) -> None:
    report = check_rules(RuleDefinitions.of(collections))

    assert {(finding.code, finding.rule_id) for finding in report.findings} == expected


def test_findings_about_what_rules_refer_to_say_where() -> None:
    never = {"a": {"lessThan": 1, "atLeast": 1}}
    forced = [{"variant": "a", "conditions": {"any": [never, {"a": 1}]}}]
    definitions = RuleDefinitions(
        experiments={"e": part(0, 1, forced=forced), "f": part(0, 1)},
        audiences={"v": {"conditions": {"b": {"notEquals": 1}}}},
    )
    report = check_rules(definitions)

    assert [(f.kind, f.code, f.path, f.related) for f in report.findings] == [
        ("audience", "true_when_absent", "conditions.b", ()),
        ("experiment", "dead_alternative", "forced[0].conditions.any", ()),
        ("experiment", "namespace_overlap", "namespace.range", ("f",)),
        ("experiment", "namespace_overlap", "namespace.range", ("e",)),
    ]


def test_a_broken_declaration_is_left_out_with_the_rules_that_refer_to_it() -> None:
    definitions = RuleDefinitions(
        event_rules={"r": rule({"experiment.e": "a", "b": {"notEquals": 1}})},
        experiments={"e": {"variants": 1}},
        audiences={"v": {"conditions": {}}},
    )

    assert check_rules(definitions).findings == ()
    assert {broken.rule_id for broken in compile_rule_book(definitions).broken} == {"e", "v", "r"}


FIELDS: list[tuple[Any, set[str]]] = [
    ({"value": {"lessThan": 10}}, set()),
    ({"valeu": {"lessThan": 10}}, {"unknown_field"}),
    ({"event.nothing": 1}, {"unknown_field"}),
    ({"nothing": 1}, {"unknown_field"}),
    ({"profile.tier": "Gold"}, set()),
    ({"profile.tire": "Gold"}, {"unknown_field"}),
    ({"tier": "Gold"}, set()),
    ({"profile.address.city": "Graz"}, set()),
    ({"items.$.price": {"lessThan": 1}}, set()),
    ({"items.0.price": {"lessThan": 1}}, set()),
    ({"items.$.colour": "red"}, {"unknown_field"}),
    ({"items.$": {"match": {"price": 1, "item_id": "A"}}}, set()),
    ({"items.$": {"match": {"prise": 1}}}, {"unknown_field"}),
    ({"items.$": {"match": {"tags.$": "x"}}}, set()),
    ({"items.$count": 2}, set()),
    ({"items.$.tags.x": 1}, {"unknown_field"}),
    ({"x-ga-whatever": 1}, set()),
    ({"user_state.whatever": 1}, set()),
    ({"coupon": {"lessThan": 5}}, {"type_mismatch"}),
    ({"order": {"lessThan": 5}}, set()),
    ({"order": 5}, {"type_mismatch"}),
    ({"order": "5"}, set()),
    ({"value": "7.5"}, {"type_mismatch"}),
    ({"value": {"startsWith": "7"}}, {"type_mismatch"}),
    ({"value": {"in": ["7.5"]}}, {"type_mismatch"}),
    ({"value": {"exists": False}}, set()),
    ({"items": {"after": "2026-11-21"}}, {"type_mismatch"}),
    ({"coupon": {"after": "2026-11-21"}}, set()),
    ({"value": {"versionBelow": "2"}}, {"type_mismatch"}),
    ({"order": {"versionBelow": "2"}}, set()),
    ({"value": {"cidr": "10.0.0.0/8"}}, {"type_mismatch"}),
]


@pytest.mark.parametrize(("conditions", "expected"), FIELDS, ids=[str(row[0]) for row in FIELDS])
def test_fields_against_samples(conditions: Any, expected: set[str]) -> None:
    context = CheckContext(catalogue=catalogue())

    assert {code for code, _ in codes({"r": rule(conditions)}, {}, context)} == expected


def test_a_misspelt_field_and_a_misspelt_event_get_the_nearest_name() -> None:
    definitions = {
        "field": rule({"valeu": 1}),
        "event": rule({"value": 1}, target_event_name="purchas"),
        "every": rule({"geo.country": "AT"}, target_event_name="*"),
        "dotted": rule({"gtm.start": 1}, target_event_name="view_item"),
    }
    report = check_rules(RuleDefinitions(definitions), CheckContext(catalogue=catalogue()))

    assert [(f.code, f.rule_id, f.path, f.hint) for f in report.findings] == [
        ("unknown_event", "event", "target_event_name", "did you mean purchase?"),
        ("unknown_field", "field", "conditions.valeu", "did you mean value?"),
    ]


def test_no_sample_needs_to_have_a_computed_trait() -> None:
    definitions = RuleDefinitions(
        {
            "bare": rule({"visits": {"atLeast": 2}}),
            "said": rule({"profile.visits": {"atLeast": 2}}),
        },
        {"offer": rule({"visits": {"atLeast": 2}}, action_type="return_value")},
        traits={"visits": {"event": "*", "operation": "sessions"}},
    )
    context = CheckContext(catalogue=catalogue(), traits=frozenset({"visits"}))

    report = check_rules(definitions, context)

    assert [finding.code for finding in report.findings] == []


def test_without_sample_profiles_a_bare_name_may_be_an_attribute() -> None:
    events_only = FieldCatalogue()
    events_only.add_event("purchase", {"value": 1})
    context = CheckContext(catalogue=events_only)

    assert codes({"r": rule({"user_loyalty_tier": "Gold"})}, {}, context) == set()
    assert codes({"r": rule({"valeu": 1})}, {}, context) == {("unknown_field", "r")}


def test_a_rule_that_cannot_be_read_is_left_out() -> None:
    assert codes({"r": {}, "s": rule({"a": {"equals": 1, "in": [2]}})}) == {("never_holds", "s")}


def test_an_error_comes_before_warnings_and_refuses() -> None:
    definitions = {"a": rule({"x": {"notEquals": 1}}), "b": rule({"x": {"equals": 1, "in": [2]}})}

    report = check_rules(RuleDefinitions(definitions))

    assert [finding.severity for finding in report.findings] == ["error", "warning"]
    assert report.has_errors
    assert not check_rules(RuleDefinitions({"a": definitions["a"]})).has_errors


@given(
    rules(EVENT_ACTIONS), rules(PERSONAL_ACTIONS),
    st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=4), max_size=3),
    VALUES,
)  # fmt: skip
@relaxed(150)
def test_a_check_never_raises(
    for_events: Rules, for_visitors: Rules, samples: list[dict[str, Any]], rubbish: Any
) -> None:
    seen = FieldCatalogue()
    for sample in samples:
        seen.add_event("purchase", sample)
        seen.add_profile(sample)
    purposes = {"tier": ["medical"], "a": ["b"]}
    context = CheckContext(attribute_purposes=purposes, catalogue=seen)

    report = check_rules(
        RuleDefinitions({**for_events, "0 rubbish": rubbish}, for_visitors), context
    )

    assert {finding.code for finding in report.findings} <= SEVERITIES.keys()
    assert list(report.findings) == sorted(report.findings, key=lambda f: f.severity)


NEAR_EVENTS = st.builds(
    lambda name, parameters: Event(name, {**parameters, "event_name": name}),
    NAMES,
    st.dictionaries(
        st.sampled_from(["value", "tier", "a"]),
        st.sampled_from([0, 1, 0.5, 4, 7, "A", "AB", "0", "3", None, ["A"], [0, "A"]]),
    ),
)
SIMILAR = st.sampled_from(["value", "tier"]).flatmap(
    lambda path: st.sampled_from(
        [{"lessThan": 5}, {"lessThan": 1}, {"atLeast": 0}, {"between": [0, 1]}, {"equals": 0}, {"in": [0, "A"]},
         {"in": ["A"]}, {"exists": True}, {"notEquals": "A"}, {"startsWith": "A"}, {"type": "number"}]
    ).map(lambda comparison: {path: comparison})
)  # fmt: skip
ENDING = st.fixed_dictionaries({
    "target_event_name": st.sampled_from(["*", "purchase", ["purchase", "view_item"]]),
    "conditions": SIMILAR | st.builds(lambda a, b: {**a, "any": [b, {"a": 1}]}, SIMILAR, SIMILAR),
    "priority": st.integers(0, 9),
    "stop_on_match": st.booleans(),
}, optional={
    "shadow": st.booleans(),
    "purposes": st.sampled_from([["a"], ["a", "b"]]),
    "rollout": st.just({"percent": 50}),
    "frequency_cap": st.just({"max": 1, "per": "day"}),
    "schedule": st.just({"until": "2020-01-01"}),
})  # fmt: skip
MANY = st.lists(ENDING, min_size=4, max_size=8)


@given(MANY, st.lists(EVENTS | NEAR_EVENTS, min_size=8, max_size=8), PROFILES, st.booleans())
@relaxed(400)
def test_a_rule_that_is_said_to_be_unreachable_never_applies(
    many: list[dict[str, Any]],
    events: list[Event],
    profile: Profile | None,
    allowed: bool,  # noqa: FBT001 - drawn at random
) -> None:
    for_events = {f"r{i}": {**fields, **write("q", 1)} for i, fields in enumerate(many)}
    for_visitors = {f"r{i}": cookie(fields["conditions"], **fields_without_conditions(fields)) for i, fields in enumerate(many)}  # fmt: skip
    definitions = RuleDefinitions(for_events, for_visitors)
    book = compile_rule_book(definitions)
    consent = resolve_consent(requested=None, event=None, profile=None, default_granted=allowed)

    applied = {
        (kind, rule_id)
        for event in events
        for decision in (decide_both(event, book, profile, consent=consent),)
        for kind, part in (("event", decision.event), ("personalization", decision.personalization))
        if part is not None
        for rule_id in part.rule_ids
    }

    findings = check_rules(definitions).findings
    assert applied.isdisjoint((f.kind, f.rule_id) for f in findings if f.code == "unreachable")
    assert applied.isdisjoint((f.kind, f.rule_id) for f in findings if f.code == "never_holds")


def fields_without_conditions(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "conditions"}
