"""What the document store in SQLite does besides its port."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tagstitch.adapters.sqlite_database import SqliteDatabase
from tagstitch.adapters.sqlite_documents import SqliteDocuments
from tagstitch.pipeline.backend import Patch, Put
from tagstitch.pipeline.deadline import Deadline

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteDocuments]:
    database = SqliteDatabase(tmp_path)
    yield SqliteDocuments(database)
    database.close()


async def paths(store: SqliteDocuments) -> list[str]:
    found = await store.list_documents("profiles", deadline=Deadline.after(5))
    return [document.path for document in found]


async def test_what_has_expired_is_deleted(store: SqliteDocuments) -> None:
    writes = [
        Put("profiles/expired", {"expires_at": NOW}),
        Put("profiles/living", {"expires_at": NOW + SECOND}),
        Put("profiles/for_ever", {}),
        Put("profiles/a_text", {"expires_at": "2020-01-01T00:00:00Z"}),
        Put("profiles/renewed", {"expires_at": NOW}),
        Put("profiles/lasting", {"expires_at": NOW}),
    ]
    await store.commit(writes, deadline=Deadline.after(5))
    changes = [
        Patch("profiles/renewed", {"expires_at": NOW + SECOND}),
        Patch("profiles/lasting", {}, ("expires_at",)),
    ]
    await store.commit(changes, deadline=Deadline.after(5))

    deleted = await store.delete_expired(now=NOW, deadline=Deadline.after(5))

    assert deleted == 1
    assert "profiles/expired" not in await paths(store)
    assert len(await paths(store)) == 5


async def test_a_folder_of_an_older_version_is_brought_up_to_date(tmp_path: Path) -> None:
    older = SqliteDatabase(tmp_path)
    older.close()
    with sqlite3.connect(older.path) as connection:
        connection.execute(
            "CREATE TABLE documents (path TEXT PRIMARY KEY, version INTEGER NOT NULL,"
            " pending INTEGER, body BLOB NOT NULL)"
        )
    database = SqliteDatabase(tmp_path)

    store = SqliteDocuments(database)

    await store.commit([Put("profiles/p", {"expires_at": NOW})], deadline=Deadline.after(5))
    assert await store.delete_expired(now=NOW, deadline=Deadline.after(5)) == 1
    database.close()
