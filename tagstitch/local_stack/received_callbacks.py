"""What the stand-in for the sGTM endpoint received, kept in the data folder."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from tagstitch.adapters.sqlite_database import SqliteDatabase
from tagstitch.pipeline.deadline import Deadline

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS received_callbacks (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        request_id TEXT,
        item BLOB NOT NULL
    )
    """,
    "CREATE INDEX IF NOT EXISTS received_callbacks_request ON received_callbacks (request_id, id)",
)


class ReceivedCallbacks:
    """Callbacks in the order of their arrival."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        database.create(*_TABLES)

    async def add(
        self,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        signature_valid: bool,
        deadline: Deadline,
    ) -> None:
        """Keep one callback, whatever its body is."""
        decoded = _decode(body)
        webhook_id = headers.get("webhook-id")
        item = {
            "received_at": datetime.now(UTC),
            "path": path,
            "webhook_id": webhook_id,
            "signature_valid": signature_valid,
            "headers": dict(headers),
            "body": decoded,
        }
        row = (_request_id(decoded) or webhook_id, msgspec.json.encode(item))
        await self._database.write(
            lambda connection: connection.execute(
                "INSERT INTO received_callbacks (request_id, item) VALUES (?, ?)", row
            ),
            deadline,
        )

    async def list_items(
        self, *, request_id: str | None, limit: int | None, deadline: Deadline
    ) -> tuple[int, list[msgspec.Raw]]:
        """Return how many there are and the first of them, as JSON."""
        parameters = {"request_id": request_id, "limit": -1 if limit is None else limit}
        condition = "(:request_id IS NULL OR request_id = :request_id)"

        def read(connection: sqlite3.Connection) -> tuple[int, list[tuple[bytes]]]:
            count = connection.execute(
                f"SELECT COUNT(*) FROM received_callbacks WHERE {condition}",  # noqa: S608 - constant
                parameters,
            ).fetchone()[0]
            rows = connection.execute(
                f"SELECT item FROM received_callbacks WHERE {condition} ORDER BY id LIMIT :limit",  # noqa: S608
                parameters,
            ).fetchall()
            return count, rows

        count, rows = await self._database.read(read, deadline)
        return count, [msgspec.Raw(row[0]) for row in rows]

    async def clear(self, *, deadline: Deadline) -> None:
        """Forget every callback."""
        await self._database.write(
            lambda connection: connection.execute("DELETE FROM received_callbacks"), deadline
        )


def _decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode(errors="replace")


def _request_id(body: Any) -> str | None:
    data = body.get("data") if isinstance(body, dict) else None
    request_id = data.get("request_id") if isinstance(data, dict) else None
    return request_id if isinstance(request_id, str) else None
