"""Deadlines: one point in time that every call of a request shares."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

_ANSWER_SHARE: Final = 0.1
"""Part of the time for an answer that belongs to making it, when all calls have ended."""

_ANSWER_S: Final = (0.010, 0.040)
"""Seconds of it, at least and at most: an answer takes half a millisecond, but requests whose calls
end at the same moment make theirs one after the other (bench/lateness.py)."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock; passing one object on keeps the total bounded."""

    at: float
    """Seconds of `time.monotonic()`."""

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline that lies `seconds` from now."""
        return cls(time.monotonic() + seconds)

    @classmethod
    def of_calls(cls, answer_s: float) -> Deadline:
        """Return the deadline of the calls behind an answer that is due `answer_s` from now."""
        return cls.after(seconds_of_calls(answer_s))

    @property
    def remaining_s(self) -> float:
        """Seconds left; never below 0.001, because a client library reads 0 as no limit."""
        return max(self.at - time.monotonic(), 0.001)

    @property
    def is_over(self) -> bool:
        """Whether the time has passed."""
        return time.monotonic() >= self.at

    def at_most(self, seconds: float) -> Deadline:
        """Return the earlier of this deadline and `seconds` from now."""
        return Deadline(min(self.at, time.monotonic() + seconds))


def seconds_of_calls(answer_s: float) -> float:
    """Return how many of an answer's seconds the calls behind it may take."""
    least_s, most_s = _ANSWER_S
    return answer_s - min(max(answer_s * _ANSWER_SHARE, least_s), most_s, answer_s / 2)
