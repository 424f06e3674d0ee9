"""Outbox entries: what a decision wants done elsewhere, committed with its state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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

_USEFUL_FOR: Final[Mapping[OutboxType, timedelta]] = {
    "send_email": timedelta(days=1),
    "update_crm": timedelta(days=3),
    "webhook": timedelta(days=1),
    "push_message": timedelta(minutes=10),
}
"""How long it still helps: a message on a page as long as a callback, an e-mail of yesterday puts
people off, a CRM record is right later too (Pub/Sub keeps its message for seven days)."""

_WINDOW_LENGTHS: Final[Mapping[OncePer, timedelta]] = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
}
"""Of the windows that may be shorter: one that is late must not meet that of the next window."""


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
    rule_purposes: tuple[Purpose, ...] = ()
    """What its rule needs besides, asked again when it is sent; a default is enough for these."""

    def window(self, at: datetime) -> str | None:
        """Return the window that a time lies in, by UTC; None when every decision counts."""
        form = _WINDOWS.get(self.once_per)
        return None if form is None else at.astimezone(UTC).strftime(form)

    def useful_until(self, at: datetime) -> datetime:
        """Return when it is too late to send what was decided at a time."""
        length = _USEFUL_FOR[self.type]
        return at + min(length, _WINDOW_LENGTHS.get(self.once_per, length))

    def to_json(self) -> dict[str, Any]:
        """Return the entry as JSON, without what its rule says already."""
        return {
            "rule_id": self.rule_id,
            "type": self.type,
            "action_key": self.action_key,
            "once_per": self.once_per,
            "purposes": list(self.purposes),
            "needs_recorded_grant": self.needs_recorded_grant,
            "fields": dict(self.fields),
        }


def ending_record_id(
    kind: Literal["action", "callback"], outbox_id: str, fields: Mapping[str, Any]
) -> str:
    """Return the id of the record of a stored entry's end, the same however often it is made.

    A request id may come back after its seven days, and what was refused be replayed.
    """
    replays = fields.get("replays", 0)
    made_at = int(fields["created_at"].timestamp())
    return f"{kind}_{outbox_id}_{made_at}" + (f":{replays}" if replays else "")
