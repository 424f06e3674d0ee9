"""audit_sink: every audit record into the table once, every dead letter into its document."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from tagstitch.core.audit import AuditRecord
from tagstitch.core.errors import Conflict, InvalidInput
from tagstitch.core.limits import AUDIT_RECORDS_PER_MESSAGE_MAX, COMMIT_WRITES_MAX
from tagstitch.core.message_version import check_version
from tagstitch.pipeline.backend import Backend, Patch, RejectedRow
from tagstitch.pipeline.dead_letter import Message, publish_dead_letter
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.log_events import PendingDocumentGone, log
from tagstitch.pipeline.publish_audit import AUDIT_TOPIC

_RAW_RECORDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RECORD: Final = msgspec.json.Decoder(AuditRecord)
_QUOTED: Final = re.compile(r" '.*'", re.DOTALL)
_KNOWN_COLUMNS: Final = frozenset(AuditRecord.__struct_fields__)


async def record_audit(backend: Backend, message: Message, *, deadline: Deadline) -> None:
    """Append the records of one message; the ones that no table will take become dead letters.

    Raises InvalidInput when the whole message cannot be read, Unavailable when appending may work
    later: then nothing is acknowledged, and the record ids make the repetition harmless.
    """
    raw_records, pending = _split_message(message.data)
    now = backend.clock()
    rows: list[dict[str, Any]] = []
    sources: list[msgspec.Raw] = []
    refused: list[tuple[msgspec.Raw, str]] = []
    for raw in raw_records:
        try:
            row = _read_record(raw)
        except msgspec.MsgspecError as error:
            refused.append((raw, _place(error)))
        else:
            rows.append(row | {"recorded_at": now})
            sources.append(raw)
    rejected: Sequence[RejectedRow] = ()
    if rows:
        rejected = await backend.audit_table.append(rows, deadline=deadline)
    refused += [(sources[row.index], row.reason) for row in rejected]
    if refused:
        await _refuse(backend, message, refused, now=now, deadline=deadline)
    await _clear_pending(backend, pending, deadline=deadline)


def _split_message(data: bytes) -> tuple[list[msgspec.Raw], list[str]]:
    """Return the records of a message, still encoded, and the documents that hold them.

    Raises InvalidInput, also for a message of another version.
    """
    try:
        fields = _RAW_RECORDS.decode(data)
        if "v" in fields:
            check_version({"v": msgspec.json.decode(fields["v"])})
        if "records" not in fields:
            return [msgspec.Raw(data)], []
        records = msgspec.json.decode(fields["records"], type=list[msgspec.Raw])
        pending = msgspec.json.decode(fields.get("pending", b"[]"), type=list[str])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidInput(
            "invalid_json", "not an audit record", hint="schemas/audit_record.schema.json"
        ) from None
    if len(records) > AUDIT_RECORDS_PER_MESSAGE_MAX * 2:
        raise InvalidInput("invalid_field", "too many records in one message", "records")
    return records, pending


def _read_record(raw: msgspec.Raw) -> dict[str, Any]:
    """Return the row of one record; fields that are no column go into `extra`."""
    row = _RECORD.decode(raw).to_row()
    for name in ("occurred_at", "event_at"):
        if row[name] is not None and row[name].tzinfo is None:
            row[name] = row[name].replace(tzinfo=UTC)
    fields = _RAW_RECORDS.decode(raw)
    unknown = {n: msgspec.json.decode(fields[n]) for n in fields.keys() - _KNOWN_COLUMNS}
    unknown.pop("recorded_at", None)
    unknown.pop("v", None)  # of a message that is one record
    if unknown:
        row["extra"] = {**(row["extra"] or {}), "unknown_fields": unknown}
    return row


def _place(error: msgspec.MsgspecError) -> str:
    """Return the type error without any value: msgspec quotes what is not in an enumeration."""
    if not isinstance(error, msgspec.ValidationError):
        return "not valid JSON"
    return _QUOTED.sub("", str(error))


async def _refuse(
    backend: Backend,
    message: Message,
    refused: Sequence[tuple[msgspec.Raw, str]],
    *,
    now: datetime,
    deadline: Deadline,
) -> None:
    """Publish the refused records as one dead letter; replaying it repeats only them."""
    payload = msgspec.json.encode({"v": 1, "records": [raw for raw, _ in refused]})
    await publish_dead_letter(
        backend.publisher,
        Message(payload, f"{message.message_id}:refused", AUDIT_TOPIC, message.published_at),
        InvalidInput("invalid_field", refused[0][1], "records"),
        processor="audit_sink",
        failed_at=now,
        deadline=deadline,
    )


async def _clear_pending(backend: Backend, pending: Sequence[str], *, deadline: Deadline) -> None:
    """Take the stored records' documents out of the sweep's sight."""
    paths = [path for path in dict.fromkeys(pending) if path.partition("/")[0] in _HOLDERS]
    for start in range(0, len(paths), COMMIT_WRITES_MAX):
        part = paths[start : start + COMMIT_WRITES_MAX]
        patches = await _clearing(backend, part, deadline=deadline)
        try:
            if patches:
                await backend.documents.commit(patches, deadline=deadline)
        except Conflict:  # one of the documents is gone, or has changed
            await asyncio.gather(*(_clear_one(backend, p, deadline=deadline) for p in part))


async def _clearing(
    backend: Backend, paths: Sequence[str], *, deadline: Deadline
) -> Sequence[Patch]:
    """Return what takes the documents out of sight, without what waits in the outbox again.

    An entry that a replay has put back is the sweep's to find, however late its first record comes.
    """
    entries = [path for path in paths if path.startswith("outbox/")]
    found = await backend.documents.get_many(entries, deadline=deadline) if entries else {}
    patches = [_cleared(path) for path in paths if not path.startswith("outbox/")]
    return patches + [
        _cleared(path, entry.version)
        for path, entry in found.items()
        if entry.fields.get("status") != "pending"
    ]


async def _clear_one(backend: Backend, path: str, *, deadline: Deadline) -> None:
    """Clear a document as it is now: the sweep may have written to it, or an erasure taken it."""
    for _ in range(_CLEARINGS_MAX):
        patches = await _clearing(backend, [path], deadline=deadline)
        try:
            await backend.documents.commit(patches, deadline=deadline)
        except Conflict:
            if await backend.documents.get(path, deadline=deadline) is None:
                log(PendingDocumentGone())
                return
        else:
            return


_CLEARINGS_MAX: Final = 5
"""Times that a document may change under the hands of whoever clears it; then the sweep comes."""

_HOLDERS: Final = frozenset({"processed", "outbox"})


def _cleared(path: str, version: str | None = None) -> Patch:
    return Patch(path, {}, remove=("pending", "pending_since", "told_at"), if_version=version)
