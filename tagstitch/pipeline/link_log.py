"""The link log in the store: appended in the commit that it tells of, read by profile."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from tagstitch.core.errors import InvalidInput
from tagstitch.core.identity_graph import Resolution
from tagstitch.core.link_log import (
    LinkEntry,
    arrival,
    change_fields,
    entry_id,
    log_prefix,
    pointer_id,
    read_entry,
)
from tagstitch.pipeline.backend import DocumentStore, Put
from tagstitch.pipeline.deadline import Deadline

_PAGE: Final = 100
_STEPS_MAX: Final = 200
"""Merges and splits behind each other that are followed back: more than a profile can have."""


def log_writes(
    resolution: Resolution, *, key: str, record_id: str, at: datetime, now: datetime, days: int
) -> list[Put]:
    """Return the entry of a change, and for a merge what leads to it from the audit record.

    `key` tells the request: ids of requests may come back after days. Both are kept for `days`.
    """
    fields = change_fields(resolution, record_id=record_id, occurred_at=at, now=now, days=days)
    entry = entry_id(str(resolution.profile_id), now, key)
    writes = [Put(f"links/{entry}", fields, "")]
    if resolution.merged:
        pointer = {"entry": entry, "expires_at": fields["expires_at"]}
        writes.append(Put(f"links/{pointer_id(record_id)}", pointer))
    return writes


async def entries_of(
    documents: DocumentStore, profile_id: str, *, deadline: Deadline
) -> list[LinkEntry]:
    """Return the log of one profile, oldest first."""
    prefix = f"links/{log_prefix(profile_id)}"
    found: list[LinkEntry] = []
    after = prefix
    while True:
        page = await documents.list_documents("links", after=after, limit=_PAGE, deadline=deadline)
        for document in page:
            if not document.path.startswith(prefix):
                return found
            entry = read_entry(document.path.partition("/")[2], document.fields)
            if entry is not None and entry.profile_id == profile_id:
                found.append(entry)
        if len(page) < _PAGE:
            return found
        after = page[-1].path


async def home_as_of(
    documents: DocumentStore,
    key: str,
    home: str | None,
    at: datetime,
    *,
    kept_since: datetime,
    deadline: Deadline,
) -> str | None:
    """Return the profile to which an identifier belonged at a time, by commit times.

    `home` is the profile to which it belongs today. None: nobody knew the identifier. Raises
    InvalidInput for a time before `kept_since`: entries of then are gone.
    """
    if at < kept_since:
        raise InvalidInput(
            "invalid_field", "longer ago than the log is kept", "time",
            "link_log_days of TAGSTITCH_IDENTITY says how long",
        )  # fmt: skip
    before: datetime | None = None
    for _ in range(_STEPS_MAX):
        if home is None:
            return None
        entries: Sequence[LinkEntry] = await entries_of(documents, home, deadline=deadline)
        came = arrival(entries, key, before=before)
        if came is None:  # imported, or written by hand: the log does not know since when
            return home
        if came.committed_at <= at:
            return home
        home, before = came.origin(key), came.committed_at
    return None
