"""Conditions that were written to hurt: all of them are refused, and with few words."""

from __future__ import annotations

from typing import Any

import pytest

from tagstitch.core.condition import parse_item_conditions
from tagstitch.core.definition import Definition
from tagstitch.core.problems import Problems, suggestion
from tests.core.conditions import problems_of

MANY = 20_000
PROBLEMS_MAX = 70


def nested(levels: int) -> dict[str, Any]:
    conditions: dict[str, Any] = {"a": 1}
    for _ in range(levels - 1):
        conditions = {"all": [conditions]}
    return conditions


HOSTILE: dict[str, Any] = {
    "a regular expression without end": {"x": {"matches": "a" * 10_000}},
    "repetitions of repetitions": {"x": {"matches": "(((a{1000}){1000}){1000})"}},
    "a program of megabytes": {"x": {"matches": r"\pL{1000}" * 25}},
    "a program of megabytes in any case": {"x": {"matches": r"\pL{1000}" * 25, "ignoreCase": True}},
    "a program of many steps a character": {"x": {"matches": ".{1000}.{1000}"}},
    "many levels": nested(50),
    "a list without end": {"x": list(range(MANY))},
    "an equal list without end": {"x": {"equals": list(range(MANY))}},
    "an equal object without end": {"x": {"equals": {str(n): n for n in range(MANY)}}},
    "equal lists in a list": {"x": {"equals": [[0] * 100 for _ in range(100)]}},
    "ranges without end": {"x": {"cidr": ["10.0.0.0/8"] * MANY}},
    "wrong ranges without end": {"x": {"cidr": ["x"] * MANY}},
    "audiences without end": {"profile": {"inAudience": ["x"] * MANY}},
    "paths without end": {f"x{n}": 1 for n in range(MANY)},
    "wrong paths without end": {f"x{n}..y": 1 for n in range(MANY)},
    "wrong quantifiers without end": {f"x{n}.$some": 1 for n in range(MANY)},
    "wrong operators without end": {f"x{n}": {"lessThn": 1} for n in range(MANY)},
    "operators without end": {"x": {f"lessThn{n}": 1 for n in range(MANY)}},
    "wrong matches without end": {f"x{n}.$": {"match": {}} for n in range(MANY)},
    "wrong changes without end": {f"items.$.x{n}": {"changed": True} for n in range(MANY)},
    "a group without end": {"any": [{"x": 1}] * MANY},
    "a path without end": {"a." * MANY: 1},
    "a version without end": {"x": {"versionAtLeast": "1." * MANY}},
    "a time without end": {"x": {"before": "now" + "-1d" * MANY}},
}


@pytest.mark.parametrize("conditions", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_condition_is_refused_with_few_words(conditions: Any) -> None:
    found = problems_of(conditions)

    assert 0 < len(found) <= PROBLEMS_MAX
    assert all(len(f"{problem.message}{problem.hint}") < 1_000 for problem in found)


@pytest.mark.parametrize(
    ("within", "beyond"),
    [
        (nested(8), nested(9)),
        ({f"x{n}": 1 for n in range(64)}, {f"x{n}": 1 for n in range(65)}),
        ({"x": {"in": list(range(1_000))}}, {"x": {"in": list(range(1_001))}}),
        ({"x": list(range(1_000))}, {"x": list(range(1_001))}),
        ({"x": {"matches": "a" * 256}}, {"x": {"matches": "a" * 257}}),
        ({".".join("abcdefghij"): 1}, {".".join("abcdefghijk"): 1}),
        ({"items.$": {"match": {f"x{n}": 1 for n in range(64)}}},
         {"items.$": {"match": {f"x{n}": 1 for n in range(65)}}}),
        ({f"x{n}": {"contains": "a", "ignoreCase": True} for n in range(64)},
         {f"x{n}": {"contains": "a", "ignoreCase": True} for n in range(65)}),
        ({f"x{n}": {"percent": [0, 1], "salt": "s"} for n in range(64)},
         {f"x{n}": {"atLeast": 0, "atMost": 1} for n in range(33)}),
    ],
    ids=["levels", "comparisons", "in", "plain list", "regular expression", "segments", "match", "switches", "modifiers"],
)  # fmt: skip
def test_a_limit_is_met_exactly(within: Any, beyond: Any) -> None:
    assert problems_of(within) == []
    assert len(problems_of(beyond)) == 1


def test_unknown_fields_without_end_are_told_once() -> None:
    definition = Definition({f"conditionz{n}": 1 for n in range(MANY)}, "", Problems())

    definition.take("conditions")
    definition.refuse_misspelt()
    definition.refuse_rest()

    assert [problem.message for problem in definition.problems.found] == [
        "more than 100 unknown fields"
    ] * 2


def test_a_word_is_not_compared_with_names_without_end() -> None:
    assert suggestion("vips", ["vip"]) == "did you mean vip?"
    assert (
        suggestion("vips", [f"vip{n}" for n in range(MANY)]) == "none of the 20000 that are known"
    )


def test_conditions_on_items_have_the_same_limit() -> None:
    problems = Problems()

    parse_item_conditions({f"x{n}": 1 for n in range(65)}, "match", problems)

    assert [problem.message for problem in problems.found] == ["more than 64 comparisons"]
