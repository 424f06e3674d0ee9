"""A small stand-in for BigQuery's Storage Write API: answers that no emulator gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.cloud.bigquery_storage_v1.types import storage as storage_types

Request = storage_types.AppendRowsRequest.pb()
Answer = storage_types.AppendRowsResponse.pb()
METHOD = "google.cloud.bigquery.storage.v1.BigQueryWrite"


@dataclass
class StubStorageWrite:
    """What it does is set by its fields, also while it runs; what it got is kept."""

    refuse: Callable[[bytes], bool] = lambda _row: False
    """Which rows have a field error: they make it refuse the whole request, as BigQuery does."""
    error_codes: list[grpc.StatusCode] = field(default_factory=list)
    """Errors for the next requests, each inside an answer."""
    abort_codes: list[grpc.StatusCode] = field(default_factory=list)
    """Errors for the next requests, each ending the stream before the answer."""
    is_silent: bool = False
    latency_s: float = 0.0
    address: str = ""
    stored: list[bytes] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    streams: int = 0
    metadata: list[dict[str, str]] = field(default_factory=list)

    def answer(self, request: Any) -> Any:
        rows: Sequence[bytes] = request.proto_rows.rows.serialized_rows
        answer = Answer(write_stream=request.write_stream)
        if self.error_codes:
            answer.error.code = self.error_codes.pop(0).value[0]
            answer.error.message = "the stub says so"
            return answer
        for index, row in enumerate(rows):
            if self.refuse(row):
                answer.row_errors.add(index=index, code=1, message=f"bad value {row!r}")
        if answer.row_errors:
            answer.error.code = grpc.StatusCode.INVALID_ARGUMENT.value[0]
        else:
            self.stored.extend(rows)
            answer.append_result.SetInParent()
        return answer

    async def append_rows(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        self.streams += 1
        self.metadata.append(dict(context.invocation_metadata()))
        async for request in requests:
            self.requests.append(request)
            if self.abort_codes:
                await context.abort(self.abort_codes.pop(0), "the stub says so")
            if self.is_silent:
                await asyncio.sleep(3600)
            await asyncio.sleep(self.latency_s)
            yield self.answer(request)


@asynccontextmanager
async def run_stub_storage_write() -> AsyncIterator[StubStorageWrite]:
    stub = StubStorageWrite()
    handler = grpc.stream_stream_rpc_method_handler(
        stub.append_rows,
        request_deserializer=Request.FromString,
        response_serializer=Answer.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(METHOD, {"AppendRows": handler}),)
    )
    stub.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield stub
    finally:
        await server.stop(0)
