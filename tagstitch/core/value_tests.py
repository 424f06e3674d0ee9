"""The comparisons behind the operators: each function returns a closure for one operand.

The operand is in canonical form, the value is whatever an event or a profile holds, and None
when it is absent. A value of another type than expected compares false; nothing raises.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import re2

from tagstitch.core.paths import Facts
from tagstitch.core.values import is_number, is_numeric_text, same

Test = Callable[[Any, Facts], bool]
"""Compares one value, which is None when absent."""

TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "string": lambda value: isinstance(value, str),
    "number": is_number,
    "boolean": lambda value: isinstance(value, bool),
    "list": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, Mapping),
}


def equals(operand: Any) -> Test:
    """Compare without any coercion; a null operand finds what is absent."""
    if operand is None or isinstance(operand, bool):
        return lambda value, _: value is operand
    if isinstance(operand, str):
        return lambda value, _: bool(value == operand)
    return lambda value, _: same(value, operand)


def one_of(operand: tuple[Any, ...]) -> Test:
    """Find a value of the operand, or a list that shares one with it."""
    contains_value = _membership(operand)

    def test(value: Any, _: Facts) -> bool:
        if value.__class__ is list:
            return any(map(contains_value, value))
        return contains_value(value)

    return test


def all_of(operand: tuple[Any, ...]) -> Test:
    """Find a list that holds every value of the operand."""
    memberships = [_membership((wanted,)) for wanted in operand]

    def test(value: Any, _: Facts) -> bool:
        values = value if value.__class__ is list else [value]
        return all(any(map(contains_value, values)) for contains_value in memberships)

    return test


def _membership(operand: tuple[Any, ...]) -> Callable[[Any], bool]:
    """Return `value in operand` for which True is not 1 and unhashable values are no error."""
    booleans = tuple(value for value in operand if isinstance(value, bool))
    others = frozenset(value for value in operand if not isinstance(value, bool))

    def contains_value(value: Any) -> bool:
        kind = value.__class__
        if kind is str or kind is int or kind is float:
            return value in others
        return kind is bool and value in booleans

    return contains_value


def order(holds: Callable[[Any, Any], bool]) -> Callable[[Any], Test]:
    """Compare numbers, and texts that are canonical numbers, with a bound."""

    def build(bound: Any) -> Test:
        def test(value: Any, facts: Facts) -> bool:
            kind = value.__class__
            if kind is int or kind is float:
                return holds(value, bound)
            if kind is str and is_numeric_text(value):
                facts.coercions += 1
                return holds(float(value), bound)
            return False

        return test

    return build


def is_between(value: float, bounds: tuple[float, float]) -> bool:
    """Return whether the value lies between the bounds, which count."""
    return bounds[0] <= value <= bounds[1]


def exists(operand: bool) -> Test:  # noqa: FBT001 - the operand of `exists` is a boolean
    """Find what is there, or what is not."""
    if operand:
        return lambda value, _: value is not None
    return lambda value, _: value is None


def is_empty(operand: bool) -> Test:  # noqa: FBT001 - the operand of `isEmpty` is a boolean
    """Find what is absent or an empty text, list or object; or the opposite."""

    def test(value: Any, _: Facts) -> bool:
        empty = value is None or (isinstance(value, str | list | Mapping) and not value)
        return empty is operand

    return test


def text(holds: Callable[[str, str], bool], *, ignore_case: bool = False) -> Callable[[str], Test]:
    """Compare texts."""

    def build(operand: str) -> Test:
        if not ignore_case:
            return lambda value, _: value.__class__ is str and holds(value, operand)
        folded = operand.casefold()
        return lambda value, _: value.__class__ is str and holds(value.casefold(), folded)

    return build


def contains(operand: str) -> Test:
    """Find a part of a text, or an element of a list."""
    in_text = text(operator.contains)(operand)

    def test(value: Any, facts: Facts) -> bool:
        return operand in value if value.__class__ is list else in_text(value, facts)

    return test


def contains_ignoring_case(operand: str) -> Test:
    """Find a part of a text, or an element of a list, in whatever case."""
    in_text = text(operator.contains, ignore_case=True)(operand)
    folded = operand.casefold()

    def test(value: Any, facts: Facts) -> bool:
        if value.__class__ is not list:
            return in_text(value, facts)
        return any(element.casefold() == folded for element in value if isinstance(element, str))

    return test


def matches(*, ignore_case: bool = False) -> Callable[[str], Test]:
    """Find a regular expression anywhere in a text, as Tag Manager does; ^ and $ anchor."""

    def build(operand: str) -> Test:
        search = _compile_pattern(operand, ignore_case=ignore_case).search
        return lambda value, _: value.__class__ is str and search(value) is not None

    return build


def is_pattern(expression: str) -> bool:
    """Return whether RE2 can run the regular expression."""
    try:
        _compile_pattern(expression, ignore_case=False)
    except (re2.error, UnicodeError):
        return False
    return True


def _compile_pattern(expression: str, *, ignore_case: bool) -> Any:
    options = re2.Options()
    options.log_errors = False  # otherwise RE2 writes the expression to standard error
    options.case_sensitive = not ignore_case
    return re2.compile(expression, options)


def is_of_type(operand: str) -> Test:
    """Find values of one JSON type."""
    is_type = TYPES[operand]
    return lambda value, _: is_type(value)
