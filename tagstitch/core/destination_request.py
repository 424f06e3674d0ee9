"""What one action says to its destination: the request, made at the moment of sending."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from tagstitch.core.destination import (
    BasicAuth,
    BearerAuth,
    Destination,
    HeaderAuth,
    OAuth2Auth,
)
from tagstitch.core.destination_template import UnusableValue, fill, fill_url
from tagstitch.core.limits import IDENTIFIER_VALUE_CHARS_MAX
from tagstitch.core.paths import Facts, compile_base, parse_path
from tagstitch.core.problems import Problems
from tagstitch.core.values import is_number

SendVerdict = Literal["delivered", "retry", "unknown", "rejected"]
"""What an answer means; `unknown` is an attempt that may or may not have had its effect."""

_LOOKED_UP: Final = ("recipient", "external_id")

_NOT_DONE_STATUSES: Final = frozenset({408, 425, 429, 503})
"""Statuses by which a server says that it did nothing (RFC 9110, RFC 8470, RFC 6585)."""


@dataclass(frozen=True, slots=True)
class DestinationRequest:
    """One request without what authorises it."""

    method: Literal["POST", "PUT", "PATCH"]
    url: str
    headers: Mapping[str, str]
    body: bytes


def look_up(
    fields: Mapping[str, Any], attributes: Mapping[str, Any]
) -> tuple[dict[str, Any], str | None]:
    """Return the action's fields with what the profile says now, and the first that it does not.

    An address is text, a number an id; anything else is none.
    """
    found = dict(fields)
    for name in _LOOKED_UP:
        if name not in fields:
            continue
        path = parse_path(fields[name], name, Problems())
        value = None if path is None else compile_base(path)(Facts({}, attributes))
        text = value.strip() if isinstance(value, str) else None
        if isinstance(value, int | float) and is_number(value):
            text = str(int(value)) if value == value // 1 else str(value)
        if not text or not _is_plain(text) or (name == "recipient" and not _is_address(text)):
            return found, name
        found[name] = text
    return found, None


def make_request(
    destination: Destination, values: Mapping[str, Any], *, idempotency_key: str
) -> DestinationRequest:
    """Return the request of an action; raises UnusableValue for a value that no URL can hold."""
    headers = {**destination.headers, "content-type": "application/json"}
    if destination.idempotency_header is not None:
        headers[destination.idempotency_header] = idempotency_key
    try:
        body = msgspec.json.encode(fill(destination.body, values))
    except (TypeError, ValueError):
        raise UnusableValue from None
    url = fill_url(destination.url or "", values)
    return DestinationRequest(destination.method or "POST", url, headers, body)


def fixed_auth_headers(destination: Destination) -> dict[str, str]:
    """Return what authorises a request where that never changes."""
    auth = destination.auth
    if isinstance(auth, BearerAuth):
        return {"authorization": f"Bearer {auth.token}"}
    if isinstance(auth, BasicAuth):
        pair = base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()
        return {"authorization": f"Basic {pair}"}
    return {auth.name: auth.value} if isinstance(auth, HeaderAuth) else {}


def token_form(auth: OAuth2Auth) -> dict[str, str]:
    """Return the form that asks for an access token (RFC 6749, sections 4.4.2 and 6)."""
    form = {
        "grant_type": "refresh_token" if auth.refresh_token else "client_credentials",
        "client_id": auth.client_id,
        "client_secret": auth.client_secret,
    }
    if auth.refresh_token:
        form["refresh_token"] = auth.refresh_token
    if auth.scope:
        form["scope"] = auth.scope
    return form


def judge_answer(destination: Destination, status: int) -> SendVerdict:
    """Return what a destination's answer means.

    A 5xx other than 503 leaves open whether it was done: a gateway may have lost the answer.
    """
    success = destination.success
    if status in success if success is not None else 200 <= status < 300:
        return "delivered"
    if status in _NOT_DONE_STATUSES:
        return "retry"
    return "unknown" if status >= 500 else "rejected"


def template_values(
    action: Mapping[str, Any], found: Mapping[str, Any], *, sent_at: datetime, **others: Any
) -> dict[str, Any]:
    """Return everything that a template can take: `found` are the action's fields, looked up."""
    return {**others, **found, "rule_id": action["rule_id"], "sent_at": sent_at.isoformat()}


def _is_plain(text: str) -> bool:
    return len(text) <= IDENTIFIER_VALUE_CHARS_MAX and text.isprintable()


def _is_address(text: str) -> bool:
    """Return whether this can be one e-mail address; the provider judges the rest."""
    name, at, domain = text.rpartition("@")
    return bool(name and at and "." in domain) and not any(c in text for c in ' ,;<>"')
