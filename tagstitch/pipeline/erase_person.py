"""Erasing a person: first the tombstones, then everything else, and again when queues are empty.

The tombstones are one commit, on condition that nobody wrote the person's documents meanwhile:
whoever links, decides or imports at that moment meets them and looks again. What follows may stop
at any point: the same command, or the sweep, goes on from the journal.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from tagstitch.core.action_delivery import Ending, action_record
from tagstitch.core.audit import AuditRecord
from tagstitch.core.callback_delivery import callback_record
from tagstitch.core.erasure import is_tombstone, nobodys_row, tombstone_fields
from tagstitch.core.errors import Conflict, InvalidInput, Unavailable
from tagstitch.core.limits import COMMIT_WRITES_MAX
from tagstitch.core.link_log import brought_by, forgotten, moment_of
from tagstitch.pipeline.backend import Backend, Delete, Document, Patch, Put, Write
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.erasure_journal import (
    ErasureJournal,
    begin_journal,
    close_journal,
    commit_counted,
    delete_counted,
    end_pass,
    load_journal,
)
from tagstitch.pipeline.holdings import entry_id_of, held_documents, pointers_to, subjects_of
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.person import Asked, Person, find_person, find_relatives, profile_paths
from tagstitch.pipeline.publish_audit import AuditPublisher, encode_record

_ATTEMPTS_MAX: Final = 20
_PAUSE_S_MAX: Final = 0.5

Told = Callable[[str], None]
"""Hears of each step as it begins."""


def _nobody_told(step: str) -> None:
    del step


@dataclass(frozen=True, slots=True)
class ErasureResult:
    """What an erasure has done so far."""

    erasure_id: str
    was_known: bool
    journal: ErasureJournal

    def to_json(self) -> dict[str, Any]:
        """Return it as the command prints it."""
        return {
            "erasure_id": self.erasure_id,
            "was_known": self.was_known,
            "status": self.journal.status,
            "counts": dict(self.journal.counts),
            "next_pass_at": self.journal.due_at,
        }


class PersonEraser:
    """Erases people, and goes on with what was begun."""

    def __init__(self, backend: Backend, keyring: Keyring, audit: AuditPublisher) -> None:
        self._backend = backend
        self._documents = backend.documents
        self._keyring = keyring
        self._audit = audit

    async def erase(
        self, asked: Asked, *, deadline: Deadline, told: Told = _nobody_told
    ) -> ErasureResult:
        """Erase whoever this is, known or not; a second time nothing is left to do.

        Raises Unavailable when something does not answer: the same call goes on from there.
        """
        for attempt in range(_ATTEMPTS_MAX):
            try:
                journal = await self.begun(asked, deadline=deadline)
                if journal is None:
                    told("tombstones")
                    journal = await self._begin(asked, deadline=deadline)
                journal = await self.resume(journal, deadline=deadline, told=told)
            except Conflict:  # somebody wrote first: look again
                await asyncio.sleep(random.uniform(0, min(0.01 * 2**attempt, _PAUSE_S_MAX)))
                continue
            return ErasureResult(journal.erasure_id, journal.counts.get("profiles", 0) > 0, journal)
        raise Unavailable("firestore", "too many concurrent changes of one visitor")

    async def begun(self, asked: Asked, *, deadline: Deadline) -> ErasureJournal | None:
        """Return the journal behind the tombstone of this person, or None when none holds."""
        place = f"profiles/{self._keyring.own_place_of(asked.profile_id)}"
        document = await self._documents.get(place, deadline=deadline)
        if document is None or not is_tombstone(document.fields, now=self._backend.clock()):
            return None
        erasure_id = document.fields.get("erasure_id")
        if not isinstance(erasure_id, str):  # written by hand: erase as if it were not there
            return None
        return await load_journal(self._documents, erasure_id, deadline=deadline)

    async def _begin(self, asked: Asked, *, deadline: Deadline) -> ErasureJournal:
        """Put the tombstones and the journal, in one commit; raises Conflict."""
        now = self._backend.clock()
        person = await find_person(self._documents, asked, now=now, deadline=deadline)
        relatives = await find_relatives(self._documents, person, deadline=deadline)
        erasure_id = secrets.token_hex(16)
        tombstones = await self._tombstones(person, erasure_id, now=now, deadline=deadline)
        journal = begin_journal(erasure_id, person, relatives, self._keyring, now=now)
        # A person with more ids than fit gets the others' tombstones when it is gone through: the
        # profile's own is among the first, and what still leads there leads to nobody.
        first = tombstones[: COMMIT_WRITES_MAX - 1]
        await self._documents.commit([*first, journal], deadline=deadline)
        begun = await load_journal(self._documents, erasure_id, deadline=deadline)
        assert begun is not None  # noqa: S101 - it was committed
        return begun

    async def _tombstones(
        self, person: Person, erasure_id: str, *, now: datetime, deadline: Deadline
    ) -> list[Write]:
        """Return the writes that replace every document of the person, each as it was read."""
        places = [self._keyring.own_place_of(profile_id) for profile_id in person.profile_ids]
        paths = dict.fromkeys([*profile_paths(person.profile_ids), *profile_paths(places)])
        unread = sorted(set(profile_paths(places)) - set(profile_paths(person.profile_ids)))
        beside = await self._documents.get_many(unread, deadline=deadline) if unread else {}
        found = {**person.found, **beside}
        await self._publish_unsent(list(person.found.values()), deadline=deadline)
        fields = tombstone_fields(erasure_id, now=now)
        own = set(profile_paths(places))
        # One with a chosen id is there only until it is deleted: the condition needs a write.
        return [
            Put(path, fields, found[path].version if path in found else "")
            for path in paths
            if path in own or path in found
        ]

    async def resume(
        self, journal: ErasureJournal, *, deadline: Deadline, told: Told = _nobody_told
    ) -> ErasureJournal:
        """Go through all that is to go; raises Conflict when another process does the same."""
        documents = self._documents
        subjects = subjects_of(self._keyring, journal.profile_ids)
        journal = await self._complete_tombstones(journal, deadline=deadline)
        told("what is held")
        held = await held_documents(
            documents,
            profile_ids=journal.profile_ids,
            keys=journal.keys,
            subjects=subjects,
            split_from=journal.split_from,
            deadline=deadline,
        )
        others = held.pop("others_links")
        told("records that were not sent")
        await self._publish_unsent(held["processed"] + held["outbox"], deadline=deadline)
        for kind, found in held.items():
            told(kind)
            paths = [document.path for document in found]
            journal = await delete_counted(documents, journal, kind, paths, deadline=deadline)
        own = held["links"] + held["damaged_links"]
        journal = await self._forget_in_logs(journal, own, others, deadline=deadline)
        told("audit")
        rows = await self._backend.audit_table.erase(subjects, deadline=deadline)
        return await self._end_pass(journal, rows, deadline=deadline)

    async def _complete_tombstones(
        self, journal: ErasureJournal, *, deadline: Deadline
    ) -> ErasureJournal:
        """Put the tombstones that the first commit had no room for; delete chosen ids."""
        now = self._backend.clock()
        own = profile_paths(journal.places)
        chosen = [path for path in profile_paths(journal.profile_ids) if path not in own]
        found = await self._documents.get_many([*own, *chosen], deadline=deadline)
        fields = tombstone_fields(journal.erasure_id, now=journal.started_at)
        writes: list[Write] = []
        for path in own:
            present = found.get(path)
            if present is None:
                writes.append(Put(path, fields, ""))
            elif not is_tombstone(present.fields, now=now):
                writes.append(Put(path, fields, present.version))
        writes += [Delete(path) for path in chosen if path in found]
        step = COMMIT_WRITES_MAX - 1
        for start in range(0, len(writes), step):
            journal = await commit_counted(
                self._documents, journal, writes[start : start + step], {}, deadline=deadline
            )
        return journal

    async def _forget_in_logs(
        self,
        journal: ErasureJournal,
        links: Sequence[Document],
        others: Sequence[Document],
        *,
        deadline: Deadline,
    ) -> ErasureJournal:
        """Delete what led to the entries, and take the person out of other profiles' entries."""
        gone = set(journal.profile_ids)
        keys = set(journal.keys)
        brought = [
            document
            for entry in others
            for document in brought_by(entry.fields, profile_ids=gone, keys=keys)
        ]
        kept = {
            entry.path: forgotten(entry.fields, profile_ids=gone, keys=keys, brought=brought)
            for entry in others
        }
        # The newest first: what was brought stands in an older one than what it was merged into,
        # and whoever goes on behind a stop must still find it.
        newest_first = sorted(others, key=lambda e: moment_of(entry_id_of(e)), reverse=True)
        for entry in newest_first:
            changed = kept[entry.path]
            if changed is not None:
                patch = Patch(entry.path, changed, if_version=entry.version)
                journal = await commit_counted(
                    self._documents, journal, [patch], {"others_links": 1}, deadline=deadline
                )
        emptied = [entry for entry in others if kept[entry.path] is None]
        paths = [*pointers_to((*links, *emptied)), *(entry.path for entry in emptied)]
        return await delete_counted(
            self._documents, journal, "link_pointers", paths, deadline=deadline
        )

    async def _publish_unsent(self, holders: Sequence[Document], *, deadline: Deadline) -> None:
        """Publish the records that only these documents still hold, as nobody's.

        What waits in the outbox is not sent: that is its end, and recorded like every other.
        """
        now = self._backend.clock()
        rows = [
            msgspec.json.encode(nobodys_row(row))
            for holder in holders
            if "pending" in holder.fields
            for row in map(_readable, (*_records(holder), *_ended(holder, now=now)))
            if row is not None
        ]
        if rows:
            await self._audit.publish(rows, deadline=deadline)

    async def _end_pass(
        self, journal: ErasureJournal, rows: int, *, deadline: Deadline
    ) -> ErasureJournal:
        """Record the pass, by counts only, then note it: a crash between repeats the same record."""
        now = self._backend.clock()
        if journal.status == "erasing" or journal.is_due(now):
            record = AuditRecord(
                record_id=f"erasure_{journal.erasure_id}_{journal.passes}",
                record_type="erasure",
                occurred_at=now,
                outcome="erased" if journal.passes == 0 else "repeated",
                extra={"counts": journal.counted({"audit_rows": rows}), "pass": journal.passes + 1},
            )
            await self._audit.publish([encode_record(record)], deadline=deadline)
        return await end_pass(self._documents, journal, rows=rows, now=now, deadline=deadline)

    async def lift(self, asked: Asked, *, deadline: Deadline) -> int:
        """Take the tombstones away, for somebody who comes back; return how many there were.

        What was to be repeated later is done now. Raises InvalidInput when there is none.
        """
        journal = await self.begun(asked, deadline=deadline)
        if journal is None:
            raise InvalidInput(
                "invalid_field", "nobody was erased by this identifier", "identifier"
            )
        if journal.status != "done":
            journal = await self.resume(journal, deadline=deadline)
        now = self._backend.clock()
        found = await self._documents.get_many(profile_paths(journal.places), deadline=deadline)
        named = f"profiles/{self._keyring.own_place_of(asked.profile_id)}"
        paths = sorted(
            (
                path
                for path, document in found.items()
                if document.fields.get("erasure_id") == journal.erasure_id
            ),
            key=lambda path: path == named,  # the last one: by it the same call goes on
        )
        record = AuditRecord(
            record_id=f"erasure_{journal.erasure_id}_lifted",
            record_type="erasure",
            occurred_at=now,
            outcome="lifted",
            extra={"counts": {"tombstones": len(paths)}},
        )
        await self._audit.publish([encode_record(record)], deadline=deadline)
        await close_journal(self._documents, journal, deadline=deadline)
        for start in range(0, len(paths), COMMIT_WRITES_MAX - 1):
            batch = paths[start : start + COMMIT_WRITES_MAX - 1]
            last = [Delete(journal.path)] if named in batch else []
            writes = [*map(Delete, batch), *last]
            await self._documents.commit(writes, deadline=deadline)
        return len(paths)


def _records(holder: Document) -> list[Any]:
    stored = holder.fields.get("records")
    return stored if isinstance(stored, list) else []


def _readable(row: object) -> dict[str, Any] | None:
    """Return a stored record, or None for what somebody made of it: it goes unsent."""
    try:
        record = msgspec.json.decode(row) if isinstance(row, bytes | str) else None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return record if isinstance(record, dict) else None


def _ended(holder: Document, *, now: datetime) -> list[bytes]:
    """Return the record of an outbox entry that an erasure brings to its end.

    None of what somebody edited: an erasure must get through whatever it meets.
    """
    collection, _, outbox_id = holder.path.partition("/")
    fields = holder.fields
    if collection != "outbox" or fields.get("status") != "pending":
        return []
    was_attempt = "lease" in fields  # under way, and nobody has told yet what came of it
    try:
        if fields["kind"] == "action":
            ending = Ending("suppressed", "ERASED", is_attempt=was_attempt)
            return [encode_record(action_record(outbox_id, fields, ending, now=now))]
        record = callback_record(
            outbox_id, fields, "suppressed", now=now, was_attempt=was_attempt, reason="ERASED"
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return []
    return [encode_record(record)]
