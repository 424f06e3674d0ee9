"""Who may ask the local stack: programs of this machine, never a web page from elsewhere.

The stack has no authentication. A page that the developer happens to visit could post to it, or
have its own name resolve to 127.0.0.1 and read the answers too (DNS rebinding).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tagstitch.adapters.http_request import error_response
from tagstitch.core.errors import InvalidInput

_LOOPBACK: Final = r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?"
_HOST: Final = re.compile(_LOOPBACK, re.IGNORECASE)
_ORIGIN: Final = re.compile(r"https?://" + _LOOPBACK, re.IGNORECASE)


class LoopbackOnly:
    """Refuses requests whose Host, or Origin where there is one, is not this machine."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request from this machine; answer 400 to any other."""
        fault = _fault(Headers(scope=scope)) if scope["type"] == "http" else None
        if fault is None:
            await self._app(scope, receive, send)
        else:
            response, _ = error_response(fault)
            await response(scope, receive, send)


def _fault(headers: Mapping[str, str]) -> InvalidInput | None:
    hint = "ask for 127.0.0.1 or localhost, from there"
    if not _HOST.fullmatch(headers.get("host", "")):
        return InvalidInput("invalid_field", "not a name of this machine", "Host", hint)
    origin = headers.get("origin")
    if origin is not None and not _ORIGIN.fullmatch(origin):
        return InvalidInput("invalid_field", "not a page of this machine", "Origin", hint)
    return None
