"""Traces: a request's is continued in every function, in its log lines, messages and records."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tagstitch.adapters.backend_factory import open_backend
from tagstitch.adapters.log import JsonFormatter, configure_logging
from tagstitch.adapters.settings import read_settings
from tagstitch.adapters.traced_ports import carrying_traces
from tagstitch.core.limits import MESSAGE_BYTES_MAX
from tagstitch.core.trace_context import TraceContext, parse_traceparent
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.publish_audit import AuditPublisher
from tagstitch.pipeline.tracing import current_trace
from tests.functions.conftest import Start

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
OTHER = "0af7651916cd43dd8448eb211c80319c"
SPAN = "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01"
STITCH = {"identifiers": {"client_id": "7.8"}, "mode": "async", "request_id": "traced"}
EVENT = {"event_name": "purchase", "client_id": "7.8"}


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """What the functions write to their log."""
    written: list[dict[str, Any]] = []
    formatter = JsonFormatter()
    handler = logging.Handler()
    handler.emit = lambda record: written.append(json.loads(formatter.format(record)))  # type: ignore[method-assign]
    configure_logging()
    logging.getLogger("tagstitch").addHandler(handler)
    yield written
    logging.getLogger("tagstitch").removeHandler(handler)


def published(folder: Path) -> list[dict[str, Any]]:
    """Return the attributes of the messages that wait, oldest first, with the topic of each."""
    with closing(sqlite3.connect(folder / "tagstitch.sqlite")) as connection:
        rows = connection.execute("SELECT topic, attributes, data FROM messages ORDER BY id")
        return [{"topic": t, "data": d, **json.loads(a or b"{}")} for t, a, d in rows]


def push_of(data: bytes, attributes: dict[str, str]) -> dict[str, Any]:
    message = {"data": base64.b64encode(data).decode(), "messageId": "m1", "attributes": attributes}
    return {"message": message, "subscription": "projects/local/subscriptions/s"}


def trace_in(line: dict[str, Any]) -> str:
    """Return the trace of a line, as Cloud Logging wants it named."""
    project, _, trace_id = str(line["logging.googleapis.com/trace"]).partition("/traces/")
    assert project == "projects/local"
    assert len(line["logging.googleapis.com/spanId"]) == 16
    return trace_id


async def test_every_line_of_a_request_names_its_trace_and_a_span_of_our_own(
    start: Start, lines: list[dict[str, Any]]
) -> None:
    client = await start("stitch_sync")

    await client.post("/", json=STITCH, headers={"traceparent": SAMPLED})
    await client.get("/nowhere", headers={"traceparent": SAMPLED})

    assert [trace_in(line) for line in lines] == [TRACE, TRACE]
    assert {line["logging.googleapis.com/trace_sampled"] for line in lines} == {True}
    assert SPAN not in {line["logging.googleapis.com/spanId"] for line in lines}


@pytest.mark.parametrize(
    "sent",
    [
        [], ["anna@example.com"], [f"00-{TRACE}-{SPAN}"], [f"ff-{TRACE}-{SPAN}-01"],
        [SAMPLED, SAMPLED], ["x" * 100_000],
    ],
)  # fmt: skip
async def test_a_header_that_cannot_be_used_is_replaced_and_never_refused(
    start: Start, tmp_path: Path, lines: list[dict[str, Any]], sent: list[str]
) -> None:
    client = await start("stitch_sync")

    answer = await client.post("/", json=STITCH, headers=[("traceparent", text) for text in sent])

    assert answer.status_code == 202
    (message,) = published(tmp_path)
    carried = parse_traceparent(message["traceparent"])
    assert carried is not None
    assert carried.trace_id == trace_in(lines[-1]) != TRACE
    assert not carried.is_sampled


async def test_a_message_carries_the_trace_and_nothing_else_of_the_headers(
    start: Start, tmp_path: Path
) -> None:
    client = await start("stitch_sync")
    headers = {"traceparent": SAMPLED, "tracestate": "a=anna", "baggage": "mail=anna"}

    await client.post("/", json=STITCH, headers=headers)

    (message,) = published(tmp_path)
    carried = parse_traceparent(message.pop("traceparent"))
    assert carried is not None
    assert (carried.trace_id, carried.is_sampled) == (TRACE, True)
    assert message.keys() == {"topic", "data"}
    assert b"anna" not in message["data"]


@pytest.mark.parametrize("name", ["traceparent", "googclient_traceparent"])
async def test_a_message_is_worked_on_in_the_trace_of_its_publisher(
    start: Start, tmp_path: Path, lines: list[dict[str, Any]], name: str
) -> None:
    client = await start("stitch_async")
    request = {"request_id": "pushed", "identifiers": [{"type": "client_id", "value": "7.8"}]}
    body = push_of(json.dumps(request).encode(), {name: SAMPLED})

    answer = await client.post("/", json=body, headers={"traceparent": f"00-{OTHER}-{SPAN}-00"})

    assert answer.status_code == 204
    assert trace_in(lines[-1]) == TRACE
    (record,) = [m for m in published(tmp_path) if m["topic"] == "audit"]
    assert record["traceparent"].startswith(f"00-{TRACE}-")
    assert [row["trace_id"] for row in json.loads(record["data"])["records"]] == [TRACE]


async def test_a_message_that_names_no_trace_is_worked_on_in_that_of_its_push(
    start: Start, lines: list[dict[str, Any]]
) -> None:
    client = await start("audit_sink")
    body = push_of(b'{"v": 1, "records": []}', {"traceparent": "anna@example.com"})

    await client.post("/", json=body, headers={"traceparent": SAMPLED})

    assert trace_in(lines[-1]) == TRACE
    assert "anna" not in str(lines)


async def test_a_dead_letter_and_its_record_belong_to_the_trace_of_what_failed(
    start: Start, tmp_path: Path
) -> None:
    async_client, sink = await start("stitch_async"), await start("audit_sink")

    await async_client.post("/", json=push_of(b"no JSON", {"traceparent": SAMPLED}))
    (letter,) = published(tmp_path)
    await sink.post("/deadletters", json=push_of(letter["data"], {"traceparent": SAMPLED}))

    assert letter["traceparent"].startswith(f"00-{TRACE}-")
    with closing(sqlite3.connect(tmp_path / "tagstitch.sqlite")) as connection:
        assert list(connection.execute("SELECT trace_id FROM audit")) == [(TRACE,)]


async def test_requests_at_once_do_not_mix_their_traces(
    start: Start, tmp_path: Path, lines: list[dict[str, Any]]
) -> None:
    client = await start("decide")
    traces = {f"r{number}": f"{number + 1:032x}" for number in range(20)}

    async def ask(request_id: str, trace_id: str) -> httpx.Response:
        headers = {"traceparent": f"00-{trace_id}-{SPAN}-01"}
        body = {"event": EVENT, "request_id": request_id}
        return await client.post("/decide", json=body, headers=headers)

    await asyncio.gather(*(ask(*pair) for pair in traces.items()))

    logged = {x["request_id"]: trace_in(x) for x in lines if x["message"] == "request"}
    rows = [
        (message, record)
        for message in published(tmp_path)
        if message["topic"] == "audit"
        for record in json.loads(message["data"])["records"]
    ]
    assert logged == traces
    assert {record["request_id"]: record["trace_id"] for _, record in rows} == traces
    for message, record in rows:
        carried = parse_traceparent(message.get("traceparent"))
        assert carried is None or carried.trace_id == record["trace_id"]


async def test_records_of_several_traces_share_a_message_that_names_none(
    start: Start, tmp_path: Path
) -> None:
    await start("audit_sink")  # whose settings the backend below has
    audit = AuditPublisher(carrying_traces(open_backend(read_settings())).publisher)

    async def publish(trace_id: str) -> None:
        current_trace.set(TraceContext(trace_id, SPAN, is_sampled=True))
        await audit.publish([b"{}"], deadline=Deadline.after(10))

    await asyncio.gather(*(asyncio.create_task(publish(t)) for t in (TRACE, TRACE, OTHER)))

    first, second = published(tmp_path)
    assert first["traceparent"] == SAMPLED
    assert "traceparent" not in second


async def test_a_message_as_large_as_any_goes_without_a_trace(start: Start, tmp_path: Path) -> None:
    await start("audit_sink")
    publisher = carrying_traces(open_backend(read_settings())).publisher
    current_trace.set(TraceContext(TRACE, SPAN, is_sampled=True))

    for size in (MESSAGE_BYTES_MAX - 100, MESSAGE_BYTES_MAX):
        await publisher.publish("audit", b"x" * size, deadline=Deadline.after(30))

    assert ["traceparent" in message for message in published(tmp_path)] == [True, False]
