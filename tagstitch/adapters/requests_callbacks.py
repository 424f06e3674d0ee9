"""Requests to registered endpoints, by `requests` in threads; both backends use it."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from tagstitch import __version__
from tagstitch.adapters.call_progress import CallProgress
from tagstitch.core.errors import InvalidInput, NotSent, Unavailable
from tagstitch.pipeline.backend import CallbackAnswer
from tagstitch.pipeline.deadline import Deadline

if TYPE_CHECKING:
    import ssl

    import requests

    from tagstitch.adapters.guarded_connection import GuardedCall, Resolve

_THREADS: Final = 32
_ANSWER_BYTES_MAX: Final = 64 * 1024
_RETRY_AFTER_DIGITS_MAX: Final = 9


class RequestsCallbackSender:
    """CallbackSender with a bounded number of threads.

    Each call has a connection of its own: no proxy, no redirect, no cookie, nothing inflated, and
    a total deadline.
    """

    def __init__(self, *, resolve: Resolve | None = None, ca_file: str | None = None) -> None:
        self._resolve = resolve
        self._ca_file = ca_file
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="callback")

    async def post(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        allow_private: bool,
        deadline: Deadline,
        method: Literal["POST", "PUT", "PATCH"] = "POST",
    ) -> CallbackAnswer:
        """Return the answer's status."""
        if not allow_private and urlsplit(url).scheme != "https":
            raise InvalidInput("unknown_callback", "the callback's URL must start with https://")
        if deadline.is_over:
            raise NotSent("callback", "deadline")
        progress = CallProgress()
        request = _Request(method, url, {**_OWN_HEADERS, **headers}, body)
        call = partial(self._send, request, allow_private, deadline, progress)
        try:
            # The watchdog ends what runs; this also ends waiting for a thread or a name server.
            async with asyncio.timeout(deadline.remaining_s):
                return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except TimeoutError:
            kind = Unavailable if progress.abandon() else NotSent
            raise kind("callback", "deadline") from None

    def close(self) -> None:
        """Let the threads go; calls that run end at their deadlines."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _send(
        self,
        request: _Request,
        allow_private: bool,  # noqa: FBT001 - bound by name in `post`, passed on by position
        deadline: Deadline,
        progress: CallProgress,
    ) -> CallbackAnswer:
        import requests
        import urllib3

        from tagstitch.adapters.guarded_connection import GuardedCall, resolve_name

        resolve = self._resolve or resolve_name
        call = GuardedCall(
            deadline=deadline, allow_private=allow_private, resolve=resolve, progress=progress
        )
        with call:
            try:
                answer = self._exchange(call, request, deadline)
            except (
                requests.exceptions.InvalidURL,
                requests.exceptions.MissingSchema,
                requests.exceptions.InvalidSchema,
            ):
                raise InvalidInput("unknown_callback", "the callback's URL is no URL") from None
            except (
                requests.RequestException,
                urllib3.exceptions.HTTPError,
                OSError,
                ValueError,  # a chunk of negative length, for one
            ) as error:
                # The texts of these errors quote the URL; their class is enough.
                detail = "deadline" if call.fired else type(error).__name__
                raise (Unavailable if progress.has_sent else NotSent)("callback", detail) from None
        if call.fired or deadline.is_over:
            raise Unavailable("callback", "deadline")
        return answer

    def _exchange(self, call: GuardedCall, sent: _Request, deadline: Deadline) -> CallbackAnswer:
        import requests

        from tagstitch.adapters.guarded_connection import GuardedAdapter

        # Without a Session there is nothing to switch off: no proxies and no credentials of the
        # environment, no redirects, no cookies. It would also cost as much as the call itself.
        request = requests.Request(sent.method, sent.url, headers=sent.headers, data=sent.body)
        adapter = GuardedAdapter(call, self._ssl_context)
        with (
            contextlib.closing(adapter),
            adapter.send(request.prepare(), stream=True, timeout=deadline.remaining_s) as response,
        ):
            body = _read_bounded(response)
            retry_after_s = _parse_retry_after(response.headers.get("Retry-After"))
            return CallbackAnswer(response.status_code, retry_after_s, body)

    @cached_property
    def _ssl_context(self) -> ssl.SSLContext:
        from certifi import where
        from urllib3.util.ssl_ import create_urllib3_context

        context = create_urllib3_context()
        context.load_verify_locations(self._ca_file or where())
        return context


_OWN_HEADERS = {
    "User-Agent": f"tagstitch/{__version__}",
    "Accept-Encoding": "identity",
    "Connection": "close",
}


class _Request(NamedTuple):
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


def _read_bounded(response: requests.Response) -> bytes:
    """Read the answer's beginning as it came, so that a short answer ends in an ordinary close."""
    body = b""
    while len(body) < _ANSWER_BYTES_MAX and (
        chunk := response.raw.read(_ANSWER_BYTES_MAX - len(body), decode_content=False)
    ):
        body += chunk
    return body


def _parse_retry_after(value: str | None) -> float | None:
    """Return seconds from now (RFC 9110, section 10.2.3), None for what says neither form."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit() and len(text) <= _RETRY_AFTER_DIGITS_MAX:
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        wait_s = (date - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):  # numbers of any size: an endpoint may say anything
        return None
    return max(0.0, math.floor(wait_s))
