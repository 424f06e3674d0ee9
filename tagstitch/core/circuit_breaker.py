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


@dataclass(frozen=True, slots=True)
class Patience:
    """How long something may fail before it is left alone, and for how long, in seconds."""

    failing_s: float
    """From the first of the failures in a row to the last one, at least."""
    open_s: tuple[float, float]
    """The first time, doubling, and at most."""
    probe_s: float
    """After this a probe that said nothing is taken for lost, as when its process was busy."""


ENDPOINT: Final = Patience(failing_s=0.0, open_s=(10.0, 300.0), probe_s=30.0)
"""Of what is sent to: Pub/Sub's shortest backoff is ten seconds, and an entry asks again after ten
minutes at most."""

STORE: Final = Patience(failing_s=1.0, open_s=(0.5, 2.0), probe_s=2.0)
"""Of what answers wait for: a hiccup of less than a second is over before leaving it alone would
help, and what is back is used again within two."""


@dataclass(slots=True)
class CircuitBreaker:
    """One endpoint's breaker: closed, open, or half open with one probe under way.

    Its memory is this process's: instances learn on their own, each at the cost of a few attempts.
    """

    scale: float = 1.0
    """Factor on the times that it stays open; below 1 for local work and tests."""
    patience: Patience = ENDPOINT
    _failures: int = 0
    _failing_since: datetime | None = None
    _refusals: int = 0
    _openings: int = 0
    _open_until: datetime | None = None
    _probe_until: datetime | None = None

    def is_open(self, now: datetime) -> bool:
        """Return whether it is open; no longer when it waits for a probe."""
        return self._open_until is not None and now < self._open_until

    def wait_s(self, now: datetime) -> float:
        """Return the seconds to wait before an attempt; 0 allows one, which must be `noted`.

        While the breaker is half open one attempt alone is allowed: the probe.
        """
        if self._open_until is None:
            return 0.0
        until = max(self._open_until, self._probe_until or self._open_until)
        if now < until:
            return (until - now).total_seconds()
        self._probe_until = now + timedelta(seconds=self.patience.probe_s * self.scale)
        return 0.0

    def note(self, judged: Judged, now: datetime, *, retry_after_s: float | None = None) -> bool:
        """Note what an attempt showed; return whether that opened the breaker."""
        if judged == "works":
            self._failures = self._refusals = self._openings = 0
            self._failing_since = None
            self._open_until = self._probe_until = None
            return False
        was_probe = self._probe_until is not None
        self._probe_until = None
        if judged == "fails":
            self._failures += 1
            self._failing_since = self._failing_since or now
        else:
            self._failures, self._refusals = 0, self._refusals + 1
            self._failing_since = None
        is_enough = self._has_failed_for_long(now) or self._refusals >= _REFUSALS_MAX
        if not (is_enough or was_probe):
            return False
        if self._open_until is not None and not was_probe and now < self._open_until:
            return False  # one that was under way when it opened says nothing new
        self._openings += 1
        shortest_s, longest_s = self.patience.open_s
        open_s = min(shortest_s * 2.0 ** min(self._openings - 1, 10), longest_s)
        open_s = max(open_s * self.scale, min(retry_after_s or 0.0, longest_s))
        self._open_until = now + timedelta(seconds=open_s)
        return True

    def _has_failed_for_long(self, now: datetime) -> bool:
        if self._failing_since is None or self._failures < _FAILURES_MAX:
            return False
        return (now - self._failing_since).total_seconds() >= self.patience.failing_s


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
