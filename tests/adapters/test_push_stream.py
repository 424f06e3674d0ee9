"""Server-sent events: what a browser's EventSource reads, and what it is told when it breaks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

from tagstitch.adapters.log import JsonFormatter
from tagstitch.adapters.push_stream import push_response
from tagstitch.core.errors import Unavailable
from tagstitch.pipeline.push_inbox import PushMessage
from tagstitch.pipeline.push_token import PushTokens
from tests.pipeline.world import KEYRING

NOW = datetime(2026, 11, 21, tzinfo=UTC)
TOKENS = PushTokens(KEYRING, lambda: NOW)


class Listener:
    """Gives looks into an inbox as a test wants them, and keeps what it was asked."""

    def __init__(self, *looks: Sequence[PushMessage] | Exception) -> None:
        self._looks = looks
        self.asked: list[Any] = []

    async def listen(
        self, profile_id: str, *, until: datetime, after: str | None
    ) -> AsyncIterator[Sequence[PushMessage]]:
        self.asked.append((profile_id, until, after))
        for look in self._looks:
            if isinstance(look, Exception):
                raise look
            yield look


def message(name: str, **payload: Any) -> PushMessage:
    return PushMessage(name, "offers", payload, NOW)


def request(query: str = "", **headers: str) -> Request:
    pairs = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    return Request(
        {
            "type": "http",
            "method": "GET",
            "path": "/",
            "query_string": query.encode(),
            "headers": pairs,
        }
    )


async def heard(listener: Listener, query: str = "", **headers: str) -> str:
    asked = request(f"token={TOKENS.make('p_X')}{query}", **headers)
    response = push_response(asked, TOKENS, listener)  # type: ignore[arg-type]
    assert isinstance(response, StreamingResponse)
    assert response.media_type == "text/event-stream"
    assert response.headers["cache-control"] == "no-store"
    chunks = [chunk async for chunk in response.body_iterator]
    return b"".join(chunk for chunk in chunks if isinstance(chunk, bytes)).decode()


async def test_each_message_is_one_event_with_its_id() -> None:
    text = await heard(Listener([message("m1", a="ü\nb"), message("m2")], [], [message("m3")]))

    assert text == (
        "retry: 2000\n\n"
        'id: m1\ndata: {"channel":"offers","payload":{"a":"ü\\nb"}}\n\n'
        'id: m2\ndata: {"channel":"offers","payload":{}}\n\n'
        'id: m3\ndata: {"channel":"offers","payload":{}}\n\n'
        "event: end\ndata: {}\n\n"
    )


async def test_a_silent_line_is_kept_open_by_comments() -> None:
    text = await heard(Listener(*[[]] * 31))

    assert text.count(":\n\n") == 2


async def test_a_broken_store_ends_the_line_so_that_the_browser_comes_again() -> None:
    text = await heard(Listener([message("m1")], Unavailable("firestore")))

    assert text.endswith('"payload":{}}\n\n'), "no end: the token still holds"


async def test_a_bug_ends_the_line_and_its_text_is_told_to_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("WARNING", logger="tagstitch"):
        text = await heard(Listener([message("m1")], KeyError("anna@example.com")))

    (record,) = caplog.records
    line = JsonFormatter().format(record)
    assert text.endswith('"payload":{}}\n\n')
    assert (record.message, record.levelname) == ("push_stream_crashed", "ERROR")
    assert json.loads(line)["exception"] == "KeyError"
    assert "anna" not in text + line


@pytest.mark.parametrize(
    ("query", "headers", "after"),
    [
        ("", {}, None),
        ("&after=m1", {}, "m1"),
        ("&after=m1", {"last_event_id": "m2"}, "m2"),
        ("&after=", {}, None),
        ("&after=%0Aid:%20x", {}, None),
    ],
)
async def test_the_last_message_that_was_seen_is_named_by_the_header_or_the_query(
    query: str, headers: dict[str, str], after: str | None
) -> None:
    listener = Listener()
    await heard(listener, query, **headers)

    assert listener.asked == [("p_X", NOW + timedelta(minutes=15), after)]
