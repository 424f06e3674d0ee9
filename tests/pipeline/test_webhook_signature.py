"""Whatever stands in the three headers, checking them says yes or no and never raises."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from hypothesis import assume, example, given
from hypothesis import strategies as st

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


@given(body=st.binary(max_size=60))
@example(body=BODY + b" ")
@example(body=b"")
@example(body=b"\xff")
def test_another_body_is_enough(body: bytes) -> None:
    assume(body != BODY)
    headers = sign_body([SECRET], "msg-1", BODY, sent_at=datetime.now(UTC))

    assert verify_signature(headers, body, [SECRET]) is None
    assert verify_signature(headers, BODY, [SECRET]) == 0
