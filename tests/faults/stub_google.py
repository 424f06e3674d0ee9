"""Firestore and Pub/Sub on 127.0.0.1, in the memory of one event loop, failing method by method.

The emulators answer well or not at all. Here one call can fail beside others that work: reads are
answered and commits are not, or records are stored and stitch requests refused.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.cloud.firestore_v1.types import firestore as firestore_types
from google.protobuf.timestamp_pb2 import Timestamp
from google.pubsub_v1.types import pubsub as pubsub_types

from tagstitch.adapters.firestore_values import DocumentMessage, read_fields, write_fields

_FIRESTORE = "google.firestore.v1.Firestore"
_PUBLISHER = "google.pubsub.v1.Publisher"

_GetDocument = firestore_types.GetDocumentRequest.pb()
_BatchGet = firestore_types.BatchGetDocumentsRequest.pb()
_BatchGetAnswer = firestore_types.BatchGetDocumentsResponse.pb()
_Commit = firestore_types.CommitRequest.pb()
_CommitAnswer = firestore_types.CommitResponse.pb()
_RunQuery = firestore_types.RunQueryRequest.pb()
_RunQueryAnswer = firestore_types.RunQueryResponse.pb()
_Publish = pubsub_types.PublishRequest.pb()
_PublishAnswer = pubsub_types.PublishResponse.pb()

READS = ("GetDocument", "BatchGetDocuments", "RunQuery")
FIRESTORE = (*READS, "Commit")

Fault = Callable[[Any], Awaitable[None]]
"""What happens to a call before it would be answered; gets the call's context."""


async def silent(_context: Any) -> None:
    """Never answer."""
    await asyncio.Event().wait()


def slow(seconds: float) -> Fault:
    """Answer so many seconds late."""

    async def wait(_context: Any) -> None:
        await asyncio.sleep(seconds)

    return wait


def refusing(code: grpc.StatusCode) -> Fault:
    """Answer with this status; its text quotes a value, which must not get out."""

    async def refuse(context: Any) -> None:
        await context.abort(code, "a value of somebody's document")

    return refuse


@dataclass
class StubGoogle:
    """The documents, the messages, and which methods fail how; all may change while it runs."""

    address: str = ""
    faults: dict[str, Fault] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    documents: dict[str, Any] = field(default_factory=dict)
    """Firestore's own messages by the name of the document."""
    asked: Counter[str] = field(default_factory=Counter)
    """How often each document was asked for, by its path."""
    messages: list[tuple[str, bytes]] = field(default_factory=list)
    """Topic and content."""
    _ticks: Iterator[int] = field(default_factory=itertools.count)

    def fail(self, fault: Fault, *methods: str) -> None:
        self.faults = dict.fromkeys(methods, fault)

    def heal(self) -> None:
        self.faults = {}

    def put(self, name: str, fields: Mapping[str, Any]) -> None:
        message = DocumentMessage(name=name)
        write_fields(fields, message.fields)
        self._store(message)

    def fields(self, path: str) -> dict[str, Any] | None:
        """The fields of the one document whose name ends so."""
        found = [d for name, d in self.documents.items() if name.endswith(f"/documents/{path}")]
        return read_fields(found[0].fields) if found else None

    def _ask(self, name: str) -> None:
        self.asked[name.partition("/documents/")[2]] += 1

    async def _meet(self, method: str, context: Any) -> None:
        self.calls[method] += 1
        fault = self.faults.get(method)
        if fault is not None:
            await fault(context)

    async def get_document(self, request: Any, context: Any) -> Any:
        self._ask(request.name)
        await self._meet("GetDocument", context)
        if request.name not in self.documents:
            await context.abort(grpc.StatusCode.NOT_FOUND, f'"{request.name}" not found')
        return self.documents[request.name]

    async def batch_get(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for name in request.documents:
            self._ask(name)
        await self._meet("BatchGetDocuments", context)
        for name in request.documents:
            if name in self.documents:
                yield _BatchGetAnswer(found=self.documents[name])
            else:
                yield _BatchGetAnswer(missing=name)

    async def run_query(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self._meet("RunQuery", context)
        query = request.structured_query
        folder = f"{request.parent}/{query.from_[0].collection_id}/"
        after = query.start_at.values[0].reference_value if query.start_at.values else ""
        names = sorted(n for n in self.documents if n.startswith(folder) and n > after)
        for name in names[: query.limit.value]:
            yield _RunQueryAnswer(document=self.documents[name])

    async def commit(self, request: Any, context: Any) -> Any:
        await self._meet("Commit", context)
        for write in request.writes:
            if not self._may(write):
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "another version")
        for write in request.writes:
            if write.delete:
                self.documents.pop(write.delete, None)
            else:
                self._store(self._merged(write))
        return _CommitAnswer()

    async def publish(self, request: Any, context: Any) -> Any:
        topic = request.topic.rpartition("/")[2]
        await self._meet("Publish", context)
        await self._meet(f"Publish {topic}", context)
        self.messages += [(topic, message.data) for message in request.messages]
        return _PublishAnswer(message_ids=[str(next(self._ticks))])

    def _may(self, write: Any) -> bool:
        present = self.documents.get(write.delete or write.update.name)
        kind = write.current_document.WhichOneof("condition_type")
        if kind == "exists":
            return bool((present is not None) == write.current_document.exists)
        if kind == "update_time":
            wanted = write.current_document.update_time
            return present is not None and present.update_time == wanted
        return True

    def _merged(self, write: Any) -> Any:
        """The document after the write; the update mask of a patch names whole fields."""
        message = DocumentMessage(name=write.update.name)
        if not write.HasField("update_mask"):
            message.CopyFrom(write.update)
            return message
        message.CopyFrom(self.documents[write.update.name])
        for path in write.update_mask.field_paths:
            name = path.strip("`")
            message.fields.pop(name, None)
            if name in write.update.fields:
                message.fields[name].CopyFrom(write.update.fields[name])
        return message

    def _store(self, message: Any) -> None:
        message.update_time.CopyFrom(Timestamp(seconds=1_800_000_000 + next(self._ticks)))
        self.documents[message.name] = message


@asynccontextmanager
async def run_stub_google() -> AsyncIterator[StubGoogle]:
    """Serve both services on one port."""
    stub = StubGoogle()
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    firestore = {
        "GetDocument": unary(
            stub.get_document, _GetDocument.FromString, DocumentMessage.SerializeToString
        ),
        "BatchGetDocuments": stream(
            stub.batch_get, _BatchGet.FromString, _BatchGetAnswer.SerializeToString
        ),
        "RunQuery": stream(stub.run_query, _RunQuery.FromString, _RunQueryAnswer.SerializeToString),
        "Commit": unary(stub.commit, _Commit.FromString, _CommitAnswer.SerializeToString),
    }
    publisher = {
        "Publish": unary(stub.publish, _Publish.FromString, _PublishAnswer.SerializeToString)
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(_FIRESTORE, firestore),
            grpc.method_handlers_generic_handler(_PUBLISHER, publisher),
        )
    )
    stub.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield stub
    finally:
        stub.heal()
        await server.stop(0)
