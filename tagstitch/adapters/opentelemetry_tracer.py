"""Spans through OpenTelemetry's SDK to a collector: the extra `otel`, imported only where it is on.

The SDK reads its own variables (https://opentelemetry.io/docs/specs/otel/configuration/
sdk-environment-variables/): OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER and the others.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextvars import Token
from functools import cache
from typing import Final, Self

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from tagstitch import __version__
from tagstitch.adapters.log import configure_logging
from tagstitch.core.trace_context import TraceContext
from tagstitch.pipeline.tracing import SpanKind, current_trace

_KINDS: Final[Mapping[SpanKind, trace.SpanKind]] = {
    "server": trace.SpanKind.SERVER,
    "consumer": trace.SpanKind.CONSUMER,
    "producer": trace.SpanKind.PRODUCER,
    "client": trace.SpanKind.CLIENT,
}

_STATUS: Final = "http.response.status_code"


@cache
def open_exporting_tracer(service: str) -> OpenTelemetryTracer:
    """Return the process's tracer of a service; its spans leave in a thread of the SDK's own."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    configure_logging("opentelemetry", logging.WARNING)
    return OpenTelemetryTracer(service, BatchSpanProcessor(OTLPSpanExporter()))


class OpenTelemetryTracer:
    """Begins spans that a processor receives at their end."""

    def __init__(self, service: str, processor: SpanProcessor) -> None:
        resource = Resource.create({"service.name": service, "service.version": __version__})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("tagstitch", __version__)

    def span(
        self,
        name: str,
        kind: SpanKind,
        *,
        parent: TraceContext | None,
        attributes: Mapping[str, str] | None = None,
    ) -> RecordedSpan:
        """Return a span that has not begun; without a parent it begins a trace."""
        return RecordedSpan(self._tracer, name, kind, parent, dict(attributes or {}))


class RecordedSpan:
    """One span; of an exception it tells the class alone, since its text may quote what was sent."""

    __slots__ = ("_attributes", "_kind", "_name", "_parent", "_span", "_token", "_tracer")

    _span: trace.Span
    _token: Token[TraceContext | None]

    def __init__(
        self,
        tracer: trace.Tracer,
        name: str,
        kind: SpanKind,
        parent: TraceContext | None,
        attributes: dict[str, str],
    ) -> None:
        self._tracer = tracer
        self._name = name
        self._kind = kind
        self._parent = parent
        self._attributes = attributes

    def __enter__(self) -> Self:
        self._span = self._tracer.start_span(
            self._name,
            context=trace.set_span_in_context(_remote(self._parent)),
            kind=_KINDS[self._kind],
            attributes=self._attributes,
        )
        place = self._span.get_span_context()
        self._token = current_trace.set(
            TraceContext(
                trace.format_trace_id(place.trace_id),
                trace.format_span_id(place.span_id),
                place.trace_flags.sampled,
            )
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._span.set_attribute("error.type", kind.__name__)
            self._span.set_status(trace.StatusCode.ERROR)
        current_trace.reset(self._token)
        self._span.end()

    def note(self, name: str, value: str | float) -> None:
        """Add an attribute; a status of 500 and above makes the span an error."""
        self._span.set_attribute(name, value)
        if name == _STATUS and isinstance(value, int) and value >= 500:
            self._span.set_status(trace.StatusCode.ERROR)


def _remote(parent: TraceContext | None) -> trace.Span:
    if parent is None:
        return trace.INVALID_SPAN
    return trace.NonRecordingSpan(
        trace.SpanContext(
            trace_id=int(parent.trace_id, 16),
            span_id=int(parent.span_id, 16),
            is_remote=True,
            trace_flags=trace.TraceFlags(parent.is_sampled),
        )
    )
