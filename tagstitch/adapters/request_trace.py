"""The trace that a request or a message belongs to, and how a log line names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers

from tagstitch.adapters.settings import Settings
from tagstitch.core.trace_context import (
    CLIENT_LIBRARY_TRACEPARENT,
    TRACEPARENT,
    TraceContext,
    parse_traceparent,
)
from tagstitch.pipeline.log_events import SpansNotRecorded, log
from tagstitch.pipeline.tracing import Tracer, current_trace


def trace_of_request(headers: Headers) -> TraceContext | None:
    """Return what the header says; of two headers neither counts, as the standard has it."""
    sent = headers.getlist(TRACEPARENT)
    return parse_traceparent(sent[0]) if len(sent) == 1 else None


def trace_of_message(attributes: Mapping[str, str]) -> TraceContext | None:
    """Return the trace of whoever published the message."""
    return parse_traceparent(attributes.get(TRACEPARENT)) or parse_traceparent(
        attributes.get(CLIENT_LIBRARY_TRACEPARENT)
    )


def trace_fields(project: str) -> dict[str, Any]:
    """Return the fields by which Cloud Logging shows a line beside its trace.

    https://cloud.google.com/logging/docs/structured-logging#special-payload-fields
    """
    trace = current_trace.get()
    if trace is None:
        return {}
    return {
        "logging.googleapis.com/trace": f"projects/{project}/traces/{trace.trace_id}",
        "logging.googleapis.com/spanId": trace.span_id,
        "logging.googleapis.com/trace_sampled": trace.is_sampled,
    }


def open_recording_tracer(function: str, settings: Settings) -> Tracer | None:
    """Return a tracer that exports spans, where an endpoint and the extra `otel` are there."""
    if settings.otlp_endpoint is None:
        return None
    try:
        from tagstitch.adapters.opentelemetry_tracer import open_exporting_tracer

        return open_exporting_tracer(settings.deployed_as or function)
    except ModuleNotFoundError:
        log(SpansNotRecorded())
        return None
