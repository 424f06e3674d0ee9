"""Decide requests: what decide is asked in one round trip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tagstitch.core.consent import parse_consent
from tagstitch.core.errors import InvalidInput
from tagstitch.core.event import Event, parse_event
from tagstitch.core.fields import (
    deadline_ms,
    object_of,
    optional_flag,
    optional_names,
    optional_request_id,
    optional_text,
)
from tagstitch.core.limits import DEADLINE_MS_DEFAULT

PARTS: Final = frozenset({"event", "personalization", "profile"})
_PARTS_DEFAULT: Final = frozenset({"event", "personalization"})


class DecideRequest(msgspec.Struct, frozen=True):  # a frozen dataclass takes five times as long
    """One event, and which parts of the answer are wanted."""

    event: Event
    include: frozenset[str]
    explain: bool = False
    deadline_ms: float = float(DEADLINE_MS_DEFAULT)
    request_id: str | None = None
    view: str = "default"
    fields: tuple[str, ...] | None = None
    consent: Mapping[str, Any] | None = None


def parse_decide_request(raw: object, *, header_request_id: str | None = None) -> DecideRequest:
    """Return the typed body of `POST /decide`; a request id in the body wins over the header's."""
    body = object_of(raw, "")
    if "event" not in body:
        raise InvalidInput(
            "missing_field", "decide needs the event", "event",
            'send {"event": {"event_name": "purchase", …}}',
        )  # fmt: skip
    include = _PARTS_DEFAULT
    if "include" in body:
        names = optional_names(body, "include")
        include = _PARTS_DEFAULT if names is None else frozenset(names)
    if not include or not include <= PARTS:
        raise InvalidInput(
            "invalid_field", "must name parts of the answer", "include",
            "any of event, personalization, profile",
        )  # fmt: skip
    if len(body) == 1 + ("include" in body):  # most requests: nothing else
        return DecideRequest(
            parse_event(body["event"], path="event"),
            include,
            request_id=_header_id(header_request_id),
        )
    return DecideRequest(
        event=parse_event(body["event"], path="event"),
        include=include,
        explain=optional_flag(body, "explain", default=False),
        deadline_ms=deadline_ms(body),
        request_id=optional_request_id(body) or _header_id(header_request_id),
        view=optional_text(body, "view") or "default",
        fields=optional_names(body, "fields"),
        consent=parse_consent(body),
    )


def published_request(
    raw: object, part: str, *, header_request_id: str | None = None
) -> DecideRequest:
    """Return the request that a body of the published shapes, the event itself, stands for."""
    return DecideRequest(
        event=parse_event(raw),
        include=frozenset({part}),
        request_id=_header_id(header_request_id),
    )


def _header_id(value: str | None) -> str | None:
    if value is None:
        return None
    return optional_request_id({"Idempotency-Key": value}, "Idempotency-Key")
