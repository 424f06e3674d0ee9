"""Every call to Google ends at its deadline, whatever is wrong with the other side."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest

from tagstitch.adapters.bigquery_audit import BigQueryAuditTable
from tagstitch.adapters.bigquery_audit_queries import BigQueryAuditQueries
from tagstitch.adapters.firestore_documents import FirestoreDocuments
from tagstitch.adapters.pubsub_publisher import PubsubPublisher
from tagstitch.core.errors import Unavailable
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline

ROW = {
    "record_id": "a",
    "record_type": "erasure",
    "occurred_at": datetime(2026, 11, 21, tzinfo=UTC),
    "recorded_at": datetime(2026, 11, 21, tzinfo=UTC),
    "outcome": "delivered",
}

Call = Callable[[Deadline], Awaitable[object]]


class Services:
    """One adapter of each kind, all at one address."""

    def __init__(self, address: str) -> None:
        self.documents = FirestoreDocuments("project", emulator=address)
        self.publisher = PubsubPublisher("project", emulator=address)
        self.audit_table = BigQueryAuditTable("project", "d", storage_emulator=address)
        self.audit_queries = BigQueryAuditQueries("project", "d", emulator=f"http://{address}")

    def call(self, name: str) -> Call:
        documents = self.documents
        calls: dict[str, Call] = {
            "get": lambda deadline: documents.get("c/a", deadline=deadline),
            "get_many": lambda deadline: documents.get_many(["c/a"], deadline=deadline),
            "commit": lambda deadline: documents.commit([Put("c/a", {})], deadline=deadline),
            "list_documents": lambda deadline: documents.list_documents("c", deadline=deadline),
            "publish": lambda deadline: self.publisher.publish("t", b"x", deadline=deadline),
            "append": lambda deadline: self.audit_table.append([ROW], deadline=deadline),
            "run": lambda deadline: self.audit_queries.run("SELECT 1", deadline=deadline),
        }
        return calls[name]


CALLS = ["get", "get_many", "commit", "list_documents", "publish", "append", "run"]


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield server.getsockname()[1]


@pytest.fixture
async def services() -> AsyncIterator[Callable[[int], Services]]:
    async with AsyncExitStack() as stack:

        def open_services(port: int) -> Services:
            services = Services(f"127.0.0.1:{port}")
            for adapter in vars(services).values():
                stack.push_async_callback(adapter.close)
            return services

        yield open_services


@pytest.mark.parametrize("name", CALLS)
async def test_a_closed_port_is_unavailable_long_before_the_deadline(
    services: Callable[[int], Services], closed_port: int, name: str
) -> None:
    call = services(closed_port).call(name)

    async with asyncio.timeout(5):
        for _ in range(3):
            with pytest.raises(Unavailable):
                await call(Deadline.after(60))


@pytest.mark.parametrize("name", CALLS)
async def test_a_server_that_never_answers_is_unavailable_at_the_deadline(
    services: Callable[[int], Services], silent_port: int, name: str
) -> None:
    call = services(silent_port).call(name)
    start = time.monotonic()

    with pytest.raises(Unavailable):
        await call(Deadline.after(0.5))

    assert 0.4 < time.monotonic() - start < 1.5


async def test_a_service_that_is_back_is_used_within_seconds(
    services: Callable[[int], Services], closed_port: int
) -> None:
    call = services(closed_port).call("get")
    with pytest.raises(Unavailable):
        await call(Deadline.after(1))

    with socket.create_server(("127.0.0.1", closed_port)) as server:
        server.settimeout(10)
        dialled = asyncio.create_task(asyncio.to_thread(server.accept))
        while not dialled.done():
            with pytest.raises(Unavailable):
                await call(Deadline.after(0.2))
            await asyncio.sleep(0.05)
        connection, _ = await dialled
        connection.close()


@pytest.mark.parametrize("name", ["get", "get_many", "publish", "append"])
async def test_a_connection_that_nothing_is_heard_on_is_replaced_within_seconds(
    services: Callable[[int], Services], name: str
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        server.settimeout(10)
        call = services(server.getsockname()[1]).call(name)

        def accept_twice() -> list[socket.socket]:
            return [server.accept()[0] for _ in range(2)]

        dialled = asyncio.create_task(asyncio.to_thread(accept_twice))
        while not dialled.done():
            with pytest.raises(Unavailable):
                await call(Deadline.after(0.2))
        for connection in await dialled:
            connection.close()


async def test_a_call_of_a_silent_service_ends_before_a_long_deadline(
    services: Callable[[int], Services], silent_port: int
) -> None:
    call = services(silent_port).call("commit")

    async with asyncio.timeout(10):
        with pytest.raises(Unavailable):
            await call(Deadline.after(60))
