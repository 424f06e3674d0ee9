from __future__ import annotations

import json
from typing import Any

import pytest

from tagstitch.core.bucketing import bucket_of
from tagstitch.core.declarations import Declarations
from tagstitch.core.errors import InvalidRule
from tagstitch.core.event import Event
from tagstitch.core.event_action import EventAction
from tagstitch.core.event_decision import EventDecision
from tagstitch.core.limits import CHANGED_TEXT_CHARS_MAX, EVENT_WRITES_BYTES_MAX, JSON_DEPTH_MAX
from tagstitch.core.rule import parse_event_rule
from tagstitch.core.rule_book import compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.core.values import is_deeper
from tests.core.deciding import decide_event


def modify(parameter: str, operator: str, **details: Any) -> dict[str, Any]:
    return {"type": "modify_parameter", "parameter": parameter, "operator": operator, **details}


def map_items(item_property: str, operator: str, **details: Any) -> dict[str, Any]:
    return {"type": "map_items", "item_property": item_property, "operator": operator, **details}


def copy(origin: str, target: str) -> dict[str, Any]:
    return modify(target, "copy", **{"from": origin})


def rule(*actions: dict[str, Any]) -> dict[str, Any]:
    return {"target_event_name": "e", "match_all": True, "actions": list(actions)}


def action(written: dict[str, Any], declared: Declarations | None = None) -> EventAction:
    (parsed,) = parse_event_rule("r", rule(written), declared=declared or Declarations()).actions
    return parsed


def decide(parameters: dict[str, Any], *actions: dict[str, Any], rules: int = 1) -> EventDecision:
    definitions = {f"r{n:04}": rule(*actions) for n in range(rules)}
    book = compile_rule_book(RuleDefinitions(definitions))
    assert book.broken == ()
    return decide_event(Event("e", {"event_name": "e", **parameters}), book, None)


def texts(paths: tuple[Any, ...]) -> list[tuple[str, str]]:
    return [(path.root, path.text) for path in paths]


@pytest.mark.parametrize(
    ("written", "reads", "touches"),
    [
        ({"type": "rename_event", "new_event_name": "x"}, [], ["event_name"]),
        ({"type": "drop_event"}, [], []),
        ({"type": "redact", "parameters": ["a", "b.c"]}, [], ["a", "b.c"]),
        ({"type": "filter_items", "match": {"price": 1}}, [], ["items"]),
        ({"type": "sample", "percent": 1}, [("event", "client_id"), ("event", "user_id")], []),
        ({"type": "sample", "percent": 1, "by": "trait"}, [("profile", "trait")], []),
        (modify("a", "set", operand=1), [], ["a"]),
        (modify("a", "multiply", operand=1), [], ["a"]),
        (modify("a.b", "hash"), [], ["a.b"]),
        (copy("profile.x", "a"), [("profile", "profile.x")], ["a"]),
        (copy("trait", "a"), [("profile", "trait")], ["a"]),
        (modify("a", "template", template="${b}${b}$$${user_state.c}"),
         [("bare", "b"), ("user_state", "user_state.c")], ["a"]),
        (map_items("a", "copy", **{"from": "b"}), [], ["items"]),
        (map_items("a", "copy", **{"from": "event.b"}), [("event", "event.b")], ["items"]),
        (map_items("a", "template", template="${b}${profile.c}", match={"price": 1}),
         [("profile", "profile.c")], ["items"]),
    ],
)  # fmt: skip
def test_an_action_knows_what_it_reads_and_touches(
    written: dict[str, Any], reads: list[tuple[str, str]], touches: list[str]
) -> None:
    parsed = action(written, Declarations(protected=frozenset({"trait"})))

    assert texts(parsed.reads) == reads
    assert [path.text for path in parsed.touches] == touches


@pytest.mark.parametrize(
    ("fields", "purposes"),
    [
        ({}, ()),
        ({"purposes": "ad_storage"}, ("ad_storage",)),
        ({"purposes": ["a", "b", "a"]}, ("a", "b")),
        ({"consent": {"purpose": "a"}}, ("a",)),
        ({"consent": {"purposes": ["a", "b"]}}, ("a", "b")),
    ],
)
@pytest.mark.parametrize(
    "written",
    [
        {"type": "drop_event"}, {"type": "redact", "parameters": ["a"]},
        {"type": "rename_event", "new_event_name": "x"}, {"type": "sample", "percent": 1},
        {"type": "filter_items", "match": {"a": 1}}, modify("a", "lower"), map_items("a", "lower"),
    ],
)  # fmt: skip
def test_every_action_may_name_purposes(
    written: dict[str, Any], fields: dict[str, Any], purposes: tuple[str, ...]
) -> None:
    assert purposes == action({**written, **fields}).purposes


@pytest.mark.parametrize(
    ("written", "place", "text"),
    [
        (modify("a", "set", operand="x" * 20_000), "operand", "bytes"),
        (modify("a", "map"), "table", "is missing"),
        (modify("a", "map", table={}), "table", "1 to 1000 entries"),
        (modify("a", "map", table={"x": None}), "table[0]", "must not be null"),
        (modify("a", "map", table={5: 1, "5": 2}), "table[1]", "twice"),
        (modify("a", "map", table={(1,): 1}), "table[0]", "a key is text"),
        (modify("a", "map", table={str(n): "x" * 100 for n in range(900)}), "table", "bytes"),
        (modify("a", "map", table={"a": 1}, default=float("inf")), "default", "finite"),
        (modify("a", "regex_replace", pattern="(", replacement=""), "pattern", "regular"),
        (modify("a", "regex_replace", pattern="(?=a)", replacement=""), "pattern", "look-around"),
        (modify("a", "regex_replace", pattern="(a)", replacement=r"\2"), "replacement", "1 groups"),
        (modify("a", "regex_replace", pattern="a", replacement="\\"), "replacement", "backslash"),
        (modify("a", "regex_replace", pattern="a", replacement=r"\n"), "replacement", "backslash"),
        (modify("a", "template", template="$5"), "template", "$$ for a dollar"),
        (modify("a", "template", template="${a"), "template", "begins nothing"),
        (modify("a", "template", template="${}"), "template", "a path must be"),
        (modify("a", "template", template="${a..b}"), "template", "not a path"),
        (modify("a", "template", template="${items.$.id}"), "template", "one value"),
        (modify("a", "template", template="${a}" * 21), "template", "more than 20"),
        (modify("a", "lower", purposes=["a b"]), "purposes", "name of a purpose"),
        (modify("a", "lower", consent={}), "consent.purpose", "is missing"),
        (modify("a", "lower", consent={"purpose": "a"}, purposes="a"), "consent", "either"),
        (map_items("$.price", "delete"), "item_property", "one $"),
        (map_items("tags.$", "delete"), "item_property", "one parameter"),
        (map_items("price", "multiply", operand=1, match={}), "match", "at least one"),
        (map_items("price", "multiply", operand=1, match={"a": {"mor": 1}}), "match.a.mor",
         "unknown operator"),
        ({"type": "filter_items", "item_property": "tags.$", "operator": "notEquals",
          "operand": 1}, "operator", "two ways"),
        ({"type": "sample"}, "percent", "is missing"),
        ({"type": "sample", "percent": 101}, "percent", "0 to 100"),
        ({"type": "sample", "percent": True}, "percent", "must be a number"),
        ({"type": "sample", "percent": 1, "by": "items.$.id"}, "by", "one value"),
        ({"type": "sample", "percent": 1, "salt": ""}, "salt", "1 to 64"),
    ],
)  # fmt: skip
def test_an_action_is_refused_with_the_place(
    written: dict[str, Any], place: str, text: str
) -> None:
    with pytest.raises(InvalidRule) as refusal:
        action(written)

    problems = refusal.value.problems
    assert any(f"actions[0].{place}" == p.path and text in str(p) for p in problems), problems


def test_everything_that_is_wrong_is_told_at_once() -> None:
    written = map_items("x-ga-a", "template", template="$", match={"b": {"c": 1}}, purposes=[])

    with pytest.raises(InvalidRule) as refusal:
        action(written)

    places = {problem.path.removeprefix("actions[0].") for problem in refusal.value.problems}
    assert places == {"item_property", "template", "match.b.c", "purposes"}


@pytest.mark.parametrize(
    "path",
    ["x-ga-gcs", "X-Sst-system_properties", "a.x-ga-b", 'a["X-GA-b"]', "event.x-sst-c.d",
     "x-ga-gcs[0]"],
)  # fmt: skip
@pytest.mark.parametrize(
    "written",
    [
        {"type": "modify_parameter", "operator": "copy", "from": "a"},
        {"type": "modify_parameter", "operator": "hash"},
        {"type": "map_items", "operator": "set", "operand": 1},
        {"type": "redact"},
    ],
)
def test_nothing_of_google_is_touched(written: dict[str, Any], path: str) -> None:
    key = {"redact": "parameters", "map_items": "item_property"}.get(written["type"], "parameter")

    with pytest.raises(InvalidRule, match="belong to Google"):
        action({**written, key: path})


def test_a_value_of_google_may_be_copied_elsewhere() -> None:
    decision = decide({"x-ga-gcs": "G111"}, copy("x-ga-gcs", "consent"))

    assert decision.set == {"consent": "G111"}


def test_an_element_of_a_list_is_redacted_without_its_neighbours() -> None:
    decision = decide(
        {"a": ["x", "y"], "a.0": "x"}, {"type": "redact", "parameters": ["a.0", "b", "b.c"]}
    )

    assert decision.set == {"a": ["y"]}
    assert decision.unset == ("a.0",)
    assert decision.modifications == ({"rule_id": "r0000", "type": "redact", "parameter": "a.0"},)


def test_a_rename_keeps_the_name_that_arrived_and_no_other() -> None:
    names = [{"type": "rename_event", "new_event_name": name} for name in ("x", "y", "e", "z")]

    decision = decide({"_original_event_name": "forged"}, *names, rules=100)

    assert (decision.rename, decision.set) == ("z", {"_original_event_name": "e"})


def test_a_sample_keeps_the_share_that_it_names() -> None:
    written = {"type": "sample", "percent": 25, "salt": "s"}
    kept = [n for n in range(400) if not decide({"client_id": str(n)}, written).drop]

    assert kept == [n for n in range(400) if bucket_of(str(n), seed="s") < 0.25]
    assert 70 < len(kept) < 130


# --- what hostile rules and events come to


def size_of(decision: EventDecision) -> int:
    payload = [dict(decision.set), list(decision.modifications)]
    return len(json.dumps(payload, allow_nan=False))


def errors_of(decision: EventDecision) -> set[str]:
    return {skipped.error for skipped in decision.skipped}


@pytest.mark.parametrize("operand", [1e308, -1e308, 1e15, 5e-324])
def test_numbers_stay_finite_however_often_they_are_multiplied(operand: float) -> None:
    decision = decide({"n": 5, "value": "7.5"}, modify("n", "multiply", operand=operand),
                      modify("value", "multiply", operand=operand), rules=100)  # fmt: skip

    values = {"n": 5, "value": 7.5, **decision.set}
    assert all(abs(value) <= 1e15 for value in values.values())
    assert errors_of(decision) <= {"ResultOutOfRange"}


def test_a_template_that_doubles_itself_stays_bounded() -> None:
    doubling = modify("t", "template", template="${t}${t}")

    decision = decide({"t": "x" * 100}, *[doubling] * 20, rules=100)

    assert len(decision.set["t"]) <= CHANGED_TEXT_CHARS_MAX
    assert errors_of(decision) == {"ResultOutOfRange"}


def test_a_replacement_that_doubles_a_text_stays_bounded() -> None:
    growing = modify("t", "regex_replace", pattern=".*", replacement=r"\0\0")
    many = modify("u", "regex_replace", pattern="x*", replacement="y" * 256)

    decision = decide({"t": "x" * 100, "u": "y" * 10_000}, *[growing, many] * 10, rules=20)

    assert len(decision.set["t"]) <= CHANGED_TEXT_CHARS_MAX
    assert "u" not in decision.set
    assert errors_of(decision) == {"ResultOutOfRange"}


def test_an_event_that_is_copied_into_itself_stays_bounded() -> None:
    doubling = [copy("a", "a.left"), copy("a", "a.right"), copy("a", "b"), copy("b", "a.b")]

    decision = decide({"a": {"x": "y" * 100}, "b": {}}, *doubling * 5, rules=100)

    assert size_of(decision) < 4 * EVENT_WRITES_BYTES_MAX
    assert not is_deeper(decision.set, JSON_DEPTH_MAX)
    assert errors_of(decision) == {"ResultOutOfRange"}


def test_values_that_are_set_again_and_again_stay_bounded() -> None:
    large = [modify(f"p{n}", "set", operand=str(n % 2) * 16_000) for n in range(10)]

    decision = decide({}, *large, modify("p0", "delete"), rules=100)

    assert size_of(decision) < 4 * EVENT_WRITES_BYTES_MAX
    assert errors_of(decision) == {"ResultOutOfRange"}


def test_items_that_grow_stay_bounded() -> None:
    items = [{"item_id": str(n), "t": "x" * 100} for n in range(200)]
    doubling = map_items("t", "template", template="${t}${t}")

    decision = decide({"items": items}, *[doubling] * 10, rules=10)

    assert size_of(decision) < 4 * EVENT_WRITES_BYTES_MAX
    assert errors_of(decision) == {"ResultOutOfRange"}


def test_a_small_write_is_done_after_one_that_was_too_large() -> None:
    text = {"t": "x" * 900_000}

    decision = decide(text, copy("t", "u"), copy("t", "v"), modify("w", "set", operand=1))

    assert set(decision.set) == {"u", "w"}
    assert errors_of(decision) == {"ResultOutOfRange"}


def test_filters_cost_nothing_however_many_they_are() -> None:
    items = [{"item_id": str(n), "t": "x" * 1_000} for n in range(300)]
    filters = [{"type": "filter_items", "match": {"item_id": {"not_equals": str(n)}}}
               for n in range(20)]  # fmt: skip

    decision = decide({"items": items}, *filters)

    assert len(decision.set["items"]) == 280
    assert decision.skipped == ()
