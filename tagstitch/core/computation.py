"""How `modify_parameter` and `map_items` get from an old value to a new one."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from tagstitch.core import operands
from tagstitch.core.action_path import Item, PathScope, parse_origin
from tagstitch.core.arithmetic import Operation, ResultOutOfRange, calculate, rounded
from tagstitch.core.definition import Definition
from tagstitch.core.limits import ACTION_VALUE_BYTES_MAX, DECIMAL_PLACES_MAX, NUMBER_ABS_MAX
from tagstitch.core.paths import Facts, Path
from tagstitch.core.problems import Problems
from tagstitch.core.values import is_number, is_numeric_text
from tagstitch.core.written_value import check_json

UNCHANGED: Final = object()
"""What a computation returns when it has nothing to say about the value."""

Compute = Callable[[Any, Facts, Item], Any]
"""From the value (None when absent) to the new one, None to remove it, or UNCHANGED.

The facts hold the event as changed so far. Raises ResultOutOfRange.
"""

_MONEY: Final = frozenset(("value", "tax", "shipping", "price"))
_MONEY_PLACES: Final = 2


class Calculation(NamedTuple):
    """A sum or a product with one operand for all events."""

    operation: Operation
    operand: float
    places: int | None


class Computation(msgspec.Struct, frozen=True, gc=False):
    """A way to compute a value, and what it looks at besides the value itself."""

    compute: Compute
    reads: tuple[Path, ...] = ()
    conceals_old: bool = False
    """The old value is personal: nothing records it."""
    constant: Any = None
    """The new value where it is one and the same for all events."""
    calculation: Calculation | None = None
    """What it is when it is arithmetic."""


@dataclass(frozen=True, slots=True)
class ComputationDetails:
    """What a rule says about a computation."""

    fields: Definition
    parameter_name: str
    """The last segment of the parameter's path."""
    scope: PathScope


NOTHING: Final = Computation(lambda _old, _facts, _item: UNCHANGED)
"""Stands for a computation that was refused."""

BuildComputation = Callable[[ComputationDetails], Computation]


def _set(details: ComputationDetails) -> Computation:
    value = _new_value(details.fields)
    is_refused = details.fields.problems.found
    return Computation(lambda _old, _facts, _item: value, constant=None if is_refused else value)


def _set_default(details: ComputationDetails) -> Computation:
    value = _new_value(details.fields)
    return Computation(lambda old, _facts, _item: value if old is None else UNCHANGED)


def _new_value(fields: Definition) -> Any:
    value = fields.require("operand", "value")
    check_json(value, fields.place("operand"), fields.problems, bytes_max=ACTION_VALUE_BYTES_MAX)
    return value


def compute(
    operation: Operation, old: Any, operand: float, facts: Facts, *, places: int | None
) -> Any:
    """Return the result, or UNCHANGED for what is no number; raises ResultOutOfRange."""
    if old.__class__ is int and operand.__class__ is int:
        whole = operation(old, operand)  # exact, and much cheaper
        if -NUMBER_ABS_MAX <= whole <= NUMBER_ABS_MAX:
            return whole
        raise ResultOutOfRange
    if not _counts_as_number(old, facts):
        return UNCHANGED
    return calculate(operation, old, operand, places=places)


def _arithmetic(operation: Operation) -> BuildComputation:
    def build(details: ComputationDetails) -> Computation:
        operand = details.fields.require_with(operands.number, "operand", 0.0)
        default = _MONEY_PLACES if details.parameter_name in _MONEY else None
        places = details.fields.take_with(_places, "round", default)
        return Computation(
            lambda old, facts, _: compute(operation, old, operand, facts, places=places),
            calculation=Calculation(operation, operand, places),
        )

    return build


def _round(details: ComputationDetails) -> Computation:
    places = details.fields.take_with(_places, "operand", None) or 0

    def compute(old: Any, facts: Facts, _: Item) -> Any:
        return rounded(old, places) if _counts_as_number(old, facts) else UNCHANGED

    return Computation(compute)


def _places(raw: Any, where: str, problems: Problems) -> int | None:
    if isinstance(raw, bool) or not isinstance(raw, int) or not 0 <= raw <= DECIMAL_PLACES_MAX:
        problems.add(where, f"must be a whole number of 0 to {DECIMAL_PLACES_MAX}")
        return None
    return raw


def _counts_as_number(value: Any, facts: Facts) -> bool:
    if is_numeric_text(value):
        facts.coercions += 1
        return True
    return is_number(value)


def _copy(details: ComputationDetails) -> Computation:
    fields = details.fields
    text = fields.require("from")
    if text is None:
        return NOTHING
    origin = parse_origin(text, fields.place("from"), fields.problems, details.scope)
    if origin is None:
        return NOTHING
    look = origin.look

    def compute(_: Any, facts: Facts, item: Item) -> Any:
        value = look(facts, item)
        return UNCHANGED if value is None else value

    return Computation(compute, origin.reads)


def _delete(_: ComputationDetails) -> Computation:
    return Computation(lambda old, _facts, _item: UNCHANGED if old is None else None)


COMPUTATIONS: Final[Mapping[str, BuildComputation]] = {
    "set": _set,
    "set_default": _set_default,
    "multiply": _arithmetic(operator.mul),
    "add": _arithmetic(operator.add),
    "round": _round,
    "copy": _copy,
    "delete": _delete,
}
"""Operator -> how its details are read; `text_computation.py` has those of texts."""
