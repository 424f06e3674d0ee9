"""Schedules: when a rule or an experiment is open, by the clock on a wall of its time zone.

A time of day means what that clock shows. What a change of the clocks skips never comes, what it
repeats counts both times.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any, Final, TypeVar

from tagstitch.core.definition import Definition
from tagstitch.core.limits import SCHEDULE_HOURS_MAX
from tagstitch.core.problems import Problems, suggestion
from tagstitch.core.time_zone import parse_time_zone

_DAYS_OF_WEEK: Final = (
    "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday",
)  # fmt: skip

_LOWER_CASE: Final[Mapping[str, tuple[int, ...]]] = {
    **{name[:3]: (number,) for number, name in enumerate(_DAYS_OF_WEEK)},
    **{name: (number,) for number, name in enumerate(_DAYS_OF_WEEK)},
    "weekdays": (0, 1, 2, 3, 4),
    "weekend": (5, 6),
}

DAYS: Final[Mapping[str, tuple[int, ...]]] = {
    **_LOWER_CASE,
    **{word.capitalize(): numbers for word, numbers in _LOWER_CASE.items()},
}
"""Word -> the days that it means; Monday is 0."""

HOURS_PATTERN: Final = (
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9] ?- ?(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)"
)
TIME_PATTERN: Final = (
    r"(?:19|2[0-9])[0-9]{2}-[0-9]{2}-[0-9]{2}"
    r"(?:[T ](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6})?)?"
    r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?)?"
)

_HOURS: Final = re.compile(HOURS_PATTERN)
_TIME: Final = re.compile(TIME_PATTERN)
_DATE_CHARS: Final = len("2026-11-21")

_DAY_S: Final = 24 * 60 * 60
_WEEK_S: Final = 7 * _DAY_S
_SHARED_MAX: Final = 1024

T = TypeVar("T")

_State = tuple[float, float, bool]
"""(since, until, whether it is open): what holds from `since` up to, but not including, `until`."""

_UNKNOWN: Final[_State] = (math.inf, -math.inf, False)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When something is open. Times are in seconds since 1970 (UTC)."""

    starts_at: float = -math.inf
    ends_at: float = math.inf
    """The first moment at which it is closed for good."""
    week: tuple[int, ...] = ()
    """Where the state changes, in seconds of the local week from Monday 00:00: the first opens, the
    second closes, and so on. Empty for a week without a closed moment."""
    zone: tzinfo = UTC
    _known: list[_State] = field(
        default_factory=lambda: [_UNKNOWN], init=False, repr=False, compare=False
    )
    """The last answer and how long it holds, so that few calls convert a time; it is replaced
    whole, so that threads never see half of it."""

    def is_open(self, now: float) -> bool:
        """Return whether it is open at this moment."""
        since, until, is_open = self._known[0]
        if since <= now < until:
            return is_open
        state = self._known[0] = self._state_at(now)
        return state[2]

    def to_json(self) -> dict[str, Any]:
        """Return when it is open, by the clock of its time zone; what is not limited is left out."""
        bounds = {"from": self.starts_at, "until": self.ends_at}
        told: dict[str, Any] = {
            name: datetime.fromtimestamp(time, self.zone).isoformat()
            for name, time in bounds.items()
            if math.isfinite(time)
        }
        if self.week:
            spans = zip(self.week[::2], self.week[1::2], strict=True)
            told["week"] = [_span(opens, closes) for opens, closes in spans]
        return {**told, "time_zone": str(self.zone)}

    def _state_at(self, now: float) -> _State:
        if now < self.starts_at:
            return (-math.inf, self.starts_at, False)
        if now >= self.ends_at:
            return (self.ends_at, math.inf, False)
        if not self.week:
            return (self.starts_at, self.ends_at, True)
        second = math.floor(now)  # nothing changes within a second
        local = datetime.fromtimestamp(second, self.zone)
        of_week = _second_of_week(local)
        passed = bisect_right(self.week, of_week)
        change = self.week[passed] if passed < len(self.week) else _WEEK_S
        until = second + min(change - of_week, _DAY_S)
        until = _offset_change(second, until, self.zone)
        return (max(second, self.starts_at), min(until, self.ends_at), passed % 2 == 1)


def never_meet(one: Schedule | None, other: Schedule | None) -> bool:
    """Return True only when one has ended for good before the other starts; None is always open."""
    if one is None or other is None:
        return False
    return one.ends_at <= other.starts_at or other.ends_at <= one.starts_at


def _span(opens: int, closes: int) -> str:
    """Return a part of the week as people write it, such as `monday 09:00-17:30`."""
    day, last = opens // _DAY_S, (closes - 1) // _DAY_S
    until = "" if day == last else f"{_DAYS_OF_WEEK[last]} "
    return f"{_DAYS_OF_WEEK[day]} {_wall(opens, day)}-{until}{_wall(closes, last)}"


def _wall(second_of_week: int, day: int) -> str:
    minutes = (second_of_week - day * _DAY_S) // 60
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _second_of_week(local: datetime) -> int:
    return local.weekday() * _DAY_S + local.hour * 3600 + local.minute * 60 + local.second


def _offset_change(since: int, until: int, zone: tzinfo) -> int:
    """Return when the clocks change between two moments of at most a day, or `until`."""
    offset = datetime.fromtimestamp(since, zone).utcoffset()
    if datetime.fromtimestamp(until, zone).utcoffset() == offset:
        return until
    while until - since > 1:
        middle = (since + until) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            since = middle
        else:
            until = middle
    return until


_shared: Final = lru_cache(maxsize=_SHARED_MAX)(Schedule)
"""Rules with the same schedule share one, and so its last answer."""


def parse_schedule(raw: object, where: str, problems: Problems) -> Schedule:
    """Return the schedule; after noting a problem, one that is always open."""
    hint = "give at least one of from, until, days, hours"
    if not isinstance(raw, Mapping):
        problems.add(where, "a schedule must be an object", hint)
        return _shared()
    fields = Definition(raw, where, problems)
    utc: tzinfo = UTC
    zone = fields.take_with(parse_time_zone, "time_zone", utc)
    given = {name: fields.take(name) for name in ("from", "until", "days", "hours")}
    fields.refuse_rest()
    if not any(value is not None for value in given.values()):
        problems.add(where, "the schedule is empty", hint)
    starts_at, ends_at = _start(given["from"], zone, fields), _end(given["until"], zone, fields)
    if starts_at >= ends_at:
        place, hint = fields.place("until"), "a date alone includes that whole day"
        problems.add(place, "must lie after from", hint)
    days, hours = _days(given["days"], fields), _hours(given["hours"], fields)
    return _shared(starts_at, ends_at, _open_week(days, hours), zone)


def _start(raw: object, zone: tzinfo, fields: Definition) -> float:
    time = _time(raw, zone, fields, "from")
    return -math.inf if time is None else time.timestamp()


def _end(raw: object, zone: tzinfo, fields: Definition) -> float:
    time = _time(raw, zone, fields, "until")
    if time is None:
        return math.inf
    if isinstance(raw, str) and len(raw) == _DATE_CHARS:
        time += timedelta(days=1)  # of the calendar: 23 or 25 hours when the clocks change
    return time.timestamp()


def _time(raw: object, zone: tzinfo, fields: Definition, key: str) -> datetime | None:
    """Return the time; one that the clocks skip or repeat is read with the offset before that."""
    if raw is None:
        return None
    if isinstance(raw, str) and _TIME.fullmatch(raw):
        try:
            time = datetime.fromisoformat(raw)
        except ValueError:
            fields.problems.add(fields.place(key), "no such day in the calendar")
            return None
        return time if time.tzinfo is not None else time.replace(tzinfo=zone)
    hint = 'such as "2026-11-27" or "2026-11-27T18:00"; without an offset, in time_zone'
    fields.problems.add(fields.place(key), "must be an ISO 8601 date or time in quotes", hint)
    return None


def _days(raw: object, fields: Definition) -> frozenset[int]:
    """Return the numbers of the days; all of them when nothing is said."""
    every_day = frozenset(range(7))
    words = [raw] if isinstance(raw, str) else raw
    if words is None:
        return every_day
    place = fields.place("days")
    if not isinstance(words, list) or not 0 < len(words) <= len(every_day):
        fields.problems.add(place, "needs a list of 1 to 7 days", "such as [mon, tue] or weekdays")
        return every_day
    days: set[int] = set()
    for at, word in _placed(raw, words, place):
        numbers = DAYS.get(word) if isinstance(word, str) else None
        if numbers is None:
            hint = suggestion(str(word).lower(), _LOWER_CASE)
            fields.problems.add(at, "unknown day", hint)
        days.update(numbers or ())
    return frozenset(days)


def _hours(raw: object, fields: Definition) -> tuple[tuple[int, int], ...]:
    """Return (first second, last second + 1) of a day; past its end when it goes over midnight."""
    whole_day = ((0, _DAY_S),)
    ranges = [raw] if isinstance(raw, str) else raw
    if ranges is None:
        return whole_day
    place, hint = fields.place("hours"), 'such as "09:00-17:30", or "22:00-06:00" over midnight'
    if not isinstance(ranges, list) or not 0 < len(ranges) <= SCHEDULE_HOURS_MAX:
        message = f"needs a range of hours, or a list of 1 to {SCHEDULE_HOURS_MAX}"
        fields.problems.add(place, message, hint)
        return whole_day
    hours = []
    for at, text in _placed(raw, ranges, place):
        if not isinstance(text, str) or not _HOURS.fullmatch(text):
            fields.problems.add(at, "must be HH:MM-HH:MM", hint)
            continue
        start, end = (int(part[:2]) * 3600 + int(part[3:]) * 60 for part in _ends(text))
        if start == end:
            whole = "for the whole day leave hours out, or write 00:00-24:00"
            fields.problems.add(at, "starts where it ends", whole)
        hours.append((start, end if end > start else end + _DAY_S))
    return tuple(hours)


def _placed(raw: object, values: list[T], place: str) -> Iterable[tuple[str, T]]:
    """Yield each value with its place; one that stands alone has the place of the field."""
    for index, value in enumerate(values):
        yield (f"{place}[{index}]" if raw is values else place), value


def _ends(text: str) -> Iterable[str]:
    return map(str.strip, text.split("-"))


@lru_cache(maxsize=_SHARED_MAX)  # many schedules differ in their dates alone
def _open_week(days: frozenset[int], hours: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """Return where the state of the week changes.

    A range over midnight belongs to the day on which it starts.
    """
    spans: list[tuple[int, int]] = []
    for day in days:
        for start, end in hours:
            opens, closes = day * _DAY_S + start, day * _DAY_S + end
            spans.append((opens, min(closes, _WEEK_S)))
            if closes > _WEEK_S:  # from Sunday into Monday
                spans.append((0, closes - _WEEK_S))
    changes: list[int] = []
    for opens, closes in sorted(spans):
        if changes and opens <= changes[-1]:
            changes[-1] = max(changes[-1], closes)
        else:
            changes += [opens, closes]
    return () if changes == [0, _WEEK_S] else tuple(changes)
