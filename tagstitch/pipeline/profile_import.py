"""Importing profiles: what is known about people elsewhere, merged into what is known here.

An import never takes an identifier from another profile (linking people is stitching's work),
never turns a recorded denial into a grant without a newer time of its own, and changes nothing
when it says what is stored already. What is older never overwrites what is newer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from tagstitch.core.attribute_times import merge_attributes
from tagstitch.core.document_size import document_bytes
from tagstitch.core.erasure import is_tombstone
from tagstitch.core.errors import Conflict
from tagstitch.core.identity_graph import (
    SALT_BYTES,
    alias_fields,
    identifier_fields,
    links_expiry,
    new_profile_fields,
    touch_profile,
)
from tagstitch.core.limits import (
    COMMIT_WRITES_MAX,
    IDENTIFIERS_PER_PROFILE_MAX,
    PROFILE_BYTES_MAX,
)
from tagstitch.core.profile import parse_profile, survivor_id, typed_profile
from tagstitch.pipeline.backend import Document, DocumentStore, Put, Write
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.keyring import own_profile_id
from tagstitch.pipeline.own_places import still_leads
from tagstitch.pipeline.profile_line import ConsentStatement, ProfileLine
from tagstitch.pipeline.renew_links import renewed_links

_BATCH_PROFILES: Final = 30
"""Profiles of one commit: 30 of the largest stay below Firestore's 10 MiB."""

_ATTEMPTS_MAX: Final = 4
"""Tries of a batch that meets other writers; a try loads everything anew."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A line that was not imported."""

    line: int
    code: str
    message: str
    path: str | None = None


@dataclass(slots=True)
class ImportResult:
    """What an import did; one batch's result adds to the whole's."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    held_elsewhere: int = 0
    """Identifiers that stay with another profile."""
    older_values: int = 0
    """Attributes that stay as they are because they were set later than the line says."""
    rejections: list[Rejection] = field(default_factory=list)

    def add(self, other: ImportResult) -> None:
        """Add another result's counts and rejections."""
        self.created += other.created
        self.updated += other.updated
        self.unchanged += other.unchanged
        self.held_elsewhere += other.held_elsewhere
        self.older_values += other.older_values
        self.rejections.extend(other.rejections)


def in_batches(
    lines: Iterable[tuple[int, ProfileLine]],
) -> Iterator[list[tuple[int, ProfileLine]]]:
    """Yield the lines in batches that fit one commit."""
    batch: list[tuple[int, ProfileLine]] = []
    writes = 0
    for number, line in lines:
        own_writes = 1 + 2 * len(line.identifier_keys)  # each with its alias
        if batch and (len(batch) >= _BATCH_PROFILES or writes + own_writes > COMMIT_WRITES_MAX):
            yield batch
            batch, writes = [], 0
        batch.append((number, line))
        writes += own_writes
    if batch:
        yield batch


async def import_profiles(
    documents: DocumentStore,
    lines: Sequence[tuple[int, ProfileLine]],
    *,
    now: datetime,
    deadline: Deadline,
    replace_attributes: bool = False,
    if_version: str | None = None,
    dry_run: bool = False,
) -> ImportResult:
    """Import one batch of numbered lines in one read, one follow-up read and one commit.

    Attributes of a line win over stored ones that were not set later, others stay unless
    `replace_attributes`. With `if_version` the lines' own documents must have that version ("":
    must not exist). Raises Conflict when they do not, and when other writers keep winning.
    """
    for attempt in range(1, _ATTEMPTS_MAX + 1):
        batch = _Batch(await _load(documents, [line for _, line in lines], deadline), now)
        if if_version is not None:
            batch.check_version(if_version, [line.profile_id for _, line in lines])
        for number, line in lines:
            batch.apply(number, line, replace_attributes=replace_attributes)
        if dry_run or not batch.changed:
            return batch.result
        try:
            for writes in (*await batch.renewals(documents, deadline=deadline), batch.writes()):
                await documents.commit(writes, deadline=deadline)
        except Conflict:
            if attempt == _ATTEMPTS_MAX:
                raise
        else:
            return batch.result
    raise AssertionError("the last attempt returns or raises")


def export_line(document: Document) -> dict[str, Any]:
    """Return a stored profile as a line that an import reads back.

    Identifiers are stored as keyed hashes only: the line has their keys, which fit a store with
    the same TAGSTITCH_IDENTITY_KEY. Attributes are what was imported, each with its time.
    """
    profile = typed_profile(document.path.partition("/")[2], document.fields)
    times = {
        "created_at": profile.created_at,
        "attributes_at": profile.created_at,
        "attribute_times": profile.fields.get("attribute_times"),
    }
    return {
        "profile_id": profile.profile_id,
        "identifier_keys": sorted(profile.identifiers),
        "attributes": profile.fields["attributes"],
        "consent": {
            purpose: {"granted": entry["granted"], "at": entry.get("at")}
            for purpose, entry in profile.consent.items()
        },
        **{name: value for name, value in times.items() if value},
    }


class _Batch:
    """The documents of a batch, in memory: lines of one file may speak of one person twice."""

    def __init__(self, found: Mapping[str, Document], now: datetime) -> None:
        self._found = found
        self._now = now
        self.changed: dict[str, dict[str, Any]] = {}
        self.result = ImportResult()

    def apply(self, number: int, line: ProfileLine, *, replace_attributes: bool) -> None:
        """Merge one line into the documents, or record why not."""
        profile_id = self._target(line)
        path = f"profiles/{profile_id}"
        if self._is_erased(line):
            self._reject(number, "erased", "this person was erased")
            return
        stored = self._living(path)
        if stored is not None and survivor_id(stored) is not None:
            if self._is_blocked(profile_id):
                self._reject(number, "blocked", "a review blocked this identifier")
                return
            stored = None  # an alias that leads to nobody
        profile, older = self._merged(line, stored, replace_attributes=replace_attributes)
        links = self._link(line, profile, profile_id)
        if len(profile["identifiers"]) > IDENTIFIERS_PER_PROFILE_MAX:
            self._reject(
                number, "invalid_field", f"above {IDENTIFIERS_PER_PROFILE_MAX} identifiers"
            )
        elif document_bytes(profile) > PROFILE_BYTES_MAX:
            self._reject(number, "invalid_field", f"the profile is above {PROFILE_BYTES_MAX} bytes")
        elif profile == stored and not links:
            self.result.unchanged += 1
            self.result.older_values += older
        else:
            self.result.older_values += older
            touched = self.changed[path] = touch_profile(profile, now=self._now)
            self.changed |= {
                place: {**link, "expires_at": links_expiry(touched)}
                for place, link in links.items()
            }
            self.result.created += stored is None
            self.result.updated += stored is not None

    def check_version(self, version: str, profile_ids: Sequence[str]) -> None:
        """Raise Conflict where a profile's own document has another version or is an alias now."""
        for path in (f"profiles/{profile_id}" for profile_id in profile_ids):
            document = self._found.get(path)
            if (document.version if document else "") != version:
                raise Conflict("the profile has another version")
            if document is not None and survivor_id(document.fields) is not None:
                raise Conflict("the profile was merged into another one")

    def writes(self) -> list[Put]:
        """Return the writes, each on the condition that nobody wrote since the read."""
        return [
            Put(path, fields, self._found[path].version if path in self._found else "")
            for path, fields in self.changed.items()
        ]

    async def renewals(
        self, documents: DocumentStore, *, deadline: Deadline
    ) -> Sequence[Sequence[Write]]:
        """Return commits that go before: with them links may live too long, but never too short."""
        renewed: list[Write] = []
        for path, fields in self.changed.items():
            stored = self._found.get(path)
            if path.startswith("profiles/") and stored is not None and "identifiers" in fields:
                renewed += await renewed_links(
                    documents,
                    path.partition("/")[2],
                    stored.fields,
                    fields,
                    written=self.changed,
                    deadline=deadline,
                )
        return [
            renewed[start : start + COMMIT_WRITES_MAX]
            for start in range(0, len(renewed), COMMIT_WRITES_MAX)
        ]

    def _fields(self, path: str) -> Mapping[str, Any] | None:
        document = self._found.get(path)
        return self.changed.get(path) or (document.fields if document else None)

    def _is_erased(self, line: ProfileLine) -> bool:
        """Return whether the line's id or an identifier of it leads to a tombstone."""
        ids = {line.profile_id, line.tombstone_id, *map(own_profile_id, line.identifier_keys)}
        places = [self._fields(f"profiles/{profile_id}") or {} for profile_id in ids - {""}]
        led_to = [
            self._fields(f"profiles/{target}") or {}
            for target in map(survivor_id, places)
            if target is not None
        ]
        return any(is_tombstone(fields, now=self._now) for fields in (*places, *led_to))

    def _living(self, path: str) -> Mapping[str, Any] | None:
        """Return the stored document in our own shape, or None when there is none or it expired."""
        fields = self._fields(path)
        known = parse_profile(path, fields, now=self._now) if fields is not None else None
        return {**known.fields, "consent": known.consent} if known is not None else None

    def _target(self, line: ProfileLine) -> str:
        """Return the profile that the line's id stands for today: itself, or who survived a merge."""
        return self._led_to(line.profile_id) or line.profile_id

    def _merged(
        self, line: ProfileLine, stored: Mapping[str, Any] | None, *, replace_attributes: bool
    ) -> tuple[dict[str, Any], int]:
        """Return the profile after the line, and how many of its values are older than stored."""
        if stored is None:
            stored = new_profile_fields(now=self._now, salt=os.urandom(SALT_BYTES))
            stored["created_at"] = min(line.created_at or self._now, self._now)
        profile = dict(stored)
        merged = merge_attributes(stored, line.statement, now=self._now, replace=replace_attributes)
        profile["attributes"] = merged.values
        if merged.times or "attribute_times" in profile:
            profile["attribute_times"] = merged.times
        consent = dict(profile.get("consent") or {})
        for purpose, statement in line.consent.items():
            if (entry := self._newer(statement, consent.get(purpose))) is not None:
                consent[purpose] = entry
        profile["consent"] = consent
        profile["identifiers"] = dict(profile.get("identifiers") or {})
        profile.setdefault("created_at", self._now)  # missing where somebody wrote by hand
        return profile, merged.older

    def _newer(self, said: ConsentStatement, stored: Any) -> dict[str, Any] | None:
        """Return what to store when the statement is newer than the stored one; a tie is a denial."""
        entry = {"granted": said.granted, "at": said.at or self._now, "source": "import"}
        if not isinstance(stored, Mapping):
            return entry
        if bool(stored.get("granted")) == said.granted and said.at is None:
            return None
        if said.at is None:
            return None if said.granted else entry  # an undated grant never ends a denial
        stored_at = stored.get("at")
        if isinstance(stored_at, datetime) and (
            stored_at > said.at or (stored_at == said.at and said.granted)
        ):
            return None
        return None if dict(stored) == entry else entry

    def _link(
        self, line: ProfileLine, profile: dict[str, Any], profile_id: str
    ) -> dict[str, dict[str, Any]]:
        """Add the line's identifiers to the profile; return the documents that point to it."""
        links = {}
        for key in line.identifier_keys:
            if self._holder(key) not in (None, profile_id):
                self.result.held_elsewhere += 1
                continue
            seen = {"first_seen": self._now, "last_seen": self._now}
            is_new = key not in profile["identifiers"]
            profile["identifiers"].setdefault(key, seen)
            place = f"profiles/{own_profile_id(key)}"
            alias = self._living(place)
            # An alias of a profile that does not have the identifier was read before a split:
            # written again it is a condition, which does not hold then.
            if own_profile_id(key) != profile_id and (alias is None or is_new):
                salt = (alias or {}).get("salt")
                links[place] = alias_fields(profile_id, expires_at=None, salt=salt)
                links[f"identifiers/{key}"] = identifier_fields(
                    key, profile_id, seen, expires_at=None
                )
        return links

    def _holder(self, key: str) -> str | None:
        """Return the profile that the identifier belongs to, or None when it is free."""
        place = own_profile_id(key)
        own = self._living(f"profiles/{place}")
        if own is None:
            return None
        if survivor_id(own) is None:
            return place
        # Nobody has a blocked one, and an import does not take the block away.
        return self._led_to(place) or (survivor_id(own) if self._is_blocked(place) else None)

    def _is_blocked(self, place: str) -> bool:
        """Return whether a review blocked the identifier whose own place this is."""
        fields = self._fields(f"profiles/{place}") or {}
        return "blocked_at" in fields and survivor_id(fields) is not None

    def _led_to(self, place: str) -> str | None:
        """Return the living profile to which the alias in a place leads, or None."""
        alias = self._fields(f"profiles/{place}") or {}
        target = survivor_id(alias)
        home = self._living(f"profiles/{target}") if target is not None else None
        if target is None or home is None:
            return None
        return target if still_leads(place, alias, typed_profile(target, home)) else None

    def _reject(self, number: int, code: str, message: str) -> None:
        self.result.rejections.append(Rejection(number, code, message))


async def _load(
    documents: DocumentStore, lines: Sequence[ProfileLine], deadline: Deadline
) -> Mapping[str, Document]:
    paths = {f"profiles/{line.profile_id}" for line in lines}
    paths |= {f"profiles/{line.tombstone_id}" for line in lines if line.tombstone_id}
    for line in lines:
        for key in line.identifier_keys:
            paths |= {f"identifiers/{key}", f"profiles/{own_profile_id(key)}"}
    found = dict(await documents.get_many(sorted(paths), deadline=deadline))
    led_to = {
        f"profiles/{target}"
        for document in found.values()
        for target in (document.fields.get("profile_id"), document.fields.get("merged_into"))
        if isinstance(target, str)
    }
    if missing := sorted(led_to - found.keys()):
        found |= await documents.get_many(missing, deadline=deadline)
    return found
