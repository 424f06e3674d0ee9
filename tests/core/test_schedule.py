from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagstitch.core.errors import Problem
from tagstitch.core.problems import Problems
from tagstitch.core.schedule import DAYS, Schedule, parse_schedule

OFFICE = {"days": "weekdays", "hours": "09:00-17:30", "time_zone": "Europe/Berlin"}
NIGHT = {"days": ["fri"], "hours": "22:00-06:00", "time_zone": "Europe/Berlin"}
SPLIT = {"hours": ["13:00-17:00", "09:00 - 12:00", "11:00-12:30"]}
SUNDAY_NIGHT = {"days": ["Sunday"], "hours": "23:00-01:00"}
CAMPAIGN = {"from": "2026-11-27", "until": "2026-11-30", "time_zone": "Europe/Berlin"}
LIMITED = {
    "from": "2026-11-27T18:00",
    "until": "2026-11-27T18:30:15Z",
    "time_zone": "Europe/Berlin",
}
EARLY = {"hours": "02:30-05:00", "time_zone": "Europe/Berlin"}
LATE = {"hours": "00:00-02:30", "time_zone": "Europe/Berlin"}


def schedule(raw: object) -> Schedule:
    problems = Problems()
    parsed = parse_schedule(raw, "schedule", problems)
    assert problems.found == []
    return parsed


def problems_of(raw: object) -> list[Problem]:
    problems = Problems()
    parse_schedule(raw, "schedule", problems)
    return problems.found


def at(text: str) -> float:
    """Return the moment; without an offset it is in UTC."""
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


@pytest.mark.parametrize(
    ("raw", "when", "is_open"),
    [
        (OFFICE, "2026-11-27T08:59:59.999+01:00", False),
        (OFFICE, "2026-11-27T09:00+01:00", True),
        (OFFICE, "2026-11-27T17:29:59.999999+01:00", True),
        (OFFICE, "2026-11-27T17:30+01:00", False),
        (OFFICE, "2026-11-28T12:00+01:00", False),
        (NIGHT, "2026-11-27T05:00+01:00", False),
        (NIGHT, "2026-11-27T22:00+01:00", True),
        (NIGHT, "2026-11-28T05:59+01:00", True),
        (NIGHT, "2026-11-28T06:00+01:00", False),
        (NIGHT, "2026-11-28T23:00+01:00", False),
        (SUNDAY_NIGHT, "2026-11-29T22:59", False),
        (SUNDAY_NIGHT, "2026-11-29T23:30", True),
        (SUNDAY_NIGHT, "2026-11-30T00:59", True),
        (SUNDAY_NIGHT, "2026-11-30T01:00", False),
        (SUNDAY_NIGHT, "2026-12-01T00:30", False),
        (SPLIT, "2026-11-27T12:29", True),
        (SPLIT, "2026-11-27T12:30", False),
        (SPLIT, "2026-11-27T13:00", True),
        ({"hours": "00:00-24:00"}, "2026-11-27T23:59:59", True),
        ({"hours": "18:00-00:00"}, "2026-11-27T23:59:59", True),
        ({"hours": "18:00-00:00"}, "2026-11-27T00:00", False),
        ({"days": ["Sat", "sunday"]}, "2026-11-28T00:00", True),
        ({"days": ["Sat", "sunday"]}, "2026-11-30T00:00", False),
        (CAMPAIGN, "2026-11-26T22:59:59", False),
        (CAMPAIGN, "2026-11-26T23:00", True),
        (CAMPAIGN, "2026-11-30T22:59:59.9", True),
        (CAMPAIGN, "2026-11-30T23:00", False),
        (LIMITED, "2026-11-27T16:59:59", False),
        (LIMITED, "2026-11-27T17:00", True),
        (LIMITED, "2026-11-27T18:30:14", True),
        (LIMITED, "2026-11-27T18:30:15", False),
        ({"from": "2026-11-27 18:00:00.5+02:00"}, "2026-11-27T16:00:00.4", False),
        ({"from": "2026-11-27 18:00:00.5+02:00"}, "2026-11-27T16:00:00.5", True),
        ({"until": "2026-11-27"}, "1970-01-01T00:00", True),
    ],
)
def test_a_schedule_is_open_by_the_clock_on_the_wall(raw: object, when: str, is_open: bool) -> None:  # noqa: FBT001
    assert schedule(raw).is_open(at(when)) is is_open


@pytest.mark.parametrize(
    ("raw", "when", "is_open"),
    [
        # 29 March 2026: 02:00 +01:00 is followed by 03:00 +02:00
        (OFFICE, "2026-03-27T08:00", True), (OFFICE, "2026-03-27T07:59", False),
        (OFFICE, "2026-03-30T07:00", True), (OFFICE, "2026-03-30T06:59", False),
        (EARLY, "2026-03-29T00:59:59", False), (EARLY, "2026-03-29T01:00", True),
        (EARLY, "2026-03-29T02:59", True), (EARLY, "2026-03-29T03:00", False),
        (LATE, "2026-03-29T00:59:59", True), (LATE, "2026-03-29T01:00", False),
        # 25 October 2026: 03:00 +02:00 is followed by 02:00 +01:00
        (EARLY, "2026-10-25T00:29", False), (EARLY, "2026-10-25T00:30", True),
        (EARLY, "2026-10-25T01:00", False), (EARLY, "2026-10-25T01:30", True),
        (EARLY, "2026-10-25T03:59", True), (EARLY, "2026-10-25T04:00", False),
        (LATE, "2026-10-25T00:30", False), (LATE, "2026-10-25T01:00", True),
        (LATE, "2026-10-25T01:30", False),
        # days of 23 and of 25 hours
        ({"until": "2026-03-29", "time_zone": "Europe/Berlin"}, "2026-03-29T21:59", True),
        ({"until": "2026-03-29", "time_zone": "Europe/Berlin"}, "2026-03-29T22:00", False),
        ({"until": "2026-10-25", "time_zone": "Europe/Berlin"}, "2026-10-25T22:59", True),
        ({"until": "2026-10-25", "time_zone": "Europe/Berlin"}, "2026-10-25T23:00", False),
    ],
)  # fmt: skip
def test_the_changes_of_the_clocks_are_followed(raw: object, when: str, is_open: bool) -> None:  # noqa: FBT001
    assert schedule(raw).is_open(at(when)) is is_open


def test_an_answer_is_kept_no_longer_than_until_the_clocks_change() -> None:
    early = schedule(EARLY)
    minutes = range(int(at("2026-10-24T22:00")), int(at("2026-10-25T06:00")), 60)

    changes = [minute for minute in minutes if early.is_open(minute) != early.is_open(minute - 60)]

    assert changes == [
        at(text)
        for text in ("2026-10-25T00:30", "2026-10-25T01:00", "2026-10-25T01:30", "2026-10-25T04:00")
    ]


def test_a_time_that_the_clocks_skip_or_repeat_is_read_with_the_offset_before() -> None:
    zone = {"time_zone": "Europe/Berlin"}

    assert schedule({"from": "2026-03-29T02:30", **zone}).starts_at == at("2026-03-29T01:30")
    assert schedule({"from": "2026-10-25T02:30", **zone}).starts_at == at("2026-10-25T00:30")


def test_equal_schedules_share_their_last_answer() -> None:
    assert schedule(dict(OFFICE)) is schedule(
        {**OFFICE, "days": ["mon", "tue", "wed", "thu", "fri"]}
    )


ZONES = ["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Africa/Casablanca",
         "Africa/Cairo", "Asia/Kathmandu", "America/Havana", "Pacific/Apia"]  # fmt: skip
RANGES = st.tuples(st.integers(0, 47), st.integers(1, 48)).filter(lambda r: r[0] != r[1] % 48)


def clock(half_hours: int) -> str:
    return f"{half_hours // 2:02}:{half_hours % 2 * 30:02}"


def shows_an_open_time(local: datetime, days: set[int], ranges: list[tuple[int, int]]) -> bool:
    """Return the same without any cleverness."""
    minute, today = local.hour * 60 + local.minute, local.weekday()
    for start, end in ((start * 30, end * 30) for start, end in ranges):
        if start < end and today in days and start <= minute < end:
            return True
        if start > end and today in days and minute >= start:
            return True
        if start > end and (today - 1) % 7 in days and minute < end:
            return True
    return False


@given(
    zone=st.sampled_from(ZONES),
    days=st.sets(st.sampled_from([word for word in DAYS if len(word) == 3]), min_size=1, max_size=7),
    ranges=st.lists(RANGES, min_size=1, max_size=3),
    first=st.sampled_from([date(2026, 3, 7), date(2026, 3, 28), date(2026, 4, 24),
                           date(2026, 10, 24), date(2026, 2, 13), date(2026, 10, 30)]),
    minutes=st.lists(st.integers(0, 3 * 24 * 60), min_size=1, max_size=50),
)  # fmt: skip
def test_whatever_order_it_is_asked_in_it_says_what_the_clock_shows(
    zone: str, days: set[str], ranges: list[tuple[int, int]], first: date, minutes: list[int]
) -> None:
    hours = [f"{clock(start)}-{clock(end)}" for start, end in ranges]
    parsed = schedule({"days": sorted(days), "hours": hours, "time_zone": zone})
    numbers = {number for word in days for number in DAYS[word]}
    start = datetime(first.year, first.month, first.day, tzinfo=UTC)

    for minute in minutes:
        moment = start + timedelta(minutes=minute)
        wanted = shows_an_open_time(moment.astimezone(ZoneInfo(zone)), numbers, ranges)
        assert parsed.is_open(moment.timestamp()) is wanted


@pytest.mark.parametrize(
    ("raw", "path", "hint"),
    [
        ({}, "schedule", "give at least one"),
        ({"time_zone": "Europe/Berlin"}, "schedule", "give at least one"),
        ({"from": None}, "schedule", "give at least one"),
        ("weekdays", "schedule", "give at least one"),
        ({"day": "mon", "until": "2026-11-27"}, "schedule.day", "did you mean days?"),
        ({"from": "2026-11-28", "until": "2026-11-27"}, "schedule.until", "includes that whole day"),
        ({"from": "2026-11-27T10:00", "until": "2026-11-27T10:00"}, "schedule.until", None),
        ({"from": "27.11.2026"}, "schedule.from", "such as"),
        ({"from": date(2026, 11, 27)}, "schedule.from", "such as"),
        ({"from": 1795000000}, "schedule.from", "such as"),
        ({"until": "2026-02-30"}, "schedule.until", None),
        ({"until": "2026-11-27T25:00"}, "schedule.until", "such as"),
        ({"days": "mon", "time_zone": "europe/berlin"}, "schedule.time_zone", "did you mean Europe/Berlin?"),
        ({"days": "mon", "time_zone": "Europe/Berln"}, "schedule.time_zone", "did you mean Europe/Berlin?"),
        ({"days": "mon", "time_zone": "Europe"}, "schedule.time_zone", "did you mean"),
        ({"days": "mon", "time_zone": "localtime"}, "schedule.time_zone", None),
        ({"days": "mon", "time_zone": "../etc/passwd"}, "schedule.time_zone", "such as"),
        ({"days": "mon", "time_zone": "A/../../passwd"}, "schedule.time_zone", "such as"),
        ({"days": "mon", "time_zone": 1}, "schedule.time_zone", "such as"),
        ({"days": "moonday"}, "schedule.days", "did you mean monday?"),
        ({"days": ["mon", "MON", 3]}, "schedule.days[1]", "did you mean mon?"),
        ({"days": []}, "schedule.days", "weekdays"),
        ({"days": {"mon": True}}, "schedule.days", "weekdays"),
        ({"days": ["mon"] * 8}, "schedule.days", "weekdays"),
        ({"hours": "9-17"}, "schedule.hours", "such as"),
        ({"hours": ["09:00-17:00", "24:00-06:00"]}, "schedule.hours[1]", "such as"),
        ({"hours": "09:00-09:00"}, "schedule.hours", "for the whole day"),
        ({"hours": []}, "schedule.hours", "over midnight"),
        ({"hours": ["09:00-10:00"] * 25}, "schedule.hours", "over midnight"),
        ({"hours": 9}, "schedule.hours", "over midnight"),
    ],
)  # fmt: skip
def test_a_wrong_schedule_says_where_and_what_to_do(raw: Any, path: str, hint: str | None) -> None:
    problem = problems_of(raw)[0]

    assert path == problem.path
    assert hint is None or hint in (problem.hint or "")
