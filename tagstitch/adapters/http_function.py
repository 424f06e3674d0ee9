"""HttpFunction: what all four functions share between the framework and the pipeline.

Reading and decoding within limits, authentication, routes, the two tables of errors, one log line
a request, and `/health`. A function's main.py lists its routes and hands over.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response

from tagstitch import __version__
from tagstitch.adapters.authentication import Authenticator
from tagstitch.adapters.backend_factory import import_backend
from tagstitch.adapters.http_request import (
    check_media_type,
    decode_json,
    error_response,
    json_response,
    read_body,
)
from tagstitch.adapters.log import configure_logging, request_fields
from tagstitch.adapters.pubsub_message import ACKNOWLEDGE, NEGATIVE_ACKNOWLEDGE, parse_push
from tagstitch.adapters.push_authentication import PushAuthenticator
from tagstitch.adapters.settings import Scope, read_settings
from tagstitch.adapters.wiring import Wiring
from tagstitch.core.caller import Caller
from tagstitch.core.errors import Conflict, InvalidInput, Unavailable
from tagstitch.core.limits import PUSH_BODY_BYTES_MAX, REQUEST_ID_CHARS_MAX
from tagstitch.pipeline.dead_letter import Message, publish_dead_letter
from tagstitch.pipeline.deadline import Deadline

if TYPE_CHECKING:
    from tagstitch.adapters.cloud import LazyPort

PUSH_DEADLINE_S: Final = 30.0
"""Seconds for one pushed message: below the function's timeout, which is below the
subscription's ack deadline (infra/topology.json)."""

_DEAD_LETTER_TIMEOUT_S: Final = 5.0

logger = logging.getLogger("tagstitch")


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request."""

    wiring: Wiring
    caller: Caller
    body: Any
    """The decoded JSON; None for a GET."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    request_id: str
    """The caller's request id where it sent a usable one, else one of our own."""

    @property
    def idempotency_header(self) -> str | None:
        """The request id that a header carries."""
        return self.headers.get("idempotency-key") or self.headers.get("webhook-id")


CallHandler = Callable[[Call], Awaitable[Response]]
PushHandler = Callable[[Wiring, Message, Deadline], Awaitable[None]]
ScheduleHandler = Callable[[Wiring, Deadline], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class _CallRoute:
    handler: CallHandler
    scope: Scope


@dataclass(frozen=True, slots=True)
class _PushRoute:
    handler: PushHandler
    topic: str


@dataclass(frozen=True, slots=True)
class _ScheduleRoute:
    handler: ScheduleHandler


class HttpFunction:
    """One of the four functions.

    Reads the settings at once, so that a function that is set up wrongly refuses to start, and
    imports the libraries of the ports that it `uses`; opens stores on the first request, because
    the framework forks after it has imported the module.
    """

    def __init__(
        self,
        name: str,
        *,
        uses: Collection[LazyPort] = ("documents", "publisher"),
        body_bytes_max: int = PUSH_BODY_BYTES_MAX,
    ) -> None:
        configure_logging()
        self._name = name
        self._body_bytes_max = body_bytes_max
        self._settings = read_settings()
        import_backend(self._settings, uses)
        self._authenticator = Authenticator(self._settings)
        self._push_authenticator = PushAuthenticator(self._settings)
        self._routes: dict[tuple[str, str], _CallRoute | _PushRoute | _ScheduleRoute] = {}
        self._wiring: Wiring | None = None

    def get(self, *paths: str, scope: Scope) -> Callable[[CallHandler], CallHandler]:
        """Register a handler for GET; the key needs the scope."""
        return self._call_route("GET", paths, scope)

    def post(self, *paths: str, scope: Scope) -> Callable[[CallHandler], CallHandler]:
        """Register a handler for POST with a JSON body; the key needs the scope."""
        return self._call_route("POST", paths, scope)

    def push(self, path: str, *, topic: str) -> Callable[[PushHandler], PushHandler]:
        """Register a handler for a push subscription of the topic.

        It acknowledges by returning and by raising InvalidInput, which makes a dead letter; any
        other exception has the message delivered again.
        """

        def register(handler: PushHandler) -> PushHandler:
            self._routes["POST", path] = _PushRoute(handler, topic)
            return handler

        return register

    def schedule(self, path: str) -> Callable[[ScheduleHandler], ScheduleHandler]:
        """Register a handler that the scheduler calls, authenticated as a push request is."""

        def register(handler: ScheduleHandler) -> ScheduleHandler:
            self._routes["POST", path] = _ScheduleRoute(handler)
            return handler

        return register

    async def __call__(self, request: Request) -> Response:
        """Answer one request; never raises."""
        started = time.perf_counter()
        path = "/" + request.path_params.get("path", "").strip("/")
        token = request_fields.set({"function": self._name})
        try:
            response = await self._respond(request, path)
        except Exception as error:  # noqa: BLE001 - here every failure becomes an answer
            response, error_id = error_response(error)
            if response.status_code >= 500:
                log = logger.warning if isinstance(error, Unavailable) else logger.exception
                log("request_failed", extra={"fields": {"error_id": error_id}})
            _note(error_id=error_id)
        self._log(request.method, path, response, started)
        request_fields.reset(token)
        return response

    async def _respond(self, request: Request, path: str) -> Response:
        if path == "/health" and request.method == "GET":
            return self._health()
        route = self._routes.get((request.method, path))
        if route is None:
            raise self._no_route(path)
        wiring = self._open()
        if isinstance(route, _PushRoute):
            return await self._receive(wiring, route, request)
        if isinstance(route, _ScheduleRoute):
            await self._push_authenticator.authenticate(request.headers)
            return await route.handler(wiring, Deadline.after(PUSH_DEADLINE_S))
        return await self._answer(wiring, route, request)

    async def _answer(self, wiring: Wiring, route: _CallRoute, request: Request) -> Response:
        headers = request.headers
        raw = b""
        if request.method == "POST":
            check_media_type(headers)
            raw = await read_body(request, bytes_max=self._body_bytes_max)
        caller = self._authenticator.authenticate(request.method, headers, raw)
        caller.require(route.scope)
        body = decode_json(raw) if request.method == "POST" else None
        request_id = _request_id(body, request)
        _note(request_id=request_id, caller=caller.id)
        return await route.handler(
            Call(wiring, caller, body, request.query_params, headers, request_id)
        )

    async def _receive(self, wiring: Wiring, route: _PushRoute, request: Request) -> Response:
        """Process one pushed message and tell Pub/Sub what became of it."""
        await self._push_authenticator.authenticate(request.headers)
        message = parse_push(
            await read_body(request, bytes_max=PUSH_BODY_BYTES_MAX),
            request.headers.get("content-type", ""),
            topic=route.topic,
            received_at=wiring.backend.clock(),
        )
        _note(message_id=message.message_id)
        deadline = Deadline.after(PUSH_DEADLINE_S)
        try:
            async with asyncio.timeout(PUSH_DEADLINE_S + 5.0):
                await route.handler(wiring, message, deadline)
        except InvalidInput as error:
            await self._bury(wiring, message, error)
        except (Unavailable, Conflict, TimeoutError) as error:
            logger.warning("message_deferred", extra={"fields": {"why": type(error).__name__}})
            return Response(status_code=NEGATIVE_ACKNOWLEDGE)
        return Response(status_code=ACKNOWLEDGE)

    async def _bury(self, wiring: Wiring, message: Message, error: InvalidInput) -> None:
        """Publish the dead letter; only then may the message be acknowledged."""
        logger.warning("dead_letter", extra={"fields": {"code": error.code, "path": error.path}})
        await publish_dead_letter(
            wiring.backend.publisher,
            message,
            error,
            processor=self._name,
            failed_at=wiring.backend.clock(),
            deadline=Deadline.after(_DEAD_LETTER_TIMEOUT_S),
        )

    def _open(self) -> Wiring:
        if self._wiring is None:
            self._wiring = Wiring(self._settings)
        return self._wiring

    def _health(self) -> Response:
        """Answer without waiting for any store; starts what is loaded in the background."""
        health: dict[str, Any] = {
            "status": "ok",
            "function": self._name,
            "version": __version__,
        }
        if self._name == "decide":
            book = self._open().rule_book
            book.start()
            if book.value is None:
                health["status"] = "loading"
            elif book.is_stale:
                health["status"] = "stale"
            health["rules"] = {
                "version": book.value.version if book.value else None,
                "loaded_at": book.loaded_at,
                "count": book.value.count if book.value else 0,
                "broken": len(book.value.broken) if book.value else 0,
            }
        return json_response(health)

    def _call_route(
        self, method: str, paths: tuple[str, ...], scope: Scope
    ) -> Callable[[CallHandler], CallHandler]:
        def register(handler: CallHandler) -> CallHandler:
            for path in paths:
                self._routes[method, path] = _CallRoute(handler, scope)
            return handler

        return register

    def _no_route(self, path: str) -> InvalidInput:
        methods = sorted(method for method, known in self._routes if known == path)
        if not methods:
            return InvalidInput("not_found", "no such path", hint="README.md lists the paths")
        return InvalidInput(
            "method_not_allowed", "not for this method", hint="use " + " or ".join(methods)
        )

    def _log(self, method: str, path: str, response: Response, started: float) -> None:
        """Write the request's line: never its query string, its body or an address."""
        is_known = path == "/health" or any(known == path for _, known in self._routes)
        fields = {
            "method": method,
            "path": path if is_known else "(unknown)",
            "status": response.status_code,
            "latency_ms": round((time.perf_counter() - started) * 1000, 2),
        }
        if path != "/health":
            logger.info("request", extra={"fields": fields})


def _note(**fields: Any) -> None:
    """Add fields to every further log line of this request."""
    request_fields.set({**(request_fields.get() or {}), **fields})


def _request_id(body: Any, request: Request) -> str:
    """Return the caller's own request id, for the log and the answer, or a new one.

    Which of them is valid is decided where the request is parsed.
    """
    sent = body.get("request_id") if isinstance(body, dict) else None
    sent = sent or request.query_params.get("request_id")
    if isinstance(sent, str) and sent.isascii() and len(sent) <= REQUEST_ID_CHARS_MAX:
        return sent
    return uuid.uuid4().hex
