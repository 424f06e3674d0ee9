"""Deadlines: one point in time that every call of a request shares."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

_ANSWER_SHARE: Final = 0.1
"""Part of the time for an answer that belongs to making it, when all calls have ended."""

_ANSWER_S: Final = (0.010, 0.040)
"""Seconds of it, at least and at most."""
_ANSWER_EACH_S: Final = 0.001
"""Seconds on top for each other answer under way: where a store is silent, the calls of all end at
the same moment, and their answers are made one after the other (bench/lateness.py)."""


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
    def of_calls(cls, answer_s: float, *, others: int = 0) -> Deadline:
        """Return the deadline of the calls behind an answer that is due `answer_s` from now.

        `others` is how many other answers this process is at work on.
        """
        return cls.after(seconds_of_calls(answer_s, others=others))

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


class AnswersUnderWay:
    """How many answers this process is at work on."""

    def __init__(self) -> None:
        self._count = 0

    @contextmanager
    def one_more(self) -> Iterator[int]:
        """Count an answer for as long as the block takes; gives how many others there are."""
        self._count += 1
        try:
            yield self._count - 1
        finally:
            self._count -= 1


def seconds_of_calls(answer_s: float, *, others: int = 0) -> float:
    """Return how many of an answer's seconds the calls behind it may take: half of them or more."""
    least_s, most_s = _ANSWER_S
    alone_s = min(max(answer_s * _ANSWER_SHARE, least_s), most_s)
    return answer_s - min(alone_s + others * _ANSWER_EACH_S, answer_s / 2)
