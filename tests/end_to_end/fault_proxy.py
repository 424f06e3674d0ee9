"""A TCP proxy that fails in every way a service can: gone, silent, slow."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Literal, Self

Mode = Literal["open", "closed", "silent", "slow"]

SLOW_S = 3.0
"""Seconds that each answer waits when the service is slow: above the deadlines that callers see."""

_CHUNK = 65_536
_STEP_S = 0.02


@dataclass(eq=False)
class _Link:
    """One client's connection and ours to the service, None when it was made to be ignored."""

    client: socket.socket
    service: socket.socket | None
    held: list[tuple[float, bytes]] = field(default_factory=list)

    def close(self) -> None:
        # A reset, as from a machine that is back and knows nothing of the connection.
        for each in (self.client, self.service):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()


class FaultProxy:
    """Forwards one port to a service until it is told otherwise; always on the same port.

    `closed` refuses connections and ends the open ones. `silent` takes connections and bytes and
    never answers, on the open ones either; what was connected then stays dead after the service
    is back, as behind a router that lost its state, until the client gives it up. `slow` holds
    each answer back for SLOW_S.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self._mode: Mode = "open"
        self._links: list[_Link] = []
        self._commands: list[Mode] = []
        self._done = threading.Event()
        self._applied = threading.Condition()
        self._listener: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.port: int = self._reserved.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._reserved.close()

    def become(self, mode: Mode) -> None:
        """Change what the service does, and return once it is so."""
        with self._applied:
            self._commands.append(mode)
            assert self._applied.wait_for(lambda: not self._commands, timeout=10)

    def _run(self) -> None:
        self._listen()
        while not self._done.is_set():
            self._take_commands()
            self._pump()
        self._close_listener()
        for link in self._links:
            link.close()

    def _take_commands(self) -> None:
        with self._applied:
            for mode in self._commands:
                self._apply(mode)
            self._commands.clear()
            self._applied.notify_all()

    def _apply(self, mode: Mode) -> None:
        if mode == "closed":
            self._close_listener()
            for link in self._links:
                link.close()
            self._links.clear()
        elif self._listener is None:
            self._listen()
        if mode == "silent":
            for link in self._links:
                if link.service is not None:
                    link.service.close()
                    link.service = None
        self._mode = mode

    def _listen(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(64)

    def _close_listener(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def _pump(self) -> None:
        """Move what can be moved now."""
        with selectors.DefaultSelector() as selector:
            if self._listener is not None:
                selector.register(self._listener, selectors.EVENT_READ)
            for link in self._links:
                selector.register(link.client, selectors.EVENT_READ, (link, False))
                if link.service is not None:
                    selector.register(link.service, selectors.EVENT_READ, (link, True))
            for key, _ in selector.select(_STEP_S):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    link, is_answer = key.data
                    self._move(link, is_answer=is_answer)
        now = time.monotonic()
        for link in list(self._links):
            while link.held and link.held[0][0] <= now:
                self._send(link, link.client, link.held.pop(0)[1])

    def _accept(self) -> None:
        assert self._listener is not None
        client, _ = self._listener.accept()
        if self._mode == "silent":
            self._links.append(_Link(client, None))
            return
        try:
            service = socket.create_connection(self._target, timeout=5)
        except OSError:
            client.close()
            return
        for each in (client, service):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._links.append(_Link(client, service))

    def _move(self, link: _Link, *, is_answer: bool) -> None:
        source = link.service if is_answer else link.client
        if source is None or link not in self._links:
            return
        try:
            data = source.recv(_CHUNK)
        except OSError:
            data = b""
        if not data:
            self._links.remove(link)
            link.close()
        elif is_answer and self._mode == "slow":
            link.held.append((time.monotonic() + SLOW_S, data))
        elif is_answer:
            self._send(link, link.client, data)
        elif link.service is not None:
            self._send(link, link.service, data)

    def _send(self, link: _Link, target: socket.socket, data: bytes) -> None:
        try:
            target.sendall(data)
        except OSError:
            if link in self._links:
                self._links.remove(link)
            link.close()
