"""What holds for every trait and every order of events, found by random search."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagstitch.adapters.document_fields import check_fields
from tagstitch.core.event import Event
from tagstitch.core.limits import TRAIT_STATE_BYTES_MAX
from tagstitch.core.trait import TraitDefinition, fold
from tagstitch.core.trait_operations import OPERATIONS
from tagstitch.core.trait_parsing import LIMITS, parse_trait
from tagstitch.core.trait_state import State, merge_states, value_of
from tests.core.trait_naive import Timed, naive_value

NOW = datetime(2026, 11, 21, 12, 0, 7, tzinfo=UTC)

FIELDS = {"number": "value", "value": "page", "element": "page", "key": "items.$.name"}
ROLLING = [
    {"minutes": 1}, {"minutes": 20}, {"hours": 3}, {"hours": 6}, {"hours": 7}, {"days": 3},
    {"days": 14}, {"days": 30}, {"days": 366},
]  # fmt: skip


def definitions_of(name: str) -> list[TraitDefinition]:
    operation = OPERATIONS[name]
    windows: list[Any] = ["lifetime"]
    windows += [{"rolling": period} for period in ROLLING] if "rolling" in operation.windows else []
    windows += ["session"] if "session" in operation.windows else []
    raw: dict[str, Any] = {"event": "*", "operation": name}
    if operation.reads in FIELDS:
        raw["field"] = FIELDS[operation.reads]
    if operation.reads == "constant":
        raw["field"] = "page"
    if name in LIMITS:
        raw["limit"] = 3
    if name in ("hour_of_day", "day_of_week"):
        raw["time_zone"] = "America/New_York"
    found = [parse_trait("t", {**raw, "window": window}) for window in windows]
    return [*found, parse_trait("t", {**raw, "expires": {"hours": 2}})]


DEFINITIONS = {name: definitions_of(name) for name in OPERATIONS}
ALL = [definition for definitions in DEFINITIONS.values() for definition in definitions]

AGES = st.one_of(
    st.integers(-300, 4 * 3_600).map(lambda s: timedelta(seconds=s)),
    st.integers(0, 400 * 86_400).map(lambda s: timedelta(seconds=s)),
    st.sampled_from([1_800, 3_600, 86_400, 0]).map(lambda s: timedelta(seconds=s)),
    st.integers(0, 3_600_000_000).map(lambda us: timedelta(microseconds=us)),
)
NUMBERS = st.one_of(
    st.sampled_from([0, 0.1, 0.2, "7.50", 19.99, -3, 10**15]),
    st.floats(-1e6, 1e6).map(lambda number: round(number, 4)),
)
TEXTS = st.sampled_from(["a", "b", "c", "d", "", "Ä"])
PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "value": NUMBERS,
        "page": TEXTS,
        "items": st.lists(TEXTS.map(lambda name: {"name": name}), max_size=3),
        "ga_session_id": st.integers(1, 3),
    },
)
EVENTS = st.lists(
    st.tuples(AGES, PARAMETERS).map(
        lambda pair: (NOW - pair[0], Event("x", {"event_name": "x", **pair[1]}))
    ),
    max_size=30,
)


def folded(definition: TraitDefinition, events: Sequence[Timed]) -> State | None:
    state: State | None = None
    for at, event in events:
        state = fold(definition, state, event, at=at)
    return state


def stored_bytes(value: Any) -> int:
    """Return the size as Firestore counts it (https://cloud.google.com/firestore/quotas)."""
    if isinstance(value, str):
        return len(value.encode()) + 1
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, Mapping):
        return sum(stored_bytes(key) + stored_bytes(entry) for key, entry in value.items())
    if isinstance(value, list):
        return sum(map(stored_bytes, value))
    return 1 if isinstance(value, bool) or value is None else 8


@given(st.sampled_from(ALL), EVENTS, st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_the_order_of_events_never_shows(
    definition: TraitDefinition, events: list[Timed], random_: random.Random
) -> None:
    shuffled = list(events)
    random_.shuffle(shuffled)

    assert folded(definition, shuffled) == folded(definition, events)


@given(st.sampled_from(ALL), EVENTS, st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_the_way_to_divide_events_between_identifiers_never_shows(
    definition: TraitDefinition, events: list[Timed], random_: random.Random
) -> None:
    halves: list[list[Timed]] = [[], [], []]
    for event in events:
        random_.choice(halves).append(event)
    one, two, three = (folded(definition, half) for half in halves)
    whole = folded(definition, events)

    assert merge_states(merge_states(one, two), three) == whole
    assert merge_states(one, merge_states(two, three)) == whole
    assert merge_states(merge_states(three, two), one) == whole
    assert merge_states(None, whole) == merge_states(whole, None) == whole


EXACT = [name for name in OPERATIONS if name != "sessions"]


@pytest.mark.parametrize("name", EXACT)
@given(data=st.data(), events=EVENTS, waited=st.sampled_from([0, 60, 1_800, 7_200, 90_000]))
@settings(max_examples=100, deadline=None)
def test_a_value_is_what_all_events_at_once_come_to(
    name: str, data: st.DataObject, events: list[Timed], waited: int
) -> None:
    definition = data.draw(st.sampled_from(DEFINITIONS[name]))
    now = NOW + timedelta(seconds=waited)

    value = value_of(folded(definition, events), now=now)
    wanted = naive_value(definition, events, now)

    if name in ("sum", "min", "max", "mean") and wanted is not None:
        value, wanted = float(value), pytest.approx(float(wanted), rel=1e-12, abs=1e-12)
    assert value == wanted


def visits(times: Sequence[datetime], silence: timedelta) -> int:
    gaps = zip(sorted(times), sorted(times)[1:], strict=False)
    return bool(times) + sum(later - earlier > silence for earlier, later in gaps)


@given(st.lists(AGES.filter(lambda ago: ago.days < 300), max_size=30))
@settings(max_examples=300, deadline=None)
def test_silences_of_40_minutes_divide_visits_and_those_of_30_do_not(ages: list[Any]) -> None:
    definition = DEFINITIONS["sessions"][0]
    times = [NOW - ago for ago in ages]

    found = value_of(folded(definition, [(at, Event("x", {})) for at in times]), now=NOW) or 0

    assert visits(times, timedelta(minutes=40)) <= found <= visits(times, timedelta(minutes=30))


@given(st.sampled_from(ALL), EVENTS)
@settings(max_examples=150, deadline=None)
def test_a_state_is_what_a_document_can_hold(
    definition: TraitDefinition, events: list[Timed]
) -> None:
    state = folded(definition, events)

    if state is not None:
        check_fields(state)
        assert stored_bytes(state) <= definition.bytes_max


@given(st.sampled_from(ALL), EVENTS)
@settings(max_examples=300, deadline=None)
def test_folding_changes_nothing_in_place(definition: TraitDefinition, events: list[Timed]) -> None:
    state = folded(definition, events)
    before = repr(state)

    for at, event in events:
        fold(definition, state, event, at=at + timedelta(seconds=1))
    merge_states(state, state)

    assert repr(state) == before


def largest(definition: TraitDefinition, seed: int) -> State:
    """Return the state after events that fill every bucket with ever new and long values."""
    random_ = random.Random(seed)
    state: State | None = None
    window = definition.terms.window
    length_s = window.length_s or 400 * 86_400
    for step in range(1_500):
        at = NOW - timedelta(seconds=length_s * (step / 1_500))
        text = f"{step}-" + "".join(random_.choices('abcÄ€"\\', k=70))
        event = {
            "value": 10**15,
            "page": text[: random_.choice([20, 60])] * random_.choice([1, 3]),
            "items": [{"name": text[: 30 + number]} for number in range(12)],
        }
        if step % 2:
            event["ga_session_id"] = step
        state = fold(definition, state, Event("x", {"event_name": "x", **event}), at=at)
    assert state is not None
    return state


@pytest.mark.parametrize(
    "definition", ALL, ids=lambda d: f"{d.terms.operation} {d.terms.window.length_s}"
)
def test_a_state_never_outgrows_its_bound(definition: TraitDefinition) -> None:
    assert stored_bytes(largest(definition, 1)) <= definition.bytes_max <= TRAIT_STATE_BYTES_MAX
