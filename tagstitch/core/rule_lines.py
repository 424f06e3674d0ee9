"""A rule book's content as text: one definition a line, in one order, whatever order it came in.

The same definitions are the same bytes. So the hash of the content is the book's version, and
whoever holds the lines of one version finds what changed in the next without decoding it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tagstitch.core.rule_definitions import COLLECTIONS, RuleDefinitions

PROTECTED: Final = "protected"
"""Stands in the place of a collection for the names that are read from the profile alone."""


def encode_line(collection: str, definition_id: str, definition: object) -> bytes:
    """Return `[collection, id, definition]` as JSON with its keys in order.

    A time becomes text, as it has to anyway to be read back. A definition that JSON cannot say,
    or that would come back with another meaning, becomes a text, which is no definition.
    """
    try:
        line = _ENCODER.encode((collection, definition_id, definition))
    except Exception:  # noqa: BLE001 - whatever a store or a file holds: one definition of many
        return _unreadable(collection, definition_id)
    if b"null" in line and _holds_nan(definition):  # not a number is written as null
        return _unreadable(collection, definition_id)
    return line


def _unreadable(collection: str, definition_id: object) -> bytes:
    known_id = str(definition_id).encode(errors="replace").decode()
    return _ENCODER.encode((collection, known_id, "unreadable"))


def _holds_nan(value: object) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Mapping):
        return any(map(_holds_nan, value.values()))
    return isinstance(value, list | tuple) and any(map(_holds_nan, value))


def lines_of(definitions: RuleDefinitions) -> list[bytes]:
    """Return the lines of these definitions, in their order."""
    return sorted(
        [
            encode_line(collection, definition_id, definition)
            for collection, found in definitions.collections.items()
            for definition_id, definition in found.items()
        ]
        + [encode_line(PROTECTED, name, definition=True) for name in definitions.protected_names]
    )


def content_of(definitions: RuleDefinitions) -> bytes:
    """Return the lines as one text."""
    return b"".join(line + b"\n" for line in lines_of(definitions))


def definitions_of(content: bytes) -> RuleDefinitions:
    """Return the definitions of a content; raises ValueError when it is not one."""
    found: dict[str, dict[str, Any]] = {name: {} for name in (*COLLECTIONS, PROTECTED)}
    for line in content.splitlines():
        collection, definition_id, definition = decode_line(line)
        found[collection][definition_id] = definition
    protected = tuple(found.pop(PROTECTED))
    return RuleDefinitions.of(found, protected)


def decode_line(line: bytes) -> tuple[str, str, Any]:
    """Return collection, id and definition; raises ValueError for anything else."""
    collection, definition_id, definition = _DECODER.decode(line)
    if collection != PROTECTED and collection not in COLLECTIONS:
        raise ValueError("a line of an unknown collection")
    return collection, definition_id, definition


def prefix_of(collection: str) -> bytes:
    """Return how the lines of a collection begin."""
    return b'["' + collection.encode() + b'",'


VERSION_PREFIX: Final = "sha256:"


def _mark(value: object) -> str:
    return str(type(value))


_ENCODER: Final = msgspec.json.Encoder(order="sorted", enc_hook=_mark)
_DECODER: Final = msgspec.json.Decoder(tuple[str, str, Any])
