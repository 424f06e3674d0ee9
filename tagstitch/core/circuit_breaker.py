"""Circuit breakers: an endpoint that fails is left alone, and asked now and then whether it lives.

What happens elsewhere must not wait for it, and it must not be hammered while it recovers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

Judged = Literal["works", "fails", "refuses"]
"""What an attempt says about its endpoint: it answers, it does not, or it refuses what it is sent."""

_FAILURES_MAX: Final = 5
"""Failures in a row that open the breaker: one or two are the network's ordinary hiccups."""

_REFUSALS_MAX: Final = 20
"""Refusals in a row that open it: not twenty bad messages, but a wrong secret or address."""

_OPEN_S: Final = (10.0, 300.0)
"""Seconds that it stays open: the first time, doubling, and at most. Pub/Sub's shortest backoff is
ten seconds, and an entry asks again after ten minutes at most."""

_PROBE_S: Final = 30.0
"""Seconds after which a probe that said nothing is taken for lost, as when its process was busy."""


@dataclass(slots=True)
class CircuitBreaker:
    """One endpoint's breaker: closed, open, or half open with one probe under way.

    Its memory is this process's: instances learn on their own, each at the cost of a few attempts.
    """

    scale: float = 1.0
    """Factor on the times that it stays open; below 1 for local work and tests."""
    _failures: int = 0
    _refusals: int = 0
    _openings: int = 0
    _open_until: datetime | None = None
    _probe_until: datetime | None = None

    def wait_s(self, now: datetime) -> float:
        """Return the seconds to wait before an attempt; 0 allows one, which must be `noted`.

        While the breaker is half open one attempt alone is allowed: the probe.
        """
        if self._open_until is None:
            return 0.0
        until = max(self._open_until, self._probe_until or self._open_until)
        if now < until:
            return (until - now).total_seconds()
        self._probe_until = now + timedelta(seconds=_PROBE_S * self.scale)
        return 0.0

    def note(self, judged: Judged, now: datetime, *, retry_after_s: float | None = None) -> bool:
        """Note what an attempt showed; return whether that opened the breaker."""
        if judged == "works":
            self._failures = self._refusals = self._openings = 0
            self._open_until = self._probe_until = None
            return False
        was_probe = self._probe_until is not None
        self._probe_until = None
        if judged == "fails":
            self._failures += 1
        else:
            self._failures, self._refusals = 0, self._refusals + 1
        is_enough = self._failures >= _FAILURES_MAX or self._refusals >= _REFUSALS_MAX
        if not (is_enough or was_probe):
            return False
        if self._open_until is not None and not was_probe and now < self._open_until:
            return False  # one that was under way when it opened says nothing new
        self._openings += 1
        shortest_s, longest_s = _OPEN_S
        open_s = min(shortest_s * 2.0 ** min(self._openings - 1, 10), longest_s)
        open_s = max(open_s * self.scale, min(retry_after_s or 0.0, longest_s))
        self._open_until = now + timedelta(seconds=open_s)
        return True


@dataclass(slots=True)
class CircuitBreakers:
    """The breakers of all endpoints that this process sends to."""

    scale: float = 1.0
    _breakers: dict[str, CircuitBreaker] = field(default_factory=dict)

    def of(self, key: str) -> CircuitBreaker:
        """Return the breaker of an endpoint; `key` is from the settings, so there are few."""
        breaker = self._breakers.get(key)
        if breaker is None:
            breaker = self._breakers[key] = CircuitBreaker(self.scale)
        return breaker
