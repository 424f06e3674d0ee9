"""The local backend keeps every port's contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tagstitch.adapters.duckdb_audit_queries import DuckDbAuditQueries
from tagstitch.adapters.requests_callbacks import RequestsCallbackSender
from tagstitch.adapters.sqlite_audit import SqliteAuditTable
from tagstitch.adapters.sqlite_database import SqliteDatabase
from tagstitch.adapters.sqlite_documents import SqliteDocuments
from tests.contract.audit_table_contract import AuditTableContract
from tests.contract.callback_sender_contract import CallbackSenderContract
from tests.contract.document_store_contract import DocumentStoreContract


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path)
    yield database
    database.close()


class TestSqliteDocuments(DocumentStoreContract):
    @pytest.fixture
    def store(self, database: SqliteDatabase) -> SqliteDocuments:
        return SqliteDocuments(database)


class TestSqliteAudit(AuditTableContract):
    @pytest.fixture
    def audit_table(self, database: SqliteDatabase) -> SqliteAuditTable:
        return SqliteAuditTable(database)

    @pytest.fixture
    def audit_queries(
        self, database: SqliteDatabase, audit_table: SqliteAuditTable
    ) -> DuckDbAuditQueries:
        return DuckDbAuditQueries(database, audit_table, dataset="tagstitch")


class TestRequestsCallbackSender(CallbackSenderContract):
    @pytest.fixture
    def sender(self) -> Iterator[RequestsCallbackSender]:
        sender = RequestsCallbackSender()
        yield sender
        sender.close()
