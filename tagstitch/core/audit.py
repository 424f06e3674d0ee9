"""Audit records: the one place where a decision or a modification becomes a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

RecordType = Literal[
    "event_decision",
    "personalization_decision",
    "identity_link",
    "identity_merge",
    "identity_split",
    "identity_blocked",
    "profile_update",
    "callback_delivery",
    "action_delivery",
    "dead_letter",
    "erasure",
]


class AuditRecord(msgspec.Struct, frozen=True):
    """One row of the table `audit` (columns as in `schemas/audit_table.json`).

    `recorded_at` is missing here: the sink adds it when it stores the row. Nothing in a record is
    a raw identifier, and values of parameters are there only when the operator listed them.
    """

    record_id: str
    """Deterministic, so that a repeated message gives the same row."""
    record_type: RecordType
    occurred_at: datetime
    outcome: str
    event_at: datetime | None = None
    request_id: str | None = None
    decision_id: str | None = None
    trace_id: str | None = None
    subject: str | None = None
    event_name: str | None = None
    resolved_event_name: str | None = None
    rule_ids: Sequence[str] = ()
    rules_version: str | None = None
    modifications: Sequence[Mapping[str, Any]] | None = None
    consent: Mapping[str, Any] | None = None
    degraded: Sequence[str] = ()
    latency_ms: float | None = None
    receipt: bytes | None = None
    extra: Mapping[str, Any] | None = None

    def to_row(self) -> dict[str, Any]:
        """Return column -> value; times stay datetimes, JSON columns stay mappings or lists."""
        return {
            "record_id": self.record_id,
            "record_type": self.record_type,
            "occurred_at": self.occurred_at,
            "event_at": self.event_at,
            "request_id": self.request_id,
            "decision_id": self.decision_id,
            "trace_id": self.trace_id,
            "subject": self.subject,
            "event_name": self.event_name,
            "resolved_event_name": self.resolved_event_name,
            "outcome": self.outcome,
            "rule_ids": list(self.rule_ids),
            "rules_version": self.rules_version,
            "modifications": list(self.modifications) if self.modifications is not None else None,
            "consent": dict(self.consent) if self.consent is not None else None,
            "degraded": list(self.degraded),
            "latency_ms": self.latency_ms,
            "receipt": self.receipt,
            "extra": dict(self.extra) if self.extra is not None else None,
        }
