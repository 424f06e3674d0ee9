"""The local stores with another process at work on the same file, and at their limits."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tagstitch.adapters.backend_factory import close_backend, open_backend
from tagstitch.adapters.bigquery_sql import translate_query
from tagstitch.adapters.duckdb_audit_queries import DuckDbAuditQueries
from tagstitch.adapters.settings import Settings, read_settings
from tagstitch.adapters.sqlite_audit import SqliteAuditTable
from tagstitch.adapters.sqlite_database import SqliteDatabase
from tagstitch.adapters.sqlite_documents import SqliteDocuments
from tagstitch.core.errors import Conflict, InvalidInput, Unavailable
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline


def soon() -> Deadline:
    return Deadline.after(20)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path)
    yield database
    database.close()


@pytest.fixture
def store(database: SqliteDatabase) -> SqliteDocuments:
    return SqliteDocuments(database)


@pytest.fixture
def locked(store: SqliteDocuments) -> Iterator[sqlite3.Connection]:
    """Another process's connection in the middle of a transaction."""
    database = store.database
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


class TestAnotherWriter:
    async def test_a_commit_waits_without_holding_up_the_event_loop(
        self, store: SqliteDocuments, locked: sqlite3.Connection
    ) -> None:
        commit = asyncio.create_task(store.commit([Put("c/a", {"n": 1})], deadline=soon()))
        started = time.monotonic()
        await asyncio.sleep(0.05)
        assert time.monotonic() - started < 2
        assert not commit.done()
        locked.execute("COMMIT")

        await commit

        assert await store.get("c/a", deadline=soon()) is not None

    async def test_a_commit_is_unavailable_at_its_deadline_and_writes_nothing(
        self, store: SqliteDocuments, locked: sqlite3.Connection
    ) -> None:
        started = time.monotonic()
        with pytest.raises(Unavailable):
            await store.commit([Put("c/a", {"n": 1})], deadline=Deadline.after(0.2))
        assert 0.15 < time.monotonic() - started < 5
        locked.execute("COMMIT")

        assert await store.get("c/a", deadline=soon()) is None

    @pytest.mark.usefixtures("locked")
    async def test_reading_does_not_wait(self, store: SqliteDocuments) -> None:

        assert await store.get("c/a", deadline=Deadline.after(1)) is None

    async def test_two_writers_in_two_connections_share_the_work(self, tmp_path: Path) -> None:
        databases = [SqliteDatabase(tmp_path) for _ in range(2)]
        stores = [SqliteDocuments(database) for database in databases]

        async def write(number: int) -> None:
            for n in range(100):
                put = Put(f"c/{number}-{n}", {"n": n}, if_version="")
                await stores[number].commit([put], deadline=soon())
                await asyncio.sleep(0)

        await asyncio.gather(write(0), write(1))

        assert len(await stores[0].list_documents("c", limit=500, deadline=soon())) == 200
        for database in databases:
            database.close()


class TestWritesOfOneTurn:
    """What tasks write in the same turn of the event loop shares a transaction."""

    async def test_they_share_one_commit(self, store: SqliteDocuments) -> None:
        commits: list[str] = []
        store.database._connection.set_trace_callback(commits.append)

        await asyncio.gather(
            *(store.commit([Put(f"c/{n}", {"n": n})], deadline=soon()) for n in range(20))
        )

        assert commits.count("COMMIT") == 1
        assert len(await store.list_documents("c", deadline=soon())) == 20

    async def test_one_that_fails_undoes_itself_and_nobody_else(
        self, store: SqliteDocuments
    ) -> None:
        await store.commit([Put("c/taken", {"n": 0})], deadline=soon())

        outcomes = await asyncio.gather(
            *(
                store.commit(
                    [Put(f"c/{n}", {"n": n}), Put("c/taken" if n == 5 else f"c/x{n}", {}, "")],
                    deadline=soon(),
                )
                for n in range(10)
            ),
            return_exceptions=True,
        )

        assert [n for n, outcome in enumerate(outcomes) if outcome is not None] == [5]
        assert isinstance(outcomes[5], Conflict)
        assert await store.get("c/5", deadline=soon()) is None
        assert len(await store.list_documents("c", deadline=soon())) == 1 + 2 * 9

    async def test_of_two_creators_one_is_told_that_it_came_second(
        self, store: SqliteDocuments
    ) -> None:
        outcomes = await asyncio.gather(
            *(store.commit([Put("c/a", {"n": n}, "")], deadline=soon()) for n in range(2)),
            return_exceptions=True,
        )

        assert [type(outcome) for outcome in outcomes] == [type(None), Conflict]

    async def test_one_that_was_cancelled_before_writes_nothing(
        self, store: SqliteDocuments
    ) -> None:
        kept = asyncio.create_task(store.commit([Put("c/kept", {})], deadline=soon()))
        cancelled = asyncio.create_task(store.commit([Put("c/gone", {})], deadline=soon()))
        asyncio.get_running_loop().call_soon(cancelled.cancel)

        await asyncio.gather(kept, cancelled, return_exceptions=True)

        assert cancelled.cancelled()
        assert await store.get("c/kept", deadline=soon()) is not None
        assert await store.get("c/gone", deadline=soon()) is None

    async def test_each_has_its_own_deadline(
        self, store: SqliteDocuments, locked: sqlite3.Connection
    ) -> None:
        hasty = store.commit([Put("c/hasty", {})], deadline=Deadline.after(0.05))
        patient = asyncio.create_task(store.commit([Put("c/patient", {})], deadline=soon()))
        with pytest.raises(Unavailable):
            await hasty
        locked.execute("COMMIT")

        await patient

        assert await store.get("c/patient", deadline=soon()) is not None
        assert await store.get("c/hasty", deadline=soon()) is None


async def test_a_closed_database_is_unavailable(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path)
    store = SqliteDocuments(database)
    database.close()

    with pytest.raises(Unavailable):
        await store.get("c/a", deadline=soon())


async def test_a_path_stands_in_one_commit_only_once(database: SqliteDatabase) -> None:
    with pytest.raises(ValueError, match="twice"):
        await SqliteDocuments(database).commit(
            [Put("c/a", {"n": 1}), Put("c/a", {"n": 2})], deadline=soon()
        )


async def test_documents_survive_a_restart(tmp_path: Path) -> None:
    for n in range(2):
        database = SqliteDatabase(tmp_path)
        store = SqliteDocuments(database)
        document = await store.get("c/a", deadline=soon())
        assert (document is None) == (n == 0)
        await store.commit([Put("c/a", {"n": 1})], deadline=soon())
        database.close()


async def test_a_column_that_a_newer_schema_has_is_added(database: SqliteDatabase) -> None:
    database.create(
        "CREATE TABLE audit (record_id TEXT PRIMARY KEY, record_type TEXT, request_id TEXT)",
        "INSERT INTO audit VALUES ('old', 'erasure', 'q')",
    )
    table = SqliteAuditTable(database)
    row = {
        "record_id": "new",
        "record_type": "erasure",
        "occurred_at": datetime(2026, 1, 1, tzinfo=UTC),
        "recorded_at": datetime(2026, 1, 1, tzinfo=UTC),
        "outcome": "delivered",
    }

    assert await table.append([row], deadline=soon()) == []

    queries = DuckDbAuditQueries(database, table, dataset="tagstitch")
    rows = await queries.run(
        "SELECT record_id, outcome FROM audit ORDER BY record_id", deadline=soon()
    )
    assert [tuple(found.values()) for found in rows] == [("new", "delivered"), ("old", None)]


class TestQueries:
    @pytest.fixture
    def queries(self, database: SqliteDatabase) -> DuckDbAuditQueries:
        return DuckDbAuditQueries(database, SqliteAuditTable(database), dataset="tagstitch")

    async def test_a_long_query_ends_at_the_deadline(self, queries: DuckDbAuditQueries) -> None:
        endless = " CROSS JOIN ".join(f"UNNEST(GENERATE_ARRAY(1, 10000)) AS x{n}" for n in range(4))
        started = time.monotonic()
        with pytest.raises(Unavailable):
            await queries.run(
                f"SELECT SUM(x0 * x1 * x2 * x3) FROM {endless}",  # noqa: S608
                deadline=Deadline.after(1),
            )

        assert time.monotonic() - started < 10

    @pytest.mark.parametrize(
        "table",
        [
            "audit",
            "tagstitch.audit",
            "`tagstitch.audit`",
            "`tagstitch`.`audit`",
            "demo.tagstitch.audit",
            "`demo.tagstitch.audit`",
            "`my-project-1.tagstitch.audit`",
            "my-project-1.tagstitch.audit",
        ],
    )
    async def test_the_table_has_its_name_in_every_spelling(
        self, queries: DuckDbAuditQueries, table: str
    ) -> None:
        sql = f"SELECT COUNT(*) AS n FROM {table} AS a WHERE a.outcome IS NULL"  # noqa: S608

        assert await queries.run(sql, deadline=soon()) == [{"n": 0}]

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT * FROM read_csv('/etc/passwd')",
            "SELECT * FROM read_text('/etc/passwd')",
            "SELECT * FROM '/etc/passwd'",
            "SELECT * FROM `/etc/passwd`",
            "SELECT * FROM other.audit",
            "SELECT * FROM duckdb_secrets_of_nothing()",
        ],
    )
    async def test_nothing_else_can_be_read(self, queries: DuckDbAuditQueries, sql: str) -> None:
        with pytest.raises(InvalidInput):
            await queries.run(sql, deadline=soon())

    @pytest.mark.parametrize(
        "sql",
        [
            "COPY (SELECT 1) TO '/tmp/x'",
            "ATTACH '/tmp/x' AS y",
            "PRAGMA database_list",
            "SET threads = 4",
            "INSTALL httpfs",
            "EXPORT DATA OPTIONS (uri = 'gs://x') AS SELECT 1",
            "CALL something()",
            "BEGIN TRANSACTION",
            "DECLARE x INT64",
            "EXECUTE IMMEDIATE 'SELECT 1'",
            "GRANT SELECT ON audit TO x",
            "SELECT 1 INTO x",
            "WITH a AS (DELETE FROM audit RETURNING *) SELECT * FROM a",
        ],
    )
    async def test_only_a_query_is_run(self, queries: DuckDbAuditQueries, sql: str) -> None:
        with pytest.raises(InvalidInput):
            await queries.run(sql, deadline=soon())

    async def test_deep_nesting_is_refused(self, queries: DuckDbAuditQueries) -> None:
        with pytest.raises(InvalidInput):
            await queries.run(f"SELECT {'(' * 5000}1{')' * 5000}", deadline=soon())

    async def test_a_syntax_error_says_where(self, queries: DuckDbAuditQueries) -> None:
        with pytest.raises(InvalidInput, match="line 2"):
            await queries.run("SELECT *\nFROM audit WHERE AND", deadline=soon())

    def test_a_query_is_translated_once(self) -> None:
        assert translate_query("SELECT 1", dataset="a") is translate_query("SELECT 1", dataset="a")


class TestFactory:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return read_settings({"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(tmp_path)})

    def test_equal_settings_share_one_backend_in_an_event_loop(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        environment = {"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(tmp_path)}

        async def use() -> None:
            backend = open_backend(settings)
            assert open_backend(read_settings(environment)) is backend
            assert open_backend(read_settings(environment | {"TAGSTITCH_PROJECT": "b"})) != backend
            await close_backend(settings)
            again = open_backend(settings)
            assert again is not backend
            assert await again.documents.get("c/a", deadline=soon()) is None
            await close_backend(settings)

        asyncio.run(use())
        asyncio.run(use())

    def test_outside_an_event_loop_there_is_no_backend(self, settings: Settings) -> None:
        with pytest.raises(RuntimeError):
            open_backend(settings)
