"""The audit table in BigQuery, written through the Storage Write API's default stream.

docs/decisions/0005-audit-write-path.md says why not `insert_rows_json`, with the figures.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import grpc
import grpc.aio
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import (
    BigQueryWriteGrpcAsyncIOTransport,
)
from google.cloud.bigquery_storage_v1.types import storage as storage_types

from tagstitch.adapters.audit_columns import find_fault, read_audit_columns
from tagstitch.adapters.bigquery_audit_rows import AuditRowEncoder
from tagstitch.adapters.grpc_channel import call_metadata, open_channel, timeout_s
from tagstitch.adapters.reconnecting_channel import ReconnectingChannel
from tagstitch.core.errors import Unavailable
from tagstitch.pipeline.backend import RejectedRow
from tagstitch.pipeline.deadline import Deadline

_WHAT: Final = "bigquery"
_Request: Final = storage_types.AppendRowsRequest.pb()
_Answer: Final = storage_types.AppendRowsResponse.pb()


class BigQueryAuditTable:
    """The table `audit` of one dataset.

    One stream stays open, since opening one for each append is what the API advises against
    (https://cloud.google.com/bigquery/docs/write-api-best-practices). At least once: an append
    whose answer was lost is stored again, and the view `audit_deduplicated` counts it once.
    """

    def __init__(
        self,
        project: str,
        dataset: str,
        *,
        storage_emulator: str | None = None,
        emulator: str | None = None,
    ) -> None:
        self._names = (project, dataset)
        self._query_emulator = emulator
        table = f"projects/{project}/datasets/{dataset}/tables/audit"
        self._stream_name = f"{table}/streams/_default"
        self._emulator = storage_emulator
        self._columns = read_audit_columns()
        self._encoder = AuditRowEncoder(self._columns)
        self._channel = ReconnectingChannel(self._open_channel, _append_stub)
        self._stream: _AppendStream | None = None

    async def append(
        self, rows: Sequence[Mapping[str, Any]], *, deadline: Deadline
    ) -> Sequence[RejectedRow]:
        """Append the rows; one that the table refuses is returned, the others are stored."""
        timeout = timeout_s(_WHAT, deadline)
        rejected = {
            index: RejectedRow(index, fault)
            for index, row in enumerate(rows)
            if (fault := find_fault(self._columns, row)) is not None
        }
        encoded = {
            index: self._encoder.encode(row)
            for index, row in enumerate(rows)
            if index not in rejected
        }
        try:
            with self._channel.calling() as stub:
                async with asyncio.timeout(timeout):
                    while encoded and (refused := await self._append(stub, encoded)):
                        for row in refused:
                            del encoded[row.index]
                            rejected[row.index] = row
        except TimeoutError:
            raise Unavailable(_WHAT, "the deadline is over") from None
        return [rejected[index] for index in sorted(rejected)]

    async def erase(self, subjects: Sequence[str], *, deadline: Deadline) -> int:
        """Make the rows of these pseudonyms nobody's; return how many there were."""
        # Rows are appended all day and erased rarely: most processes never load BigQuery's client.
        from tagstitch.adapters.bigquery_erasure import BigQueryErasure

        project, dataset = self._names
        erasure = BigQueryErasure(project, dataset, emulator=self._query_emulator)
        return await erasure.erase(subjects, deadline=deadline)

    async def close(self) -> None:
        """Close the stream and the channel; a later call opens new ones."""
        if self._stream is not None:
            self._drop(self._stream)
        await self._channel.close()

    async def _append(self, stub: Any, encoded: Mapping[int, bytes]) -> Sequence[RejectedRow]:
        """Append all rows or, when some are refused, none: return the refused ones."""
        answer = await self._send(stub, self._request(encoded.values()))
        if answer.row_errors:
            indexes = list(encoded)
            # The texts of row errors quote values: only their code leaves.
            return [
                RejectedRow(
                    indexes[error.index], storage_types.RowError.RowErrorCode(error.code).name
                )
                for error in answer.row_errors
            ]
        if answer.HasField("error"):
            raise Unavailable(_WHAT, _code_name(answer.error.code))
        return []

    async def _send(self, stub: Any, request: Any) -> Any:
        """Return the answer; an open stream that turns out to be dead is replaced once."""
        while True:
            stream = self._stream
            was_open = stream is not None and stream.is_open
            if stream is None or not was_open:
                stream = self._stream = self._open_stream(stub)
            try:
                return await stream.send(request)
            except _StreamEndedError as error:
                self._drop(stream)
                if not was_open:
                    raise Unavailable(_WHAT, str(error)) from None
            except asyncio.CancelledError:
                self._drop(stream)  # it may never answer again
                raise

    def _request(self, rows: Iterable[bytes]) -> Any:
        # Every request names the stream: bqemulator does not remember it from the first one.
        request = _Request(write_stream=self._stream_name)
        request.proto_rows.writer_schema.proto_descriptor.CopyFrom(self._encoder.descriptor)
        request.proto_rows.rows.serialized_rows.extend(rows)
        return request

    def _open_stream(self, stub: Any) -> _AppendStream:
        routing = "write_stream=" + quote(self._stream_name, safe="")
        try:
            return _AppendStream(stub, call_metadata(routing, emulator=self._emulator))
        except grpc.aio.UsageError:  # another call gave the silent channel up meanwhile
            raise Unavailable(_WHAT, "the channel is closed") from None

    def _open_channel(self) -> Any:
        return open_channel(
            BigQueryWriteGrpcAsyncIOTransport.DEFAULT_HOST,
            BigQueryWriteGrpcAsyncIOTransport.AUTH_SCOPES,
            emulator=self._emulator,
        )

    def _drop(self, stream: _AppendStream) -> None:
        stream.cancel()
        if self._stream is stream:
            self._stream = None


def _append_stub(channel: Any) -> Any:
    return channel.stream_stream(
        "/google.cloud.bigquery.storage.v1.BigQueryWrite/AppendRows",
        request_serializer=_Request.SerializeToString,
        response_deserializer=_Answer.FromString,
    )


class _StreamEndedError(Exception):
    """The stream ended before its answer; the text is a status code's name."""


class _AppendStream:
    """One open call: requests go out as they come, and answers come in the same order."""

    def __init__(self, stub: Any, metadata: Any) -> None:
        self._requests: asyncio.Queue[Any] = asyncio.Queue()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._call = stub(self._next_requests(), metadata=metadata)
        self._reading = asyncio.create_task(self._read())

    @property
    def is_open(self) -> bool:
        return not self._reading.done()

    def cancel(self) -> None:
        self._call.cancel()

    async def send(self, request: Any) -> Any:
        """Return the answer; raises _StreamEndedError when there will be none."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._requests.put_nowait(request)
        return await answer

    async def _next_requests(self) -> AsyncIterator[Any]:
        while True:
            yield await self._requests.get()

    async def _read(self) -> None:
        reason = "UNAVAILABLE"
        try:
            async for answer in self._call:
                waiting = self._waiting.popleft()
                if not waiting.done():  # done: its caller's deadline passed
                    waiting.set_result(answer)
        except grpc.aio.AioRpcError as error:
            reason = error.code().name
        finally:
            for waiting in self._waiting:
                if not waiting.done():
                    waiting.set_exception(_StreamEndedError(reason))


def _code_name(code: int) -> str:
    return next((status.name for status in grpc.StatusCode if status.value[0] == code), "UNKNOWN")
