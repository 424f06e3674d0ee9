"""Access tokens of destinations, kept until they end or are refused."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode

import msgspec

from tagstitch.core.destination import Destination, OAuth2Auth
from tagstitch.core.destination_request import token_form
from tagstitch.core.errors import InvalidInput, NotSent, Unavailable
from tagstitch.pipeline.backend import Backend
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.log_events import DestinationTokenRefused, DestinationTokenUnreadable, log

TOKEN_TIMEOUT_S: Final = 5.0

_LIFETIME_S: Final = 3600.0
"""Seconds for which a token is used whose answer does not say; Salesforce's does not."""
_MARGIN_S: Final = 60.0
"""Seconds before its end from which a token is not used any more: clocks differ."""


class _TokenAnswer(msgspec.Struct):
    access_token: str
    expires_in: float | str | None = None  # a text at some providers


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    until: datetime


class AccessTokens:
    """Asks for one token at a time for each destination."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._tokens: dict[str, _Token] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def get(self, destination: Destination, *, deadline: Deadline) -> str:
        """Return a token; raises NotSent when there is none: the action itself has not left."""
        async with self._locks[destination.id]:
            token = self._tokens.get(destination.id)
            if token is None or token.until <= self._backend.clock():
                token = await self._ask(destination, deadline=deadline.at_most(TOKEN_TIMEOUT_S))
                self._tokens[destination.id] = token
            return token.text

    def forget(self, destination: Destination, refused: str) -> None:
        """Forget a token that the destination refused, unless there is a newer one."""
        token = self._tokens.get(destination.id)
        if token is not None and token.text == refused:
            del self._tokens[destination.id]

    async def _ask(self, destination: Destination, *, deadline: Deadline) -> _Token:
        auth = destination.auth
        assert isinstance(auth, OAuth2Auth)  # noqa: S101 - nobody else asks
        headers = {
            "content-type": "application/x-www-form-urlencoded",
            "accept": "application/json",
        }
        try:
            answer = await self._backend.callbacks.post(
                auth.token_url,
                headers=headers,
                body=urlencode(token_form(auth)).encode(),
                allow_private=destination.allow_private,
                deadline=deadline,
            )
        except (Unavailable, InvalidInput):
            raise NotSent("token", "no answer") from None
        if not 200 <= answer.status < 300:
            log(DestinationTokenRefused(destination=destination.id, status=answer.status))
            raise NotSent("token", "refused")
        try:
            found = msgspec.json.decode(answer.body, type=_TokenAnswer)
            lifetime_s = _LIFETIME_S if found.expires_in is None else float(found.expires_in)
        except (msgspec.DecodeError, ValueError):
            # Neither the error nor its trace: both may quote the answer, and it holds a token.
            log(DestinationTokenUnreadable(destination=destination.id, status=answer.status))
            raise NotSent("token", "unreadable") from None
        usable_s = max(0.0, min(lifetime_s, 24 * _LIFETIME_S) - _MARGIN_S)
        return _Token(found.access_token, self._backend.clock() + timedelta(seconds=usable_s))
