"""The endpoints of callbacks and actions: they keep what they received and how they answered."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.end_to_end.stub_sgtm import SECRET, is_signed


@dataclass(frozen=True, slots=True)
class Received:
    """One request, and the answer to it."""

    at: float
    endpoint: str
    webhook_id: str
    is_signed: bool
    body: dict[str, Any]
    status: int


class Receiver:
    """A server on 127.0.0.1.

    `main` and `warehouse` take everything, `flaky` refuses the first attempt of every second
    callback as busy, `strict` refuses everything for good until it is mended.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.is_mended = False
        self._attempts: Counter[str] = Counter()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = receiver.take(self.path.strip("/"), headers, body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_args: Any) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 256

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def settings(self) -> dict[str, str]:
        """The settings that name the endpoints."""
        url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        callbacks = [
            {"id": name, "url": url + name, "secret": SECRET, "attributes": ["*"],
             "allow_private": True}
            for name in ("main", "flaky", "strict")
        ]  # fmt: skip
        warehouse = {
            "id": "warehouse", "type": "webhook", "url": url + "warehouse",
            "auth": {"kind": "signature", "secret": SECRET}, "allow_private": True,
        }  # fmt: skip
        return {
            "TAGSTITCH_CALLBACKS": json.dumps(callbacks),
            "TAGSTITCH_DESTINATIONS": json.dumps([warehouse]),
        }

    def take(self, endpoint: str, headers: dict[str, str], body: bytes) -> int:
        """Keep a request and return the status of its answer."""
        signed = is_signed(headers, body)
        webhook_id = headers.get("webhook-id", "")
        self._attempts[webhook_id] += 1
        status = 200 if signed else 401
        if endpoint == "flaky" and self._attempts[webhook_id] == 1 and _is_odd(webhook_id):
            status = 503
        if endpoint == "strict" and not self.is_mended:
            status = 404
        self.received.append(
            Received(time.time(), endpoint, webhook_id, signed, json.loads(body), status)
        )
        return status


def _is_odd(text: str) -> bool:
    return bool(hashlib.sha256(text.encode()).digest()[0] % 2)
