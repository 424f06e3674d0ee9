"""Runs the local stack: in the foreground until a signal, or in a thread for a demo or a test."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import uvicorn
import uvloop
from starlette.applications import Starlette

from tagstitch.adapters.local_secrets import read_local_secrets
from tagstitch.adapters.log import configure_logging
from tagstitch.adapters.settings import exported_settings, read_settings
from tagstitch.core.callback import CallbackEndpoint
from tagstitch.core.errors import Unavailable
from tagstitch.local_stack.app import (
    OpenStackBackend,
    Surroundings,
    create_app,
    open_local_stack_backend,
)
from tagstitch.local_stack.functions import LoadFunctions
from tagstitch.local_stack.live_feed import LiveFeed
from tagstitch.local_stack.simulated_container import SimulatedContainer

HOST: Final = "127.0.0.1"
CALLBACK_PATH: Final = "/_local/sgtm/callback"

_STOP_S: Final = 5
"""Seconds that open requests have to end."""


class LocalStackError(Exception):
    """The local stack cannot run here; the message says why."""


@dataclass(frozen=True, slots=True)
class StackOptions:
    """How to run the stack."""

    data_dir: Path = Path(".tagstitch")
    port: int = 8080
    """0 takes a free one."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Variables that stand above the environment's; without `TAGSTITCH_BACKEND` it is local."""
    open_stack_backend: OpenStackBackend = open_local_stack_backend
    load: LoadFunctions | None = None
    """Gives the functions; None loads those of the checkout."""
    container: SimulatedContainer | None = None
    """Runs beside the stack; its `url` is there once the stack answers."""


def run_local_stack(options: StackOptions, announce: Callable[[str], None] = print) -> None:
    """Serve until SIGINT or SIGTERM, then return; `announce` gets the URL once it answers.

    Raises LocalStackError when the port or the data folder is taken, SettingsError when the
    environment cannot be used. To be called in the main thread, since it handles signals.
    """
    with _prepared(options) as stack:

        def leave(*_: object) -> None:
            stack.server.should_exit = True

        # uvicorn has handlers of its own while it serves, and raises the signal again at its end:
        # these take it then, and before it serves.
        previous = {
            number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            stack.serve(lambda: announce(stack.url))
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def local_stack_in_thread(options: StackOptions) -> Iterator[str]:
    """Serve in a thread for the length of a `with` block, and give the URL.

    Raises as `run_local_stack`. One at a time in a process: the settings are the process's.
    """
    with _prepared(options) as stack:
        ready = threading.Event()
        failures: list[Exception] = []

        def serve() -> None:
            try:
                stack.serve(ready.set)
            except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
                failures.append(error)
            finally:
                ready.set()

        thread = threading.Thread(target=serve, name="local-stack")
        thread.start()
        try:
            ready.wait()
            if not failures:
                yield stack.url
        finally:
            stack.server.should_exit = True
            thread.join()
        if failures:
            raise failures[0]


@dataclass(frozen=True, slots=True)
class _Prepared:
    app: Starlette
    server: _Server
    listener: socket.socket
    url: str

    def serve(self, started: Callable[[], None]) -> None:
        """Run an event loop of its own until the server ends."""
        self.server.started_callback = started
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                runner.run(self._serve())
            except Unavailable as error:
                raise LocalStackError(str(error)) from error

    async def _serve(self) -> None:
        # The lifespan is run here and not by uvicorn, which would turn its error into an exit.
        async with self.app.router.lifespan_context(self.app):
            await self.server.serve(sockets=[self.listener])


class _Server(uvicorn.Server):
    """A server that says when it answers."""

    started_callback: Callable[[], None]
    feed: LiveFeed

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.started_callback()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.feed.close()
        await super().shutdown(sockets)


@contextlib.contextmanager
def _prepared(options: StackOptions) -> Iterator[_Prepared]:
    """Take the port, set the environment and make the application."""
    try:
        listener = socket.create_server((HOST, options.port), backlog=2048)
    except OSError as error:
        raise LocalStackError(f"port {options.port} cannot be used: {error.strerror}") from error
    url = f"http://{HOST}:{listener.getsockname()[1]}"
    values = {"TAGSTITCH_DATA_DIR": str(options.data_dir), **options.settings}
    if "TAGSTITCH_BACKEND" not in values:
        values["TAGSTITCH_BACKEND"] = "local"
    callback_secret = read_local_secrets(options.data_dir)["LOCAL_CALLBACK_SECRET"]
    defaults = {"TAGSTITCH_CALLBACKS": _own_callback(url, callback_secret)}
    around = Surroundings(url, LiveFeed(), options.container, callback_secret)
    with listener, exported_settings(values, defaults=defaults):
        app = create_app(
            read_settings(),
            open_stack_backend=options.open_stack_backend,
            load=options.load,
            surroundings=around,
        )
        configure_logging("uvicorn", logging.WARNING)
        config = uvicorn.Config(
            app,
            http="httptools",
            lifespan="off",
            access_log=False,
            proxy_headers=False,
            log_config=None,
            timeout_graceful_shutdown=_STOP_S,
        )
        server = _Server(config)
        server.feed = around.feed
        yield _Prepared(app, server, listener, url)


def _own_callback(url: str, secret: str) -> str:
    """Return the setting that registers the stack's own stand-in for sGTM as `main`."""
    endpoint = CallbackEndpoint(
        id="main",
        url=url + CALLBACK_PATH,
        secret=secret,
        attributes=frozenset({"*"}),
        allow_private=True,
        acknowledges=True,
    )
    return msgspec.json.encode([endpoint]).decode()
