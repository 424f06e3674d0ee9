"""The four functions, loaded as the platform loads them and called in this process."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tagstitch.adapters.http_request import error_response
from tagstitch.core.errors import InvalidInput

FUNCTIONS_DIR: Final = Path(__file__).resolve().parents[2] / "functions"

LoadFunctions = Callable[[], Mapping[str, ASGIApp]]


def load_functions(names: Iterable[str], *, directory: Path = FUNCTIONS_DIR) -> dict[str, ASGIApp]:
    """Return name -> application of each `<directory>/<name>/main.py`, whose target is the name."""
    from functions_framework import aio

    create: Callable[..., ASGIApp] = aio.create_asgi_app
    return {name: create(target=name, source=str(directory / name / "main.py")) for name in names}


class FunctionRouter:
    """Sends `/<function>/<path>` to the function as `/<path>`, the way it sees it in the cloud."""

    def __init__(self, load: LoadFunctions) -> None:
        self._load = load
        self._functions: Mapping[str, ASGIApp] = {}
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def load(self) -> None:
        """Load the functions, again after a reset: their caches hold what was deleted."""
        self._functions = self._load()

    @property
    def names(self) -> Iterable[str]:
        """The functions that are loaded."""
        return self._functions.keys()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request from outside."""
        name, slash, rest = scope["path"].lstrip("/").partition("/")
        function = self._functions.get(name)
        if function is None:
            response, _ = error_response(InvalidInput("not_found", "no function has this name"))
            await response(scope, receive, send)
            return
        # A mount would redirect `/decide` to `/decide/`, and show the function a longer path.
        path = slash + rest or "/"
        self._under_way += 1
        self._idle.clear()
        try:
            await function({**scope, "path": path, "raw_path": path.encode()}, receive, send)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def wait_idle(self) -> None:
        """Return once every request from outside has been answered."""
        await self._idle.wait()

    async def post(self, name: str, path: str, body: bytes) -> int:
        """Return the status of a POST from inside: a push or a schedule."""
        status = 500  # of a function that fails before it answers

        async def receive() -> Message:
            return {"type": "http.request", "body": body}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]

        # Called as it is: a client's transport would cost more than most of the functions do.
        await self._functions[name](_post_scope(name, path, body), receive, send)
        return status


def _post_scope(name: str, path: str, body: bytes) -> Scope:
    """Return the ASGI scope of a POST, as a server makes it.

    https://asgi.readthedocs.io/en/latest/specs/www.html#http-connection-scope
    """
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", name.encode()),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"function-execution-id", secrets.token_hex(6).encode()),  # the platform sends one
        ],
        "client": None,
        "server": (name, 80),
    }
