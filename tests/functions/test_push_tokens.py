"""Push endpoints: only the platform's own token gets in, whatever else anybody sends."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import httpx
import pytest

from tagstitch.adapters import http_function, push_authentication
from tagstitch.adapters.push_authentication import PushAuthenticator
from tagstitch.adapters.settings import Settings
from tests.functions.conftest import Start
from tests.functions.push_tokens import ACCOUNT, AUDIENCE, CertificateServer, SigningKey, encoded
from tests.functions.test_bad_input import check_error
from tests.functions.test_staged import push_body

KEY: Final = SigningKey("google-1")
NEXT_KEY: Final = SigningKey("google-2")
FOREIGN_KEY: Final = SigningKey("google-1")
"""Somebody else's, under the id of a key of Google's."""

PATHS: Final = [
    ("stitch_async", "/"),
    ("stitch_async", "/actions"),
    ("stitch_async", "/sweep"),
    ("audit_sink", "/"),
    ("audit_sink", "/deadletters"),
]

HOUR_S: Final = 3600


@pytest.fixture
def certificates(monkeypatch: pytest.MonkeyPatch) -> Iterator[CertificateServer]:
    with CertificateServer(KEY) as server:
        monkeypatch.setattr(push_authentication, "CERTIFICATES_URL", server.url)
        yield server


@pytest.fixture
def deployed(start: Start, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts functions that check tokens as deployed ones do, on a local store."""

    def as_deployed(settings: Settings) -> PushAuthenticator:
        return PushAuthenticator(
            replace(
                settings,
                backend="cloud",
                push_audience=AUDIENCE,
                push_accounts=frozenset({ACCOUNT}),
            )
        )

    monkeypatch.setattr(http_function, "PushAuthenticator", as_deployed)
    return start


async def push(
    client: httpx.AsyncClient, token: str | None, path: str = "/", *, scheme: str = "Bearer"
) -> httpx.Response:
    headers = [] if token is None else [(b"authorization", f"{scheme} {token}".encode())]
    message = {"identifiers": [{"type": "client_id", "value": "88.17"}]}
    return await client.post(path, json=push_body(message, "m1"), headers=headers)


def part(value: Any) -> str:
    return encoded(value if isinstance(value, str) else json.dumps(value))


def with_header(**header: Any) -> str:
    """Return a right token under another header, without its signature."""
    return ".".join([part(header), KEY.token().split(".")[1], ""])


def signed_with_the_certificate() -> str:
    """Return a token whose secret is what everybody can read, for a check that believes `alg`."""
    content = part({"alg": "HS256", "kid": "google-1"}) + "." + KEY.token().split(".")[1]
    mac = hmac.digest(KEY.certificate.encode(), content.encode(), hashlib.sha256)
    return f"{content}.{encoded(mac)}"


def with_claims_of_another() -> str:
    header, _, signature = KEY.token().split(".")
    return ".".join([header, KEY.token(email=ACCOUNT, aud="x").split(".")[1], signature])


WRONG: Final[list[tuple[str, Callable[[], str | None]]]] = [
    ("none", lambda: None),
    ("an empty one", lambda: ""),
    ("no token at all", lambda: "x"),
    ("two parts", lambda: "e30.e30"),
    ("three empty parts", lambda: ".."),
    ("no base64", lambda: "*.*.*"),
    ("another alphabet", lambda: "ü.ö.ä"),
    ("a header that is a list", lambda: f"{part([])}.{part({})}."),
    ("a header nested 3,000 deep", lambda: f"{part('[' * 3000)}.{part({})}."),
    ("claims that are text", lambda: f"{part({'alg': 'RS256'})}.{part('text')}."),
    ("a key id that is a list", lambda: with_header(alg="RS256", kid=["google-1"])),
    ("unsigned", lambda: with_header(alg="none")),
    ("unsigned, with the key's id", lambda: with_header(alg="none", kid="google-1")),
    ("no signature", lambda: with_header(alg="RS256", kid="google-1")),
    ("signed with the certificate", signed_with_the_certificate),
    ("of another key", FOREIGN_KEY.token),
    ("of a key that nobody knows", NEXT_KEY.token),
    ("of another key, without its id", lambda: FOREIGN_KEY.token({"kid": None})),
    ("with the claims of another", with_claims_of_another),
    ("for another audience", lambda: KEY.token(aud="https://evil.example.com")),
    ("for several audiences", lambda: KEY.token(aud=[AUDIENCE, "https://evil.example.com"])),
    ("for nobody", lambda: KEY.token(aud=None)),
    ("of another account", lambda: KEY.token(email="other@a-project.iam.gserviceaccount.com")),
    ("of an account in a list", lambda: KEY.token(email=[ACCOUNT])),
    ("of no account", lambda: KEY.token(email=None)),
    ("of an address nobody verified", lambda: KEY.token(email_verified=False)),
    ("of an address verified by text", lambda: KEY.token(email_verified="true")),
    ("of another issuer", lambda: KEY.token(iss="https://securetoken.google.com/a-project")),
    ("of no issuer", lambda: KEY.token(iss=None)),
    ("expired", lambda: KEY.token(iat=int(time.time()) - 7200, exp=int(time.time()) - 60)),
    ("of the future", lambda: KEY.token(iat=int(time.time()) + 60)),
    ("without an end", lambda: KEY.token(exp=None)),
    ("with an end that is text", lambda: KEY.token(exp="tomorrow")),
]  # fmt: skip


class TestTokens:
    async def test_the_platform_is_let_in(
        self, deployed: Start, certificates: CertificateServer
    ) -> None:
        stitch_async, stitch_sync = await deployed("stitch_async"), await deployed("stitch_sync")

        answer = await push(stitch_async, KEY.token(), scheme="bearer")

        assert answer.status_code == 204
        found = await stitch_sync.get("/", params={"client_id": "88.17"})
        assert found.json()["reason"] == "KNOWN_PROFILE"
        assert certificates.asked == 1

    @pytest.mark.parametrize("token", [pytest.param(make, id=name) for name, make in WRONG])
    async def test_every_other_token_gets_the_same_answer_and_does_nothing(
        self, deployed: Start, certificates: CertificateServer, token: Callable[[], str | None]
    ) -> None:
        stitch_async, stitch_sync = await deployed("stitch_async"), await deployed("stitch_sync")

        answer = await push(stitch_async, token())

        error = check_error(answer, 401, "unauthorized")
        assert error["message"].startswith("missing or wrong key")
        found = await stitch_sync.get("/", params={"client_id": "88.17"})
        assert found.json()["reason"] == "UNKNOWN_PROFILE"
        assert certificates.asked <= 1

    @pytest.mark.parametrize(("function", "path"), PATHS)
    async def test_no_path_of_the_platform_is_open(
        self, deployed: Start, certificates: CertificateServer, function: str, path: str
    ) -> None:
        del certificates
        client = await deployed(function)

        answers = [await push(client, token, path) for token in (None, FOREIGN_KEY.token())]

        for answer in answers:
            check_error(answer, 401, "unauthorized")
        assert (await push(client, KEY.token(), path)).status_code in (200, 204)

    async def test_another_scheme_is_no_token(
        self, deployed: Start, certificates: CertificateServer
    ) -> None:
        client = await deployed("stitch_async")

        check_error(await push(client, KEY.token(), scheme="Basic"), 401, "unauthorized")
        assert certificates.asked == 0


class TestCertificates:
    async def test_they_are_kept_for_an_hour(
        self, deployed: Start, certificates: CertificateServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = await deployed("stitch_async")
        now = time.monotonic()
        monkeypatch.setattr(push_authentication, "monotonic", lambda: now)

        for _ in range(3):
            assert (await push(client, KEY.token())).status_code == 204
        assert certificates.asked == 1
        now += HOUR_S + 1
        assert (await push(client, KEY.token())).status_code == 204

        assert certificates.asked == 2

    @pytest.mark.parametrize(
        ("status", "body"),
        [(500, b"{}"), (404, b"{}"), (200, b"<html>"), (200, b"[]"), (200, b'{"a": 1}')],
    )
    async def test_a_server_that_answers_something_else_makes_the_message_come_again(
        self, deployed: Start, certificates: CertificateServer, status: int, body: bytes
    ) -> None:
        client = await deployed("stitch_async")
        right, certificates.status, certificates.body = certificates.body, status, body

        answer = await push(client, KEY.token())

        check_error(answer, 503, "unavailable")
        assert answer.headers["retry-after"] == "1"
        certificates.status, certificates.body = 200, right
        assert (await push(client, KEY.token())).status_code == 204

    async def test_a_server_that_is_down_makes_the_message_come_again(
        self, deployed: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with CertificateServer(KEY) as server:
            url = server.url
        monkeypatch.setattr(push_authentication, "CERTIFICATES_URL", url)
        client = await deployed("stitch_async")

        check_error(await push(client, KEY.token()), 503, "unavailable")

    async def test_a_server_that_never_answers_does_not_hold_a_push_for_ever(
        self, deployed: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(push_authentication, "_CERTIFICATES_TIMEOUT_S", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
            monkeypatch.setattr(push_authentication, "CERTIFICATES_URL", url)
            client = await deployed("stitch_async")

            check_error(await push(client, KEY.token()), 503, "unavailable")

    async def test_neither_does_one_that_answers_byte_by_byte(
        self, deployed: Start, certificates: CertificateServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(push_authentication, "_CERTIFICATES_TIMEOUT_S", 0.5)
        certificates.drips = True
        client = await deployed("stitch_async")

        async with asyncio.timeout(20):
            answer = await push(client, KEY.token())

        check_error(answer, 503, "unavailable")

    async def test_a_token_that_is_none_is_refused_while_the_server_is_down(
        self, deployed: Start, certificates: CertificateServer
    ) -> None:
        certificates.status = 500
        client = await deployed("stitch_async")

        check_error(await push(client, "no token"), 401, "unauthorized")
        assert certificates.asked == 0

    async def test_a_key_that_google_has_taken_into_use_counts_at_once(
        self, deployed: Start, certificates: CertificateServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = await deployed("stitch_async")
        now = time.monotonic()
        monkeypatch.setattr(push_authentication, "monotonic", lambda: now)
        assert (await push(client, KEY.token())).status_code == 204
        now += 61

        certificates.publish(KEY, NEXT_KEY)

        assert (await push(client, NEXT_KEY.token())).status_code == 204
        assert (await push(client, KEY.token())).status_code == 204
        assert certificates.asked == 2

    async def test_a_key_that_google_has_withdrawn_counts_for_an_hour_at_most(
        self, deployed: Start, certificates: CertificateServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = await deployed("stitch_async")
        now = time.monotonic()
        monkeypatch.setattr(push_authentication, "monotonic", lambda: now)
        assert (await push(client, KEY.token())).status_code == 204
        now += HOUR_S + 1

        certificates.publish(NEXT_KEY)

        check_error(await push(client, KEY.token()), 401, "unauthorized")

    async def test_made_up_key_ids_do_not_have_them_fetched_each_time(
        self, deployed: Start, certificates: CertificateServer
    ) -> None:
        client = await deployed("stitch_async")
        assert (await push(client, KEY.token())).status_code == 204

        for number in range(20):
            forged = FOREIGN_KEY.token({"kid": f"made-up-{number}"})
            check_error(await push(client, forged), 401, "unauthorized")

        assert certificates.asked == 1
