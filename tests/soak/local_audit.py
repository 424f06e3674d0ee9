"""The audit of a soak on emulators: SQLite, as on the local stack.

BigQuery's emulator takes a row or two at a time and is not made for questions beside that
(docs/emulator-gaps.md); what a soak asks of it is tested in `tests/contract` and
`tests/adapters/test_bigquery_audit.py`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from tagstitch.adapters.duckdb_audit_queries import DuckDbAuditQueries
from tagstitch.adapters.settings import Settings
from tagstitch.adapters.sqlite_audit import SqliteAuditTable
from tagstitch.adapters.sqlite_database import SqliteDatabase
from tagstitch.pipeline.backend import Backend


def with_local_audit(backend: Backend, settings: Settings) -> Backend:
    """Return the backend with its audit in the data folder."""
    if settings.backend == "local":
        return backend
    table, queries = _opened(settings.data_dir, settings.dataset)
    return replace(backend, audit_table=table, audit_queries=queries)


@cache
def _opened(data_dir: Path, dataset: str) -> tuple[SqliteAuditTable, DuckDbAuditQueries]:
    database = SqliteDatabase(data_dir)
    table = SqliteAuditTable(database)
    return table, DuckDbAuditQueries(database, table, dataset=dataset)
