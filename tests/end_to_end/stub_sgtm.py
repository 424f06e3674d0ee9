"""A stand-in for the sGTM endpoint: keeps what it received and whether the signature was right."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from standardwebhooks import Webhook, WebhookVerificationError

SECRET = "whsec_dGhpcnR5LXR3byBieXRlcyBvZiBzZWNyZXQgZm9yIGEgdGVzdA=="


@dataclass(frozen=True, slots=True)
class Callback:
    webhook_id: str | None
    is_signed: bool
    body: dict[str, Any]

    @property
    def request_id(self) -> str:
        return str(self.body["data"]["request_id"])


class StubSgtm:
    """A server on 127.0.0.1; `callbacks` are in the order of their arrival."""

    def __init__(self) -> None:
        self.callbacks: list[Callback] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                callback = _read(dict(self.headers.items()), body)
                stub.callbacks.append(callback)
                self.send_response(200 if callback.is_signed else 401)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def setting(self) -> str:
        """The value of TAGSTITCH_CALLBACKS that names this endpoint `main`."""
        endpoint = {
            "id": "main",
            "url": f"http://127.0.0.1:{self._server.server_address[1]}/callback",
            "secret": SECRET,
            "attributes": ["*"],
            "allow_private": True,
        }
        return json.dumps([endpoint])

    def of(self, request_id: str) -> list[Callback]:
        return [each for each in list(self.callbacks) if each.request_id == request_id]

    def wait_for(self, request_id: str, seconds: float = 30) -> Callback:
        end = time.monotonic() + seconds
        while not (found := self.of(request_id)):
            assert time.monotonic() < end, "no callback came"
            time.sleep(0.02)
        return found[0]


def _read(headers: dict[str, str], body: bytes) -> Callback:
    lower = {name.lower(): value for name, value in headers.items()}
    return Callback(lower.get("webhook-id"), is_signed(lower, body), json.loads(body))


def is_signed(headers: dict[str, str], body: bytes) -> bool:
    """Check as a receiver does, with the specification's own library; names are in lower case."""
    try:
        Webhook(SECRET).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True
