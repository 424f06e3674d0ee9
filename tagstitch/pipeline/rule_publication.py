"""Publishing rules: documents, bundle, pointer, in this order; and loading them back.

`rule_book/current` is the pointer that decide reads once an interval; `rule_bundle.py` keeps what
it points to. People edit the documents in `event_rules`, `personalization_rules`, `experiments`
and `audiences`; nothing that they break there reaches decide before it is published. Computed
traits in `traits` are written with them and published by their names alone: whoever computes
them reads them where they are edited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import msgspec

from tagstitch.core.broken_rule import BrokenRule
from tagstitch.core.errors import InvalidInput, Unavailable
from tagstitch.core.limits import COMMIT_WRITES_MAX
from tagstitch.core.profile_traits import NO_TRAITS, TraitDefinitions, compile_traits
from tagstitch.core.rule_book import compile_rule_book
from tagstitch.core.rule_definitions import EDITED, RuleDefinitions
from tagstitch.core.rule_lines import VERSION_PREFIX, content_of
from tagstitch.core.view import declared_protected
from tagstitch.pipeline.backend import Delete, Document, DocumentStore, Put, Write
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.list_all import list_all
from tagstitch.pipeline.rule_bundle import bundle_writes, decode_content, hash_of, load_content

POINTER_PATH: Final = "rule_book/current"

_COMMIT_BYTES_MAX: Final = 8_000_000
"""Bytes of one commit: Firestore's limit is 10 MiB."""


SCANNED_PER_MINUTE: Final = 1_000
"""Definitions that a schedule may read per minute and only look whether somebody edited them: a
document read costs money. 100,000 rules are looked through every 100 minutes."""

_FEW_AT_LEAST: Final = 20
"""Published definitions from which losing more than half of them at once is an accident."""


class UnexpectedlyFew(InvalidInput):
    """The store holds less than half of what is published: more often an accident than a wish."""

    def __init__(self) -> None:
        super().__init__(
            "invalid_field",
            "the store holds no rules, or less than half of the published ones",
            hint="tagstitch rules publish --allow-empty publishes that",
        )


@dataclass(frozen=True, slots=True)
class RulePointer:
    """What `rule_book/current` says."""

    hash: str
    """SHA-256 of the bundle's content; the id of its documents."""
    version: str
    """The book's version, as decisions and audit records name it: `sha256:` and the hash."""
    parts: int
    published_at: datetime
    counts: Mapping[str, int]
    """Published rules by collection, and under `broken` the rules that are not as edited."""
    document_version: str = ""
    """For the precondition of the next publication."""

    def says_the_same_as(self, other: RulePointer) -> bool:
        """Return whether both lead a reader to the same rules, and count the same broken ones."""
        return (self.hash, self.version, self.counts) == (other.hash, other.version, other.counts)

    @property
    def published(self) -> int:
        """The number of published definitions."""
        return sum(number for name, number in self.counts.items() if name != "broken")

    @property
    def broken(self) -> int:
        """The number of rules that are not published as they were edited last."""
        return self.counts.get("broken", 0)


@dataclass(frozen=True, slots=True)
class Publication:
    """What a publication did."""

    pointer: RulePointer
    is_new: bool
    """False when the published content was the same already."""
    broken: Sequence[BrokenRule] = ()
    kept: Sequence[str] = ()
    """Ids of broken rules whose last valid version stays published."""
    traits: TraitDefinitions = NO_TRAITS
    """Those of the store. They are read there, and not from what is published."""


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
    return decode_content(await load_content(documents, pointer.hash, pointer.parts, deadline))


async def load_definitions(documents: DocumentStore, deadline: Deadline) -> RuleDefinitions:
    """Return what people edit in the store, and the names that views protect."""
    collections = {
        collection: {
            _id_of(document): dict(document.fields)
            for document in await list_all(documents, collection, deadline=deadline)
        }
        for collection in EDITED
    }
    views = await list_all(documents, "views", deadline=deadline)
    protected = declared_protected({view.path: view.fields for view in views})
    return RuleDefinitions.of(collections, protected)


def _id_of(document: Document) -> str:
    return document.path.partition("/")[2]


async def publish_rules(
    documents: DocumentStore,
    definitions: RuleDefinitions,
    now: datetime,
    deadline: Deadline,
    *,
    removed: Sequence[str] = (),
) -> Publication:
    """Make these the published rules: first their documents, then the bundle, then the pointer.

    They are the whole set of rules; `removed` are the paths of documents that go, and stored traits
    stay unless they are among these. A document that says the same already is not written. Raises Conflict when somebody else published meanwhile: load and
    try again. A rule that does not compile is written and stays out of the bundle.
    """
    pointer = await load_pointer(documents, deadline)  # before the rules: see _publish
    stored = await load_definitions(documents, deadline)
    gone = frozenset(removed)
    kept = {n: raw for n, raw in stored.traits.items() if f"traits/{n}" not in gone}
    definitions = replace(
        definitions, protected=stored.protected, traits={**kept, **definitions.traits}
    )
    writes: list[Write] = [
        Put(f"{collection}/{rule_id}", rule)
        for collection, rules in definitions.edited.items()
        for rule_id, rule in rules.items()
        if rule_id not in (old := stored.edited[collection]) or _differ(old[rule_id], rule)
    ]
    writes.extend(Delete(path) for path in removed)
    for batch in _batches(writes):
        await documents.commit(batch, deadline=deadline)
    return await _publish(documents, definitions, pointer, now, deadline)


async def publish_stored_rules(
    documents: DocumentStore, now: datetime, deadline: Deadline, *, allow_empty: bool = False
) -> Publication:
    """Publish what was edited in the store; a broken rule keeps its last valid version.

    Raises UnexpectedlyFew when the store holds nothing, or less than half of what is published.
    """
    pointer, definitions = await _load_stored(documents, deadline, allow_empty=allow_empty)
    return await _publish(documents, definitions, pointer, now, deadline)


async def publish_edited_rules(
    documents: DocumentStore, now: datetime, deadline: Deadline
) -> Publication | None:
    """Publish what was edited in the store, or return None where there was nothing to look at.

    For the schedule, which runs each minute: it never begins a rule book that nobody has, and it
    looks through large sets less often. Otherwise as `publish_stored_rules`.
    """
    if not _is_scan_due(await load_pointer(documents, deadline), now):
        return None
    pointer, definitions = await _load_stored(documents, deadline, allow_empty=False)
    if pointer is None and definitions.is_empty:
        return None
    return await _publish(documents, definitions, pointer, now, deadline)


def _is_scan_due(pointer: RulePointer | None, now: datetime) -> bool:
    """Return whether this minute is one in which a set of this size is looked through."""
    published = pointer.published if pointer is not None else 0
    every_minutes = -(-published // SCANNED_PER_MINUTE) or 1
    return int(now.timestamp() // 60) % every_minutes == 0


async def _load_stored(
    documents: DocumentStore, deadline: Deadline, *, allow_empty: bool
) -> tuple[RulePointer | None, RuleDefinitions]:
    pointer = await load_pointer(documents, deadline)  # before the rules: see _publish
    definitions = await load_definitions(documents, deadline)
    if pointer is not None and not allow_empty:
        stored = sum(map(len, definitions.collections.values()))
        is_halved = pointer.published >= _FEW_AT_LEAST and stored * 2 < pointer.published
        if is_halved or (definitions.is_empty and any(pointer.counts.values())):
            raise UnexpectedlyFew
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
    # In a thread: 100,000 rules take seconds, and the process has other requests.
    content = await asyncio.to_thread(content_of, definitions)
    traits = compile_traits(definitions.traits)
    if pointer is not None and pointer.hash == hash_of(content) and not pointer.broken:
        return Publication(pointer, is_new=False, traits=traits)
    definitions, broken, kept = await _without_broken(documents, content, pointer, deadline)
    content = await asyncio.to_thread(content_of, definitions)
    writes = await asyncio.to_thread(bundle_writes, content, now)
    new = RulePointer(
        hash=hash_of(content),
        version=VERSION_PREFIX + hash_of(content),
        parts=len(writes),
        published_at=now,
        counts={c: len(rules) for c, rules in definitions.collections.items()}
        | {"broken": len(broken)},
    )
    if pointer is not None and pointer.says_the_same_as(new):
        return Publication(pointer, is_new=False, broken=broken, kept=kept, traits=traits)
    for batch in _batches(writes):
        await documents.commit(batch, deadline=deadline)
    await documents.commit([_pointer_write(new, pointer)], deadline=deadline)
    return Publication(new, is_new=True, broken=broken, kept=kept, traits=traits)


def _pointer_write(new: RulePointer, old: RulePointer | None) -> Put:
    fields = {
        "hash": new.hash,
        "version": new.version,
        "parts": new.parts,
        "published_at": new.published_at,
        "counts": dict(new.counts),
    }
    return Put(POINTER_PATH, fields, if_version=old.document_version if old else "")


async def _without_broken(
    documents: DocumentStore, content: bytes, pointer: RulePointer | None, deadline: Deadline
) -> tuple[RuleDefinitions, Sequence[BrokenRule], list[str]]:
    """Return what can be published, what is broken, and the ids that keep an earlier version.

    An earlier version may be broken itself by now, when it names what is gone; then it goes, too.
    """
    definitions = decode_content(content)
    broken = (await asyncio.to_thread(compile_rule_book, definitions)).broken
    if not broken:
        return definitions, (), []
    last = await _last_valid(documents, pointer, deadline)
    usable, kept = _replace_broken(definitions, broken, last)
    while still_broken := (await asyncio.to_thread(compile_rule_book, usable)).broken:
        usable, _ = _replace_broken(usable, still_broken, RuleDefinitions())
        kept = [rule_id for rule_id in kept if rule_id not in {b.rule_id for b in still_broken}]
    return usable, broken, kept


async def _last_valid(
    documents: DocumentStore, pointer: RulePointer | None, deadline: Deadline
) -> RuleDefinitions:
    if pointer is None:
        return RuleDefinitions()
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
