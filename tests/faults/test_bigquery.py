"""BigQuery hangs, drips, bombs or refuses: what audit_sink answers, and when a query ends."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from tagstitch.adapters.bigquery_audit import BigQueryAuditTable
from tagstitch.adapters.bigquery_audit_queries import BigQueryAuditQueries
from tagstitch.adapters.bigquery_erasure import BigQueryErasure
from tagstitch.core.errors import Unavailable
from tagstitch.pipeline.deadline import Deadline
from tests.contract.stub_endpoint import StubEndpoint, close_at_once, drip, never, say
from tests.end_to_end.deployment import push_body
from tests.faults import bad_ports
from tests.faults.bad_ports import PORTS
from tests.faults.conftest import Start
from tests.faults.timing import within
from tests.stub_storage_write import StubStorageWrite, run_stub_storage_write

ROW: dict[str, Any] = {
    "record_id": "a",
    "record_type": "erasure",
    "occurred_at": datetime(2026, 11, 21, tzinfo=UTC),
    "recorded_at": datetime(2026, 11, 21, tzinfo=UTC),
    "outcome": "delivered",
}
RECORD = {
    "record_id": "a",
    "record_type": "event_decision",
    "occurred_at": "2026-11-21T20:00:00Z",
    "outcome": "unchanged",
}

CODES = [
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
]


@pytest.fixture
async def stub() -> AsyncIterator[StubStorageWrite]:
    async with run_stub_storage_write() as stub:
        yield stub


class TestAppending:
    """The Storage Write API."""

    @pytest.mark.parametrize("port", PORTS)
    async def test_a_port_behind_which_nothing_is_right_is_unavailable_in_time(
        self, port: str
    ) -> None:
        async with PORTS[port]() as number:
            table = BigQueryAuditTable("p", "d", storage_emulator=f"127.0.0.1:{number}")
            try:
                with within(0.3), pytest.raises(Unavailable):
                    await table.append([ROW], deadline=Deadline.after(0.3))
            finally:
                await table.close()

    @pytest.mark.parametrize("kind", ["error_codes", "abort_codes"])
    @pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
    async def test_an_error_is_refused_at_once_and_the_next_delivery_is_stored(
        self, stub: StubStorageWrite, start: Start, code: grpc.StatusCode, kind: str
    ) -> None:
        sink = await start("audit_sink", BIGQUERY_STORAGE_EMULATOR_HOST=stub.address)
        setattr(stub, kind, [code])

        with within(5):  # the first request of a process waits for its imports
            refused = await sink.post("/", json=push_body({"v": 1, "records": [RECORD]}, "m1"))
        stored_before = len(stub.stored)
        again = await sink.post("/", json=push_body({"v": 1, "records": [RECORD]}, "m1"))

        assert (refused.status_code, stored_before) == (503, 0)
        assert (again.status_code, len(stub.stored)) == (204, 1)

    async def test_silence_is_refused_long_before_pubsub_delivers_again(
        self, stub: StubStorageWrite, start: Start
    ) -> None:
        sink = await start("audit_sink", BIGQUERY_STORAGE_EMULATOR_HOST=stub.address)
        stub.is_silent = True

        with within(5, at_least=4):
            refused = await sink.post("/", json=push_body({"v": 1, "records": [RECORD]}, "m1"))

        assert refused.status_code == 503


REST_FAULTS: dict[str, Any] = {
    "never answers": never(),
    "drips its headers": drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000, every_s=0.05),
    "drips its body": drip(
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 999, every_s=0.05
    ),
    "closes": close_at_once(),
    "resets": close_at_once(reset=True),
    "speaks no HTTP": say("no status line"),
    "has too many requests": say("429 Slow", "Retry-After: 600", body=b"{}"),
    "has an error": say("500 Oops", body=b"{}"),
    "is overloaded": say("503 Busy", "Retry-After: 600", body=b"{}"),
    "redirects to itself": say("307 Moved", "Location: /bigquery/v2/projects/p/jobs"),
    "answers what is no JSON": say("200 OK", body=b"no JSON"),
    "breaks off": say("200 OK", body=b"{", body_bytes=1000, keep_length=True),
    "sends a compressed bomb": say(
        "200 OK", "Content-Encoding: gzip", body=gzip.compress(bytes(8_000_000))
    ),
}

REST_CALLS: dict[str, Callable[[str, Deadline], Awaitable[object]]] = {
    "a query": lambda url, deadline: BigQueryAuditQueries("p", "d", emulator=url).run(
        "SELECT 1", deadline=deadline
    ),
    "an erasure": lambda url, deadline: BigQueryErasure("p", "d", emulator=url).erase(
        ["k1:a"], deadline=deadline
    ),
}


class TestQueries:
    """The REST API."""

    @pytest.mark.parametrize("fault", REST_FAULTS)
    @pytest.mark.parametrize("call", REST_CALLS)
    async def test_it_is_unavailable_at_the_deadline_whatever_the_server_does(
        self, call: str, fault: str
    ) -> None:
        with (
            StubEndpoint(REST_FAULTS[fault]) as endpoint,
            within(0.5),
            pytest.raises(Unavailable),
        ):
            await REST_CALLS[call](endpoint.url, Deadline.after(0.5))

        followed = 30 if "redirects" in fault else 0  # as often as `requests` does at most
        assert len(endpoint.requests) <= 1 + followed, "nothing is tried again"

    @pytest.mark.parametrize("call", REST_CALLS)
    async def test_a_black_hole_is_unavailable_at_the_deadline(self, call: str) -> None:
        async with bad_ports.black_hole() as port:
            with within(0.5), pytest.raises(Unavailable):
                await REST_CALLS[call](f"http://127.0.0.1:{port}", Deadline.after(0.5))
            await asyncio.sleep(0)
