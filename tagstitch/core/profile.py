"""Profiles: the person as known, as stored in the document `profiles/{profile_id}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from tagstitch.core.document_id import are_identifier_keys, is_document_id, is_identifier_key
from tagstitch.core.limits import CONSENT_PURPOSES_MAX
from tagstitch.core.stored_values import (
    stored_count,
    stored_map,
    stored_texts,
    stored_time,
    stored_times,
)
from tagstitch.core.trait_state import stored_traits, trait_values

_MARKS: Final[Mapping[str, type]] = MappingProxyType(
    {
        "erased_at": datetime,
        "expires_at": datetime,
        "merged_into": str,
        "consent": Mapping,
        "salt": bytes,
    }
)
"""What keeps its meaning in a document that somebody wrote by hand, if it is of this type: an
erasure, an expiry or a denial must not be overlooked, and nobody may see a salt."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known about one visitor. Mappings are never changed in place."""

    profile_id: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """What somebody set, and what the computed traits come to at the moment of the look-up."""
    state: Mapping[str, Any] = field(default_factory=dict)
    """What decisions remember (`user_state.*`); written by decide only."""
    caps: Mapping[str, Any] = field(default_factory=dict)
    """Frequency cap -> when rules used it."""
    assignments: Mapping[str, Any] = field(default_factory=dict)
    """Experiment -> the variant that the visitor was given."""
    identifiers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Identifier key -> {first_seen, last_seen}; a key starts with its type and a colon."""
    consent: Mapping[str, Any] = field(default_factory=dict)
    """Purpose -> {granted: bool, at: datetime, source: str}."""
    demoted: Mapping[str, datetime] = field(default_factory=dict)
    """Identifier key -> when it was kept apart from this profile by a limit or a user switch."""
    kept_apart: Mapping[str, datetime] = field(default_factory=dict)
    """Identifier key -> when somebody took it out of this profile, never to join it again."""
    merges: int = 0
    """How many profiles became this one."""
    merged_into: str | None = None
    """The surviving profile of which this id is an alias."""
    created_at: datetime | None = None
    expires_at: datetime | None = None
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The whole document in our own shape, so that a write keeps what this class does not name."""

    @property
    def imported(self) -> Mapping[str, Any]:
        """The attributes that somebody set, without what is computed from events."""
        return stored_map(self.fields.get("attributes"))

    @property
    def former_ids(self) -> tuple[str, ...]:
        """The ids of merged profiles that no identifier of this one stands for."""
        return tuple(filter(is_document_id, stored_texts(self.fields.get("former_ids"))))

    def has_identifier_type(self, type_: str) -> bool:
        """Return whether an identifier of this type is linked."""
        return any(key.startswith(type_ + ":") for key in self.identifiers)


def parse_profile(profile_id: str, fields: Mapping[str, Any], *, now: datetime) -> Profile | None:
    """Return the typed profile, or None when the document has expired or is a tombstone.

    Firestore deletes expired documents late (typically within 24 hours), so the time is checked
    here.
    """
    profile = typed_profile(profile_id, fields, now=now)
    if profile.fields.get("erased_at") is not None:
        return None
    if profile.expires_at is not None and profile.expires_at <= now:
        return None
    return profile


def typed_profile(
    profile_id: str, fields: Mapping[str, Any], *, now: datetime | None = None
) -> Profile:
    """Return what a profile's document says, whether or not it still holds.

    `now` is when the computed traits are looked at; without it they are not among the attributes.
    """
    fields = own_shape(fields)
    attributes = fields["attributes"]
    if now is not None and (traits := stored_traits(fields.get("traits"))):
        attributes = {**attributes, **trait_values(traits, now=now)}
    return Profile(
        profile_id=profile_id,
        attributes=attributes,
        state=stored_map(fields.get("state")),
        caps=stored_map(fields.get("caps")),
        assignments=stored_map(fields.get("assignments")),
        identifiers=fields["identifiers"],
        consent=_statements(fields.get("consent")),
        demoted=stored_times(fields.get("demoted")),
        kept_apart=stored_times(fields.get("kept_apart")),
        merges=stored_count(fields.get("merges")),
        merged_into=survivor_id(fields),
        created_at=stored_time(fields.get("created_at")),
        expires_at=stored_time(fields.get("expires_at")),
        fields=fields,
    )


def own_shape(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the stored document with `attributes` and `identifiers` as maps.

    A document is ours when both are. Otherwise somebody wrote it by hand and everything in it is
    an attribute, whatever its name, except the few marks that hold in every document. A link that
    somebody wrote as `true` says nothing of when it was seen, and what is no key of an identifier
    is none.
    """
    links = fields.get("identifiers")
    if isinstance(fields.get("attributes"), Mapping) and isinstance(links, Mapping):
        if are_identifier_keys(links) and all(isinstance(link, Mapping) for link in links.values()):
            return fields
        read = {key: dict(stored_map(links[key])) for key in links if is_identifier_key(key)}
        return {**fields, "identifiers": read}
    marks = {
        name: fields[name] for name, kind in _MARKS.items() if isinstance(fields.get(name), kind)
    }
    if "consent" in marks:
        marks["consent"] = _statements(marks["consent"])
    attributes = {name: value for name, value in fields.items() if name not in marks}
    return {"attributes": attributes, "identifiers": {}, **marks}


def is_erased(fields: Mapping[str, Any]) -> bool:
    """Return whether the document is a tombstone: nobody may be created in its place."""
    return own_shape(fields).get("erased_at") is not None


def survivor_id(fields: Mapping[str, Any]) -> str | None:
    """Return the profile that this one was merged into, or None when it is no alias."""
    merged_into = fields.get("merged_into")
    return merged_into if isinstance(merged_into, str) and is_document_id(merged_into) else None


def is_grant(said: object) -> bool:
    """Return whether a statement of consent is clearly a grant; everything else is a denial."""
    return said is True or said == "granted"


def _statements(stored: object) -> dict[str, Mapping[str, Any]]:
    """Return purpose -> statement; by hand people write `granted` in its place."""
    return {
        purpose: {**said, "granted": is_grant(said.get("granted"))}
        if isinstance(said, Mapping)
        else {"granted": is_grant(said)}
        for purpose, said in stored_map(stored).items()
    }


def update_consent(
    stored: Mapping[str, Any], changes: Mapping[str, bool], *, at: datetime, source: str
) -> dict[str, Any] | None:
    """Return the consent map after the changes, or None when it stays as it is.

    The newest consent time wins, whatever order the messages arrive in; a tie is a denial. A
    repeated answer still moves the time, or an older opposite one that arrives late would win.
    Beyond so many purposes no grant is taken; for denials there is as much room again.
    """
    updated = dict(stored)
    for purpose, granted in changes.items():
        room = CONSENT_PURPOSES_MAX if granted else 2 * CONSENT_PURPOSES_MAX
        if purpose not in updated and len(updated) >= room:
            continue
        before = stored.get(purpose)
        before_at = stored_time(before.get("at")) if isinstance(before, Mapping) else None
        if before_at is not None and (before_at > at or (before_at == at and granted)):
            continue  # older news, or a grant against a denial (or the same grant) of that moment
        updated[purpose] = {"granted": granted, "at": at, "source": source}
    return updated if updated != stored else None
