"""What every callback sender must do; a backend's test file subclasses with its `sender` fixture.

The stub endpoints are real servers on 127.0.0.1 (`stub_endpoint.py`), hence `allow_private`.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Literal

import pytest

from tagstitch.core.errors import InvalidInput, NotSent, Unavailable
from tagstitch.pipeline.backend import CallbackAnswer, CallbackSender
from tagstitch.pipeline.deadline import Deadline
from tests.contract.stub_endpoint import StubEndpoint, close_at_once, drip, never, say

HEADERS = {"content-type": "application/json", "webhook-id": "r-1"}


class CallbackSenderContract:
    async def test_the_endpoint_gets_body_and_headers_and_its_status_comes_back(
        self, sender: CallbackSender
    ) -> None:
        with StubEndpoint(say("200 OK", body=b"thanks")) as endpoint:
            answer = await self._post(sender, f"{endpoint.url}/hook?a=b", body="{ü}".encode())

        (request,) = endpoint.requests
        head, _, body = request.partition(b"\r\n\r\n")
        assert answer == CallbackAnswer(200)
        assert body == "{ü}".encode()
        assert head.startswith(b"POST /hook?a=b HTTP/1.1\r\n")
        lines = [line.lower() for line in head.split(b"\r\n")]
        assert b"webhook-id: r-1" in lines
        assert b"content-type: application/json" in lines
        assert b"accept-encoding: identity" in lines
        assert f"host: 127.0.0.1:{endpoint.port}".encode() in lines

    @pytest.mark.parametrize("status", [204, 400, 401, 404, 408, 410, 429, 500, 503])
    async def test_any_status_comes_back(self, sender: CallbackSender, status: int) -> None:
        with StubEndpoint(say(f"{status} Word")) as endpoint:
            assert (await self._post(sender, endpoint.url)).status == status

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
    async def test_it_is_sent_by_the_method_asked_for_and_the_answer_comes_back(
        self, sender: CallbackSender, method: Literal["POST", "PUT", "PATCH"]
    ) -> None:
        with StubEndpoint(say("201 Created", body=b'{"id": 1}')) as endpoint:
            answer = await sender.post(
                endpoint.url,
                headers=HEADERS,
                body=b"{}",
                allow_private=True,
                deadline=Deadline.after(10),
                method=method,
            )

        assert endpoint.requests[0].startswith(method.encode() + b" / HTTP/1.1\r\n")
        assert (answer.status, answer.body) == (201, b'{"id": 1}')

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_a_redirect_is_an_answer_and_not_followed(
        self, sender: CallbackSender, status: int
    ) -> None:
        with StubEndpoint(say("200 OK")) as target:
            redirect = say(f"{status} Moved", f"Location: {target.url}/elsewhere")
            with StubEndpoint(redirect) as endpoint:
                answer = await self._post(sender, endpoint.url)

        assert answer.status == status
        assert target.requests == []

    @pytest.mark.parametrize(
        ("value", "expected"),
        [("7", 7.0), ("0", 0.0), ("-5", None), ("soon", None), ("", None), ("1e400", None)],
    )
    async def test_retry_after_in_seconds(
        self, sender: CallbackSender, value: str, expected: float | None
    ) -> None:
        with StubEndpoint(say("503 Busy", f"Retry-After: {value}")) as endpoint:
            assert await self._post(sender, endpoint.url) == CallbackAnswer(503, expected)

    async def test_retry_after_as_a_date(self, sender: CallbackSender) -> None:
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
        with StubEndpoint(say("429 Slow", f"Retry-After: {date}")) as endpoint:
            answer = await self._post(sender, endpoint.url)

        assert answer.retry_after_s is not None
        assert 60 < answer.retry_after_s <= 100

    @pytest.mark.parametrize(
        "date",
        [
            "Mon, 1 Jan 2030 00:00:00 +99999999999999999",
            "Mon, 1 Jan 2030 99999999999999999999:00:00 GMT",
            "Mon, 1 Jan 99999999999 00:00:00 GMT",
            "Mon, 31 Dec 9999 23:59:59 -2359",
            "Mon, 1 Jan 0001 00:00:00 +2359",
        ],
    )
    async def test_an_impossible_date_is_none_and_the_answer_counts(
        self, sender: CallbackSender, date: str
    ) -> None:
        with StubEndpoint(say("200 OK", f"Retry-After: {date}")) as endpoint:
            assert (await self._post(sender, endpoint.url)).status == 200

    @pytest.mark.parametrize("chunks", [b"zz\r\n", b"-5\r\n", b"f" * 17 + b"\r\nx", b"9" * 5000])
    async def test_chunks_that_cannot_be_read_are_no_answer(
        self, sender: CallbackSender, chunks: bytes
    ) -> None:
        with (
            StubEndpoint(say("200 OK", "Transfer-Encoding: chunked", body=chunks)) as endpoint,
            pytest.raises(Unavailable),
        ):
            await self._post(sender, endpoint.url)

    async def test_cookies_are_not_read(
        self, sender: CallbackSender, recwarn: pytest.WarningsRecorder
    ) -> None:
        """The parser of cookies warns of what it cannot read, on stderr and in its words."""
        cookie = f"Set-Cookie: a=b; max-age={'9' * 400}"
        with StubEndpoint(say("200 OK", cookie)) as endpoint:
            assert (await self._post(sender, endpoint.url)).status == 200

        assert [str(warning.message) for warning in recwarn] == []

    async def test_of_a_huge_answer_only_the_beginning_is_read(
        self, sender: CallbackSender
    ) -> None:
        huge = 64 * 1024 * 1024
        with StubEndpoint(say("200 OK", body_bytes=huge)) as endpoint:
            answer = await self._post(sender, endpoint.url)

        assert answer.status == 200
        assert len(answer.body) <= 64 * 1024
        assert endpoint.sent_bytes < huge / 2

    async def test_a_compressed_answer_is_not_inflated(self, sender: CallbackSender) -> None:
        with StubEndpoint(
            say("200 OK", "Content-Encoding: gzip", body=b"this is no gzip at all")
        ) as endpoint:
            assert (await self._post(sender, endpoint.url)).status == 200

    async def test_a_proxy_of_the_environment_is_ignored(
        self, sender: CallbackSender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with StubEndpoint(say("502 Proxy")) as proxy, StubEndpoint(say("200 OK")) as endpoint:
            for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, proxy.url)
            assert (await self._post(sender, endpoint.url)).status == 200

        assert proxy.requests == []

    # No answer within the deadline

    @pytest.mark.parametrize(
        "behaviour",
        [
            never(),
            drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000, every_s=0.05),
            drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 999, every_s=0.05),
            drip(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1000, every_s=0.05),
        ],
        ids=["never answers", "drips headers", "drips a body", "drips a body without a length"],
    )
    async def test_a_slow_endpoint_is_unavailable_at_the_total_deadline(
        self, sender: CallbackSender, behaviour: object
    ) -> None:
        with StubEndpoint(behaviour) as endpoint:
            started = time.monotonic()
            with pytest.raises(Unavailable) as raised:
                await self._post(sender, endpoint.url, deadline=Deadline.after(0.4))
            elapsed = time.monotonic() - started

        assert 0.3 < elapsed < 5
        assert not (endpoint.requests and isinstance(raised.value, NotSent)), (
            "it may have been done"
        )

    @pytest.mark.parametrize(
        "behaviour",
        [
            close_at_once(),
            close_at_once(reset=True),
            say("not a status line at all"),
            say("200 OK", body=b"short", body_bytes=1000, keep_length=True),
        ],
        ids=["closes", "resets", "speaks no HTTP", "breaks off in the body"],
    )
    async def test_a_broken_answer_is_unavailable(
        self, sender: CallbackSender, behaviour: object
    ) -> None:
        with StubEndpoint(behaviour) as endpoint, pytest.raises(Unavailable) as raised:
            await self._post(sender, endpoint.url)

        assert not isinstance(raised.value, NotSent), "it may have been done"

    async def test_a_closed_port_is_unavailable(self, sender: CallbackSender) -> None:
        with StubEndpoint(say("200 OK")) as endpoint:
            url = endpoint.url

        with pytest.raises(NotSent):
            await self._post(sender, url)

    async def test_a_call_whose_deadline_is_over_is_unavailable_and_sends_nothing(
        self, sender: CallbackSender
    ) -> None:
        with StubEndpoint(say("200 OK")) as endpoint, pytest.raises(NotSent):
            await self._post(sender, endpoint.url, deadline=Deadline.after(-1))

        assert endpoint.requests == []

    async def test_many_slow_endpoints_do_not_hold_up_the_event_loop(
        self, sender: CallbackSender
    ) -> None:
        with StubEndpoint(never()) as endpoint:
            posts = [
                asyncio.create_task(self._post(sender, endpoint.url, deadline=Deadline.after(1)))
                for _ in range(8)
            ]
            started = time.monotonic()
            await asyncio.sleep(0.01)
            assert time.monotonic() - started < 0.9
            results = await asyncio.gather(*posts, return_exceptions=True)

        assert [type(result) for result in results] == [Unavailable] * 8

    # Addresses

    @pytest.mark.parametrize(
        "url",
        ["http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://0.0.0.0:{port}/"],
    )
    async def test_a_private_address_is_refused_for_good(
        self, sender: CallbackSender, url: str
    ) -> None:
        with StubEndpoint(say("200 OK")) as endpoint, pytest.raises(InvalidInput) as raised:
            await sender.post(
                url.format(port=endpoint.port),
                headers=HEADERS,
                body=b"{}",
                allow_private=False,
                deadline=Deadline.after(5),
            )

        assert raised.value.code == "unknown_callback"
        assert endpoint.requests == []

    async def _post(
        self,
        sender: CallbackSender,
        url: str,
        *,
        body: bytes = b"{}",
        deadline: Deadline | None = None,
    ) -> CallbackAnswer:
        return await sender.post(
            url,
            headers=HEADERS,
            body=body,
            allow_private=True,
            deadline=deadline or Deadline.after(10),
        )
