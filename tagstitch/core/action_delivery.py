"""What becomes of an outbox entry of an action, and why: asked at the moment of sending."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from tagstitch.core.audit import AuditRecord
from tagstitch.core.consent import ANALYTICS_STORAGE, Consent, Purpose

ActionOutcome = Literal["delivered", "suppressed", "expired", "rejected", "dead_letter"]
"""How an entry ends; each ends once (a dead letter that is replayed once more)."""

ActionReason = Literal[
    "SENT",
    "INBOX",
    "CONSENT_DENIED",
    "ERASED",
    "NO_PROFILE",
    "TOO_LATE",
    "NO_RECIPIENT",
    "NO_EXTERNAL_ID",
    "UNUSABLE_VALUE",
    "NO_DESTINATION",
    "DISABLED",
    "REFUSED",
    "OUTCOME_UNKNOWN",
]


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of one entry."""

    outcome: ActionOutcome
    reason: ActionReason
    destination: str | None = None
    status: int | None = None
    """Of the answer, where there was one."""
    consent: Mapping[str, Any] | None = None
    is_attempt: bool = False
    """Whether it was sent, or may have been."""


def denied_purposes(action: Mapping[str, Any], consent: Consent) -> tuple[Purpose, ...]:
    """Return the purposes of an entry's action that the profile does not allow now.

    Looking at the profile needs one too. What needed a grant on record needs it still.
    """
    has = consent.has_recorded_grant if action["needs_recorded_grant"] else consent.allows
    others = (ANALYTICS_STORAGE, *action.get("rule_purposes", ()))
    return (
        *(purpose for purpose in action["purposes"] if not has(purpose)),
        *(purpose for purpose in others if not consent.allows(purpose)),
    )


def action_record(
    outbox_id: str, fields: Mapping[str, Any], ending: Ending, *, now: datetime
) -> AuditRecord:
    """Return the record of an entry's end; its id is the same however often it is made."""
    action = fields["action"]
    replays = fields.get("replays", 0)
    extra = {
        "type": action["type"],
        "action_key": action["action_key"],
        "destination": ending.destination,
        "reason": ending.reason,
        "status": ending.status,
        "attempts": fields["attempts"] + ending.is_attempt,
    }
    return AuditRecord(
        record_id=f"action_{outbox_id}_{int(fields['created_at'].timestamp())}"
        + (f":{replays}" if replays else ""),
        record_type="action_delivery",
        occurred_at=now,
        outcome=ending.outcome,
        decision_id=fields["decision_id"],
        subject=None if ending.reason == "ERASED" else fields["subject"],
        event_name=fields["event_name"],
        rule_ids=(action["rule_id"],),
        rules_version=fields["rules_version"],
        consent=ending.consent,
        latency_ms=(now - fields["created_at"]).total_seconds() * 1000,
        extra={name: value for name, value in extra.items() if value is not None},
    )
