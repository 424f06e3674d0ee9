"""Reads along what audit_sink is given: every decision, link and delivery, for the live feed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tagstitch.adapters.pubsub_message import parse_push
from tagstitch.core.errors import InvalidInput
from tagstitch.local_stack.live_feed import LiveFeed, shown_name

AUDIT_SINK = "audit_sink"


def with_tap(functions: Mapping[str, ASGIApp], feed: LiveFeed) -> dict[str, ASGIApp]:
    """Return the functions with a tap before audit_sink."""
    return {
        name: _AuditTap(function, feed) if name == AUDIT_SINK else function
        for name, function in functions.items()
    }


class _AuditTap:
    def __init__(self, app: ASGIApp, feed: LiveFeed) -> None:
        self._app = app
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_push = scope["type"] == "http" and (scope["method"], scope["path"]) == ("POST", "/")
        if not (is_push and self._feed.is_heard):
            await self._app(scope, receive, send)
            return
        body, status = bytearray(), 500

        async def read() -> Message:
            message = await receive()
            body.extend(message.get("body", b""))
            return message

        async def answer(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        await self._app(scope, read, answer)
        if status < 400:
            for record in _records(bytes(body)):
                self._feed.add(_kind(record), _what(record), _details(record))


class _Record(msgspec.Struct):
    record_type: str = ""
    outcome: str = ""
    event_name: str | None = None
    resolved_event_name: str | None = None
    rule_ids: list[str] = []
    degraded: list[str] = []
    latency_ms: float | None = None
    extra: dict[str, Any] | None = None


def _records(body: bytes) -> Iterator[_Record]:
    try:
        data = parse_push(body, "", topic="audit", received_at=datetime.now(UTC)).data
        decoded = msgspec.json.decode(data)
        for raw in decoded.get("records", [decoded]):
            yield msgspec.convert(raw, _Record)
    except (InvalidInput, msgspec.MsgspecError, AttributeError):
        return  # audit_sink has said what it thinks of it


def _kind(record: _Record) -> str:
    if record.record_type == "event_decision":
        return "decision"
    return record.record_type.removesuffix("_decision").replace("_", " ")


def _what(record: _Record) -> str:
    if record.event_name is None:
        return record.outcome
    name = shown_name(record.event_name)
    resolved = record.resolved_event_name
    return name if resolved in (None, record.event_name) else f"{name} -> {shown_name(resolved)}"


def _details(record: _Record) -> str:
    reason = (record.extra or {}).get("reason")
    parts = [
        record.outcome if record.event_name is not None else "",
        reason if isinstance(reason, str) else "",
        "by " + ", ".join(record.rule_ids) if record.rule_ids else "",
        "degraded: " + ", ".join(record.degraded) if record.degraded else "",
        f"{record.latency_ms:.0f} ms" if record.latency_ms is not None else "",
    ]
    return ", ".join(part for part in parts if part)
