"""Contributions: what the events of one identifier add to the traits of its profile.

A profile's traits are the merge of its identifiers' contributions, so that a split can take each
one's away. Most profiles have one contributor: then its contribution is in the profile's own
document, and an event costs one write. From the second on each has `contributions/{key}`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce
from typing import Any, Final, Literal

from tagstitch.core.consent import Consent
from tagstitch.core.document_id import is_identifier_key
from tagstitch.core.event import Event
from tagstitch.core.limits import EVENT_IDS_MAX
from tagstitch.core.profile import Profile
from tagstitch.core.profile_traits import Folded, TraitDefinitions, current_traits, fold_event
from tagstitch.core.stored_values import stored_texts
from tagstitch.core.trait_state import Traits, merge_traits, stored_traits, unmergeable

_EVENT_BYTES: Final = 8
"""Of the digest of an event id: of a thousand, two are the same once in 10^13 profiles."""

_REQUEST_BYTES: Final = 4
"""Of the digest of the request that brought the event."""

_ENTRY_BYTES: Final = _EVENT_BYTES + _REQUEST_BYTES


@dataclass(frozen=True, slots=True)
class TraitEvent:
    """An event that may count for traits."""

    event: Event
    event_id: str
    request_id: str
    at: datetime
    """When it happened."""
    consent: Consent


@dataclass(frozen=True, slots=True)
class Contribution:
    """The traits from the events of one identifier, and which events those were."""

    traits: Traits
    event_ids: bytes = b""
    """The events that were counted last, the newest at the end: digests of each one's id and of
    the request that brought it."""

    written_at: datetime | None = None
    """When it was stored."""

    def counted_for(self, counting: TraitEvent) -> Literal["nobody", "this request", "another"]:
        """Return which request the event was counted for, as far as is remembered."""
        entry = _entry(counting)
        for start in range(0, len(self.event_ids), _ENTRY_BYTES):
            if self.event_ids.startswith(entry[:_EVENT_BYTES], start):
                return "this request" if self.event_ids.startswith(entry, start) else "another"
        return "nobody"

    def current(self, definitions: TraitDefinitions) -> Contribution:
        """Return what today's definitions made of it."""
        traits = current_traits(definitions, self.traits, written_at=self.written_at)
        return replace(self, traits=traits)

    def to_fields(self, profile: Mapping[str, Any]) -> dict[str, Any]:
        """Return the document `contributions/{key}`, which never expires before the profile."""
        return {
            "traits": dict(self.traits),
            "event_ids": self.event_ids,
            "updated_at": profile.get("updated_at"),
            "expires_at": profile.get("links_expire_at"),
        }


Contributions = Mapping[str, Contribution]
"""Identifier key -> contribution."""

NOTHING: Final = Contribution({})


@dataclass(frozen=True, slots=True)
class CountedEvent:
    """What one event means for the traits of a profile."""

    profile: Mapping[str, Any]
    """The fields of the profile's document that change; empty when nothing does."""
    documents: Contributions
    """The contributions that change and are documents of their own."""
    counted: tuple[str, ...]
    """The traits that the event counts for."""


UNCOUNTED: Final = CountedEvent({}, {}, ())

FAILED: Final = CountedEvent({}, {}, ())
"""What stored states made impossible: nothing is counted, and the record says so."""


def contributors(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the identifier keys that contributed to the traits of a profile's document."""
    return tuple(filter(is_identifier_key, stored_texts(fields.get("contributors"))))


def read_contribution(fields: Mapping[str, Any]) -> Contribution:
    """Return the contribution that a document holds: its own one, or that of its profile."""
    event_ids, written_at = fields.get("event_ids"), fields.get("updated_at")
    return Contribution(
        stored_traits(fields.get("traits")),
        event_ids if isinstance(event_ids, bytes) else b"",
        written_at if isinstance(written_at, datetime) else None,
    )


def held_contributions(fields: Mapping[str, Any]) -> dict[str, Contribution]:
    """Return the contribution in the profile's own document: the one of its only contributor."""
    keys = contributors(fields)
    return {keys[0]: read_contribution(fields)} if len(keys) == 1 else {}


def distant_contributors(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys whose contributions are documents of their own."""
    keys = contributors(fields)
    return keys if len(keys) > 1 else ()


def trait_fields(contributions: Contributions) -> dict[str, Any]:
    """Return what the document of a profile with exactly these contributions says of traits."""
    alone = next(iter(contributions.values())) if len(contributions) == 1 else NOTHING
    traits = merged_traits(contributions.values())
    return _trait_fields(traits, contributions, event_ids=alone.event_ids)


def _trait_fields(traits: Traits, keys: Iterable[str], *, event_ids: bytes = b"") -> dict[str, Any]:
    return {"traits": dict(traits), "contributors": sorted(keys), "event_ids": event_ids}


def merged_traits(contributions: Iterable[Contribution]) -> Traits:
    """Return the traits of all."""
    nothing: Traits = {}
    return reduce(merge_traits, (each.traits for each in contributions), nothing)


def unmergeable_traits(contributions: Iterable[Contribution]) -> tuple[str, ...]:
    """Return the names of the traits that a merge leaves out, wholly or in part."""
    return tuple(sorted({name for each in contributions for name in unmergeable(each.traits)}))


def merge_contributors(
    people: Iterable[Profile], definitions: TraitDefinitions
) -> tuple[dict[str, Any], Contributions]:
    """Return what the document of several profiles that are one says of traits.

    With it come the contributions that leave the documents of those profiles for their own.
    """
    documents = [person.fields for person in people]
    keys = {key for fields in documents for key in contributors(fields)}
    if not keys:
        return {}, {}
    held: dict[str, Contribution] = {}
    for fields in documents:
        held |= held_contributions(fields)
    if len(keys) == 1:
        return trait_fields(held), {}
    traits = merged_traits(read_contribution(each).current(definitions) for each in documents)
    moved = {key: found.current(definitions) for key, found in held.items()}
    return _trait_fields(traits, keys), moved


def count_event(
    definitions: TraitDefinitions,
    fields: Mapping[str, Any],
    key: str,
    stored: Contributions,
    counting: TraitEvent,
) -> CountedEvent:
    """Return what an event of one identifier changes in its profile's document.

    `fields` are the document as it was read, or as a merge made it. `stored` are the documents of
    the contributions that are not in the profile's, at least this identifier's. An event that was
    counted before changes nothing.
    """
    keys = contributors(fields)
    held = held_contributions(fields)
    mine = held.get(key) or (stored.get(key, NOTHING) if key in keys else NOTHING)
    folded = _folded(definitions, mine, counting)
    counted_for = mine.counted_for(counting)
    if counted_for == "this request":  # whose record may be lost: it is made once more
        return CountedEvent({}, {}, folded.counted)
    if counted_for == "another" or not folded.counted or folded.traits == mine.traits:
        return UNCOUNTED
    added = Contribution(folded.traits, _with(mine.event_ids, counting))
    if set(keys) <= {key}:
        return CountedEvent(trait_fields({key: added}), {}, folded.counted)
    whole = _folded(definitions, read_contribution(fields), counting)
    profile = _trait_fields(whole.traits, {*keys, key})
    moved = {other: held[other].current(definitions) for other in held}
    return CountedEvent(profile, {**moved, key: added}, folded.counted)


def _folded(
    definitions: TraitDefinitions, contribution: Contribution, counting: TraitEvent
) -> Folded:
    return fold_event(
        definitions,
        contribution.current(definitions).traits,
        counting.event,
        at=counting.at,
        consent=counting.consent,
    )


def _entry(counting: TraitEvent) -> bytes:
    event, request = counting.event_id.encode(), counting.request_id.encode()
    return (
        hashlib.sha256(event).digest()[:_EVENT_BYTES]
        + hashlib.sha256(request).digest()[:_REQUEST_BYTES]
    )


def _with(event_ids: bytes, counting: TraitEvent) -> bytes:
    return (event_ids + _entry(counting))[-EVENT_IDS_MAX * _ENTRY_BYTES :]
