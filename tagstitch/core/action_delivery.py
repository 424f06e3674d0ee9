"""What becomes of an outbox entry of an action, and why: asked at the moment of sending."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from tagstitch.core.audit import AuditRecord
from tagstitch.core.consent import ANALYTICS_STORAGE, Consent, Purpose, was_denied
from tagstitch.core.outbox_entry import OutboxEntry, ending_record_id
from tagstitch.core.profile import Profile

ActionOutcome = Literal["delivered", "suppressed", "expired", "rejected", "dead_letter"]
"""How an entry ends; each ends once (a dead letter that is replayed once more)."""

ActionReason = Literal[
    "SENT",
    "INBOX",
    "CONSENT_DENIED",
    "ERASED",
    "NO_PROFILE",
    "DUPLICATE",
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


def denied_purposes(
    fields: Mapping[str, Any], profile: Profile, consent: Consent
) -> tuple[Purpose, ...]:
    """Return the purposes of an entry that the visitor does not allow now.

    Looking at the profile needs one too. What needed a grant on record needs it still. What the
    decided event itself granted stands unless it was denied since: such grants are not recorded.
    """
    action = fields["action"]
    asked = dict.fromkeys((ANALYTICS_STORAGE, *fields["rule_purposes"]))
    denied = []
    if action["needs_recorded_grant"]:
        denied += [p for p in action["purposes"] if not consent.has_recorded_grant(p)]
    else:
        asked |= dict.fromkeys(action["purposes"])
    for purpose in asked:
        if purpose in fields["granted"]:
            is_denied = was_denied(profile, purpose, since=fields["created_at"])
        else:
            is_denied = not consent.allows(purpose)
        if is_denied:
            denied.append(purpose)
    return tuple(denied)


def granted_by_event(entry: OutboxEntry, consent: Consent) -> list[Purpose]:
    """Return the purposes of an entry that the current request or its event grants."""
    asked = {ANALYTICS_STORAGE, *entry.purposes, *entry.rule_purposes}
    return sorted(
        purpose
        for purpose in asked
        if consent.decided.get(purpose) and consent.sources[purpose] in ("request", "event")
    )


def action_record(
    outbox_id: str, fields: Mapping[str, Any], ending: Ending, *, now: datetime
) -> AuditRecord:
    """Return the record of an entry's end; its id is the same however often it is made."""
    action = fields["action"]
    extra = {
        "type": action["type"],
        "action_key": action["action_key"],
        "destination": ending.destination,
        "reason": ending.reason,
        "status": ending.status,
        "attempts": fields["attempts"] + ending.is_attempt,
    }
    return AuditRecord(
        record_id=ending_record_id("action", outbox_id, fields),
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
