"""The operations of traits: what each reads, what it keeps of an event, and how it adds up.

An operation is a *part* of one value, a *join* of two parts, and a *reading* of the parts in a
window. Every join is commutative and associative: that alone makes a trait independent of the
order of events and of how they were divided between identifiers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from tagstitch.core.limits import TRAIT_ELEMENT_BYTES_MAX, TRAIT_VALUE_BYTES_MAX
from tagstitch.core.trait_distinct import (
    distinct_bytes,
    keep_hash,
    read_distinct,
    unite_hashes,
)
from tagstitch.core.trait_numbers import (
    add_counts,
    add_numbers,
    add_weighed,
    count_one,
    keep_number,
    pick_number,
    read_count,
    read_mean,
    read_picked,
    read_sum,
    weigh_number,
)
from tagstitch.core.trait_scalars import (
    earlier_time,
    either_badge,
    keep_badge,
    keep_earlier,
    keep_later,
    keep_time,
    keep_value,
    later_time,
    list_value,
    read_badge,
    read_earliest,
    read_latest,
    read_list,
    read_time_since,
    unite_lists,
)
from tagstitch.core.trait_sessions import (
    keep_session,
    read_sessions,
    sessions_bytes,
    unite_sessions,
)
from tagstitch.core.trait_tally import (
    add_slots,
    add_tallies,
    count_key,
    count_slot,
    count_text,
    read_most_frequent,
    read_slot,
    read_tally,
    tally_bytes,
)
from tagstitch.core.trait_terms import Reading, Terms
from tagstitch.core.trait_window import Buckets, WindowKind

Reads = Literal["nothing", "number", "value", "element", "key", "constant", "session", "clock"]
"""What an operation needs of an event: a number; one value; values of a list; keys; one value or
a constant of the definition; the session's id; the hour or day on the clock."""

_NUMBER_BYTES: Final = 32
"""Of millionths as text: ten billion of the largest numbers together have 31 digits."""

_VALUE_BYTES: Final = TRAIT_VALUE_BYTES_MAX + 16

_EVER: Final[tuple[WindowKind, ...]] = ("lifetime",)
_ROLLING: Final[tuple[WindowKind, ...]] = ("lifetime", "rolling")
_ANY: Final[tuple[WindowKind, ...]] = ("lifetime", "rolling", "session")


@dataclass(frozen=True, slots=True)
class Operation:
    """One way to compute a trait."""

    reads: Reads
    start: Callable[[Any, int, int], Any]
    """Returns the part of a value, given its time and which of its event's equal values it is."""
    join: Callable[[Any, Any, Terms], Any]
    """Returns the part of both; changes neither."""
    read: Callable[[Sequence[Any], Reading], Any]
    """Returns the value of the parts in the window, of which there is at least one."""
    part_bytes: Callable[[Terms], int]
    """Returns the most bytes of one part."""
    buckets: Buckets = "fine"
    windows: tuple[WindowKind, ...] = _ANY


def _at_most(size: int) -> Callable[[Terms], int]:
    return lambda terms: size  # noqa: ARG005 - the same for all terms


def _list_bytes(terms: Terms) -> int:
    return terms.limit * (TRAIT_ELEMENT_BYTES_MAX + 9)


def _picked(pick: Callable[..., int]) -> Operation:
    return Operation(
        "number", keep_number, pick_number(pick), read_picked(pick), _at_most(_NUMBER_BYTES)
    )


def _since(join: Callable[[int, int, Terms], int]) -> Operation:
    return Operation("nothing", keep_time, join, read_time_since, _at_most(8), "none", _EVER)


def _first(reads: Reads) -> Operation:
    size = _at_most(_VALUE_BYTES)
    return Operation(reads, keep_value, keep_earlier, read_earliest, size, "coarse")


def _last(reads: Reads) -> Operation:
    size = _at_most(_VALUE_BYTES)
    return Operation(reads, keep_value, keep_later, read_latest, size, "none")


def _slots(number: int) -> Operation:
    size = _at_most(number * 11)
    return Operation("clock", count_slot, add_slots, read_slot, size, "coarse", _ROLLING)


OPERATIONS: Final[Mapping[str, Operation]] = {
    "count": Operation("nothing", count_one, add_counts, read_count, _at_most(8)),
    "sum": Operation("number", keep_number, add_numbers, read_sum, _at_most(_NUMBER_BYTES)),
    "min": _picked(min),
    "max": _picked(max),
    "mean": Operation(
        "number", weigh_number, add_weighed, read_mean, _at_most(_NUMBER_BYTES + 8)
    ),
    "first": _first("value"),
    "last": _last("value"),
    "set": _last("constant"),
    "set_once": _first("constant"),
    "unique_list": Operation(
        "element", list_value, unite_lists, read_list, _list_bytes, "none"
    ),
    "count_distinct": Operation(
        "element", keep_hash, unite_hashes, read_distinct, distinct_bytes, "coarse"
    ),
    "most_frequent": Operation(
        "key", count_key, add_tallies, read_most_frequent, tally_bytes, "coarse"
    ),
    "tally": Operation("key", count_text, add_tallies, read_tally, tally_bytes, "coarse"),
    "time_since_first": _since(earlier_time),
    "time_since_last": _since(later_time),
    "badge": Operation(
        "nothing", keep_badge, either_badge, read_badge, _at_most(1), "none", _EVER
    ),
    "hour_of_day": _slots(24),
    "day_of_week": _slots(7),
    "sessions": Operation(
        "session", keep_session, unite_sessions, read_sessions, sessions_bytes, "coarse", _ROLLING
    ),
}  # fmt: skip
"""Every operation by its name."""
