"""Tokens by which a browser listens to the messages of its own visitor."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import structs

from tagstitch.core.caller import unauthorized
from tagstitch.core.limits import PUSH_TOKEN_S
from tagstitch.core.personalization import PersonalizationDecision
from tagstitch.pipeline.backend import Clock
from tagstitch.pipeline.keyring import Keyring

TOKEN_KEY: Final = "push_token"  # noqa: S105 - a name
"""The key of `return_value` whose value is a token, whatever the rule writes for it."""

_PURPOSE: Final = "push-token"
_BLOCK: Final = 128
"""A token's content is filled up to a multiple of this, so that its length tells nothing."""
_CHARS_MAX: Final = 4096


class PushTokens:
    """Sealed, short-lived tokens, each for one visitor.

    Whoever the visitor is, known or not, a token looks alike and can be read by nobody else.
    """

    def __init__(self, keyring: Keyring, clock: Clock) -> None:
        self._keyring = keyring
        self._clock = clock

    def make(self, profile_id: str) -> str:
        """Return a token that lets its bearer listen to the messages of this visitor."""
        until = int(self._clock().timestamp()) + PUSH_TOKEN_S
        content = msgspec.json.encode({"p": profile_id, "u": until})
        content += b" " * (-len(content) % _BLOCK)
        sealed = self._keyring.seal(content, purpose=_PURPOSE)
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def fill_in(
        self, decision: PersonalizationDecision, profile_id: str | None
    ) -> PersonalizationDecision:
        """Return the decision with a token wherever a rule gives the page one.

        Where no visitor may be named it is nobody's: it opens an inbox that stays empty.
        """
        if not any(map(_asks_for_token, decision.actions)):
            return decision
        token = self.make(profile_id or f"p_{secrets.token_hex(13)}")
        actions = tuple(
            {**action, "value": token} if _asks_for_token(action) else action
            for action in decision.actions
        )
        return structs.replace(decision, actions=actions)

    def read(self, token: str) -> tuple[str, datetime]:
        """Return the visitor and when the token ends; raises `unauthorized` for any other text."""
        from cryptography.exceptions import InvalidTag

        if len(token) > _CHARS_MAX:
            raise unauthorized()
        try:
            sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            content = msgspec.json.decode(
                self._keyring.unseal(sealed, purpose=_PURPOSE), type=_TokenContent
            )
        except (InvalidTag, binascii.Error, ValueError, msgspec.DecodeError):
            raise unauthorized() from None
        now = self._clock()
        left_s = content.u - now.timestamp()
        if left_s <= 0:
            raise unauthorized()
        return content.p, now + timedelta(seconds=left_s)


class _TokenContent(msgspec.Struct):
    p: str
    u: int


def _asks_for_token(action: Mapping[str, Any]) -> bool:
    return action.get("type") == "value" and action.get("key") == TOKEN_KEY
