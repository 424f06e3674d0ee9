from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagstitch.core.cap_uses import Uses, merge_uses, read_times
from tagstitch.core.errors import Problem
from tagstitch.core.frequency_cap import (
    CalendarUnit,
    CalendarWindow,
    FrequencyCap,
    own_key,
    parse_frequency_cap,
)
from tagstitch.core.limits import CAP_MAX_MAX, CAP_TIMES_MAX, CLOCK_SKEW_S
from tagstitch.core.problems import Problems

RULE = "rule:personalization:r1"
KEY = own_key(RULE)
HOUR, DAY = 3600.0, 86_400.0
NOW = 1_800_000_000.0


def cap(raw: object, rule_key: str = RULE) -> FrequencyCap:
    problems = Problems()
    parsed = parse_frequency_cap(raw, "frequency_cap", problems, rule_key=rule_key)
    assert problems.found == []
    return parsed


def problems_of(raw: object) -> list[Problem]:
    problems = Problems()
    parse_frequency_cap(raw, "frequency_cap", problems, rule_key=RULE)
    return problems.found


def at(text: str) -> float:
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


BERLIN_DAY = {"max": 1, "per": "day", "time_zone": "Europe/Berlin"}
BERLIN_HOUR = {"max": 1, "per": "hour", "time_zone": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("raw", "used", "when", "allowed"),
    [
        ({"max": 1}, [], "2026-11-27T10:00", True),
        ({"max": 1}, ["2006-01-01T00:00"], "2026-11-27T10:00", False),
        ({"max": 2}, ["2006-01-01T00:00"], "2026-11-27T10:00", True),
        ({"max": 1, "within": "24h"}, ["2026-11-26T10:00"], "2026-11-27T09:59:59", False),
        ({"max": 1, "within": "24h"}, ["2026-11-26T10:00"], "2026-11-27T10:00", True),
        ({"max": 1, "within": "7d"}, ["2026-11-21T10:00"], "2026-11-27T10:00", False),
        ({"max": 1, "within": "30m"}, ["2026-11-27T09:30"], "2026-11-27T10:00", True),
        ({"max": 2, "within": "1h"}, ["2026-11-27T09:30", "2026-11-27T08:59"], "2026-11-27T10:00", True),
        ({"max": 2, "within": "1h"}, ["2026-11-27T09:30", "2026-11-27T09:01"], "2026-11-27T10:00", False),
        ({"max": 1, "per": "hour"}, ["2026-11-27T09:59:59"], "2026-11-27T10:00", True),
        ({"max": 1, "per": "hour"}, ["2026-11-27T10:00"], "2026-11-27T10:59:59", False),
        ({"max": 1, "per": "day"}, ["2026-11-27T00:00"], "2026-11-27T23:59:59", False),
        ({"max": 1, "per": "day"}, ["2026-11-26T23:59:59"], "2026-11-27T00:00", True),
        ({"max": 1, "per": "week"}, ["2026-11-23T00:00"], "2026-11-29T23:59", False),
        ({"max": 1, "per": "week"}, ["2026-11-22T23:59"], "2026-11-23T00:00", True),
        ({"max": 1, "per": "month"}, ["2026-02-01T00:00"], "2026-02-28T23:59", False),
        ({"max": 1, "per": "month"}, ["2025-12-31T23:59"], "2026-01-01T00:00", True),
        (BERLIN_DAY, ["2026-11-26T23:00"], "2026-11-27T22:59", False),
        (BERLIN_DAY, ["2026-11-26T22:59"], "2026-11-26T23:00", True),
        # days of 23 and of 25 hours, and the hour that comes twice
        (BERLIN_DAY, ["2026-03-28T23:00"], "2026-03-29T21:59", False),
        (BERLIN_DAY, ["2026-03-28T23:00"], "2026-03-29T22:00", True),
        (BERLIN_DAY, ["2026-10-24T22:00"], "2026-10-25T22:59", False),
        (BERLIN_DAY, ["2026-10-24T22:00"], "2026-10-25T23:00", True),
        (BERLIN_HOUR, ["2026-10-25T00:10"], "2026-10-25T01:50", False),
        (BERLIN_HOUR, ["2026-10-25T00:10"], "2026-10-25T02:00", True),
        (BERLIN_HOUR, ["2026-03-29T00:59"], "2026-03-29T01:00", True),
        # a clock that is behind: another instance acted later
        ({"max": 1, "within": "1h"}, ["2026-11-27T10:04"], "2026-11-27T10:00", False),
        ({"max": 1, "per": "day"}, ["2026-11-28T00:01"], "2026-11-27T23:59", True),
        ({"max": 1, "per": "day"}, ["2026-11-27T00:01", "2026-11-28T00:01"], "2026-11-27T23:59", False),
        # several caps: all of them must allow it
        ([{"max": 1, "per": "hour"}, {"max": 2, "per": "day"}], ["2026-11-27T09:00"], "2026-11-27T10:00", True),
        ([{"max": 1, "per": "hour"}, {"max": 2, "per": "day"}], ["2026-11-27T10:00"], "2026-11-27T10:30", False),
        ([{"max": 1, "per": "hour"}, {"max": 2, "per": "day"}],
         ["2026-11-27T08:00", "2026-11-27T09:00"], "2026-11-27T10:00", False),
    ],
)  # fmt: skip
def test_a_cap_allows_what_its_windows_leave(
    raw: object,
    used: list[str],
    when: str,
    allowed: bool,  # noqa: FBT001
) -> None:
    assert cap(raw).allows({KEY: [at(text) for text in used]}, at(when)) is allowed


def test_a_use_is_recorded_under_the_rules_own_key() -> None:
    daily = cap({"max": 3.0, "per": "day"})

    changes = daily.record({KEY: [NOW - 60], "r_other": [1.0]}, NOW)

    assert changes == {KEY: [NOW - 60, NOW]}


def test_a_key_needs_no_quoting_and_differs_from_rule_to_rule() -> None:
    keys = {
        own_key(f"rule:{kind}:{id_}") for kind in ("event", "x") for id_ in ("a.b/`c`", "é", "")
    }

    assert len(keys) == 6
    assert all(re.fullmatch(r"r_[a-z2-7]{16}", key) for key in keys)


def test_two_rules_of_one_group_count_together_within_one_decision() -> None:
    offer = cap({"max": 2, "per": "day", "group": "offers"}, "rule:personalization:offer")
    banner = cap({"max": 2, "per": "day", "group": "offers"}, "rule:personalization:banner")
    uses: Uses = {}

    for rule in (offer, banner):
        assert rule.allows(uses, NOW)
        uses = {**uses, **rule.record(uses, NOW)}

    assert uses == {"g_offers": [NOW, NOW]}
    assert not offer.allows(uses, NOW)


def test_a_rule_may_count_for_itself_and_for_a_group() -> None:
    both = cap([{"max": 1, "per": "day"}, {"max": 5, "within": "7d", "group": "offers"}])

    assert both.record({}, NOW) == {KEY: [NOW], "g_offers": [NOW]}
    assert not both.allows({"g_offers": [NOW] * 5}, NOW)


def test_a_narrow_rule_of_a_group_keeps_what_a_wide_one_needs() -> None:
    hourly = cap({"max": 1, "per": "hour", "group": "offers"})
    ever = cap({"max": 2, "group": "offers"}, "rule:event:other")
    uses: Uses = {"g_offers": [NOW - 300 * DAY]}

    uses = hourly.record(uses, NOW)

    assert not ever.allows(uses, NOW + DAY)


def test_what_no_window_of_the_rule_needs_any_more_is_dropped() -> None:
    daily = cap({"max": 3, "per": "day"})
    times = [NOW - 3 * DAY, NOW - HOUR]

    assert daily.record({KEY: times}, NOW) == {KEY: [NOW - HOUR, NOW]}
    assert cap({"max": 3}).record({KEY: times}, NOW) == {KEY: [*times, NOW]}
    assert len(daily.record({KEY: [NOW] * CAP_TIMES_MAX}, NOW)[KEY]) == 6


def test_a_clock_that_is_behind_still_finds_every_use_of_its_window() -> None:
    hourly = cap({"max": 2, "within": "1h"})
    uses: Uses = {}

    for now in (NOW, NOW + 1, NOW + HOUR + 5):
        assert hourly.allows(uses, now)
        uses = hourly.record(uses, now)

    assert not hourly.allows(uses, NOW + HOUR - 100)


def test_the_list_of_a_group_is_bounded() -> None:
    busy = cap({"max": CAP_MAX_MAX, "within": "5m", "group": "offers"})
    uses: Uses = {}

    for number in range(3 * CAP_TIMES_MAX):
        uses = busy.record(uses, NOW + number * HOUR)

    assert len(uses["g_offers"]) == CAP_TIMES_MAX


@pytest.mark.parametrize(
    "stored", [None, "1", 5, {"a": 1}, [None], ["1"], [True], [math.nan], [10**400], "", [datetime(2026, 1, 1, tzinfo=UTC)]]
)  # fmt: skip
def test_what_cannot_be_read_counts_as_used_up(stored: object) -> None:
    often = cap({"max": 100})

    assert not often.allows({KEY: stored}, NOW)
    assert often.record({KEY: stored}, NOW) == {}
    assert merge_uses({KEY: stored}, {KEY: [1.0]}) == {KEY: None}
    assert merge_uses({}, {KEY: stored}) == {KEY: None}


def test_times_in_disorder_are_put_in_order() -> None:
    assert read_times({KEY: [3, 1.5, 2]}, KEY) == [1.5, 2, 3]


def test_a_merge_never_allows_a_once_only_offer_again() -> None:
    once = cap({"max": 1})

    merged = merge_uses({KEY: [NOW]}, {"g_offers": [NOW]})

    assert merged == {KEY: [NOW], "g_offers": [NOW]}
    assert not once.allows(merged, NOW + 300 * DAY)


USES = st.dictionaries(
    st.sampled_from(["r_a", "r_b", "g_c"]),
    st.lists(st.integers(0, 9).map(float), max_size=8) | st.just([1.0] * 150) | st.none(),
)


@given(USES, USES, USES)
def test_a_merge_minds_neither_order_nor_repetition(one: Uses, other: Uses, third: Uses) -> None:
    merged = merge_uses(one, other)

    assert merged == merge_uses(other, one)
    assert merged == merge_uses(merged, other) == merge_uses(merged, merged)
    assert merge_uses(merged, third) == merge_uses(one, merge_uses(other, third))


UNITS: dict[CalendarUnit, str] = {
    "hour": "%Y-%m-%d %H", "day": "%Y-%m-%d", "week": "%G-%V", "month": "%Y-%m",
}  # fmt: skip
ZONES = ["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu",
         "America/Havana", "Africa/Cairo"]  # fmt: skip
WINDOWS = st.one_of(
    st.just({}),
    st.sampled_from(["5m", "7m", "30m", "2h", "1d"]).map(lambda within: {"within": within}),
    st.builds(lambda per, zone: {"per": per, "time_zone": zone},
              st.sampled_from(list(UNITS)), st.sampled_from(ZONES)),
)  # fmt: skip
CAPS = st.builds(lambda max_, window: {"max": max_, **window}, st.integers(1, 4), WINDOWS)
STEPS = st.lists(
    st.integers(1, 200) | st.integers(200, 5_000) | st.integers(0, 100_000) | st.integers(-290, 0),
    min_size=1, max_size=60,
)  # fmt: skip
STARTS = st.sampled_from(
    ["2026-03-28T20:00", "2026-10-24T20:00", "2026-04-04T10:00", "2026-12-31T20:00"]
)


def model_allows(raw: dict[str, Any], times: Sequence[float], now: float) -> bool:
    """Return the same from every use there ever was, without any cleverness."""
    most: int = raw["max"]
    if "within" in raw:
        unit = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
        length = int(raw["within"][:-1]) * unit[raw["within"][-1]].total_seconds()
        starts = [time for time in (*times, now) if time <= now < time + length]
        return all(sum(s <= time < s + length for time in times) < most for s in starts)
    if "per" in raw:
        zone, form = ZoneInfo(raw["time_zone"]), UNITS[raw["per"]]
        shown = [datetime.fromtimestamp(time, zone).strftime(form) for time in (*times, now)]
        return shown[:-1].count(shown[-1]) < most
    return len(times) < most


def moments(start: str, steps: list[int]) -> list[float]:
    """Return times of decisions by clocks that differ, but by no more than they may."""
    latest, found = at(start), []
    for step in steps:
        found.append(latest + step)
        latest = max(latest, latest + step)
    assert max(0, *(-step for step in steps)) <= CLOCK_SKEW_S
    return found


@given(st.lists(CAPS, min_size=1, max_size=3), STARTS, STEPS)
def test_a_rule_acts_exactly_as_often_as_its_caps_allow(
    raw: list[dict[str, Any]], start: str, steps: list[int]
) -> None:
    parsed = cap(raw)
    uses: Uses = {}
    every_time: list[float] = []

    for now in moments(start, steps):
        allowed = parsed.allows(uses, now)
        assert allowed == all(model_allows(one, every_time, now) for one in raw)
        if allowed:
            uses = {**uses, **parsed.record(uses, now)}
            every_time.append(now)


@given(st.lists(CAPS, min_size=2, max_size=4), STARTS, st.data())
def test_the_rules_of_a_group_act_exactly_as_often_as_their_caps_allow(
    raw: list[dict[str, Any]], start: str, data: st.DataObject
) -> None:
    rules = [cap({**one, "group": "g"}, f"rule:event:{i}") for i, one in enumerate(raw)]
    uses: Uses = {}
    every_time: list[float] = []

    for now in moments(start, data.draw(STEPS)):
        which = data.draw(st.integers(0, len(rules) - 1))
        allowed = rules[which].allows(uses, now)
        assert allowed == model_allows(raw[which], every_time, now)
        if allowed:
            uses = {**uses, **rules[which].record(uses, now)}
            every_time.append(now)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("zone", ZONES)
def test_calendar_windows_follow_each_other_without_a_gap(unit: CalendarUnit, zone: str) -> None:
    window = CalendarWindow(unit, ZoneInfo(zone))
    moment, end = at("2026-01-01T12:00"), at("2026-12-31T12:00")

    while moment < end:
        start, following = window.around(moment)
        assert start <= moment < following
        assert window.around(start) == window.around(following - 1) == (start, following)
        moment = following


@pytest.mark.parametrize(
    ("raw", "path", "hint"),
    [
        (3, "frequency_cap", "such as"),
        ("3 per day", "frequency_cap", "such as"),
        ([], "frequency_cap", "all of them"),
        ([{"max": 1}] * 6, "frequency_cap", "all of them"),
        ([{"max": 1}, None], "frequency_cap[1]", "such as"),
        ({}, "frequency_cap.max", None),
        ({"max": 0}, "frequency_cap.max", "switches a rule off"),
        ({"max": 101}, "frequency_cap.max", None),
        ({"max": 1.5}, "frequency_cap.max", None),
        ({"max": math.nan}, "frequency_cap.max", None),
        ({"max": True}, "frequency_cap.max", None),
        ({"max": "3"}, "frequency_cap.max", None),
        ({"max": 1, "per": "dya"}, "frequency_cap.per", "did you mean day?"),
        ({"max": 1, "per": ["day"]}, "frequency_cap.per", "did you mean day?"),
        ({"max": 1, "per": "day", "within": "1h"}, "frequency_cap.within", "by the calendar"),
        ({"max": 1, "within": "1 hour"}, "frequency_cap.within", "such as"),
        ({"max": 1, "within": 24}, "frequency_cap.within", "such as"),
        ({"max": 1, "within": "4m"}, "frequency_cap.within", "lifetime"),
        ({"max": 1, "within": "367d"}, "frequency_cap.within", "lifetime"),
        ({"max": 1, "time_zone": "Europe/Berlin"}, "frequency_cap.time_zone", "per: day"),
        ({"max": 1, "per": "day", "time_zone": "Berlin"}, "frequency_cap.time_zone", "did you mean"),
        ({"max": 1, "group": "a.b"}, "frequency_cap.group", "underscores"),
        ({"max": 1, "group": ""}, "frequency_cap.group", "underscores"),
        ({"max": 1, "gruop": "a"}, "frequency_cap.gruop", "did you mean group?"),
    ],
)  # fmt: skip
def test_a_wrong_cap_says_where_and_what_to_do(raw: object, path: str, hint: str | None) -> None:
    problem = problems_of(raw)[0]

    assert path == problem.path
    assert hint is None or hint in (problem.hint or "")
