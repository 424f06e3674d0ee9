"""The live feed: who hears what, and that it holds names and no values."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tagstitch.local_stack.audit_tap import with_tap
from tagstitch.local_stack.container_log import tell
from tagstitch.local_stack.live_feed import FeedLine, LiveFeed, shown_name

MAIL = "anna@example.com"


async def heard(feed: LiveFeed, *lines: tuple[str, str, str]) -> list[tuple[str, str, str]]:
    """Return what a listener hears of lines that are added, up to the feed's end."""
    with feed.listening() as told:
        for line in lines:
            feed.add(*line)
        feed.close()
        return [(line.kind, line.name, line.detail) async for line in told]


async def test_whoever_listens_hears_what_happens_from_then_on() -> None:
    feed = LiveFeed()
    feed.add("hit", "before", "")

    assert await heard(feed, ("hit", "a", ""), ("sent", "b", "x")) == [
        ("hit", "a", ""),
        ("sent", "b", "x"),
    ]


async def test_a_listener_that_does_not_read_loses_lines_and_still_ends() -> None:
    lines = [("hit", str(n), "") for n in range(3_000)]

    told = await heard(LiveFeed(), *lines)

    assert 0 < len(told) < 3_000
    assert told == lines[: len(told)]


async def test_nobody_is_told_twice_and_whoever_left_is_forgotten() -> None:
    feed = LiveFeed()
    await heard(feed, ("hit", "a", ""))

    assert await heard(feed, ("hit", "b", "")) == [("hit", "b", "")]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("purchase", "purchase"),
        ("visitor.stitched", "visitor.stitched"),
        (MAIL, "(another name)"),
        ("\x1b[2J", "(another name)"),
        ("a" * 65, "(another name)"),
        ("achat payé", "(another name)"),
        ("", "(another name)"),
        (None, "(another name)"),
        (7, "(another name)"),
    ],
)
def test_only_usual_names_are_shown(name: object, shown: str) -> None:
    assert shown_name(name) == shown


EVENT: dict[str, Any] = {
    "event_name": "purchase", "client_id": "1.2", "user_id": MAIL,
    "user_data": {"email": MAIL}, "page_location": "https://shop.example.com/?email=" + MAIL,
}  # fmt: skip
DECIDED = {**EVENT, "x-tagstitch": {"guard": "d.1.2"}}
FORGED = {**EVENT, "x-tagstitch": "d.1.2"}

LOGGED: list[tuple[dict[str, Any], list[tuple[str, str, str]]]] = [
    ({"kind": "event", "client": "GA4", "event": EVENT}, [("hit", "purchase", "by GA4")]),
    ({"kind": "event", "client": "GA4", "event": FORGED}, [("hit", "purchase", "by GA4")]),
    ({"kind": "event", "client": "GA4", "event": DECIDED}, []),
    ({"kind": "event", "client": "GA4", "event": {}}, [("hit", "(another name)", "by GA4")]),
    ({"kind": "tag", "name": "A", "status": "success", "event": EVENT}, []),
    ({"kind": "tag", "name": "A", "status": "failure", "event": EVENT}, [("tag", "A", "failure")]),
    ({"kind": "ga4", "event_name": "purchase", "query": "uid=" + MAIL}, []),
    ({"kind": "console", "values": [MAIL]}, []),
    ({"kind": "unclaimed", "path": "/" + MAIL}, [("unclaimed", "no client took a request", "")]),
    ({"kind": "response", "status": 200, "cookies": []}, [("answer", "200", "no cookie")]),
    ({"kind": "response", "status": 200, "cookies": ["a", "b"]}, [("answer", "200", "sets a, b")]),
    ({"kind": "too_late", "what": "cookie"}, [("too late", "the answer had left: cookie", "")]),
    ({"kind": "error", "name": "A", "message": "no API"}, [("fault", "A", "no API")]),
]


@pytest.mark.parametrize(("entry", "lines"), LOGGED)
async def test_a_log_of_the_container_becomes_lines_without_values(
    entry: dict[str, Any], lines: list[tuple[str, str, str]]
) -> None:
    feed = LiveFeed()
    with feed.listening() as told:
        tell(feed, msgspec.json.encode(entry))
        feed.close()
        found = [(line.kind, line.name, line.detail) async for line in told]

    assert found == lines
    assert MAIL not in str(found)


@pytest.mark.parametrize("line", [b"", b"Error: no\n", b"[1]", b'"x"', b"\xff", b"{}"])
async def test_what_is_no_log_says_nothing(line: bytes) -> None:
    feed = LiveFeed()
    with feed.listening() as told:
        tell(feed, line)
        feed.close()

        assert [line async for line in told] == []


DECISION = {
    "record_id": "r", "record_type": "event_decision", "occurred_at": "2026-11-21T20:00:00Z",
    "outcome": "modified", "event_name": "purchase", "resolved_event_name": "micro_purchase",
    "rule_ids": ["one", "two"], "latency_ms": 3.4, "degraded": ["profile"], "subject": MAIL,
    "modifications": [{"old_value": MAIL}],
}  # fmt: skip
LINK = {"record_type": "identity_link", "outcome": "linked", "extra": {"reason": "LINKED", "x": 1}}


async def sink(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer as audit_sink does: 204, or 400 to what says so."""
    body = await Request(scope, receive).body()
    await Response(status_code=400 if b"refuse" in body else 204)(scope, receive, send)


async def post(app: ASGIApp, body: bytes, *, path: str = "/") -> int:
    status = 0

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)

    await app({"type": "http", "method": "POST", "path": path, "headers": []}, receive, send)
    return status


def pushed(data: Any, **others: Any) -> bytes:
    encoded = base64.b64encode(msgspec.json.encode(data)).decode()
    return msgspec.json.encode({"message": {"data": encoded, "messageId": "1"}, **others})


@pytest.mark.parametrize(
    ("body", "path", "lines"),
    [
        (
            pushed(DECISION), "/",
            [("decision", "purchase -> micro_purchase",
              "modified, by one, two, degraded: profile, 3 ms")],
        ),
        (pushed({"records": [LINK, LINK]}), "/", [("identity link", "linked", "LINKED")] * 2),
        (pushed(DECISION, subscription="refuse"), "/", []),
        (pushed(DECISION), "/deadletters", []),
        (pushed([1]), "/", []),
        (b"no push", "/", []),
    ],
)  # fmt: skip
async def test_what_audit_sink_takes_becomes_lines(
    body: bytes, path: str, lines: list[tuple[str, str, str]]
) -> None:
    feed = LiveFeed()
    functions = with_tap({"audit_sink": sink, "decide": sink}, feed)
    with feed.listening() as told:
        status = await post(functions["audit_sink"], body, path=path)
        await post(functions["decide"], body, path=path)
        feed.close()
        found = [(line.kind, line.name, line.detail) async for line in told]

    assert status == (400 if b"refuse" in body else 204)
    assert found == lines


async def test_a_line_waits_for_whoever_listens() -> None:
    feed = LiveFeed()
    with feed.listening() as told:
        waiting = asyncio.ensure_future(anext(told))
        await asyncio.sleep(0)
        feed.add("hit", "a", "")

        line: FeedLine = await waiting

    assert (line.kind, line.name) == ("hit", "a")
