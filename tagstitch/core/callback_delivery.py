"""How a callback ends: the audit record of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from tagstitch.core.audit import AuditRecord
from tagstitch.core.outbox_entry import ending_record_id

CallbackOutcome = Literal["delivered", "expired", "rejected", "suppressed"]
"""How an entry ends; each ends once (a rejected one that is replayed once more)."""


def callback_record(
    outbox_id: str,
    fields: Mapping[str, Any],
    outcome: CallbackOutcome,
    *,
    now: datetime,
    was_attempt: bool,
    reason: str | None = None,
) -> AuditRecord:
    """Return the record of an entry's end; its id is the same however often it is made.

    `was_attempt` says whether it ended with an attempt, which its fields do not count yet.
    """
    extra = {
        "callback": fields["endpoint"],
        "attempts": fields["attempts"] + was_attempt,
        "reason": reason,
    }
    return AuditRecord(
        record_id=ending_record_id("callback", outbox_id, fields),
        record_type="callback_delivery",
        occurred_at=now,
        outcome=outcome,
        request_id=fields["request_id"],
        subject=fields.get("subject"),
        event_name=fields.get("event_name"),
        latency_ms=(now - fields["created_at"]).total_seconds() * 1000,
        extra={name: value for name, value in extra.items() if value is not None},
    )
