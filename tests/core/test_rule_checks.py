"""Each static check has rules that trigger it and a near miss that does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagstitch.core.checked_rule import CheckedRule, WrittenEffect, read_rules
from tagstitch.core.consent import resolve_consent
from tagstitch.core.declarations import NOTHING_DECLARED
from tagstitch.core.event import Event
from tagstitch.core.field_catalogue import FieldCatalogue
from tagstitch.core.finding import SEVERITIES
from tagstitch.core.profile import Profile
from tagstitch.core.rule_book import compile_rule_book
from tagstitch.core.rule_checks import CheckContext, check_rules
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.core.rule_pairs import Budget
from tagstitch.core.trust_checks import check_forgeable, check_purposes
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
]  # fmt: skip


@pytest.mark.parametrize(("definition", "expected"), DROPS)
def test_a_drop_of_everything(definition: dict[str, Any], expected: set[str]) -> None:
    assert {code for code, _ in codes({"r": definition})} == expected


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
    ],
)
def test_a_personalization_that_consent_may_keep_out_hides_nothing(
    first: dict[str, Any],
    second: dict[str, Any],
    is_hidden: bool,  # noqa: FBT001 - a column of the table
) -> None:
    definitions = {
        "first": cookie({"a": 1}, stop_on_match=True, **first),
        "second": cookie({"a": 1}, **LATE, **second),
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


def sending(conditions: Any) -> CheckedRule:
    [found] = read_rules(RuleDefinitions({}, {"r": cookie(conditions)}), NOTHING_DECLARED)
    assert isinstance(found, CheckedRule)
    details = {"template_id": "t", "recipient": "profile.email"}
    return replace(found, effects=(WrittenEffect("send_email", details, "action_details"),))


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"a": 1, "event.b": 2}, ["forgeable_sending"]),
        ({"a": 1, "profile.b": 2}, []),
        ({"items.$": {"match": {"a": 1}}}, ["forgeable_sending"]),
        ({"user_state.a": {"exists": False}}, []),
    ],
)
def test_something_is_sent_because_of_an_event_alone(conditions: Any, expected: list[str]) -> None:
    assert [f.code for f in check_forgeable(sending(conditions), ())] == expected


def test_what_an_action_sends_is_read_for_a_purpose_too() -> None:
    purposes = {"email": ["email"]}
    rule = sending({"profile.b": 2})

    assert [f.code for f in check_purposes(rule, purposes)] == ["purpose_missing"]
    assert list(check_purposes(replace(rule, purposes=frozenset({"email"})), purposes)) == []


def test_a_protected_attribute_cannot_be_forged() -> None:
    definitions = RuleDefinitions({}, {"r": cookie({"tier": "Gold"})}, protected=("tier",))

    assert check_rules(definitions, PURPOSES).findings == ()


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
