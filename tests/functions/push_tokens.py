"""Tokens as Pub/Sub sends them, and a stand-in for the server of Google's certificates."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from typing import Any, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from google.auth import crypt

AUDIENCE: Final = "https://tagstitch.example.com"
ACCOUNT: Final = "push@a-project.iam.gserviceaccount.com"


class SigningKey:
    """A key as Google has several: it signs tokens, and its certificate is published."""

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "federated-signon")])
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        self.certificate = certificate.public_bytes(serialization.Encoding.PEM).decode()
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        self._signer = crypt.RSASigner.from_string(pem, key_id)  # type: ignore[no-untyped-call]

    def token(self, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """Return a token of the push account; what is None is left out."""
        now = int(time.time())
        claims = {
            "iss": "https://accounts.google.com",
            "aud": AUDIENCE,
            "azp": "1234567890",
            "sub": "1234567890",
            "email": ACCOUNT,
            "email_verified": True,
            "iat": now,
            "exp": now + 3600,
            **changes,
        }
        named = {"alg": "RS256", "typ": "JWT", "kid": self.key_id, **(header or {})}
        content = ".".join(
            encoded(json.dumps({name: value for name, value in each.items() if value is not None}))
            for each in (named, claims)
        )
        return f"{content}.{encoded(self._signer.sign(content.encode()))}"


def encoded(content: str | bytes) -> str:
    """Return a part of a token."""
    raw = content.encode() if isinstance(content, str) else content
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


class CertificateServer:
    """Answers what it is told to, and counts how often it was asked.

    One that `drips` sends its answer byte by byte, and never comes to an end.
    """

    _DRIP_S: Final = 0.02

    def __init__(self, *keys: SigningKey) -> None:
        self.publish(*keys)
        self.status = 200
        self.drips = False
        self.asked = 0
        self._is_over = threading.Event()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stub.asked += 1
                self.send_response(stub.status)
                self.send_header("Content-Length", str(len(stub.body) + 10**6 * stub.drips))
                self.end_headers()
                if stub.drips:
                    stub.drip(self.wfile)
                else:
                    self.wfile.write(stub.body)

            def log_message(self, *_args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/oauth2/v1/certs"

    def drip(self, stream: BufferedIOBase) -> None:
        """Send a byte now and then, until nobody listens or the server ends."""
        with contextlib.suppress(ConnectionError):
            while not self._is_over.wait(self._DRIP_S):
                stream.write(b" ")

    def publish(self, *keys: SigningKey) -> None:
        """Publish the certificates of these keys from now on."""
        self.body = json.dumps({key.key_id: key.certificate for key in keys}).encode()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
