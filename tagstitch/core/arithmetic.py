"""Arithmetic on money: decimal, so that 0.1 + 0.2 is 0.3."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from tagstitch.core.limits import NUMBER_ABS_MAX


class ResultOutOfRange(ArithmeticError):
    """A result is too large: for a sum of money, a text or a whole event; the action is skipped."""


Operation = Callable[[Any, Any], Any]
"""On two decimals or on two integers."""


def calculate(
    operation: Operation,
    value: float | str,
    operand: float,
    *,
    places: int | None,
) -> float:
    """Return `operation(value, operand)`, rounded half up to a number of decimal places.

    Raises ResultOutOfRange.
    """
    return _as_float(operation(Decimal(str(value)), Decimal(str(operand))), places)


def rounded(value: float | str, places: int) -> int | float:
    """Return the value rounded half up; an integer when no places are left."""
    result = _as_float(Decimal(str(value)), places)
    return result if places else int(result)


def _as_float(result: Decimal, places: int | None) -> float:
    if not abs(result) <= Decimal(NUMBER_ABS_MAX):
        raise ResultOutOfRange
    if places is not None:
        result = result.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)
    return float(result) + 0.0  # without the sign of a negative zero
