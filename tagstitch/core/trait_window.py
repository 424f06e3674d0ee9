"""Windows of traits: how far back a trait looks, and the buckets that make it possible.

A trait keeps one part for each bucket of time, never single events. A rolling window therefore
begins at the start of the bucket in which it would begin: it may count what is up to one bucket
too old, and never misses what is inside.

Times are whole microseconds since 1970 (UTC), and so are the buckets' bounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from tagstitch.core.definition import Definition
from tagstitch.core.limits import (
    CLOCK_SKEW_S,
    TRAIT_PERIOD_S_MAX,
    TRAIT_PERIOD_S_MIN,
    TRAIT_SESSION_S_MAX,
    TRAIT_SILENCE_S,
)
from tagstitch.core.problems import Problems

MICROSECONDS: Final = 1_000_000

WindowKind = Literal["lifetime", "rolling", "session"]
Buckets = Literal["fine", "coarse", "none"]
"""How an operation divides a rolling window: one part is small, or large, or each value in it has
its own time."""

PERIOD_UNITS: Final[Mapping[str, int]] = {"minutes": 60, "hours": 3_600, "days": 86_400}
"""Unit of a period -> its seconds."""

_MINUTE_S, _HOUR_S, _DAY_S = PERIOD_UNITS.values()

_FINE: Final = ((6 * _HOUR_S, _MINUTE_S), (14 * _DAY_S, _HOUR_S), (TRAIT_PERIOD_S_MAX, _DAY_S))
"""(longest window, its bucket): at most 366 of them, so that no state grows beyond its limit."""

_COARSE: Final = 8
"""Buckets of a rolling window where one part may be large."""

_COARSE_S_MIN: Final = 5 * _MINUTE_S
_PERIOD_HINT: Final = "such as {days: 30}, {hours: 24} or {minutes: 90}"

Spans = Mapping[str, Sequence[int]]
"""Bucket -> its first and last time."""


@dataclass(frozen=True, slots=True)
class Window:
    """How far back a trait looks; lengths of 0 mean without end, and one bucket for everything."""

    kind: WindowKind = "lifetime"
    length_s: int = 0
    bucket_s: int = 0

    @property
    def buckets_max(self) -> int:
        """The most buckets that are kept."""
        if not self.bucket_s:
            return 1
        return int(self.length_s + CLOCK_SKEW_S) // self.bucket_s + 2

    def bucket_of(self, at: int) -> str:
        """Return the bucket of a time, as the key of its part."""
        return str(at // (self.bucket_s * MICROSECONDS)) if self.bucket_s else "0"

    def oldest_kept(self, newest: int) -> int:
        """Return the first bucket that a later look may need, given the newest time folded.

        Five minutes more than the window: the newest time may lie that far in the future.
        """
        return self.first_bucket(newest - (self.length_s + int(CLOCK_SKEW_S)) * MICROSECONDS)

    def first_bucket(self, start: int) -> int:
        """Return the bucket in which a look that starts at this time begins."""
        return start // (self.bucket_s * MICROSECONDS)

    def start(self, now: int, spans: Spans) -> int | None:
        """Return when the window begins that ends now, or None when there is none.

        What lies after now counts: it is there because clocks differ.
        """
        if self.kind == "rolling":
            return now - self.length_s * MICROSECONDS
        return _session_start(now, spans) if self.kind == "session" else -(2**63)


LIFETIME: Final = Window()


def session_bucket(at: int) -> str:
    """Return the bucket of a time by which sessions are told apart.

    It is as long as the silence that ends a session: what shares a bucket shares a session.
    """
    return str(at // (TRAIT_SILENCE_S * MICROSECONDS))


def _session_start(now: int, spans: Spans) -> int | None:
    start = None
    before = now
    for bucket in sorted(spans, key=int, reverse=True):
        first, last = spans[bucket]
        if before - last > TRAIT_SILENCE_S * MICROSECONDS:
            break
        start = before = first
    return start


def parse_window(raw: Any, where: str, problems: Problems, *, buckets: Buckets) -> Window:
    """Return the window: `lifetime`, `session`, or `{rolling: {days: 30}}`."""
    if raw == "lifetime":
        return LIFETIME
    if raw == "session":
        return Window("session", TRAIT_SESSION_S_MAX, 0 if buckets == "none" else TRAIT_SILENCE_S)
    if not isinstance(raw, Mapping):
        hint = "lifetime, session, or {rolling: {days: 30}}"
        problems.add(where, "not a window", hint)
        return LIFETIME
    fields = Definition(raw, where, problems)
    length_s = fields.require_with(parse_period, "rolling", TRAIT_PERIOD_S_MAX)
    fields.refuse_rest()
    return Window("rolling", length_s, _bucket_s(length_s, buckets))


def parse_period(raw: Any, where: str, problems: Problems) -> int:
    """Return the seconds of `{minutes: n}`, `{hours: n}` or `{days: n}`."""
    if not isinstance(raw, Mapping) or len(raw) != 1:
        problems.add(where, "needs one unit and its number", _PERIOD_HINT)
        return TRAIT_PERIOD_S_MAX
    ((unit, number),) = raw.items()
    if not isinstance(unit, str) or unit not in PERIOD_UNITS:
        problems.add_unknown(where, "unit", unit, PERIOD_UNITS)
        return TRAIT_PERIOD_S_MAX
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    if not is_number or not math.isfinite(number) or number != number // 1:
        problems.add(f"{where}.{unit}", "must be a whole number", _PERIOD_HINT)
        return TRAIT_PERIOD_S_MAX
    seconds = int(number) * PERIOD_UNITS[unit]
    if not TRAIT_PERIOD_S_MIN <= seconds <= TRAIT_PERIOD_S_MAX:
        problems.add(f"{where}.{unit}", "must be one minute to 366 days", _PERIOD_HINT)
        return TRAIT_PERIOD_S_MAX
    return seconds


def _bucket_s(length_s: int, buckets: Buckets) -> int:
    if buckets == "none":
        return 0
    if buckets == "coarse":
        minutes = math.ceil(length_s / _COARSE / _MINUTE_S)
        return max(_COARSE_S_MIN, minutes * _MINUTE_S)
    return next(bucket_s for longest_s, bucket_s in _FINE if length_s <= longest_s)
