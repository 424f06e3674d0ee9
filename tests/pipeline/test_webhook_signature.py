"""Whatever stands in the three headers, checking them says yes or no and never raises."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from tagstitch.pipeline import webhook_signature
from tagstitch.pipeline.webhook_signature import sign_body, verify_signature

SECRET: Final = "whsec_" + "c2VjcmV0IG9mIHRoaXJ0eS10d28gYnl0ZXMsIG9rISE="
BODY: Final = b'{"a": 1}'
NAMES: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")

HEADER: Final = st.binary(max_size=60).map(lambda raw: raw.decode("latin-1"))
"""Any bytes, as a server hands them over."""


@given(headers=st.dictionaries(st.sampled_from(NAMES), HEADER))
@example(headers={})
def test_headers_that_somebody_made_up_sign_nothing(headers: dict[str, str]) -> None:
    assert verify_signature(headers, BODY, [SECRET]) is None


@given(name=st.sampled_from(NAMES), value=HEADER)
def test_one_changed_header_is_enough(name: str, value: str) -> None:
    headers = sign_body([SECRET], "msg-1", BODY, sent_at=datetime.now(UTC))
    assume(value.strip() != headers[name])
    if name == "webhook-signature":
        assume(headers[name] not in value.split(" "))

    assert verify_signature({**headers, name: value}, BODY, [SECRET]) is None


@pytest.mark.parametrize("signer", [0, 1, 2, None])
def test_every_secret_is_tried_whichever_signed(
    monkeypatch: pytest.MonkeyPatch, signer: int | None
) -> None:
    secrets = [f"whsec_{letter * 40}" for letter in "abc"]
    signing = "whsec_" + "d" * 40 if signer is None else secrets[signer]
    headers = sign_body([signing], "msg-1", BODY, sent_at=datetime.now(UTC))
    tried: list[str] = []

    class Tried(Webhook):
        def __init__(self, secret: str) -> None:
            tried.append(secret)
            super().__init__(secret)

    monkeypatch.setattr(webhook_signature, "Webhook", Tried)

    assert verify_signature(headers, BODY, secrets) == signer
    assert tried == secrets


@given(body=st.binary(max_size=60))
@example(body=BODY + b" ")
@example(body=b"")
@example(body=b"\xff")
def test_another_body_is_enough(body: bytes) -> None:
    assume(body != BODY)
    headers = sign_body([SECRET], "msg-1", BODY, sent_at=datetime.now(UTC))

    assert verify_signature(headers, body, [SECRET]) is None
    assert verify_signature(headers, BODY, [SECRET]) == 0
