"""Bundles: the content of published rule books, kept by their hash.

`rule_bundles/{hash}` and `rule_bundles/{hash}-{n}` hold one content, compressed and in parts, since
a document ends at 1 MiB. A bundle never changes and is never removed: an audit record names the
version that decided, and a decision can be replayed as long as its record is kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from tagstitch.core.errors import InvalidInput, Unavailable
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.core.rule_lines import VERSION_PREFIX, definitions_of
from tagstitch.pipeline.backend import Document, DocumentStore, Put
from tagstitch.pipeline.deadline import Deadline

PART_BYTES_MAX: Final = 900_000
"""Bytes of a bundle's part: a Firestore document ends at 1 MiB, its field names included
(https://cloud.google.com/firestore/quotas)."""

BUNDLE_BYTES_MAX: Final = 512 * 1024 * 1024
"""Bytes of an unpacked bundle: a million rules; more is a damaged document."""

_PARTS_MAX: Final = 1_000
"""Parts of a bundle: more than the largest content gives."""


def bundle_writes(content: bytes, now: datetime) -> list[Put]:
    """Return the writes that store a content; the first part says how many there are."""
    packed = zlib.compress(content)
    parts = [packed[i : i + PART_BYTES_MAX] for i in range(0, len(packed), PART_BYTES_MAX)]
    content_hash = hash_of(content)
    return [
        Put(
            _part_path(content_hash, i), {"content": part, "parts": len(parts), "published_at": now}
        )
        for i, part in enumerate(parts)
    ]


def hash_of(content: bytes) -> str:
    """Return the hash by which a content is kept."""
    return hashlib.sha256(content).hexdigest()


async def load_content(
    documents: DocumentStore, content_hash: str, parts: int | None, deadline: Deadline
) -> bytes:
    """Return a bundle's content; raises Unavailable when a part is missing or damaged.

    Without the number of parts the first one is read to tell it.
    """
    found: dict[str, Document] = {}
    if parts is None:
        first = await documents.get(_part_path(content_hash, 0), deadline=deadline)
        parts = _parts_of(first)
        found = {first.path: first} if first is not None else {}
    paths = [_part_path(content_hash, part) for part in range(parts)]
    left = [path for path in paths if path not in found]
    if left:
        found |= await documents.get_many(left, deadline=deadline)
    # In a thread: both release the interpreter's lock, and 100,000 rules are some 30 MB.
    return await asyncio.to_thread(_unpack, [found.get(path) for path in paths], content_hash)


async def load_bundle_of_version(
    documents: DocumentStore, version: str, deadline: Deadline
) -> RuleDefinitions:
    """Return the definitions of the rule book of this version, however long ago it was published.

    Raises InvalidInput when there is none, and Unavailable when it is damaged.
    """
    content_hash = version.removeprefix(VERSION_PREFIX)
    content = await load_content(documents, content_hash, None, deadline)
    return decode_content(content)


def decode_content(content: bytes) -> RuleDefinitions:
    """Return the definitions; raises Unavailable when the content is not one."""
    try:
        return definitions_of(content)
    except ValueError as error:  # also msgspec's
        raise Unavailable("rules", "the published bundle is damaged") from error


def _parts_of(first: Document | None) -> int:
    parts: Any = first.fields.get("parts") if first is not None else None
    if not isinstance(parts, int) or not 0 < parts <= _PARTS_MAX:
        raise InvalidInput("not_found", "no rule book of this version is kept")
    return parts


def _unpack(parts: Sequence[Document | None], content_hash: str) -> bytes:
    fields: list[Mapping[str, Any]] = [part.fields for part in parts if part is not None]
    try:
        packed = b"".join(part["content"] for part in fields)
        content = zlib.decompressobj().decompress(packed, BUNDLE_BYTES_MAX)
    except (KeyError, TypeError, zlib.error) as error:
        raise Unavailable("rules", "the published bundle is incomplete") from error
    if len(fields) != len(parts) or hash_of(content) != content_hash:
        raise Unavailable("rules", "the published bundle is damaged")
    return content


def _part_path(content_hash: str, part: int) -> str:
    return f"rule_bundles/{content_hash}" + (f"-{part}" if part else "")
