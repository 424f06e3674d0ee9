"""Token buckets: so many requests a second on average, and so many at once."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Final

RATE_FORM: Final = (
    "off, or requests a second and, after a comma, how many may come at once, such as 50,100"
)

_RATE: Final = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,3})?)(?: ?, ?([0-9]{1,7}))?")

_PER_SECOND_MAX: Final = 100_000
_BURST_MAX: Final = 1_000_000
"""Requests a second, and at once: more than one process can answer, so more is a mistake."""

_ROUNDING: Final = 1e-6
"""Part of a token that floating point may lose on the way, far below what one request is worth."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What one caller may ask for."""

    per_second: float
    burst: int
    """Requests that may come at once after a pause."""


@dataclass(slots=True)
class TokenBucket:
    """One caller's bucket: full at first, a token for each request."""

    limit: RateLimit
    _tokens: float = field(init=False)
    _filled_at: float = -math.inf
    """Seconds of a monotonic clock."""

    def __post_init__(self) -> None:
        self._tokens = float(self.limit.burst)

    def wait_s(self, now: float) -> float:
        """Take a token and return 0, or return the seconds until there is one.

        `now` is the reading of a monotonic clock; one that goes back adds nothing.
        """
        passed_s = max(now - self._filled_at, 0.0)
        self._filled_at = max(now, self._filled_at)
        filled = self._tokens + passed_s * self.limit.per_second
        self._tokens = min(filled, float(self.limit.burst))
        if self._tokens < 1.0 - _ROUNDING:
            return (1.0 - self._tokens) / self.limit.per_second
        self._tokens = max(self._tokens - 1.0, 0.0)
        return 0.0


def parse_rate(text: str) -> RateLimit | None:
    """Return the limit that a text such as `50,100` names, None for `off`.

    Without a second number a second's worth may come at once. Raises ValueError, which says the
    form and never the text.
    """
    if text == "off":
        return None
    match = _RATE.fullmatch(text)
    per_second = float(match[1]) if match else 0.0
    burst = int(match[2]) if match and match[2] else math.ceil(per_second)
    if not (0 < per_second <= _PER_SECOND_MAX and 0 < burst <= _BURST_MAX):
        raise ValueError(RATE_FORM)
    return RateLimit(per_second, burst)
