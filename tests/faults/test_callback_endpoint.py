"""A callback endpoint drips, bombs, redirects, resets or lies: what becomes of the callback, and when.

The link is made in every case: what happens at the endpoint delays and loses nothing else.
"""

from __future__ import annotations

import datetime as dt
import gzip
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from tagstitch.adapters.requests_callbacks import RequestsCallbackSender
from tagstitch.core.callback import CallbackEndpoint
from tagstitch.core.errors import NotSent, Unavailable
from tagstitch.pipeline import deliver
from tagstitch.pipeline.backend import CallbackAnswer
from tagstitch.pipeline.deadline import Deadline
from tests.contract.stub_endpoint import (
    Behaviour,
    StubEndpoint,
    close_at_once,
    drip,
    never,
    say,
)
from tests.faults import bad_ports
from tests.faults.certificates import Authority
from tests.faults.timing import within
from tests.pipeline.world import MAIN, World

ATTEMPT_S = 1.0
"""Seconds of an attempt in these tests, five otherwise."""

End = Literal["delivered", "again", "dead letter"]


def endless(beginning: bytes, part: bytes) -> Behaviour:
    """Send the beginning and then the part, without end and as fast as it is taken."""

    def behave(endpoint: StubEndpoint, connection: socket.socket) -> None:
        endpoint.send(connection, beginning)
        while not endpoint.closing.is_set():
            endpoint.send(connection, part)

    return behave


def blurt(answer: bytes) -> Behaviour:
    """Send this and close."""
    return lambda endpoint, connection: endpoint.send(connection, answer)


def break_off(beginning: bytes) -> Behaviour:
    """Send the beginning of an answer and reset the connection."""
    reset = close_at_once(reset=True)

    def behave(endpoint: StubEndpoint, connection: socket.socket) -> None:
        endpoint.send(connection, beginning)
        reset(endpoint, connection)

    return behave


@dataclass(frozen=True)
class Fault:
    behaviour: Behaviour
    end: End
    waits: bool = False
    """Whether it takes all of the attempt's time, and not less."""


OK = b"HTTP/1.1 200 OK\r\n"
FAULTS: dict[str, Fault] = {
    "never answers": Fault(never(), "again", waits=True),
    "drips its headers": Fault(drip(OK + b"X-Slow: " + b"x" * 9999, every_s=0.02), "again", True),
    "drips its body": Fault(
        drip(OK + b"Content-Length: 9999\r\n\r\n" + b"x" * 9999, every_s=0.02), "again", True
    ),
    "drips chunks": Fault(
        drip(OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 999, every_s=0.02),
        "again",
        True,
    ),
    "sends headers without end": Fault(endless(OK, b"X-More: more\r\n" * 999), "again"),
    "sends one header without end": Fault(endless(OK + b"X-Long: ", b"x" * 65536), "again"),
    "says Continue without end": Fault(
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 99), "again", True
    ),
    "sends a body without end": Fault(endless(OK + b"\r\n", bytes(65536)), "delivered"),
    "sends chunks without end": Fault(
        endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 999), "delivered"
    ),
    "sends the length of a chunk without end": Fault(
        endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 65536), "again"
    ),
    "sends a compressed bomb": Fault(
        say("200 OK", "Content-Encoding: gzip", body=gzip.compress(bytes(32_000_000))), "delivered"
    ),
    "closes": Fault(close_at_once(), "again"),
    "resets": Fault(close_at_once(reset=True), "again"),
    "resets within its headers": Fault(break_off(OK + b"X-Half:"), "again"),
    "resets within its body": Fault(break_off(OK + b"Content-Length: 9\r\n\r\nx"), "again"),
    "speaks no HTTP": Fault(blurt(b"220 mail.example ESMTP\r\n\r\n"), "again"),
    "answers another protocol": Fault(blurt(b"\x15\x03\x01\x00\x02\x02\x28"), "again"),
    "is too slow": Fault(say("408 Slow"), "again"),
    "has too many": Fault(say("429 Many", "Retry-After: 30"), "again"),
    "has an error": Fault(say("500 Oops"), "again"),
    "has nobody behind it": Fault(say("502 Gone"), "again"),
    "is busy": Fault(say("503 Busy", "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT"), "again"),
    "hears nobody behind it": Fault(say("504 Late"), "again"),
    "refuses": Fault(say("400 No"), "dead letter"),
    "knows us not": Fault(say("401 Who"), "dead letter"),
    "knows no such path": Fault(say("404 Where"), "dead letter"),
    "is gone": Fault(say("410 Gone"), "dead letter"),
    "redirects to itself": Fault(say("307 Here", "Location: /hook"), "dead letter"),
    "redirects to the metadata server": Fault(
        say("302 There", "Location: http://169.254.169.254/computeMetadata/v1/"), "dead letter"
    ),
    "redirects to a file": Fault(say("301 There", "Location: file:///etc/passwd"), "dead letter"),
}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The pipeline's world, whose callbacks leave by HTTP."""
    monkeypatch.setattr(deliver, "CALLBACK_DEADLINE_S", ATTEMPT_S)
    world = World(tmp_path)
    sender = RequestsCallbackSender()
    world.backend = replace(world.backend, callbacks=sender)
    world.restart()
    yield world
    sender.close()
    world.database.close()


def register(world: World, **urls: str) -> None:
    """Make these the endpoints that callbacks can be sent to."""
    world.endpoints = {
        name: CallbackEndpoint(
            id=name, url=url, secret=MAIN.secret, attributes=MAIN.attributes, allow_private=True
        )
        for name, url in urls.items()
    }
    world.delivery = world.callback_delivery()


def message(request_id: str = "r1", callback: str = "main") -> dict[str, Any]:
    return {
        "request_id": request_id,
        "identifiers": [{"type": "client_id", "value": "1294673677.1747154479"}],
        "callback": callback,
    }


async def end_of(world: World) -> End:
    """What became of the one callback."""
    assert len(await world.paths("profiles")) == 1, "the link does not wait for the endpoint"
    assert len(await world.paths("outbox")) == 1
    if world.published.get("dead-letter"):
        assert not world.published.get("actions")
        return "dead letter"
    await world.store_audit()
    is_delivered = any(row["outcome"] == "delivered" for row in await world.rows())
    assert is_delivered != bool(world.published.get("actions"))
    return "delivered" if is_delivered else "again"


class TestFaults:
    @pytest.mark.parametrize("name", FAULTS)
    async def test_it_ends_in_time_and_as_it_should(self, world: World, name: str) -> None:
        fault = FAULTS[name]
        with StubEndpoint(fault.behaviour) as endpoint:
            register(world, main=f"{endpoint.url}/hook")
            with within(ATTEMPT_S, at_least=ATTEMPT_S * 0.8 if fault.waits else 0):
                await world.stitch(message())

        assert await end_of(world) == fault.end
        assert len(endpoint.requests) == 1

    async def test_a_closed_port_is_tried_again(self, world: World) -> None:
        async with bad_ports.closed() as port:
            register(world, main=f"http://127.0.0.1:{port}/")
            with within(0):
                await world.stitch(message())

        assert await end_of(world) == "again"

    async def test_a_black_hole_is_left_at_the_deadline_and_tried_again(self, world: World) -> None:
        async with bad_ports.black_hole() as port:
            register(world, main=f"http://127.0.0.1:{port}/")
            with within(ATTEMPT_S, at_least=ATTEMPT_S * 0.8):
                await world.stitch(message())

        assert await end_of(world) == "again"

    async def test_no_connection_is_used_twice(self) -> None:
        left: list[bytes] = []

        def keep_alive(endpoint: StubEndpoint, connection: socket.socket) -> None:
            endpoint.send(connection, OK + b"Connection: keep-alive\r\nContent-Length: 0\r\n\r\n")
            left.append(connection.recv(65536))

        sender = RequestsCallbackSender()
        with StubEndpoint(keep_alive) as endpoint:
            for _ in range(3):
                await sender.post(
                    endpoint.url,
                    headers={},
                    body=b"{}",
                    allow_private=True,
                    deadline=Deadline.after(20),
                )
        sender.close()

        assert len(endpoint.requests) == 3
        assert left == [b"", b"", b""], "each connection ends with its answer"


HOST = "callback.example"
LONG_AGO, YESTERDAY, TOMORROW, LATER = (dt.timedelta(days=days) for days in (-30, -1, 1, 30))

TRUSTED: dict[str, tuple[dict[str, Any], bool]] = {
    "right": ({"host": HOST}, True),
    "expired": ({"host": HOST, "begins": LONG_AGO, "ends": YESTERDAY}, False),
    "not valid yet": ({"host": HOST, "begins": TOMORROW, "ends": LATER}, False),
    "of another name": ({"host": "other.example"}, False),
    "of a name below": ({"host": f"www.{HOST}"}, False),
    "signed by itself": ({"host": HOST, "is_self_signed": True}, False),
}


class TestCertificates:
    @pytest.mark.parametrize("name", TRUSTED)
    async def test_nothing_is_sent_to_whom_no_certificate_vouches_for(
        self, tmp_path: Path, name: str
    ) -> None:
        options, is_trusted = TRUSTED[name]
        authority = Authority.create(tmp_path)
        context = authority.server(**options)

        with StubEndpoint(
            say("200 OK"), wrap=lambda connection: context.wrap_socket(connection, server_side=True)
        ) as endpoint:

            def resolve(_host: str, _port: int) -> Sequence[tuple[Any, ...]]:
                address = ("127.0.0.1", endpoint.port)
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)]

            sender = RequestsCallbackSender(resolve=resolve, ca_file=str(authority.ca_file))
            post = sender.post(
                f"https://{HOST}/",
                headers={},
                body=b"{}",
                allow_private=True,
                deadline=Deadline.after(20),
            )
            with within(0):
                if is_trusted:
                    assert await post == CallbackAnswer(200)
                else:
                    with pytest.raises(NotSent):
                        await post
            sender.close()

        assert len(endpoint.requests) == int(is_trusted)

    async def test_a_server_that_speaks_no_tls_gets_nothing(self, tmp_path: Path) -> None:
        authority = Authority.create(tmp_path)
        async with bad_ports.serving(bad_ports.answer_in_another_language) as port:

            def resolve(_host: str, _port: int) -> Sequence[tuple[Any, ...]]:
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

            sender = RequestsCallbackSender(resolve=resolve, ca_file=str(authority.ca_file))
            with within(0), pytest.raises(NotSent):
                await sender.post(
                    f"https://{HOST}/",
                    headers={},
                    body=b"{}",
                    allow_private=True,
                    deadline=Deadline.after(20),
                )
            sender.close()


class TestHours:
    """One endpoint is dead for three hours, beside one that lives."""

    async def test_the_living_one_gets_everything_and_the_dead_one_is_hardly_asked(
        self, world: World
    ) -> None:
        with StubEndpoint(say("200 OK")) as living, StubEndpoint(say("503 Down")) as dead:
            register(world, living=living.url, dead=dead.url)
            for number in range(36):
                await world.stitch(message(f"living{number}", "living"))
                await world.stitch(message(f"dead{number}", "dead"))
                await self._pass_five_minutes(world)
            asked_while_dead = len(dead.requests)
            dead._behaviour = say("200 OK")
            await world.stitch(message("last", "dead"))
            await self._pass_five_minutes(world)
            await self._pass_five_minutes(world)

        assert len(living.requests) == 36
        # Without a breaker each of the 36 is tried seven times.
        assert asked_while_dead < 3 * 36
        await world.store_audit()
        outcomes = [
            (row["request_id"].rstrip("0123456789"), row["outcome"])
            for row in await world.rows()
            if row["record_type"] == "callback_delivery"
        ]
        assert outcomes.count(("living", "delivered")) == 36
        assert outcomes.count(("dead", "expired")) + outcomes.count(("dead", "delivered")) == 36
        assert outcomes.count(("dead", "expired")) >= 34
        assert ("last", "delivered") in outcomes
        assert len(outcomes) == 73, "each has one end"

    async def _pass_five_minutes(self, world: World) -> None:
        """Deliver what waits in topic `actions` every ten seconds, as Pub/Sub's backoff does."""
        waiting = [action["outbox_id"] for action in world.published.pop("actions", [])]
        for _ in range(30):
            world.now += dt.timedelta(seconds=10)
            left = []
            for outbox_id in waiting:
                try:
                    await world.act(outbox_id)
                except Unavailable:
                    left.append(outbox_id)
            waiting = left
        world.published.setdefault("actions", []).extend({"outbox_id": one} for one in waiting)
