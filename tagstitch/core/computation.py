"""How `modify_parameter` gets from an old value to a new one."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from tagstitch.core import operands
from tagstitch.core.arithmetic import calculate, rounded
from tagstitch.core.declarations import Declarations
from tagstitch.core.definition import Definition
from tagstitch.core.limits import DECIMAL_PLACES_MAX
from tagstitch.core.paths import Facts, Path, compile_base, parse_path
from tagstitch.core.problems import Problems
from tagstitch.core.values import is_number, is_numeric_text, to_json_value

UNCHANGED: Final = object()
"""What a computation returns when it has nothing to say about the value."""

Compute = Callable[[Any, Facts], Any]
"""From the value (None when absent) to the new one, None to remove it, or UNCHANGED.

The facts hold the event as changed so far. Raises ResultOutOfRange.
"""

_MONEY: Final = frozenset(("value", "tax", "shipping", "price"))
_MONEY_PLACES: Final = 2


@dataclass(frozen=True, slots=True)
class Computation:
    """A way to compute a value, and what it looks at besides the value itself."""

    compute: Compute
    reads: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class ComputationDetails:
    """What a rule says about a computation."""

    fields: Definition
    parameter_name: str
    """The last segment of the parameter's path."""
    declared: Declarations


def parse_computation(word: object, details: ComputationDetails) -> Computation | None:
    """Return the computation of an operator, or None when there is none of this name."""
    build = _OPERATORS.get(word) if isinstance(word, str) else None
    if build is None:
        place = details.fields.place("operator")
        details.fields.problems.add_unknown(place, "operator", word, _OPERATORS)
        return None
    return build(details)


def _set(details: ComputationDetails) -> Computation:
    value = _new_value(details.fields)
    return Computation(lambda _old, _facts: value)


def _set_default(details: ComputationDetails) -> Computation:
    value = _new_value(details.fields)
    return Computation(lambda old, _: value if old is None else UNCHANGED)


def _new_value(fields: Definition) -> Any:
    value = fields.require("operand", "value")
    return operands.any_value(value, fields.place("operand"), fields.problems)


def _arithmetic(
    operation: Callable[[Decimal, Decimal], Decimal],
) -> Callable[[ComputationDetails], Computation]:
    def build(details: ComputationDetails) -> Computation:
        operand = details.fields.require_with(operands.number, "operand", 0.0)
        default = _MONEY_PLACES if details.parameter_name in _MONEY else None
        places = details.fields.take_with(_places, "round", default)

        def compute(old: Any, facts: Facts) -> Any:
            if not _counts_as_number(old, facts):
                return UNCHANGED
            return calculate(operation, old, operand, places=places)

        return Computation(compute)

    return build


def _round(details: ComputationDetails) -> Computation:
    places = details.fields.take_with(_places, "operand", None) or 0

    def compute(old: Any, facts: Facts) -> Any:
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
    text, where = fields.require("from"), fields.place("from")
    path = None
    if text is not None:
        path = parse_path(text, where, fields.problems, declared=details.declared)
    if path is None:
        return Computation(lambda _old, _facts: UNCHANGED)
    if path.quantifier is not None:
        fields.problems.add(where, "one value, not every element of a list")
    look_up = compile_base(path)

    def compute(_: Any, facts: Facts) -> Any:
        value = to_json_value(look_up(facts))
        return UNCHANGED if value is None else value

    return Computation(compute, (path,))


def _delete(_: ComputationDetails) -> Computation:
    return Computation(lambda old, _: UNCHANGED if old is None else None)


def _text(change: Callable[[str], str]) -> Callable[[ComputationDetails], Computation]:
    computation = Computation(
        lambda old, _: change(old) if isinstance(old, str) else UNCHANGED,
    )
    return lambda _: computation


_OPERATORS: Final[Mapping[str, Callable[[ComputationDetails], Computation]]] = {
    "set": _set,
    "set_default": _set_default,
    "multiply": _arithmetic(operator.mul),
    "add": _arithmetic(operator.add),
    "round": _round,
    "copy": _copy,
    "delete": _delete,
    "lower": _text(str.lower),
    "upper": _text(str.upper),
    "trim": _text(str.strip),
}
