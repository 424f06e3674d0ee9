"""The document store in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from tagstitch.adapters.document_fields import check_fields
from tagstitch.adapters.sqlite_database import SqliteDatabase
from tagstitch.core.errors import Conflict, InvalidInput
from tagstitch.core.limits import DOCUMENT_BYTES_MAX
from tagstitch.pipeline.backend import Delete, Document, Patch, Put, Write
from tagstitch.pipeline.deadline import Deadline

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS documents (
        path TEXT PRIMARY KEY,
        version INTEGER NOT NULL,
        pending INTEGER,
        body BLOB NOT NULL,
        subject TEXT,
        expires_at REAL
    )
    """,
    """
    CREATE INDEX IF NOT EXISTS documents_pending ON documents (pending, path)
    WHERE pending IS NOT NULL
    """,
    # One number for every commit: a document that is deleted and made again must not get a
    # version that it had before.
    "CREATE TABLE IF NOT EXISTS commits (number INTEGER NOT NULL)",
    "INSERT INTO commits SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM commits)",
)

_LATER_COLUMNS = {"subject": "TEXT", "expires_at": "REAL"}
"""Those that the table of an older version's folder lacks."""

_INDEXES = (
    """
    CREATE INDEX IF NOT EXISTS documents_subject ON documents (subject, path)
    WHERE subject IS NOT NULL
    """,
    """
    CREATE INDEX IF NOT EXISTS documents_expiry ON documents (expires_at)
    WHERE expires_at IS NOT NULL
    """,
)

_EXPIRED_AT_ONCE = 500

_Row = tuple[str, int, bytes]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode


class SqliteDocuments:
    """DocumentStore on one SQLite file; bodies are MessagePack, which keeps bytes and times."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.database = database
        database.create(*_TABLES)
        names = database.column_names("documents")
        for name, type_ in _LATER_COLUMNS.items():
            if name not in names:
                database.create(f"ALTER TABLE documents ADD COLUMN {name} {type_}")
        database.create(*_INDEXES)

    async def get(self, path: str, *, deadline: Deadline) -> Document | None:
        """Return the document, or None."""
        return (await self.get_many([path], deadline=deadline)).get(path)

    async def get_many(self, paths: Sequence[str], *, deadline: Deadline) -> Mapping[str, Document]:
        """Return the documents that exist, by path."""
        wanted = msgspec.json.encode(paths).decode()
        rows = await self._select("path IN (SELECT value FROM json_each(?))", [wanted], deadline)
        return {row[0]: _document(row) for row in rows}

    async def commit(self, writes: Sequence[Write], *, deadline: Deadline) -> None:
        """Apply all writes or none."""
        if len({write.path for write in writes}) < len(writes):
            raise ValueError("a path stands in one commit twice")
        for write in writes:
            if not isinstance(write, Delete):
                check_fields(write.fields)

        def apply(connection: sqlite3.Connection) -> None:
            number = connection.execute(
                "UPDATE commits SET number = number + 1 RETURNING number"
            ).fetchone()[0]
            for write in writes:
                _apply(connection, write, number)

        await self.database.write(apply, deadline)

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
        """Return documents of a collection in order of their path, the ones behind `after`."""
        first, end = f"{collection}/", f"{collection}0"  # 0 is the character behind the slash
        condition, order = "path > ? AND path < ?", "path"
        parameters: list[Any] = [after or first, end]
        if pending == "any":
            condition, order = f"pending >= 0 AND {condition}", "pending, path"
        elif pending is not None:
            condition, parameters = f"pending = ? AND {condition}", [pending, *parameters]
        if subject is not None:
            condition, parameters = f"subject = ? AND {condition}", [subject, *parameters]
        rows = await self._select(
            f"{condition} ORDER BY {order} LIMIT ?", [*parameters, limit], deadline
        )
        return [_document(row) for row in rows]

    async def delete_expired(self, *, now: datetime, deadline: Deadline) -> int:
        """Delete documents whose time is over, as Firestore's policies do; return how many.

        Some hundreds, so that nobody waits long for the file: there may be more.
        """

        def delete(connection: sqlite3.Connection) -> int:
            expired = "SELECT path FROM documents WHERE expires_at <= ? LIMIT ?"
            return connection.execute(
                f"DELETE FROM documents WHERE path IN ({expired})",  # noqa: S608 - a constant
                (now.timestamp(), _EXPIRED_AT_ONCE),
            ).rowcount

        return await self.database.write(delete, deadline)

    async def clear(self, keep: Callable[[str], bool], *, deadline: Deadline) -> None:
        """Delete every document except those of the collections that `keep` accepts."""

        def delete(connection: sqlite3.Connection) -> None:
            paths = connection.execute("SELECT path FROM documents").fetchall()
            connection.executemany(
                "DELETE FROM documents WHERE path = ?",
                [row for row in paths if not keep(row[0].partition("/")[0])],
            )

        await self.database.write(delete, deadline)

    async def _select(
        self, condition: str, parameters: Sequence[Any], deadline: Deadline
    ) -> list[_Row]:
        # The condition is one of the constants above; every value is a parameter.
        statement = f"SELECT path, version, body FROM documents WHERE {condition}"  # noqa: S608
        return await self.database.read(
            lambda connection: connection.execute(statement, parameters).fetchall(), deadline
        )


def _apply(connection: sqlite3.Connection, write: Write, number: int) -> None:
    if isinstance(write, Delete):
        connection.execute("DELETE FROM documents WHERE path = ?", (write.path,))
        return
    fields = write.fields
    if isinstance(write, Patch) or write.if_version is not None:
        existing = connection.execute(
            "SELECT path, version, body FROM documents WHERE path = ?", (write.path,)
        ).fetchone()
        _check_precondition(write, existing)
        if isinstance(write, Patch):
            removed = frozenset(write.remove)
            kept = {k: v for k, v in _decode(existing[2]).items() if k not in removed}
            fields = {**kept, **write.fields}
    body = _encode(dict(fields))
    if len(body) > DOCUMENT_BYTES_MAX:
        raise InvalidInput("invalid_field", "a document would be above 1 MiB")
    pending, subject = fields.get("pending"), fields.get("subject")
    expires_at = fields.get("expires_at")
    connection.execute(
        "INSERT INTO documents (path, version, pending, body, subject, expires_at)"
        " VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (path) DO UPDATE SET version = excluded.version,"
        " pending = excluded.pending, body = excluded.body, subject = excluded.subject,"
        " expires_at = excluded.expires_at",
        (
            write.path,
            number,
            pending if type(pending) is int else None,
            body,
            subject if isinstance(subject, str) else None,
            expires_at.timestamp() if isinstance(expires_at, datetime) else None,
        ),
    )


def _check_precondition(write: Put | Patch, existing: _Row | None) -> None:
    version = "" if existing is None else str(existing[1])
    if existing is None and isinstance(write, Patch):
        raise Conflict("a patched document does not exist")
    if write.if_version is not None and write.if_version != version:
        raise Conflict("a document has another version")


def _document(row: _Row) -> Document:
    path, version, body = row
    return Document(path, _decode(body), str(version))
