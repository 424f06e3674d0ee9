"""Functions in this process, against services that fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from functions_framework.aio import create_asgi_app
from starlette.types import ASGIApp

from tagstitch.adapters.backend_factory import close_backend
from tagstitch.adapters.settings import read_settings
from tests.emulators import REPOSITORY
from tests.faults.deployed import environment_of, load_definitions
from tests.faults.stub_google import StubGoogle, run_stub_google

Start = Callable[..., Awaitable[httpx.AsyncClient]]


@pytest.fixture
async def google() -> AsyncIterator[StubGoogle]:
    """Firestore with the samples, and Pub/Sub."""
    async with run_stub_google() as stub:
        yield stub


@pytest.fixture
async def start(
    google: StubGoogle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Start]:
    """Return a starter of functions, as the framework loads them, on the stub's services.

    `environment` changes their settings. Each function has read its definitions when it is given,
    unless `is_ready` is False.
    """
    environment = environment_of(google.address, google.address, tmp_path)
    await load_definitions(environment)
    create: Callable[..., ASGIApp] = create_asgi_app
    async with AsyncExitStack() as stack:

        async def begin(
            function: str, *, is_ready: bool = True, **changed: str
        ) -> httpx.AsyncClient:
            values = environment | changed
            for name, value in values.items():
                monkeypatch.setenv(name, value)
            source = str(REPOSITORY / "functions" / function / "main.py")
            transport = httpx.ASGITransport(create(function, source))
            stack.push_async_callback(close_backend, read_settings(values))
            client = httpx.AsyncClient(transport=transport, base_url="http://function", timeout=60)
            await stack.enter_async_context(client)
            if is_ready:
                await _make_ready(client, function)
            return client

        yield begin


async def _make_ready(client: httpx.AsyncClient, function: str) -> None:
    """Ask until nothing is missing: a busy machine imports slowly."""
    body = {
        "decide": {"event": {"event_name": "purchase", "client_id": "1294673677.1747154479"}},
        "stitch_sync": {"identifiers": {"client_id": "1294673677.1747154479"}},
    }.get(function)
    for _ in range(20 if body else 0):
        answer = await client.post("/", json={**(body or {}), "deadline_ms": 5000})
        if answer.json()["degraded"] == []:
            return
    assert body is None, "the function never became ready"
