from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tagstitch.adapters.address_guard import is_public_address
from tagstitch.adapters.requests_callbacks import RequestsCallbackSender
from tagstitch.core.errors import InvalidInput, NotSent, Unavailable
from tagstitch.pipeline.backend import CallbackAnswer
from tagstitch.pipeline.deadline import Deadline
from tests.contract.stub_endpoint import StubEndpoint, never, say

REFUSED = [
    "0.0.0.0",  # noqa: S104 - an address to refuse, nothing binds it
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "not an address",
]

PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8"]

DISGUISED_HOSTS = [
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "127.1",
    "0",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]",
    "example.com@127.0.0.1",
    "127.0.0.1.",
    "localhost",
    "①②⑦.0.0.1",
]


class CountingResolver:
    """Answers with the given addresses, whatever is asked, and counts."""

    def __init__(self, *addresses: str, port: int | None = None) -> None:
        self.addresses = addresses
        self.port = port
        self.calls = 0

    def __call__(self, host: str, port: int) -> list[tuple[Any, ...]]:
        del host
        self.calls += 1
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (address, self.port or port),
            )
            for address in self.addresses
        ]


async def post(
    sender: RequestsCallbackSender, url: str, *, allow_private: bool = False, seconds: float = 5
) -> CallbackAnswer:
    try:
        return await sender.post(
            url,
            headers={},
            body=b"{}",
            allow_private=allow_private,
            deadline=Deadline.after(seconds),
        )
    finally:
        sender.close()


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_of_the_public_internet_is_refused(address: str) -> None:
    assert not is_public_address(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address: str) -> None:
    assert is_public_address(address)


@pytest.mark.parametrize("host", DISGUISED_HOSTS)
async def test_a_private_host_in_any_spelling_is_not_called(host: str) -> None:
    with pytest.raises((InvalidInput, Unavailable)):
        # Unavailable is right where this machine's resolver does not take the spelling at all.
        await post(RequestsCallbackSender(), f"https://{host}:9/")


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"], ["2606:4700::1111", "::1"]],
)
async def test_one_private_address_refuses_the_whole_call(addresses: list[str]) -> None:
    resolver = CountingResolver(*addresses)

    with pytest.raises(InvalidInput) as raised:
        await post(RequestsCallbackSender(resolve=resolver), "https://callback.example/")

    assert raised.value.code == "unknown_callback"
    assert resolver.calls == 1


async def test_the_vetted_address_is_dialled_and_the_name_looked_up_once() -> None:
    with StubEndpoint(say("200 OK")) as endpoint:
        resolver = CountingResolver("127.0.0.1", port=endpoint.port)
        answer = await post(
            RequestsCallbackSender(resolve=resolver), "http://callback.example/", allow_private=True
        )

    assert answer == CallbackAnswer(200)
    assert resolver.calls == 1
    assert b"Host: callback.example" in endpoint.requests[0]


async def test_the_second_address_is_tried_when_the_first_does_not_answer() -> None:
    with StubEndpoint(say("200 OK")) as endpoint:
        resolver = CountingResolver("127.0.0.2", "127.0.0.1", port=endpoint.port)
        answer = await post(
            RequestsCallbackSender(resolve=resolver), "http://callback.example/", allow_private=True
        )

    assert answer == CallbackAnswer(200)


async def test_an_unknown_name_is_unavailable_and_not_quoted() -> None:
    def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
        raise socket.gaierror(socket.EAI_NONAME, f"{host}:{port} not known")

    with pytest.raises(Unavailable) as raised:
        await post(RequestsCallbackSender(resolve=resolve), "https://secret.example/")

    assert "secret" not in str(raised.value)


async def test_a_name_server_that_does_not_answer_ends_at_the_deadline() -> None:
    def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
        del host, port
        time.sleep(1.5)
        return []

    started = time.monotonic()
    with pytest.raises(Unavailable):
        await post(
            RequestsCallbackSender(resolve=resolve), "https://callback.example/", seconds=0.2
        )

    assert time.monotonic() - started < 1.4


@pytest.mark.parametrize(
    "url", ["http://8.8.8.8/", "ftp://8.8.8.8/", "file:///etc/passwd", "nothing"]
)
async def test_only_https_is_called_outside_local_work(url: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        await post(RequestsCallbackSender(), url)

    assert raised.value.code == "unknown_callback"


async def test_calls_beyond_the_threads_end_at_their_own_deadlines() -> None:
    sender = RequestsCallbackSender()
    with StubEndpoint(never()) as endpoint:
        slow = [
            asyncio.create_task(post(sender, endpoint.url, allow_private=True, seconds=1.0))
            for _ in range(32)
        ]
        await asyncio.sleep(0.1)
        started = time.monotonic()
        with pytest.raises(Unavailable):
            await sender.post(
                endpoint.url,
                headers={},
                body=b"",
                allow_private=True,
                deadline=Deadline.after(0.1),
            )
        waited = time.monotonic() - started
        results = await asyncio.gather(*slow, return_exceptions=True)

    assert waited < 0.8
    assert [type(result) for result in results] == [Unavailable] * 32


class TestTls:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        """A self-signed certificate for callback.example, with its key, in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "callback.example")])
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName(
                    [
                        x509.DNSName("callback.example"),
                        x509.IPAddress(ipaddress.ip_address("127.0.0.7")),
                    ]
                ),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        path = tmp_path / "certificate.pem"
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return path

    @pytest.fixture
    def endpoint(self, certificate: Path) -> Iterator[StubEndpoint]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        with StubEndpoint(
            say("200 OK"), wrap=lambda connection: context.wrap_socket(connection, server_side=True)
        ) as endpoint:
            yield endpoint

    async def test_the_certificate_is_checked_against_the_name_and_not_the_address(
        self, endpoint: StubEndpoint, certificate: Path
    ) -> None:
        resolver = CountingResolver("127.0.0.1", port=endpoint.port)
        sender = RequestsCallbackSender(resolve=resolver, ca_file=str(certificate))

        answer = await post(sender, "https://callback.example/", allow_private=True)

        assert answer == CallbackAnswer(200)

    async def test_a_certificate_of_another_name_is_unavailable(
        self, endpoint: StubEndpoint, certificate: Path
    ) -> None:
        resolver = CountingResolver("127.0.0.1", port=endpoint.port)
        sender = RequestsCallbackSender(resolve=resolver, ca_file=str(certificate))

        with pytest.raises(NotSent):
            await post(sender, "https://other.example/", allow_private=True)

        assert endpoint.requests == []

    async def test_a_certificate_of_an_unknown_authority_is_unavailable(
        self, endpoint: StubEndpoint
    ) -> None:
        resolver = CountingResolver("127.0.0.1", port=endpoint.port)

        with pytest.raises(NotSent):
            await post(
                RequestsCallbackSender(resolve=resolver),
                "https://callback.example/",
                allow_private=True,
            )

        assert endpoint.requests == []

    async def test_a_slow_handshake_ends_at_the_deadline(self) -> None:
        with StubEndpoint(never(), wrap=_wait) as endpoint:
            resolver = CountingResolver("127.0.0.1", port=endpoint.port)
            started = time.monotonic()
            with pytest.raises(NotSent):
                await post(
                    RequestsCallbackSender(resolve=resolver),
                    "https://callback.example/",
                    allow_private=True,
                    seconds=0.3,
                )

        assert time.monotonic() - started < 5


def _wait(connection: socket.socket) -> socket.socket:
    """Take the client's first bytes and never go on with the handshake."""
    connection.recv(65536)
    connection.recv(65536)
    return connection
