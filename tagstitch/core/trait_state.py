"""States of traits: plain data that can be stored, merged and read without their definitions.

`merge_states` is commutative and associative and has None as its identity, and folding an event is
merging with the state of that event alone. So the value is the same for every order of events and
for every way to divide them between identifiers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tagstitch.core.limits import CLOCK_SKEW_S, TRAIT_SESSION_S_MAX, TRAIT_SILENCE_S
from tagstitch.core.scalar_text import scalar_text
from tagstitch.core.trait_operations import OPERATIONS
from tagstitch.core.trait_terms import Reading, Terms, read_terms
from tagstitch.core.trait_window import MICROSECONDS, Window, session_bucket

State = Mapping[str, Any]
"""Terms, `at` (the newest time folded), `parts` (bucket -> part), in sessions `spans`."""

Traits = Mapping[str, State]
"""Name -> state, as a profile's document and a contribution hold them."""

_STATE_FIELDS: Final = (
    ("operation", str), ("edition", int), ("digest", str), ("at", int), ("parts", Mapping),
)  # fmt: skip

_SAMPLES: Final[Mapping[str, Any]] = {"nothing": None, "number": 1, "clock": 0}
"""What an operation reads -> what it may read of an event; a text for the others."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SESSION_KEPT_S: Final = TRAIT_SESSION_S_MAX + int(CLOCK_SKEW_S)


def microseconds(at: datetime) -> int:
    """Return the whole microseconds since 1970 of an aware time."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def fold_values(terms: Terms, state: State | None, values: Iterable[Any], at: int) -> State | None:
    """Return the state with the values of one event, or the same object when nothing changes.

    A state of an older edition of the definition, or of another one with the same number, starts
    anew; one of a newer edition stays as it is.
    """
    added = _state_of(terms, values, at)
    if added is None or state is None:
        return state if added is None else added
    if _rank(state) != terms.rank:
        return state if _rank(state)[0] > terms.edition else added
    merged = merge_states(state, added)
    return state if merged == state else merged


def _state_of(terms: Terms, values: Iterable[Any], at: int) -> State | None:
    """Return the state of one event alone."""
    operation = OPERATIONS[terms.operation]
    parts = []
    seen: dict[str | None, int] = {}
    for value in values:
        name = scalar_text(value)
        ordinal = seen[name] = seen.get(name, -1) + 1
        parts.append(operation.start(value, at, ordinal))
    if not parts:
        return None
    while len(parts) > 1:  # in pairs: one after another, the first part would be copied each time
        pairs = zip(parts[::2], parts[1::2], strict=False)
        odd = parts[len(parts) - 1 :] if len(parts) % 2 else []
        parts = [operation.join(one, other, terms) for one, other in pairs] + odd
    part = parts[0]
    state = terms.to_state() | {"at": at, "parts": {terms.window.bucket_of(at): part}}
    if terms.window.kind == "session":
        state["spans"] = {session_bucket(at): [at, at]}
    return state


def merge_states(one: State | None, other: State | None) -> State | None:
    """Return the state of the events of both; of two definitions the greater one's stays."""
    if one is None or other is None:
        return other if one is None else one
    if _rank(one) != _rank(other):
        return max(one, other, key=_rank)
    terms = read_terms(one)
    join = OPERATIONS[terms.operation].join
    newest = max(one["at"], other["at"])
    parts = dict(one["parts"])
    for bucket, part in other["parts"].items():
        parts[bucket] = join(parts[bucket], part, terms) if bucket in parts else part
    merged: dict[str, Any] = {**one, "at": newest, "parts": _kept(terms.window, parts, newest)}
    if terms.window.kind == "session":
        merged["spans"] = _merged_spans(one["spans"], other["spans"], newest)
    return merged


def value_of(state: State | None, *, now: datetime) -> Any:
    """Return the value at this moment, or None when nothing that was counted is in the window.

    None is also the value of what has expired, and of an operation that this version cannot read.
    """
    return None if state is None else read_value(state, microseconds(now))


def read_value(state: State, now: int) -> Any:
    """Return the value at a moment in microseconds, as `value_of` does."""
    operation = OPERATIONS.get(state["operation"])
    if operation is None:
        return None
    terms = read_terms(state)
    if terms.expires_s and now - state["at"] >= terms.expires_s * MICROSECONDS:
        return None
    start = terms.window.start(now, state.get("spans", {}))
    if start is None:
        return None
    parts: Mapping[str, Any] = state["parts"]
    inside = list(parts.values())
    if terms.window.bucket_s:
        first = terms.window.first_bucket(start)
        inside = [part for bucket, part in parts.items() if int(bucket) >= first]
    return operation.read(inside, Reading(terms, now, start)) if inside else None


def merge_traits(one: Traits, other: Traits) -> Traits:
    """Return the traits of both; the order does not matter, and none at all change nothing.

    A state that somebody edited so that it cannot be merged gives way to the other one; where both
    are such, or do not fit together, neither stays.
    """
    if not one or not other:
        return one or other
    merged = dict(one)
    for name, state in other.items():
        both = _merged_if_sound(one[name], state) if name in one else state
        if both is None:
            del merged[name]
        else:
            merged[name] = both
    return merged


def unmergeable(traits: Traits) -> tuple[str, ...]:
    """Return the names of the traits whose states cannot be merged: somebody edited them."""
    return tuple(name for name, state in traits.items() if not _is_mergeable(state))


def _merged_if_sound(one: State, other: State) -> State | None:
    sound = [state for state in (one, other) if _is_mergeable(state)]
    if len(sound) < 2:
        return sound[0] if sound else None
    try:
        return merge_states(one, other)
    except Exception:  # noqa: BLE001 - each of them can be read, and they do not fit together
        return None


def _is_mergeable(state: State) -> bool:
    """Return whether one more event could be merged into each of its parts, and that read."""
    try:
        operation = OPERATIONS[state["operation"]]
        part = operation.start(_SAMPLES.get(operation.reads, "0"), state["at"], 0)
        event = {**state, "parts": dict.fromkeys(state["parts"], part)}
        for more in (merge_states(state, event), merge_states(event, state)):
            read_value(more or state, state["at"])
    except Exception:  # noqa: BLE001 - whatever stands there
        return False
    return True


def stored_traits(stored: object) -> Traits:
    """Return the states of a stored document; what is no state is left out."""
    if not isinstance(stored, Mapping):
        return {}
    return {name: state for name, state in stored.items() if _is_state(state)}


def trait_values(traits: Traits, *, now: datetime) -> dict[str, Any]:
    """Return the attributes that the traits come to at this moment; what has no value is absent."""
    moment = microseconds(now)
    values = {name: _readable_value(state, moment) for name, state in traits.items()}
    return {name: value for name, value in values.items() if value is not None}


def _is_state(stored: object) -> bool:
    return isinstance(stored, Mapping) and all(
        isinstance(stored.get(name), kind) for name, kind in _STATE_FIELDS
    )


def _readable_value(state: State, now: int) -> Any:
    """Return the value, or None where somebody edited the stored state: a lookup must not fail."""
    try:
        return read_value(state, now)
    except Exception:  # noqa: BLE001 - a lookup must not fail, whatever stands there
        return None


def _rank(state: State) -> tuple[int, str]:
    return (state["edition"], state["digest"])


def _kept(window: Window, parts: dict[str, Any], newest: int) -> dict[str, Any]:
    """Return the parts without those that no look can need any more."""
    if not window.bucket_s:
        return parts
    oldest = window.oldest_kept(newest)
    if min(map(int, parts)) >= oldest:
        return parts
    return {bucket: part for bucket, part in parts.items() if int(bucket) >= oldest}


def _merged_spans(
    one: Mapping[str, Sequence[int]], other: Mapping[str, Sequence[int]], newest: int
) -> dict[str, list[int]]:
    merged = {bucket: list(span) for bucket, span in one.items()}
    for bucket, (first, last) in other.items():
        mine = merged.get(bucket, [first, last])
        merged[bucket] = [min(mine[0], first), max(mine[1], last)]
    oldest = (newest - _SESSION_KEPT_S * MICROSECONDS) // (TRAIT_SILENCE_S * MICROSECONDS)
    return {bucket: span for bucket, span in merged.items() if int(bucket) >= oldest}
