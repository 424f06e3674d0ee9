"""The OpenAPI document of the four functions: every path, parameter, body, status and error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from schemas.http_answers import answer_components, health
from schemas.http_requests import (
    NAME_CHARS_MAX,
    REQUEST_ID,
    message_components,
    push_of,
    ref,
    request_components,
)
from schemas.shapes import Shape, identifier_value, text
from tagstitch import __version__
from tagstitch.adapters.authentication import KEY_HEADER
from tagstitch.adapters.http_request import RETRY_AFTER_S, STATUS_OF_CODE
from tagstitch.core.errors import InvalidCode
from tagstitch.core.identifier import IDENTIFIER_TYPES
from tagstitch.core.limits import (
    DECIDE_BODY_BYTES_MAX,
    LOOKUP_BODY_BYTES_MAX,
    PUSH_BODY_BYTES_MAX,
)

_INTRODUCTION: Final = """\
Who a visitor is (stitch_sync), what to do with an event (decide), and the endpoints that Pub/Sub
and the scheduler call (stitch_async, audit_sink).

The paths are those of the local stack. In the cloud each function has a host of its own, and the
first part of the path falls away: `/decide/health` is `/health` there, and `/decide` is `/`.
A trailing slash never matters and nothing redirects. Another path is a 404 and another method a
405, in the shape of every error.

Every failure has the same shape, with a code that programs can compare and never a value that was
sent."""

_JSON: Final = "application/json"

_BODY: Final[tuple[InvalidCode, ...]] = (
    "invalid_json", "json_too_deep", "invalid_unicode", "non_finite_number", "missing_field",
    "invalid_field",
)  # fmt: skip
"""What a body may be refused for, whatever it asks."""
_HTTP: Final[tuple[InvalidCode, ...]] = (
    "body_too_large", "unsupported_media_type", "unauthorized", "rate_limited",
)  # fmt: skip
_LOOKUP: Final[tuple[InvalidCode, ...]] = (*_BODY, "unknown_callback", *_HTTP)
_DECIDE: Final[tuple[InvalidCode, ...]] = (*_BODY, "idempotency_conflict", *_HTTP)
_PUSH: Final[tuple[InvalidCode, ...]] = (
    "invalid_json", "missing_field", "body_too_large", "unauthorized",
)  # fmt: skip

_SHARED_ERRORS: Final[Mapping[str, tuple[int, str, str]]] = {
    "unauthorized": (
        401, "Unauthorized",
        "No right key, signature or token, or a scope that it lacks: one body for all of them.",
    ),
    "idempotency_conflict": (
        409, "Conflict", "The request id was used for another request within seven days.",
    ),
    "body_too_large": (
        413, "TooLarge", "The body is larger than the operation takes; the rest is not read.",
    ),
    "unsupported_media_type": (415, "NotJson", "The body is not JSON, or it is compressed."),
    "rate_limited": (429, "RateLimited", "The key asks more often than it may."),
    "internal": (500, "Internal", "An error on our side; the log has more under the error_id."),
    "unavailable": (
        503, "Unavailable",
        "A service behind this one did not answer. To Pub/Sub, that has no body.",
    ),
}  # fmt: skip
"""Code -> status, component and meaning, of what is answered alike everywhere."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    function: str
    path: str
    """As the function sees it."""
    method: str
    name: str
    summary: str
    answers: Mapping[int, tuple[str, Shape | None]]
    """Status -> what it means, and the body."""
    scope: str = ""
    """What the key needs; the topic of a push; nothing for a schedule and for /health."""
    caller: str = "key"
    """`key`: whoever has one; `platform`: Pub/Sub and the scheduler; `anybody`."""
    body: Shape | None = None
    bytes_max: int = 0
    codes: tuple[InvalidCode, ...] = ()
    parameters: tuple[Shape, ...] = ()
    more: str = ""

    @property
    def place(self) -> str:
        """The path in the document."""
        return f"/{self.function}{self.path.rstrip('/')}"


def openapi_document() -> dict[str, Any]:
    """Return the document; `openapi.yaml` is its text."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations():
        paths.setdefault(operation.place, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tagstitch",
            "version": __version__,
            "summary": "The decision engine behind server-side Google Tag Manager.",
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:8080", "description": "The local stack."}],
        "tags": [{"name": function} for function in FUNCTIONS],
        "paths": paths,
        "components": {
            "schemas": {**request_components(), **message_components(), **answer_components()},
            "responses": _shared_responses(),
            "headers": _headers(),
            "securitySchemes": _security_schemes(),
        },
    }


FUNCTIONS: Final = ("stitch_sync", "decide", "stitch_async", "audit_sink")


def operations() -> tuple[Operation, ...]:
    """Return every operation, function by function."""
    probes = tuple(
        Operation(
            function, "/health", "GET", f"health_of_{function}",
            "Whether it serves; never waits for a store.",
            {200: ("It does, also before anything is loaded.", health(function))},
            caller="anybody",
        )
        for function in FUNCTIONS
    )  # fmt: skip
    return (*_lookups(), *_decisions(), *_work(), *probes)


def _lookups() -> tuple[Operation, ...]:
    answers: dict[int, tuple[str, Shape | None]] = {
        200: ("The visitor as known now.", ref("LookupAnswer")),
        202: ("Pub/Sub has the request; mode was async.", ref("AcceptedLookup")),
        404: ("Nobody is known, and not_found was 404.", ref("LookupAnswer")),
    }
    not_found = _query(
        "not_found", {"type": "string"}, "404 to have that status when nobody is known."
    )
    get = Operation(
        "stitch_sync", "/", "GET", "look_up_by_query", "Look a visitor up by query parameters.",
        answers, scope="lookup",
        codes=(
            "missing_field", "invalid_field", "invalid_unicode", "unknown_callback",
            "unauthorized", "rate_limited",
        ),
        parameters=(*_lookup_parameters(), not_found),
        more="One of id and the identifier types is required. Refused with signatures: a GET has"
        " no body to sign.",
    )  # fmt: skip
    post = Operation(
        "stitch_sync", "/", "POST", "look_up", "Look a visitor up by a body.",
        answers, scope="lookup", body=ref("Lookup"), bytes_max=LOOKUP_BODY_BYTES_MAX,
        codes=_LOOKUP, parameters=(not_found, *_repetition_headers()),
        more="With mode async the key needs the scope stitch, too.",
    )  # fmt: skip
    activate = Operation(
        "stitch_sync", "/activation", "POST", "activate",
        "The attributes of a view for one identifier, null where nothing is known.",
        {200: ("Each attribute of the view.", ref("ActivationAnswer"))},
        scope="lookup", body=ref("Activation"), bytes_max=LOOKUP_BODY_BYTES_MAX,
        codes=(*_BODY, *_HTTP), parameters=_repetition_headers(),
    )  # fmt: skip
    return get, post, activate


def _decisions() -> tuple[Operation, ...]:
    def decision(path: str, name: str, summary: str, body: str, answer: str) -> Operation:
        return Operation(
            "decide", path, "POST", name, summary, {200: ("The decision.", ref(answer))},
            scope="decide", body=ref(body), bytes_max=DECIDE_BODY_BYTES_MAX, codes=_DECIDE,
            parameters=_repetition_headers(),
        )  # fmt: skip

    both = "What to do with an event, what to show its visitor, and who that is."
    return (
        decision("/", "decide", both, "DecideRequest", "Decision"),
        decision("/decide", "decide_by_name", both, "DecideRequest", "Decision"),
        decision(
            "/make-event-decision", "make_event_decision", "What to do with an event.",
            "Event", "EventDecision",
        ),
        decision(
            "/make-personalization-decision", "make_personalization_decision",
            "What to show the visitor of an event.", "Event", "PersonalizationDecision",
        ),
    )  # fmt: skip


def _work() -> tuple[Operation, ...]:
    """Return what only the platform may call."""

    def push(function: str, path: str, topic: str, message: str | None) -> Operation:
        done = "Done, or a dead letter: it does not come again."
        return Operation(
            function, path, "POST", f"push_of_{topic.replace('-', '_')}",
            f"One message of the topic {topic}, as a push subscription delivers it.",
            {204: (done, None)},
            scope=topic, caller="platform", body=push_of(message), bytes_max=PUSH_BODY_BYTES_MAX,
            codes=_PUSH,
        )  # fmt: skip

    return (
        push("stitch_async", "/", "stitch-requests", "StitchRequest"),
        push("stitch_async", "/actions", "actions", "ActionMessage"),
        Operation(
            "stitch_async", "/sweep", "POST", "sweep",
            "Publish again what was committed and not published; the scheduler calls it.",
            {200: ("What was found.", ref("Swept"))},
            caller="platform", codes=("unauthorized",),
        ),
        push("audit_sink", "/", "audit", "AuditMessage"),
        push("audit_sink", "/deadletters", "dead-letter", None),
    )  # fmt: skip


def _operation(operation: Operation) -> dict[str, Any]:
    needs = f"Needs the scope {operation.scope}." if operation.caller == "key" else ""
    described = " ".join(filter(None, (needs, operation.more)))
    return {
        "operationId": operation.name,
        "tags": [operation.function],
        "summary": operation.summary,
        **({"description": described} if described else {}),
        "security": _SECURITY[operation.caller],
        **({"parameters": list(operation.parameters)} if operation.parameters else {}),
        **({"requestBody": _request_body(operation)} if operation.body else {}),
        "responses": _responses(operation),
    }


def _request_body(operation: Operation) -> dict[str, Any]:
    return {
        "required": True,
        "description": f"At most {operation.bytes_max // 1024} KiB.",
        "content": {_JSON: {"schema": operation.body}},
    }


def _responses(operation: Operation) -> dict[str, Any]:
    """Return status -> response; an error with the codes that it may have."""
    responses = {
        str(status): _response(meaning, shape)
        for status, (meaning, shape) in operation.answers.items()
    }
    invalid = [code for code in operation.codes if STATUS_OF_CODE[code] == 400]
    if invalid:
        responses["400"] = _response("Cannot be used; path names the place.", _error(invalid))
    shared = [code for code in operation.codes if code in _SHARED_ERRORS]
    for code in [*shared, "internal", "unavailable"] if operation.codes else []:
        status, name, _ = _SHARED_ERRORS[code]
        responses[str(status)] = {"$ref": f"#/components/responses/{name}"}
    return dict(sorted(responses.items()))


def _shared_responses() -> dict[str, Any]:
    return {
        name: _response(meaning, _error([code]), waits=status in (429, 503))
        for code, (status, name, meaning) in _SHARED_ERRORS.items()
    }


def _response(meaning: str, shape: Shape | None, *, waits: bool = False) -> dict[str, Any]:
    headers = {"Server-Timing": {"$ref": "#/components/headers/ServerTiming"}}
    if waits:
        headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    content = {} if shape is None else {"content": {_JSON: {"schema": shape}}}
    return {"description": meaning, "headers": headers, **content}


def _error(codes: list[InvalidCode] | list[str]) -> Shape:
    code = {"properties": {"code": {"enum": codes}}}
    return {"allOf": [ref("Error"), {"properties": {"error": code}}]}


def _lookup_parameters() -> tuple[Shape, ...]:
    value = {**identifier_value(), "type": "string"}
    del value["minimum"], value["maximum"], value["description"]
    name = text(NAME_CHARS_MAX)
    request_id = {**REQUEST_ID, "type": "string"}
    return (
        _query(
            "id",
            {**value, "minLength": 1},
            "An identifier of unknown type.",
        ),
        *(_query(type_, value, "An identifier.") for type_ in IDENTIFIER_TYPES),
        _query("view", name, "A declared view; default otherwise."),
        _query("mode", {"enum": ["sync", "async"]}, "async needs the scope stitch."),
        _query("callback", {"type": "string"}, "The id of a registered endpoint; with mode async."),
        _query("request_id", request_id, request_id.pop("description")),
    )


def _query(name: str, shape: Shape, description: str) -> Shape:
    return {"name": name, "in": "query", "description": description, "schema": shape}


def _repetition_headers() -> tuple[Shape, ...]:
    said = "The request id, where the body has none."
    return tuple(
        {"name": name, "in": "header", "description": said, "schema": {"type": "string"}}
        for name in ("Idempotency-Key", "webhook-id")
    )


def _headers() -> dict[str, Shape]:
    return {
        "ServerTiming": {
            "description": "Milliseconds by stage, as docs/architecture.md explains.",
            "required": True,
            "schema": {"type": "string", "pattern": r"total;dur=[0-9]+\.[0-9]{2}$"},
        },
        "RetryAfter": {
            "description": "Seconds to wait.",
            "schema": {"type": "integer", "minimum": RETRY_AFTER_S},
        },
    }


_SECURITY: Final[Mapping[str, list[dict[str, list[str]]]]] = {
    "key": [{"key": []}, {"signature": []}, {"iam": []}, {}],
    "platform": [{"platform": []}, {}],
    "anybody": [],
}
"""What lets a caller in, by TAGSTITCH_AUTH; nothing is needed on the local stack."""


def _security_schemes() -> dict[str, Shape]:
    return {
        "key": {
            "type": "apiKey",
            "in": "header",
            "name": KEY_HEADER,
            "description": "TAGSTITCH_AUTH=key: the secret of one of TAGSTITCH_KEYS.",
        },
        "signature": {
            "type": "apiKey",
            "in": "header",
            "name": "webhook-signature",
            "description": "TAGSTITCH_AUTH=signature: Standard Webhooks, with webhook-id and"
            " webhook-timestamp beside it. The time may be five minutes off; GET is refused.",
        },
        "iam": {
            "type": "http",
            "scheme": "bearer",
            "description": "TAGSTITCH_AUTH=iam: the platform checks an ID token of Google's.",
        },
        "platform": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "An ID token of Google's for TAGSTITCH_PUSH_AUDIENCE, of one of"
            " TAGSTITCH_PUSH_ACCOUNTS.",
        },
    }
