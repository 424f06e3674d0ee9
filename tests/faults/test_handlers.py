"""A handler that takes no notice of its deadline is ended before Pub/Sub delivers again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from tagstitch.adapters import http_function
from tagstitch.adapters.http_function import HttpFunction, Push
from tests.end_to_end.deployment import push_body
from tests.faults.timing import within


async def test_a_handler_that_hangs_is_ended_and_its_message_comes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "TAGSTITCH_BACKEND": "local",
        "TAGSTITCH_DATA_DIR": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(http_function, "PUSH_DEADLINE_S", 0.2)
    function = HttpFunction("audit_sink")
    was_ended = False

    @function.push("/", topic="audit")
    async def hang(_push: Push) -> None:
        nonlocal was_ended
        try:
            await asyncio.Event().wait()
        finally:
            was_ended = True

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await function(Request(scope, receive))
        await response(scope, receive, send)

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://function") as client:
        with within(6):  # five more than its deadline, and the imports of a first request
            answer = await client.post("/", json=push_body({"v": 1, "records": []}, "m1"))

    assert answer.status_code == 503
    assert was_ended
