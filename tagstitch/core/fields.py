"""Typed reading of the fields of a decoded JSON object; every failure names its path."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeGuard

from tagstitch.core.errors import InvalidInput
from tagstitch.core.limits import (
    CONTEXT_BYTES_MAX,
    DEADLINE_MS_DEFAULT,
    DEADLINE_MS_MAX,
    DEADLINE_MS_MIN,
    PREVIEW_HEADER_BYTES_MAX,
    REQUEST_ID_CHARS_MAX,
)
from tagstitch.core.values import is_object

_REQUEST_ID: Final = re.compile(rf"[A-Za-z0-9_:@=+~-]{{1,{REQUEST_ID_CHARS_MAX}}}")
"""No dots: a Standard Webhooks signature separates id, timestamp and body by dots."""

_HEADER_TEXT: Final = re.compile(r"[\x20-\x7e]*")


def object_of(raw: object, path: str) -> Mapping[str, Any]:
    """Return the JSON object; raises InvalidInput for anything else."""
    if not is_object(raw):
        raise InvalidInput("invalid_field", "must be an object", path or None)
    return raw


def optional_object(raw: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """Return an object field, or None when it is absent or null."""
    value = raw.get(name)
    return None if value is None else object_of(value, name)


def optional_text(raw: Mapping[str, Any], name: str, *, chars_max: int = 256) -> str | None:
    """Return a text field of 1 to `chars_max` characters, or None when it is absent or null."""
    value = raw.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= chars_max:
        raise InvalidInput("invalid_field", f"must be text of 1 to {chars_max} characters", name)
    return value


def optional_flag(raw: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """Return a boolean field."""
    value = raw.get(name, default)
    if not isinstance(value, bool):
        raise InvalidInput("invalid_field", "must be true or false", name)
    return value


def optional_names(raw: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    """Return a list-of-text field, or None when it is absent or null."""
    value = raw.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidInput("invalid_field", "must be a list of text", name)
    return tuple(value)


def optional_time(raw: Mapping[str, Any], name: str) -> datetime | None:
    """Return an ISO 8601 time with an offset, in UTC, or None when it is absent or null."""
    value = raw.get(name)
    if value is None:
        return None
    try:
        parsed = datetime.fromisoformat(value)
        if parsed.tzinfo is not None:
            return parsed.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        parsed = None
    raise InvalidInput(
        "invalid_field", "must be a time with an offset", name, "for example 2026-11-21T20:00:00Z"
    )


def is_request_id(value: object) -> TypeGuard[str]:
    """Return whether this can be a request id; anything else is nobody's to repeat or to log."""
    return isinstance(value, str) and _REQUEST_ID.fullmatch(value) is not None


def optional_request_id(raw: Mapping[str, Any], name: str = "request_id") -> str | None:
    """Return a request id, or None when it is absent or null."""
    value = raw.get(name)
    if value is None:
        return None
    if not is_request_id(value):
        raise InvalidInput(
            "invalid_field",
            f"must be 1 to {REQUEST_ID_CHARS_MAX} letters, digits or any of _ : @ = + ~ -",
            name,
        )
    return value


def deadline_ms(raw: Mapping[str, Any]) -> float:
    """Return `deadline_ms`, within the limits that an answer to a page view can use."""
    value = raw.get("deadline_ms", DEADLINE_MS_DEFAULT)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput("invalid_field", "must be a number of milliseconds", "deadline_ms")
    return float(min(max(value, DEADLINE_MS_MIN), DEADLINE_MS_MAX))


def context_object(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `context`, which is echoed on the callback."""
    context = optional_object(raw, "context") or {}
    if context and len(json.dumps(context, ensure_ascii=False).encode()) > CONTEXT_BYTES_MAX:
        raise InvalidInput("invalid_field", f"larger than {CONTEXT_BYTES_MAX} bytes", "context")
    return context


def preview_header(raw: Mapping[str, Any]) -> str | None:
    """Return sGTM's preview header, printable ASCII only: it is sent on as a header."""
    value = optional_text(raw, "preview", chars_max=PREVIEW_HEADER_BYTES_MAX)
    if value is not None and not _HEADER_TEXT.fullmatch(value):
        raise InvalidInput("invalid_field", "must be printable ASCII", "preview")
    return value
