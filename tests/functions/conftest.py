"""The four main.py, loaded by the functions framework as in the cloud, on a local backend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from functions_framework.aio import create_asgi_app
from starlette.types import ASGIApp

from tests.end_to_end.running_stack import RunningStack, running_stack
from tests.end_to_end.samples import load_samples

ROOT = Path(__file__).resolve().parents[2]

Start = Callable[..., Awaitable[httpx.AsyncClient]]


@pytest.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Return a starter of functions; all of one test share a data folder."""
    for name in ("CI", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    async with AsyncExitStack() as stack:

        async def begin(function: str, **environment: str) -> httpx.AsyncClient:
            defaults = {"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(tmp_path)}
            for name, value in (defaults | environment).items():
                monkeypatch.setenv(name, value)
            source = str(ROOT / "functions" / function / "main.py")
            create: Callable[..., ASGIApp] = create_asgi_app
            transport = httpx.ASGITransport(create(function, source))
            return await stack.enter_async_context(
                httpx.AsyncClient(transport=transport, base_url="http://function")
            )

        yield begin


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """One stack with the samples for a whole file, for requests over HTTP."""
    folder = tmp_path_factory.mktemp("stack")
    with running_stack(folder, TAGSTITCH_RULES_REFRESH_S="0.2") as stack:
        load_samples(stack.data_dir, folder)
        yield stack
