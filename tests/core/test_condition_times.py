from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tagstitch.core.paths import Facts
from tagstitch.core.times import read_moment, seconds_of
from tests.core.conditions import NOW, compiled, holds, problems_of

VALUES: list[Any] = [
    "2026-11-21T12:00:00Z", "2026-11-21T12:00", "2026-11-21 12:00:00.000", "2026-11-21T13:00:00+01:00",
    "2026-11-21T07:00:00-0500", "2026-11-21T12:00:00.000000000Z", 1_795_262_400, 1_795_262_400.0,
    1_795_262_400_000, 1_795_262_400_000_000, datetime(2026, 11, 21, 12, tzinfo=UTC),
    datetime(2026, 11, 21, 12), datetime(2026, 11, 21, 14, tzinfo=timezone(timedelta(hours=2))),  # noqa: DTZ001
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_noon_is_noon_in_every_form(value: Any) -> None:
    assert seconds_of(value) == NOW


@pytest.mark.parametrize(
    "value",
    [
        None, True, "", "now", "now-5d", "20261121", "2026-11", "2026-13-01", "2026-02-30", "2026-W47-6",
        "2026-11-21T25:00", "21.11.2026", "Sat, 21 Nov 2026", "\u0662\u0660\u0662\u0666-11-21", "2026-11-21T12:00Z" + "0" * 90,
        0, 5, 2026, 20_261_121, -1_795_262_400, 10**17, 10**400, float("nan"), float("inf"), [NOW], {"a": NOW},
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_what_is_no_time_is_neither_before_nor_after(value: Any) -> None:
    assert not holds({"x": {"before": "2999-01-01"}}, {"x": value})
    assert not holds({"x": {"after": "1800-01-01"}}, {"x": value})
    assert holds({"x": {"notAfter": "1800-01-01"}}, {"x": value})


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("now", 0), ("now-5d", -432_000), ("now+2h30m", 9_000), ("now-1w", -604_800), ("now-90s", -90),
        ("now-1d12h", -129_600), ("now-1d+12h", -43_200),
    ],
)  # fmt: skip
def test_date_mathematics_counts_from_now(written: str, seconds: float) -> None:
    moment = read_moment(written)

    assert moment is not None
    assert (moment.seconds, moment.is_relative) == (seconds, True)


@pytest.mark.parametrize(
    ("conditions", "value"),
    [
        ({"before": "now-5d"}, "2026-11-16T11:59:59Z"),
        ({"after": "now-5d"}, "2026-11-16T12:00:01Z"),
        ({"notBefore": "now-5d"}, "2026-11-16T12:00:00Z"),
        ({"not_after": "now"}, 1_795_262_400_000),
        ({"after": "2026-11-21"}, "2026-11-21T00:00:01Z"),
        ({"notAfter": "2026-11-21"}, "2026-11-21"),
        ({"before": 1_795_262_401}, "2026-11-21T12:00:00Z"),
        ({"after": 1_795_262_399_999}, 1_795_262_400_000_000),
        ({"between": ["2026-11-01", "2026-11-21"]}, "2026-11-21T23:59:59.999999Z"),
        ({"between": ["2026-11-21", "2026-11-21"]}, "2026-11-21"),
        ({"between": ["now-1h", "now"]}, 1_795_262_400),
        ({"between": ["2026-11-01", "now+1h"]}, 1_795_262_400),
        ({"notBetween": ["2026-11-01", "2026-11-21"]}, "2026-11-22T00:00:00Z"),
        ({"notBetween": ["2026-11-21T12:00", "2026-11-21T13:00"]}, "2026-11-21T13:00:00.001Z"),
        ({"notBefore": "now"}, None),
    ],
)
def test_a_time_compares_with_a_moment(conditions: dict[str, Any], value: Any) -> None:
    assert holds({"x": conditions}, {"x": value})


def test_a_text_of_digits_is_an_epoch_and_is_counted() -> None:
    facts = Facts({"x": "1795262400", "y": "5"}, now=NOW)

    assert compiled({"x": {"notBefore": "now"}, "y": {"notAfter": "now"}}).holds(facts)
    assert facts.coercions == 1


def test_the_same_rule_moves_with_the_clock() -> None:
    condition, day = compiled({"x": {"after": "now-1d"}}), 86_400

    assert condition.holds(Facts({"x": NOW - day + 1}, now=NOW))
    assert not condition.holds(Facts({"x": NOW - day + 1}, now=NOW + day))


@pytest.mark.parametrize(
    ("operand", "hint"),
    [
        ("tomorrow", "2026-11-21"), ("11/12/2026", "2026-11-21"), ("2026-02-30", "2026-11-21"),
        ("20261121", "without quotes"), ("1795262400", "without quotes"), (20_261_121, "10 digits"),
        (2026, "10 digits"), (20_261_121_200_000, "10 digits"), (0, "10 digits"), (-5, "10 digits"),
        ("now-1M", "m (minutes)"), ("now-1y", "m (minutes)"), ("now - 1d", "m (minutes)"), ("now-1d/d", "m (minutes)"),
        (True, "in quotes"), (["2026-11-21"], "in quotes"), ({}, "in quotes"),
    ],
)  # fmt: skip
def test_an_ambiguous_time_is_refused(operand: Any, hint: str) -> None:
    (problem,) = problems_of({"x": {"before": operand}})

    assert problem.path == "conditions.x.before"
    assert hint in f"{problem.message} {problem.hint}"


@pytest.mark.parametrize(
    ("bounds", "path"),
    [
        (["2026-11-01", 5], "conditions.x.between"),
        ([5, "2026-11-01"], "conditions.x.between"),
        (["2026-11-02", "2026-11-01"], "conditions.x.between"),
        (["now", "now-1d"], "conditions.x.between"),
        (["2026-11-01", "soon"], "conditions.x.between[1]"),
        (["5", 7], "conditions.x.between[0]"),
        (["2026-11-01"], "conditions.x.between"),
    ],
)
def test_bounds_are_of_one_kind_and_in_order(bounds: list[Any], path: str) -> None:
    assert [path] == [problem.path for problem in problems_of({"x": {"between": bounds}})]


def test_a_timestamp_of_the_store_is_a_time_in_a_rule_too() -> None:
    stored = datetime(2026, 11, 21, tzinfo=UTC)

    assert holds({"x": {"after": stored}}, {"x": "2026-11-21T12:00:00Z"})
    assert problems_of({"x": {"after": stored}}) == []
