"""Erasure: the tombstone that keeps a person from coming back, and rows that are nobody's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from tagstitch.core.event_action import VALUE_FIELDS
from tagstitch.core.limits import TOMBSTONE_DAYS
from tagstitch.core.profile import is_erased

ERASED_COLUMNS: Final = ("subject", "request_id", "trace_id", "receipt")
"""Columns of the audit that an erasure empties."""

ERASED_EXTRAS: Final = ("shadow", "unknown_fields")
"""What an erasure takes out of `extra`: it may hold values."""


def tombstone_fields(erasure_id: str, *, now: datetime) -> dict[str, Any]:
    """Return the document that replaces everything in an erased identifier's own place.

    `erasure_id` leads to the record of what was erased together.
    """
    return {
        "erased_at": now,
        "expires_at": now + timedelta(days=TOMBSTONE_DAYS),
        "erasure_id": erasure_id,
    }


def is_tombstone(fields: Mapping[str, Any], *, now: datetime) -> bool:
    """Return whether the document says that nobody may be created in its place, and still holds."""
    if "erased_at" not in fields or not is_erased(fields):
        return False
    expires_at = fields.get("expires_at")
    return not isinstance(expires_at, datetime) or expires_at > now


def nobodys_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an audit row without the person: what was decided stays, of whom and what does not."""
    erased = {**row, **dict.fromkeys(ERASED_COLUMNS)}
    modifications = row.get("modifications")
    if isinstance(modifications, list):
        erased["modifications"] = [_without(entry, VALUE_FIELDS) for entry in modifications]
    erased["extra"] = _without(row.get("extra"), ERASED_EXTRAS)
    return erased


def _without(value: Any, names: tuple[str, ...] | frozenset[str]) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {name: kept for name, kept in value.items() if name not in names}
