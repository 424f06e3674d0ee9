"""Standard Webhooks signatures in both directions (https://www.standardwebhooks.com)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from standardwebhooks.webhooks import Webhook

from tagstitch.core.callback import CallbackEndpoint


def sign_callback(
    endpoint: CallbackEndpoint, webhook_id: str, body: bytes, *, sent_at: datetime
) -> dict[str, str]:
    """Return the signature headers: one signature for each of the endpoint's secrets."""
    secrets = endpoint.secret.split()
    headers = sign_body(secrets, webhook_id, body, sent_at=sent_at)
    timestamp = headers["webhook-timestamp"]
    if endpoint.scheme == "sha256":
        headers["x-tagstitch-signature"] = " ".join(
            "s1=" + _nested_sha256(secret, f"{webhook_id}.{timestamp}.{body.decode()}")
            for secret in secrets
        )
    return headers


def sign_body(
    secrets: Sequence[str], webhook_id: str, body: bytes, *, sent_at: datetime
) -> dict[str, str]:
    """Return the three headers of the specification, with a signature for each secret."""
    sent_at = sent_at.astimezone(UTC)  # the library takes any other zone's digits for UTC
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": " ".join(
            Webhook(secret).sign(webhook_id, sent_at, body.decode()) for secret in secrets
        ),
    }


def verify_signature(headers: Mapping[str, str], body: bytes, secrets: Iterable[str]) -> int | None:
    """Return the position of the secret that signed the body, or None when none did.

    Every secret is tried, so that the time tells nothing. A malformed header is a wrong signature:
    the library raises several unrelated exceptions for one.
    """
    found = None
    for position, secret in enumerate(secrets):
        try:
            Webhook(secret).verify(body, dict(headers), json_parse=False)
        except Exception:  # noqa: BLE001, S112 - whatever it is, the signature is not valid
            continue
        found = position if found is None else found
    return found


def _nested_sha256(secret: str, content: str) -> str:
    """Return hex sha256(secret + sha256(secret + content)): no length extension, no key file."""
    inner = hashlib.sha256((secret + content).encode()).hexdigest()
    return hashlib.sha256((secret + inner).encode()).hexdigest()


def same_text(left: str, right: str) -> bool:
    """Compare two secrets in constant time, as bytes: `compare_digest` refuses other text."""
    return hmac.compare_digest(left.encode(), right.encode())
