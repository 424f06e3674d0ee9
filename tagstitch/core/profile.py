"""Profiles: the person as known, as stored in the document `profiles/{profile_id}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from tagstitch.core.limits import CONSENT_PURPOSES_MAX

_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})

_OWN_FIELDS: Final = frozenset(
    {
        "identifiers", "attributes", "state", "caps", "consent", "assignments", "demoted", "salt",
        "merged_into", "created_at", "updated_at", "expires_at", "erased_at",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known about one visitor. Mappings are never changed in place."""

    profile_id: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)
    """What decisions remember (`user_state.*`); written by decide only."""
    identifiers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Identifier key -> {first_seen, last_seen}; a key starts with its type and a colon."""
    consent: Mapping[str, Any] = field(default_factory=dict)
    """Purpose -> {granted: bool, at: datetime, source: str}."""
    demoted: Mapping[str, datetime] = field(default_factory=dict)
    """Identifier key -> when it was kept apart from this profile by a limit or a user switch."""
    merged_into: str | None = None
    """The surviving profile of which this id is an alias."""
    created_at: datetime | None = None
    expires_at: datetime | None = None
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The whole stored document, so that a write keeps what this class does not name."""

    def has_identifier_type(self, type_: str) -> bool:
        """Return whether an identifier of this type is linked."""
        return any(key.startswith(type_ + ":") for key in self.identifiers)


def parse_profile(profile_id: str, fields: Mapping[str, Any], *, now: datetime) -> Profile | None:
    """Return the typed profile, or None when the document has expired or is a tombstone.

    Firestore deletes expired documents late (typically within 24 hours), so the time is checked
    here. A document that somebody wrote by hand, with flat attributes and none of our fields,
    is a profile with exactly those attributes.
    """
    if fields.get("erased_at") is not None:
        return None
    expires_at = _time(fields.get("expires_at"))
    if expires_at is not None and expires_at <= now:
        return None
    if not (isinstance(fields.get("attributes"), Mapping) or "created_at" in fields):
        attributes = {key: value for key, value in fields.items() if key not in _OWN_FIELDS}
    else:
        attributes = fields.get("attributes") or {}
    merged_into = fields.get("merged_into")
    return Profile(
        profile_id=profile_id,
        attributes=attributes,
        state=_mapping(fields.get("state")),
        identifiers=_mapping(fields.get("identifiers")),
        consent=_mapping(fields.get("consent")),
        demoted=_mapping(fields.get("demoted")),
        merged_into=merged_into if isinstance(merged_into, str) else None,
        created_at=_time(fields.get("created_at")),
        expires_at=expires_at,
        fields=fields,
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else _EMPTY


def _time(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None


def update_consent(
    stored: Mapping[str, Any], changes: Mapping[str, bool], *, at: datetime, source: str
) -> dict[str, Any] | None:
    """Return the consent map after the changes, or None when it stays as it is.

    The newest consent time wins, whatever order the messages arrive in; a tie is a denial. A
    repeated answer still moves the time, or an older opposite one that arrives late would win.
    """
    updated = dict(stored)
    for purpose, granted in changes.items():
        if purpose not in updated and len(updated) >= CONSENT_PURPOSES_MAX:
            continue
        before = stored.get(purpose)
        before_at = _time(before.get("at")) if isinstance(before, Mapping) else None
        if before_at is not None and (before_at > at or (before_at == at and granted)):
            continue  # older news, or a grant against a denial (or the same grant) of that moment
        updated[purpose] = {"granted": granted, "at": at, "source": source}
    return updated if updated != stored else None
