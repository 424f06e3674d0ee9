"""TAGSTITCH_DESTINATIONS and secrets in rotation: read, checked at the start, never quoted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tagstitch.adapters.authentication import Authenticator
from tagstitch.adapters.settings import Settings, SettingsError, read_settings
from tagstitch.core.errors import InvalidInput
from tagstitch.pipeline.webhook_signature import sign_body

SECRET = "x" * 32
SENDGRID: dict[str, Any] = {
    "id": "mail", "type": "email", "preset": "sendgrid", "values": {"from": "shop@example.com"},
    "auth": {"kind": "bearer", "token": "SG.hush-hush"},
}  # fmt: skip
OLD, NEW = ("whsec_" + text * 10 for text in ("b2xk", "bmV3"))


def settings(**variables: str) -> Settings:
    return read_settings(
        {
            "TAGSTITCH_PROJECT": "p",
            "TAGSTITCH_AUTH": "iam",
            "TAGSTITCH_CONSENT_DEFAULT": "denied",
            "TAGSTITCH_IDENTITY_KEY": SECRET,
            "TAGSTITCH_PSEUDONYM_KEYS": f"k1:{SECRET}",
            "TAGSTITCH_RECEIPT_KEY": SECRET,
            **variables,
        }
    )


def destinations(*written: Any) -> Settings:
    return settings(TAGSTITCH_DESTINATIONS=json.dumps(written))


def test_a_preset_is_complete_behind_the_settings(tmp_path: Path) -> None:
    mount = tmp_path / "destinations"
    mount.write_text(json.dumps([SENDGRID]))

    [found] = settings(TAGSTITCH_DESTINATIONS=str(mount)).destinations

    assert found.url == "https://api.sendgrid.com/v3/mail/send"
    assert found.body["from"] == {"email": "shop@example.com"}


def test_settings_with_destinations_are_the_key_of_a_backend() -> None:
    assert hash(destinations(SENDGRID)) == hash(destinations(SENDGRID))
    assert destinations(SENDGRID) == destinations(SENDGRID)
    assert destinations(SENDGRID) != destinations({**SENDGRID, "timeout_s": 3})


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ([{**SENDGRID, "values": {}}], "destination 'mail': body: ${from} has no value"),
        ([{**SENDGRID, "url": "http://h.example/"}], "destination 'mail': url: must start with"),
        ([{**SENDGRID, "type": "fax"}], "Invalid enum value"),
        ([{**SENDGRID, "colour": 1}], "unknown field `colour`"),
        ([{**SENDGRID, "auth": {"kind": "magic"}}], "Invalid value 'magic'"),
        ([SENDGRID, SENDGRID], "destination mail: another destination has its id"),
        ([{**SENDGRID, "allow_private": True}], "allow_private of destination 'mail'"),
        ({"id": "mail"}, "Expected `array`"),
    ],
)
def test_what_cannot_be_used_stops_the_start(written: Any, message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        settings(TAGSTITCH_DESTINATIONS=json.dumps(written))

    assert message in str(raised.value)
    assert "hush" not in str(raised.value)


class TestRotation:
    """Two secrets of one caller while it changes from one to the other."""

    BODY = b'{"a": 1}'

    def caller(self, secret: str, accepted: str) -> str:
        key = {"id": "sgtm", "secret": accepted, "scopes": ["decide"]}
        found = settings(TAGSTITCH_AUTH="signature", TAGSTITCH_SIGNING_SECRETS=json.dumps([key]))
        headers = sign_body([secret], "m1", self.BODY, sent_at=datetime.now(UTC))
        return Authenticator(found).authenticate("POST", headers, self.BODY).id

    @pytest.mark.parametrize("secret", [OLD, NEW])
    def test_both_sign_for_the_same_caller(self, secret: str) -> None:
        assert self.caller(secret, f"{NEW} {OLD}") == "sgtm"

    def test_the_old_one_ends_when_it_is_taken_out(self) -> None:
        with pytest.raises(InvalidInput):
            self.caller(OLD, NEW)

    @pytest.mark.parametrize("secret", [f"{NEW} weak", " ", "weak"])
    def test_a_weak_one_among_them_stops_the_start(self, secret: str) -> None:
        with pytest.raises(SettingsError, match="'sgtm' must be whsec_"):
            self.caller(NEW, secret)
