"""HttpFunction: what all four functions share between the framework and the pipeline.

Reading and decoding within limits, authentication, routes, the two tables of errors, one log line
a request, and `/health`. A function's main.py lists its routes and hands over.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from tagstitch import __version__
from tagstitch.adapters.authentication import Authenticator
from tagstitch.adapters.garbage_collection import spare_garbage_collection
from tagstitch.adapters.http_request import (
    check_media_type,
    error_response,
    json_response,
    read_body,
    server_timing,
)
from tagstitch.adapters.log import configure_logging, log_request, request_fields
from tagstitch.adapters.push_authentication import PushAuthenticator
from tagstitch.adapters.rate_limits import RateLimits
from tagstitch.adapters.request_trace import (
    open_recording_tracer,
    trace_fields,
    trace_of_message,
    trace_of_request,
)
from tagstitch.adapters.settings import Scope, read_settings
from tagstitch.adapters.wiring import Wiring, import_parts
from tagstitch.core.caller import Caller
from tagstitch.core.errors import Conflict, InvalidInput, Unavailable
from tagstitch.core.fields import is_request_id
from tagstitch.core.json_input import decode_json
from tagstitch.core.limits import PUSH_BODY_BYTES_MAX
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.log_events import (
    DeadLetter,
    MessageDeferred,
    OpeningFailed,
    RequestAnswered,
    RequestFailed,
    log,
    log_crash,
)
from tagstitch.pipeline.stage_times import stage_times, timed
from tagstitch.pipeline.tracing import UNRECORDED, Tracer, current_trace

if TYPE_CHECKING:
    from tagstitch.pipeline.dead_letter import Message

PUSH_DEADLINE_S: Final = 30.0
"""Seconds for one pushed message: below the function's timeout, which is below the
subscription's ack deadline (infra/topology.json)."""

_DEAD_LETTER_TIMEOUT_S: Final = 5.0


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
    idempotency_header: str | None
    """The request id that a header carries, or one that derives from it."""


@dataclass(frozen=True, slots=True)
class Push:
    """One message that a push subscription delivered."""

    wiring: Wiring
    message: Message
    deadline: Deadline


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a schedule."""

    wiring: Wiring
    deadline: Deadline


CallHandler = Callable[[Call], Awaitable[Response]]
PushHandler = Callable[[Push], Awaitable[None]]
JobHandler = Callable[[Job], Awaitable[Response]]


class _Route(NamedTuple):
    kind: Literal["call", "push", "job"]
    handler: Callable[[Any], Awaitable[Any]]
    detail: str
    """The scope of a call, the topic of a push."""
    has_event_body: bool = False
    """Whether the body is the caller's event itself, whose parameters are not ours to read."""


class HttpFunction:
    """One of the four functions.

    Reads the settings at once, so that a function that is set up wrongly refuses to start; opens
    stores on the first request, because the framework forks after it has imported the module.
    """

    def __init__(self, name: str, *, body_bytes_max: int = PUSH_BODY_BYTES_MAX) -> None:
        configure_logging()
        self._name = name
        self._body_bytes_max = body_bytes_max
        self._settings = read_settings()
        self._authenticator = Authenticator(self._settings)
        self._rate_limits = RateLimits(self._settings)
        self._push_authenticator = PushAuthenticator(self._settings)
        self._routes: dict[tuple[str, str], _Route] = {}
        self._wiring: Wiring | None = None
        self._opening: asyncio.Task[None] | None = None
        self._tracer: Tracer = UNRECORDED

    def get(self, *paths: str, scope: Scope) -> Callable[[CallHandler], CallHandler]:
        """Register a handler for GET; the key needs the scope."""
        return self._call_route("GET", paths, scope)

    def post(
        self, *paths: str, scope: Scope, has_event_body: bool = False
    ) -> Callable[[CallHandler], CallHandler]:
        """Register a handler for POST with a JSON body; the key needs the scope."""
        return self._call_route("POST", paths, scope, has_event_body=has_event_body)

    def push(self, path: str, *, topic: str) -> Callable[[PushHandler], PushHandler]:
        """Register a handler for a push subscription of the topic.

        It acknowledges by returning and by raising InvalidInput, which makes a dead letter; any
        other exception has the message delivered again.
        """
        self._push_authenticator.check_settings()

        def register(handler: PushHandler) -> PushHandler:
            self._routes["POST", path] = _Route("push", handler, topic)
            return handler

        return register

    def schedule(self, path: str) -> Callable[[JobHandler], JobHandler]:
        """Register a handler that the scheduler calls, authenticated as a push request is."""
        self._push_authenticator.check_settings()

        def register(handler: JobHandler) -> JobHandler:
            self._routes["POST", path] = _Route("job", handler, "")
            return handler

        return register

    async def __call__(self, request: Request) -> Response:
        """Answer one request; never raises."""
        path = "/" + request.path_params.get("path", "").strip("/")
        route = self._routes.get((request.method, path))
        # A message has a trace of its own, which is known once it has been read.
        tracer = UNRECORDED if route is None or route.kind == "push" else self._tracer
        name = f"{request.method} {path}" if route else "unknown"
        with tracer.span(name, "server", parent=trace_of_request(request.headers)) as span:
            response = await self._serve(request, path, route)
            span.note("http.response.status_code", response.status_code)
        return response

    async def _serve(self, request: Request, path: str, route: _Route | None) -> Response:
        started = time.perf_counter()
        token = request_fields.set({"function": self._name, **self._trace_fields()})
        stages: dict[str, float] = {}
        stages_token = stage_times.set(stages)
        try:
            response = await self._respond(request, path, route)
        except Exception as error:  # noqa: BLE001 - here every failure becomes an answer
            response, error_id = error_response(error)
            if response.status_code >= 500:
                _log_failure(error, error_id)
            _note(error_id=error_id)
        took_s = time.perf_counter() - started
        # Who is not let in must not see by it how far the request came.
        told = {} if response.status_code == 401 else stages
        response.headers.append("server-timing", server_timing(told, took_s))
        self._log(request.method, path, response, took_s)
        stage_times.reset(stages_token)
        request_fields.reset(token)
        return response

    async def _respond(self, request: Request, path: str, route: _Route | None) -> Response:
        if path == "/health" and request.method == "GET":
            return self._health()
        if route is None:
            raise self._no_route(path)
        if route.kind == "call":
            return await self._answer(route, request)
        await self._push_authenticator.authenticate(request.headers)
        if route.kind == "push":
            return await self._receive(route, request)
        job = Job(await self._open(), Deadline.after(PUSH_DEADLINE_S))
        response: Response = await route.handler(job)
        return response

    async def _answer(self, route: _Route, request: Request) -> Response:
        headers = request.headers
        raw = b""
        if request.method == "POST":
            check_media_type(headers)
            raw = await read_body(request, bytes_max=self._body_bytes_max)
        with timed("auth"):
            caller = self._authenticator.authenticate(request.method, headers, raw)
        _note(caller=caller.id)
        self._rate_limits.check(caller, time.monotonic())
        caller.require(route.detail)
        body = decode_json(raw) if request.method == "POST" else None
        is_signed = self._settings.auth == "signature"
        from_header = _header_request_id(headers, is_signed=is_signed)
        request_id = _request_id(route, body, request, from_header)
        _note(request_id=request_id)
        wiring = await self._open()
        query = request.query_params
        call = Call(wiring, caller, body, query, headers, request_id, from_header)
        response: Response = await route.handler(call)
        return response

    async def _receive(self, route: _Route, request: Request) -> Response:
        """Process one pushed message, in the trace of whoever published it."""
        from tagstitch.adapters.pubsub_message import parse_push

        wiring = await self._open()
        message = parse_push(
            await read_body(request, bytes_max=PUSH_BODY_BYTES_MAX),
            request.headers.get("content-type", ""),
            topic=route.detail,
            received_at=wiring.backend.clock(),
        )
        parent = trace_of_message(message.attributes) or current_trace.get()
        name = f"process {route.detail}"
        with self._tracer.span(name, "consumer", parent=parent) as span:
            _note(message_id=message.message_id, **self._trace_fields())
            response = await self._process(route, wiring, message)
            span.note("http.response.status_code", response.status_code)
        return response

    async def _process(self, route: _Route, wiring: Wiring, message: Message) -> Response:
        """Hand the message over and tell Pub/Sub what became of it."""
        from tagstitch.adapters.pubsub_message import ACKNOWLEDGE, NEGATIVE_ACKNOWLEDGE
        from tagstitch.pipeline.dead_letter import readable_request_id

        request_id = readable_request_id(message.data)
        if request_id is not None:
            _note(request_id=request_id)
        deadline = Deadline.after(PUSH_DEADLINE_S)
        try:
            async with asyncio.timeout(PUSH_DEADLINE_S + 5.0):
                await route.handler(Push(wiring, message, deadline))
        except InvalidInput as error:
            await self._bury(wiring, message, error)
        except (Unavailable, Conflict, TimeoutError) as error:
            log(MessageDeferred(why=type(error).__name__))
            return Response(status_code=NEGATIVE_ACKNOWLEDGE)
        return Response(status_code=ACKNOWLEDGE)

    async def _bury(self, wiring: Wiring, message: Message, error: InvalidInput) -> None:
        """Publish the dead letter; only then may the message be acknowledged."""
        log(DeadLetter(code=error.code))
        from tagstitch.pipeline.dead_letter import publish_dead_letter

        await publish_dead_letter(
            wiring.backend.publisher,
            message,
            error,
            processor=self._name,
            failed_at=wiring.backend.clock(),
            deadline=Deadline.after(_DEAD_LETTER_TIMEOUT_S),
        )

    async def _open(self) -> Wiring:
        """Return the object graph; the worker's first request waits for its imports.

        They take place before the request's deadline begins: it is for the services behind us.
        """
        if self._wiring is None:
            await asyncio.shield(self._begin_to_open())
        assert self._wiring is not None  # noqa: S101 - the task above has set it
        return self._wiring

    def _begin_to_open(self) -> asyncio.Task[None]:
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._import_and_open())
            self._opening.add_done_callback(self._forget_failure)
        return self._opening

    def _forget_failure(self, opening: asyncio.Task[None]) -> None:
        """Let the next request try again: what failed once may have been the machine's hiccup."""
        error = None if opening.cancelled() else opening.exception()
        if error is not None or opening.cancelled():
            self._opening = None
            log_crash(OpeningFailed(), error)

    async def _import_and_open(self) -> None:
        """Import beside the event loop, which goes on answering probes, and begin to load."""
        await asyncio.to_thread(import_parts, self._name, self._settings)
        tracer = await asyncio.to_thread(open_recording_tracer, self._name, self._settings)
        wiring = Wiring(self._settings, recorded_by=tracer)
        wiring.start(self._name)
        spare_garbage_collection()
        self._tracer = tracer or UNRECORDED
        self._wiring = wiring

    def _trace_fields(self) -> dict[str, Any]:
        return trace_fields(self._settings.project)

    def _health(self) -> Response:
        """Answer without waiting for anything, and have what is missing loaded behind the answer.

        As a start-up probe it makes the first real request a fast one.
        """
        self._begin_to_open()
        health: dict[str, Any] = {
            "status": "loading" if self._wiring is None else "ok",
            "function": self._name,
            "version": __version__,
        }
        if self._name == "decide":
            health |= _rules_health(self._wiring)
        return json_response(health)

    def _call_route(
        self, method: str, paths: tuple[str, ...], scope: Scope, *, has_event_body: bool = False
    ) -> Callable[[CallHandler], CallHandler]:
        def register(handler: CallHandler) -> CallHandler:
            for path in paths:
                self._routes[method, path] = _Route("call", handler, scope, has_event_body)
            return handler

        return register

    def _no_route(self, path: str) -> InvalidInput:
        methods = sorted(method for method, known in self._routes if known == path)
        if not methods:
            return InvalidInput("not_found", "no such path", hint="README.md lists the paths")
        return InvalidInput(
            "method_not_allowed", "not for this method", hint="use " + " or ".join(methods)
        )

    def _log(self, method: str, path: str, response: Response, took_s: float) -> None:
        """Write the request's line: never its query string, its body or an address."""
        is_known = path == "/health" or any(known == path for _, known in self._routes)
        answered = RequestAnswered(
            method=method,
            path=path if is_known else "(unknown)",
            status=response.status_code,
            latency_ms=round(took_s * 1000, 2),
        )
        if path != "/health":
            log_request(answered)


def _rules_health(wiring: Wiring | None) -> dict[str, Any]:
    """Return status and rules of decide; "loading" before there is a rule book."""
    book = wiring.rule_book.value if wiring is not None else None
    rules: dict[str, Any] = {"version": None, "loaded_at": None, "count": 0, "broken": 0}
    if wiring is None or book is None:
        return {"status": "loading", "rules": rules}
    rules = {
        "version": book.version,
        "loaded_at": wiring.rule_book.loaded_at,
        "count": book.count,
        "broken": max(book.withheld, len(book.broken)),
    }
    return {"status": "stale" if wiring.rule_book.is_stale else "ok", "rules": rules}


def _log_failure(error: Exception, error_id: str) -> None:
    """Write why a request failed: what is behind us, or a bug."""
    failed = RequestFailed(error_id=error_id)
    if isinstance(error, Unavailable):
        log(failed)
    else:
        log_crash(failed, error)


def _note(**fields: Any) -> None:
    """Add fields to every further log line of this request."""
    request_fields.set({**(request_fields.get() or {}), **fields})


def _request_id(route: _Route, body: Any, request: Request, from_header: str | None) -> str:
    """Return the caller's own request id, for the log and the answer, or a new one.

    A POST names it in its body or in a header, never in its query, and a GET in its query. One
    that is malformed is refused where the request is parsed, and never gets into the log.
    """
    source = body
    if request.method == "GET":
        source = request.query_params
    elif route.has_event_body:
        source = None
    sent = source.get("request_id") if isinstance(source, Mapping) else None
    if is_request_id(sent):
        return sent
    return (from_header if request.method == "POST" else None) or secrets.token_hex(16)


def _header_request_id(headers: Mapping[str, str], *, is_signed: bool) -> str | None:
    """Return the request id of a header; one of other characters gives an id that derives from it.

    Standard Webhooks ids may hold a dot and Idempotency-Key may be a quoted string: both are as
    good for telling a repetition, and no reason to refuse what is signed. Of a signed request only
    the webhook-id is under the signature: whoever repeats what they overheard may change the rest.
    """
    sent = (not is_signed and headers.get("idempotency-key")) or headers.get("webhook-id")
    if not sent or is_request_id(sent):
        return sent or None
    return "h_" + hashlib.sha256(sent.encode()).hexdigest()[:32]
