"""The candidate write paths of the audit table, on bqemulator and on stubs with row errors.

    .venv/bin/python -m bench.audit_write_path

docs/decisions/0005-audit-write-path.md decides with these figures.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import msgspec
import uvloop
from google.api_core.future import polling
from google.api_core.retry import Retry
from google.cloud import bigquery_storage_v1
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import (
    BigQueryWriteGrpcTransport,
)
from google.cloud.bigquery_storage_v1.writer import AppendRowsStream

from bench.measure_calls import HEADER, measure
from tagstitch.adapters.audit_columns import find_fault, read_audit_columns
from tagstitch.adapters.bigquery_audit import BigQueryAuditTable
from tagstitch.adapters.bigquery_audit_queries import NO_RETRY, open_client
from tagstitch.core.audit import AuditRecord
from tagstitch.local_stack.bigquery_setup import create_audit_dataset
from tagstitch.local_stack.emulators import run_emulators
from tagstitch.pipeline.backend import RejectedRow
from tagstitch.pipeline.deadline import Deadline
from tests.stub_storage_write import run_stub_storage_write

PROJECT, DATASET = "bench", "tagstitch"
COLUMNS = read_audit_columns()
numbers = itertools.count()


class StreamPerAppend(BigQueryAuditTable):
    """The Storage Write API with a new stream for each append."""

    async def append(
        self, rows: Sequence[Mapping[str, Any]], *, deadline: Deadline
    ) -> Sequence[RejectedRow]:
        if self._stream is not None:
            self._drop(self._stream)
        return await super().append(rows, deadline=deadline)


class InsertAllTable:
    """`insert_rows_json` in a thread, its returned errors read, bad rows skipped."""

    def __init__(self, url: str) -> None:
        self._client = open_client(PROJECT, emulator=url)

    async def append(
        self, rows: Sequence[Mapping[str, Any]], *, deadline: Deadline
    ) -> Sequence[RejectedRow]:
        return await asyncio.to_thread(self._append, rows, deadline)

    def _append(
        self, rows: Sequence[Mapping[str, Any]], deadline: Deadline
    ) -> Sequence[RejectedRow]:
        good = [row for row in rows if find_fault(COLUMNS, row) is None]
        errors = self._client.insert_rows_json(
            f"{PROJECT}.{DATASET}.audit",
            [{column.name: json_value(row[column.name]) for column in COLUMNS} for row in good],
            row_ids=[row["record_id"] for row in good],
            skip_invalid_rows=True,
            retry=NO_RETRY,
            timeout=deadline.remaining_s,
        )
        return [RejectedRow(e["index"], e["errors"][0]["reason"]) for e in errors]


class LibraryStream:
    """The library's own AppendRowsStream in a thread, with or without the polling override."""

    def __init__(self, address: str, poll: Retry | None) -> None:
        channel = grpc.insecure_channel(address)
        make_client: Callable[..., Any] = bigquery_storage_v1.BigQueryWriteClient
        client = make_client(transport=BigQueryWriteGrpcTransport(channel=channel))
        self._table = BigQueryAuditTable(PROJECT, DATASET)
        # The library adds the first request to the template, field descriptors and all.
        template = bigquery_storage_v1.types.AppendRowsRequest(
            write_stream=self._table._stream_name
        )
        self._stream = AppendRowsStream(client, template)
        self._wait = {} if poll is None else {"polling": poll}

    async def append(self, rows: Sequence[Mapping[str, Any]], *, deadline: Deadline) -> object:
        encoded = [self._table._encoder.encode(row) for row in rows]
        request = bigquery_storage_v1.types.AppendRowsRequest.wrap(self._table._request(encoded))
        return await asyncio.to_thread(self._send, request, deadline)

    def _send(self, request: Any, deadline: Deadline) -> object:
        future: Any = self._stream.send(request)
        return future.result(timeout=deadline.remaining_s, **self._wait)


def json_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict) or (value and isinstance(value[0], dict)):
        return msgspec.json.encode(value).decode()
    return value


def make_rows(count: int, *, bad: int = 0) -> list[dict[str, Any]]:
    noon = datetime(2026, 11, 21, 12, tzinfo=UTC)
    records = [
        AuditRecord(
            record_id=f"{'bad' if n < bad else 'good'}-{next(numbers)}",
            record_type="event_decision",
            occurred_at=noon,
            outcome="modified",
            subject="k1:abcdefghijklmnopqrstuvwxyz",
            event_name="purchase",
            rule_ids=["a", "b"],
            rules_version="sha256:0123456789abcdef",
            modifications=[{"rule_id": "a", "type": "modify_parameter", "parameter": "value",
                            "old_value": 7.5, "new_value": 3.75}],
            receipt=bytes(400),
        )
        for n in range(count)
    ]  # fmt: skip
    return [{**record.to_row(), "recorded_at": noon, "latency_ms": None} for record in records]


async def append_rows(table: Any, size: int) -> None:
    await table.append(make_rows(size), deadline=Deadline.after(30))


async def on_emulator(storage: str, rest: str) -> None:
    print("\nbqemulator\n\n" + HEADER)
    stream = BigQueryAuditTable(PROJECT, DATASET, storage_emulator=storage)
    poll = Retry(
        predicate=polling.RETRY_PREDICATE, initial=0.003, maximum=0.02, multiplier=1.3, timeout=10
    )
    library = LibraryStream(storage, None)
    tables: list[tuple[str, Any, int]] = [
        ("Storage Write, one stream", stream, 200),
        ("Storage Write, a stream per append",
         StreamPerAppend(PROJECT, DATASET, storage_emulator=storage), 200),
        ("AppendRowsStream, default polling", library, 10),
        ("AppendRowsStream, polling override", LibraryStream(storage, poll), 200),
        ("insert_rows_json", InsertAllTable(rest), 200),
    ]  # fmt: skip
    for size, at_once in ((1, 1), (1, 16), (100, 1)):
        for label, table, count in tables:
            if at_once > 1 and (table is library or isinstance(table, StreamPerAppend)):
                continue  # the one is as slow, and the other drops its neighbours' streams
            await measure(
                f"{label}, {size} rows",
                partial(append_rows, table, size),
                count=count if size == 1 else max(count // 4, 5),
                at_once=at_once,
            )
    await stream.close()


class InsertAllStub(BaseHTTPRequestHandler):
    """Answers insertAll as BigQuery does with skipInvalidRows."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for an acknowledgement
    requests = 0

    def do_POST(self) -> None:
        InsertAllStub.requests += 1
        body = msgspec.json.decode(self.rfile.read(int(self.headers["Content-Length"])))
        errors = [
            {"index": index, "errors": [{"reason": "invalid"}]}
            for index, row in enumerate(body["rows"])
            if row["json"]["record_id"].startswith("bad")
        ]
        answer = msgspec.json.encode({"insertErrors": errors} if errors else {})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


async def on_stubs() -> None:
    print("\nstubs, 100 rows\n\n" + HEADER)
    with ThreadingHTTPServer(("127.0.0.1", 0), InsertAllStub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        insert_all = InsertAllTable(f"http://127.0.0.1:{server.server_address[1]}")
        async with run_stub_storage_write() as stub:
            stub.refuse = lambda row: b"bad-" in row
            stream = BigQueryAuditTable(PROJECT, DATASET, storage_emulator=stub.address)
            for bad in (0, 3):
                for label, table in (("Storage Write", stream), ("insert_rows_json", insert_all)):

                    async def call(table: Any = table, bad: int = bad) -> None:
                        rejected = await table.append(
                            make_rows(100, bad=bad), deadline=Deadline.after(30)
                        )
                        assert len(rejected) == bad

                    stub.requests.clear()
                    InsertAllStub.requests = 0
                    await measure(f"{label}, {bad} bad", call, count=100, at_once=1)
                    requests = len(stub.requests) + InsertAllStub.requests
                    print(f"{requests / 110:.0f} requests an append")
            await stream.close()
        server.shutdown()


def main() -> None:
    with run_emulators(Path.cwd(), project=PROJECT) as emulators:
        create_audit_dataset(DATASET, emulator=emulators.bigquery, project=PROJECT)
        uvloop.run(on_emulator(emulators.bigquery_storage, emulators.bigquery))
    uvloop.run(on_stubs())


if __name__ == "__main__":
    main()
