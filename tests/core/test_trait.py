from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tagstitch.core.event import Event
from tagstitch.core.limits import TRAIT_STATE_BYTES_MAX
from tagstitch.core.trait import fold
from tagstitch.core.trait_parsing import parse_trait
from tagstitch.core.trait_state import State, merge_states, trait_values, value_of

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)  # a Saturday
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def value(
    raw: Mapping[str, Any],
    *events: tuple[timedelta, Mapping[str, Any]],
    now: datetime = NOON,
) -> Any:
    """Return the value after events, each with how long before noon it was."""
    state: State | None = None
    definition = parse_trait("t", {"event": "*", **raw})
    for ago, parameters in events:
        event = Event("x", {"event_name": "x", **parameters})
        state = fold(definition, state, event, at=NOON - ago)
    return value_of(state, now=now)


def ages(*ago: timedelta, **parameters: Any) -> list[tuple[timedelta, dict[str, Any]]]:
    return [(age, parameters) for age in ago]


def each(field: str, *values: Any) -> list[tuple[timedelta, dict[str, Any]]]:
    """Return an event a minute, the last one now."""
    return [((len(values) - 1 - i) * MINUTE, {field: v}) for i, v in enumerate(values)]


# --- operations


OPERATIONS = [
    ("count", {}, each("x", 1, 2, 3), 3),
    ("sum", {"field": "value"}, each("value", 0.1, 0.2, "7.50", None, "abc", True, []), 7.8),
    ("sum", {"field": "value"}, each("value", 5, 2.0), 7),
    ("sum", {"field": "value"}, each("value", *[0.1] * 10), 1),
    ("sum", {"field": "value"}, each("value", 10**15, *[10**15] * 20), 21 * 10**15),
    ("sum", {"field": "value"}, each("value", 1e16, 10**400, "9" * 30, -1), -1),
    ("sum", {"field": "items.$.price"}, [(MINUTE, {"items": [{"price": 2}, {"price": 3}, {}]})], 5),
    ("sum", {"field": "items.$count"}, each("items", [{}, {}], [{}], [], "x"), 3),
    ("sum", {"field": "ecommerce.value"}, each("ecommerce", {"value": 4}), 4),
    ("min", {"field": "value"}, each("value", 3, -2.5, 10), -2.5),
    ("max", {"field": "value"}, each("value", 3, -2.5, "10.000"), 10),
    ("mean", {"field": "value"}, each("value", 1, 2, 6), 3),
    ("mean", {"field": "value"}, each("value", 1, 2), 1.5),
    ("first", {"field": "source"}, each("source", None, "google", "mail"), "google"),
    ("last", {"field": "source"}, each("source", "google", "mail", None), "mail"),
    ("last", {"field": "items[0].id"}, each("items", [{"id": 7}]), 7),
    ("last", {"field": "url"}, each("url", "short", "x" * 2_000, {"no": "text"}, ["x"]), "short"),
    ("set", {"value": "trial"}, each("x", 1), "trial"),
    ("set", {"field": "plan"}, each("plan", "trial", "paid"), "paid"),
    ("set_once", {"field": "plan"}, each("plan", "trial", "paid"), "trial"),
    ("set_once", {"value": False}, each("x", 1), False),
    ("unique_list", {"field": "page", "limit": 3}, each("page", *"abcdb"), ["b", "d", "c"]),
    ("unique_list", {"field": "page"}, each("page", 5, 5.0, "5", True), [True, "5", 5]),
    ("unique_list", {"field": "tags.$"}, each("tags", ["a"], ["b", "x" * 300, None]), ["b", "a"]),
    ("count_distinct", {"field": "page"}, each("page", "a", "b", "a", None, 1, 1.0, "1"), 4),
    ("most_frequent", {"field": "page"}, each("page", "a", "b", "b"), "b"),
    ("most_frequent", {"field": "size"}, each("size", 41, 40, 41), 41),
    ("most_frequent", {"by": "page"}, each("page", "b", "a"), "a"),
    ("tally", {"by": "page", "limit": 2}, each("page", *"abbccca"), {"c": 3, "a": 2}),
    ("tally", {"field": "items.$.c"}, each("items", [{"c": "x"}, {"c": "x"}, {}]), {"x": 2}),
    ("tally", {"field": "on"}, each("on", True, 5, "5", ""), {"5": 2, "": 1, "true": 1}),
    ("tally", {"field": "on"}, each("on", 1e300, 0.5, "x" * 65), {"0.5": 1, "1e300": 1}),
    ("time_since_first", {}, ages(10 * DAY, 3 * DAY), 10),
    ("time_since_last", {}, ages(10 * DAY, 3 * DAY + 23 * HOUR), 3),
    ("time_since_last", {"unit": "hours"}, ages(90 * MINUTE), 1),
    ("time_since_last", {"unit": "seconds"}, ages(-MINUTE), 0),
    ("badge", {}, ages(300 * DAY), True),
    ("hour_of_day", {}, ages(HOUR, 2 * HOUR, HOUR + DAY), 11),
    ("hour_of_day", {"time_zone": "Asia/Tokyo"}, ages(HOUR), 20),
    ("day_of_week", {}, ages(HOUR, DAY, 2 * DAY, 8 * DAY), "friday"),
    ("day_of_week", {"time_zone": "Pacific/Auckland"}, ages(HOUR), "sunday"),
]


@pytest.mark.parametrize(("operation", "more", "events", "wanted"), OPERATIONS)
def test_an_operation_computes(
    operation: str, more: dict[str, Any], events: list[Any], wanted: Any
) -> None:
    found = value({"operation": operation, **more}, *events)

    assert (found, type(found)) == (wanted, type(wanted))


@pytest.mark.parametrize(
    "raw",
    [
        {"operation": "sum", "field": "value"},
        {"operation": "last", "field": "value"},
        {"operation": "tally", "field": "items.$.x"},
        {"operation": "count", "when": {"value": 1}},
    ],
)
def test_an_event_without_a_usable_value_leaves_no_state(raw: dict[str, Any]) -> None:
    definition = parse_trait("t", {"event": "*", **raw})

    assert fold(definition, None, Event("x", {"items": [{}]}), at=NOON) is None


def test_dates_out_of_order() -> None:
    moments = [timedelta(), DAY, -DAY, -5 * HOUR]
    events = [(ago, {"at": (NOON - ago).isoformat()}) for ago in moments]
    first = {"operation": "first", "field": "at"}
    last = {"operation": "last", "field": "at"}

    assert value(first, *events) == (NOON - DAY).isoformat()
    assert value(last, *events) == (NOON + DAY).isoformat()


def test_a_field_never_looks_at_the_profile() -> None:
    definition = parse_trait("t", {"event": "*", "operation": "last", "field": "event.tier"})

    state = fold(definition, None, Event("x", {"tier": "Gold"}), at=NOON)

    assert value_of(state, now=NOON) == "Gold"


def test_at_most_200_elements_of_one_event_count() -> None:
    raw = {"operation": "count_distinct", "field": "tags.$"}

    assert value(raw, (MINUTE, {"tags": list(range(1_000))})) == 200


# --- events and conditions


@pytest.mark.parametrize(
    ("event", "when", "counted"),
    [
        ("x", {}, True),
        ("y", {}, False),
        (["y", "x"], {}, True),
        ("*", {"value": {"atLeast": 10}}, True),
        ("*", {"event.value": {"atLeast": 11}}, False),
        ("*", {"items.$.id": 5}, True),
        ("*", {"due": {"after": "now-1d"}}, True),
        ("*", {"due": {"after": "now"}}, False),
        ("*", {"tier": {"exists": False}}, True),
    ],
)
def test_which_events_count(event: Any, when: dict[str, Any], counted: bool) -> None:  # noqa: FBT001
    raw = {"operation": "count", "event": event, "when": when}
    parameters = {"value": 10, "items": [{"id": 5}], "due": "2026-11-19T11:00:00Z"}

    assert value(raw, (2 * DAY, parameters)) == (1 if counted else None)


def test_a_trait_that_is_switched_off_counts_nothing() -> None:
    assert value({"operation": "count", "is_active": False}, *ages(MINUTE)) is None


# --- windows


@pytest.mark.parametrize(
    ("period", "ago", "is_inside"),
    [
        ({"minutes": 30}, 30 * MINUTE, True),
        ({"minutes": 30}, 32 * MINUTE, False),
        ({"hours": 24}, 24 * HOUR, True),
        ({"hours": 24}, 25 * HOUR, False),
        ({"days": 30}, 30 * DAY, True),
        ({"days": 30}, 30 * DAY + 12 * HOUR, True),  # the day in which the window begins
        ({"days": 30}, 30 * DAY + 13 * HOUR, False),
        ({"days": 366}, 366 * DAY, True),
    ],
)
def test_a_rolling_window_begins_with_a_whole_bucket(
    period: dict[str, int],
    ago: timedelta,
    is_inside: bool,  # noqa: FBT001
) -> None:
    raw = {"operation": "count", "window": {"rolling": period}}

    assert value(raw, *ages(ago)) == (1 if is_inside else None)


def test_what_left_the_window_leaves_without_an_event() -> None:
    raw = {"operation": "sum", "field": "value", "window": {"rolling": {"hours": 1}}}
    events = [(50 * MINUTE, {"value": 5}), (10 * MINUTE, {"value": 2})]

    assert value(raw, *events) == 7
    assert value(raw, *events, now=NOON + 20 * MINUTE) == 2
    assert value(raw, *events, now=NOON + 55 * MINUTE) is None


@pytest.mark.parametrize("operation", ["last", "set", "unique_list"])
def test_what_has_its_own_time_leaves_exactly(operation: str) -> None:
    raw = {"operation": operation, "field": "page", "window": {"rolling": {"days": 30}}}

    assert value(raw, *ages(30 * DAY, page="a")) in ("a", ["a"])
    assert value(raw, *ages(30 * DAY + MINUTE, page="a")) is None


def test_an_event_of_a_clock_that_is_ahead_takes_nothing_away() -> None:
    raw = {"operation": "count", "window": {"rolling": {"minutes": 5}}}

    assert value(raw, *ages(5 * MINUTE, -5 * MINUTE)) == 2


def test_a_session_ends_after_half_an_hour_of_silence() -> None:
    raw = {"operation": "count", "window": "session"}
    events = ages(100 * MINUTE, 59 * MINUTE, 29 * MINUTE, 5 * MINUTE)

    assert value(raw, *events) == 3
    assert value(raw, *events, now=NOON + 25 * MINUTE) == 3
    assert value(raw, *events, now=NOON + 26 * MINUTE) is None


def test_a_late_event_joins_two_sessions() -> None:
    raw = {"operation": "unique_list", "field": "page", "window": "session"}
    early, late = (50 * MINUTE, {"page": "a"}), (0 * MINUTE, {"page": "c"})

    assert value(raw, early, late) == ["c"]
    assert value(raw, early, late, (25 * MINUTE, {"page": "b"})) == ["c", "b", "a"]


def test_a_session_reaches_six_hours_back() -> None:
    raw = {"operation": "count", "window": "session"}

    assert value(raw, *ages(*(n * 20 * MINUTE for n in range(30)))) == 20


def test_a_value_expires_after_its_newest_event() -> None:
    raw = {"operation": "badge", "expires": {"days": 90}}

    assert value(raw, *ages(100 * DAY, 89 * DAY)) is True
    assert value(raw, *ages(100 * DAY, 90 * DAY)) is None


# --- sessions


@pytest.mark.parametrize(
    ("events", "wanted"),
    [
        (each("ga_session_id", 1, 1, "1", 2), 2),
        (ages(0 * MINUTE, 41 * MINUTE, 82 * MINUTE), 3),
        (ages(0 * MINUTE, 20 * MINUTE, 40 * MINUTE), 1),
        (ages(0 * MINUTE, 40 * MINUTE, 20 * MINUTE), 1),
        (ages(HOUR, 2 * HOUR) + each("ga_session_id", 5, 5), 3),
        (ages(DAY, DAY, 2 * DAY, 300 * DAY, 367 * DAY), 3),
    ],
)
def test_sessions_by_id_and_by_silence(events: list[Any], wanted: int) -> None:
    assert value({"operation": "sessions"}, *events) == wanted


def test_sessions_of_a_rolling_window() -> None:
    raw = {"operation": "sessions", "window": {"rolling": {"days": 8}}}

    assert value(raw, *ages(HOUR, 3 * DAY, 10 * DAY)) == 2


# --- approximations


@pytest.mark.parametrize("window", ["lifetime", {"rolling": {"days": 8}}])
def test_count_distinct_is_exact_up_to_its_limit(window: Any) -> None:
    raw = {"operation": "count_distinct", "field": "page", "window": window}
    exact = 1_024 if window == "lifetime" else 128

    assert value(raw, *each("page", *range(exact))) == exact


@pytest.mark.parametrize(
    ("window", "error"), [("lifetime", 0.031), ({"rolling": {"days": 8}}, 0.089)]
)
def test_count_distinct_errs_little_above_it(window: Any, error: float) -> None:
    raw = {"operation": "count_distinct", "field": "page", "window": window}
    events = [(n % 4_000 * 2 * MINUTE, {"page": n % 4_000}) for n in range(8_000)]

    assert value(raw, *events) == pytest.approx(4_000, rel=3 * error)


def test_a_tally_is_exact_up_to_100_keys() -> None:
    raw = {"operation": "tally", "field": "page", "limit": 2}
    pages = [f"p{n % 100:02}" for n in range(300)] + ["p07", "p07", "p42"]

    assert value(raw, *each("page", *pages)) == {"p07": 5, "p42": 4}


@pytest.mark.parametrize("window", ["lifetime", {"rolling": {"days": 8}}])
def test_a_large_tally_keeps_the_shares_of_frequent_keys(window: Any) -> None:
    raw = {"operation": "tally", "field": "page", "limit": 2, "window": window}
    pages = ["often" if n % 2 else "seldom" if n % 4 else f"p{n}" for n in range(4_000)]
    events = [(n * 2 * MINUTE, {"page": page}) for n, page in enumerate(pages)]

    found = value(raw, *events)

    assert list(found) == ["often", "seldom"]
    assert found["often"] == pytest.approx(2_000, abs=3 * 0.05 * 4_000)
    assert value({**raw, "operation": "most_frequent", "limit": None}, *events) == "often"


# --- states


def test_a_state_says_everything_that_is_needed_to_read_it() -> None:
    definition = parse_trait(
        "t",
        {
            "event": "*", "operation": "sum", "field": "value", "expires": {"days": 5},
            "window": {"rolling": {"days": 30}}, "version": 3,
        },
    )  # fmt: skip

    state = fold(definition, None, Event("x", {"value": 1.5}), at=NOON)

    assert state == {
        "operation": "sum",
        "edition": 3,
        "digest": definition.terms.digest,
        "window": "rolling",
        "length_s": 30 * 86_400,
        "bucket_s": 86_400,
        "expires_s": 5 * 86_400,
        "at": 1_795_262_400_000_000,
        "parts": {"20778": 1_500_000},
    }
    assert definition.bytes_max < TRAIT_STATE_BYTES_MAX


@pytest.mark.parametrize(
    ("change", "counts_anew"),
    [
        ({"version": 2}, True),
        ({"when": {"a": 1}}, True),
        ({"event": "y"}, True),
        ({"window": {"rolling": {"days": 2}}}, True),
        ({"description": "another"}, False),
        ({"purposes": ["loyalty"]}, False),
    ],
)
def test_a_changed_definition_counts_anew(change: dict[str, Any], counts_anew: bool) -> None:  # noqa: FBT001
    raw = {"event": ["x", "y"], "operation": "count"}
    before, after = parse_trait("t", raw), parse_trait("t", {**raw, **change})
    event = Event("y", {"a": 1})
    state = fold(before, fold(before, None, event, at=NOON), event, at=NOON)

    assert value_of(fold(after, state, event, at=NOON), now=NOON) == (1 if counts_anew else 3)


def test_an_earlier_version_leaves_the_state_of_a_later_one() -> None:
    raw = {"event": "x", "operation": "count"}
    old, new = parse_trait("t", raw), parse_trait("t", {**raw, "version": 2})
    event = Event("x", {})
    later = fold(new, None, event, at=NOON)
    earlier = fold(old, None, event, at=NOON)

    assert fold(old, later, event, at=NOON) is later
    assert merge_states(earlier, later) is merge_states(later, earlier) is later


def test_an_operation_of_a_later_program_has_no_value_here() -> None:
    assert value_of({"operation": "median", "edition": 1, "digest": "", "at": 1}, now=NOON) is None


def test_nothing_new_is_the_same_object() -> None:
    definition = parse_trait("t", {"event": "*", "operation": "first", "field": "page"})
    state = fold(definition, None, Event("x", {"page": "a"}), at=NOON)

    assert fold(definition, state, Event("x", {"page": "b"}), at=NOON) is state
    assert fold(definition, state, Event("x", {}), at=NOON) is state


@pytest.mark.parametrize(
    ("raw", "edited"),
    [
        ({"operation": "time_since_last", "unit": "days"}, {"unit_s": 0}),
        ({"operation": "sum", "field": "v"}, {"parts": {"0": {"n": 1, "sum": "much"}}}),
        (
            {"operation": "tally", "field": "v"},
            {"parts": {"0": {"n": 1, "keys": {"a": [float("inf"), 0]}}}},
        ),
    ],
)
def test_a_state_that_somebody_edited_has_no_value(
    raw: Mapping[str, Any], edited: Mapping[str, Any]
) -> None:
    definition = parse_trait("t", {"event": "*", **raw})
    state = fold(definition, None, Event("x", {"event_name": "x", "v": 1}), at=NOON)

    assert trait_values({"t": {**(state or {}), **edited}}, now=NOON) == {}
