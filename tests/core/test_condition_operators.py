"""What holds for every operator: its spellings, its opposite, absence, foreign values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tagstitch.core.limits import CONDITION_REGEX_VALUE_CHARS_MAX
from tagstitch.core.operators import OPERATORS
from tagstitch.core.paths import Facts
from tests.core.conditions import compiled, holds, problems_of

SALT = {"salt": "s"}
SAMPLES: dict[str, dict[str, Any]] = {
    "equals": {"equals": 5}, "in": {"in": [5, "a", True]}, "lessThan": {"lessThan": 6},
    "atMost": {"atMost": 5}, "greaterThan": {"greaterThan": 4}, "atLeast": {"atLeast": 5},
    "between": {"between": [5, 6]}, "before": {"before": "now"}, "after": {"after": "now-1d"},
    "exists": {"exists": True}, "isEmpty": {"isEmpty": False}, "contains": {"contains": "a"},
    "startsWith": {"startsWith": "a"}, "endsWith": {"endsWith": "a"}, "matches": {"matches": "a"},
    "anyOf": {"anyOf": [5, "a"]}, "allOf": {"allOf": [5]}, "size": {"size": {"atLeast": 1}},
    "versionAtLeast": {"versionAtLeast": "1.2"}, "versionBelow": {"versionBelow": "1.2"},
    "cidr": {"cidr": "10.0.0.0/8"}, "percent": {"percent": [0, 50]}, "type": {"type": "string"},
}  # fmt: skip
VALUES: list[Any] = [
    None, 0, 5, 5.0, -1, 10**30, True, False, "", "a", "5", "5.00", "A", [], [5], ["a", None], [[5]], [{"a": 5}],
    {}, {"a": 5}, "1.2.3", "10.1.1.1", "2026-11-21", datetime(2026, 11, 21, tzinfo=UTC), float("nan"),
    float("inf"), {5}, object(), b"a",
]  # fmt: skip

SPELLINGS = [
    ("equals", "notEquals", "not_equals"), ("in", "notIn", "not_in"), ("lessThan", "notLessThan", "not_less_than"),
    ("atMost", "notAtMost", "not_at_most"), ("greaterThan", "notGreaterThan", "not_greater_than"),
    ("atLeast", "notAtLeast", "not_at_least"), ("between", "notBetween", "not_between"),
    ("before", "notBefore", "not_before"), ("after", "notAfter", "not_after"), ("exists", "notExists", "not_exists"),
    ("isEmpty", "notIsEmpty", "not_is_empty"), ("contains", "notContains", "not_contains"),
    ("startsWith", "notStartsWith", "not_starts_with"), ("endsWith", "notEndsWith", "not_ends_with"),
    ("matches", "notMatches", "not_matches"), ("anyOf", "noneOf", "none_of"), ("allOf", "notAllOf", "not_all_of"),
    ("size", "notSize", "not_size"), ("versionAtLeast", "notVersionAtLeast", "not_version_at_least"),
    ("versionBelow", "notVersionBelow", "not_version_below"), ("cidr", "notCidr", "not_cidr"),
    ("percent", "notPercent", "not_percent"), ("type", "notType", "not_type"),
]  # fmt: skip


def comparison(word: str, name: str) -> dict[str, Any]:
    return {word: SAMPLES[name][name]} | (SALT if name == "percent" else {})


def snake(word: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in word)


def test_every_operator_is_in_these_tables() -> None:
    assert set(SAMPLES) == set(OPERATORS) == {name for name, _, _ in SPELLINGS}


@pytest.mark.parametrize(("name", "negation", "snake_negation"), SPELLINGS)
def test_an_operator_has_one_canonical_name_for_all_spellings(
    name: str, negation: str, snake_negation: str
) -> None:
    spellings = {
        name: name, snake(name): name, negation: negation, snake_negation: negation, f"not_{name}": negation,
    }  # fmt: skip
    for word, canonical in spellings.items():
        (line,) = compiled({"x": comparison(word, name)}).explain(Facts({}), frozenset())

        assert line["operator"] == canonical


@pytest.mark.parametrize(("name", "negation", "_"), SPELLINGS)
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_negated_operator_is_exactly_the_opposite(
    name: str, negation: str, _: str, value: Any
) -> None:
    event = {"x": value}

    assert holds({"x": comparison(name, name)}, event) is not holds(
        {"x": comparison(negation, name)}, event
    )


@pytest.mark.parametrize(("name", "negation", "_"), SPELLINGS)
@pytest.mark.parametrize("event", [{}, {"x": None}], ids=["absent", "null"])
def test_a_positive_operator_is_false_for_what_is_absent(
    name: str, negation: str, _: str, event: dict[str, Any]
) -> None:
    assert not holds({"x": comparison(name, name)}, event)
    assert holds({"x": comparison(negation, name)}, event)


@pytest.mark.parametrize(("name", "negation", "_"), SPELLINGS)
def test_only_a_positive_operator_stands_behind_a_bare_dollar(
    name: str, negation: str, _: str
) -> None:
    assert problems_of({"items.$.x": comparison(name, name)}) == []
    (problem,) = problems_of({"items.$.x": comparison(negation, name)})
    assert "$none" in (problem.hint or "")
    for quantifier in ("$any", "$all", "$none"):
        assert problems_of({f"items.{quantifier}.x": comparison(negation, name)}) == []


@pytest.mark.parametrize(
    "negative",
    [None, {"equals": None}, {"exists": False}, {"notExists": True}, {"isEmpty": True}, {"notIsEmpty": False}],
    ids=str,
)  # fmt: skip
def test_what_finds_absence_is_negative_too(negative: Any) -> None:
    assert [p.path for p in problems_of({"items.$.x": negative})] == ["conditions.items.$.x"]
    assert holds({"x": negative}, {})


@pytest.mark.parametrize("positive", [{"notIsEmpty": True}, {"notExists": False}], ids=str)
def test_a_double_negative_is_positive(positive: Any) -> None:
    assert problems_of({"items.$.x": positive}) == []
    assert not holds({"x": positive}, {})


@pytest.mark.parametrize("path", ["tags.$", "tags.$any", "tags.$all", "tags.$none", "tags.$count"])
@pytest.mark.parametrize("event", [{}, {"tags": None}, {"tags": "a"}], ids=str)
def test_what_is_no_list_behaves_like_an_empty_one(path: str, event: dict[str, Any]) -> None:
    for wanted in ("a", 0):
        assert holds({path: wanted}, event) == holds({path: wanted}, {"tags": []})


@pytest.mark.parametrize("name", ["contains", "startsWith", "endsWith", "matches"])
@pytest.mark.parametrize("filler", ["x", "ß", "İ"], ids=["ascii", "sharp s", "dotted I"])
def test_case_is_ignored_in_short_and_in_long_texts(name: str, filler: str) -> None:
    switch = {"ignoreCase": True}

    for length in (0, 1, 10, 1_000):
        padding = filler * length
        text = {"startsWith": "STRASSE" + padding, "endsWith": padding + "STRASSE"}.get(
            name, padding + "STRASSE" + padding
        )
        assert holds({"x": {name: "strasse", **switch}}, {"x": text})
        assert not holds({"x": {name: "strasse"}}, {"x": text})
        assert not holds({"x": {name: "strassen", **switch}}, {"x": text + "m"})


def test_case_folding_knows_letters_that_become_two() -> None:
    for name in ("contains", "startsWith", "endsWith"):
        assert holds({"x": {name: "straSSe", "ignoreCase": True}}, {"x": "STRAßE"})
        assert holds({"x": {name: "Straße", "ignoreCase": True}}, {"x": "STRASSE"})


def test_a_regular_expression_searches_no_text_without_end() -> None:
    longest = "a" * CONDITION_REGEX_VALUE_CHARS_MAX

    assert holds({"x": {"matches": "a$"}}, {"x": longest})
    assert not holds({"x": {"matches": "a"}}, {"x": longest + "a"})
    assert holds({"x": {"notMatches": "a"}}, {"x": longest + "a"})


@pytest.mark.parametrize(
    ("wanted", "value", "is_met"),
    [
        ([1], [1.0], True), ([True], [1], False), ([1], [True], False), ([True, "a"], ["a", True, None], True),
        (["a"], "a", True), (["a", "b"], "a", False), ([1], [[1]], False), (["a"], [{"a": 1}, "a"], True), (["a"], [], False),
    ],
)  # fmt: skip
def test_all_of_compares_like_equals(wanted: list[Any], value: Any, *, is_met: bool) -> None:
    assert holds({"x": {"allOf": wanted}}, {"x": value}) == is_met


@pytest.mark.parametrize(
    ("conditions", "is_met"),
    [
        ({"items.$": {"match": {"a": 1, "b": 2}}}, True),
        ({"items.$any": {"match": {"a": 1, "b": {"notEquals": 2}}}}, False),
        ({"items.$all": {"match": {"a": {"exists": True}}}}, True),
        ({"items.$all": {"match": {"a": 1}}}, False),
        ({"items.$none": {"match": {"a": 1, "b": 3}}}, True),
        ({"items.$none": {"match": {"a": 1}}}, False),
        ({"items.$": {"match": {"any": [{"a": 7}, {"tags.$": "x"}]}}}, True),
        ({"items.$": {"match": {"tags.$count": 2}}}, True),
    ],
    ids=str,
)
def test_match_asks_one_and_the_same_element(conditions: Any, *, is_met: bool) -> None:
    event = {"items": [{"a": 1, "b": 2}, {"a": 2, "b": 3, "tags": ["x", "y"]}]}

    assert holds(conditions, event) == is_met
