"""The audit table in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from tagstitch.adapters.audit_columns import Column, find_fault, read_audit_columns
from tagstitch.adapters.sqlite_database import SqliteDatabase
from tagstitch.core.erasure import nobodys_row
from tagstitch.pipeline.backend import RejectedRow
from tagstitch.pipeline.deadline import Deadline

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_OF_REQUEST = "(:request_id IS NULL OR request_id = :request_id)"
_SQLITE_TYPES = {"TIMESTAMP": "INTEGER", "FLOAT": "REAL", "BYTES": "BLOB"}


class SqliteAuditTable:
    """AuditTable on one SQLite file; the primary key keeps a record from being there twice.

    Times are microseconds since 1970, JSON and repeated columns are JSON text.
    """

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self.columns = read_audit_columns()
        _create_table(database, self.columns)
        names = ", ".join(f'"{column.name}"' for column in self.columns)
        marks = ", ".join("?" for _ in self.columns)
        # Column names come from the schema file, values only through the marks.
        self._insert = f"INSERT OR IGNORE INTO audit ({names}) VALUES ({marks})"  # noqa: S608
        self._select = f"SELECT {names} FROM audit"  # noqa: S608

    async def append(
        self, rows: Sequence[Mapping[str, Any]], *, deadline: Deadline
    ) -> Sequence[RejectedRow]:
        """Append the good rows and return the others."""
        faults = [find_fault(self.columns, row) for row in rows]
        good = [self._encode(row) for row, fault in zip(rows, faults, strict=True) if not fault]

        def insert(connection: sqlite3.Connection) -> None:
            connection.executemany(self._insert, good)

        await self._database.write(insert, deadline)
        return [RejectedRow(index, fault) for index, fault in enumerate(faults) if fault]

    async def erase(self, subjects: Sequence[str], *, deadline: Deadline) -> int:
        """Make the rows of these pseudonyms nobody's; return how many there were."""
        of_subjects = "subject IN (SELECT value FROM json_each(?))"
        wanted = [msgspec.json.encode(subjects).decode()]
        sets = ", ".join(f'"{column.name}" = ?' for column in self.columns)

        def erase(connection: sqlite3.Connection) -> int:
            rows = connection.execute(f"{self._select} WHERE {of_subjects}", wanted).fetchall()
            connection.executemany(
                f"UPDATE audit SET {sets} WHERE record_id = ?",  # noqa: S608 - as in __init__
                [
                    [*self._encode(nobodys_row(decoded)), decoded["record_id"]]
                    for decoded in map(self._decode, rows)
                ],
            )
            return len(rows)

        return await self._database.write(erase, deadline)

    async def list_rows(
        self, *, request_id: str | None = None, limit: int | None = None, deadline: Deadline
    ) -> list[dict[str, Any]]:
        """Return the first rows, in the order of their storing."""
        statement = f"{self._select} WHERE {_OF_REQUEST} ORDER BY rowid LIMIT :limit"
        # SQLite takes a negative limit for none.
        parameters = {"request_id": request_id, "limit": -1 if limit is None else limit}
        rows = await self._database.read(
            lambda connection: connection.execute(statement, parameters).fetchall(), deadline
        )
        return [self._decode(row) for row in rows]

    async def count_rows(self, *, request_id: str | None = None, deadline: Deadline) -> int:
        """Return how many rows there are."""
        statement = f"SELECT COUNT(*) FROM audit WHERE {_OF_REQUEST}"  # noqa: S608 - constant
        parameters = {"request_id": request_id}
        count: int = await self._database.read(
            lambda connection: connection.execute(statement, parameters).fetchone()[0], deadline
        )
        return count

    async def clear(self, *, deadline: Deadline) -> None:
        """Delete every row."""
        await self._database.write(
            lambda connection: connection.execute("DELETE FROM audit"), deadline
        )

    def iterate_columns(
        self, connection: sqlite3.Connection, *, rows_max: int
    ) -> Iterator[list[Sequence[Any]]]:
        """Yield the table in batches of rows, each as one list a column, for the queries."""
        cursor = connection.execute(self._select)
        while rows := cursor.fetchmany(rows_max):
            yield list(zip(*rows, strict=True))

    def _encode(self, row: Mapping[str, Any]) -> list[Any]:
        return [_encode_value(column, row.get(column.name)) for column in self.columns]

    def _decode(self, row: Sequence[Any]) -> dict[str, Any]:
        return {
            column.name: _decode_value(column, value)
            for column, value in zip(self.columns, row, strict=True)
        }


def _create_table(database: SqliteDatabase, columns: Sequence[Column]) -> None:
    """Make the table, or add the columns that a newer schema has."""
    database.create("CREATE TABLE IF NOT EXISTS audit (record_id TEXT PRIMARY KEY)")
    existing = database.column_names("audit")
    database.create(
        *(
            f'ALTER TABLE audit ADD COLUMN "{column.name}" {_SQLITE_TYPES.get(column.type, "TEXT")}'
            for column in columns
            if column.name not in existing
        ),
        "CREATE INDEX IF NOT EXISTS audit_request_id ON audit (request_id)",
        "CREATE INDEX IF NOT EXISTS audit_subject ON audit (subject)",
    )


def _encode_value(column: Column, value: Any) -> Any:
    if column.mode == "REPEATED":
        return msgspec.json.encode(value or []).decode()
    if value is None:
        return None
    if column.type == "TIMESTAMP":
        return (value - _EPOCH) // _MICROSECOND
    if column.type == "JSON":
        return msgspec.json.encode(value).decode()
    return value


def _decode_value(column: Column, value: Any) -> Any:
    if column.mode == "REPEATED":
        return [] if value is None else msgspec.json.decode(value)
    if value is None:
        return None
    if column.type == "TIMESTAMP":
        return _EPOCH + value * _MICROSECOND
    if column.type == "JSON":
        return msgspec.json.decode(value)
    return value
