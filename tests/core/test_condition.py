from __future__ import annotations

from typing import Any

import pytest

from tagstitch.core.condition import parse_conditions
from tagstitch.core.declarations import Declarations
from tagstitch.core.paths import Facts
from tagstitch.core.problems import Problems
from tests.core.conditions import EVENT, PROFILE, compiled, holds, problems_of

TRUE: list[Any] = [
    # equality
    {"value": 7.5}, {"count": 3.0}, {"count": {"equals": 3}}, {"flag": False}, {"empty": ""},
    {"nothing": None}, {"missing": {"equals": None}}, {"value": {"notEquals": 8}},
    {"missing": {"notEquals": 8}}, {"count": [1, 2, 3]}, {"count": {"in": [3.0]}},
    {"missing": {"notIn": [1]}}, {"odd": {"notIn": [1]}}, {"one": {"not_equals": True}},
    {"flag": {"notIn": [0]}}, {"odd.a": {"equals": {"b": 1}}}, {"tags": {"equals": ["a", "b", None]}},
    # order
    {"value": {"lessThan": 10}}, {"value": {"less_than": 10}}, {"count": {"atMost": 3}},
    {"count": {"at_least": 3, "atMost": 3}}, {"value": {"greaterThan": 7}},
    {"price_text": {"lessThan": 6}}, {"count": {"between": [3, 3]}}, {"missing": {"notBetween": [1, 2]}}, {"missing": {"not_lessThan": 1}},
    # presence
    {"flag": {"exists": True}}, {"empty": {"exists": True}}, {"nothing": {"exists": False}},
    {"missing": {"not_exists": True}}, {"flag": {"notExists": False}}, {"empty": {"isEmpty": True}},
    {"no_tags": {"isEmpty": True}}, {"missing": {"is_empty": True}}, {"flag": {"isEmpty": False}},
    {"count": {"not_is_empty": True}},
    # text
    {"name": {"contains": "mer"}}, {"name": {"startsWith": "Sum", "endsWith": "Sale"}},
    {"name": {"starts_with": "SUMMER", "ignoreCase": True}}, {"name": {"contains": "sale", "ignore_case": True}},
    {"name": {"matches": "^S.*e$"}}, {"name": {"matches": "sale$", "ignoreCase": True}},
    {"name": {"notContains": "winter"}}, {"tags": {"contains": "a"}}, {"tags": {"contains": "A", "ignoreCase": True}},
    # lists
    {"tags": ["b", "z"]}, {"profile.segments": {"anyOf": ["vip"]}}, {"segments": {"allOf": ["de", "vip"]}},
    {"segments": {"noneOf": ["fr"]}}, {"segments": {"size": 2}}, {"tags": {"size": {"atLeast": 3}}},
    {"no_tags": {"size": 0}}, {"missing": {"none_of": ["a"]}}, {"profile.scores": {"allOf": [2, True]}},
    # types
    {"count": {"type": "number"}}, {"flag": {"type": "boolean"}}, {"flag": {"notType": "number"}},
    {"odd": {"type": "object"}}, {"tags": {"type": "list"}},
    # paths
    {"gtm.start": 5}, {"_resolved.user_id": "u-1"}, {"odd.a.b": 1}, {"odd.list.0.x": 9},
    {"odd.list[0].x": 9}, {'a["b.c"]': "deep"}, {"a.b.c": "deeper"}, {"event.value": 7.5},
    {"event.event.name": "inner"}, {"tier": "from the event"}, {"profile.tier": "Gold"},
    {"lifetime_value": {"greaterThan": 500}}, {"profile.nested.deep.er": 1}, {"nested.deep.er": 1},
    {"user_state.shown": True}, {"user_state.gone": {"notEquals": True}}, {"event.tier": {"notEquals": "Gold"}},
    # elements
    {"items.$.stock": "out"}, {"items.$.price": {"lessThan": 10}}, {"items.$any.stock": {"notEquals": "out"}},
    {"items.$all.price": {"greaterThan": 0}}, {"items.$none.brand": "C"}, {"items.$count": 2},
    {"items.$count": {"between": [1, 2]}}, {"tags.$": "b"}, {"tags.$all": {"notEquals": "z"}},
    {"items.$": {"match": {"brand": "A", "price": {"lessThan": 10}}}}, {"items.$.tags": {"anyOf": ["x"]}},
    {"missing.$count": 0}, {"no_tags.$none": "a"}, {"missing.$none.x": 1}, {"segments.$": "vip"},
    {"items.$any.coupon": {"exists": False}}, {"items.1.stock": "out"},
    # groups
    {"any": [{"missing": 1}, {"count": 3}]}, {"all": [{"count": 3}, {"value": 7.5}]},
    {"none": [{"missing": 1}, {"count": 4}]}, {"none": [{"any": [{"count": 4}]}], "count": 3},
]  # fmt: skip

FALSE: list[Any] = [
    {"one": True}, {"flag": 0}, {"price_text": 5}, {"count": "3"}, {"missing": ""}, {"empty": None},
    {"missing": {"in": [1]}}, {"odd": {"in": [1]}}, {"one": {"in": [True]}}, {"count": {"notIn": [3]}},
    {"value": {"lessThan": 7.5}}, {"flag": {"lessThan": 1}}, {"name": {"lessThan": 1}},
    {"missing": {"lessThan": 1}}, {"missing": {"atMost": 0}}, {"tags": {"greaterThan": 0}},
    {"value": {"atLeast": 5, "lessThan": 7}}, {"nothing": {"exists": True}}, {"value": {"exists": False}},
    {"flag": {"isEmpty": True}}, {"missing": {"isEmpty": False}}, {"count": {"contains": "3"}},
    {"missing": {"contains": "a"}}, {"name": {"contains": "summer"}}, {"name": {"matches": "^ale"}},
    {"segments": {"allOf": ["de", "fr"]}}, {"missing": {"size": 0}}, {"name": {"size": 11}},
    {"nothing": {"type": "string"}}, {"odd.list.7.x": 9}, {"value.x": 7.5}, {"profile.value": 7.5},
    {"event.lifetime_value": 900}, {"tier": "Gold"}, {"user_state.tier": "Gold"}, {"state.shown": True},
    {"items.$.stock": "gone"}, {"missing.$all.x": 1}, {"no_tags.$all": {"exists": True}},
    {"no_tags.$": "a"}, {"odd.$.x": 1}, {"items.$all.price": {"greaterThan": 5}},
    {"items.$": {"match": {"brand": "A", "price": {"greaterThan": 10}}}}, {"items.$none.brand": "A"},
    {"any": [{"missing": 1}]}, {"all": [{"count": 3}, {"count": 4}]}, {"none": [{"count": 3}]},
    {"count": 3, "value": 8}, {"tags.$": {"exists": True}, "count": 4},
]  # fmt: skip


@pytest.mark.parametrize("conditions", TRUE, ids=str)
def test_it_holds(conditions: object) -> None:
    assert holds(conditions)


@pytest.mark.parametrize("conditions", FALSE, ids=str)
def test_it_does_not_hold(conditions: object) -> None:
    assert not holds(conditions)


@pytest.mark.parametrize(
    ("conditions", "path", "hint"),
    [
        ({"value": {"lessThn": 1}}, "conditions.value.lessThn", "did you mean lessThan?"),
        ({"value": {"lessthan": 1}}, "conditions.value.lessthan", "did you mean lessThan?"),
        ({"value": {"$regex": "x"}}, "conditions.value.$regex", "known: "),
        ({"value": {}}, "conditions.value", "exists: true"),
        ({"value": {"lessThan": "10"}}, "conditions.value.lessThan", "without quotes"),
        ({"value": {"lessThan": True}}, "conditions.value.lessThan", None),
        ({"value": {"lessThan": float("nan")}}, "conditions.value.lessThan", None),
        ({"value": {"equals": float("inf")}}, "conditions.value.equals", None),
        ({"value": {"between": [2, 1]}}, "conditions.value.between", None),
        ({"value": {"between": 2}}, "conditions.value.between", None),
        ({"value": []}, "conditions.value", None),
        ({"value": {"in": "abc"}}, "conditions.value.in", None),
        ({"value": {"in": [{"a": 1}]}}, "conditions.value.in[0]", None),
        ({"value": {"in": list(range(1001))}}, "conditions.value.in", None),
        ({"value": {"lessThan": None}}, "conditions.value.lessThan", "exists: false"),
        ({"value": {"exists": "yes"}}, "conditions.value.exists", None),
        ({"value": {"matches": "("}}, "conditions.value.matches", "RE2"),
        ({"value": {"matches": "(?=a)"}}, "conditions.value.matches", "RE2"),
        ({"value": {"matches": "a" * 257}}, "conditions.value.matches", None),
        ({"value": {"contains": ""}}, "conditions.value.contains", None),
        ({"value": {"equals": 1, "ignoreCase": True}}, "conditions.value.ignoreCase", None),
        ({"value": {"contains": "a", "ignoreCase": 1}}, "conditions.value.ignoreCase", None),
        ({"value": {"type": "str"}}, "conditions.value.type", "did you mean string?"),
        ({"value": {"size": {"lessThn": 1}}}, "conditions.value.size.lessThn", "lessThan"),
        ({"items.$.x": {"notEquals": 1}}, "conditions.items.$.x", "$none"),
        ({"items.$.x": {"exists": False}}, "conditions.items.$.x", "$none"),
        ({"items.$.x": None}, "conditions.items.$.x", "$none"),
        ({"items.$anny.x": 1}, "conditions.items.$anny.x", "did you mean $any?"),
        ({"$.x": 1}, "conditions.$.x", "items.$.x"),
        ({"items.$.tags.$": 1}, "conditions.items.$.tags.$", "items.$.x"),
        ({"items.$count.x": 1}, "conditions.items.$count.x", None),
        ({"items.$.x": {"match": {"a": 1}}}, "conditions.items.$.x.match", "items.$"),
        ({"items": {"match": {"a": 1}}}, "conditions.items.match", "items.$"),
        ({"items.$": {"match": {}}}, "conditions.items.$.match", None),
        ({"a..b": 1}, "conditions.a..b", None),
        ({".a": 1}, "conditions..a", None),
        ({"": 1}, "conditions.", None),
        ({".".join("abcdefghijk"): 1}, "conditions.a.b.c.d.e.f.g.h.i.j.k", None),
        ({"any": []}, "conditions.any", "event.any"),
        ({"any": 5}, "conditions.any", "event.any"),
        ({"none": [{}]}, "conditions.none[0]", None),
        ({"all": [{"any": [{"v": {"lt": 1}}]}]}, "conditions.all[0].any[0].v.lt", None),
        ([], "conditions", None),
        ("value < 10", "conditions", None),
        ({f"p{i}": 1 for i in range(65)}, "conditions", None),
    ],
)
def test_what_can_be_checked_is_refused_with_its_place(
    conditions: object, path: str, hint: str | None
) -> None:
    found = problems_of(conditions)

    assert [path] == [problem.path for problem in found]
    assert (hint or "") in (found[0].hint or "")


def test_groups_deeper_than_the_limit_are_refused() -> None:
    conditions: dict[str, Any] = {"a": 1}
    for _ in range(8):
        conditions = {"any": [conditions]}

    assert [p.message for p in problems_of(conditions)] == ["more than 8 levels of conditions"]


def test_all_problems_are_found_at_once() -> None:
    found = problems_of({"a": {"lessThn": 1}, "b": {"in": 3}, "items.$.x": {"notIn": [1]}})

    assert [problem.path for problem in found] == [
        "conditions.a.lessThn",
        "conditions.b.in",
        "conditions.items.$.x",
    ]


def test_problems_never_hold_a_value_of_the_rule() -> None:
    secret = "canary@example.net"

    found = problems_of({"a": {"lessThan": secret}, "b": {"type": secret}, "c": {"in": secret}})

    assert len(found) == 3
    assert all(secret not in str(problem) for problem in found)


@pytest.mark.parametrize(
    ("conditions", "reads"),
    [
        ({"event.value": 1}, {"event"}),
        ({"value": 1}, {"event", "profile"}),
        ({"profile.tier": 1}, {"profile"}),
        ({"user_state.x": 1, "event.y": 2}, {"user_state", "event"}),
        ({"any": [{"items.$.x": 1}, {"user_state.x": 1}]}, {"event", "profile", "user_state"}),
    ],
)
def test_a_condition_knows_what_it_reads(conditions: object, reads: set[str]) -> None:
    assert reads == compiled(conditions).reads


@pytest.mark.parametrize(
    ("conditions", "is_lacking"),
    [
        ({"value": 1}, False),
        ({"missing": 1}, True),
        ({"items.$.x": 1}, False),
        ({"missing.$.x": 1}, True),
        ({"profile.tier": 1}, True),
        ({"event.missing": 1}, False),
        ({"user_state.x": 1}, False),
    ],
)
def test_a_bare_name_needs_the_profile_only_when_the_event_lacks_it(
    conditions: object, *, is_lacking: bool
) -> None:
    facts = Facts(EVENT)

    assert is_lacking == compiled(conditions).is_lacking(facts, frozenset(("profile",)))


@pytest.mark.parametrize(
    ("conditions", "may_hold"),
    [
        ({"value": 7.5, "profile.tier": "Gold"}, True),
        ({"value": 8, "profile.tier": "Gold"}, False),
        ({"any": [{"value": 7.5}, {"profile.tier": "Gold"}]}, True),
        ({"any": [{"value": 8}, {"profile.tier": "Gold"}]}, True),
        ({"none": [{"value": 7.5}, {"profile.tier": "Gold"}]}, False),
        ({"none": [{"value": 8}, {"profile.tier": "Gold"}]}, True),
        ({"none": [{"value": 8}]}, True),
    ],
)
def test_what_is_unknown_may_hold_unless_the_rest_says_no(
    conditions: object, *, may_hold: bool
) -> None:
    condition = compiled(conditions)

    assert may_hold == condition.may_hold(Facts(EVENT), frozenset(("profile", "user_state")))


def test_a_protected_name_is_read_from_the_profile_alone() -> None:
    condition = compiled({"tier": "Gold"}, declared=Declarations(protected=frozenset(("tier",))))

    assert condition.holds(Facts({"tier": "Silver"}, {"tier": "Gold"}))
    assert not condition.holds(Facts({"tier": "Gold"}, {"tier": "Silver"}))
    assert {"profile"} == condition.reads


@pytest.mark.parametrize("path", ["crm.tier", "crm.tier.level", 'crm["tier"]', '["crm.tier"]'])
def test_a_protected_name_with_a_dot_is_protected_however_it_is_written(path: str) -> None:
    declared = Declarations(protected=frozenset(("crm.tier",)))

    assert {"profile"} == compiled({path: "Gold"}, declared=declared).reads
    assert "event" in compiled({"crm.other": "Gold"}, declared=declared).reads


def test_coercions_inside_of_a_match_are_counted() -> None:
    facts = Facts({"items": [{"price": "5.00"}, {"price": "7"}]})

    assert compiled({"items.$": {"match": {"price": {"greaterThan": 6}}}}).holds(facts)
    assert facts.coercions == 2


def test_coercions_are_counted() -> None:
    facts = Facts({"price": "5.00"})

    assert compiled({"price": {"atLeast": 5, "lessThan": 6}}).holds(facts)
    assert facts.coercions == 2


@pytest.mark.parametrize(
    "text", ["1e3", " 5", "5 ", "+5", "05", "0x5", "5.", ".5", "", "\u0665", "1" * 40]
)
def test_texts_that_are_not_canonical_numbers_are_none(text: str) -> None:
    assert not holds({"x": {"lessThan": 1e300}}, {"x": text})


def test_an_explanation_names_every_comparison() -> None:
    condition = compiled({
        "value": {"atLeast": 5, "lessThan": 7},
        "any": [{"items.$.brand": ["A"]}, {"profile.tier": "Gold"}],
        "items.$": {"match": {"brand": "A"}},
        "items.$count": {"greaterThan": 5},
    })  # fmt: skip

    lines = condition.explain(Facts(EVENT, PROFILE), frozenset(("profile",)))

    assert [
        ("value", "atLeast", 5, 7.5, True),
        ("value", "lessThan", 7, 7.5, False),
        ("items.$.brand", "in", ["A"], ["A", "B"], True),
        ("profile.tier", "equals", "Gold", None, None),
        ("items.$", "match", {"brand": "A"}, EVENT["items"], True),
        ("items.$count", "greaterThan", 5, 2, False),
    ] == [
        (line["path"], line["operator"], line["expected"], line["actual"], line["result"])
        for line in lines
    ]


def test_an_explanation_cuts_what_is_long() -> None:
    (line,) = compiled({"x": "y"}).explain(Facts({"x": "z" * 5000}), frozenset())

    assert len(line["actual"]) < 300


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("lessThen", "lessThan"), ("less_then", "lessThan"), ("equal", "equals"),
        (">=", "atLeast"), ("lte", "atMost"), ("greaterThanOrEqual", "atLeast"),
        ("oneOf", "in"), ("one_of", "in"), ("beginsWith", "startsWith"), ("regex", "matches"),
        ("isNotEmpty", "notIsEmpty"), ("not_equal", "notEquals"), ("startswith", "startsWith"),
    ],
)  # fmt: skip
def test_an_unknown_operator_gets_the_word_that_was_meant(word: str, meant: str) -> None:
    problems = Problems()
    parse_conditions({"a": {word: 1}}, "conditions", problems)

    [problem] = problems.found
    assert (problem.path, problem.hint) == (f"conditions.a.{word}", f"did you mean {meant}?")
