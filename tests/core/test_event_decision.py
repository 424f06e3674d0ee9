from __future__ import annotations

from typing import Any

import pytest

from tagstitch.core.event import Event
from tagstitch.core.event_decision import EventDecision
from tagstitch.core.profile import Profile
from tagstitch.core.rule_book import EMPTY_RULE_BOOK, RuleBook, compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tests.core.deciding import decide_event


def book(**rules: dict[str, Any]) -> RuleBook:
    made = compile_rule_book(
        RuleDefinitions({i: {"target_event_name": "e", **r} for i, r in rules.items()})
    )
    assert made.broken == ()
    return made


def event(**parameters: Any) -> Event:
    return Event("e", {"event_name": "e", **parameters})


def setting(parameter: str, operand: object) -> dict[str, Any]:
    details = {"parameter": parameter, "operator": "set", "operand": operand}
    return {"match_all": True, "action_type": "modify_parameter", "action_details": details}


class Explosive(dict[str, Any]):
    """A value that cannot be looked into, as no real one is."""

    def get(self, *_: object) -> Any:
        raise RuntimeError("canary@example.net")


def test_without_rules_the_event_leaves_as_it_came() -> None:
    arrived = event(value=1, nested={"a": [1]})

    decision = decide_event(arrived, EMPTY_RULE_BOOK, None)

    assert EventDecision() == decision
    assert arrived.parameters == decision.apply_to(arrived)


def test_the_event_itself_is_never_changed() -> None:
    nested = {"list": [{"a": 1}, {"a": 2}], "b": 1}
    arrived = event(nested=nested)

    decision = decide_event(arrived, book(r=setting("nested.list.0.a", 9)), None)

    assert decision.set == {"nested": {"list": [{"a": 9}, {"a": 2}], "b": 1}}
    assert nested == {"list": [{"a": 1}, {"a": 2}], "b": 1}
    assert decision.set["nested"]["list"][1] is nested["list"][1]  # type: ignore[index]


def test_a_value_changed_back_is_listed_but_not_set() -> None:
    decision = decide_event(event(a=1), book(r1=setting("a", 2), r2=setting("a", 1)), None)

    assert [(m["rule_id"], m["old_value"], m["new_value"]) for m in decision.modifications] == [
        ("r1", 1, 2),
        ("r2", 2, 1),
    ]
    assert decision.set == {}


def test_a_name_changed_back_is_no_rename() -> None:
    def rename(name: str) -> dict[str, Any]:
        details = {"new_event_name": name}
        return {"match_all": True, "action_type": "rename_event", "action_details": details}

    decision = decide_event(event(), book(r1=rename("x"), r2=rename("e")), None)

    assert decision.rename is None
    assert decision.set == {}
    assert len(decision.modifications) == 2


def test_a_rule_that_raises_is_skipped_and_the_others_run() -> None:
    bomb = {**setting("a", 1), "conditions": {"odd.x.y": 1}}

    decision = decide_event(event(odd=Explosive(x=1)), book(bomb=bomb, good=setting("b", 2)), None)

    assert decision.set == {"b": 2}
    assert [(s.rule_id, s.error) for s in decision.skipped] == [("bomb", "RuntimeError")]
    assert "canary" not in repr(decision)


def test_an_action_that_raises_is_skipped_and_the_others_run() -> None:
    huge = {"parameter": "a", "operator": "multiply", "operand": 10}
    rule = {
        "match_all": True,
        "actions": [{"type": "modify_parameter", **huge}, {"type": "modify_parameter",
                    "parameter": "b", "operator": "set", "operand": 2}],
    }  # fmt: skip

    decision = decide_event(event(a=1e15), book(r=rule), None)

    assert decision.set == {"b": 2}
    assert [(s.rule_id, s.error) for s in decision.skipped] == [("r", "ResultOutOfRange")]


@pytest.mark.parametrize(
    ("rules", "reasons"),
    [
        ({"a": {**setting("x", 1), "conditions": {"v": 2}}}, ["CONDITIONS_NOT_MET"]),
        ({"a": {**setting("x", 1), "conditions": {"user_state.v": 2}}}, ["UNAVAILABLE"]),
        ({"a": {**setting("x", 1), "conditions": {"odd.x.y": 2}}}, ["ERROR"]),
        ({"a": {**setting("x", 1), "stop_on_match": True}, "b": setting("x", 2)},
         ["MATCHED", "STOPPED"]),
        ({"a": {"match_all": True, "action_type": "drop_event"}, "b": setting("x", 2)},
         ["MATCHED", "EVENT_DROPPED"]),
    ],
)  # fmt: skip
def test_a_trace_says_why_each_rule_did_or_did_not_apply(
    rules: dict[str, dict[str, Any]], reasons: list[str]
) -> None:
    arrived, unavailable = event(v=1, odd=Explosive()), frozenset(("state",))

    decision = decide_event(
        arrived, book(**rules), Profile("p_1"), unavailable=unavailable, explain=True
    )

    assert reasons == [line["reason"] for line in decision.trace]
    assert list(rules) == [line["rule_id"] for line in decision.trace]
    assert decision.trace[0]["applied"] is (reasons[0] == "MATCHED")


def test_there_is_no_trace_unless_asked_for() -> None:
    assert decide_event(event(), book(r=setting("a", 1)), None).trace == ()


def test_a_whole_event_keeps_the_order_of_its_parameters() -> None:
    arrived = event(a=1, b=2, c=3)
    delete = {"parameter": "b", "operator": "delete"}
    rule = {"match_all": True, "action_type": "modify_parameter", "action_details": delete}

    payload = decide_event(arrived, book(r1=rule, r2=setting("a", 9)), None).apply_to(arrived)

    assert list(payload.items()) == [("event_name", "e"), ("a", 9), ("c", 3)]


def test_a_trace_tells_of_a_thousand_rules_and_of_those_that_were_asked_first() -> None:
    others = {f"a{n:05d}": {**setting("x", 1), "match_all": False, "conditions": {"no": n}} for n in range(1_200)}  # fmt: skip
    met = {**setting("x", 2), "match_all": False, "conditions": {"v": 2}}

    decision = decide_event(event(v=2), book(**others, z=met), None, explain=True)

    assert decision.rule_ids == ("z",)
    assert len(decision.trace) == 1_000
    assert decision.trace[-1]["rule_id"] == "z"
