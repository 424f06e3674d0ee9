"""HTTP requests in, answers out: bounded reading, strict decoding, one table of errors."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tagstitch.core.errors import InvalidCode, InvalidInput, Unavailable
from tagstitch.core.limits import INTEGER_ABS_MAX, JSON_DEPTH_MAX

STATUS_OF_CODE: Final[Mapping[InvalidCode, int]] = {
    "invalid_json": 400,
    "json_too_deep": 400,
    "invalid_unicode": 400,
    "non_finite_number": 400,
    "missing_field": 400,
    "invalid_field": 400,
    "unknown_callback": 400,
    "unsupported_version": 400,
    "unauthorized": 401,
    "not_found": 404,
    "method_not_allowed": 405,
    "idempotency_conflict": 409,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "rate_limited": 429,
}
"""The one table from errors to HTTP; `Unavailable` and `Conflict` are 503."""

RETRY_AFTER_S: Final = 1
"""Seconds in the header `Retry-After` of 429 and 503."""

_JSON: Final = "application/json"
_BOMS: Final = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


async def read_body(request: Request, *, bytes_max: int) -> bytes:
    """Return the raw body, reading at most `bytes_max` of it, whatever its headers claim."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > bytes_max:
        raise _too_large(bytes_max)
    chunks = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > bytes_max:
            raise _too_large(bytes_max)
        chunks.append(chunk)
    return b"".join(chunks)


def decode_json(body: bytes) -> Any:
    """Return the JSON value: UTF-8, finite numbers of 64 bits, at most 20 levels deep.

    Of duplicate keys the last one counts.
    """
    if body.startswith(_BOMS):
        raise InvalidInput("invalid_unicode", "the body must be UTF-8 without a byte order mark")
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _undecodable(body) from None
    _check_tree(value, "", 1)
    return value


def json_response(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a JSON answer; bytes are JSON already."""
    body = content if isinstance(content, bytes) else msgspec.json.encode(content)
    return Response(body, status, headers, _JSON)


def error_response(error: Exception) -> tuple[Response, str]:
    """Return the answer to a failed request, and its error id for the log."""
    error_id = uuid.uuid4().hex
    headers: dict[str, str] = {}
    path = hint = None
    code: str
    if isinstance(error, InvalidInput):
        status, code, message = STATUS_OF_CODE[error.code], error.code, error.message
        path, hint = error.path, error.hint
    elif isinstance(error, Unavailable):
        status, code, message = 503, "unavailable", "a service behind this one did not answer"
        hint = "try again after the time in Retry-After"
    else:
        status, code, message = 500, "internal", "an error on our side"
        hint = "report the error_id; the log has the rest"
    if status in (429, 503):
        headers["retry-after"] = str(RETRY_AFTER_S)
    fields = {"code": code, "message": message, "path": path, "hint": hint, "error_id": error_id}
    body = {"error": {name: value for name, value in fields.items() if value is not None}}
    return json_response(body, status, headers), error_id


def check_media_type(headers: Mapping[str, str]) -> None:
    """Raise InvalidInput for compressed bodies, which could inflate without limit, and others."""
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidInput(
            "unsupported_media_type", "compressed bodies are not accepted",
            hint="send the body without Content-Encoding",
        )  # fmt: skip
    media_type = headers.get("content-type", _JSON).partition(";")[0].strip().lower()
    if media_type != _JSON and not media_type.endswith("+json"):
        raise InvalidInput(
            "unsupported_media_type", "the body must be JSON",
            hint="send Content-Type: application/json",
        )  # fmt: skip


def _undecodable(body: bytes) -> InvalidInput:
    """Return the error that tells the sender what to mend.

    The standard library's laxer parser tells what the strict one refused: what only it accepts is
    a number that is not finite, or text that is no Unicode.
    """
    try:
        value = json.loads(body.decode())
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError:
        return InvalidInput("invalid_unicode", "text that is not valid Unicode")
    except json.JSONDecodeError:
        return InvalidInput("invalid_json", "the body is not valid JSON")
    except RecursionError:
        return _too_deep()
    except ValueError:  # an integer of more digits than Python converts
        return InvalidInput("non_finite_number", "a number of too many digits")
    return InvalidInput("non_finite_number", "a number is not finite or out of range")


def _check_tree(value: Any, path: str, depth: int) -> None:
    """Raise InvalidInput for what Firestore and BigQuery could not store."""
    kind = type(value)
    if kind is dict:
        if depth > JSON_DEPTH_MAX:
            raise _too_deep()
        for name, item in value.items():
            if type(item) in _DEEP_CHECKED:
                _check_tree(item, f"{path}.{name}" if path else name, depth + 1)
    elif kind is list:
        if depth > JSON_DEPTH_MAX:
            raise _too_deep()
        for index, item in enumerate(value):
            if type(item) in _DEEP_CHECKED:
                _check_tree(item, f"{path}[{index}]", depth + 1)
    elif kind is int and not -INTEGER_ABS_MAX <= value <= INTEGER_ABS_MAX:
        raise InvalidInput("non_finite_number", "an integer of more than 64 bits", path or None)


_DEEP_CHECKED: Final = frozenset({dict, list, int})


def _too_large(bytes_max: int) -> InvalidInput:
    return InvalidInput("body_too_large", f"the body is larger than {bytes_max // 1024} KiB")


def _too_deep() -> InvalidInput:
    return InvalidInput("json_too_deep", f"nested deeper than {JSON_DEPTH_MAX} levels")
