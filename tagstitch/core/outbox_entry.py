"""Outbox entries: what a decision wants done elsewhere, committed with its state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from tagstitch.core.consent import Purpose

OutboxType = Literal["send_email", "update_crm", "webhook", "push_message"]

OncePer = Literal["decision", "hour", "day", "week", "month", "visitor"]

_WINDOWS: Final[Mapping[OncePer, str]] = {
    "hour": "%Y-%m-%dT%H",
    "day": "%Y-%m-%d",
    "week": "%G-W%V",
    "month": "%Y-%m",
    "visitor": "always",
}


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """One thing to be done, once for its rule, action, visitor and window."""

    rule_id: str
    type: OutboxType
    action_key: str
    """Which of its rule's actions it is: a part of the idempotency key."""
    once_per: OncePer
    purposes: tuple[Purpose, ...]
    """The visitor must allow all of them, also at the moment of sending."""
    needs_recorded_grant: bool
    """Neither a default nor a signal of an event is enough: the profile must hold the grants."""
    fields: Mapping[str, Any]
    """What to send, as JSON. `recipient` and `external_id` are paths of the profile, looked up when
    the entry is sent: addresses do not lie in the outbox."""

    def window(self, at: datetime) -> str | None:
        """Return the window that a time lies in, by UTC; None when every decision counts."""
        form = _WINDOWS.get(self.once_per)
        return None if form is None else at.astimezone(UTC).strftime(form)

    def to_json(self) -> dict[str, Any]:
        """Return the entry as JSON."""
        return {
            "rule_id": self.rule_id,
            "type": self.type,
            "action_key": self.action_key,
            "once_per": self.once_per,
            "purposes": list(self.purposes),
            "needs_recorded_grant": self.needs_recorded_grant,
            "fields": dict(self.fields),
        }
