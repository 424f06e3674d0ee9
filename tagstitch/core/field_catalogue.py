"""A field catalogue: which fields events and profiles have, learned from samples.

It holds names and types, never a value. Nested fields are written as in conditions: `a.b`, and
`items.$.price` for the elements of a list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from tagstitch.core.errors import InvalidInput
from tagstitch.core.limits import (
    CATALOGUE_EVENT_NAMES_MAX,
    CATALOGUE_FIELDS_MAX,
    CATALOGUE_NAME_CHARS_MAX,
    PATH_SEGMENTS_MAX,
)
from tagstitch.core.value_kinds import Kind, kind_of

_VERSION: Final = 1


class SeenField(msgspec.Struct, frozen=True):
    """One field of the samples."""

    count: int
    """Samples that have it."""
    types: Mapping[str, int]
    """Kind of value -> samples that have it so."""


@dataclass(slots=True)
class SeenFields:
    """What was seen under one event name, or in all profiles."""

    count: int = 0
    fields: dict[str, SeenField] = field(default_factory=dict)
    is_cut: bool = False
    """Whether there were more fields than a catalogue keeps."""

    def add(self, sample: Mapping[str, Any]) -> None:
        """Count one sample."""
        self.count += 1
        kinds: dict[str, set[Kind]] = {}
        for name, value in _fields_below(sample, "", 1):
            kind = kind_of(value)
            if kind != "absent":
                kinds.setdefault(name, set()).add(kind)
        for name, found in kinds.items():
            seen = self.fields.get(name)
            if seen is None and len(self.fields) >= CATALOGUE_FIELDS_MAX:
                self.is_cut = True
                continue
            types = dict(seen.types) if seen is not None else {}
            for kind in found:
                types[kind] = types.get(kind, 0) + 1
            self.fields[name] = SeenField((seen.count if seen is not None else 0) + 1, types)

    def to_json(self) -> dict[str, Any]:
        """Return it as a document."""
        return {
            "count": self.count,
            "is_cut": self.is_cut,
            "fields": {
                name: {
                    "count": seen.count,
                    "share": round(seen.count / self.count, 4),
                    "types": dict(sorted(seen.types.items())),
                }
                for name, seen in sorted(self.fields.items())
            },
        }


@dataclass(slots=True)
class FieldCatalogue:
    """All fields of the samples; it grows as samples are added."""

    events: dict[str, SeenFields] = field(default_factory=dict)
    profiles: SeenFields = field(default_factory=SeenFields)
    is_cut: bool = False
    """Whether there were more event names than a catalogue keeps."""

    def add_event(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Learn from one event."""
        if name not in self.events:
            if len(self.events) >= CATALOGUE_EVENT_NAMES_MAX or not _is_name(name):
                self.is_cut = True
                return
            self.events[name] = SeenFields()
        self.events[name].add(parameters)

    def add_profile(self, attributes: Mapping[str, Any]) -> None:
        """Learn from one profile's attributes."""
        self.profiles.add(attributes)

    @property
    def attribute_names(self) -> frozenset[str]:
        """The profiles' attributes at the top level."""
        return frozenset(name.partition(".")[0] for name in self.profiles.fields)

    def to_json(self) -> dict[str, Any]:
        """Return the catalogue as a document that `parse_catalogue` reads."""
        return {
            "version": _VERSION,
            "is_cut": self.is_cut,
            "events": {name: seen.to_json() for name, seen in sorted(self.events.items())},
            "profiles": self.profiles.to_json(),
        }


class _Seen(msgspec.Struct):
    count: int
    fields: dict[str, SeenField]
    is_cut: bool = False


class _Document(msgspec.Struct):
    version: int
    events: dict[str, _Seen]
    profiles: _Seen
    is_cut: bool = False


def parse_catalogue(raw: object) -> FieldCatalogue:
    """Return the catalogue of a document; raises InvalidInput."""
    hint = "tagstitch rules fields makes one"
    try:
        document = msgspec.convert(raw, _Document)
    except msgspec.ValidationError as error:
        raise InvalidInput("invalid_field", "not a field catalogue", None, hint) from error
    if document.version != _VERSION:
        raise InvalidInput("invalid_field", "not a version that is read here", "version", hint)
    events = {name: _seen_fields(seen) for name, seen in document.events.items()}
    return FieldCatalogue(events, _seen_fields(document.profiles), document.is_cut)


def _seen_fields(seen: _Seen) -> SeenFields:
    return SeenFields(seen.count, seen.fields, seen.is_cut)


def _fields_below(value: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of everything below an object or a list."""
    if depth > PATH_SEGMENTS_MAX:
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if _is_name(key):
                path = f"{name}.{key}" if name else key
                yield path, inner
                yield from _fields_below(inner, path, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield f"{name}.$", inner
            yield from _fields_below(inner, f"{name}.$", depth + 1)


def _is_name(key: str) -> bool:
    """Return whether a key is short enough for a name; an address or a text is none."""
    return 0 < len(key) <= CATALOGUE_NAME_CHARS_MAX and "@" not in key
