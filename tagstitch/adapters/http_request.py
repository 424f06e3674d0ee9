"""HTTP requests in, answers out: bounded reading, strict decoding, one table of errors."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tagstitch.core.errors import InvalidCode, InvalidInput, RateLimited, Unavailable

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
"""Seconds in the header `Retry-After` of 503, and the fewest in that of 429."""

_JSON: Final = "application/json"


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
        wait_s = error.retry_after_s if isinstance(error, RateLimited) else RETRY_AFTER_S
        headers["retry-after"] = str(max(math.ceil(wait_s), RETRY_AFTER_S))
    fields = {"code": code, "message": message, "path": path, "hint": hint, "error_id": error_id}
    body = {"error": {name: value for name, value in fields.items() if value is not None}}
    return json_response(body, status, headers), error_id


def server_timing(stages: Mapping[str, float], total_s: float) -> str:
    """Return the header `Server-Timing` (https://www.w3.org/TR/server-timing/), in milliseconds."""
    parts = [f"{stage};dur={seconds * 1000:.2f}" for stage, seconds in stages.items()]
    return ", ".join([*parts, f"total;dur={total_s * 1000:.2f}"])


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


def _too_large(bytes_max: int) -> InvalidInput:
    return InvalidInput("body_too_large", f"the body is larger than {bytes_max // 1024} KiB")
