"""Stitch requests: the message of topic `stitch-requests`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from tagstitch.core.caller import Caller
from tagstitch.core.consent import parse_consent
from tagstitch.core.errors import InvalidInput
from tagstitch.core.event import Event, parse_event
from tagstitch.core.fields import (
    context_object,
    object_of,
    optional_flag,
    optional_request_id,
    optional_text,
    optional_time,
    preview_header,
)
from tagstitch.core.hops import hop_count
from tagstitch.core.identifier import Identifier, IdentitySettings, parse_identifiers
from tagstitch.core.limits import CALLBACK_EXPIRY_S, CLOCK_SKEW_S, IDENTIFIER_VALUE_CHARS_MAX
from tagstitch.core.message_version import MESSAGE_VERSION, check_version

MESSAGE_TYPE: Final = "stitch_request"


@dataclass(frozen=True, slots=True)
class StitchRequest:
    """One request to link, update and answer, as a publisher or stitch_sync sends it."""

    request_id: str
    identifiers: tuple[Identifier, ...]
    """In priority order, blocked ones included."""
    bare_id: str | None
    """An identifier of unknown type; it finds a profile and never creates or links one."""
    asserted: bool
    """Whether the publisher vouches that the identifiers were authenticated."""
    event: Event | None
    event_id: str
    view: str
    callback: str | None
    context: Mapping[str, Any]
    consent: Mapping[str, Any] | None
    occurred_at: datetime
    expires_at: datetime
    """When the answer is no longer of use; the link is made even later."""
    preview: str | None
    caller: str | None = None
    """The key of the HTTP caller; its request ids are its own."""
    hops: int = 0
    """How many callbacks led to this request, as far as those between passed the count on."""

    def fingerprint(self) -> str:
        """Return a hash of what was asked; times that defaults filled in do not count."""
        content = {
            "identifiers": [[i.type, i.value] for i in self.identifiers],
            "id": self.bare_id,
            "asserted": self.asserted,
            "event": self.event.parameters if self.event else None,
            "view": self.view,
            "callback": self.callback,
            "context": self.context,
            "consent": self.consent,
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_message(self) -> dict[str, Any]:
        """Return the JSON object for the topic; `parse_stitch_request` reads it back."""
        message: dict[str, Any] = {
            "v": MESSAGE_VERSION,
            "type": MESSAGE_TYPE,
            "request_id": self.request_id,
            "identifiers": [{"type": i.type, "value": i.value} for i in self.identifiers],
            "asserted": self.asserted,
            "event_id": self.event_id,
            "view": self.view,
            "context": dict(self.context),
            "occurred_at": self.occurred_at.isoformat(),
            "expires_at": self.expires_at.isoformat(),
        }
        optional = {
            "id": self.bare_id,
            "event": dict(self.event.parameters) if self.event else None,
            "callback": self.callback,
            "consent": self.consent,
            "preview": self.preview,
            "caller": self.caller,
            "hops": self.hops or None,
        }
        return message | {name: value for name, value in optional.items() if value is not None}


def parse_stitch_request(
    raw: object,
    settings: IdentitySettings,
    *,
    default_request_id: str,
    received_at: datetime,
) -> StitchRequest:
    """Return the typed request.

    `received_at` is the publish time of a message: the default of `occurred_at`, and the bound of
    a future one. Raises InvalidInput; a message that does is a dead letter.
    """
    message = object_of(raw, "")
    check_version(message)
    if message.get("type", MESSAGE_TYPE) != MESSAGE_TYPE:
        raise InvalidInput("invalid_field", "must be stitch_request", "type")
    identifiers, bare_id = parse_visitor(message, settings)
    request_id = optional_request_id(message) or default_request_id
    latest = received_at + timedelta(seconds=CLOCK_SKEW_S)
    event = message.get("event")
    return StitchRequest(
        request_id=request_id,
        identifiers=identifiers,
        bare_id=bare_id,
        asserted=optional_flag(message, "asserted", default=True),
        event=None if event is None else parse_event(event, path="event"),
        event_id=optional_text(message, "event_id") or request_id,
        view=optional_text(message, "view") or "default",
        callback=optional_text(message, "callback"),
        context=context_object(message),
        consent=parse_consent(message),
        occurred_at=min(optional_time(message, "occurred_at") or received_at, latest),
        expires_at=optional_time(message, "expires_at")
        or received_at + timedelta(seconds=CALLBACK_EXPIRY_S),
        preview=preview_header(message),
        caller=optional_text(message, "caller"),
        hops=hop_count(message),
    )


def parse_accepted_request(
    body: Mapping[str, Any],
    caller: Caller,
    settings: IdentitySettings,
    *,
    default_request_id: str,
    received_at: datetime,
) -> StitchRequest:
    """Return the request that an HTTP caller asks to have processed later.

    Whether it is asserted is the caller's scope, and whose it is the caller's key, whatever the
    body says.
    """
    caller.require("stitch")
    ours = {
        "v": MESSAGE_VERSION,
        "type": MESSAGE_TYPE,
        "asserted": caller.may("assert"),
        "caller": caller.id,
    }
    return parse_stitch_request(
        {**body, **ours},
        settings,
        default_request_id=default_request_id,
        received_at=received_at,
    )


def parse_visitor(
    raw: Mapping[str, Any], settings: IdentitySettings
) -> tuple[tuple[Identifier, ...], str | None]:
    """Return the identifiers and the bare `id` of a request; one of the two is required."""
    bare_id = raw.get("id")
    if isinstance(bare_id, int) and not isinstance(bare_id, bool):
        bare_id = str(bare_id)
    if bare_id is not None and (
        not isinstance(bare_id, str)
        or not 0 < len(bare_id.strip()) <= IDENTIFIER_VALUE_CHARS_MAX
        or not bare_id.isprintable()
    ):
        raise InvalidInput(
            "invalid_field", f"must be text of 1 to {IDENTIFIER_VALUE_CHARS_MAX} characters", "id"
        )
    named = raw.get("identifiers")
    identifiers = () if named is None else parse_identifiers(named, settings)
    if not identifiers and bare_id is None:
        raise InvalidInput(
            "missing_field", "identifiers (at least one) or id is required", "identifiers",
            'for example {"identifiers": {"client_id": "…"}}',
        )  # fmt: skip
    return identifiers, bare_id.strip() if bare_id else None
