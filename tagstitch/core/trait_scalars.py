"""Values that traits keep: first, last, the constants of set and set_once, and lists of values.

Two values of the same moment are ordered by their JSON, so that the order in which events arrive
never shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tagstitch.core.limits import INTEGER_ABS_MAX
from tagstitch.core.trait_terms import Reading, Terms
from tagstitch.core.values import is_number, json_problem


def scalar_of(value: Any, *, bytes_max: int) -> str | int | float | bool | None:
    """Return a text, a number or a boolean in its one form; None for anything else.

    5.0 is 5, and what has more bytes as JSON counts as absent.
    """
    if isinstance(value, float) and is_number(value) and value == value // 1:
        value = int(value) if abs(value) <= INTEGER_ABS_MAX else value
    if not isinstance(value, str | int | float) or json_problem(value, depth=0) is not None:
        return None
    if isinstance(value, str) and len(value) > bytes_max:
        return None
    return value if len(msgspec.json.encode(value)) <= bytes_max else None


def json_key(value: Any) -> str:
    """Return the JSON of a scalar: as a key it tells 5 from "5"."""
    return msgspec.json.encode(value).decode()


def keep_value(value: Any, at: int, ordinal: int) -> list[Any]:
    """Return the part of one value: when it was, and what."""
    del ordinal
    return [at, value]


def keep_earlier(one: list[Any], other: list[Any], terms: Terms) -> list[Any]:
    """Return the earlier of two."""
    del terms
    return min(one, other, key=_by_time)


def keep_later(one: list[Any], other: list[Any], terms: Terms) -> list[Any]:
    """Return the later of two."""
    del terms
    return max(one, other, key=_by_time)


def read_earliest(parts: Sequence[list[Any]], reading: Reading) -> Any:
    """Return the earliest value."""
    del reading
    return min(parts, key=_by_time)[1]


def read_latest(parts: Sequence[list[Any]], reading: Reading) -> Any:
    """Return the latest value, unless it is older than the window."""
    at, value = max(parts, key=_by_time)
    return value if at >= reading.start else None


def _by_time(part: list[Any]) -> tuple[int, str]:
    return (part[0], json_key(part[1]))


def list_value(value: Any, at: int, ordinal: int) -> dict[str, int]:
    """Return the part of one value of a list: JSON -> when it was seen last."""
    del ordinal
    return {json_key(value): at}


def unite_lists(one: dict[str, int], other: dict[str, int], terms: Terms) -> dict[str, int]:
    """Return the values seen last of both."""
    united = dict(one)
    for key, at in other.items():
        united[key] = max(at, united.get(key, at))
    if len(united) <= terms.limit:
        return united
    newest = sorted(united.items(), key=_by_last_seen, reverse=True)
    return dict(newest[: terms.limit])


def read_list(parts: Sequence[dict[str, int]], reading: Reading) -> list[Any] | None:
    """Return the values inside the window, the one seen last first."""
    (part,) = parts
    seen = sorted(part.items(), key=_by_last_seen, reverse=True)
    return [msgspec.json.decode(key) for key, at in seen if at >= reading.start] or None


def _by_last_seen(entry: tuple[str, int]) -> tuple[int, str]:
    return (entry[1], entry[0])


def keep_time(value: Any, at: int, ordinal: int) -> int:
    """Return the part of one event: when it was."""
    del value, ordinal
    return at


def earlier_time(one: int, other: int, terms: Terms) -> int:
    """Return the earlier of two times."""
    del terms
    return min(one, other)


def later_time(one: int, other: int, terms: Terms) -> int:
    """Return the later of two times."""
    del terms
    return max(one, other)


def read_time_since(parts: Sequence[int], reading: Reading) -> int:
    """Return how many whole units have passed; nothing has when the time is to come."""
    (at,) = parts
    return max(0, reading.now - at) // (reading.terms.unit_s * 1_000_000)


def keep_badge(value: Any, at: int, ordinal: int) -> bool:
    """Return the part of one event: it happened."""
    del value, at, ordinal
    return True


def either_badge(one: bool, other: bool, terms: Terms) -> bool:  # noqa: FBT001 - two states
    """Return whether it happened to either."""
    del terms
    return one or other


def read_badge(parts: Sequence[bool], reading: Reading) -> bool:
    """Return that it happened; that it expired shows in there being no value."""
    del reading
    return any(parts)
