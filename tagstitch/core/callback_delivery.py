"""How a callback ends: the audit record of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from tagstitch.core.audit import AuditRecord

CallbackOutcome = Literal["delivered", "expired", "rejected", "suppressed"]
"""How an entry ends; each ends once (a rejected one that is replayed once more)."""


def callback_record(
    outbox_id: str,
    fields: Mapping[str, Any],
    outcome: CallbackOutcome,
    *,
    now: datetime,
    reason: str | None = None,
) -> AuditRecord:
    """Return the record of an entry's end; its id is the same however often it is made."""
    replays = fields.get("replays", 0)
    is_attempt = outcome != "suppressed"
    extra = {
        "callback": fields["endpoint"],
        "attempts": fields["attempts"] + is_attempt,
        "reason": reason,
    }
    return AuditRecord(
        # A request id may come back after its seven days, and a rejected one be replayed.
        record_id=f"callback_{outbox_id}_{int(fields['created_at'].timestamp())}"
        + (f":{replays}" if replays else ""),
        record_type="callback_delivery",
        occurred_at=now,
        outcome=outcome,
        request_id=fields["request_id"],
        subject=fields.get("subject"),
        event_name=fields.get("event_name"),
        latency_ms=(now - fields["created_at"]).total_seconds() * 1000,
        extra={name: value for name, value in extra.items() if value is not None},
    )
