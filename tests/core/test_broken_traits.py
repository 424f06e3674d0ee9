"""Stored states of traits that somebody edited, or that another version wrote."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from tagstitch.core.limits import INTEGER_ABS_MAX
from tagstitch.core.trait_operations import OPERATIONS
from tagstitch.core.trait_state import (
    State,
    fold_values,
    merge_states,
    merge_traits,
    microseconds,
    stored_traits,
    trait_values,
    unmergeable,
)
from tagstitch.core.trait_terms import Terms
from tagstitch.core.trait_window import Window

NOW = datetime(2026, 11, 21, 20, tzinfo=UTC)
AT = microseconds(NOW)
READABLE: Mapping[str, Any] = {"nothing": None, "number": 7, "clock": 3}

GARBAGE: tuple[Any, ...] = (
    None, "x", b"x", 7.5, True, [], {}, [7], {"a": 7}, ["x", "x"], NOW, -1, [None, None],
    {"n": "x", "keys": {"a": 7}}, {"ids": "x", "days": {"x": 7}}, {"not json": AT},
)  # fmt: skip


def state_of(operation: str, window: Window) -> State:
    value = READABLE.get(OPERATIONS[operation].reads, "a")
    terms = Terms(operation, window, limit=3, unit_s=60, digest="d")
    state = fold_values(terms, None, [value], AT)
    assert state is not None
    return state


STATES = {
    name: state_of(name, Window("rolling", 864_000, 86_400) if name == "count" else Window())
    for name in OPERATIONS
}


def edited(state: State, field: str, garbage: Any) -> dict[str, Any]:
    if field == "part":
        return {**state, "parts": dict.fromkeys(state["parts"], garbage)}
    return {**state, field: garbage}


@pytest.mark.parametrize(
    "field", ["part", "parts", "window", "bucket_s", "limit", "at", "operation"]
)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_merge_gets_through_and_its_order_does_not_matter(operation: str, field: str) -> None:
    sound = STATES[operation]
    for garbage in GARBAGE:
        broken = stored_traits({"t": edited(sound, field, garbage)})

        one, other = merge_traits({"t": sound}, broken), merge_traits(broken, {"t": sound})

        if field in ("part", "parts"):
            assert trait_values(one, now=NOW) == trait_values(other, now=NOW)
        if "t" in unmergeable(broken):
            assert one["t"] == other["t"] == sound
        trait_values(merge_traits(broken, broken), now=NOW)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_an_event_made_can_be_merged(operation: str) -> None:
    state = STATES[operation]

    assert unmergeable({"t": state}) == ()
    assert unmergeable({"t": merge_states(state, state) or {}}) == ()


def test_of_two_states_that_cannot_be_merged_neither_stays() -> None:
    sound, broken = STATES["count"], edited(STATES["sum"], "part", "x")

    merged = merge_traits({"a": broken, "b": sound}, {"a": broken, "b": sound})

    assert merged.keys() == {"b"}


def test_an_operation_that_only_a_newer_version_knows_stops_no_merge() -> None:
    unknown = {**STATES["count"], "operation": "median"}

    assert merge_traits({"t": unknown, "u": STATES["sum"]}, {"t": unknown}).keys() == {"u"}
    assert merge_traits({"t": unknown}, {"u": STATES["sum"]}).keys() == {"t", "u"}


@pytest.mark.parametrize("operation", ["count", "mean", "tally", "most_frequent", "hour_of_day"])
def test_no_count_outgrows_what_a_document_can_hold(operation: str) -> None:
    state = STATES[operation]
    for _ in range(70):
        state = merge_states(state, state) or state

    assert max(numbers(state)) == INTEGER_ABS_MAX


def test_days_a_thousand_years_apart_are_no_sessions() -> None:
    state = fold_values(Terms("sessions", digest="d"), None, [None], AT)
    part = {"ids": b"", "days": {"0": b"\x01", "99999999999": b"\x01"}}

    assert trait_values({"t": edited(state or {}, "part", part)}, now=NOW) == {}


def numbers(value: Any) -> list[int]:
    if isinstance(value, Mapping):
        return [number for each in value.values() for number in numbers(each)]
    if isinstance(value, list):
        return [number for each in value for number in numbers(each)]
    return [value] if isinstance(value, int) else []
