"""Documents in Firestore: unary stubs on the asynchronous client's channel, no retries.

The client library's own `get` is a server-streaming read with its own wrapping: it costs about
three times the CPU of the unary read (bench/cloud_calls.py), and its retries outlive their
time-out by minutes when the service is down.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import quote

import grpc
import grpc.aio
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcAsyncIOTransport
from google.cloud.firestore_v1.types import firestore as firestore_types
from google.cloud.firestore_v1.types import query as query_types

from tagstitch.adapters.document_fields import check_fields
from tagstitch.adapters.firestore_values import (
    DocumentMessage,
    field_path,
    read_fields,
    version_of,
    write_fields,
    write_version,
)
from tagstitch.adapters.grpc_channel import (
    CALL_S_MAX,
    call_metadata,
    open_channel,
    raise_failure,
    timeout_s,
)
from tagstitch.adapters.reconnecting_channel import ReconnectingChannel
from tagstitch.core.errors import Conflict, InvalidInput
from tagstitch.pipeline.backend import Delete, Document, Patch, Write
from tagstitch.pipeline.deadline import Deadline

_WHAT: Final = "firestore"
_SERVICE: Final = "/google.firestore.v1.Firestore/"

_GetDocument: Final = firestore_types.GetDocumentRequest.pb()
_BatchGet: Final = firestore_types.BatchGetDocumentsRequest.pb()
_BatchGetAnswer: Final = firestore_types.BatchGetDocumentsResponse.pb()
_Commit: Final = firestore_types.CommitRequest.pb()
_CommitAnswer: Final = firestore_types.CommitResponse.pb()
_RunQuery: Final = firestore_types.RunQueryRequest.pb()
_RunQueryAnswer: Final = firestore_types.RunQueryResponse.pb()
# As Firestore's own client: a call on a connection that has silently gone learns it. (Not for
# BigQuery: its client does not ask for it, and an open append stream would ping all day.)
_OPTIONS: Final = (("grpc.keepalive_time_ms", 30_000),)
_LISTING_S_MAX: Final = 30.0
"""Seconds for one page of a listing: hundreds of large documents, on anybody's line."""

_FieldFilter: Final = query_types.StructuredQuery.FieldFilter.pb()
_ASCENDING: Final = 1
_EQUAL: Final = 5
_AT_LEAST: Final = 4

_PLAIN_ROUTING: Final = re.compile(r"[A-Za-z0-9_.~/():=-]*")

_CONFLICTS: Final = frozenset(
    {
        grpc.StatusCode.FAILED_PRECONDITION,  # another version, or no document to patch
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ABORTED,  # too much contention on one document
    }
)


def _quoted(routing: str) -> str:
    """Return the routing header's value; `quote` itself costs more than all of our own decoding."""
    if _PLAIN_ROUTING.fullmatch(routing):  # five times as fast as `translate`
        quoted = routing.replace("/", "%2F").replace(":", "%3A")
        return quoted.replace("(", "%28").replace(")", "%29")
    return quote(routing, safe="=")


class FirestoreDocuments:
    """The documents of one Firestore database.

    The channel is opened by the first call, in the event loop that runs then: one that is opened
    before the server forks hangs every request.
    """

    def __init__(
        self, project: str, *, emulator: str | None = None, database: str = "(default)"
    ) -> None:
        self._database = f"projects/{project}/databases/{database}"
        self._root = f"{self._database}/documents"
        self._routing_root = _quoted(f"name={self._root}/")
        self._emulator = emulator
        self._channel = ReconnectingChannel(self._open_channel, _Stubs)

    async def get(self, path: str, *, deadline: Deadline) -> Document | None:
        """Return the document, or None."""
        name = f"{self._root}/{path}"
        timeout = timeout_s(_WHAT, deadline)
        try:
            with self._channel.calling() as rpc:
                message = await rpc.get(
                    _GetDocument(name=name),
                    timeout=timeout,
                    metadata=call_metadata(
                        self._routing_root + _quoted(path), emulator=self._emulator
                    ),
                )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND and name in (error.details() or ""):
                return None
            raise_failure(_WHAT, error.code())
        return self._document(message)

    async def get_many(self, paths: Sequence[str], *, deadline: Deadline) -> Mapping[str, Document]:
        """Return the documents that exist, by path."""
        if not paths:
            timeout_s(_WHAT, deadline)
            return {}
        names = [f"{self._root}/{path}" for path in dict.fromkeys(paths)]
        answers = await self._read(
            lambda rpc: rpc.batch_get,
            _BatchGet(database=self._database, documents=names),
            deadline=deadline,
            routing=f"database={self._database}",
        )
        found = [self._document(answer.found) for answer in answers if _is_found(answer)]
        return {document.path: document for document in found}

    async def commit(self, writes: Sequence[Write], *, deadline: Deadline) -> None:
        """Apply all writes or none."""
        timeout = timeout_s(_WHAT, deadline)
        if not writes:
            return
        request = _Commit(database=self._database)
        for write in writes:
            self._add_write(write, request.writes.add())
        try:
            with self._channel.calling() as rpc:
                await rpc.commit(
                    request, timeout=timeout, metadata=self._metadata(f"database={self._database}")
                )
        except grpc.aio.AioRpcError as error:
            if error.code() in _CONFLICTS:
                raise Conflict(error.code().name) from None
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise InvalidInput(
                    "invalid_field", "the document store refused it: too large or too deep"
                ) from None
            raise_failure(_WHAT, error.code())

    async def list_documents(
        self,
        collection: str,
        *,
        pending: int | Literal["any"] | None = None,
        subject: str | None = None,
        after: str | None = None,
        limit: int = 100,
        deadline: Deadline,
    ) -> Sequence[Document]:
        """Return documents of a collection in order of their path, the ones behind `after`."""
        answers = await self._read(
            lambda rpc: rpc.run_query,
            self._listing(collection, _condition(pending, subject), after=after, limit=limit),
            deadline=deadline,
            routing=f"parent={self._root}",
            at_most_s=_LISTING_S_MAX,
        )
        return [self._document(a.document) for a in answers if a.HasField("document")]

    async def close(self) -> None:
        """Close the channel; a later call opens a new one."""
        await self._channel.close()

    def _open_channel(self) -> Any:
        return open_channel(
            FirestoreGrpcAsyncIOTransport.DEFAULT_HOST,
            FirestoreGrpcAsyncIOTransport.AUTH_SCOPES,
            emulator=self._emulator,
            options=_OPTIONS,
        )

    async def _read(
        self,
        method: Callable[[_Stubs], Any],
        request: Any,
        *,
        deadline: Deadline,
        routing: str,
        at_most_s: float = CALL_S_MAX,
    ) -> list[Any]:
        """Return all answers of a server-streaming read."""
        timeout = timeout_s(_WHAT, deadline, at_most_s=at_most_s)
        try:
            with self._channel.calling() as rpc:
                call = method(rpc)(request, timeout=timeout, metadata=self._metadata(routing))
                return [answer async for answer in call]
        except grpc.aio.AioRpcError as error:
            raise_failure(_WHAT, error.code())

    def _metadata(self, routing: str) -> tuple[tuple[str, str], ...]:
        return call_metadata(_quoted(routing), emulator=self._emulator)

    def _document(self, message: Any) -> Document:
        return Document(
            path=message.name[len(self._root) + 1 :],
            fields=read_fields(message.fields),
            version=version_of(message.update_time),
        )

    def _add_write(self, write: Write, target: Any) -> None:
        name = f"{self._root}/{write.path}"
        if isinstance(write, Delete):
            target.delete = name
            return
        check_fields(write.fields)
        target.update.name = name
        write_fields(write.fields, target.update.fields)
        if isinstance(write, Patch):
            paths = map(field_path, (*write.fields, *write.remove))
            target.update_mask.field_paths.extend(paths)
        if write.if_version:
            write_version(write.if_version, target.current_document.update_time)
        elif isinstance(write, Patch):
            target.current_document.exists = True
        elif write.if_version == "":
            target.current_document.exists = False

    def _listing(
        self,
        collection: str,
        where: Any | None,
        *,
        after: str | None,
        limit: int,
    ) -> Any:
        request = _RunQuery(parent=self._root)
        query = request.structured_query
        query.limit.value = limit
        query.from_.add().collection_id = collection
        if where is not None:
            query.where.field_filter.CopyFrom(where)
        ordered = [where.field.field_path] if where is not None and where.op != _EQUAL else []
        for field in (*ordered, "__name__"):
            order = query.order_by.add()
            order.field.field_path, order.direction = field, _ASCENDING
        if after is not None:
            query.start_at.values.add().reference_value = f"{self._root}/{after}"
            query.start_at.before = False
        return request


class _Stubs:
    """The four calls on one channel."""

    def __init__(self, channel: Any) -> None:
        self.get = channel.unary_unary(
            _SERVICE + "GetDocument",
            request_serializer=_GetDocument.SerializeToString,
            response_deserializer=DocumentMessage.FromString,
        )
        self.batch_get = channel.unary_stream(
            _SERVICE + "BatchGetDocuments",
            request_serializer=_BatchGet.SerializeToString,
            response_deserializer=_BatchGetAnswer.FromString,
        )
        self.commit = channel.unary_unary(
            _SERVICE + "Commit",
            request_serializer=_Commit.SerializeToString,
            response_deserializer=_CommitAnswer.FromString,
        )
        self.run_query = channel.unary_stream(
            _SERVICE + "RunQuery",
            request_serializer=_RunQuery.SerializeToString,
            response_deserializer=_RunQueryAnswer.FromString,
        )


def _condition(pending: int | Literal["any"] | None, subject: str | None) -> Any | None:
    """Return the filter of one of the named queries, None for a whole collection."""
    if pending is None and subject is None:
        return None
    if pending == "any":
        some = _FieldFilter(op=_AT_LEAST)
        some.field.field_path, some.value.integer_value = "pending", 0
        return some
    equal = _FieldFilter(op=_EQUAL)
    if pending is not None:
        equal.field.field_path, equal.value.integer_value = "pending", pending
    else:
        equal.field.field_path, equal.value.string_value = "subject", subject
    return equal


def _is_found(answer: Any) -> bool:
    return bool(answer.WhichOneof("result") == "found")
