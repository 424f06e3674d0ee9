"""What this process has seen of the endpoints that it sends to, callbacks and destinations alike."""

from __future__ import annotations

from typing import Final

from tagstitch.core.callback import CallbackVerdict
from tagstitch.core.circuit_breaker import CircuitBreakers, Judged
from tagstitch.pipeline.backend import Clock
from tagstitch.pipeline.log_events import EndpointBreakerOpened, EndpointDisabled, log

GONE: Final = 410
"""The status that disables an endpoint (https://www.standardwebhooks.com, "disabling")."""

_JUDGED: Final[dict[CallbackVerdict, Judged]] = {
    "delivered": "works",
    "retry": "fails",
    "rejected": "refuses",
}


class EndpointHealth:
    """A circuit breaker for each endpoint, and the log lines that tell an operator."""

    def __init__(self, clock: Clock, *, scale: float = 1.0) -> None:
        self._clock = clock
        self._breakers = CircuitBreakers(scale)

    def wait_s(self, key: str) -> float:
        """Return the seconds to leave an endpoint alone; after 0 the attempt must be noted."""
        return self._breakers.of(key).wait_s(self._clock())

    def is_disabled(self, key: str) -> bool:
        """Return whether the endpoint said that it is gone for good."""
        return self._breakers.of(key).is_disabled

    def note(
        self,
        key: str,
        verdict: CallbackVerdict,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """Note what became of an attempt; `status` is None when there was no answer."""
        breaker = self._breakers.of(key)
        if status == GONE:
            breaker.is_disabled = True
            log(EndpointDisabled(endpoint=key))
        opened = breaker.note(_JUDGED[verdict], self._clock(), retry_after_s=retry_after_s)
        if opened:
            log(EndpointBreakerOpened(endpoint=key, status=status))
