"""Publishing rules: documents, bundle, pointer, in this order; and loading them back.

`rule_book/current` is the pointer that decide reads once an interval. `rule_bundles/{hash}` holds
what it points to, compressed and in parts, since a document ends at 1 MiB. People edit the
documents in `event_rules` and `personalization_rules`; nothing that they break there reaches
decide before it is published.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from tagstitch.core.errors import InvalidInput, Unavailable
from tagstitch.core.limits import COMMIT_WRITES_MAX
from tagstitch.core.rule_book import BrokenRule, compile_rule_book
from tagstitch.core.rule_definitions import COLLECTIONS, RuleDefinitions
from tagstitch.pipeline.backend import Delete, DocumentStore, Put, Write
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.list_all import list_all

POINTER_PATH: Final = "rule_book/current"

PART_BYTES_MAX: Final = 900_000
"""Bytes of a bundle's part: a Firestore document ends at 1 MiB, its field names included
(https://cloud.google.com/firestore/quotas)."""

BUNDLE_BYTES_MAX: Final = 512 * 1024 * 1024
"""Bytes of an unpacked bundle: a million rules; more is a damaged document."""

_COMMIT_BYTES_MAX: Final = 8_000_000
"""Bytes of one commit: Firestore's limit is 10 MiB."""


class UnexpectedlyEmpty(InvalidInput):
    """The store holds no rules while some are published: more often an accident than a wish."""

    def __init__(self) -> None:
        super().__init__("invalid_field", "the store holds no rules, the published set does")


@dataclass(frozen=True, slots=True)
class RulePointer:
    """What `rule_book/current` says."""

    hash: str
    """SHA-256 of the bundle's content; the id of its documents."""
    version: str
    """The compiled book's version, as decisions and audit records name it."""
    parts: int
    published_at: datetime
    counts: Mapping[str, int]
    """Published rules by collection, and under `broken` the rules that are not as edited."""
    previous: Mapping[str, Any] | None = None
    """`{hash, parts}` of the bundle before, kept for a reader that still holds the old pointer."""
    document_version: str = ""
    """For the precondition of the next publication."""

    def says_the_same_as(self, other: RulePointer) -> bool:
        """Return whether both lead a reader to the same rules, and count the same broken ones."""
        mine, its = (
            (self.hash, self.version, self.counts),
            (other.hash, other.version, other.counts),
        )
        return mine == its


@dataclass(frozen=True, slots=True)
class Publication:
    """What a publication did."""

    pointer: RulePointer
    is_new: bool
    """False when the published content was the same already."""
    broken: Sequence[BrokenRule] = ()
    kept: Sequence[str] = ()
    """Ids of broken rules whose last valid version stays published."""


async def load_pointer(documents: DocumentStore, deadline: Deadline) -> RulePointer | None:
    """Return the pointer, or None when nothing was published yet."""
    document = await documents.get(POINTER_PATH, deadline=deadline)
    if document is None:
        return None
    try:
        return msgspec.convert(
            {**document.fields, "document_version": document.version}, RulePointer
        )
    except msgspec.ValidationError as error:
        raise Unavailable("rules", "the pointer rule_book/current is damaged") from error


async def load_bundle(
    documents: DocumentStore, pointer: RulePointer, deadline: Deadline
) -> RuleDefinitions:
    """Return the published rules; raises Unavailable when a part is missing or damaged."""
    paths = [_part_path(pointer.hash, part) for part in range(pointer.parts)]
    found = await documents.get_many(paths, deadline=deadline)
    try:
        packed = b"".join(found[path].fields["content"] for path in paths)
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(packed, BUNDLE_BYTES_MAX)
        if hashlib.sha256(content).hexdigest() != pointer.hash:
            raise Unavailable("rules", "the published bundle is damaged")
        return _decode_bundle(content)
    except (KeyError, TypeError, zlib.error, msgspec.MsgspecError) as error:
        raise Unavailable("rules", "the published bundle is incomplete") from error


async def load_definitions(documents: DocumentStore, deadline: Deadline) -> RuleDefinitions:
    """Return the rules as people edit them in the store."""
    return RuleDefinitions.of(
        {
            collection: {
                document.path.partition("/")[2]: dict(document.fields)
                for document in await list_all(documents, collection, deadline=deadline)
            }
            for collection in COLLECTIONS
        }
    )


async def publish_rules(
    documents: DocumentStore,
    definitions: RuleDefinitions,
    now: datetime,
    deadline: Deadline,
    *,
    removed: Sequence[str] = (),
) -> Publication:
    """Make these the published rules: first their documents, then the bundle, then the pointer.

    They are the whole set; `removed` are the paths of documents that go. A document that says the
    same already is not written. Raises Conflict when somebody else published meanwhile: load and
    try again. A rule that does not compile is written and stays out of the bundle.
    """
    pointer = await load_pointer(documents, deadline)  # before the rules: see _publish
    stored = await load_definitions(documents, deadline)
    writes: list[Write] = [
        Put(f"{collection}/{rule_id}", rule)
        for collection, rules in definitions.collections.items()
        for rule_id, rule in rules.items()
        if rule_id not in (old := stored.collections[collection]) or _differ(old[rule_id], rule)
    ]
    writes.extend(Delete(path) for path in removed)
    for batch in _batches(writes):
        await documents.commit(batch, deadline=deadline)
    return await _publish(documents, definitions, pointer, now, deadline)


async def publish_stored_rules(
    documents: DocumentStore, now: datetime, deadline: Deadline, *, allow_empty: bool = False
) -> Publication:
    """Publish what was edited in the store; a broken rule keeps its last valid version.

    Raises UnexpectedlyEmpty when the store has no rules while some are published.
    """
    pointer, definitions = await _load_stored(documents, deadline, allow_empty=allow_empty)
    return await _publish(documents, definitions, pointer, now, deadline)


async def publish_edited_rules(
    documents: DocumentStore, now: datetime, deadline: Deadline
) -> Publication | None:
    """Publish what was edited in the store, or return None where rules were never used.

    For the schedule: it never begins a rule book that nobody has. Otherwise as
    `publish_stored_rules`.
    """
    pointer, definitions = await _load_stored(documents, deadline, allow_empty=False)
    if pointer is None and definitions.is_empty:
        return None
    return await _publish(documents, definitions, pointer, now, deadline)


async def _load_stored(
    documents: DocumentStore, deadline: Deadline, *, allow_empty: bool
) -> tuple[RulePointer | None, RuleDefinitions]:
    pointer = await load_pointer(documents, deadline)  # before the rules: see _publish
    definitions = await load_definitions(documents, deadline)
    if definitions.is_empty and not allow_empty and pointer and any(pointer.counts.values()):
        raise UnexpectedlyEmpty
    return pointer, definitions


async def _publish(
    documents: DocumentStore,
    definitions: RuleDefinitions,
    pointer: RulePointer | None,
    now: datetime,
    deadline: Deadline,
) -> Publication:
    """Write bundle and pointer.

    `pointer` was read before the definitions: whoever published since then read newer ones, and
    the pointer's precondition keeps these from replacing them.
    """
    definitions = _decode_bundle(_encode_bundle(definitions))  # a stored time becomes text
    # In a thread: 100,000 rules take seconds, and the process has other requests.
    book = await asyncio.to_thread(compile_rule_book, definitions)
    broken = book.broken
    kept: list[str] = []
    if broken:
        last = await _last_valid(documents, pointer, deadline)
        definitions, kept = _replace_broken(definitions, broken, last)
        book = await asyncio.to_thread(compile_rule_book, definitions)
    content = _encode_bundle(definitions)
    packed = zlib.compress(content)
    parts = [packed[i : i + PART_BYTES_MAX] for i in range(0, len(packed), PART_BYTES_MAX)]
    content_hash = hashlib.sha256(content).hexdigest()
    new = RulePointer(
        hash=content_hash,
        version=book.version,
        parts=len(parts),
        published_at=now,
        counts={c: len(rules) for c, rules in definitions.collections.items()}
        | {"broken": len(broken)},
        previous=_previous(pointer, content_hash),
    )
    if pointer is not None and pointer.says_the_same_as(new):
        return Publication(pointer, is_new=False, broken=broken, kept=kept)
    for batch in _batches(
        [
            Put(_part_path(content_hash, index), {"content": part, "published_at": now})
            for index, part in enumerate(parts)
        ]
    ):
        await documents.commit(batch, deadline=deadline)
    await documents.commit(_pointer_writes(new, pointer), deadline=deadline)
    return Publication(new, is_new=True, broken=broken, kept=kept)


def _previous(pointer: RulePointer | None, new_hash: str) -> Mapping[str, Any] | None:
    if pointer is None:
        return None
    if pointer.hash == new_hash:  # only the version moved: the compiler reads the rules anew
        return pointer.previous
    return {"hash": pointer.hash, "parts": pointer.parts}


def _pointer_writes(new: RulePointer, old: RulePointer | None) -> list[Write]:
    """Return the pointer's write and the removal of the bundle that nobody can still read."""
    fields = {
        "hash": new.hash,
        "version": new.version,
        "parts": new.parts,
        "published_at": new.published_at,
        "counts": dict(new.counts),
        "previous": new.previous,
    }
    writes: list[Write] = [
        Put(POINTER_PATH, fields, if_version=old.document_version if old else "")
    ]
    outdated = old.previous if old is not None else None
    if outdated and outdated["hash"] not in (new.hash, (new.previous or {}).get("hash")):
        writes.extend(Delete(_part_path(outdated["hash"], i)) for i in range(outdated["parts"]))
    return writes


async def _last_valid(
    documents: DocumentStore, pointer: RulePointer | None, deadline: Deadline
) -> RuleDefinitions:
    if pointer is None:
        return RuleDefinitions({}, {})
    return await load_bundle(documents, pointer, deadline)


def _replace_broken(
    definitions: RuleDefinitions, broken: Sequence[BrokenRule], last: RuleDefinitions
) -> tuple[RuleDefinitions, list[str]]:
    """Return the definitions with each broken rule's last valid version, or without it."""
    rules = {collection: dict(found) for collection, found in definitions.collections.items()}
    kept = []
    for rule in broken:
        earlier = last.collections[rule.collection].get(rule.rule_id)
        if earlier is not None:
            rules[rule.collection][rule.rule_id] = earlier
            kept.append(rule.rule_id)
        else:
            rules[rule.collection].pop(rule.rule_id, None)
    return RuleDefinitions.of(rules, definitions.protected), kept


def _differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two rules differ, also where Python finds 1 and true equal."""
    encode = msgspec.msgpack.Encoder(order="sorted").encode
    return encode(one) != encode(other)


def _encode_bundle(definitions: RuleDefinitions) -> bytes:
    return msgspec.json.encode(
        {**definitions.collections, "protected": sorted(definitions.protected)}, order="sorted"
    )


def _decode_bundle(content: bytes) -> RuleDefinitions:
    return msgspec.json.decode(content, type=RuleDefinitions)


def _batches(writes: Sequence[Write]) -> list[list[Write]]:
    """Return the writes in commits below Firestore's limits of number and size."""
    batches: list[list[Write]] = []
    size = 0
    for write in writes:
        length = len(msgspec.msgpack.encode(write.fields)) if isinstance(write, Put) else 0
        is_full = batches and (
            size + length > _COMMIT_BYTES_MAX or len(batches[-1]) >= COMMIT_WRITES_MAX
        )
        if is_full or not batches:
            batches.append([])
            size = 0
        batches[-1].append(write)
        size += length
    return batches


def _part_path(content_hash: str, part: int) -> str:
    return f"rule_bundles/{content_hash}" + (f"-{part}" if part else "")
