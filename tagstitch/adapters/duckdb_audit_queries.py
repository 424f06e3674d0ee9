"""BigQuery SQL over the local audit table: translated by SQLGlot, run by DuckDB."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tagstitch.adapters.audit_columns import SCHEMAS_DIR, Column
from tagstitch.adapters.bigquery_sql import TranslatedQuery, translate_query
from tagstitch.adapters.sqlite_audit import SqliteAuditTable
from tagstitch.adapters.sqlite_database import SqliteDatabase
from tagstitch.core.errors import InvalidInput, Unavailable
from tagstitch.pipeline.deadline import Deadline

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_ROWS_PER_BATCH = 10_000

_CONFIGURATION: dict[str, str | bool | int | float | list[str]] = {
    # A query reads the audit table and nothing else: no files, no network.
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "threads": "1",
}


class DuckDbAuditQueries:
    """AuditQueries over the SQLite table.

    Each query copies the table through Arrow into a DuckDB in memory, in a thread: DuckDB's wheel
    has no SQLite reader, and the copy sees one state of the table.
    """

    def __init__(self, database: SqliteDatabase, table: SqliteAuditTable, *, dataset: str) -> None:
        self._path = database.path
        self._table = table
        self._dataset = dataset

    async def run(self, sql: str, *, deadline: Deadline) -> Sequence[Mapping[str, Any]]:
        """Return the rows of one query."""
        if deadline.is_over:
            raise Unavailable("duckdb", "deadline")
        # The thread ends itself at the deadline: awaiting it leaves no query running behind.
        return await asyncio.to_thread(self._run, sql, deadline)

    def _run(self, sql: str, deadline: Deadline) -> list[dict[str, Any]]:
        import duckdb

        query = translate_query(sql, dataset=self._dataset)
        connection = duckdb.connect(":memory:", config=_CONFIGURATION)
        watchdog = threading.Timer(deadline.remaining_s, connection.interrupt)
        watchdog.daemon = True
        watchdog.start()
        try:
            self._load(connection, deadline)
            return _fetch(connection, query)
        except duckdb.InterruptException as error:
            raise Unavailable("duckdb", "deadline") from error
        except duckdb.Error as error:
            if deadline.is_over:
                raise Unavailable("duckdb", "deadline") from error
            # DuckDB's texts quote values; the class of the error does not.
            raise InvalidInput(
                "invalid_field", f"the query cannot be run: {type(error).__name__}", path="sql"
            ) from None
        finally:
            watchdog.cancel()
            connection.close()

    def _load(self, connection: duckdb.DuckDBPyConnection, deadline: Deadline) -> None:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("copied_rows", self._copy(deadline))
        json_columns = ", ".join(
            f'"{column.name}"::JSON AS "{column.name}"'
            for column in self._table.columns
            if column.type == "JSON"
        )
        connection.execute(
            f"CREATE TABLE audit AS SELECT * REPLACE ({json_columns}) FROM copied_rows"  # noqa: S608
        )
        connection.unregister("copied_rows")
        for name, view in _read_views(self._dataset):
            connection.execute(f'CREATE VIEW "{name}" AS {view}')

    def _copy(self, deadline: Deadline) -> pa.Table:
        import pyarrow as pa

        schema = pa.schema([(column.name, _arrow_type(column)) for column in self._table.columns])
        batches = []
        source = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)
        try:
            for columns in self._table.iterate_columns(source, rows_max=_ROWS_PER_BATCH):
                if deadline.is_over:
                    raise Unavailable("duckdb", "deadline")
                arrays = [
                    pa.array(_arrow_values(column, values), field.type)
                    for column, values, field in zip(
                        self._table.columns, columns, schema, strict=True
                    )
                ]
                batches.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
        finally:
            source.close()
        return pa.Table.from_batches(batches, schema=schema)


def _arrow_type(column: Column) -> pa.DataType:
    import pyarrow as pa

    types = {"TIMESTAMP": pa.timestamp("us", "UTC"), "FLOAT": pa.float64(), "BYTES": pa.binary()}
    type_ = types.get(column.type, pa.string())
    return pa.list_(type_) if column.mode == "REPEATED" else type_


def _arrow_values(column: Column, values: Sequence[Any]) -> Sequence[Any]:
    if column.mode != "REPEATED":
        return values
    return [[] if value is None else msgspec.json.decode(value) for value in values]


def _read_views(dataset: str) -> list[tuple[str, str]]:
    """Return (name, DuckDB SQL) of each view, those first that others read."""
    left = {
        path.stem: translate_query(
            path.read_text(encoding="utf-8").replace("${dataset}", dataset), dataset=dataset
        )
        for path in sorted((SCHEMAS_DIR / "views").glob("*.sql"))
    }
    ordered = []
    while left:
        ready = [name for name, view in left.items() if not view.tables & left.keys()]
        if not ready:
            raise ValueError("the audit views read each other in a circle")
        ordered += [(name, left.pop(name).sql) for name in ready]
    return ordered


def _fetch(connection: duckdb.DuckDBPyConnection, query: TranslatedQuery) -> list[dict[str, Any]]:
    relation = connection.sql(query.sql)
    types = dict(zip(relation.columns, map(str, relation.types), strict=True))
    rows: list[dict[str, Any]] = relation.to_arrow_table().to_pylist()
    for row in rows:
        for name, value in row.items():
            row[name] = _bigquery_value(types[name], value)
    return rows


def _bigquery_value(duckdb_type: str, value: Any) -> Any:
    """Return the value as BigQuery's client gives it."""
    if value is None:
        return None
    if duckdb_type == "JSON":
        return msgspec.json.decode(value)
    if duckdb_type == "JSON[]":
        return [None if item is None else msgspec.json.decode(item) for item in value]
    if duckdb_type == "HUGEINT":  # DuckDB's sum of integers; BigQuery's is INT64
        return int(value)
    return value
