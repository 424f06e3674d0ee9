"""Lookups: what stitch_sync is asked and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from tagstitch.core.consent import parse_consent
from tagstitch.core.errors import InvalidInput
from tagstitch.core.fields import (
    deadline_ms,
    object_of,
    optional_names,
    optional_request_id,
    optional_text,
)
from tagstitch.core.identifier import Identifier, IdentitySettings
from tagstitch.core.stitch_request import parse_visitor

LookupReason = Literal[
    "KNOWN_PROFILE",
    "UNKNOWN_PROFILE",
    "CONSENT_DENIED",
    "BLOCKED_IDENTIFIER",
    "MERGE_PENDING",
    "STALE",
    "ERROR",
]

QUERY_FIELDS: Final = frozenset({"id", "view", "mode", "callback", "request_id", "not_found"})
"""What a GET's query parameters mean; no identifier type has one of these names."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """Who is asked about, and which part of the profile is wanted."""

    identifiers: tuple[Identifier, ...]
    bare_id: str | None
    view: str
    fields: tuple[str, ...] | None
    mode: Literal["sync", "async"]
    request_id: str | None
    consent: Mapping[str, Any] | None
    deadline_ms: float


@dataclass(frozen=True, slots=True)
class AcceptedLookup:
    """An asynchronous request that Pub/Sub has; its result comes on the callback."""

    request_id: str
    is_unknown: ClassVar[bool] = False
    is_accepted: ClassVar[bool] = True

    def to_json(self) -> dict[str, Any]:
        """Return the body of stitch_sync's 202."""
        return {"request_id": self.request_id, "status": "accepted"}


@dataclass(frozen=True, slots=True)
class LookupAnswer:
    """The visitor as known now."""

    found: bool
    reason: LookupReason
    view: str
    request_id: str = ""
    profile_id: str | None = None
    attributes: Mapping[str, Any] | None = None
    degraded: tuple[str, ...] = ()
    is_accepted: ClassVar[bool] = False

    @property
    def is_unknown(self) -> bool:
        """Whether nobody is known: not so when a store was silent, or when nobody may look."""
        return self.reason == "UNKNOWN_PROFILE"

    def to_json(self) -> dict[str, Any]:
        """Return the body of stitch_sync's answer."""
        return {
            "found": self.found,
            "profile_id": self.profile_id,
            "attributes": dict(self.attributes or {}),
            "view": self.view,
            "reason": self.reason,
            "request_id": self.request_id,
            "degraded": list(self.degraded),
        }


def parse_lookup(raw: object, settings: IdentitySettings) -> Lookup:
    """Return the typed lookup of a POST body."""
    body = object_of(raw, "")
    identifiers, bare_id = parse_visitor(body, settings)
    return Lookup(
        identifiers=identifiers,
        bare_id=bare_id,
        view=optional_text(body, "view") or "default",
        fields=optional_names(body, "fields"),
        mode=_mode(body.get("mode")),
        request_id=optional_request_id(body),
        consent=parse_consent(body),
        deadline_ms=deadline_ms(body),
    )


def lookup_body(query: Mapping[str, str], settings: IdentitySettings) -> dict[str, Any]:
    """Return the POST body that a GET's query parameters stand for.

    Identifier types are parameters of their own; parameters that mean nothing here are ignored,
    because caches and proxies add some.
    """
    body: dict[str, Any] = {name: query[name] for name in QUERY_FIELDS & query.keys()}
    body["identifiers"] = {type_: query[type_] for type_ in settings.types if type_ in query}
    return body


def _mode(value: object) -> Literal["sync", "async"]:
    if value in (None, "sync"):
        return "sync"
    if value == "async":
        return "async"
    raise InvalidInput("invalid_field", "must be sync or async", "mode")
