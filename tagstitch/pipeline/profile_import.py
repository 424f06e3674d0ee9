"""Importing profiles: what is known about people elsewhere, merged into what is known here.

An import never takes an identifier from another profile (linking people is stitching's work),
never turns a recorded denial into a grant without a newer time of its own, and changes nothing
when it says what is stored already.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from tagstitch.core.errors import Conflict, InvalidInput
from tagstitch.core.fields import object_of, optional_text, optional_time
from tagstitch.core.identifier import Identifier, IdentitySettings, make_identifier
from tagstitch.core.identity_graph import new_profile_fields, touch_profile
from tagstitch.core.limits import (
    COMMIT_WRITES_MAX,
    IDENTIFIERS_PER_PROFILE_MAX,
    INTEGER_ABS_MAX,
    JSON_DEPTH_MAX,
    PROFILE_BYTES_MAX,
)
from tagstitch.core.profile import parse_profile
from tagstitch.pipeline.backend import Document, DocumentStore, Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.keyring import Keyring

_BATCH_PROFILES: Final = 30
"""Profiles of one commit: 30 of the largest stay below Firestore's 10 MiB."""

_ATTEMPTS_MAX: Final = 4
"""Tries of a batch that meets other writers; a try loads everything anew."""

_SALT_BYTES: Final = 16

_PROFILE_ID: Final = re.compile(r"(?!__)[A-Za-z0-9_.:@=+~-]{1,256}")
_IDENTIFIER_KEY: Final = re.compile(r"[a-z][a-z0-9_]{0,31}:[A-Z2-7]{26}")
_LINE_FIELDS: Final = frozenset(
    {"profile_id", "identifiers", "identifier_keys", "attributes", "consent"}
)


@dataclass(frozen=True, slots=True)
class ConsentStatement:
    """What one line says about one purpose."""

    granted: bool
    at: datetime | None
    """When the person said so; None when the line does not tell."""


@dataclass(frozen=True, slots=True)
class ProfileLine:
    """One line of an import, checked."""

    profile_id: str
    identifier_keys: tuple[str, ...]
    """Every identifier's key, the strongest type first."""
    attributes: Mapping[str, Any]
    consent: Mapping[str, ConsentStatement]


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
    rejections: list[Rejection] = field(default_factory=list)

    def add(self, other: ImportResult) -> None:
        """Add another result's counts and rejections."""
        self.created += other.created
        self.updated += other.updated
        self.unchanged += other.unchanged
        self.held_elsewhere += other.held_elsewhere
        self.rejections.extend(other.rejections)


def parse_profile_line(raw: object, settings: IdentitySettings, keyring: Keyring) -> ProfileLine:
    """Return the checked line; raises InvalidInput.

    Without a `profile_id` the profile is the one that an event with the strongest identifier
    would create.
    """
    line = object_of(raw, "")
    if unknown := line.keys() - _LINE_FIELDS:
        raise InvalidInput(
            "invalid_field", f"{len(unknown)} field(s) that a line does not have", None,
            "a line has " + ", ".join(sorted(_LINE_FIELDS)),
        )  # fmt: skip
    keys = _identifier_keys(line, settings, keyring)
    profile_id = optional_text(line, "profile_id")
    if profile_id is not None and not _PROFILE_ID.fullmatch(profile_id):
        raise InvalidInput("invalid_field", "cannot be a document id", "profile_id")
    if profile_id is None:
        if not keys:
            raise InvalidInput("missing_field", "needs a profile_id or identifiers", "identifiers")
        profile_id = "p_" + keys[0].partition(":")[2]
    attributes = object_of(_given(line, "attributes"), "attributes")
    _check_storable(attributes, "attributes", depth=1)
    return ProfileLine(profile_id, keys, attributes, _consent(line))


def in_batches(
    lines: Iterable[tuple[int, ProfileLine]],
) -> Iterator[list[tuple[int, ProfileLine]]]:
    """Yield the lines in batches that fit one commit."""
    batch: list[tuple[int, ProfileLine]] = []
    writes = 0
    for number, line in lines:
        own_writes = 1 + len(line.identifier_keys)
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
    dry_run: bool = False,
) -> ImportResult:
    """Import one batch of numbered lines in one read, one follow-up read and one commit.

    Attributes of a line win over stored ones, others stay unless `replace_attributes`. Raises
    Conflict when other writers keep winning.
    """
    for attempt in range(1, _ATTEMPTS_MAX + 1):
        batch = _Batch(await _load(documents, [line for _, line in lines], deadline), now)
        for number, line in lines:
            batch.apply(number, line, replace_attributes=replace_attributes)
        if dry_run or not batch.changed:
            return batch.result
        try:
            await documents.commit(batch.writes(), deadline=deadline)
        except Conflict:
            if attempt == _ATTEMPTS_MAX:
                raise
        else:
            return batch.result
    raise AssertionError("the last attempt returns or raises")


def export_line(document: Document) -> dict[str, Any]:
    """Return a stored profile as a line that an import reads back.

    Identifiers are stored as keyed hashes only: the line has their keys, which fit a store with
    the same TAGSTITCH_IDENTITY_KEY.
    """
    fields = document.fields
    return {
        "profile_id": document.path.partition("/")[2],
        "identifier_keys": sorted(fields.get("identifiers") or {}),
        "attributes": fields.get("attributes") or {},
        "consent": {
            purpose: {"granted": bool(entry.get("granted")), "at": entry.get("at")}
            for purpose, entry in (fields.get("consent") or {}).items()
        },
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
        if self._is_erased(path, line):
            self._reject(number, "erased", "this person was erased")
            return
        stored = self._living(path)
        profile = self._merged(line, stored, replace_attributes=replace_attributes)
        links = self._link(line, profile, profile_id)
        if len(profile["identifiers"]) > IDENTIFIERS_PER_PROFILE_MAX:
            self._reject(
                number, "invalid_field", f"above {IDENTIFIERS_PER_PROFILE_MAX} identifiers"
            )
        elif len(msgspec.msgpack.encode(profile)) > PROFILE_BYTES_MAX:
            self._reject(number, "invalid_field", f"the profile is above {PROFILE_BYTES_MAX} bytes")
        elif profile == stored and not links:
            self.result.unchanged += 1
        else:
            self.changed[path] = touch_profile(profile, now=self._now)
            self.changed |= links
            self.result.created += stored is None
            self.result.updated += stored is not None

    def writes(self) -> list[Put]:
        """Return the writes, each on the condition that nobody wrote since the read."""
        return [
            Put(path, fields, self._found[path].version if path in self._found else "")
            for path, fields in self.changed.items()
        ]

    def _fields(self, path: str) -> Mapping[str, Any] | None:
        document = self._found.get(path)
        return self.changed.get(path) or (document.fields if document else None)

    def _is_erased(self, profile_path: str, line: ProfileLine) -> bool:
        """Return whether a tombstone lies in the profile's or in an identifier's document."""
        paths = [profile_path, *(f"identifiers/{key}" for key in line.identifier_keys)]
        return any((self._fields(path) or {}).get("erased_at") is not None for path in paths)

    def _living(self, path: str) -> Mapping[str, Any] | None:
        """Return the stored profile's fields, or None when there is none or it has expired.

        A document that somebody wrote by hand with flat attributes gets the usual shape.
        """
        fields = self._fields(path)
        known = parse_profile(path, fields, now=self._now) if fields is not None else None
        if known is None or fields is None:
            return None
        if known.attributes is fields.get("attributes") or "created_at" in fields:
            return fields
        return {"attributes": dict(known.attributes)}

    def _target(self, line: ProfileLine) -> str:
        """Return the profile that the line's id stands for now: itself, or who survived a merge."""
        profile_id = line.profile_id
        if line.identifier_keys and profile_id == _primary_id(line.identifier_keys[0]):
            pointer = self._fields(f"identifiers/{line.identifier_keys[0]}")
            profile_id = (pointer or {}).get("profile_id") or profile_id
        stored = self._fields(f"profiles/{profile_id}") or {}
        return str(stored.get("merged_into") or profile_id)

    def _merged(
        self, line: ProfileLine, stored: Mapping[str, Any] | None, *, replace_attributes: bool
    ) -> dict[str, Any]:
        if stored is None:
            stored = new_profile_fields(now=self._now, salt=os.urandom(_SALT_BYTES))
        profile = dict(stored)
        old = {} if replace_attributes else profile.get("attributes") or {}
        profile["attributes"] = {**old, **line.attributes}
        consent = dict(profile.get("consent") or {})
        for purpose, statement in line.consent.items():
            if (entry := self._newer(statement, consent.get(purpose))) is not None:
                consent[purpose] = entry
        profile["consent"] = consent
        profile["identifiers"] = dict(profile.get("identifiers") or {})
        profile.setdefault("created_at", self._now)  # missing where somebody wrote by hand
        return profile

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
            profile["identifiers"].setdefault(key, seen)
            path = f"identifiers/{key}"
            if _primary_id(key) != profile_id and self._fields(path) is None:
                links[path] = {"profile_id": profile_id, "type": key.partition(":")[0], **seen}
        return links

    def _holder(self, key: str) -> str | None:
        """Return the profile that the identifier belongs to, or None when it is free."""
        pointer = self._fields(f"identifiers/{key}")
        if pointer is not None:
            return str(pointer.get("profile_id"))
        own = self._fields(f"profiles/{_primary_id(key)}")
        if own is None:
            return None
        return str(own.get("merged_into") or _primary_id(key))

    def _reject(self, number: int, code: str, message: str) -> None:
        self.result.rejections.append(Rejection(number, code, message))


async def _load(
    documents: DocumentStore, lines: Sequence[ProfileLine], deadline: Deadline
) -> Mapping[str, Document]:
    paths = {f"profiles/{line.profile_id}" for line in lines}
    for line in lines:
        for key in line.identifier_keys:
            paths |= {f"identifiers/{key}", f"profiles/{_primary_id(key)}"}
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


def _primary_id(key: str) -> str:
    """Return the id of the profile that an event with this identifier creates."""
    return "p_" + key.partition(":")[2]


def _given(line: Mapping[str, Any], name: str) -> object:
    """Return the line's field; an absent one and null stand for nothing."""
    value = line.get(name)
    return {} if value is None else value


def _identifier_keys(
    line: Mapping[str, Any], settings: IdentitySettings, keyring: Keyring
) -> tuple[str, ...]:
    identifiers: set[Identifier] = set()
    for type_, values in object_of(_given(line, "identifiers"), "identifiers").items():
        if type_ not in settings.types:
            raise InvalidInput(
                "invalid_field", "an identifier type that is not declared", "identifiers",
                "declared types: " + ", ".join(settings.types),
            )  # fmt: skip
        for value in values if isinstance(values, list) else [values]:
            identifier = make_identifier(type_, value, path=f"identifiers.{type_}")
            if settings.is_blocked(identifier):
                raise InvalidInput(
                    "invalid_field", "a value that many visitors share", f"identifiers.{type_}"
                )
            identifiers.add(identifier)
    keys = [keyring.identifier_key(i) for i in sorted(identifiers, key=settings.priority)]
    given = line.get("identifier_keys") or []
    if not isinstance(given, list) or not all(
        isinstance(key, str) and _IDENTIFIER_KEY.fullmatch(key) for key in given
    ):
        raise InvalidInput("invalid_field", "must be keys from an export", "identifier_keys")
    return tuple(dict.fromkeys([*keys, *given]))


def _consent(line: Mapping[str, Any]) -> dict[str, ConsentStatement]:
    """Return purpose -> statement; whatever is not clearly a grant is a denial."""
    statements = {}
    for purpose, said in object_of(_given(line, "consent"), "consent").items():
        if isinstance(said, Mapping):
            at = optional_time(said, "at")
            statements[purpose] = ConsentStatement(_is_grant(said.get("granted")), at)
        else:
            statements[purpose] = ConsentStatement(_is_grant(said), None)
    return statements


def _is_grant(said: object) -> bool:
    return said is True or said == "granted"


def _check_storable(value: Any, path: str, *, depth: int) -> None:
    """Raise InvalidInput for what a document cannot hold."""
    if depth > JSON_DEPTH_MAX - 2:  # below `attributes`, which is below the document
        raise InvalidInput("json_too_deep", "too many levels", path)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > INTEGER_ABS_MAX:
        raise InvalidInput("invalid_field", "an integer of more than 64 bits", path)
    if isinstance(value, Mapping):
        for entry in value.values():
            _check_storable(entry, path, depth=depth + 1)
    elif isinstance(value, list):
        for entry in value:
            if isinstance(entry, list):
                raise InvalidInput("invalid_field", "a list directly within a list", path)
            _check_storable(entry, path, depth=depth + 1)
