"""The local backend keeps every port's contract."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tagstitch.adapters.duckdb_audit_queries import DuckDbAuditQueries
from tagstitch.adapters.in_process_pubsub import InProcessPubSub
from tagstitch.adapters.requests_callbacks import RequestsCallbackSender
from tagstitch.adapters.sqlite_audit import SqliteAuditTable
from tagstitch.adapters.sqlite_database import SqliteDatabase
from tagstitch.adapters.sqlite_documents import SqliteDocuments
from tagstitch.adapters.topology import read_topology
from tests.contract.audit_table_contract import AuditTableContract
from tests.contract.callback_sender_contract import CallbackSenderContract
from tests.contract.document_store_contract import DocumentStoreContract
from tests.contract.publisher_contract import PublisherContract, Receive, ReceivedMessage


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


class TestInProcessPubSub(PublisherContract):
    @pytest.fixture
    def publisher(self, database: SqliteDatabase) -> InProcessPubSub:
        return InProcessPubSub(database, read_topology())

    @pytest.fixture
    def topic(self) -> str:
        return "audit"

    @pytest.fixture
    def receive(self, publisher: InProcessPubSub) -> Receive:
        async def take(count: int) -> list[ReceivedMessage]:
            messages: dict[str, ReceivedMessage] = {}

            async def push(function: str, path: str, body: bytes) -> int:
                assert (function, path) == ("audit_sink", "/")
                message = json.loads(body)["message"]
                messages[message["messageId"]] = ReceivedMessage(
                    message["messageId"],
                    base64.b64decode(message["data"]),
                    message.get("attributes", {}),
                )
                if len(messages) >= count:
                    publisher.stop()
                return 204

            await asyncio.wait_for(publisher.run(push), 20)
            return list(messages.values())

        return take
