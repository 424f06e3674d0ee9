"""The index loses no rule: it answers as asking every rule does."""

from __future__ import annotations

import math
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagstitch.core import index_column, rule_bucket, rule_index
from tagstitch.core.declarations import Declarations
from tagstitch.core.event import Event
from tagstitch.core.paths import Facts
from tagstitch.core.profile import Profile
from tagstitch.core.rule import EventRule, parse_event_rule
from tagstitch.core.rule_bucket import RuleBucket, bucket_in_steps, buckets_in_steps
from tagstitch.core.steps import finished
from tagstitch.core.work import Work
from tests.core.test_decision_properties import CONDITIONS, EVENTS, PROFILES, relaxed


def rule_of(rule_id: str, conditions: dict[str, Any], **fields: Any) -> EventRule:
    definition = {"target_event_name": "purchase", "action_type": "drop_event", **fields}
    declared = Declarations(protected=frozenset(["tier"]), experiments={"x": frozenset(["b"])})
    return parse_event_rule(
        rule_id, {**definition, "conditions": conditions}, declared=declared
    )  # fmt: skip


def indexed(rules: list[EventRule]) -> RuleBucket[EventRule]:
    with patch.object(rule_bucket, "PLAIN_RULES_MAX", 0):
        bucket = finished(bucket_in_steps(tuple(sorted(rules, key=lambda rule: rule.rule_id))))
    assert bucket.index is not None
    return bucket


def facts_of(event: Event, profile: Profile | None) -> Facts:
    if profile is None:
        return Facts(event.parameters)
    return Facts(event.parameters, profile.attributes, profile.state)


def ids(rules: Any) -> list[str]:
    return [rule.rule_id for rule in rules]


def held(rules: Any, facts: Facts) -> list[str]:
    return [rule.rule_id for rule in rules if rule.condition.holds(facts)]


def candidates(bucket: RuleBucket[EventRule], facts: Facts, **fields: Any) -> list[EventRule]:
    return [rule for rule, *_ in bucket.candidates(facts, **fields)]


def sure(bucket: RuleBucket[EventRule], facts: Facts) -> list[str]:
    return [rule_id for _, is_sure, rule_id in bucket.candidates(facts) if is_sure]


@given(
    st.lists(CONDITIONS, min_size=1, max_size=12),
    st.lists(EVENTS, min_size=1, max_size=4),
    PROFILES,
    st.sampled_from([2, 4, 128]),
)
@relaxed(300)
def test_the_index_finds_every_rule_that_holds(
    conditions: list[dict[str, Any]],
    events: list[Event],
    profile: Profile | None,
    share: int,
) -> None:
    rules = [rule_of(f"r{n:02d}", each) for n, each in enumerate(conditions)]
    with (
        patch.object(rule_index, "_COMMON_SHARE", share),  # few rules stand for many
        patch.object(index_column, "_DENSE_SHARE", share),
        patch.object(index_column, "_BLOCKS", share),
    ):
        bucket = indexed(rules)

    for event in events:
        facts = facts_of(event, profile)

        assert held(candidates(bucket, facts), facts) == held(bucket.rules, facts)
        assert set(sure(bucket, facts)) <= set(held(bucket.rules, facts))


@given(
    st.lists(CONDITIONS, min_size=1, max_size=12),
    st.lists(EVENTS, min_size=1, max_size=4),
    PROFILES,
)
@relaxed(300)
def test_what_the_index_is_sure_of_coerces_nothing(
    conditions: list[dict[str, Any]], events: list[Event], profile: Profile | None
) -> None:
    bucket = indexed([rule_of(f"r{n:02d}", each) for n, each in enumerate(conditions)])

    for event in events:
        facts = facts_of(event, profile)
        for rule, is_sure, *_ in bucket.candidates(facts):
            if is_sure:
                assert rule.condition.holds(facts)

        assert facts.coercions == 0


SURE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"country": ["AT", "DE"]}, {"country": "DE"}),
    ({"flag": True, "count": 5}, {"flag": True, "count": 5.0}),
    ({"value": {"atLeast": 5, "lessThan": 10}}, {"value": 5}),
    ({"value": {"greaterThan": 5, "atMost": 10}}, {"value": 10}),
    ({"value": {"between": [1, 2]}}, {"value": 1.5}),
    ({"items.$.brand": "A"}, {"items": [{"brand": "B"}, {"brand": "A"}]}),
    ({"items.$.price": {"lessThan": 3}}, {"items": [{"price": 9}, {"price": 1}, {}]}),
    ({"path": {"startsWith": "/shop"}}, {"path": "/shop/1"}),
]


@pytest.mark.parametrize(("conditions", "parameters"), SURE)
def test_a_rule_of_plain_comparisons_need_not_be_asked(
    conditions: dict[str, Any], parameters: dict[str, Any]
) -> None:
    assert sure(indexed([rule_of("r", conditions)]), Facts(parameters)) == ["r"]


@pytest.mark.parametrize(
    ("conditions", "parameters"),
    [
        ({"value": {"lessThan": 10}}, {"value": "5"}),  # a coercion is to be counted
        ({"tags": "a"}, {"tags": ["a"]}),
        ({"tags": ["a"]}, {"tags": ["a"]}),
        ({"items.$.x": "a"}, {"items": [{"x": ["a"]}]}),
        ({"items.$all.x": "a"}, {"items": [{"x": "a"}]}),
        ({"any": [{"x": 1}, {"y": 1}]}, {"x": 1}),
        ({"x": 1, "y": {"notEquals": 1}}, {"x": 1}),
        ({"x": {"contains": "a"}}, {"x": "a"}),
        ({"x": {"startsWith": "a", "ignoreCase": True}}, {"x": "a"}),
        ({"items.$": {"match": {"a": 1, "b": 1}}}, {"items": [{"a": 1}, {"b": 1}]}),
        ({"x": 1, "user_state.y": 1}, {"x": 1}),
    ],
)
def test_every_other_rule_is_asked(conditions: dict[str, Any], parameters: dict[str, Any]) -> None:
    bucket = indexed([rule_of("r", conditions)])

    assert sure(bucket, Facts(parameters)) == []


NOT_FULFILLED = [
    ({"tier": "Gold"}, {"tier": "Silver"}),
    ({"tier": "Gold"}, {"tier": None}),
    ({"tier": ["Gold", "Silver"]}, {"tier": ["Bronze", "New"]}),
    ({"flag": True}, {"flag": 1}),
    ({"count": 1}, {"count": True}),
    ({"code": 5}, {"code": "5"}),
    ({"value": {"lessThan": 10}}, {"value": 500}),
    ({"value": {"atLeast": 10}}, {"value": "5.00"}),
    ({"value": {"lessThan": 10}}, {"value": True}),
    ({"value": {"lessThan": 10}}, {"value": [5]}),
    ({"value": {"between": [1, 10]}}, {"value": 500}),
    ({"coupon": {"exists": True}}, {}),
    ({"path": {"startsWith": "/shop"}}, {}),
    ({"path": {"startsWith": "/shop"}}, {"path": "/sho"}),
    ({"path": {"startsWith": "/shop"}}, {"path": "/about/shop"}),
    ({"items.$.price": {"greaterThan": 10}}, {"items": [{"price": 5}, {"price": "x"}, "y"]}),
    ({"items.$.tags": {"anyOf": ["a"]}}, {"items": [{"tags": ["b"]}, {"tags": "c"}]}),
    ({"items.$": {"match": {"brand": "A", "price": {"lessThan": 5}}}}, {"items": [{"brand": "B"}]}),
    ({"items.$count": {"atLeast": 3}}, {"items": [{}]}),
    ({"any": [{"medium": "cpc"}, {"gclid": {"exists": True}}]}, {"medium": "email"}),
    ({"all": [{"medium": "cpc"}]}, {"medium": "email"}),
]


@pytest.mark.parametrize(("conditions", "parameters"), NOT_FULFILLED, ids=str)
def test_a_rule_whose_requirement_is_not_fulfilled_is_not_asked(
    conditions: dict[str, Any], parameters: dict[str, Any]
) -> None:
    bucket = indexed([rule_of("r", conditions)])

    assert candidates(bucket, Facts(parameters, parameters)) == []


FULFILLED = [
    ({"code": 5}, {"code": 5.0}),
    ({"tier": ["Gold", "Silver"]}, {"tier": ["Bronze", "Silver"]}),
    ({"value": {"lessThan": 10}}, {"value": "5.00"}),
    ({"path": {"startsWith": "/shop"}}, {"path": "/shop"}),
    ({"path": {"startsWith": "/Shop", "ignoreCase": True}}, {"path": "/shop/1"}),
    ({"items.$.path": {"startsWith": "/shop"}}, {"items": [{"path": 5}, {"path": "/shop/1"}]}),
    ({"value": {"atLeast": 2**60}}, {"value": 2**60}),
    ({"value": {"between": [10, 10]}}, {"value": 10}),
    ({"tags.$": "a"}, {"tags": [["b"], "a"]}),
    ({"items.$.tags": {"anyOf": ["a"]}}, {"items": [{"tags": ["b", "a"]}]}),
    ({"tier": {"notEquals": "Gold"}}, {}),
    ({"tier": {"equals": None}}, {}),
    ({"a.b": 1}, {"a": {"b": 1}}),
    ({"a.b": 1}, {"a.b": 1}),
    ({"items.$none.brand": "A"}, {}),
    ({"none": [{"tier": "Gold"}]}, {}),
    ({"any": [{"items.$count": 0}, {"gclid": "x"}]}, {}),
    ({"any": [{"items.$count": {"lessThan": 3}}, {"gclid": "x"}]}, {}),
]


@pytest.mark.parametrize(("conditions", "parameters"), FULFILLED, ids=str)
def test_a_rule_that_holds_is_found(conditions: dict[str, Any], parameters: dict[str, Any]) -> None:
    bucket = indexed([rule_of("r", conditions)])
    facts = Facts(parameters, parameters)

    assert held(candidates(bucket, facts), facts) == ["r"]


def test_a_rare_rule_for_a_list_without_elements_is_found_when_there_is_no_list() -> None:
    rules = [rule_of(f"r{number:03}", {"value": number}) for number in range(200)]
    bucket = indexed([*rules, rule_of("empty", {"items.$count": {"atMost": 0}})])

    assert held(candidates(bucket, Facts({"value": 7})), Facts({"value": 7})) == ["empty", "r007"]


def test_a_stored_nan_keeps_no_bound() -> None:
    bucket = indexed(
        [rule_of("most", {"score": {"atMost": 5}}), rule_of("least", {"score": {"atLeast": 5}})]
    )
    facts = Facts({}, {"score": math.nan})

    assert sure(bucket, facts) == []
    assert held(candidates(bucket, facts), facts) == []


def test_a_parameter_that_no_rule_reads_costs_no_work() -> None:
    rules = [rule_of(f"r{number:03}", {"value": number}) for number in range(200)]
    bucket = indexed([*rules, rule_of("tier", {"profile.colour": "red"})])
    bare, forged = (
        Facts(event, {"colour": "red"}, work=Work(1_000)) for event in ({}, {"colour": "x"})
    )

    assert ids(candidates(bucket, bare)) == ids(candidates(bucket, forged)) == ["tier"]
    assert bare.work.left == forged.work.left


def test_state_and_experiments_are_not_looked_up_beforehand() -> None:
    bucket = indexed([rule_of("s", {"user_state.seen": True}), rule_of("e", {"experiment.x": "b"})])

    assert [rule.rule_id for rule in candidates(bucket, Facts({}))] == ["e", "s"]


def test_an_absent_parameter_is_looked_up_in_the_profile_unless_it_is_protected() -> None:
    bucket = indexed([rule_of("colour", {"colour": "red"}), rule_of("tier", {"tier": "Gold"})])
    in_profile, in_event = Facts({}, {"colour": "red"}), Facts({"tier": "Gold"}, {})

    assert [rule.rule_id for rule in candidates(bucket, in_profile)] == ["colour"]
    assert candidates(bucket, in_event) == []


def test_without_a_profile_nothing_is_told_from_its_silence() -> None:
    rules = [
        rule_of("profile", {"profile.a": 1}), rule_of("bare", {"b": 1}),
        rule_of("event", {"event.c": 1}), rule_of("both", {"event.c": 2, "profile.a": 1}),
        rule_of("count", {"items.$count": {"atLeast": 1}}),
    ]  # fmt: skip
    bucket = indexed(rules)

    known, unknown = Facts({"c": 2, "b": 2}), Facts({"c": 2})

    assert ids(candidates(bucket, known, has_profile=False)) == ["both", "count", "profile"]
    assert ids(candidates(bucket, unknown, has_profile=False)) == [
        "bare",
        "both",
        "count",
        "profile",
    ]


def test_bounds_that_two_elements_keep_are_not_surely_kept_by_one() -> None:
    between = rule_of("between", {"items.$.price": {"between": [10, 20]}})
    bucket = indexed([between, rule_of("two", {"items.$.price": {"atLeast": 10, "atMost": 20}})])
    facts = Facts({"items": [{"price": 5}, {"price": 30}]})

    assert held(bucket.rules, facts) == ["two"]
    assert sure(bucket, facts) == ["two"]
    assert ids(candidates(bucket, facts)) == ["between", "two"]


def test_few_rules_have_no_index() -> None:
    bucket = finished(bucket_in_steps((rule_of("a", {"x": 1}),)))

    assert bucket.index is None
    assert candidates(bucket, Facts({})) == list(bucket.rules)


@pytest.mark.parametrize("copied", [0, 1_000])
def test_rules_for_every_event_come_in_order_with_those_of_the_name(copied: int) -> None:
    rules = [
        rule_of("b", {"x": 1}, target_event_name="*", priority=2),
        rule_of("a", {"x": 1}, priority=3), rule_of("c", {"x": 1}, priority=1),
        rule_of("d", {"x": 1}, is_active=False), rule_of("e", {"x": 2}, target_event_name="*"),
    ]  # fmt: skip

    with patch.object(rule_bucket, "COPIED_RULES_MAX", copied):
        buckets = finished(buckets_in_steps(rules, {}))

    assert [rule.rule_id for rule in buckets["purchase"].rules] == ["c", "b", "a", "e"]
    assert [rule.rule_id for rule in buckets["*"].rules] == ["b", "e"]
    assert held(candidates(buckets["purchase"], Facts({"x": 1})), Facts({"x": 1})) == [
        "c",
        "b",
        "a",
    ]
