"""What the static checks claim about conditions is so for every event: found by random search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tagstitch.core.compiled_condition import compile_condition
from tagstitch.core.condition import Condition, parse_conditions
from tagstitch.core.condition_form import form_of
from tagstitch.core.operators import Comparison, parse_comparisons
from tagstitch.core.paths import Facts
from tagstitch.core.problems import Problems
from tagstitch.core.value_kinds import can_count, can_hold, kind_of, possible_kinds
from tests.core.test_decision_properties import (
    COMPARISONS,
    CONDITIONS,
    KEYS,
    LISTS,
    NUMBERS,
    VALUES,
    relaxed,
)

NEAR_VALUES = st.one_of(
    VALUES, LISTS, NUMBERS, st.integers(-6, 6), st.sampled_from(["a", "A", "5", "5.0", "-1.5", ""]),
    st.lists(st.sampled_from(["a", "b", 1, True, 0, "5"]), max_size=3),
    st.sampled_from(["2026-11-21", "2026-11-20", 1_763_900_000, "1764000000", "2", "1.0", "v2.0.1", "10.0.0.1"]),
)  # fmt: skip
ITEMS = st.lists(st.dictionaries(KEYS, NEAR_VALUES, max_size=3), max_size=3)
FACTS = st.builds(
    Facts,
    st.dictionaries(KEYS, NEAR_VALUES, max_size=5)
    | st.builds(
        lambda event, items: {**event, "items": items},
        st.dictionaries(KEYS, NEAR_VALUES, max_size=4),
        ITEMS,
    ),
    st.dictionaries(KEYS, NEAR_VALUES, max_size=3),
    st.dictionaries(KEYS, NEAR_VALUES, max_size=2),
    now=st.sampled_from([0.0, 1_764_000_000.0]),
)


def comparisons_of(raw: Any) -> tuple[Comparison, ...]:
    problems = Problems()
    found = parse_comparisons(raw, "", problems)
    assert problems.found == []
    return found


def condition_of(raw: Mapping[str, Any]) -> Condition | None:
    problems = Problems()
    condition = parse_conditions(raw, "", problems)
    return None if problems.found else condition


def holds(condition: Condition, facts: Facts) -> bool:
    return compile_condition(condition).holds(facts)


@given(st.lists(COMPARISONS, min_size=1, max_size=4), NEAR_VALUES)
@relaxed(1500)
@example([{"not_equals": 1e32}], "5")
def test_a_value_that_satisfies_comparisons_is_of_a_possible_kind(
    written: list[dict[str, Any]], value: Any
) -> None:
    problems = Problems()
    comparisons = [c for raw in written for c in parse_comparisons(raw, "", problems)]
    assume(not problems.found)

    if all(comparison.build()(value, Facts({})) for comparison in comparisons):
        assert kind_of(value) in possible_kinds(comparisons)
        assert can_hold(comparisons)
        if kind_of(value) == "number" and isinstance(value, int) and value >= 0:
            assert can_count(comparisons)


@given(CONDITIONS, st.lists(FACTS, min_size=5, max_size=5))
@relaxed(500)
def test_conditions_that_are_said_to_never_or_always_hold_do(
    raw: dict[str, Any], many_facts: list[Facts]
) -> None:
    condition = condition_of(raw)
    assume(condition is not None)
    assert condition is not None

    results = {holds(condition, facts) for facts in many_facts}

    assert form_of(condition).can_hold() or True not in results
    assert form_of(condition, negate=True).can_hold() or False not in results


@given(CONDITIONS, CONDITIONS, st.lists(FACTS, min_size=5, max_size=5))
@relaxed(500)
def test_conditions_that_are_said_to_imply_or_exclude_each_other_do(
    raw: dict[str, Any], other_raw: dict[str, Any], many_facts: list[Facts]
) -> None:
    condition, other = condition_of(raw), condition_of(other_raw)
    assume(condition is not None and other is not None)
    assert condition is not None
    assert other is not None
    results = [(holds(condition, facts), holds(other, facts)) for facts in many_facts]

    if form_of(condition).implies(form_of(other)):
        assert (True, False) not in results
    if not form_of(condition).can_hold_with(form_of(other)):
        assert (True, True) not in results


NEVER = [
    {"equals": 1, "in": [2, 3]},
    {"equals": "a", "notIn": ["a"]},
    {"equals": "abc", "startsWith": "x"},
    {"equals": 5, "lessThan": 3},
    {"equals": True, "in": [1]},
    {"equals": None, "exists": True},
    {"exists": False, "equals": "x"},
    {"lessThan": 5, "greaterThan": 9},
    {"lessThan": 5, "atLeast": 5},
    {"between": [1, 2], "greaterThan": 2},
    {"greaterThan": 9, "notGreaterThan": 5},
    {"in": ["a"], "notIn": ["a", "b"]},
    {"in": ["a", "b"], "lessThan": 3, "type": "string"},
    {"startsWith": "a", "type": "number"},
    {"startsWith": "abc", "notStartsWith": "ab"},
    {"lessThan": 3, "type": "list"},
    {"contains": "a", "exists": False},
    {"contains": "a", "notContains": "a"},
    {"size": {"lessThan": 0}},
    {"isEmpty": True, "greaterThan": 0},
    {"before": "2026-11-21", "after": "2026-11-22"},
    {"before": "2026-11-21", "after": "2026-11-21"},
    {"before": "now-2d", "after": "now-1d"},
    {"between": ["2026-11-21", "2026-11-22"], "after": "2026-11-23"},
    {"after": "2026-11-22", "notAfter": "2026-11-21"},
    {"between": ["2026-11-21", "now"], "before": "2026-11-20"},
    {"equals": "2026-11-21", "after": "2026-11-22"},
    {"after": "now-1d", "type": "boolean"},
    {"versionAtLeast": "2.0.0", "versionBelow": "2.0.0-rc.1"},
    {"versionAtLeast": "2", "notVersionAtLeast": "1.9"},
    {"versionBelow": "2", "type": "number"},
    {"in": ["1.0", "1.1"], "versionAtLeast": "1.2"},
    {"cidr": "10.0.0.0/8", "type": "number"},
    {"equals": "192.0.2.1", "cidr": "10.0.0.0/8"},
    {"percent": [0, 10], "salt": "s", "type": "list"},
]
SOMETIMES = [
    {"equals": 5, "in": [5.0, 6]},
    {"equals": "abc", "startsWith": "a"},
    {"lessThan": 5, "greaterThan": 4},
    {"lessThan": 5, "type": "string"},
    {"lessThan": 2, "startsWith": "1"},
    {"atMost": 5, "atLeast": 5},
    {"in": ["a"], "anyOf": ["b"]},
    {"notIn": ["a"], "notEquals": "b"},
    {"exists": False, "notEquals": 1},
    {"startsWith": "ab", "notStartsWith": "abc"},
    {"contains": "a", "type": "list"},
    {"matches": "^a", "endsWith": "b"},
    {"isEmpty": True, "type": "list"},
    {"type": "boolean", "notEquals": True},
    {"before": "2026-11-22", "after": "2026-11-21"},
    {"before": "2026-11-21", "after": "now-1d"},
    {"between": ["2026-11-21", "2026-11-22"], "after": "2026-11-22"},
    {"notBefore": "2026-11-21", "notAfter": "2026-11-20"},
    {"between": ["2026-11-21", "now"], "after": "now-9d"},
    {"equals": "2026-11-21", "after": "now-1d"},
    {"equals": "2026-11-21", "before": "now-1d"},
    {"versionAtLeast": "2.0.0-rc.1", "versionBelow": "2.0.0"},
    {"in": ["1.0", "1.3"], "versionAtLeast": "1.2"},
    {"equals": "10.0.2.1", "cidr": "10.0.0.0/8"},
    {"percent": [0, 10], "salt": "s", "type": "number"},
]


@pytest.mark.parametrize("raw", NEVER, ids=str)
def test_comparisons_that_can_never_hold_together_are_found(raw: Any) -> None:
    assert not can_hold(comparisons_of(raw))


@pytest.mark.parametrize("raw", SOMETIMES, ids=str)
def test_comparisons_that_can_hold_together_are_left_alone(raw: Any) -> None:
    assert can_hold(comparisons_of(raw))


IMPLIES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"a": 1}, {"a": 1}),
    ({"a": 1, "b": 2}, {"a": 1}),
    ({"a": 1}, {"a": [1, 2]}),
    ({"a": ["x"]}, {"a": ["x", "y"]}),
    ({"a": {"lessThan": 5}}, {"a": {"atMost": 5}}),
    ({"a": {"between": [2, 3]}}, {"a": {"greaterThan": 1}}),
    ({"a": 7}, {"a": {"exists": True}}),
    ({"a": "abc"}, {"a": {"startsWith": "ab"}}),
    ({"a": {"startsWith": "abc"}}, {"a": {"startsWith": "ab"}}),
    ({"a": {"greaterThan": 3}}, {"a": {"notEquals": 2}}),
    ({"a": 1}, {"any": [{"b": 1}, {"a": 1}]}),
    ({"any": [{"a": 1}, {"a": 2}]}, {"a": [1, 2]}),
    ({"items.$.x": 1}, {"items.$any.x": [1, 2]}),
    ({"items.$all.x": 1}, {"items.$.x": 1}),
    ({"items.$all.x": 1}, {"items.$none.x": 2}),
    ({"items.$none.x": [1, 2]}, {"items.$none.x": 1}),
    ({"items.$count": 3}, {"items.$count": {"atLeast": 2}}),
    ({"items.$": {"match": {"a": 1}}, "b": 1}, {"items.$": {"match": {"a": 1}}}),
    ({"a": {"after": "2026-11-22"}}, {"a": {"after": "2026-11-21"}}),
    ({"a": {"between": ["now-2d", "now-1d"]}}, {"a": {"before": "now"}}),
    ({"a": {"after": "now"}}, {"a": {"exists": True}}),
    ({"a": {"versionAtLeast": "2.1"}}, {"a": {"versionAtLeast": "2.0"}}),
    ({"a": {"percent": [0, 10], "salt": "s"}}, {"a": {"percent": [0, 50], "salt": "s"}}),
    ({"a": {"changed": False}}, {"event.a": {"exists": True}}),
]
NOT_IMPLIES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"a": 1}, {"a": 2}),
    ({"a": 1}, {"a": 1, "b": 1}),
    ({"a": ["x", "z"]}, {"a": ["x", "y"]}),
    ({"a": {"atMost": 5}}, {"a": {"lessThan": 5}}),
    ({"a": {"notEquals": 1}}, {"a": {"exists": True}}),
    ({"a": True}, {"a": [1]}),
    ({"a": {"startsWith": "ab"}}, {"a": {"startsWith": "abc"}}),
    ({"a": {"lessThan": 5}}, {"a": {"type": "number"}}),
    ({"a": 1}, {"event.a": 1}),
    ({"any": [{"a": 1}, {"b": 1}]}, {"a": 1}),
    ({"items.$.x": 1}, {"items.$all.x": 1}),
    ({"items.$none.x": 1}, {"items.$.x": 2}),
    ({"items.$none.x": 1}, {"items.$all.x": {"notEquals": 1}}),
    ({"items.$.x": 1, "items.$.y": 2}, {"items.$": {"match": {"x": 1, "y": 2}}}),
    ({"a": {"after": "2026-11-21"}}, {"a": {"after": "2026-11-22"}}),
    ({"a": {"after": "2026-11-21"}}, {"a": {"after": "now"}}),
    ({"a": {"notBefore": "2026-11-22"}}, {"a": {"after": "2026-11-21"}}),
    ({"a": {"versionBelow": "2.1"}}, {"a": {"versionBelow": "2.0"}}),
    ({"a": {"percent": [0, 10], "salt": "s"}}, {"a": {"percent": [0, 50], "salt": "t"}}),
    ({"a": {"changed": True}}, {"event.a": {"changed": False}}),
    ({"a": {"changed": True}}, {"profile.a": {"exists": True}}),
]


EXCLUDES: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({"a": {"percent": [0, 50], "salt": "s"}}, {"a": {"percent": [50, 100], "salt": "s"}}, True),
    ({"a": {"percent": [0, 51], "salt": "s"}}, {"a": {"percent": [50, 100], "salt": "s"}}, False),
    ({"a": {"percent": [0, 50], "salt": "s"}}, {"a": {"percent": [50, 100], "salt": "t"}}, False),
    ({"a": {"versionBelow": "2"}}, {"a": {"versionAtLeast": "2"}}, True),
    ({"a": {"before": "now"}}, {"a": {"after": "now"}}, True),
    ({"a.$": {"before": "now"}}, {"a.$": {"after": "now"}}, False),
]


@pytest.mark.parametrize(("one", "other", "is_apart"), EXCLUDES, ids=str)
def test_parts_of_one_order_exclude_each_other(
    one: dict[str, Any],
    other: dict[str, Any],
    is_apart: bool,  # noqa: FBT001 - a column of the table
) -> None:
    first, second = condition_of(one), condition_of(other)
    assert first is not None
    assert second is not None

    assert form_of(first).can_hold_with(form_of(second)) is not is_apart


@pytest.mark.parametrize(("one", "other"), IMPLIES, ids=str)
def test_an_implication_is_found(one: dict[str, Any], other: dict[str, Any]) -> None:
    condition, weaker = condition_of(one), condition_of(other)
    assert condition is not None
    assert weaker is not None

    assert form_of(condition).implies(form_of(weaker))


@pytest.mark.parametrize(("one", "other"), NOT_IMPLIES, ids=str)
def test_no_implication_is_claimed_that_is_none(one: dict[str, Any], other: dict[str, Any]) -> None:
    condition, weaker = condition_of(one), condition_of(other)
    assert condition is not None
    assert weaker is not None

    assert not form_of(condition).implies(form_of(weaker))


def test_too_many_alternatives_lead_to_fewer_claims() -> None:
    wide = {"all": [{"any": [{f"p{i}": j} for j in range(3)]} for i in range(8)]}
    condition = condition_of({**wide, "a": {"equals": 1, "in": [2]}})
    assert condition is not None
    form = form_of(condition)

    assert not form.is_exact
    assert not form.can_hold()
