"""Idempotency: one effect per request id, however often and at once it is delivered."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tagstitch.core.audit import AuditRecord
from tagstitch.core.errors import Conflict, InvalidInput, Unavailable
from tagstitch.core.limits import IDEMPOTENCY_DAYS, PENDING_SHARDS
from tagstitch.pipeline.backend import Document, DocumentStore, Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.publish_audit import encode_records


@dataclass(frozen=True, slots=True)
class IdempotencyMark:
    """The document `processed/{key}`: written in the same commit as the effect."""

    key: str
    fingerprint: str

    @property
    def path(self) -> str:
        """Path of the document."""
        return f"processed/{self.key}"

    def put(
        self,
        records: Sequence[AuditRecord],
        answer: dict[str, Any],
        *,
        now: datetime,
        replaces: Document | None,
    ) -> Put:
        """Return the write that fails when the same request was processed meanwhile.

        `replaces` is the mark of a request that used the id before and has expired, if it is still
        there.
        """
        fields: dict[str, Any] = {
            "fingerprint": self.fingerprint,
            "answer": answer,
            "committed_at": now,
            "expires_at": now + timedelta(days=IDEMPOTENCY_DAYS),
        }
        subject = next((record.subject for record in records if record.subject), None)
        if subject is not None:  # by it an erasure finds the answer
            fields["subject"] = subject
        return Put(
            self.path,
            fields | pending_records(records, now=now),
            if_version=replaces.version if replaces else "",
        )

    def check(self, document: Document) -> None:
        """Raise InvalidInput when the stored request had the same id and another body."""
        if document.fields.get("fingerprint") != self.fingerprint:
            raise InvalidInput(
                "idempotency_conflict",
                "this request_id was used for another body",
                "request_id",
                "use a new request_id for every new request",
            )


def pending_records(records: Sequence[AuditRecord], *, now: datetime) -> dict[str, Any]:
    """Return the fields that hold audit records until audit_sink has appended them.

    The sweep republishes by `pending`.
    """
    return {
        "records": encode_records(records),
        "pending": pending_shard(),
        "pending_since": now,
    }


def pending_shard() -> int:
    """Return a random value of `pending`, so that its index has no hot one."""
    return random.randrange(PENDING_SHARDS)


def is_live(document: Document | None, *, now: datetime) -> bool:
    """Return whether a document exists and has not expired; TTL deletes come a day late."""
    if document is None:
        return False
    expires_at = document.fields.get("expires_at")
    return not isinstance(expires_at, datetime) or expires_at > now


async def was_committed(
    documents: DocumentStore, mark: Put, *, now: datetime, deadline: Deadline
) -> bool:
    """Return whether a commit with this mark was made whose answer was lost, as far as one can tell.

    Raises Conflict where another request of the same id has left its mark meanwhile.
    """
    try:
        stored = await documents.get(mark.path, deadline=deadline)
    except Unavailable:
        return False
    if stored is None or not is_live(stored, now=now):
        return False
    if [bytes(row) for row in stored.fields.get("records") or ()] != mark.fields["records"]:
        raise Conflict
    return True
