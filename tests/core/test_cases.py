"""Runs every decision case of tests/cases: event, profile and rules -> wanted decision."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tagstitch.core.consent import resolve_consent
from tagstitch.core.event import parse_event
from tagstitch.core.profile import Profile
from tagstitch.core.rule_book import RuleBook, compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tests.core.deciding import decide_both, decide_event

CASES = Path(__file__).parent.parent / "cases"


def load(kind: str) -> Iterator[Any]:
    for file in sorted((CASES / kind).glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        for case in content["cases"]:
            yield pytest.param(content, case, id=f"{file.stem}: {case['name']}")


def book_of(content: dict[str, Any]) -> RuleBook:
    book = compile_rule_book(
        RuleDefinitions(content.get("event_rules", {}), content.get("personalization_rules", {}))
    )
    assert book.broken == ()
    return book


def profile_of(case: dict[str, Any]) -> Profile | None:
    return Profile("p_1", **case["profile"]) if "profile" in case else None


@pytest.mark.parametrize(("content", "case"), [*load("event")])
def test_an_event_is_decided_as_its_case_wants(
    content: dict[str, Any], case: dict[str, Any]
) -> None:
    event = parse_event(case["event"])
    unavailable = frozenset(case.get("unavailable", ()))

    decision = decide_event(event, book_of(content), profile_of(case), unavailable=unavailable)

    want = case["want"]
    got = {
        "drop": decision.drop,
        "rename": decision.rename,
        "set": dict(decision.set),
        "unset": list(decision.unset),
        "modifications": [dict(modification) for modification in decision.modifications],
        "coercions": decision.coercions,
        "skipped": [[skipped.rule_id, skipped.error] for skipped in decision.skipped],
    }
    nothing: dict[str, Any] = {"drop": False, "rename": None, "coercions": 0, "set": {}}
    nothing |= {"unset": [], "modifications": [], "skipped": []}
    assert {**nothing, **{key: want[key] for key in got if key in want}} == got
    if "rule_ids" in want:
        assert want["rule_ids"] == list(decision.rule_ids)
    if "payload" in want:
        assert want["payload"] == decision.apply_to(event)


@pytest.mark.parametrize(("content", "case"), [*load("personalization")])
def test_a_personalization_is_decided_as_its_case_wants(
    content: dict[str, Any], case: dict[str, Any]
) -> None:
    event, profile = parse_event(case["event"]), profile_of(case)
    consent = resolve_consent(
        requested=case.get("consent"),
        event=event,
        profile=profile,
        default_granted=case.get("default_granted", True),
    )

    situation = {
        "consent": consent,
        "unavailable": frozenset(case.get("unavailable", ())),
        "has_identifier": case.get("has_identifier", True),
    }
    decided = decide_both(event, book_of(content), profile, **situation)
    decision = decided.personalization
    assert decision is not None

    want = case["want"]
    got = {
        "reason": decision.reason,
        "actions": [dict(action) for action in decision.actions],
        "state_changes": dict(decided.changes.state),
    }
    assert {"actions": [], "state_changes": {}, **{k: want[k] for k in got if k in want}} == got
    if "actions_without_state" in want:
        left = decide_both(event, book_of(content), profile, can_commit=False, **situation)
        assert left.personalization is not None
        assert want["actions_without_state"] == [dict(a) for a in left.personalization.actions]
        assert not left.changes
