"""Frequency caps: how often a rule, or a group of rules, may act for one visitor.

Counts go by the time of the decision. They are exact as long as the clocks of the instances differ
by no more than `CLOCK_SKEW_S`: a time before the last stored one is looked at in every window that
holds it, and more times are kept than one window can hold. What is stored and cannot be read
counts as used up, since a person who sees an offer too often cannot unsee it.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final, Literal, Protocol, cast

from tagstitch.core.cap_uses import Uses, read_times
from tagstitch.core.definition import Definition
from tagstitch.core.limits import (
    CAP_MAX_MAX,
    CAP_TIMES_MAX,
    CAP_WINDOW_S_MAX,
    CAP_WINDOW_S_MIN,
    CAPS_PER_RULE_MAX,
    CLOCK_SKEW_S,
)
from tagstitch.core.problems import Problems
from tagstitch.core.time_zone import parse_time_zone

CalendarUnit = Literal["hour", "day", "week", "month"]

CALENDAR_UNITS: Final[Mapping[CalendarUnit, timedelta]] = {
    "hour": timedelta(hours=2),
    "day": timedelta(days=2),
    "week": timedelta(days=8),
    "month": timedelta(days=32),
}
"""Unit -> more than its longest, with the hours that a change of the clocks adds."""

WITHIN_PATTERN: Final = r"[1-9][0-9]{0,5}[mhd]"
GROUP_PATTERN: Final = r"[A-Za-z][A-Za-z0-9_]{0,63}"

_WITHIN: Final = re.compile(WITHIN_PATTERN)
_WITHIN_S: Final[Mapping[str, int]] = {"m": 60, "h": 60 * 60, "d": 24 * 60 * 60}
_GROUP: Final = re.compile(GROUP_PATTERN)
_HASH_CHARS: Final = 16
"""80 bits: among 100,000 rules, two share a key with a chance of about 1 to 10^14."""


class Window(Protocol):
    """The times that count together."""

    def to_json(self) -> dict[str, Any]:
        """Return the window as a rule says it."""

    @property
    def retention_s(self) -> float:
        """Seconds after which a use counts no more."""

    def holds(self, number: int, times: Sequence[float], now: float) -> bool:
        """Return whether some window with `now` in it already holds so many of the times."""


def count_uses(window: Window, times: Sequence[float], now: float) -> int:
    """Return how many of the times count together with `now`."""
    return next((n for n in range(len(times), 0, -1) if window.holds(n, times, now)), 0)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """One window without an end."""

    def to_json(self) -> dict[str, Any]:
        """Return the window as a rule says it."""
        return {}

    @property
    def retention_s(self) -> float:
        """Seconds after which a use counts no more."""
        return math.inf

    def holds(self, number: int, times: Sequence[float], now: float) -> bool:  # noqa: ARG002 - the protocol's
        """Return whether there are so many times."""
        return len(times) >= number


@dataclass(frozen=True, slots=True)
class RollingWindow:
    """Any stretch of this length; a use counts no more once it is exactly so long ago."""

    length_s: float

    def to_json(self) -> dict[str, Any]:
        """Return the window as a rule says it."""
        minutes = round(self.length_s / 60)
        for unit, length in (("d", 24 * 60), ("h", 60)):
            if minutes % length == 0:
                return {"within": f"{minutes // length}{unit}"}
        return {"within": f"{minutes}m"}

    @property
    def retention_s(self) -> float:
        """Seconds after which a use counts no more."""
        return self.length_s

    def holds(self, number: int, times: Sequence[float], now: float) -> bool:
        """Return whether some window with `now` in it already holds so many of the times."""
        near = times[bisect_left(times, now - self.length_s) :]
        return any(
            max(last, now) - min(first, now) < self.length_s
            for first, last in zip(near, near[number - 1 :], strict=False)
        )


@dataclass(frozen=True, slots=True)
class CalendarWindow:
    """The hour, day, week from Monday, or month that a clock and a calendar on the wall show."""

    unit: CalendarUnit
    zone: tzinfo = UTC

    def to_json(self) -> dict[str, Any]:
        """Return the window as a rule says it."""
        return {"per": self.unit, "time_zone": str(self.zone)}

    @property
    def retention_s(self) -> float:
        """Seconds after which a use counts no more."""
        return CALENDAR_UNITS[self.unit].total_seconds()

    def holds(self, number: int, times: Sequence[float], now: float) -> bool:
        """Return whether the window of `now` already holds so many of the times."""
        if len(times) < number:
            return False
        start, end = self.around(now)
        return bisect_left(times, end) - bisect_left(times, start) >= number

    def around(self, now: float) -> tuple[float, float]:
        """Return the first moment of the window of `now`, and that of the next one."""
        local = datetime.fromtimestamp(math.floor(now), self.zone)
        start = local.replace(minute=0, second=0, tzinfo=None, fold=0)
        if self.unit == "hour":
            end = start + timedelta(hours=1)
        elif self.unit == "day":
            start = start.replace(hour=0)
            end = start + timedelta(days=1)
        elif self.unit == "week":
            start = start.replace(hour=0) - timedelta(days=start.weekday())
            end = start + timedelta(days=7)
        else:
            start = start.replace(day=1, hour=0)
            end = (start + timedelta(days=32)).replace(day=1)
        return self._moment(start), self._moment(end)

    def _moment(self, wall: datetime) -> float:
        """Return the first moment at which the wall shows this time, or the one after a gap."""
        return wall.replace(tzinfo=self.zone).timestamp()


@dataclass(frozen=True, slots=True)
class UseLimit:
    """At most so many uses in any one window."""

    key: str
    """Of the uses that it counts."""
    is_shared: bool
    """Whether other rules count under the same key."""
    max_uses: int
    window: Window

    def to_json(self) -> dict[str, Any]:
        """Return the limit as a rule says it."""
        group = {"group": self.key.removeprefix("g_")} if self.is_shared else {}
        return {"max": self.max_uses, **self.window.to_json(), **group}


@dataclass(frozen=True, slots=True)
class FrequencyCap:
    """The limits of one rule; all of them must allow a use."""

    limits: tuple[UseLimit, ...]

    def allows(self, uses: Uses, now: float) -> bool:
        """Return whether the rule may act at this moment."""
        for limit in self.limits:
            times = read_times(uses, limit.key)
            if times is None or limit.window.holds(limit.max_uses, times, now):
                return False
        return True

    def record(self, uses: Uses, now: float) -> dict[str, list[float]]:
        """Return the lists that change when the rule acts at this moment.

        Unreadable ones are left as they are.
        """
        changes = {}
        for key in dict.fromkeys(limit.key for limit in self.limits):
            times = read_times(uses, key)
            if times is not None:
                changes[key] = self._needed(key, sorted([*times, now]))
        return changes

    def _needed(self, key: str, times: list[float]) -> list[float]:
        """Return the times without those that no window can need any more.

        Twice as many as the largest limit are kept: when clocks differ, up to one window's worth
        may lie after the time of a decision, and as many before it must still be known. What rules
        share is kept by number alone, since nobody here knows the windows of the other rules.
        """
        limits = [limit for limit in self.limits if limit.key == key]
        if any(limit.is_shared for limit in limits):
            return times[-CAP_TIMES_MAX:]
        oldest = times[-1] - CLOCK_SKEW_S - max(limit.window.retention_s for limit in limits)
        number = 2 * max(limit.max_uses for limit in limits)
        return [time for time in times[-number:] if time >= oldest]


def parse_frequency_cap(
    raw: object, where: str, problems: Problems, *, rule_key: str
) -> FrequencyCap:
    """Return the cap; `rule_key` names the rule among all, such as `rule:personalization:r1`."""
    if not isinstance(raw, list):
        return FrequencyCap((_parse_limit(raw, where, problems, rule_key),))
    if not 0 < len(raw) <= CAPS_PER_RULE_MAX:
        problems.add(where, f"needs 1 to {CAPS_PER_RULE_MAX} caps", "all of them must allow a use")
    return FrequencyCap(
        tuple(
            _parse_limit(one, f"{where}[{index}]", problems, rule_key)
            for index, one in enumerate(raw[:CAPS_PER_RULE_MAX])
        )
    )


def _parse_limit(raw: object, where: str, problems: Problems, rule_key: str) -> UseLimit:
    if not isinstance(raw, Mapping):
        problems.add(where, "a frequency cap must be an object", "such as {max: 3, per: day}")
        raw = {"max": 1}
    fields = Definition(raw, where, problems)
    max_uses = fields.require_with(_max_uses, "max", 1)
    group = fields.take_with(_group, "group", "")
    window = _window(fields)
    fields.refuse_rest()
    return UseLimit(f"g_{group}" if group else own_key(rule_key), bool(group), max_uses, window)


def own_key(rule_key: str) -> str:
    """Return the key of a rule's own uses: short, and of letters and digits for any rule id.

    Such a name needs no quoting in a field path
    (https://cloud.google.com/firestore/docs/reference/rest/v1/Document).
    """
    digest = hashlib.sha256(rule_key.encode("utf-8", "surrogatepass")).digest()
    return "r_" + base64.b32encode(digest).decode()[:_HASH_CHARS].lower()


def _window(fields: Definition) -> Window:
    per, within = fields.take("per"), fields.take("within")
    zone_name = fields.take("time_zone")
    if per is not None and within is not None:
        hint = "per counts by the calendar, within the last so many hours"
        fields.problems.add(fields.place("within"), "either per or within", hint)
    if per is None:
        if zone_name is not None:
            place, message = fields.place("time_zone"), "only per has a time zone"
            fields.problems.add(place, message, "leave it out, or write per: day")
        return Lifetime() if within is None else _rolling(within, fields)
    if not isinstance(per, str) or per not in CALENDAR_UNITS:
        fields.problems.add_unknown(fields.place("per"), "calendar unit", per, CALENDAR_UNITS)
        return Lifetime()
    zone: tzinfo = UTC
    if zone_name is not None:
        zone = parse_time_zone(zone_name, fields.place("time_zone"), fields.problems)
    return CalendarWindow(cast(CalendarUnit, per), zone)


def _rolling(within: object, fields: Definition) -> Window:
    place = fields.place("within")
    if not isinstance(within, str) or not _WITHIN.fullmatch(within):
        fields.problems.add(place, "must be a number of m, h or d", "such as 30m, 24h or 7d")
        return Lifetime()
    length_s = int(within[:-1]) * _WITHIN_S[within[-1]]
    if not CAP_WINDOW_S_MIN <= length_s <= CAP_WINDOW_S_MAX:
        hint = "for a lifetime leave within out"
        fields.problems.add(place, "must be 5 minutes to 366 days", hint)
    return RollingWindow(length_s)


def _max_uses(raw: Any, where: str, problems: Problems) -> int:
    is_whole = isinstance(raw, int | float) and not isinstance(raw, bool) and raw == raw // 1
    if not is_whole or not 1 <= raw <= CAP_MAX_MAX:
        hint = "is_active: false switches a rule off"
        problems.add(where, f"must be a whole number of 1 to {CAP_MAX_MAX}", hint)
        return 1
    return int(raw)


def _group(raw: Any, where: str, problems: Problems) -> str:
    if not isinstance(raw, str) or not _GROUP.fullmatch(raw):
        hint = "a letter, then up to 63 letters, digits and underscores"
        problems.add(where, "not a name of a group", hint)
        return "x"
    return raw
