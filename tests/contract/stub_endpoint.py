"""A callback endpoint on 127.0.0.1 that behaves as badly as a test wants."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any, Self

Behaviour = Callable[["StubEndpoint", socket.socket], None]


def say(
    status: str,
    *headers: str,
    body: bytes = b"",
    body_bytes: int | None = None,
    keep_length: bool = False,
) -> Behaviour:
    """Answer at once; `body_bytes` without `body` sends that many zeros.

    With `keep_length` the header announces `body_bytes` and only `body` follows.
    """
    length = body_bytes if body_bytes is not None else len(body)
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {length}", "Connection: close"]
    head = "\r\n".join([*lines, "", ""]).encode()

    def answer(endpoint: StubEndpoint, connection: socket.socket) -> None:
        endpoint.send(connection, head + body)
        if body_bytes is not None and not keep_length:
            for _ in range(body_bytes // 65536):
                endpoint.send(connection, bytes(65536))

    return answer


def drip(answer: bytes, *, every_s: float) -> Behaviour:
    """Send one byte at a time."""

    def behave(endpoint: StubEndpoint, connection: socket.socket) -> None:
        for n in range(len(answer)):
            endpoint.send(connection, answer[n : n + 1])
            if endpoint.closing.wait(every_s):
                return

    return behave


def never() -> Behaviour:
    """Take the request and say nothing."""
    return lambda endpoint, _: void(endpoint.closing.wait(30))


def close_at_once(*, reset: bool = False) -> Behaviour:
    """Close the connection without a word, with RST instead of FIN on `reset`."""

    def behave(_: StubEndpoint, connection: socket.socket) -> None:
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return behave


def void(_: object) -> None:
    """Drop a result."""


class StubEndpoint:
    """A server with one behaviour; `requests` holds what came in."""

    def __init__(self, behaviour: Any, wrap: Any = None) -> None:
        self._behaviour: Behaviour = behaviour
        self._wrap = wrap
        self._threads: list[threading.Thread] = []
        self.requests: list[bytes] = []
        self.sent_bytes = 0
        self.closing = threading.Event()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def send(self, connection: socket.socket, data: bytes) -> None:
        connection.sendall(data)
        self.sent_bytes += len(data)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed at the end of the test
            while True:
                self._start(self._serve, self._listener.accept()[0])

    def _serve(self, connection: socket.socket) -> None:
        # The client hangs up when it has enough: that is what several tests want.
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            with self._wrap(connection) if self._wrap else connection as wrapped:
                self.requests.append(_read_request(wrapped))
                self._behaviour(self, wrapped)


def _read_request(connection: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(65536) or _broken()
    head, _, body = request.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    )
    while len(body) < length:
        body += connection.recv(65536) or _broken()
    return head + b"\r\n\r\n" + body


def _broken() -> bytes:
    raise ConnectionResetError
