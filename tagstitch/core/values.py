"""Comparing the loose values of events and profiles without surprises."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, TypeGuard

import msgspec

from tagstitch.core.limits import (
    INTEGER_ABS_MAX,
    NUMERIC_TEXT_CHARS_MAX,
    TRACE_LIST_MAX,
    TRACE_TEXT_CHARS_MAX,
)

_CANONICAL_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_LONE_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_SCALARS: Final = frozenset((str, int, float, bool, type(None)))
_TRACE_DEPTH_MAX: Final = 6


def is_number(value: object) -> bool:
    """Return whether the value is a finite number; a boolean is none."""
    if value.__class__ is int:
        return True
    return isinstance(value, float) and math.isfinite(value)


def is_numeric_text(value: object) -> bool:
    """Return whether the value is a text such as `5.00`: no sign +, exponent or blanks."""
    return (
        isinstance(value, str)
        and "-" <= value[:1] <= "9"  # hardly any text is one, and this costs a third of the rest
        and len(value) <= NUMERIC_TEXT_CHARS_MAX
        and _CANONICAL_NUMBER.fullmatch(value) is not None
    )


def same(left: Any, right: Any) -> bool:
    """Return whether two values are equal: 5 equals 5.0, but neither True nor "5"."""
    kind = left.__class__
    if kind is str or kind is int or kind is float or left is None:
        return bool(left == right) and right.__class__ is not bool
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


def is_object(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Return whether the value is an object of JSON: mostly a dict, which is quick to tell."""
    return value.__class__ is dict or isinstance(value, Mapping)


def is_deeper(value: object, levels: int) -> bool:
    """Return whether lists and objects are nested in more than so many levels."""
    kind = value.__class__
    if kind in _SCALARS:
        return False
    children: Iterable[Any]
    if kind is dict or isinstance(value, Mapping):
        children = value.values()  # type: ignore[attr-defined]
    elif isinstance(value, list):
        children = value
    else:
        return False
    if levels <= 0:
        return True
    for child in children:
        if child.__class__ not in _SCALARS and is_deeper(child, levels - 1):
            return True
    return False


def json_problem(value: object, *, depth: int) -> str | None:
    """Return why the value cannot stand in JSON that everybody reads alike, or None."""
    if isinstance(value, list | Mapping):
        if depth <= 0:
            return "nested too deeply"
        if isinstance(value, Mapping) and not all(isinstance(key, str) for key in value):
            return "keys must be text"
        children = value.values() if isinstance(value, Mapping) else value
        return next((p for p in (json_problem(c, depth=depth - 1) for c in children) if p), None)
    return _scalar_problem(value)


def _scalar_problem(value: object) -> str | None:
    problem = None
    if isinstance(value, str):
        problem = "not valid Unicode" if _LONE_SURROGATE.search(value) else None
    elif isinstance(value, int):
        problem = "an integer of more than 64 bits" if abs(value) > INTEGER_ABS_MAX else None
    elif isinstance(value, float):
        problem = None if math.isfinite(value) else "not a finite number"
    elif value is not None:
        problem = "must be text, a number, true, false, a list or an object; put dates in quotes"
    return problem


def count_nodes(value: object) -> int:
    """Return how many values a JSON value consists of, itself included."""
    if isinstance(value, Mapping):
        return 1 + sum(map(count_nodes, value.values()))
    return 1 + sum(map(count_nodes, value)) if isinstance(value, list) else 1


def json_bytes(value: object) -> int:
    """Return the size of the value as compact JSON, in bytes."""
    return len(msgspec.json.encode(value))


def to_json_value(value: Any) -> Any:
    """Return a stored value as JSON can carry it: times as ISO 8601, the unspeakable as None."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list):
        return [to_json_value(element) for element in value]
    if isinstance(value, Mapping):
        return {str(key): to_json_value(element) for key, element in value.items()}
    if value is None or isinstance(value, bool | str | int):
        return value
    return value if is_number(value) else None


def shown(value: Any, *, depth: int = _TRACE_DEPTH_MAX) -> Any:
    """Return the value as a trace shows it: JSON, and long texts and lists cut."""
    if isinstance(value, str):
        return value if len(value) <= TRACE_TEXT_CHARS_MAX else value[:TRACE_TEXT_CHARS_MAX] + "…"
    if isinstance(value, list | tuple):
        return [shown(v, depth=depth - 1) for v in value[:TRACE_LIST_MAX]] if depth else "…"
    if isinstance(value, Mapping):
        if not depth:
            return "…"
        entries = list(value.items())[:TRACE_LIST_MAX]
        return {str(key): shown(element, depth=depth - 1) for key, element in entries}
    return to_json_value(value)
