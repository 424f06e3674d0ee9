"""Whose request id counts: the body's, a header's, a GET's query; and none that is malformed."""

from __future__ import annotations

import base64
import json
import logging
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from tagstitch.adapters.log import JsonFormatter, configure_logging
from tagstitch.adapters.wiring import import_parts
from tagstitch.core.fields import is_request_id
from tests.functions.conftest import Start

ASYNC = {"mode": "async", "identifiers": {"client_id": "1294673677.1747154479"}}


def published_ids(tmp_path: Path) -> list[str]:
    """Return the request ids of the stitch requests that were accepted."""
    database = sqlite3.connect(tmp_path / "tagstitch.sqlite")
    rows = database.execute(
        "SELECT data FROM messages WHERE topic = 'stitch-requests' ORDER BY id"
    ).fetchall()
    database.close()
    return [json.loads(data)["request_id"] for (data,) in rows]


@pytest.mark.parametrize("header", ["Idempotency-Key", "webhook-id"])
async def test_an_accepted_request_takes_its_id_from_a_header_when_the_body_has_none(
    start: Start, tmp_path: Path, header: str
) -> None:
    client = await start("stitch_sync")

    named = await client.post("/", json={**ASYNC, "request_id": "b1"}, headers={header: "h1"})
    nameless = await client.post("/", json=ASYNC, headers={header: "h1"})

    assert [named.json()["request_id"], nameless.json()["request_id"]] == ["b1", "h1"]
    assert published_ids(tmp_path) == ["b1", "h1"]


@pytest.mark.parametrize("value", ["msg.1", '"8e03978e-40d5"', "a b", "x" * 500])
async def test_a_header_of_other_characters_gives_the_same_usable_id_each_time(
    start: Start, tmp_path: Path, value: str
) -> None:
    client = await start("stitch_sync")

    answers = [await client.post("/", json=ASYNC, headers={"webhook-id": value}) for _ in range(2)]
    await client.post("/", json=ASYNC, headers={"webhook-id": value + "2"})

    assert [answer.status_code for answer in answers] == [202, 202]
    first, again, other = published_ids(tmp_path)
    assert is_request_id(first)
    assert first == again != other


async def test_a_signed_request_may_have_a_webhook_id_with_a_dot(
    start: Start, tmp_path: Path
) -> None:
    secret = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes, ok").decode()
    secrets = json.dumps([{"id": "s", "secret": secret, "scopes": ["lookup", "stitch", "decide"]}])
    environment = {"TAGSTITCH_AUTH": "signature", "TAGSTITCH_SIGNING_SECRETS": secrets}
    bodies: dict[str, Any] = {
        "stitch_sync": ASYNC,
        "decide": {"event": {"event_name": "purchase", "client_id": "5.6"}},
    }
    statuses = {}
    for function, body in bodies.items():
        client = await start(function, **environment)
        content = json.dumps(body)
        now = datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": "msg.1",
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret).sign("msg.1", now, content),
        }
        statuses[function] = (await client.post("/", content=content, headers=headers)).status_code

    assert statuses == {"stitch_sync": 202, "decide": 200}
    assert is_request_id(published_ids(tmp_path)[0])


async def test_the_query_of_a_post_names_no_request(start: Start, tmp_path: Path) -> None:
    client = await start("stitch_sync")

    for request_id in ("a.b%0d%0aX", "q1"):
        answer = await client.post(f"/?request_id={request_id}", json=ASYNC)
        assert answer.status_code == 202

    assert all(map(is_request_id, published_ids(tmp_path)))
    assert "q1" not in published_ids(tmp_path)


async def test_the_query_of_a_get_does(start: Start, tmp_path: Path) -> None:
    client = await start("stitch_sync")
    query = "/?mode=async&client_id=5.6&request_id="

    accepted = await client.get(query + "q1")
    refused = await client.get(query + "a.b")

    assert (accepted.status_code, refused.status_code) == (202, 400)
    assert published_ids(tmp_path) == ["q1"]


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """What the functions write to their log."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(JsonFormatter().format(record))  # type: ignore[method-assign]
    configure_logging()
    logging.getLogger("tagstitch").addHandler(handler)
    yield lines
    logging.getLogger("tagstitch").removeHandler(handler)


async def test_no_id_that_is_not_ours_to_read_gets_into_the_log(
    start: Start, log_lines: list[str]
) -> None:
    client = await start("decide")
    event = {"event_name": "purchase", "request_id": "0049170123456"}
    malformed = {"request_id": "jane.doe@example.com", "event": event}

    await client.post("/", json=malformed)
    for path in ("/make-event-decision", "/make-personalization-decision"):
        assert (await client.post(path, json=event)).status_code == 200

    assert len(log_lines) >= 3
    assert "jane.doe" not in "".join(log_lines)
    assert "0049170123456" not in "".join(log_lines)


async def test_a_function_that_could_not_open_once_opens_for_the_next_request(
    start: Start, monkeypatch: pytest.MonkeyPatch, log_lines: list[str]
) -> None:
    client = await start("stitch_sync")
    failures = [OSError("once")]

    def fail_once(*arguments: Any) -> None:
        if failures:
            raise failures.pop()
        import_parts(*arguments)

    monkeypatch.setattr("tagstitch.adapters.http_function.import_parts", fail_once)

    statuses = [(await client.post("/", json=ASYNC)).status_code for _ in range(2)]

    assert statuses == [500, 202]
    assert "opening_failed" in "".join(log_lines)
