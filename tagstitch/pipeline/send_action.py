"""One attempt at sending an action: authorised, guarded, judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tagstitch.core.callback import CallbackVerdict
from tagstitch.core.destination import Destination, OAuth2Auth
from tagstitch.core.destination_request import (
    DestinationRequest,
    SendVerdict,
    fixed_auth_headers,
    judge_answer,
)
from tagstitch.core.errors import InvalidInput, NotSent, Unavailable
from tagstitch.pipeline.access_tokens import TOKEN_TIMEOUT_S, AccessTokens
from tagstitch.pipeline.backend import Backend, CallbackAnswer
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.endpoint_health import EndpointHealth, Watched
from tagstitch.pipeline.webhook_signature import sign_body

_UNAUTHORIZED: Final = 401

_ATTEMPT_S_MAX: Final = 20.0
"""Seconds of an attempt with everything: it ends, and is marked, within a message's deadline."""

_HEALTH: Final[dict[SendVerdict, CallbackVerdict]] = {
    "delivered": "delivered",
    "retry": "retry",
    "unknown": "retry",
    "rejected": "rejected",
}


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one attempt."""

    verdict: SendVerdict
    status: int | None = None
    wait_s: float | None = None


class ActionSender:
    """Sends requests of actions; keeps their access tokens."""

    def __init__(self, backend: Backend, health: EndpointHealth) -> None:
        self._backend = backend
        self._health = health
        self._tokens = AccessTokens(backend)

    def attempt_s(self, destination: Destination) -> float:
        """Return the seconds that an attempt may take: with a token, and once more with another."""
        if isinstance(destination.auth, OAuth2Auth):
            return min(2 * (destination.timeout_s + TOKEN_TIMEOUT_S), _ATTEMPT_S_MAX)
        return destination.timeout_s

    async def send(
        self, destination: Destination, request: DestinationRequest, webhook_id: str
    ) -> Sent:
        """Make the attempt and note what it says about the destination."""
        deadline = Deadline.after(self.attempt_s(destination))
        try:
            answer = await self._exchange(destination, request, webhook_id, deadline=deadline)
        except NotSent:
            sent = Sent("retry")
        except Unavailable:
            sent = Sent("unknown")
        except InvalidInput:
            sent = Sent("rejected")
        else:
            verdict = judge_answer(destination, answer.status)
            sent = Sent(verdict, answer.status, answer.retry_after_s)
        await self._health.note(
            watched(destination),
            _HEALTH[sent.verdict],
            status=sent.status,
            retry_after_s=sent.wait_s,
        )
        return sent

    async def _exchange(
        self,
        destination: Destination,
        request: DestinationRequest,
        webhook_id: str,
        *,
        deadline: Deadline,
    ) -> CallbackAnswer:
        """Return the answer; a token that is refused is replaced once: 401 says nothing was done."""
        if not isinstance(destination.auth, OAuth2Auth):
            headers = fixed_auth_headers(destination)
            if destination.secrets:
                now = self._backend.clock()
                headers |= sign_body(destination.secrets, webhook_id, request.body, sent_at=now)
            return await self._post(destination, request, headers, deadline=deadline)
        token = await self._tokens.get(destination, deadline=deadline)
        answer = await self._post(destination, request, _bearer(token), deadline=deadline)
        if answer.status != _UNAUTHORIZED:
            return answer
        self._tokens.forget(destination, token)
        token = await self._tokens.get(destination, deadline=deadline)
        return await self._post(destination, request, _bearer(token), deadline=deadline)

    async def _post(
        self,
        destination: Destination,
        request: DestinationRequest,
        headers: dict[str, str],
        *,
        deadline: Deadline,
    ) -> CallbackAnswer:
        return await self._backend.callbacks.post(
            request.url,
            headers={**request.headers, **headers},
            body=request.body,
            allow_private=destination.allow_private,
            deadline=deadline.at_most(destination.timeout_s),
            method=request.method,
        )


def watched(destination: Destination) -> Watched:
    """Return how a destination's health is asked for."""
    return Watched(f"destination:{destination.id}", destination.url or "")


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}
