"""Gates as a trace tells them: enough to see why one is closed, and no value of the visitor's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tagstitch.core.cap_uses import read_times
from tagstitch.core.consent import ANALYTICS_STORAGE, Consent, Purpose
from tagstitch.core.frequency_cap import UseLimit, count_uses
from tagstitch.core.outbox_action import OutboxAction
from tagstitch.core.paths import Facts
from tagstitch.core.rollout import BY_VISITOR, Rollout
from tagstitch.core.rule import EventRule, PersonalizationRule, Rule
from tagstitch.core.rule_gates import missing_purposes
from tagstitch.core.schedule import Schedule
from tagstitch.core.situation import Situation
from tagstitch.core.state_ledger import StateLedger


def told_gates(
    rule: Rule, situation: Situation, facts: Facts, ledger: StateLedger
) -> dict[str, Any]:
    """Return every gate of the rule with its state; empty when it has none."""
    gates = rule.gates
    told: dict[str, Any] = {}
    purposes = gates.purposes
    if rule.remembers:
        told["needs_visitor"] = True
        purposes = tuple(dict.fromkeys((*purposes, ANALYTICS_STORAGE)))
    if purposes:
        told["purposes"] = told_purposes(purposes, situation.consent)
    if gates.schedule is not None:
        told["schedule"] = told_schedule(gates.schedule, situation.now)
    if gates.rollout is not None:
        told["rollout"] = _told_rollout(gates.rollout, situation, facts)
    if gates.frequency_cap is not None:
        told["frequency_cap"] = [
            _told_limit(limit, ledger, situation.now) for limit in gates.frequency_cap.limits
        ]
    if told and situation.unavailable:
        told["unavailable"] = sorted(situation.unavailable)
    return told


def told_purposes(purposes: Iterable[Purpose], consent: Consent) -> list[dict[str, Any]]:
    """Return each purpose, whether it is granted, and which source said so."""
    return [
        {"purpose": purpose, **said} for purpose, said in consent.to_record(*purposes).items()
        if purpose in purposes
    ]  # fmt: skip


def told_schedule(schedule: Schedule, now: float) -> dict[str, Any]:
    """Return when it is open, by the clock of its time zone, and whether it is now."""
    return {"open": schedule.is_open(now), **schedule.to_json()}


def _told_rollout(rollout: Rollout, situation: Situation, facts: Facts) -> dict[str, Any]:
    is_known = situation.subject is not None or rollout.by is not None
    return {
        "percent": round(rollout.share * 100, 2),
        "by": BY_VISITOR if rollout.by is None else rollout.by[0].text,
        "includes": rollout.includes(situation.subject, facts) if is_known else None,
    }


def _told_limit(limit: UseLimit, ledger: StateLedger, now: float) -> dict[str, Any]:
    """Return one limit and how often it was used; None when what is stored cannot be read."""
    times = read_times(ledger.caps, limit.key)
    used = None if times is None else count_uses(limit.window, times, now)
    return {**limit.to_json(), "used": used, "open": used is not None and used < limit.max_uses}


def told_withheld(
    rule: Rule, consent: Consent, facts: Facts, ledger: StateLedger
) -> list[Mapping[str, Any]]:
    """Return the actions that stay undone though the rule applies, and why."""
    if isinstance(rule, EventRule):
        return [
            _denied(action.type, missing)
            for action in rule.actions
            if (missing := missing_purposes(action, consent))
        ]
    if not isinstance(rule, PersonalizationRule):
        return []
    found: list[Mapping[str, Any]] = []
    for action in (*rule.actions, *rule.outbox_actions):
        type_ = action.type if isinstance(action, OutboxAction) else action.to_answer()["type"]
        if missing := missing_purposes(action, consent):
            found.append(_denied(type_, missing))
        elif isinstance(action, OutboxAction) and _was_sent(action, rule, facts, ledger):
            found.append({"type": type_, "reason": "SENT_BEFORE", "once_per": action.once_per})
    return found


def _denied(type_: str, missing: Iterable[Purpose]) -> Mapping[str, Any]:
    return {"type": type_, "reason": "CONSENT_DENIED", "missing": list(missing)}


def _was_sent(action: OutboxAction, rule: Rule, facts: Facts, ledger: StateLedger) -> bool:
    try:
        return ledger.was_sent(action.to_entry(facts, rule_id=rule.rule_id))
    except Exception:  # noqa: BLE001 - the decision skips such a rule, and says so
        return False
