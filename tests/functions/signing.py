"""Requests that are signed as Standard Webhooks says."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any, Final

from standardwebhooks.webhooks import Webhook

SECRET: Final = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes, ok").decode()
OLD_SECRET: Final = "whsec_" + base64.b64encode(b"an old secret of 32 bytes, too!!").decode()

SIGNATURE: Final = {
    "TAGSTITCH_AUTH": "signature",
    "TAGSTITCH_SIGNING_SECRETS": json.dumps(
        [
            {
                "id": "s",
                "secret": f"{SECRET} {OLD_SECRET}",
                "scopes": ["lookup", "stitch", "decide", "assert"],
            }
        ]
    ),
}


def signed(
    body: dict[str, Any],
    webhook_id: str,
    *,
    at: datetime | None = None,
    secret: str = SECRET,
) -> dict[str, Any]:
    """Return content and headers of a signed request."""
    return signed_text(json.dumps(body), webhook_id, at=at, secret=secret)


def signed_text(
    content: str, webhook_id: str, *, at: datetime | None = None, secret: str = SECRET
) -> dict[str, Any]:
    """Return content and headers of a signed request whose body is this text."""
    at = at or datetime.now(UTC)
    return {
        "content": content,
        "headers": {
            "content-type": "application/json",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": Webhook(secret).sign(webhook_id, at, content),
        },
    }
