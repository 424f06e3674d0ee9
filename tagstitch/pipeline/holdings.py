"""What is held of a person besides the profile: what an erasure deletes and an export shows."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Final

from tagstitch.core.document_id import is_document_id
from tagstitch.core.errors import InvalidInput
from tagstitch.core.link_log import forgotten, home_of, is_damaged, log_prefix, pointer_id
from tagstitch.pipeline.backend import AuditQueries, Document, DocumentStore
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.keyring import Keyring

OF_SUBJECT: Final = ("processed", "outbox", "exposures", "push_inboxes")
"""Collections whose documents name the person by the audit's pseudonym."""

OF_KEY: Final = ("identifiers", "contributions", "quarantine")
"""Collections whose documents have the key of an identifier as their id."""

_PAGE: Final = 100
_AT_ONCE: Final = 8
_MARKED: Final = re.compile(r"(?:split|stitch)_([A-Z2-7]{26})")
"""The key of the idempotency mark in the id of an audit record."""

_SUBJECT: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}:[A-Z2-7]{26}")


async def held_documents(
    documents: DocumentStore,
    *,
    profile_ids: Collection[str],
    keys: Collection[str],
    subjects: Collection[str],
    split_from: Collection[str],
    deadline: Deadline,
) -> dict[str, list[Document]]:
    """Return kind -> documents.

    `others_links` are entries that tell of the person in the logs of `split_from`.
    `damaged_links` are entries of its own log that somebody edited or cut.
    """
    slots = asyncio.Semaphore(_AT_ONCE)

    async def listed(collection: str, subject: str) -> list[Document]:
        async with slots:
            return await _all(documents, collection, deadline=deadline, subject=subject)

    async def log(profile_id: str) -> list[Document]:
        async with slots:
            return await _log(documents, profile_id, deadline)

    held: dict[str, list[Document]] = {}
    for collection in OF_SUBJECT:
        pages = await asyncio.gather(*(listed(collection, subject) for subject in subjects))
        held[collection] = _joined(pages)
    for collection in OF_KEY:
        paths = sorted(f"{collection}/{key}" for key in keys)
        held[collection] = list((await documents.get_many(paths, deadline=deadline)).values())
    own = _joined(await asyncio.gather(*map(log, sorted(profile_ids))))
    held["links"] = [entry for entry in own if not is_damaged(entry_id_of(entry), entry.fields)]
    held["damaged_links"] = [entry for entry in own if entry not in held["links"]]
    others = _joined(await asyncio.gather(*map(log, sorted(split_from))))
    after_it = partial(forgotten, profile_ids={*profile_ids}, keys={*keys})
    held["others_links"] = [entry for entry in others if after_it(entry.fields) != {}]
    marks = {
        f"processed/{marked[1]}"
        for entry in own
        if (marked := _MARKED.match(str(entry.fields.get("record_id"))))
    } - {mark.path for mark in held["processed"]}
    held["processed"] += (await documents.get_many(sorted(marks), deadline=deadline)).values()
    return held


def pointers_to(entries: Iterable[Document]) -> list[str]:
    """Return the paths of what leads from audit records to these entries of a log."""
    records = (
        entry.fields.get("record_id")
        for entry in entries
        if entry.fields.get("kind") not in ("link", "split")
    )
    ids = (pointer_id(record) for record in records if isinstance(record, str))
    return [f"links/{id_}" for id_ in ids if is_document_id(id_)]


def subjects_of(keyring: Keyring, profile_ids: Iterable[str]) -> list[str]:
    """Return every pseudonym under which the audit may know these profiles."""
    return [subject for id_ in profile_ids for subject in keyring.pseudonyms(id_)]


def rows_sql(subjects: Sequence[str], *, columns: str, table: str = "audit") -> str:
    """Return the query of the audit's rows of these subjects."""
    if not subjects or not all(map(_SUBJECT.fullmatch, subjects)):
        raise InvalidInput("invalid_field", "a pseudonym that cannot stand in a query", "subject")
    named = ", ".join(f"'{subject}'" for subject in subjects)
    return f"SELECT {columns} FROM {table} WHERE subject IN ({named})"  # noqa: S608 - checked above


async def count_rows(queries: AuditQueries, subjects: Sequence[str], *, deadline: Deadline) -> int:
    """Return how many rows of the audit are still these subjects'."""
    found = await queries.run(rows_sql(subjects, columns="COUNT(*) AS n"), deadline=deadline)
    return int(found[0]["n"])


def entry_id_of(entry: Document) -> str:
    """Return the id of an entry of a log."""
    return entry.path.partition("/")[2]


async def _log(documents: DocumentStore, profile_id: str, deadline: Deadline) -> list[Document]:
    """Return the log of one profile: ids that people chose may begin as its entries do."""
    prefix = f"links/{log_prefix(profile_id)}"
    found = await _all(documents, "links", deadline=deadline, prefix=prefix)
    return [entry for entry in found if home_of(entry_id_of(entry)) == profile_id]


async def _all(
    documents: DocumentStore,
    collection: str,
    *,
    deadline: Deadline,
    subject: str | None = None,
    prefix: str | None = None,
) -> list[Document]:
    found: list[Document] = []
    after = prefix
    while True:
        page = await documents.list_documents(
            collection, subject=subject, after=after, limit=_PAGE, deadline=deadline
        )
        wanted = [document for document in page if document.path.startswith(prefix or "")]
        found += wanted
        if len(page) < _PAGE or len(wanted) < len(page):
            return found
        after = page[-1].path


def _joined(pages: Iterable[Sequence[Document]]) -> list[Document]:
    return [document for page in pages for document in page]
