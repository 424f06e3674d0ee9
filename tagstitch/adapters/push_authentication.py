"""Authentication of Pub/Sub push requests: the platform's OIDC token, checked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

from tagstitch.adapters.settings import Settings, SettingsError
from tagstitch.core.caller import unauthorized
from tagstitch.core.errors import Unavailable

CERTIFICATES_URL: Final = "https://www.googleapis.com/oauth2/v1/certs"
"""Key id -> certificate, of the keys that sign Google's ID tokens
(https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions)."""

_ISSUERS: Final = ("https://accounts.google.com", "accounts.google.com")
_CLOCK_SKEW_S: Final = 10
_CERTIFICATES_TIMEOUT_S: Final = 5.0

CERTIFICATES_AGE_S_MAX: Final = 3600.0
"""Seconds for which fetched certificates count: Google rotates its keys within days."""
UNKNOWN_KEY_S: Final = 60.0
"""Seconds between two attempts to find a key that is not among them: anybody can make an id up."""


class PushAuthenticator:
    """Accepts requests of the push subscriptions' own service accounts only.

    The local stack and the emulators send no token; a deployed function cannot run on either.
    """

    def __init__(self, settings: Settings) -> None:
        self._is_local = settings.is_local
        self._audience = settings.push_audience
        self._accounts = settings.push_accounts
        self._certificates = _Certificates()

    def check_settings(self) -> None:
        """Raise SettingsError when every push would be refused for ever."""
        if not self._is_local and not (self._audience and self._accounts):
            raise SettingsError(
                "TAGSTITCH_PUSH_AUDIENCE and TAGSTITCH_PUSH_ACCOUNTS must name whose push requests"
                " this function accepts"
            )

    async def authenticate(self, headers: Mapping[str, str]) -> None:
        """Raise `unauthorized` unless the token is the platform's; Unavailable without its keys."""
        if self._is_local:
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise unauthorized()
        try:
            async with asyncio.timeout(_CERTIFICATES_TIMEOUT_S):
                is_ours = await asyncio.to_thread(self._verify, token)
        except TimeoutError:
            raise Unavailable("google-certificates") from None
        if not is_ours:
            raise unauthorized()

    def _verify(self, token: str) -> bool:
        """Return whether one of Google's keys signed the token for one of the accounts and for us.

        Whatever is raised on the way, it is a wrong token.
        """
        from google.auth import jwt

        try:
            header = jwt.decode_header(token)  # type: ignore[no-untyped-call]
            claims: Mapping[str, Any] = jwt.decode(  # type: ignore[no-untyped-call]
                token,
                certs=self._certificates.with_key(header.get("kid")),
                audience=self._audience,
                clock_skew_in_seconds=_CLOCK_SKEW_S,
            )
            return (
                claims.get("iss") in _ISSUERS
                and claims.get("email_verified") is True
                and claims.get("email") in self._accounts
            )
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001 - the library has several unrelated ones
            return False


class _Certificates:
    """Google's certificates by the ids of their keys, kept between requests."""

    def __init__(self) -> None:
        self._kept: Mapping[str, str] = {}
        self._fetched_at = self._tried_at = float("-inf")

    def with_key(self, key_id: str | None) -> Mapping[str, str]:
        """Return the certificates, fetched again when they are old or lack a key that may be new.

        Raises Unavailable when they are needed and cannot be fetched.
        """
        now = monotonic()
        is_old = now - self._fetched_at > CERTIFICATES_AGE_S_MAX
        is_new_key = key_id is not None and key_id not in self._kept
        if is_old or (is_new_key and now - self._tried_at > UNKNOWN_KEY_S):
            self._tried_at = now
            self._kept = _fetch_certificates()
            self._fetched_at = now
        return self._kept


def _fetch_certificates() -> Mapping[str, str]:
    """Return what the server has now; what it says besides certificates is not kept."""
    import msgspec
    from google.auth import exceptions
    from google.auth.transport.requests import Request

    try:
        answer = Request()(CERTIFICATES_URL, timeout=_CERTIFICATES_TIMEOUT_S)
        if answer.status == 200:
            return msgspec.json.decode(answer.data, type=dict[str, str])
    except (exceptions.TransportError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unavailable("google-certificates") from error
    raise Unavailable("google-certificates", f"status {answer.status}")
