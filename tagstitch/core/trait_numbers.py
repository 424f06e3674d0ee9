"""Numbers of traits: count, sum, min, max, mean.

Numbers are added as whole millionths, which are exact in whatever order they come: sums of floats
would depend on it, and no currency has more than 4 decimal places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

from tagstitch.core.limits import INTEGER_ABS_MAX, NUMBER_ABS_MAX
from tagstitch.core.trait_terms import Reading, Terms
from tagstitch.core.values import is_number, is_numeric_text

_MILLIONTHS: Final = 1_000_000


def millionths_of(value: Any) -> int | None:
    """Return a number, or a text such as `7.50`, in millionths; None for anything else.

    Numbers beyond `NUMBER_ABS_MAX` are none: in money they are mistakes.
    """
    if is_numeric_text(value):
        number = Decimal(value)
    elif is_number(value) and abs(value) <= NUMBER_ABS_MAX:
        number = Decimal(str(value))
    else:
        return None
    if abs(number) > NUMBER_ABS_MAX:
        return None
    return int(number.scaleb(6).to_integral_value(rounding=ROUND_HALF_UP))


def count_one(value: Any, at: int, ordinal: int) -> int:
    """Return the part of one event."""
    del value, at, ordinal
    return 1


def add_counts(one: int, other: int, terms: Terms) -> int:
    """Return both counts together; a document's integers have 64 bits."""
    del terms
    return min(one + other, INTEGER_ABS_MAX)


def read_count(parts: Sequence[int], reading: Reading) -> int:
    """Return how many there are."""
    del reading
    return sum(parts)


def keep_number(value: int, at: int, ordinal: int) -> int | str:
    """Return the part of one number."""
    del at, ordinal
    return _stored(value)


def add_numbers(one: int | str, other: int | str, terms: Terms) -> int | str:
    """Return the sum."""
    del terms
    return _stored(int(one) + int(other))


def read_sum(parts: Sequence[int | str], reading: Reading) -> int | float:
    """Return the sum as a number."""
    del reading
    return _number(sum(map(int, parts)), _MILLIONTHS)


def pick_number(
    pick: Callable[[int, int], int],
) -> Callable[[int | str, int | str, Terms], int | str]:
    """Return the join of `min` or `max`."""

    def join(one: int | str, other: int | str, terms: Terms) -> int | str:
        del terms
        return _stored(pick(int(one), int(other)))

    return join


def read_picked(pick: Callable[[Any], int]) -> Callable[[Sequence[int | str], Reading], Any]:
    """Return the reading of `min` or `max`."""

    def read(parts: Sequence[int | str], reading: Reading) -> int | float:
        del reading
        return _number(pick(map(int, parts)), _MILLIONTHS)

    return read


def weigh_number(value: int, at: int, ordinal: int) -> list[int | str]:
    """Return the part of one number of a mean: how many, and their sum."""
    del at, ordinal
    return [1, _stored(value)]


def add_weighed(one: list[int | str], other: list[int | str], terms: Terms) -> list[int | str]:
    """Return both together."""
    count = add_counts(int(one[0]), int(other[0]), terms)
    return [count, add_numbers(one[1], other[1], terms)]


def read_mean(parts: Sequence[list[int | str]], reading: Reading) -> int | float:
    """Return the mean, correctly rounded to a float."""
    del reading
    count = sum(int(part[0]) for part in parts)
    return _number(sum(int(part[1]) for part in parts), count * _MILLIONTHS)


def _stored(number: int) -> int | str:
    """Return the integer as a document can hold it: text when it has more than 64 bits."""
    return number if abs(number) <= INTEGER_ABS_MAX else str(number)


def _number(numerator: int, denominator: int) -> int | float:
    whole, rest = divmod(numerator, denominator)
    return whole if not rest and abs(whole) <= INTEGER_ABS_MAX else numerator / denominator
