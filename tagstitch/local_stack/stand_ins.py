"""What stands in for the world around the functions: an sGTM endpoint, and GA4."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Final

import httpx
import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tagstitch.adapters.http_request import error_response
from tagstitch.adapters.settings import Settings
from tagstitch.core.errors import InvalidInput
from tagstitch.core.limits import CALLBACK_BODY_BYTES_MAX
from tagstitch.local_stack.live_feed import LiveFeed, shown_name
from tagstitch.local_stack.received_callbacks import ReceivedCallbacks
from tagstitch.local_stack.simulated_container import CALLBACK_PATH, SimulatedContainer
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.webhook_signature import verify_signature

GA4_PATH: Final = "/_local/ga4"

_KEEP_S: Final = 30.0
_RELAY_S: Final = 5.0
_OF_THE_CONNECTION: Final = frozenset({"host", "content-length", "connection", "accept-encoding"})


class StandIns:
    """Endpoints that the functions and the simulated container send to, and the live feed."""

    def __init__(
        self, settings: Settings, feed: LiveFeed, container: SimulatedContainer | None
    ) -> None:
        self._settings = settings
        self._feed = feed
        self._container = container
        self.callbacks: ReceivedCallbacks

    async def receive_callback(self, request: Request) -> Response:
        """Stand in for an sGTM endpoint: check the signature, keep what came, pass it on."""
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > CALLBACK_BODY_BYTES_MAX:
                return _refusal(InvalidInput("body_too_large", "a callback has at most 64 KiB"))
        headers = dict(request.headers)
        secrets = [
            secret for endpoint in self._settings.callbacks for secret in endpoint.secret.split()
        ]
        valid = verify_signature(headers, body, secrets) is not None
        await self.callbacks.add(
            request.url.path, headers, body, signature_valid=valid, deadline=Deadline.after(_KEEP_S)
        )
        if not valid:
            self._feed.add("callback", "refused", "its signature is not valid")
            return _refusal(InvalidInput("unauthorized", "the signature is not valid"))
        self._feed.add("callback", _type_of(body), await self._pass_on(headers, body))
        answer = msgspec.json.encode({"acknowledged": headers.get("webhook-id")})
        return Response(answer, media_type="application/json")

    async def _pass_on(self, headers: Mapping[str, str], body: bytes) -> str:
        """Give a callback to the simulated container, and say what became of it."""
        if self._container is None or self._container.url is None:
            return "kept"
        passed = {name: text for name, text in headers.items() if name not in _OF_THE_CONNECTION}
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=_RELAY_S) as client:
                answer = await client.post(
                    self._container.url + CALLBACK_PATH, content=body, headers=passed
                )
        except httpx.HTTPError:
            return "kept, the container did not answer"
        return f"kept, the container answered {answer.status_code}"

    async def receive_hit(self, request: Request) -> Response:
        """Stand in for GA4: whatever the container sends is fine, and nothing of it is kept."""
        self._feed.add("sent", shown_name(request.query_params.get("en")), "to the GA4 stand-in")
        return Response(status_code=204)

    async def listen(self, request: Request) -> Response:
        """Answer what happens from now on, as JSON Lines that do not end."""
        del request
        return StreamingResponse(
            self._happenings(),
            media_type="application/x-ndjson",
            headers={"Cache-Control": "no-store"},
        )

    async def _happenings(self) -> AsyncIterator[bytes]:
        with self._feed.listening() as lines:
            yield b"\n"  # says that the feed is listened to: what happens now is heard
            async for line in lines:
                yield msgspec.json.encode(line) + b"\n"


def _type_of(body: bytes) -> str:
    try:
        return shown_name(msgspec.json.decode(body)["type"])
    except (msgspec.DecodeError, TypeError, KeyError):
        return shown_name(None)


def _refusal(error: Exception) -> Response:
    response, _ = error_response(error)
    return response
