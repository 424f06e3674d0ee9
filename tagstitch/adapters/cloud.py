"""The cloud backend: Firestore, Pub/Sub and BigQuery, or their emulators.

Each vendor's library is imported by the first call of its port (270 ms and 30 MB each, bench/), so
that a function that never touches BigQuery never imports it; `import_libraries` does it before the
server takes requests. Nothing is connected before the first call: the server forks after import.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal

from tagstitch.adapters.settings import Settings
from tagstitch.pipeline.backend import Backend, CallbackAnswer, Document, RejectedRow, Write
from tagstitch.pipeline.deadline import Deadline

if TYPE_CHECKING:
    from tagstitch.adapters.bigquery_audit import BigQueryAuditTable
    from tagstitch.adapters.bigquery_audit_queries import BigQueryAuditQueries
    from tagstitch.adapters.firestore_documents import FirestoreDocuments
    from tagstitch.adapters.pubsub_publisher import PubsubPublisher
    from tagstitch.adapters.requests_callbacks import RequestsCallbackSender

LazyPort = Literal["documents", "publisher", "audit_table", "audit_queries", "callbacks"]

_ADAPTERS: Final[Mapping[LazyPort, str]] = {
    "documents": "tagstitch.adapters.firestore_documents",
    "publisher": "tagstitch.adapters.pubsub_publisher",
    "audit_table": "tagstitch.adapters.bigquery_audit",
    "audit_queries": "tagstitch.adapters.bigquery_audit_queries",
    "callbacks": "tagstitch.adapters.requests_callbacks",
}


def open_cloud_backend(settings: Settings) -> Backend:
    """Return the backend; nothing is imported or connected yet."""
    return Backend(
        documents=_Documents(settings),
        publisher=_Publisher(settings),
        audit_table=_AuditTable(settings),
        audit_queries=_AuditQueries(settings),
        callbacks=_Callbacks(settings),
        clock=lambda: datetime.now(UTC),
    )


def import_libraries(ports: Collection[LazyPort]) -> None:
    """Import what these ports need, so that no request's deadline pays for it; connects nothing.

    To be called at import by a function that is deployed with the cloud backend.
    """
    for port in ports:
        import_module(_ADAPTERS[port])


async def close_cloud_backend(backend: Backend) -> None:
    """Close what `open_cloud_backend` opened, in the event loop that used it."""
    for port in (
        backend.documents,
        backend.publisher,
        backend.audit_table,
        backend.audit_queries,
        backend.callbacks,
    ):
        if isinstance(port, _Lazy):
            await port.close()


class _Lazy:
    """A port whose adapter is imported and made on first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _adapter(self) -> Any:
        raise TypeError("a lazy port names its adapter")

    async def close(self) -> None:
        """Close the adapter, if there is one."""
        adapter = vars(self).pop("_adapter", None)
        if adapter is not None:
            await adapter.close()


class _Documents(_Lazy):
    @cached_property
    def _adapter(self) -> FirestoreDocuments:
        from tagstitch.adapters.firestore_documents import FirestoreDocuments

        return FirestoreDocuments(
            self._settings.project, emulator=self._settings.firestore_emulator
        )

    async def get(self, path: str, *, deadline: Deadline) -> Document | None:
        return await self._adapter.get(path, deadline=deadline)

    async def get_many(self, paths: Sequence[str], *, deadline: Deadline) -> Mapping[str, Document]:
        return await self._adapter.get_many(paths, deadline=deadline)

    async def commit(self, writes: Sequence[Write], *, deadline: Deadline) -> None:
        await self._adapter.commit(writes, deadline=deadline)

    async def list_documents(
        self,
        collection: str,
        *,
        pending: int | Literal["any"] | None = None,
        subject: str | None = None,
        after: str | None = None,
        limit: int = 100,
        deadline: Deadline,
    ) -> Sequence[Document]:
        return await self._adapter.list_documents(
            collection,
            pending=pending,
            subject=subject,
            after=after,
            limit=limit,
            deadline=deadline,
        )


class _Publisher(_Lazy):
    @cached_property
    def _adapter(self) -> PubsubPublisher:
        from tagstitch.adapters.pubsub_publisher import PubsubPublisher

        return PubsubPublisher(self._settings.project, emulator=self._settings.pubsub_emulator)

    async def publish(
        self,
        topic: str,
        data: bytes,
        *,
        attributes: Mapping[str, str] | None = None,
        deadline: Deadline,
    ) -> str:
        return await self._adapter.publish(topic, data, attributes=attributes, deadline=deadline)


class _AuditTable(_Lazy):
    @cached_property
    def _adapter(self) -> BigQueryAuditTable:
        from tagstitch.adapters.bigquery_audit import BigQueryAuditTable

        settings = self._settings
        return BigQueryAuditTable(
            settings.project,
            settings.dataset,
            storage_emulator=settings.bigquery_storage_emulator,
            emulator=settings.bigquery_emulator,
        )

    async def append(
        self, rows: Sequence[Mapping[str, Any]], *, deadline: Deadline
    ) -> Sequence[RejectedRow]:
        return await self._adapter.append(rows, deadline=deadline)

    async def erase(self, subjects: Sequence[str], *, deadline: Deadline) -> int:
        return await self._adapter.erase(subjects, deadline=deadline)


class _AuditQueries(_Lazy):
    @cached_property
    def _adapter(self) -> BigQueryAuditQueries:
        from tagstitch.adapters.bigquery_audit_queries import BigQueryAuditQueries

        settings = self._settings
        return BigQueryAuditQueries(
            settings.project, settings.dataset, emulator=settings.bigquery_emulator
        )

    async def run(self, sql: str, *, deadline: Deadline) -> Sequence[Mapping[str, Any]]:
        return await self._adapter.run(sql, deadline=deadline)


class _Callbacks(_Lazy):
    @cached_property
    def _adapter(self) -> RequestsCallbackSender:
        from tagstitch.adapters.requests_callbacks import RequestsCallbackSender

        return RequestsCallbackSender()

    async def post(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        allow_private: bool,
        deadline: Deadline,
        method: Literal["POST", "PUT", "PATCH"] = "POST",
    ) -> CallbackAnswer:
        return await self._adapter.post(
            url,
            headers=headers,
            body=body,
            allow_private=allow_private,
            deadline=deadline,
            method=method,
        )

    async def close(self) -> None:
        adapter = vars(self).pop("_adapter", None)
        if adapter is not None:
            adapter.close()
