"""The journal of an erasure: what is to go, how much has gone, and when to come again.

It is written in the commit that puts the tombstones: from then on nothing else tells which
documents were one person's. Every batch of deletions is counted in its own commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from tagstitch.core.limits import COMMIT_WRITES_MAX, ERASURE_PASSES_S, TOMBSTONE_DAYS
from tagstitch.pipeline.backend import Delete, Document, DocumentStore, Patch, Put, Write
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.person import Person

ErasureStatus = Literal["erasing", "waiting", "done"]

PENDING_ERASURE: Final = 0
"""The value of `pending` while an erasure is not done: there are few at a time."""

_TAKEOVER_S: Final = 120.0
"""Seconds after which the sweep goes on with an erasure whose process is gone."""

_PAGE: Final = 100

_NAMES: Final = ("profile_ids", "keys", "split_from")


@dataclass(frozen=True, slots=True)
class ErasureJournal:
    """The document `erasures/{id}`; it holds keyed hashes and counts, and no value of anybody."""

    erasure_id: str
    version: str
    status: ErasureStatus
    started_at: datetime
    due_at: datetime | None
    """When the sweep comes; None when nothing is left to do."""
    passes: int
    """How often all of it was gone through."""
    places: tuple[str, ...]
    """Where the tombstones lie: own places of profiles."""
    profile_ids: tuple[str, ...]
    keys: tuple[str, ...]
    split_from: tuple[str, ...]
    counts: Mapping[str, int]

    @property
    def path(self) -> str:
        """Path of the document."""
        return f"erasures/{self.erasure_id}"

    def is_due(self, now: datetime) -> bool:
        """Return whether it is time to go through it again."""
        return self.due_at is not None and self.due_at <= now

    def counted(self, more: Mapping[str, int]) -> dict[str, int]:
        """Return the counts with more of them."""
        return {**self.counts, **{name: self.counts.get(name, 0) + n for name, n in more.items()}}


def begin_journal(
    erasure_id: str, person: Person, relatives: Sequence[str], keyring: Keyring, *, now: datetime
) -> Put:
    """Return the write of a new journal; `relatives` are whose logs may tell of the person, too."""
    places = {keyring.own_place_of(profile_id) for profile_id in person.profile_ids}
    fields = {
        "status": "erasing",
        "started_at": now,
        "due_at": now + timedelta(seconds=_TAKEOVER_S),
        "passes": 0,
        "places": sorted(places),
        "profile_ids": list(person.profile_ids),
        "keys": list(person.keys),
        "split_from": list(relatives),
        "counts": {"profiles": int(person.profile is not None), "tombstones": len(places)},
        "pending": PENDING_ERASURE,
        "expires_at": now + timedelta(days=TOMBSTONE_DAYS),
    }
    return Put(f"erasures/{erasure_id}", fields, "")


async def load_journal(
    documents: DocumentStore, erasure_id: str, *, deadline: Deadline
) -> ErasureJournal | None:
    """Return the journal, or None when there is none."""
    document = await documents.get(f"erasures/{erasure_id}", deadline=deadline)
    return read_journal(document) if document is not None else None


async def pending_erasures(documents: DocumentStore, *, deadline: Deadline) -> list[Document]:
    """Return the documents of all erasures that are not done."""
    found: list[Document] = []
    while True:
        page = await documents.list_documents(
            "erasures",
            pending=PENDING_ERASURE,
            after=found[-1].path if found else None,
            limit=_PAGE,
            deadline=deadline,
        )
        found += page
        if len(page) < _PAGE:
            return found


def read_journal(document: Document) -> ErasureJournal:
    """Return the journal of a stored document."""
    fields = document.fields
    places = tuple(fields.get("places") or ())
    return ErasureJournal(
        document.path.partition("/")[2],
        document.version,
        fields["status"],
        fields["started_at"],
        fields.get("due_at"),
        fields.get("passes", 0),
        places,
        tuple(fields.get("profile_ids") or places),
        tuple(fields.get("keys") or ()),
        tuple(fields.get("split_from") or ()),
        fields.get("counts") or {},
    )


async def commit_counted(
    documents: DocumentStore,
    journal: ErasureJournal,
    writes: Sequence[Write],
    more: Mapping[str, int],
    *,
    deadline: Deadline,
) -> ErasureJournal:
    """Commit up to 499 writes with the counts of them; raises Conflict when somebody else did."""
    counts = journal.counted(more)
    patch = Patch(journal.path, {"counts": counts}, if_version=journal.version)
    await documents.commit([*writes, patch], deadline=deadline)
    return await _again(documents, journal, deadline)


async def delete_counted(
    documents: DocumentStore,
    journal: ErasureJournal,
    kind: str,
    paths: Sequence[str],
    *,
    deadline: Deadline,
) -> ErasureJournal:
    """Delete documents, in as many commits as it takes, and count them."""
    step = COMMIT_WRITES_MAX - 1
    for start in range(0, len(paths), step):
        batch = paths[start : start + step]
        journal = await commit_counted(
            documents, journal, [Delete(path) for path in batch], {kind: len(batch)},
            deadline=deadline,
        )  # fmt: skip
    return journal


async def end_pass(
    documents: DocumentStore,
    journal: ErasureJournal,
    *,
    rows: int,
    now: datetime,
    deadline: Deadline,
) -> ErasureJournal:
    """Note that all was gone through; a pass that was not due yet leaves the schedule as it is."""
    changed: dict[str, Any] = {"counts": journal.counted({"audit_rows": rows})}
    remove: tuple[str, ...] = ()
    if journal.status == "erasing" or journal.is_due(now):
        waits = ERASURE_PASSES_S[journal.passes :]
        changed["passes"] = journal.passes + 1
        changed["status"] = "waiting" if waits else "done"
        if waits:
            changed["due_at"] = journal.started_at + timedelta(seconds=waits[0])
        else:  # an id that people chose, and the types of identifiers, go too
            remove = ("due_at", "pending", *_NAMES)
    patch = Patch(journal.path, changed, remove=remove, if_version=journal.version)
    await documents.commit([patch], deadline=deadline)
    return await _again(documents, journal, deadline)


async def close_journal(
    documents: DocumentStore, journal: ErasureJournal, *, deadline: Deadline
) -> None:
    """Leave nothing for the sweep to come for."""
    patch = Patch(
        journal.path, {"status": "done"}, remove=("due_at", "pending"), if_version=journal.version
    )
    await documents.commit([patch], deadline=deadline)


async def _again(
    documents: DocumentStore, journal: ErasureJournal, deadline: Deadline
) -> ErasureJournal:
    again = await load_journal(documents, journal.erasure_id, deadline=deadline)
    assert again is not None  # noqa: S101 - its patch was committed
    return again
