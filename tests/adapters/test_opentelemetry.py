"""Spans through the real SDK: what is recorded of a request, what is not, and where it goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tagstitch.adapters import request_trace
from tagstitch.adapters.local import close_local_backend, open_local_backend
from tagstitch.adapters.opentelemetry_tracer import OpenTelemetryTracer
from tagstitch.adapters.settings import read_settings
from tagstitch.adapters.traced_ports import carrying_traces, recording_spans
from tagstitch.core.errors import InvalidInput, Unavailable
from tagstitch.core.trace_context import TraceContext, parse_traceparent
from tagstitch.pipeline.backend import Backend, Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.tracing import current_trace
from tests.functions.conftest import Start, start
from tests.functions.test_traces import published, push_of
from tests.stub_collector import otlp_endpoint

__all__ = ["start"]

ROOT = Path(__file__).resolve().parents[2]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01"
MAIL = "anna.canary@example.com"
EVENT = {"event_name": "purchase", "client_id": "7.8", "mail": MAIL}


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Receives the spans of every function that is started."""
    received = InMemorySpanExporter()
    tracer = OpenTelemetryTracer("decide", SimpleSpanProcessor(received))
    monkeypatch.setattr("tagstitch.adapters.http_function.open_recording_tracer", lambda *_: tracer)
    return received


@pytest.fixture
def traced(exporter: InMemorySpanExporter, tmp_path: Path) -> Iterator[Backend]:
    """A local backend whose calls are recorded."""
    settings = read_settings(
        {"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(tmp_path / "data")}
    )
    plain = open_local_backend(settings)
    tracer = OpenTelemetryTracer("test", SimpleSpanProcessor(exporter))
    yield recording_spans(carrying_traces(plain), tracer)
    close_local_backend(plain)


def tree(spans: tuple[ReadableSpan, ...]) -> dict[str, str | None]:
    """Return span -> its parent, by name."""
    names = {span.context.span_id: span.name for span in spans if span.context}
    return {
        span.name: names.get(span.parent.span_id, f"{span.parent.span_id:016x}")
        if span.parent
        else None
        for span in spans
    }


async def test_a_request_is_one_span_with_what_it_waited_for_in_the_callers_trace(
    start: Start, exporter: InMemorySpanExporter, tmp_path: Path
) -> None:
    client = await start("decide")
    await client.post("/decide", json={"event": EVENT})  # opens, and loads the rules
    exporter.clear()

    await client.post("/decide", json={"event": EVENT}, headers={"traceparent": SAMPLED})

    spans = exporter.get_finished_spans()
    assert tree(spans) == {
        "read": "POST /decide", "publish audit": "POST /decide", "POST /decide": SPAN,
    }  # fmt: skip
    assert {f"{span.context.trace_id:032x}" for span in spans if span.context} == {TRACE}
    kinds = {span.name: span.kind for span in spans}
    assert kinds["POST /decide"] is SpanKind.SERVER
    assert kinds["publish audit"] is SpanKind.PRODUCER
    carried = parse_traceparent(published(tmp_path)[-1]["traceparent"])
    (publish,) = [span for span in spans if span.name == "publish audit"]
    assert carried is not None
    assert publish.context is not None
    assert carried.span_id == f"{publish.context.span_id:016x}"
    assert dict(spans[-1].attributes or {}) == {"http.response.status_code": 200}


async def test_a_message_is_a_span_in_its_publishers_trace(
    start: Start, exporter: InMemorySpanExporter
) -> None:
    client = await start("stitch_async")
    body = push_of(
        json.dumps({"request_id": "p", "identifiers": [{"type": "client_id", "value": "7.8"}]})
        .encode(),
        {"traceparent": SAMPLED},
    )  # fmt: skip

    answer = await client.post("/", json=body)

    assert answer.status_code == 204
    found = tree(exporter.get_finished_spans())
    assert found.pop("process stitch-requests") == SPAN
    assert found == dict.fromkeys(("read", "commit", "publish audit"), "process stitch-requests")


async def test_a_caller_that_does_not_record_is_not_recorded(
    start: Start, exporter: InMemorySpanExporter
) -> None:
    client = await start("decide")
    await client.post("/decide", json={"event": EVENT})
    exporter.clear()

    answer = await client.post(
        "/decide", json={"event": EVENT}, headers={"traceparent": SAMPLED[:-2] + "00"}
    )

    assert answer.status_code == 200
    assert exporter.get_finished_spans() == ()


async def test_a_span_of_a_failure_has_its_class_and_not_its_text(
    traced: Backend, exporter: InMemorySpanExporter
) -> None:
    soon = Deadline.after(10)
    with pytest.raises(InvalidInput):
        await traced.documents.commit(
            [Put(f"profiles/{MAIL}", {"mail": MAIL + "x" * 2_000_000})], deadline=soon
        )
    with pytest.raises(Unavailable):
        await traced.publisher.publish(MAIL.partition("@")[0], b"{}", deadline=Deadline.after(-1))

    commit, _ = exporter.get_finished_spans()
    assert commit.status.status_code is StatusCode.ERROR
    assert dict(commit.attributes or {}) == {"tagstitch.documents": 1, "error.type": "InvalidInput"}
    assert commit.events == ()
    assert commit.status.description is None
    assert MAIL not in commit.to_json()


async def test_a_callback_names_the_span_of_its_own_call(
    traced: Backend, exporter: InMemorySpanExporter
) -> None:
    with otlp_endpoint() as (url, received):
        current_trace.set(TraceContext(TRACE, SPAN, is_sampled=True))
        answer = await traced.callbacks.post(
            f"{url}/v1/x?mail={MAIL}",
            headers={"traceparent": SAMPLED},
            body=b"{}",
            allow_private=True,
            deadline=Deadline.after(10),
        )

    (span,) = exporter.get_finished_spans()
    assert answer.status == 200
    assert span.context is not None
    assert received[0][0]["traceparent"] == f"00-{TRACE}-{span.context.span_id:016x}-01"
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST", "http.response.status_code": 200,
    }  # fmt: skip


ASK = f"""
import asyncio, json, sys
import httpx
from functions_framework.aio import create_asgi_app

async def ask():
    app = create_asgi_app("decide", "functions/decide/main.py")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://f") as client:
        for _ in range(2):
            answer = await client.post(
                "/decide", json={{"event": {EVENT!r}}}, headers={{"traceparent": {SAMPLED!r}}}
            )
            assert answer.status_code == 200

asyncio.run(ask())
print(json.dumps(["modules", *(m for m in sys.modules if m.startswith("opentelemetry"))]))
"""


def ask_decide(folder: Path, **settings: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Ask decide twice in a process of its own; return its log and OpenTelemetry's modules."""
    kept = ("PATH", "HOME")
    environment = {name: os.environ[name] for name in kept if name in os.environ} | {
        "PYTHONPATH": str(ROOT), "TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(folder),
        "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=ROOT, env=environment | settings, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    (modules,) = [line for line in lines if isinstance(line, list)]
    return [line for line in lines if isinstance(line, dict)], modules[1:]


def test_spans_leave_by_otlp_to_the_endpoint_that_is_set(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra otel")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    with otlp_endpoint() as (url, received):
        lines, _ = ask_decide(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=url)

    assert {headers[":path"] for headers, _ in received} == {"/v1/traces"}
    sent = [ExportTraceServiceRequest.FromString(body) for _, body in received]
    services = [
        attribute.value.string_value
        for request in sent
        for resource in request.resource_spans
        for attribute in resource.resource.attributes
        if attribute.key == "service.name"
    ]
    spans = {
        span.name: span.trace_id.hex()
        for request in sent
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }
    assert set(services) == {"decide"}
    assert spans["POST /decide"] == spans["publish audit"] == TRACE
    assert MAIL.encode() not in b"".join(body for _, body in received)
    assert {line["message"] for line in lines} == {"request"}


def test_a_collector_that_is_gone_costs_no_request_and_is_told_in_the_log(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra otel")
    with otlp_endpoint() as (url, _):
        pass

    lines, _ = ask_decide(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_TIMEOUT="1")

    assert [line["status"] for line in lines if line["message"] == "request"] == [200, 200]
    assert {line["severity"] for line in lines if line["message"] != "request"} <= {
        "WARNING", "ERROR",
    }  # fmt: skip


def test_without_an_endpoint_nothing_of_opentelemetry_is_imported(tmp_path: Path) -> None:
    lines, modules = ask_decide(tmp_path)

    assert len(lines) == 2
    assert modules == []


def test_an_endpoint_without_the_extra_is_told_once_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.delitem(sys.modules, "tagstitch.adapters.opentelemetry_tracer", raising=False)
    settings = read_settings(
        {
            "TAGSTITCH_BACKEND": "local",
            "TAGSTITCH_DATA_DIR": str(tmp_path),
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
        }
    )

    with caplog.at_level("WARNING", logger="tagstitch"):
        tracer = request_trace.open_recording_tracer("decide", settings)

    assert tracer is None
    assert [record.message for record in caplog.records] == ["spans_not_recorded"]
