"""Authentication of Pub/Sub push requests: the platform's OIDC token, checked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from tagstitch.adapters.settings import Settings, SettingsError
from tagstitch.core.caller import unauthorized
from tagstitch.core.errors import Unavailable

_CLOCK_SKEW_S = 10
_CERTIFICATES_TIMEOUT_S = 5.0


class PushAuthenticator:
    """Accepts requests of the push subscriptions' own service accounts only.

    The local stack and the emulators send no token; a deployed function cannot run on either.
    """

    def __init__(self, settings: Settings) -> None:
        self._is_local = settings.is_local
        self._audience = settings.push_audience
        self._accounts = settings.push_accounts
        self._transport: Any = None

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
        claims = await asyncio.to_thread(self._verify, token)
        if claims.get("email_verified") is not True or claims.get("email") not in self._accounts:
            raise unauthorized()

    def _verify(self, token: str) -> Mapping[str, Any]:
        """Return the token's claims; the certificates are cached between requests."""
        from google.auth import exceptions
        from google.oauth2 import id_token

        try:
            claims: Mapping[str, Any] = id_token.verify_oauth2_token(  # type: ignore[no-untyped-call]
                token, self._request, self._audience, clock_skew_in_seconds=_CLOCK_SKEW_S
            )
        except exceptions.TransportError as error:
            raise Unavailable("google-certificates") from error
        except (ValueError, exceptions.GoogleAuthError) as error:
            raise unauthorized() from error
        return claims

    def _request(self, url: str, method: str = "GET", **options: Any) -> Any:
        from google.auth.transport.requests import Request

        if self._transport is None:
            self._transport = _CertificateCache(Request())
        return self._transport(
            url, method=method, **{**options, "timeout": _CERTIFICATES_TIMEOUT_S}
        )


class _CertificateCache:
    """Keeps the certificates for as long as their answer allows, an hour at the most.

    The library fetches them for every verification unless its transport caches
    (https://googleapis.dev/python/google-auth/latest/reference/google.oauth2.id_token.html).
    """

    _AGE_S_MAX = 3600.0

    def __init__(self, request: Any) -> None:
        self._request = request
        self._answers: dict[str, tuple[float, Any]] = {}

    def __call__(self, url: str, method: str = "GET", **options: Any) -> Any:
        import time

        kept = self._answers.get(url)
        if method == "GET" and kept is not None and time.monotonic() - kept[0] < self._AGE_S_MAX:
            return kept[1]
        answer = self._request(url, method=method, **options)
        if method == "GET" and answer.status == 200:
            self._answers[url] = (time.monotonic(), answer)
        return answer
