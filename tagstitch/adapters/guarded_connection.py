"""One POST's connection: vetted address, total deadline, TLS names checked as ever."""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from requests import Response
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import Retry

from tagstitch.adapters.address_guard import is_public_address
from tagstitch.adapters.call_progress import CallProgress
from tagstitch.core.errors import InvalidInput
from tagstitch.pipeline.deadline import Deadline

Resolve = Callable[[str, int], Sequence[tuple[Any, ...]]]
"""Host and port -> the tuples of `socket.getaddrinfo`."""


def resolve_name(host: str, port: int) -> Sequence[tuple[Any, ...]]:
    """Return the addresses of a host for TCP."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class GuardedCall:
    """The addresses that one call may dial, and a watchdog that ends it at its deadline.

    `requests` bounds each read, never the whole: a server that drips keeps it busy forever. The
    watchdog shuts the socket down, which looks like an ordinary end of the answer to http.client
    (a truncated header block even parses), so `fired` must turn whatever came out into a time-out.
    """

    def __init__(
        self,
        *,
        deadline: Deadline,
        allow_private: bool,
        resolve: Resolve,
        progress: CallProgress | None = None,
    ) -> None:
        self.progress = progress or CallProgress()
        self._deadline = deadline
        self._allow_private = allow_private
        self._resolve = resolve
        self._lock = threading.Lock()
        self._watched: list[socket.socket] = []
        self._timer = threading.Timer(deadline.remaining_s, self._fire)
        self._timer.daemon = True
        self.fired = False

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        with self._lock:
            for watched in self._watched:
                watched.close()
            self._watched.clear()

    def connect(self, host: str, port: int) -> socket.socket:
        """Return a connection to the host; the name is looked up once, and every address vetted.

        Dialling what was vetted leaves nothing to a second look-up, which a hostile name server
        would answer differently (DNS rebinding). One private address among public ones refuses
        the whole call.
        """
        try:
            found = self._resolve(host, port)
        except UnicodeError:
            raise InvalidInput("unknown_callback", "the callback's host is no name") from None
        if not self._allow_private and not all(is_public_address(item[4][0]) for item in found):
            raise InvalidInput("unknown_callback", "the callback's address is not public")
        failure: OSError = OSError("the callback's host has no address")
        for family, kind, protocol, _, address in found:
            try:
                return self._dial(family, kind, protocol, address)
            except OSError as error:
                failure = error
        raise failure

    def _dial(self, family: int, kind: int, protocol: int, address: Any) -> socket.socket:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(self._deadline.remaining_s)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.connect(address)
            # A duplicate, because TLS detaches the original socket object when it wraps it.
            self._watch(connection.dup())
        except BaseException:
            connection.close()
            raise
        return connection

    def _watch(self, duplicate: socket.socket) -> None:
        with self._lock:
            self._watched.append(duplicate)
            if self.fired:
                _shut_down(duplicate)

    def _fire(self) -> None:
        with self._lock:
            self.fired = True
            for watched in self._watched:
                _shut_down(watched)


class GuardedAdapter(HTTPAdapter):
    """A transport for `requests` whose connections come from one GuardedCall."""

    def __init__(self, call: GuardedCall, ssl_context: Any) -> None:
        self._call = call
        self._ssl_context = ssl_context
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=Retry(0, read=False))

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Make the pools with the shared TLS context, whose CA bundle is loaded once."""
        super().init_poolmanager(*arguments, **options, ssl_context=self._ssl_context)

    def build_response(self, req: Any, resp: Any) -> Response:
        """Return what is read of an answer; its cookies are not, whatever they hold."""
        response = Response()
        response.request, response.raw, response.status_code = req, resp, resp.status
        response.headers = CaseInsensitiveDict(resp.headers)
        return response

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Require a certificate for the host's name; the context already holds the CA bundle."""
        del url, verify, cert
        conn.cert_reqs = "CERT_REQUIRED"

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        """Return the pool for a request, dialling through the guard."""
        pool: Any = super().get_connection_with_tls_context(*arguments, **options)
        kind = _GuardedHTTPS if pool.scheme == "https" else _GuardedHTTP
        pool.ConnectionCls = functools.partial(kind, guarded_call=self._call)
        return pool


class _GuardedHTTP(HTTPConnection):
    def __init__(self, *arguments: Any, guarded_call: GuardedCall, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._guarded_call = guarded_call

    def _new_conn(self) -> socket.socket:
        return self._guarded_call.connect(self._dns_host, self.port)

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()  # what fails here has sent nothing
        self._guarded_call.progress.begin_to_send()
        super().send(data)


class _GuardedHTTPS(HTTPSConnection):
    def __init__(self, *arguments: Any, guarded_call: GuardedCall, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._guarded_call = guarded_call

    def _new_conn(self) -> socket.socket:
        return self._guarded_call.connect(self._dns_host, self.port)

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()  # what fails here has sent nothing
        self._guarded_call.progress.begin_to_send()
        super().send(data)


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the peer may have closed it a moment ago
        connection.shutdown(socket.SHUT_RDWR)
