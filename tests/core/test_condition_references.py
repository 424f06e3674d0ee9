"""Conditions that refer to something else: the profile as it was, audiences, experiments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tagstitch.core.audience import parse_audience
from tagstitch.core.condition import Condition
from tagstitch.core.declarations import Declarations
from tagstitch.core.errors import InvalidRule, Problem
from tagstitch.core.paths import Facts, Source
from tagstitch.core.rule_book import compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tests.core.conditions import compiled, problems_of

AUDIENCES: Mapping[str, Condition] = {
    name: parse_audience(name, {"conditions": conditions})
    for name, conditions in {
        "vip": {"tier": "Gold"},
        "buyers": {"profile.orders": {"atLeast": 1}, "segments.$": "shop"},
        "unseen": {"user_state.seen": {"notEquals": True}},
        "large": {f"attribute_{n}": 1 for n in range(40)},
    }.items()
}
DECLARED = Declarations(
    protected=frozenset(("city",)),
    audiences=AUDIENCES,
    experiments={"exp1": frozenset(("a", "b")), "exp.2": frozenset(("on",))},
)
GOLD = {"tier": "Gold"}
BUYER = {"orders": 2, "segments": ["shop"]}


def holds(
    conditions: object, event: Mapping[str, Any], profile: Mapping[str, Any], **more: Any
) -> bool:
    return compiled(conditions, DECLARED).holds(Facts(event, profile, **more))


def problems(conditions: object) -> list[Problem]:
    return problems_of(conditions, DECLARED)


@pytest.mark.parametrize(
    ("event", "profile", "is_changed", "is_unchanged"),
    [
        ({"size": 5}, {"size": 6}, True, False),
        ({"size": 5}, {"size": "5"}, True, False),
        ({"size": 5}, {"size": 5.0}, False, True),
        ({"size": [1]}, {"size": [1]}, False, True),
        ({"size": 5}, {}, True, False),
        ({"size": False}, {}, True, False),
        ({}, {"size": 5}, False, False),
        ({"size": None}, {"size": 5}, False, False),
        ({}, {}, False, False),
    ],
)
def test_changed_compares_the_event_with_the_profile(
    event: dict[str, Any], profile: dict[str, Any], *, is_changed: bool, is_unchanged: bool
) -> None:
    for path in ("size", "event.size"):
        assert holds({path: {"changed": True}}, event, profile) == is_changed
        assert holds({path: {"changed": False}}, event, profile) == is_unchanged
        assert holds({path: {"notChanged": True}}, event, profile) != is_changed
        assert holds({path: {"not_changed": False}}, event, profile) != is_unchanged


def test_changed_finds_both_values_by_the_same_path() -> None:
    conditions = {"event.address.city": {"changed": True, "exists": True}}

    assert holds(conditions, {"address": {"city": "Graz"}}, {"address": {"city": "Wien"}})
    assert not holds(conditions, {"address.city": "Graz"}, {"address": {"city": "Graz"}})


def test_changed_needs_the_profile_only_when_the_event_has_the_value() -> None:
    condition = compiled({"size": {"changed": True}})
    without_profile: frozenset[Source] = frozenset(("profile",))

    assert condition.reads == {"event", "profile"}
    assert condition.is_lacking(Facts({"size": 5}), without_profile)
    assert not condition.is_lacking(Facts({}), without_profile)
    assert not condition.is_lacking(Facts({"size": 5}), frozenset(("user_state",)))


@pytest.mark.parametrize(
    "conditions",
    [
        {"profile.size": {"changed": True}},
        {"user_state.size": {"changed": True}},
        {"experiment.exp1": {"changed": True}},
        {"city": {"changed": True}},
        {"items.$.x": {"changed": True}},
        {"items.$": {"match": {"x": {"changed": True}}}},
    ],
    ids=str,
)
def test_changed_stands_behind_a_parameter_of_the_event(conditions: object) -> None:
    (problem,) = problems(conditions)

    assert problem.path.endswith(".changed")
    assert "event.city" in (problem.hint or "")


@pytest.mark.parametrize(
    ("conditions", "profile", "is_met"),
    [
        ({"profile": {"inAudience": "vip"}}, GOLD, True),
        ({"profile": {"in_audience": "vip"}}, {"tier": "Silver"}, False),
        ({"profile": {"inAudience": "vip"}}, {}, False),
        ({"profile": {"notInAudience": "vip"}}, GOLD, False),
        ({"profile": {"not_in_audience": "vip"}}, {}, True),
        ({"profile": {"inAudience": ["vip", "buyers"]}}, BUYER, True),
        ({"profile": {"inAudience": ["vip", "buyers"]}}, {"orders": 2}, False),
        ({"profile": {"notInAudience": ["vip", "buyers"]}}, BUYER, False),
        ({"profile": {"notInAudience": ["vip", "buyers"]}}, {"orders": 2}, True),
        ({"profile": {"inAudience": "buyers", "notInAudience": "vip"}}, BUYER, True),
        ({"profile": {"inAudience": "buyers", "notInAudience": "vip"}}, {**BUYER, **GOLD}, False),
        ({"any": [{"profile": {"inAudience": "vip"}}, {"x": 1}]}, GOLD, True),
        ({"none": [{"profile": {"inAudience": "vip"}}]}, GOLD, False),
    ],
)
def test_a_profile_belongs_to_an_audience_or_not(
    conditions: object, profile: dict[str, Any], *, is_met: bool
) -> None:
    assert holds(conditions, {}, profile) == is_met


def test_an_audience_never_looks_at_the_event() -> None:
    condition = compiled({"profile": {"inAudience": "vip"}}, DECLARED)

    assert not condition.holds(Facts(GOLD, {}))
    assert condition.reads == {"profile"}


def test_an_audience_may_look_at_the_state() -> None:
    condition = compiled({"profile": {"inAudience": "unseen"}}, DECLARED)

    assert condition.holds(Facts({}, {}, {}))
    assert not condition.holds(Facts({}, {}, {"seen": True}))
    assert condition.reads == {"user_state"}


def test_an_explanation_says_which_audience_a_comparison_belongs_to() -> None:
    lines = compiled({"profile": {"inAudience": "vip"}}, DECLARED).explain(
        Facts({}, GOLD), frozenset()
    )

    assert [(line["path"], line["where"], line["result"]) for line in lines] == [
        ("tier", "audiences.vip.conditions.tier", True)
    ]


@pytest.mark.parametrize(
    ("conditions", "path", "words"),
    [
        ({"profile": {"inAudience": "vips"}}, "profile.inAudience", "did you mean vip?"),
        ({"profile": {"inAudience": []}}, "profile.inAudience", "list of ids"),
        ({"profile": {"inAudience": 5}}, "profile.inAudience", "list of ids"),
        ({"profile": {"inAudience": None}}, "profile.inAudience", "list of ids"),
        ({"profile": {"inAudience": [["vip"]]}}, "profile.inAudience", "list of ids"),
        ({"profile": {}}, "profile", "inAudience: vip"),
        ({"profile": {"exists": True}}, "profile", "event.profile"),
        ({"profile": "Gold"}, "profile", "event.profile"),
        ({"visitor": {"inAudience": "vip"}}, "visitor.inAudience", "behind profile"),
        ({"profile.tier": {"inAudience": "vip"}}, "profile.tier.inAudience", "behind profile"),
    ],
)
def test_an_audience_stands_behind_profile_and_is_declared(
    conditions: object, path: str, words: str
) -> None:
    (problem,) = problems(conditions)

    assert problem.path == f"conditions.{path}"
    assert words in f"{problem.message} {problem.hint}"


def test_the_comparisons_of_audiences_count_as_the_rule_s_own() -> None:
    one, two = {"profile": {"inAudience": "large"}}, {"profile": {"inAudience": ["large"] * 2}}

    assert problems(one) == []
    assert [problem.message for problem in problems(two)] == ["more than 64 comparisons"]


@pytest.mark.parametrize(
    ("audience", "path"),
    [
        ({"conditions": {"event.value": 1}}, "conditions.event.value"),
        ({"conditions": {"experiment.exp1": "a"}}, "conditions.experiment.exp1"),
        ({"conditions": {"profile": {"inAudience": "vip"}}}, "conditions.profile"),
        ({"conditions": {"tier": {"changed": True}}}, "conditions.tier.changed"),
        ({"conditions": {"tier": {"lessThn": 1}}}, "conditions.tier.lessThn"),
        ({"conditions": {}}, "conditions"),
        ({"conditions": []}, "conditions"),
        ({}, "conditions"),
        ({"condition": {"tier": 1}, "conditions": {"tier": 1}}, "condition"),
        ("vip", ""),
        (None, ""),
    ],
    ids=str,
)
def test_a_broken_audience_is_refused_with_its_place(audience: Any, path: str) -> None:
    with pytest.raises(InvalidRule) as refused:
        parse_audience("vip", audience)

    assert [problem.path for problem in refused.value.problems] == [path]


def test_a_rule_book_leaves_out_broken_audiences_and_the_rules_that_name_them() -> None:
    rule = {"target_event_name": "purchase", "action_type": "drop_event"}

    book = compile_rule_book(
        RuleDefinitions(
            event_rules={
                "good": {**rule, "conditions": {"profile": {"inAudience": "vip"}}},
                "bad": {**rule, "conditions": {"profile": {"notInAudience": "broken"}}},
            },
            audiences={"vip": {"conditions": GOLD}, "broken": {"conditions": {"x": {}}}},
        )
    )

    assert [(b.kind, b.rule_id, b.collection) for b in book.broken] == [
        ("audience", "broken", "audiences"),
        ("event", "bad", "event_rules"),
    ]
    assert book.count == 1


@pytest.mark.parametrize(
    ("conditions", "is_met"),
    [
        ({"experiment.exp1": "a"}, True),
        ({"experiment.exp1": ["a", "b"]}, True),
        ({"experiment.exp1": {"notEquals": "b"}}, True),
        ({"experiment.exp.2": {"exists": False}}, True),
        ({'experiment["exp.2"]': None}, True),
        ({"experiment.exp1": "b"}, False),
        ({"experiment.exp.2": "on"}, False),
    ],
    ids=str,
)
def test_a_condition_may_ask_for_the_variant(conditions: object, *, is_met: bool) -> None:
    assert holds(conditions, {"exp1": "b"}, {}, experiments={"exp1": "a"}) == is_met
    assert compiled(conditions, DECLARED).reads == {"experiment"}


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ({"experiment.exp11": "a"}, "unknown experiment did you mean exp1?"),
        ({"experiment.exp1.x": "a"}, "unknown experiment"),
        ({"experiment.exp1.$": "a"}, "unknown experiment"),
        ({"experiment.exp1": "c"}, "unknown variant known: a, b"),
        ({"experiment.exp1": {"notEquals": "c"}}, "unknown variant"),
        ({"experiment.exp1": ["a", "c"]}, "unknown variant"),
        ({"experiment.exp1": {"noneOf": [1]}}, "unknown variant"),
        ({"experiment.exp1": {"equals": ["a"]}}, "unknown variant"),
    ],
    ids=str,
)
def test_an_experiment_and_its_variants_are_declared(conditions: object, words: str) -> None:
    assert words in " ".join(f"{found.message} {found.hint}" for found in problems(conditions))
