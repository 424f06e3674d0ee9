"""Authentication of callers: a key header, a signed body, or the platform's own check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tagstitch.adapters.settings import SCOPES, Key, Settings
from tagstitch.core.caller import Caller, unauthorized
from tagstitch.pipeline.webhook_signature import same_text, verify_signature

KEY_HEADER: Final = "x-tagstitch-key"


class Authenticator:
    """Tells who calls, as `TAGSTITCH_AUTH` says."""

    def __init__(self, settings: Settings) -> None:
        self._mode = settings.auth
        self._keys = settings.keys
        # Two secrets of one key while it is rotated: both sign for the same caller.
        self._signing_secrets = [
            (secret, key) for key in settings.signing_secrets for secret in key.secret.split()
        ]

    def authenticate(self, method: str, headers: Mapping[str, str], body: bytes) -> Caller:
        """Return the caller; raises `unauthorized` without saying what was wrong."""
        if self._mode in ("none", "iam"):
            return Caller(self._mode, SCOPES)
        if self._mode == "key":
            return _caller(self._key_of(headers.get(KEY_HEADER, "")))
        if method != "POST":
            raise unauthorized()
        position = verify_signature(headers, body, [secret for secret, _ in self._signing_secrets])
        return _caller(None if position is None else self._signing_secrets[position][1])

    def _key_of(self, presented: str) -> Key | None:
        """Return the key, comparing with every one, so that the time tells nothing."""
        found = None
        for key in self._keys:
            if same_text(key.secret, presented):
                found = key
        return found


def _caller(key: Key | None) -> Caller:
    if key is None:
        raise unauthorized()
    return Caller(key.id, frozenset(key.scopes), key.views)
