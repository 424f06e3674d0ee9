"""What the local stack's own endpoints read and clear, by backend."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from tagstitch.adapters.in_process_pubsub import InProcessPubSub
from tagstitch.adapters.sqlite_audit import SqliteAuditTable
from tagstitch.adapters.sqlite_documents import SqliteDocuments
from tagstitch.core.errors import Unavailable
from tagstitch.core.rule_definitions import EDITED
from tagstitch.pipeline.backend import Backend, DocumentStore
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.list_all import list_all

DEFINITION_COLLECTIONS: Final = frozenset((*EDITED, "views", "rule_book", "rule_bundles"))
"""Collections that hold what people define: a reset keeps them unless told otherwise."""

IN_FLIGHT_S: Final = 30.0
"""Seconds for work in flight to end before a reset."""

_SEALED_FIELDS: Final = frozenset({"sealed", "parts"})

Listing = tuple[int, Sequence[Mapping[str, Any]]]
"""How many items there are, and the first of them, the oldest first."""


WaitIdle = Callable[[], Awaitable[None]]


class Inspection(Protocol):
    """Looks into a backend and clears it, for tests."""

    async def list_audit(
        self, *, request_id: str | None, limit: int | None, deadline: Deadline
    ) -> Listing:
        """Return rows of the audit table."""
        ...

    async def clear(self, *, keep_definitions: bool, wait_idle: WaitIdle) -> None:
        """Clear documents, queues and audit once the work in flight has ended.

        `wait_idle` returns when no request from outside is under way. Raises Unavailable when
        work goes on for too long.
        """
        ...


class LocalInspection:
    """Inspection of the local backend."""

    def __init__(self, backend: Backend) -> None:
        if not (
            isinstance(backend.documents, SqliteDocuments)
            and isinstance(backend.publisher, InProcessPubSub)
            and isinstance(backend.audit_table, SqliteAuditTable)
        ):
            raise TypeError("not the local backend")
        self._documents = backend.documents
        self._pubsub = backend.publisher
        self._audit_table = backend.audit_table

    async def list_audit(
        self, *, request_id: str | None, limit: int | None, deadline: Deadline
    ) -> Listing:
        """Return rows of the audit table."""
        table = self._audit_table
        count = await table.count_rows(request_id=request_id, deadline=deadline)
        return count, await table.list_rows(request_id=request_id, limit=limit, deadline=deadline)

    async def clear(self, *, keep_definitions: bool, wait_idle: WaitIdle) -> None:
        """Clear documents, queues and audit once the work in flight has ended."""
        del wait_idle  # the queue of this process knows what it is delivering
        kept = DEFINITION_COLLECTIONS if keep_definitions else frozenset()
        await self._pubsub.clear()
        # What is being delivered may still write and publish: it ends first.
        if not await self._pubsub.wait_idle(IN_FLIGHT_S):
            raise Unavailable("pubsub", "work in flight did not end")
        deadline = Deadline.after(IN_FLIGHT_S)
        await self._pubsub.clear()
        await self._documents.clear(kept.__contains__, deadline=deadline)
        await self._audit_table.clear(deadline=deadline)


async def list_dead_letters(
    documents: DocumentStore, *, request_id: str | None, limit: int | None, deadline: Deadline
) -> Listing:
    """Return the envelopes of the dead letters, without their sealed payloads."""
    envelopes = [
        {name: value for name, value in letter.fields.items() if name not in _SEALED_FIELDS}
        for letter in await list_all(documents, "dead_letters", deadline=deadline)
        if request_id is None or letter.fields.get("request_id") == request_id
    ]
    envelopes.sort(key=lambda envelope: str(envelope.get("received_at", "")))
    return len(envelopes), envelopes[:limit]
