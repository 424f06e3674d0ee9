"""Backtests: what is counted, and what is told of single events."""

from __future__ import annotations

from typing import Any

import pytest

from tagstitch.core.backtest import Backtest, unseen_paths
from tagstitch.core.decision import decide
from tagstitch.core.event import Event
from tagstitch.core.rule_book import RuleBook, compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tests.core.deciding import situation_of

HALF = {
    "target_event_name": "purchase",
    "conditions": {"value": {"atLeast": 10}},
    "action_type": "modify_parameter",
    "action_details": {"parameter": "value", "operator": "multiply", "operand": 0.5},
}
DROP = {**HALF, "action_type": "drop_event", "action_details": {}}
NOTE = {
    **HALF,
    "action_details": {"parameter": "note", "operator": "set", "operand": "SECRET"},
}
RENAME = {**HALF, "action_type": "rename_event", "action_details": {"new_event_name": "big"}}
COOKIE = {
    "event_name_trigger": "purchase",
    "conditions": {"value": {"atLeast": 10}},
    "action_type": "set_client_cookie",
    "action_details": {"cookie_name": "c", "cookie_value": "1"},
}
EVENTS: list[dict[str, Any]] = [
    {"value": 5, "tax": "1.50"},
    {"value": 10, "tax": True},
    {"value": 20.5, "note": "x"},
]


def book_of(personal: dict[str, Any] | None = None, **rules: Any) -> RuleBook:
    book = compile_rule_book(RuleDefinitions(rules, {"p": personal} if personal else {}))
    assert book.broken == ()
    return book


def report_of(old: RuleBook, new: RuleBook) -> dict[str, Any]:
    test = Backtest(frozenset({"value", "tax"}))
    for index, parameters in enumerate(EVENTS, start=1):
        event = Event("purchase", {"event_name": "purchase", **parameters})
        situation = situation_of(event)
        test.add(index, event, decide(situation, old), decide(situation, new))
    return test.to_json()


def test_the_same_rules_change_nothing() -> None:
    book = book_of(COOKIE, half=HALF)

    report = report_of(book, book)

    assert (report["events"], report["changed"], report["changed_percent"]) == (3, 0, 0.0)
    assert report["examples"] == []
    assert report["actions"] == {"set_cookie": {"before": 2, "after": 2}}


def test_a_rule_under_another_id_changes_nothing_but_its_tally() -> None:
    report = report_of(book_of(one=HALF), book_of(other=HALF))

    assert report["changed"] == 0
    assert report["rules"] == [
        {"kind": "event", "rule_id": "one", "before": 2, "after": 0, "only_before": 2, "only_after": 0},
        {"kind": "event", "rule_id": "other", "before": 0, "after": 2, "only_before": 0, "only_after": 2},
    ]  # fmt: skip


def test_values_are_summed_as_they_leave() -> None:
    report = report_of(book_of(), book_of(half=HALF))

    assert report["values"] == {
        "tax": {"before": 1.5, "after": 1.5},
        "value": {"before": 35.5, "after": 20.25},
    }
    assert report["counts"]["modified"] == {"before": 0, "after": 2}
    assert report["examples"][0] == {
        "event": 2,
        "event_name": "purchase",
        "parameters": {"value": {"before": 10, "after": 5}},
        "rules_only_before": [],
        "rules_only_after": ["half"],
    }


def test_what_is_dropped_adds_no_value() -> None:
    report = report_of(book_of(half=HALF), book_of(drop=DROP))

    assert report["values"]["value"] == {"before": 20.25, "after": 5}
    assert (report["newly_dropped"], report["counts"]["dropped"]) == (2, {"before": 0, "after": 2})
    assert report["examples"][0]["dropped"] == {"before": False, "after": True}
    assert report_of(book_of(drop=DROP), book_of())["newly_dropped"] == 0


def test_names_and_actions_that_differ_are_told() -> None:
    report = report_of(book_of(), book_of(COOKIE, rename=RENAME))

    assert report["counts"]["renamed"] == {"before": 0, "after": 2}
    assert report["counts"]["personalized"] == {"before": 0, "after": 2}
    example = report["examples"][0]
    assert example["renamed"] == {"before": "purchase", "after": "big"}
    assert example["actions"] == {"before": {}, "after": {"set_cookie": 1}}
    assert example["rules_only_after"] == ["p", "rename"]


def test_the_value_of_a_parameter_that_is_not_listed_is_not_told() -> None:
    report = report_of(book_of(), book_of(note=NOTE))

    assert report["examples"][0]["parameters"] == {"note": {}}
    assert "SECRET" not in str(report)


@pytest.mark.parametrize(
    ("old", "new", "unseen"),
    [
        ({"value": 1}, {"value": 2}, set()),
        ({"value": 1}, {"coupon": "x"}, {"coupon"}),
        ({"tier": 1}, {"profile.tier": 1, "event.tier": 2}, set()),
        ({"event.tier": 1}, {"tier": 1}, {"tier"}),
        ({"items": {"exists": True}}, {"items.$.price": 1}, set()),
        ({"items.$.price": 1}, {"items.$.brand": "A"}, {"items.$.brand"}),
        ({"value": 1}, {"event_name": "purchase"}, set()),
    ],
)
def test_what_old_receipts_may_lack(
    old: dict[str, Any], new: dict[str, Any], unseen: set[str]
) -> None:
    one, other = (book_of(r={**DROP, "conditions": conditions}) for conditions in (old, new))

    assert unseen_paths(one, other, "purchase") == unseen


def test_actions_may_look_at_what_old_receipts_lack() -> None:
    assert unseen_paths(book_of(r=HALF), book_of(r=NOTE), "purchase") == {"note"}
