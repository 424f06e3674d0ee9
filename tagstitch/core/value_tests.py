"""The comparisons behind the operators: each function returns a closure for one operand.

The operand is in canonical form, the value is whatever an event or a profile holds, and None
when it is absent. A value of another type than expected compares false; nothing raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tagstitch.core.address_ranges import collect_ranges, read_address
from tagstitch.core.bucketing import bucket_of
from tagstitch.core.limits import (
    ADDRESS_CHARS_MAX,
    CONDITION_REGEX_VALUE_CHARS_MAX,
    IDENTIFIER_VALUE_CHARS_MAX,
    VERSION_CHARS_MAX,
)
from tagstitch.core.paths import Facts
from tagstitch.core.patterns import compile_pattern
from tagstitch.core.times import Moment, epoch_seconds, read_moment, seconds_of
from tagstitch.core.values import count_nodes, is_number, is_numeric_text, same
from tagstitch.core.versions import Version, read_version

Test = Callable[[Any, Facts], bool]
"""Compares one value, which is None when absent."""

_BUCKETS: Final = 10_000
"""Of version 2 of the bucketing hash: a hundredth of a per cent each."""

_CHEAP_PAIRS: Final = 4096
"""Characters of a text times characters looked for in it, below which that takes no time."""

_FOLDED_CHARS_PER_STEP: Final = 64

_TIME_STEPS: Final = 16
"""Of reading a time: four microseconds."""

_VERSION_CHARS_PER_STEP: Final = 2

_NODES_PER_STEP: Final = 3
"""Of two lists or objects that are compared."""

_NUMBERS: Final = frozenset((int, float))

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
    if isinstance(operand, list | Mapping):
        return _equals_container(operand)
    return lambda value, _: same(value, operand)


def _equals_container(operand: list[Any] | Mapping[str, Any]) -> Test:
    steps = count_nodes(operand) // _NODES_PER_STEP

    def test(value: Any, facts: Facts) -> bool:
        if not isinstance(value, list | Mapping):
            return False
        facts.work.spend(steps)
        return same(value, operand)

    return test


def one_of(operand: tuple[Any, ...]) -> Test:
    """Find a value of the operand, or a list that shares one with it."""
    return _Membership(operand).test


def all_of(operand: tuple[Any, ...]) -> Test:
    """Find a list that holds every value of the operand."""
    booleans = frozenset(value for value in operand if isinstance(value, bool))
    others = frozenset(value for value in operand if not isinstance(value, bool))

    def test(value: Any, facts: Facts) -> bool:
        values = value if value.__class__ is list else (value,)
        facts.work.spend(len(values))
        present = {v for v in values if v.__class__ is str or v.__class__ in _NUMBERS}
        return others <= present and (
            not booleans or booleans <= {v for v in values if v.__class__ is bool}
        )

    return test


class _Membership:
    """`value in operand` for which True is not 1 and unhashable values are no error.

    A class, as `_Bound` is: its method takes less than half of the room of a closure.
    """

    __slots__ = ("_booleans", "_others")

    def __init__(self, operand: tuple[Any, ...]) -> None:
        self._booleans = tuple([value for value in operand if isinstance(value, bool)])
        self._others = frozenset([value for value in operand if not isinstance(value, bool)])

    def test(self, value: Any, facts: Facts) -> bool:
        if value.__class__ is list:
            facts.work.spend(len(value))
            return any(map(self._has, value))
        return self._has(value)

    def _has(self, value: Any) -> bool:
        kind = value.__class__
        if kind is str or kind is int or kind is float:
            return value in self._others
        return kind is bool and value in self._booleans


def order(holds: Callable[[Any, Any], bool]) -> Callable[[Any], Test]:
    """Compare numbers, and texts that are canonical numbers, with a bound."""
    return lambda bound: _Bound(holds, bound).test


class _Bound:
    __slots__ = ("_bound", "_holds")

    def __init__(self, holds: Callable[[Any, Any], bool], bound: Any) -> None:
        self._holds = holds
        self._bound = bound

    def test(self, value: Any, facts: Facts) -> bool:
        kind = value.__class__
        if kind is int or kind is float:
            return self._holds(value, self._bound)
        if kind is str and is_numeric_text(value):
            facts.coercions += 1
            return self._holds(float(value), self._bound)
        return False


def between(operand: tuple[Any, Any]) -> Test:
    """Compare with two bounds, which count: numbers, or times when they are texts."""
    if not isinstance(operand[0], str):
        return order(_is_between)(operand)
    low, high = moment(operand[0]), moment(operand[1]).end

    def holds(seconds: float, now: float) -> bool:
        return _at(low, now) <= seconds <= _at(high, now)

    return _time(holds)


def _is_between(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= value <= bounds[1]


def before(operand: str | float) -> Test:
    """Find times before a moment."""
    bound = moment(operand)
    return _time(lambda seconds, now: seconds < _at(bound, now))


def after(operand: str | float) -> Test:
    """Find times after a moment."""
    bound = moment(operand)
    return _time(lambda seconds, now: seconds > _at(bound, now))


def moment(operand: str | float) -> Moment:
    """Return the moment of an operand that was checked."""
    found = read_moment(operand)
    if found is None and not isinstance(operand, str):
        found = Moment(epoch_seconds(operand) or 0.0)
    return found or Moment(0.0)


def _at(bound: Moment, now: float) -> float:
    return now + bound.seconds if bound.is_relative else bound.seconds


def _time(holds: Callable[[float, float], bool]) -> Test:
    """Compare values that are times; a text of digits is taken for an epoch, and counted."""

    def test(value: Any, facts: Facts) -> bool:
        if value is None:
            return False
        if value.__class__ is str:
            facts.work.spend(_TIME_STEPS)
        seconds = seconds_of(value)
        if seconds is None and is_numeric_text(value):
            seconds = epoch_seconds(float(value))
            facts.coercions += seconds is not None
        return seconds is not None and holds(seconds, facts.now)

    return test


def version(holds: Callable[[Version, Version], bool]) -> Callable[[str], Test]:
    """Compare texts that are versions; `1.10` as a number could be 1.1, so it is none."""

    def build(operand: str) -> Test:
        bound = read_version(operand) or ()

        def test(value: Any, facts: Facts) -> bool:
            if value.__class__ is str:
                facts.work.spend(min(len(value), VERSION_CHARS_MAX) // _VERSION_CHARS_PER_STEP)
            found = read_version(value)
            return found is not None and holds(found, bound)

        return test

    return build


def is_in_ranges(operand: tuple[str, ...]) -> Test:
    """Find addresses that lie in one of the ranges."""
    of_4, of_6 = collect_ranges(operand)

    def test(value: Any, facts: Facts) -> bool:
        if value.__class__ is not str:
            return False
        facts.work.spend(min(len(value), ADDRESS_CHARS_MAX))
        address = read_address(value)
        return address is not None and int(address) in (of_4 if address.version == 4 else of_6)

    return test


def percent(operand: tuple[float, float, str]) -> Test:
    """Find a stable share of visitors, by text or a whole number that tells them apart."""
    low, high, salt = operand
    salt_chars = len(salt)
    first, end = round(low * _BUCKETS / 100), round(high * _BUCKETS / 100)

    def test(value: Any, facts: Facts) -> bool:
        if value.__class__ is float and value.is_integer():
            value = int(value)
        elif value.__class__ is not str and value.__class__ is not int:
            return False
        identity = str(value)
        if not 0 < len(identity) <= IDENTIFIER_VALUE_CHARS_MAX:
            return False
        facts.work.spend_bucketing(len(identity) + salt_chars)
        return first <= round(bucket_of(identity, seed=salt) * _BUCKETS) < end

    return test


def changed(operand: bool, stored: Callable[[Facts], Any]) -> Test:  # noqa: FBT001 - its operand is a boolean
    """Find a value that differs from the stored one, or that does not; never an absent one."""

    def test(value: Any, facts: Facts) -> bool:
        if value is None:
            return False
        if isinstance(value, list | dict):
            facts.work.spend_nodes(value)
        return same(value, stored(facts)) is not operand

    return test


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


def text(holds: Callable[[str, str], bool]) -> Callable[[str], Test]:
    """Compare a text with a part of it."""
    return lambda operand: lambda value, _: value.__class__ is str and holds(value, operand)


def starts_with_ignoring_case(operand: str) -> Test:
    """Find a start of a text; folding keeps or adds characters, so that many are enough."""
    return _part_ignoring_case(operand, slice(len(operand.casefold())), str.startswith)


def ends_with_ignoring_case(operand: str) -> Test:
    """Find an end of a text."""
    return _part_ignoring_case(operand, slice(-len(operand.casefold()), None), str.endswith)


def _part_ignoring_case(operand: str, part: slice, holds: Callable[[str, str], bool]) -> Test:
    folded = operand.casefold()
    steps = len(folded) // _FOLDED_CHARS_PER_STEP

    def test(value: Any, facts: Facts) -> bool:
        if value.__class__ is not str:
            return False
        if steps:
            facts.work.spend(min(steps, len(value)))
        return holds(value[part].casefold(), folded)

    return test


def contains(operand: str) -> Test:
    """Find a part of a text, or an element of a list."""
    length = len(operand)

    def test(value: Any, facts: Facts) -> bool:
        if value.__class__ is str:
            if len(value) * length > _CHEAP_PAIRS:
                facts.work.spend_containment(len(value), length)
        elif value.__class__ is list:
            facts.work.spend(len(value))
        else:
            return False
        return operand in value

    return test


def contains_ignoring_case(operand: str) -> Test:
    """Find a part of a text, or an element of a list, in whatever case."""
    folded = operand.casefold()
    length = len(folded)

    def test(value: Any, facts: Facts) -> bool:
        if value.__class__ is str:
            if len(value) * length > _CHEAP_PAIRS:
                facts.work.spend_containment(len(value), length)
            return folded in facts.casefold(value)
        if value.__class__ is not list:
            return False
        facts.work.spend_nodes(value)
        return any(element.casefold() == folded for element in value if isinstance(element, str))

    return test


def matches(*, ignore_case: bool = False) -> Callable[[str], Test]:
    """Find a regular expression anywhere in a text, as Tag Manager does; ^ and $ anchor."""

    def build(operand: str) -> Test:
        pattern = compile_pattern(operand, ignore_case=ignore_case)
        if pattern is None:  # the operand's check said so
            return lambda _value, _facts: False

        def test(value: Any, facts: Facts) -> bool:
            if value.__class__ is not str or len(value) > CONDITION_REGEX_VALUE_CHARS_MAX:
                return False
            facts.work.spend_search(len(value), pattern.instructions)
            return pattern.search(value) is not None

        return test

    return build


def is_of_type(operand: str) -> Test:
    """Find values of one JSON type."""
    is_type = TYPES[operand]
    return lambda value, _: is_type(value)
