from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tagstitch.core.errors import InvalidRule
from tagstitch.core.paths import Facts
from tagstitch.core.rule import (
    EventRule,
    PersonalizationRule,
    parse_event_rule,
    parse_personalization_rule,
)

RENAME = {"action_type": "rename_event", "action_details": {"new_event_name": "small"}}
COOKIE = {
    "action_type": "set_client_cookie",
    "action_details": {"cookie_name": "c", "cookie_value": "v"},
}


def event_rule(**fields: Any) -> EventRule:
    base = {"target_event_name": "purchase", "conditions": {"value": 1}, **RENAME}
    return parse_event_rule("r", {**base, **fields})


def personalization_rule(**fields: Any) -> PersonalizationRule:
    base = {"event_name_trigger": "view_item", "conditions": {"x": 1}, **COOKIE}
    return parse_personalization_rule("r", {**base, **fields})


def modify(**details: Any) -> dict[str, Any]:
    return {"action_type": "modify_parameter", "action_details": details}


def cookie(**details: Any) -> dict[str, Any]:
    base = {"cookie_name": "c", "cookie_value": "v"}
    return {"action_type": "set_client_cookie", "action_details": {**base, **details}}


def test_defaults_of_a_rule() -> None:
    rule = event_rule()

    assert (rule.priority, rule.is_active, rule.stop_on_match) == (100, True, False)
    assert rule.event_names == ("purchase",)


def test_both_published_names_of_the_event_are_accepted() -> None:
    rule = {"event_name_trigger": "purchase", "conditions": {"value": 1}, **RENAME}

    assert parse_event_rule("r", rule).event_names == ("purchase",)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [("*", ("*",)), (["a", "b", "a"], ("a", "b")), (["a", "*"], ("*",))],
)
def test_an_event_name_is_one_several_or_all(names: object, wanted: tuple[str, ...]) -> None:
    assert wanted == event_rule(target_event_name=names).event_names


def test_metadata_of_other_people_is_left_alone() -> None:
    rule = event_rule(
        description="x", owner="y", tags=["z"], created_at=datetime(2026, 1, 1, tzinfo=UTC),
        shadow=False,
    )  # fmt: skip

    assert rule.rule_id == "r"


@pytest.mark.parametrize(
    ("fields", "path", "text"),
    [
        ({"target_event_name": None}, "target_event_name", "is missing"),
        ({"target_event_name": []}, "target_event_name", "not an event name"),
        ({"target_event_name": [1]}, "target_event_name", "characters"),
        ({"event_name_trigger": "a"}, "target_event_name", "twice"),
        ({"conditions": {}}, "conditions", "match_all: true"),
        ({"conditions": None}, "conditions", "match_all: true"),
        ({"conditions": None, "match_all": False}, "conditions", "match_all: true"),
        ({"conditions": "value"}, "conditions", "object"),
        ({"priority": "high"}, "priority", "whole number"),
        ({"priority": 1.5}, "priority", "whole number"),
        ({"priority": True}, "priority", "whole number"),
        ({"is_active": "true"}, "is_active", "true or false"),
        ({"stop_on_match": 1}, "stop_on_match", "true or false"),
        ({"priorty": 3}, "priorty", "did you mean priority?"),
        ({"frequency_cap": {"max": 0}}, "frequency_cap.max", "whole number"),
        ({"shadow": "yes"}, "shadow", "true or false"),
        ({"updates_user_state": {"a": 1}}, "updates_user_state", "no meaning"),
        ({"action_type": None, "action_details": None}, "actions", "at least one action"),
        ({"action_type": None}, "action_type", "is missing"),
        ({"action_type": "rename_evnt"}, "action_type", "did you mean rename_event?"),
        ({"action_type": ["drop_event"]}, "action_type", "unknown action type"),
        ({"action_details": "small"}, "action_details", "object"),
        ({"action_details": {}}, "action_details.new_event_name", "is missing"),
        ({"action_details": {"new_event_name": "*"}}, "action_details.new_event_name", "a name"),
        ({"action_details": {"new_event_name": "a\n"}}, "action_details.new_event_name", "a name"),
        ({"action_details": {"new_event_name": "a", "nw": 1}}, "action_details.nw", "unknown"),
        ({"actions": [{"type": "drop_event"}]}, "actions", "either actions"),
        ({"action_type": "redact", "action_details": {}}, "action_details.parameters", "missing"),
    ],
)
def test_an_event_rule_is_refused_with_the_place(
    fields: dict[str, Any], path: str, text: str
) -> None:
    with pytest.raises(InvalidRule) as refusal:
        event_rule(**fields)

    problems = refusal.value.problems
    assert any(path == problem.path and text in str(problem) for problem in problems)


@pytest.mark.parametrize(
    ("details", "path", "text"),
    [
        ({"operator": "set", "operand": 1}, "parameter", "is missing"),
        ({"parameter": "a"}, "operator", "is missing"),
        ({"parameter": "a", "operator": "mul", "operand": 1}, "operator", "multiply"),
        ({"parameter": "a", "operator": "multiply"}, "operand", "is missing"),
        ({"parameter": "a", "operator": "multiply", "operand": "2"}, "operand", "quotes"),
        ({"parameter": "a", "operator": "add", "operand": 1, "round": 9}, "round", "whole number"),
        ({"parameter": "a", "operator": "set"}, "operand", "is missing"),
        ({"parameter": "a", "operator": "set", "operand": AssertionError}, "operand", "must be"),
        ({"parameter": "a", "operator": "copy"}, "from", "is missing"),
        ({"parameter": "a", "operator": "copy", "from": "items.$.x"}, "from", "one value"),
        ({"parameter": "a", "operator": "lower", "operand": 1}, "operand", "unknown field"),
        ({"parameter": "items.$.price", "operator": "delete"}, "parameter", "one parameter"),
        ({"parameter": "profile.tier", "operator": "delete"}, "parameter", "of the event only"),
        ({"parameter": "event_name", "operator": "delete"}, "parameter", "rename_event"),
        ({"parameter": "_original_event_name", "operator": "delete"}, "parameter", "rename_event"),
    ],
)
def test_a_modification_is_refused_with_the_place(
    details: dict[str, Any], path: str, text: str
) -> None:
    with pytest.raises(InvalidRule) as refusal:
        event_rule(**modify(**details))

    problems = refusal.value.problems
    assert any(f"action_details.{path}" == p.path and text in str(p) for p in problems)


@pytest.mark.parametrize(
    "parameter",
    ["x-ga-gcs", "x-sst-system_properties.consent", "X-GA-page_id", "event.x-ga-gcd",
     '["x-ga-gcs"]', "x-ga-mp2-user_properties.membership"],
)  # fmt: skip
@pytest.mark.parametrize("type_", ["modify_parameter", "redact"])
def test_no_action_touches_parameters_of_google(type_: str, parameter: str) -> None:
    details: dict[str, Any] = {"parameters": [parameter]}
    if type_ == "modify_parameter":
        details = {"parameter": parameter, "operator": "delete"}

    with pytest.raises(InvalidRule, match="belong to Google"):
        event_rule(action_type=type_, action_details=details)


@pytest.mark.parametrize(
    ("details", "text"),
    [
        ({}, "item_property: is missing"),
        ({"item_property": "a", "operator": "not_equal", "operand": 1}, "notEquals"),
        ({"item_property": "a..b", "operator": "equals", "operand": 1}, "not a path"),
        ({"match": {}}, "at least one condition"),
        ({"match": []}, "must be an object"),
        ({"match": {"a": 1}, "item_property": "a"}, "unknown field"),
    ],
)
def test_a_filter_is_refused_with_the_place(details: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidRule, match=text):
        event_rule(action_type="filter_items", action_details=details)


def test_a_drop_without_conditions_needs_match_all() -> None:
    drop = {"target_event_name": "a", "action_type": "drop_event"}

    with pytest.raises(InvalidRule, match="match_all"):
        parse_event_rule("r", drop)
    assert parse_event_rule("r", {**drop, "match_all": True}).rule_id == "r"


@pytest.mark.parametrize("raw", [None, [], "rule", 5])
def test_a_rule_must_be_an_object(raw: object) -> None:
    with pytest.raises(InvalidRule, match="must be an object"):
        parse_event_rule("r", raw)


def test_a_rule_must_not_be_nested_without_end() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = {"size": deep}

    with pytest.raises(InvalidRule, match="nested"):
        event_rule(conditions={"a": deep})


@pytest.mark.parametrize("rule_id", ["", "x" * 129])
def test_a_rule_needs_a_usable_id(rule_id: str) -> None:
    with pytest.raises(InvalidRule, match="id"):
        parse_event_rule(rule_id, {})


def test_a_rule_knows_what_its_actions_read() -> None:
    details = {"parameter": "a", "operator": "copy", "from": "user_state.x"}

    rule = event_rule(conditions={"event.v": 1}, **modify(**details))

    assert [path.text for path, _ in rule.other_lookups] == ["user_state.x"]
    assert rule.is_lacking(Facts({"v": 1}), frozenset(("user_state",)))


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, ("ad_personalization",)),
        ({"purposes": ["offers"]}, ("offers",)),
        ({"purposes": "offers"}, ("offers",)),
        ({"consent": {"purpose": "offers"}}, ("offers",)),
        ({"consent": {"purposes": ["a", "b"]}}, ("a", "b")),
    ],
)
def test_a_personalization_rule_names_its_purposes(
    fields: dict[str, Any], wanted: tuple[str, ...]
) -> None:
    assert wanted == personalization_rule(**fields).gates.purposes


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"consent": True}, "must be an object"),
        ({"consent": {}}, "consent.purpose: is missing"),
        ({"purposes": []}, "name of a purpose"),
        ({"purposes": ["a b"]}, "name of a purpose"),
        ({"purposes": "a", "consent": {"purpose": "a"}}, "either"),
        ({"updates_user_state": {}}, "needs an object"),
        ({"updates_user_state": {"a.b": 1}}, "updates_user_state.a.b"),
        ({"updates_user_state": {"__a__": 1}}, "updates_user_state.__a__"),
        ({"updates_user_state": {"a": "x" * 2000}}, "bytes"),
        ({"updates_user_state": {"a": float("nan")}}, "finite"),
        ({"rollout": {"percent": 500}}, "rollout.percent: must be 0 to 100"),
        ({"chain": True}, "chain: has no meaning"),
        ({"action_type": "send_pigeon"}, "unknown action type"),
        ({"action_type": None, "action_details": None}, "at least one action"),
        (cookie(cookie_name="a b"), "must be a token"),
        (cookie(cookie_name="a;b"), "must be a token"),
        (cookie(cookie_name="a=b"), "must be a token"),
        (cookie(cookie_name="ä"), "must be a token"),
        (cookie(cookie_name="a\r\nSet-Cookie"), "must be a token"),
        (cookie(cookie_name=""), "must be a token"),
        (cookie(cookie_value=None), "is missing"),
        (cookie(cookie_value={}), "must be text"),
        (cookie(cookie_value="\ud800"), "must be text"),
        (cookie(cookie_value="x" * 4096), "4096 bytes"),
        (cookie(expiry_minutes=0), "whole number"),
        (cookie(expiry_minutes="60"), "whole number"),
        (cookie(expiry_minutes=10**9), "whole number"),
        (cookie(domain="evil.example"), "unknown field"),
        ({"action_type": "return_value", "action_details": {"key": "", "value": 1}}, "1 to 64"),
        ({"action_type": "return_value", "action_details": {"key": "k"}}, "value: is missing"),
        ({"action_type": "set_state", "action_details": {}}, "updates_user_state: is missing"),
    ],
)
def test_a_personalization_rule_is_refused_with_the_place(
    fields: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidRule, match=text):
        personalization_rule(**fields)


def test_state_alone_is_an_action() -> None:
    rule = personalization_rule(
        action_type=None, action_details=None, updates_user_state={"seen": True}
    )

    assert (rule.state_changes, rule.actions) == ({"seen": True}, ())
