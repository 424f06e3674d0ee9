"""The local stack: the four functions, their queue and schedules, and a stand-in for sGTM."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from tagstitch import __version__
from tagstitch.adapters.backend_factory import close_backend, open_backend
from tagstitch.adapters.http_request import error_response
from tagstitch.adapters.in_process_pubsub import InProcessPubSub
from tagstitch.adapters.push_stream import push_response
from tagstitch.adapters.settings import Settings
from tagstitch.adapters.sqlite_database import SqliteDatabase
from tagstitch.adapters.sqlite_documents import SqliteDocuments
from tagstitch.adapters.topology import Schedule, Topology, read_topology
from tagstitch.adapters.wiring import Wiring
from tagstitch.core.errors import InvalidInput, Unavailable
from tagstitch.local_stack.audit_tap import with_tap
from tagstitch.local_stack.functions import FunctionRouter, LoadFunctions, load_functions
from tagstitch.local_stack.inspection import Inspection, LocalInspection, list_dead_letters
from tagstitch.local_stack.live_feed import LiveFeed
from tagstitch.local_stack.loopback_only import LoopbackOnly
from tagstitch.local_stack.received_callbacks import ReceivedCallbacks
from tagstitch.local_stack.simulated_container import SimulatedContainer
from tagstitch.local_stack.stand_ins import GA4_PATH, StandIns
from tagstitch.pipeline.backend import Backend
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.log_events import ExpiryFailed, ScheduleFailed, log

SHOP_DIR: Final = Path(__file__).resolve().parents[2] / "examples" / "browser"
SHOP_PATH: Final = "/_local/shop"
LISTEN_PATH: Final = "/_local/listen"

_ENDPOINT_DEADLINE_S: Final = 30.0
_SCHEDULE_EVERY_S_MIN: Final = 0.05
_EXPIRY_EVERY_S: Final = 3600.0
_EXPIRY_DEADLINE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What runs around the functions: who may be told of it, and at which URL it all is."""

    url: str = "http://127.0.0.1"
    feed: LiveFeed = field(default_factory=LiveFeed)
    container: SimulatedContainer | None = None
    callback_secret: str = ""
    """Signs what goes to the container."""


@dataclass(frozen=True, slots=True)
class StackBackend:
    """A backend, with what the stack needs of it besides the ports."""

    backend: Backend
    inspection: Inspection
    dispatcher: InProcessPubSub | None
    """None where Pub/Sub pushes by itself, to `/<function>/<path>` of this server."""


OpenStackBackend = Callable[[Settings], Awaitable[StackBackend]]


async def open_local_stack_backend(settings: Settings) -> StackBackend:
    """Return the local backend; the functions get the same one from `open_backend`."""
    backend = open_backend(settings)
    dispatcher = backend.publisher if isinstance(backend.publisher, InProcessPubSub) else None
    return StackBackend(backend, LocalInspection(backend), dispatcher)


def create_app(
    settings: Settings,
    *,
    open_stack_backend: OpenStackBackend = open_local_stack_backend,
    load: LoadFunctions | None = None,
    topology: Topology | None = None,
    surroundings: Surroundings | None = None,
) -> Starlette:
    """Return the application; everything is opened in its lifespan, inside the event loop.

    `load` gives the functions, by default those of the checkout: they read the same settings from
    the environment, which must hold them before.
    """
    topology, around = topology or read_topology(), surroundings or Surroundings()
    names = tuple(topology.functions)
    chosen = load or (lambda: load_functions(names))
    router = FunctionRouter(lambda: with_tap(chosen(), around.feed))
    stack = _Stack(settings, open_stack_backend, router, around)
    stand_ins = stack.stand_ins
    app = Starlette(
        routes=[
            *_both("/", stack.answer_index, ["GET"]),
            *_both("/health", stack.answer_health, ["GET"]),
            Route("/_local/sgtm", stand_ins.receive_callback, methods=["POST"]),
            Route("/_local/sgtm/{path:path}", stand_ins.receive_callback, methods=["POST"]),
            Route(f"{GA4_PATH}/{{path:path}}", stand_ins.receive_hit, methods=["GET", "POST"]),
            *_both(LISTEN_PATH, stand_ins.listen, ["GET"]),
            *_both("/_local/callbacks", stack.list_callbacks, ["GET"]),
            *_both("/_local/audit", stack.list_audit, ["GET"]),
            *_both("/_local/deadletters", stack.list_dead_letters, ["GET"]),
            *_both("/_local/push", stack.push, ["GET"]),
            *_both("/_local/reset", stack.reset, ["POST"]),
            *_shop(),
            Mount("/", app=stack.router),
        ],
        lifespan=lambda _: stack.running(topology),
        middleware=[Middleware(LoopbackOnly)],
    )
    app.router.redirect_slashes = False
    return app


class _Stack:
    """The running parts, and the stack's own endpoints."""

    def __init__(
        self,
        settings: Settings,
        open_stack_backend: OpenStackBackend,
        router: FunctionRouter,
        around: Surroundings,
    ) -> None:
        self._settings = settings
        self._open = open_stack_backend
        self._around = around
        self.router = router
        self.stand_ins = StandIns(settings, around.feed, around.container)
        self._parts: StackBackend
        self._callbacks: ReceivedCallbacks

    @contextlib.asynccontextmanager
    async def running(self, topology: Topology) -> AsyncIterator[None]:
        """Open everything, run the dispatcher and the schedules, and stop in the other order."""
        self._parts = await self._open(self._settings)
        received = SqliteDatabase(self._settings.data_dir)
        self._callbacks = self.stand_ins.callbacks = ReceivedCallbacks(received)
        self._wiring = Wiring(self._settings)
        self.router.load()
        schedules = [
            asyncio.create_task(self._run_schedule(name, schedule, topology))
            for name, schedule in topology.schedules.items()
        ]
        if isinstance(documents := self._parts.backend.documents, SqliteDocuments):
            schedules.append(asyncio.create_task(self._delete_expired(documents)))
        try:
            async with self._delivering(), self._container_running():
                yield
        finally:
            for task in schedules:
                task.cancel()
            await asyncio.gather(*schedules, return_exceptions=True)
            received.close()
            await close_backend(self._settings)

    @contextlib.asynccontextmanager
    async def _delivering(self) -> AsyncIterator[None]:
        dispatcher = self._parts.dispatcher
        if dispatcher is None:
            yield
            return
        task = asyncio.create_task(dispatcher.run(self.router.post))
        await asyncio.sleep(0)  # its first step: taking the data folder for itself
        if task.done():
            await task
        try:
            yield
        finally:
            dispatcher.stop()
            await task

    @contextlib.asynccontextmanager
    async def _container_running(self) -> AsyncIterator[None]:
        around = self._around
        if around.container is None:
            yield
            return
        async with around.container.running(
            stack_url=around.url,
            ga4_url=around.url + GA4_PATH,
            callback_secret=around.callback_secret,
            data_dir=self._settings.data_dir,
            feed=around.feed,
        ):
            yield

    async def _run_schedule(self, name: str, schedule: Schedule, topology: Topology) -> None:
        every_s = max(schedule.every_s * self._settings.retry_scale, _SCHEDULE_EVERY_S_MIN)
        timeout_s = topology.functions[schedule.function].timeout_s
        while True:
            await asyncio.sleep(every_s)
            try:
                async with asyncio.timeout(timeout_s):
                    status = await self.router.post(schedule.function, schedule.path, b"{}")
                failed = status >= 400
            except Exception:  # noqa: BLE001 - the next run comes whatever happened to this one
                failed = True
            if failed:
                log(ScheduleFailed(schedule=name))

    async def _delete_expired(self, documents: SqliteDocuments) -> None:
        """Do what Firestore does by the policies of the deployment."""
        while True:
            try:
                while await documents.delete_expired(
                    now=self._parts.backend.clock(), deadline=Deadline.after(_EXPIRY_DEADLINE_S)
                ):
                    pass
            except Unavailable:  # somebody else has the file: next time
                log(ExpiryFailed())
            await asyncio.sleep(_EXPIRY_EVERY_S)

    async def answer_index(self, request: Request) -> Response:
        """Say what is here."""
        base = str(request.base_url)
        functions = {name: f"{base}{name}" for name in sorted(self.router.names)}
        local = (
            "callbacks", "audit", "deadletters", "push", "listen", "shop/", "reset",
            "sgtm/callback", "ga4/g/collect",
        )  # fmt: skip
        return _json(
            {
                "version": __version__,
                "health": f"{base}health",
                "functions": functions,
                "for_tests": [f"{base}_local/{name}" for name in local],
            }
        )

    async def answer_health(self, request: Request) -> Response:
        """Say that the process serves."""
        del request
        return _json({"status": "ok", "function": "local_stack", "version": __version__})

    async def list_callbacks(self, request: Request) -> Response:
        """Answer what the stand-in received."""
        return await _answer_items(request, self._callbacks.list_items)

    async def list_audit(self, request: Request) -> Response:
        """Answer the rows of the audit table."""
        return await _answer_items(request, self._parts.inspection.list_audit)

    async def list_dead_letters(self, request: Request) -> Response:
        """Answer the stored dead letters."""

        async def list_items(**options: Any) -> Any:
            return await list_dead_letters(self._parts.backend.documents, **options)

        return await _answer_items(request, list_items)

    async def push(self, request: Request) -> Response:
        """Stand in for the push service: the messages of one visitor, as they come."""
        return push_response(request, self._wiring.push_tokens, self._wiring.push_listener)

    async def reset(self, request: Request) -> Response:
        """Clear everything but the rules, or those too with `{"keep": []}`."""
        try:
            wanted = msgspec.json.decode(await request.body() or b"{}", type=_Reset)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _error(InvalidInput("invalid_field", 'the body is {} or {"keep": ["rules"]}'))
        try:
            await self._parts.inspection.clear(
                keep_definitions="rules" in wanted.keep, wait_idle=self.router.wait_idle
            )
            await self._callbacks.clear(deadline=_soon())
        except Unavailable as error:  # work in flight did not end in time
            return _error(error)
        self.router.load()
        return Response(status_code=204)


class _Reset(msgspec.Struct, forbid_unknown_fields=True):
    keep: tuple[str, ...] = ("rules",)


def _both(
    path: str, endpoint: Callable[[Request], Awaitable[Response]], methods: list[str]
) -> list[Route]:
    """Return the routes with and without a trailing slash."""
    paths = {path, path.rstrip("/") + "/"}
    return [Route(text, endpoint, methods=methods) for text in sorted(paths)]


def _shop() -> list[BaseRoute]:
    """Return the sample page, served beside the push stand-in: its scripts may listen there."""
    if not SHOP_DIR.is_dir():
        return []
    return [Mount(SHOP_PATH, app=StaticFiles(directory=SHOP_DIR, html=True))]


async def _answer_items(request: Request, list_items: Callable[..., Awaitable[Any]]) -> Response:
    limit_text = request.query_params.get("limit")
    if limit_text is not None and not (limit_text.isascii() and limit_text.isdigit()):
        return _error(InvalidInput("invalid_field", "must be a number", "limit"))
    count, items = await list_items(
        request_id=request.query_params.get("request_id"),
        limit=None if limit_text is None else int(limit_text[:9]),
        deadline=_soon(),
    )
    return _json({"count": count, "items": items})


def _soon() -> Deadline:
    return Deadline.after(_ENDPOINT_DEADLINE_S)


def _json(content: Mapping[str, Any], status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def _error(error: Exception) -> Response:
    response, _ = error_response(error)
    return response
