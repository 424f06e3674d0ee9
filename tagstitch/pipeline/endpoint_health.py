"""What is known of the endpoints that we send to, callbacks and destinations alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tagstitch.core.callback import CallbackVerdict
from tagstitch.core.circuit_breaker import CircuitBreakers, Judged
from tagstitch.pipeline.backend import Clock
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.disabled_endpoints import DisabledEndpoints
from tagstitch.pipeline.log_events import EndpointBreakerOpened, log

GONE: Final = 410
"""The status that disables an endpoint (https://www.standardwebhooks.com, "disabling")."""

_JUDGED: Final[dict[CallbackVerdict, Judged]] = {
    "delivered": "works",
    "retry": "fails",
    "rejected": "refuses",
}


@dataclass(frozen=True, slots=True)
class Watched:
    """One endpoint: what it is called here, and where it is."""

    key: str
    url: str


class EndpointHealth:
    """A circuit breaker for each endpoint, which is this process's, and those that are gone."""

    def __init__(self, clock: Clock, disabled: DisabledEndpoints, *, scale: float = 1.0) -> None:
        self._clock = clock
        self._disabled = disabled
        self._breakers = CircuitBreakers(scale)

    def wait_s(self, watched: Watched) -> float:
        """Return the seconds to leave an endpoint alone; after 0 the attempt must be noted."""
        return self._breakers.of(watched.key).wait_s(self._clock())

    async def is_disabled(self, watched: Watched, *, replays: int, deadline: Deadline) -> bool:
        """Return whether the endpoint said that it is gone, to any process.

        What somebody replays is sent all the same: who replays believes that it is back.
        """
        if replays:
            return False
        return await self._disabled.holds(watched.key, watched.url, deadline=deadline)

    async def note(
        self,
        watched: Watched,
        verdict: CallbackVerdict,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """Note what became of an attempt; `status` is None when there was no answer."""
        breaker = self._breakers.of(watched.key)
        opened = breaker.note(_JUDGED[verdict], self._clock(), retry_after_s=retry_after_s)
        if opened:
            log(EndpointBreakerOpened(endpoint=watched.key, status=status))
        if status == GONE:
            await self._disabled.add(watched.key, watched.url)
        elif verdict == "delivered":
            await self._disabled.remove(watched.key, watched.url)
