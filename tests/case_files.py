"""The case files of tests/cases: what they hold, as situations and wanted decisions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from tagstitch.core.consent import resolve_consent
from tagstitch.core.decision import Decision, decide
from tagstitch.core.decision_record import (
    DecisionContext,
    event_decision_record,
    personalization_record,
)
from tagstitch.core.event import Event, parse_event
from tagstitch.core.frequency_cap import own_key
from tagstitch.core.profile import Profile, typed_profile
from tagstitch.core.rule_book import RuleBook, compile_rule_book
from tagstitch.core.rule_definitions import COLLECTIONS, RuleDefinitions
from tagstitch.core.situation import Situation
from tests.core.deciding import NOON, situation_of

CASES: Final = Path(__file__).parent / "cases"

_RECORDED_BY_DEFAULT: Final = ("value", "tax", "shipping", "currency")
_HELD: Final = "condition_held"

Fields = Mapping[str, Any]


def case_files() -> list[Path]:
    return sorted(CASES.glob("*/*.json"))


def cases_with(key: str) -> Iterator[Any]:
    """Yield every case with this key, completed by what its file says for all."""
    for file in case_files():
        content = json.loads(file.read_text(encoding="utf-8"))
        common = {name: value for name, value in content.items() if name not in ("about", "cases")}
        for case in content["cases"]:
            if key in case:
                yield pytest.param({**common, **case}, id=f"{file.stem}: {case['name']}")


def event_of(case: Fields) -> Event:
    return parse_event({"event_name": "purchase", **case.get("event", {})})


def definitions_of(case: Fields) -> RuleDefinitions:
    collections = {name: case.get(name, {}) for name in COLLECTIONS}
    return RuleDefinitions.of(collections, tuple(case.get("protected", ())))


def with_conditions(case: Fields) -> Fields:
    """Return the case with one rule that renames the event when its conditions hold."""
    want: dict[str, Any] = {"event": {"record": {"outcome": "unchanged"}}}
    if case["holds"]:
        name = event_of(case).name
        change = {"rule_id": "r", "type": "rename_event", "old_name": name, "new_name": _HELD}
        want["event"] = {
            "rename": _HELD,
            "set": {"_original_event_name": name},
            "modifications": [change],
            "record": {"outcome": "modified", "rule_ids": ["r"]},
        }
    if "coercions" in case:
        want["event"]["record"]["extra"] = {"coercions": case["coercions"]}
    return {**case, "event_rules": {"r": _renaming(case["conditions"])}, "want": want}


def _renaming(conditions: Fields) -> dict[str, Any]:
    return {
        "target_event_name": "*",
        "conditions": conditions,
        "action_type": "rename_event",
        "action_details": {"new_event_name": _HELD},
    }


def refused_places(case: Fields) -> list[str]:
    """Return where the problems are of the rule or experiment that the case wants refused."""
    given = {
        "event_rules": case.get("rule") or ("conditions" in case and _renaming(case["conditions"])),
        "personalization_rules": case.get("personalization_rule"),
        "experiments": case.get("experiment"),
    }
    suspects = {f"refused {name}": (name, raw) for name, raw in given.items() if raw}
    with_suspects = dict(case)
    for definition_id, (name, raw) in suspects.items():
        with_suspects[name] = {**case.get(name, {}), definition_id: raw}
    broken = compile_rule_book(definitions_of(with_suspects)).broken
    assert [rule.rule_id for rule in broken] == list(suspects)
    return [problem.path for rule in broken for problem in rule.problems]


def book_of(case: Fields) -> RuleBook:
    book = compile_rule_book(definitions_of(case))
    assert book.broken == ()
    return book


def situation_of_case(case: Fields) -> Situation:
    event, profile = event_of(case), _profile(case)
    consent = resolve_consent(
        requested=case.get("consent"),
        event=event,
        profile=profile,
        default_granted=case.get("consent_default") != "denied",
    )
    now = _seconds(case["now"]) if "now" in case else NOON
    fields = {k: case[k] for k in ("has_identifier", "can_commit") if k in case}
    unavailable = frozenset(case.get("unavailable", ()))
    if unavailable:
        fields["subject"] = None
    return situation_of(event, profile, consent=consent, now=now, unavailable=unavailable, **fields)


def decide_case(case: Fields, *, explain: bool = False) -> Decision:
    include = frozenset(case["want"].keys() - {"changes"})
    return decide(situation_of_case(case), book_of(case), include=include, explain=explain)


def records_of(case: Fields, decision: Decision) -> dict[str, dict[str, Any]]:
    """Return the part of each audit record that the decision determines."""
    situation = situation_of_case(case)
    degraded = ["profile"] if situation.unavailable else []
    moment = datetime.fromtimestamp(situation.now, UTC)
    context = DecisionContext(
        decision_id="d", request_id=None, event=situation.event, event_at=moment, occurred_at=moment,
        subject=None, consent=situation.consent, rules_version="v", latency_ms=0.0,
        degraded=(*degraded, "state") if decision.has_withheld else tuple(degraded),
        audit_parameters=frozenset(case.get("audit_parameters", _RECORDED_BY_DEFAULT)),
    )  # fmt: skip
    rows = {}
    if decision.event is not None:
        rows["event"] = event_decision_record(decision.event, context).to_row()
    if decision.personalization is not None:
        record = personalization_record(decision.personalization, decision.exposures, context)
        rows["personalization"] = record.to_row()
        for exposure in (rows["personalization"]["extra"] or {}).get("exposures", ()):
            del exposure["bucket"]
    told = ("outcome", "rule_ids", "modifications", "resolved_event_name", "extra")
    return {part: {name: row[name] for name in told} for part, row in rows.items()}


def wanted_event(case: Fields) -> dict[str, Any]:
    nothing: dict[str, Any] = {"drop": False, "rename": None, "set": {}, "unset": []}
    wanted = {k: v for k, v in case["want"]["event"].items() if k not in ("record", "leaves_as")}
    return {**nothing, "modifications": [], **wanted}


def wanted_event_record(case: Fields) -> dict[str, Any]:
    decision = wanted_event(case)
    name = None if decision["drop"] else decision["rename"] or event_of(case).name
    changes = decision["modifications"]
    default = {"rule_ids": _ids_in(changes), "modifications": changes, "extra": None}
    return {**default, "resolved_event_name": name, **case["want"]["event"]["record"]}


def wanted_personalization(case: Fields) -> dict[str, Any]:
    wanted = {k: v for k, v in case["want"]["personalization"].items() if k != "record"}
    return {"variants": {}, "actions": [], **wanted}


def wanted_personalization_record(case: Fields) -> dict[str, Any]:
    record = dict(case["want"]["personalization"]["record"])
    actions = wanted_personalization(case)["actions"]
    told = [{"rule_id": action["rule_id"], "type": action["type"]} for action in actions]
    extra = {"actions": told, **record.pop("extra", {})}
    default = {"rule_ids": _ids_in(actions), "modifications": None, "resolved_event_name": None}
    return {**default, "extra": extra, **record}


def wanted_changes(case: Fields) -> dict[str, Any]:
    nothing: dict[str, Any] = {"state": {}, "caps": {}, "assignments": {}, "outbox": []}
    wanted = {**nothing, **case["want"].get("changes", {})}
    return {**wanted, "caps": _stored_uses(wanted["caps"])}


def told_changes(case: Fields, decision: Decision) -> dict[str, Any]:
    """Return what is to be stored; of an assignment only the fields that the case names."""
    changes = decision.changes
    named = case["want"].get("changes", {}).get("assignments", {})
    return {
        "state": dict(changes.state),
        "caps": {key: list(times) for key, times in changes.caps.items()},
        "assignments": {
            key: {name: value for name, value in found.items() if name in named.get(key, found)}
            for key, found in changes.assignments.items()
        },
        "outbox": [entry.to_json() for entry in changes.outbox],
    }


def _ids_in(effects: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(effect["rule_id"] for effect in effects))


def _profile(case: Fields) -> Profile | None:
    if "profile" not in case and "subject" not in case:
        return None
    fields = {"attributes": {}, "identifiers": {}, **case.get("profile", {})}
    fields["caps"] = _stored_uses(fields.get("caps", {}))
    return typed_profile(case.get("subject", "p_1"), fields)


def _stored_uses(uses: Fields) -> dict[str, Any]:
    """Return the uses as a profile stores them; what is no list is unreadable there too."""
    return {
        _stored_key(key): list(map(_seconds, times)) if isinstance(times, list) else times
        for key, times in uses.items()
    }


def _stored_key(key: str) -> str:
    kind, _, name = key.partition(" ")
    if kind == "group":
        return f"g_{name}"
    return own_key(name if kind == "rule" else f"action:{name}")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
