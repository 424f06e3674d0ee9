"""Server-sent events: a browser listens to the messages of its own visitor.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from datetime import datetime
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tagstitch.adapters.http_request import error_response
from tagstitch.core.errors import InvalidInput, Unavailable
from tagstitch.core.fields import is_request_id
from tagstitch.pipeline.log_events import PushStreamBroken, PushStreamCrashed, log, log_crash
from tagstitch.pipeline.push_inbox import PushListener, PushMessage
from tagstitch.pipeline.push_token import PushTokens

_HEARTBEAT_EVERY: Final = 15
"""Looks without a message after which a comment keeps proxies from closing the line."""

_RECONNECT_MS: Final = 2_000

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # a proxy that gathers the answer would hold messages back
}


def push_response(
    request: Request,
    tokens: PushTokens,
    listener: PushListener,
    *,
    origins: Collection[str] = (),
) -> Response:
    """Return the stream of `?token=…`; `after`, or the header, names the last message seen.

    Pages of other origins than those listed are not told that they may read it.
    """
    headers = {"Vary": "Origin"}
    origin = request.headers.get("origin")
    if origin is not None and origin in origins:
        headers["Access-Control-Allow-Origin"] = origin
    try:
        profile_id, until = tokens.read(request.query_params.get("token", ""))
    except InvalidInput as error:
        response, _ = error_response(error)
        response.headers.update(headers)
        return response
    after = request.headers.get("last-event-id") or request.query_params.get("after")
    events = _events(
        listener, profile_id, until=until, after=after if is_request_id(after) else None
    )
    return StreamingResponse(
        events, media_type="text/event-stream", headers={**headers, **_HEADERS}
    )


async def _events(
    listener: PushListener, profile_id: str, *, until: datetime, after: str | None
) -> AsyncIterator[bytes]:
    yield b"retry: %d\n\n" % _RECONNECT_MS
    silent = 0
    try:
        async for messages in listener.listen(profile_id, until=until, after=after):
            for message in messages:
                yield _event(message)
            silent = 0 if messages else silent + 1
            if silent >= _HEARTBEAT_EVERY:
                silent = 0
                yield b":\n\n"
    except Unavailable as error:  # the browser comes again by itself
        log(PushStreamBroken(why=str(error)))
        return
    except Exception as error:  # noqa: BLE001 - the server's own trace of it would quote its text
        log_crash(PushStreamCrashed(), error)
        return
    yield b"event: end\ndata: {}\n\n"


def _event(message: PushMessage) -> bytes:
    data = msgspec.json.encode({"channel": message.channel, "payload": message.payload})
    return b"id: %s\ndata: %s\n\n" % (message.message_id.encode(), data)
