"""Ports that carry the trace on, and ports that record a span for each call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from tagstitch.adapters.message_limits import message_size
from tagstitch.core.limits import MESSAGE_BYTES_MAX
from tagstitch.core.trace_context import TRACEPARENT
from tagstitch.pipeline.backend import (
    AuditTable,
    Backend,
    CallbackAnswer,
    CallbackSender,
    Document,
    DocumentStore,
    Publisher,
    RejectedRow,
    Write,
)
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.tracing import Span, SpanKind, Tracer, current_trace


def carrying_traces(backend: Backend) -> Backend:
    """Return the backend with a publisher whose messages say which trace they belong to."""
    return replace(backend, publisher=_CarryingPublisher(backend.publisher))


def recording_spans(backend: Backend, tracer: Tracer) -> Backend:
    """Return the backend with a span for each call of a store, a topic or an endpoint."""
    return replace(
        backend,
        documents=_RecordedDocuments(backend.documents, tracer),
        publisher=_RecordedPublisher(backend.publisher, tracer),
        audit_table=_RecordedAuditTable(backend.audit_table, tracer),
        callbacks=_RecordedCallbacks(backend.callbacks, tracer),
    )


class _CarryingPublisher:
    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def publish(
        self,
        topic: str,
        data: bytes,
        *,
        attributes: Mapping[str, str] | None = None,
        deadline: Deadline,
    ) -> str:
        trace = current_trace.get()
        if trace is not None:
            carried = {**(attributes or {}), TRACEPARENT: trace.traceparent()}
            if message_size(data, carried) <= MESSAGE_BYTES_MAX:  # a trace is no reason to refuse
                attributes = carried
        return await self._publisher.publish(topic, data, attributes=attributes, deadline=deadline)


class _Recorded:
    """Spans have fixed names and no value of a request: no path, no address, no body."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def _span(
        self, name: str, kind: SpanKind = "client", attributes: Mapping[str, str] | None = None
    ) -> Span:
        return self._tracer.span(name, kind, parent=current_trace.get(), attributes=attributes)


class _RecordedDocuments(_Recorded):
    def __init__(self, documents: DocumentStore, tracer: Tracer) -> None:
        super().__init__(tracer)
        self._documents = documents

    async def get(self, path: str, *, deadline: Deadline) -> Document | None:
        with self._span("read"):
            return await self._documents.get(path, deadline=deadline)

    async def get_many(self, paths: Sequence[str], *, deadline: Deadline) -> Mapping[str, Document]:
        with self._span("read") as span:
            span.note("tagstitch.documents", len(paths))
            return await self._documents.get_many(paths, deadline=deadline)

    async def commit(self, writes: Sequence[Write], *, deadline: Deadline) -> None:
        with self._span("commit") as span:
            span.note("tagstitch.documents", len(writes))
            await self._documents.commit(writes, deadline=deadline)

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
        with self._span("list"):
            return await self._documents.list_documents(
                collection,
                pending=pending,
                subject=subject,
                after=after,
                limit=limit,
                deadline=deadline,
            )


class _RecordedPublisher(_Recorded):
    def __init__(self, publisher: Publisher, tracer: Tracer) -> None:
        super().__init__(tracer)
        self._publisher = publisher

    async def publish(
        self,
        topic: str,
        data: bytes,
        *,
        attributes: Mapping[str, str] | None = None,
        deadline: Deadline,
    ) -> str:
        with self._span(
            f"publish {topic}", "producer", {"messaging.destination.name": topic}
        ) as span:
            span.note("messaging.message.body.size", len(data))
            return await self._publisher.publish(
                topic, data, attributes=attributes, deadline=deadline
            )


class _RecordedAuditTable(_Recorded):
    def __init__(self, audit_table: AuditTable, tracer: Tracer) -> None:
        super().__init__(tracer)
        self._audit_table = audit_table

    async def append(
        self, rows: Sequence[Mapping[str, Any]], *, deadline: Deadline
    ) -> Sequence[RejectedRow]:
        with self._span("append") as span:
            span.note("tagstitch.rows", len(rows))
            return await self._audit_table.append(rows, deadline=deadline)

    async def erase(self, subjects: Sequence[str], *, deadline: Deadline) -> int:
        with self._span("erase"):
            return await self._audit_table.erase(subjects, deadline=deadline)


class _RecordedCallbacks(_Recorded):
    def __init__(self, callbacks: CallbackSender, tracer: Tracer) -> None:
        super().__init__(tracer)
        self._callbacks = callbacks

    async def post(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        allow_private: bool,
        deadline: Deadline,
        method: Literal["POST", "PUT", "PATCH"] = "POST",
    ) -> CallbackAnswer:
        with self._span("callback", attributes={"http.request.method": method}) as span:
            trace = current_trace.get()
            if trace is not None and TRACEPARENT in headers:
                headers = {**headers, TRACEPARENT: trace.traceparent()}
            answer = await self._callbacks.post(
                url,
                headers=headers,
                body=body,
                allow_private=allow_private,
                deadline=deadline,
                method=method,
            )
            span.note("http.response.status_code", answer.status)
            return answer
