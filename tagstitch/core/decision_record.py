"""Decision records: the audit rows of one decide call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tagstitch.core.assignment import Exposure
from tagstitch.core.audit import AuditRecord
from tagstitch.core.consent import Consent
from tagstitch.core.event import Event
from tagstitch.core.event_action import VALUE_FIELDS
from tagstitch.core.event_decision import EventDecision, SkippedRule
from tagstitch.core.personalization import PersonalizationDecision

_UNCOMMITTED: Final = ":uncommitted"
"""Ends the ids of records of a decision whose commit failed, as far as anybody knows. Should it
have been made all the same, the view `audit_deduplicated` shows the committed ones alone."""

_SKIPPED_TOLD_MAX: Final = 20
"""Skipped rules that one record or log line names; their number is told besides."""


@dataclass(frozen=True, slots=True)
class DecisionContext:
    """What both records of one decide call share."""

    decision_id: str
    request_id: str | None
    event: Event
    event_at: datetime
    occurred_at: datetime
    subject: str | None
    """Pseudonym of the visitor; None without consent or identifier."""
    consent: Consent
    rules_version: str | None
    degraded: tuple[str, ...]
    latency_ms: float
    audit_parameters: frozenset[str]
    """The parameters whose values may be recorded."""
    receipt: bytes | None = None
    """The sealed receipt; it goes with the first record of the call."""
    blocked_types: Sequence[str] = ()
    """The types of the event's identifiers that are blocked values; in the first record too."""
    held_types: Sequence[str] = ()
    """Those of identifiers in quarantine, where they left the event without a visitor."""
    is_uncommitted: bool = False
    """Whether the decision left out what could not be committed."""
    is_replayable: bool = True
    """Whether the receipt holds values; if not, its record says so where queries can count it."""

    def record_id(self, part: str) -> str:
        """Return the id of a record: the same however often the decision is recorded."""
        return f"{self.decision_id}:{part}" + (_UNCOMMITTED if self.is_uncommitted else "")


def event_decision_record(
    decision: EventDecision, context: DecisionContext, exposures: Sequence[Exposure] = ()
) -> AuditRecord:
    """Return the record of what happened to the event.

    `exposures` are those of a call that has no other record.
    """
    if decision.drop:
        outcome = "dropped"
    elif decision.modifications:
        outcome = "modified"
    else:
        outcome = "degraded" if context.degraded else "unchanged"
    return AuditRecord(
        record_id=context.record_id("event"),
        record_type="event_decision",
        occurred_at=context.occurred_at,
        event_at=context.event_at,
        outcome=outcome,
        request_id=context.request_id,
        decision_id=context.decision_id,
        subject=context.subject,
        event_name=context.event.name,
        resolved_event_name=None if decision.drop else decision.rename or context.event.name,
        rule_ids=tuple(decision.rule_ids),
        rules_version=context.rules_version,
        modifications=_recordable(decision.modifications, context.audit_parameters),
        consent=context.consent.to_record("analytics_storage"),
        degraded=context.degraded,
        latency_ms=context.latency_ms,
        receipt=context.receipt,
        extra=_told_shadow(decision, context)
        | _told_exposures(exposures)
        | _irregularities(decision)
        | _told_identity(context)
        | _told_unreplayable(context)
        or None,
    )


def personalization_record(
    decision: PersonalizationDecision,
    exposures: Sequence[Exposure],
    context: DecisionContext,
) -> AuditRecord:
    """Return the record of which actions were given, by rule and type, without their values."""
    matched = decision.reason == "MATCHED"
    return AuditRecord(
        record_id=context.record_id("personalization"),
        record_type="personalization_decision",
        occurred_at=context.occurred_at,
        event_at=context.event_at,
        outcome="personalized" if matched else decision.reason.lower(),
        request_id=context.request_id,
        decision_id=context.decision_id,
        subject=context.subject,
        event_name=context.event.name,
        rule_ids=tuple(decision.rule_ids),
        rules_version=context.rules_version,
        consent=context.consent.to_record("analytics_storage", "ad_personalization"),
        degraded=context.degraded,
        latency_ms=context.latency_ms,
        receipt=context.receipt,
        extra={
            "actions": [
                {"rule_id": action["rule_id"], "type": action["type"]}
                for action in decision.actions
            ],
            **_told_effects(decision, exposures),
            **_irregularities(decision),
            **_told_identity(context),
            **_told_unreplayable(context),
        },
    )


def _told_effects(
    decision: PersonalizationDecision, exposures: Sequence[Exposure]
) -> dict[str, Any]:
    """Return what else was decided, by rule and type, without values; nothing when nothing was."""
    told: dict[str, Any] = {
        "outbox": [{"rule_id": entry.rule_id, "type": entry.type} for entry in decision.outbox],
        "variants": dict(decision.variants),
        **_told_exposures(exposures),
        "shadow": list(decision.shadow),
    }
    return {name: value for name, value in told.items() if value}


def _told_identity(context: DecisionContext) -> dict[str, Any]:
    """Return which identifiers counted for nothing, by their types."""
    told = {"blocked_types": list(context.blocked_types), "held": list(context.held_types)}
    return {name: types for name, types in told.items() if types}


def _told_exposures(exposures: Sequence[Exposure]) -> dict[str, Any]:
    return {"exposures": [exposure.to_json() for exposure in exposures]} if exposures else {}


def _told_shadow(decision: EventDecision, context: DecisionContext) -> dict[str, Any]:
    """Return what shadow rules would have changed, with the values that may be recorded."""
    shadow = [
        {**rule, "modifications": _recordable(rule["modifications"], context.audit_parameters)}
        for rule in decision.shadow
    ]
    return {"shadow": shadow} if shadow else {}


def _told_unreplayable(context: DecisionContext) -> dict[str, Any]:
    """Return that nobody can replay the decision, on the record that has its receipt."""
    is_told = context.receipt is not None and not context.is_replayable
    return {"replayable": False} if is_told else {}


def told_skipped(skipped: Sequence[SkippedRule]) -> list[dict[str, str]]:
    """Return the first rules that raised, each with the class of its exception, never its text."""
    return [{"rule_id": rule.rule_id, "error": rule.error} for rule in skipped[:_SKIPPED_TOLD_MAX]]


def _irregularities(decision: EventDecision | PersonalizationDecision) -> dict[str, Any]:
    """Return what an operator should look into; empty for nearly every decision."""
    found: dict[str, Any] = {}
    if decision.skipped:
        found["skipped"] = told_skipped(decision.skipped)
        found["skipped_count"] = len(decision.skipped)
    if decision.cut_off_at is not None:
        found["cut_off_at"] = decision.cut_off_at
    if decision.coercions:
        found["coercions"] = decision.coercions
    return found


def _recordable(
    modifications: Iterable[Mapping[str, Any]], audit_parameters: frozenset[str]
) -> list[dict[str, Any]]:
    """Return the modifications without the values that the operator has not listed.

    What happened to single items are values of `items`; their number is always recorded.
    """
    recordable = []
    for modification in modifications:
        is_listed = modification.get("parameter") in audit_parameters
        record = {k: v for k, v in modification.items() if is_listed or k not in VALUE_FIELDS}
        for what in ("removed", "changed"):
            if f"{what}_items" in modification:
                record[f"{what}_count"] = len(modification[f"{what}_items"])
        recordable.append(record)
    return recordable
