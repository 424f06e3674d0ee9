"""Times as people and systems write them: ISO 8601, epochs, and `now` with an offset."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from tagstitch.core.limits import EPOCH_MAX, EPOCH_MIN, TIME_TEXT_CHARS_MAX

DATE_PATTERN: Final = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
ISO_PATTERN: Final = (
    DATE_PATTERN + r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
"""The extended form only: `20261121` may be a date, an epoch or an order number."""

RELATIVE_PATTERN: Final = "now([+-]([0-9]{1,6}[smhdw])+)*"
"""Months and years are left out: their length depends on where one starts."""

_ISO: Final = re.compile(ISO_PATTERN)
_RELATIVE: Final = re.compile(RELATIVE_PATTERN)
_STEP: Final = re.compile("([+-]?)([0-9]+)([smhdw])")

_DATE_CHARS: Final = 10
_DAY_S: Final = 86_400
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": _DAY_S, "w": 7 * _DAY_S}

_EPOCH_UNITS: Final = (1, 1_000, 1_000_000)
"""Seconds, milliseconds and microseconds: their ranges from EPOCH_MIN to EPOCH_MAX do not touch."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time, fixed or relative to the time of the decision."""

    seconds: float
    """Since 1970 (UTC), or since now."""
    is_relative: bool = False
    is_date: bool = False
    """Written without a time of day: the first moment of that day (UTC)."""

    @property
    def end(self) -> Moment:
        """The last moment that a bound which counts includes: of a date, the whole day."""
        if not self.is_date:
            return self
        return Moment(math.nextafter(self.seconds + _DAY_S, 0))


def read_moment(raw: object) -> Moment | None:
    """Return what a rule's author wrote as text, or None when it is neither a date nor `now…`."""
    if not isinstance(raw, str) or len(raw) > TIME_TEXT_CHARS_MAX:
        return None
    if _RELATIVE.fullmatch(raw):
        return Moment(_offset(raw), is_relative=True)
    seconds = _iso_seconds(raw)
    return None if seconds is None else Moment(seconds, is_date=len(raw) == _DATE_CHARS)


def _offset(text: str) -> float:
    total, sign = 0, 1
    for written_sign, count, unit in _STEP.findall(text):
        if written_sign:  # the sign holds for all that follows: now-1d12h is 36 hours ago
            sign = -1 if written_sign == "-" else 1
        total += sign * int(count) * _UNIT_S[unit]
    return float(total)


def text_seconds(text: str) -> float | None:
    """Return the seconds since 1970 of an ISO 8601 date or time (UTC unless it says otherwise)."""
    return _iso_seconds(text) if len(text) <= TIME_TEXT_CHARS_MAX else None


def _iso_seconds(text: str) -> float | None:
    if _ISO.fullmatch(text) is None:
        return None
    try:
        return datetime_seconds(datetime.fromisoformat(text))
    except ValueError:  # the 30th of February
        return None


def epoch_seconds(number: float) -> float | None:
    """Return the seconds since 1970 of an epoch in seconds, milliseconds or microseconds.

    The magnitude tells the unit. What is smaller is no epoch but a zero for "never", a year or
    a date without dashes.
    """
    for unit in _EPOCH_UNITS:
        if EPOCH_MIN * unit <= number < EPOCH_MAX * unit:
            return number / unit
    return None


def datetime_seconds(value: datetime) -> float:
    """Return the seconds since 1970; a time without a zone is UTC."""
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()


def seconds_of(value: Any) -> float | None:
    """Return the seconds since 1970 of an event's or a profile's value, or None."""
    if value.__class__ is str:
        return text_seconds(value)
    if value.__class__ is int or value.__class__ is float:
        return epoch_seconds(value)
    return datetime_seconds(value) if isinstance(value, datetime) else None
