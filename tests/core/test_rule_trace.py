"""What a trace tells of gates, conditions, withheld actions and experiments."""

from __future__ import annotations

from typing import Any

import pytest

from tagstitch.core.consent import resolve_consent
from tagstitch.core.decision import decide
from tagstitch.core.event import Event
from tagstitch.core.frequency_cap import own_key
from tagstitch.core.profile import Profile
from tagstitch.core.rule_book import compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tests.core.deciding import NOON, situation_of

DAY_S = 86_400


def rule(**fields: Any) -> dict[str, Any]:
    common = {"event_name_trigger": "purchase", "match_all": True, "action_type": "return_value"}
    return {**common, "action_details": {"key": "k", "value": 1}, **fields}


def trace_of(
    rules: dict[str, Any],
    parameters: dict[str, Any] | None = None,
    profile: Profile | None = None,
    *,
    concealed: tuple[str, ...] = (),
    kind: str = "personalization",
    **situation: Any,
) -> Any:
    definitions = RuleDefinitions.of({f"{kind}_rules": rules})
    book = compile_rule_book(definitions)
    assert book.broken == ()
    event = Event("purchase", {"event_name": "purchase", **(parameters or {})})
    arrived = situation_of(event, profile or Profile("p_1"), **situation)
    decision = decide(arrived, book, explain=True, hides=concealed.__contains__)
    return decision.trace[kind]


def conditions_of(conditions: dict[str, Any], parameters: dict[str, Any]) -> list[str]:
    [line] = trace_of({"r": rule(conditions=conditions)}, parameters)
    return [found["path"] for found in line["conditions"] if found.get("decisive")]


@pytest.mark.parametrize(
    ("conditions", "decisive"),
    [
        ({"a": 1, "b": 2}, []),
        ({"a": 1, "b": 3, "c": 4}, ["b"]),
        ({"any": [{"a": 1}, {"c": 1}]}, []),
        ({"any": [{"c": 1}, {"a": 1}], "b": 3}, ["b"]),
        ({"any": [{"a": 1, "b": 3}, {"c": 1}]}, ["b"]),
        ({"none": [{"c": 1}, {"a": 1}]}, ["a"]),
        ({"none": [{"c": 1}], "a": 2}, ["a"]),
        ({"all": [{"none": [{"all": [{"a": 1}, {"b": 2}]}]}]}, ["a"]),
    ],
)
def test_the_first_condition_for_which_the_rule_does_not_apply_is_decisive(
    conditions: dict[str, Any], decisive: list[str]
) -> None:
    assert conditions_of(conditions, {"a": 1, "b": 2}) == decisive


def test_a_rule_without_gates_has_none_in_its_trace() -> None:
    change = {"target_event_name": "*", "match_all": True, "action_type": "redact", "action_details": {"parameters": "a"}}  # fmt: skip

    [line] = trace_of({"r": change}, kind="event")

    assert line == {"rule_id": "r", "applied": True, "reason": "MATCHED", "conditions": []}


def test_uses_are_told_as_they_were_before_the_rule_applied() -> None:
    capped = rule(frequency_cap=[{"max": 2, "per": "day"}, {"max": 5, "within": "90m"}])
    uses = {own_key("personalization:r"): [NOON - DAY_S, NOON - 7_200, NOON - 60]}

    [line] = trace_of({"r": capped}, profile=Profile("p_1", caps=uses))

    assert line["reason"] == "CAPPED"
    assert line["gate"]["frequency_cap"] == [
        {"max": 2, "per": "day", "time_zone": "UTC", "used": 2, "open": False},
        {"max": 5, "within": "90m", "used": 1, "open": True},
    ]
    [first] = trace_of({"r": capped})
    assert [cap["used"] for cap in first["gate"]["frequency_cap"]] == [0, 0]


def test_uses_that_cannot_be_read_are_told_as_none() -> None:
    broken = Profile("p_1", caps={"g_offers": "x"})

    [line] = trace_of({"r": rule(frequency_cap={"max": 1, "group": "offers"})}, profile=broken)

    cap = line["gate"]["frequency_cap"][0]
    assert (line["reason"], cap["used"], cap["open"]) == ("CAPPED", None, False)


def test_a_denied_purpose_is_told_with_the_source_that_denied_it() -> None:
    said = {"onsite": False, "ad_storage": True}
    consent = resolve_consent(requested=said, event=None, profile=None, default_granted=True)

    [line] = trace_of({"r": rule(purposes=["onsite", "survey"])}, consent=consent)

    assert line["gate"]["purposes"] == [
        {"purpose": "onsite", "granted": False, "source": "request"},
        {"purpose": "survey", "granted": True, "source": "default"},
    ]


def test_what_could_not_be_loaded_is_told() -> None:
    [line] = trace_of({"r": rule(rollout=50)}, unavailable=frozenset({"profile"}), subject=None)

    assert line["reason"] == "UNAVAILABLE"
    assert line["gate"]["unavailable"] == ["profile"]
    assert line["gate"]["rollout"] == {"percent": 50.0, "by": "visitor", "includes": None}


def test_no_gate_tells_a_value_of_the_visitors() -> None:
    rules = {
        "r": rule(rollout={"percent": 100, "by": "profile.card"}, conditions={"profile.card": "c"})
    }
    known = Profile("p_secret", {"card": "4711"})

    [line] = trace_of(rules, profile=known, concealed=("card",))

    assert line["conditions"][0]["concealed"] is True
    assert "4711" not in str(line)
    assert "p_secret" not in str(line)


def test_actions_that_stay_undone_are_told_with_their_reason() -> None:
    actions = [
        {"type": "return_value", "key": "a", "value": 1, "purposes": "onsite"},
        {"type": "send_email", "template_id": "t", "recipient": "profile.email"},
        {"type": "webhook", "endpoint": "e", "body": {"a": 1}, "once_per": "visitor"},
        {"type": "return_value", "key": "b", "value": 2},
    ]
    said = {"onsite": False}
    consent = resolve_consent(requested=said, event=None, profile=None, default_granted=True)
    sent = Profile("p_1", caps={own_key("action:r:2"): [NOON - DAY_S]})

    [line] = trace_of(
        {"r": rule(action_type=None, action_details=None, actions=actions)},
        profile=sent,
        consent=consent,
    )

    assert line["reason"] == "MATCHED"
    assert line["withheld"] == [
        {"type": "value", "reason": "CONSENT_DENIED", "missing": ["onsite"]},
        {"type": "send_email", "reason": "CONSENT_DENIED", "missing": ["email"]},
        {"type": "webhook", "reason": "SENT_BEFORE", "once_per": "visitor"},
    ]


def test_an_event_rules_withheld_action_is_told_by_its_type() -> None:
    actions = [
        {"type": "modify_parameter", "parameter": "a", "operator": "set", "operand": 1, "purposes": "onsite"},
        {"type": "redact", "parameters": ["b"]},
    ]  # fmt: skip
    denied = resolve_consent(
        requested={"onsite": False}, event=None, profile=None, default_granted=True
    )

    [line] = trace_of(
        {"r": {"target_event_name": "*", "match_all": True, "actions": actions}},
        kind="event",
        consent=denied,
    )

    assert line["withheld"] == [
        {"type": "modify_parameter", "reason": "CONSENT_DENIED", "missing": ["onsite"]}
    ]
