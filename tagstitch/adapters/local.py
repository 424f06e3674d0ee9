"""The local backend: one SQLite file, DuckDB for queries, and Pub/Sub in the process."""

from __future__ import annotations

from datetime import UTC, datetime

from tagstitch.adapters.duckdb_audit_queries import DuckDbAuditQueries
from tagstitch.adapters.in_process_pubsub import InProcessPubSub
from tagstitch.adapters.requests_callbacks import RequestsCallbackSender
from tagstitch.adapters.settings import Settings
from tagstitch.adapters.sqlite_audit import SqliteAuditTable
from tagstitch.adapters.sqlite_database import SqliteDatabase
from tagstitch.adapters.sqlite_documents import SqliteDocuments
from tagstitch.adapters.topology import read_topology
from tagstitch.pipeline.backend import Backend


def open_local_backend(settings: Settings, *, is_durable: bool = True) -> Backend:
    """Return the backend on the data folder, which is made when missing.

    Its publisher is an `InProcessPubSub`: somebody must `run` it for messages to be delivered.
    `is_durable` as in `SqliteDatabase`.
    """
    database = SqliteDatabase(settings.data_dir, is_durable=is_durable)
    audit_table = SqliteAuditTable(database)
    return Backend(
        documents=SqliteDocuments(database),
        publisher=InProcessPubSub(
            database,
            read_topology(),
            project=settings.project,
            retry_scale=settings.retry_scale,
        ),
        audit_table=audit_table,
        audit_queries=DuckDbAuditQueries(database, audit_table, dataset=settings.dataset),
        callbacks=RequestsCallbackSender(),
        clock=lambda: datetime.now(UTC),
    )


def close_local_backend(backend: Backend) -> None:
    """Close what `open_local_backend` opened."""
    if isinstance(backend.documents, SqliteDocuments):
        backend.documents.database.close()
    if isinstance(backend.callbacks, RequestsCallbackSender):
        backend.callbacks.close()
