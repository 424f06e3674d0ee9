"""For which kinds of values a set of comparisons can hold at all.

The comparisons run on witnesses: values of which at least one stands for each set of values that
the comparisons treat alike. So the answer follows the language exactly, and where an operator's
values cannot be enumerated it errs to "can hold".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from math import ceil, floor
from typing import Any, Final, Literal

from msgspec import structs

from tagstitch.core.operators import Comparison
from tagstitch.core.paths import Facts
from tagstitch.core.value_spans import RELATIVE_TIME, are_apart, spans_of
from tagstitch.core.values import is_number, is_numeric_text

Kind = Literal["absent", "boolean", "number", "numeric_text", "text", "list", "object"]

KINDS: Final[frozenset[Kind]] = frozenset(
    ("absent", "boolean", "number", "numeric_text", "text", "list", "object")
)

_ORDER: Final = frozenset(("lessThan", "atMost", "greaterThan", "atLeast", "between"))
_MEMBERSHIP: Final = frozenset(("in", "anyOf"))
_ENUMERABLE: Final = _ORDER | _MEMBERSHIP | {"equals", "exists", "isEmpty", "type"}
"""Operators for which the witnesses stand for every value."""

_TEXTS: Final[frozenset[Kind]] = frozenset(("text", "numeric_text"))
_KINDS_FOUND: Final[Mapping[str, frozenset[Kind]]] = {
    "startsWith": _TEXTS,
    "endsWith": _TEXTS,
    "matches": _TEXTS,
    "contains": _TEXTS | {"list"},
    "allOf": KINDS - {"absent", "object"},
    "size": frozenset(("list",)),
    "before": _TEXTS | {"number"},
    "after": _TEXTS | {"number"},
    "between": _TEXTS | {"number"},  # of times; the one of numbers is enumerable
    "versionAtLeast": _TEXTS,
    "versionBelow": _TEXTS,
    "cidr": _TEXTS,
    "percent": _TEXTS | {"number"},
    "changed": KINDS - {"absent"},
}
"""Other operators -> kinds of values that they can find."""

_NOWHERE: Final = Facts({})
_FRESH: Final = "~"


def kind_of(value: Any) -> Kind:
    """Return the kind of a value of an event or a profile."""
    if value is None:
        return "absent"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "numeric_text" if is_numeric_text(value) else "text"
    if isinstance(value, Mapping):
        return "object"
    return "list" if isinstance(value, list) else "number"


def negated(comparison: Comparison) -> Comparison:
    """Return the comparison that holds exactly where this one does not."""
    return structs.replace(comparison, is_negated=not comparison.is_negated)


def possible_kinds(comparisons: Sequence[Comparison]) -> frozenset[Kind]:
    """Return the kinds of values for which all comparisons can hold; none means never."""
    return frozenset(_kinds_held(comparisons)) if comparisons else KINDS


def can_hold(comparisons: Sequence[Comparison]) -> bool:
    """Return False only when no value satisfies all comparisons."""
    if len(comparisons) == 1 and comparisons[0].operator != "size":
        return True  # an operand that finds nothing is refused when the rule is read
    return not comparisons or next(_kinds_held(comparisons), None) is not None


def _kinds_held(comparisons: Sequence[Comparison]) -> Iterator[Kind]:
    if _are_opposed(comparisons):
        return
    enumerable = [c for c in comparisons if _is_enumerable(c)]
    rest = [c for c in comparisons if not _is_enumerable(c)]
    tests = [c.build() for c in enumerable]
    for value in _witnesses(enumerable):
        if not all(test(value, _NOWHERE) for test in tests):
            continue
        kind = kind_of(value)
        alone = kind in ("absent", "boolean") or _is_pinned(enumerable, kind)
        if all(_may_hold(c, kind, value, is_alone=alone) for c in rest):
            yield kind


def can_count(comparisons: Sequence[Comparison]) -> bool:
    """Return False only when no number of elements satisfies all comparisons."""
    if _are_opposed(comparisons):
        return False
    enumerable = [c for c in comparisons if _is_enumerable(c)]
    rest = [c for c in comparisons if not _is_enumerable(c)]
    tests = [c.build() for c in enumerable]
    bounds = [number for c in enumerable for number in _scalars_of(c) if is_number(number)]
    around = {floor(number) + step for number in bounds for step in (-1, 0, 1, 2)}
    return any(
        all(test(count, _NOWHERE) for test in tests)
        and all(_may_hold(c, "number", count, is_alone=False) for c in rest)
        for count in sorted({0, 1, *around})
        if count >= 0
    )


def pinned_values(comparisons: Sequence[Comparison]) -> tuple[Any, ...] | None:
    """Return the scalars that a positive equality or list of values leaves, or None."""
    found: tuple[Any, ...] | None = None
    for comparison in comparisons:
        is_equality = comparison.operator == "equals" and comparison.operand is not None
        if not comparison.is_negated and (is_equality or comparison.operator in _MEMBERSHIP):
            values = tuple(_scalars_of(comparison))
            if values and (found is None or len(values) < len(found)):
                found = values
    return found


def _is_enumerable(comparison: Comparison) -> bool:
    if comparison.operator in _ORDER:  # bounds may be other things than numbers
        return all(map(is_number, _operands_of(comparison)))
    return comparison.operator in _ENUMERABLE


def _operands_of(comparison: Comparison) -> tuple[Any, ...]:
    operand = comparison.operand
    return tuple(operand) if isinstance(operand, tuple) else (operand,)


def _scalars_of(comparison: Comparison) -> Iterator[Any]:
    if comparison.operator in _ORDER | _MEMBERSHIP | {"equals"}:
        for value in _operands_of(comparison):
            if value is not None and not isinstance(value, list | Mapping):
                yield value


def _is_pinned(comparisons: Sequence[Comparison], kind: Kind) -> bool:
    """Return whether the witnesses of a kind are the only values of it that are left."""
    return any(
        not c.is_negated
        and (c.operator == "equals" or (c.operator in _MEMBERSHIP and kind != "list"))
        for c in comparisons
    )


def _may_hold(comparison: Comparison, kind: Kind, value: Any, *, is_alone: bool) -> bool:
    """Judge a comparison whose values cannot be enumerated."""
    kinds = _KINDS_FOUND[comparison.operator]
    if is_alone and not _looks_further(comparison):
        return comparison.build()(value, _NOWHERE)
    if comparison.operator == "size" and kind == "list" and not comparison.is_negated:
        return can_count(comparison.operand)
    return comparison.is_negated or kind in kinds


def _looks_further(comparison: Comparison) -> bool:
    """Return whether the result hangs on more than the value: on the profile, or on the time."""
    return comparison.operator == "changed" or any(
        span.order == RELATIVE_TIME for span in spans_of(comparison)
    )


# --- two comparisons of which one implies that the other does not hold


def _are_opposed(comparisons: Sequence[Comparison]) -> bool:
    if len(comparisons) > 1 and are_apart(comparisons):
        return True
    negatives = [c for c in comparisons if c.is_negated]
    return any(_implies(c, other) for c in comparisons if not c.is_negated for other in negatives)


def _implies(one: Comparison, other: Comparison) -> bool:
    """Return whether a value that the first finds is found by the second, negations aside."""
    if one.operator != other.operator:
        return False
    if structs.replace(other, operand=None, is_negated=False) != structs.replace(one, operand=None):
        return False
    left, right = one.operand, other.operand
    if isinstance(left, str) and isinstance(right, str):
        if one.ignores_case:
            left, right = left.casefold(), right.casefold()
        if one.operator == "startsWith":
            return left.startswith(right)
        if one.operator == "endsWith":
            return left.endswith(right)
    return bool(left == right) and repr(left) == repr(right)  # True is not 1


# --- witnesses


def _witnesses(comparisons: Sequence[Comparison]) -> Iterator[Any]:
    for comparison in comparisons:
        if comparison.operator == "equals" and not comparison.is_negated:
            yield comparison.operand
            return
    lists = list(_list_witnesses(comparisons))
    if (pinned := pinned_values(comparisons)) is not None:
        yield from pinned
        yield from lists
        return
    scalars = [value for c in comparisons for value in _scalars_of(c)]
    texts = [value for value in scalars if isinstance(value, str)]
    yield from (None, True, False, "", {}, {_FRESH: 0})
    yield from (c.operand for c in comparisons if isinstance(c.operand, Mapping))
    yield from texts
    yield max(texts, key=len, default="") + _FRESH
    taken = frozenset(texts)
    for number in _number_witnesses(sorted({v for v in scalars if is_number(v)})):
        yield number
        yield from _numeric_texts(number, taken)
    yield from lists


def _number_witnesses(bounds: Sequence[float]) -> Iterator[float]:
    """Yield each bound and numbers in each gap around them, short ones too: a text may be one."""
    yield 0
    if not bounds:
        return
    yield -2 * abs(bounds[0]) - 1
    yield 2 * abs(bounds[-1]) + 1
    for bound in bounds:
        yield bound
        yield ceil(bound) - 1
        yield floor(bound) + 1
    for low, high in pairwise(bounds):
        yield low / 2 + high / 2


def _numeric_texts(number: float, taken: frozenset[str]) -> Iterator[str]:
    """Yield a text of the number that no comparison names."""
    if not is_number(number):
        return
    text = format(Decimal(repr(number)), "f")
    if text in taken and "." not in text:
        text += ".0"
    while text in taken:
        text += "0"
    yield text  # too long a one is no number, as in an event


def _list_witnesses(comparisons: Sequence[Comparison]) -> Iterator[list[Any]]:
    """Yield the fullest list that no negation refuses, and lists that are special."""
    refused = [c.build() for c in comparisons if c.is_negated and c.operator in _MEMBERSHIP]
    wanted = [
        value
        for c in comparisons
        if not c.is_negated and c.operator in _MEMBERSHIP
        for value in _operands_of(c)
        if all(test(value, _NOWHERE) for test in refused)
    ]
    texts = [v for c in comparisons for v in _scalars_of(c) if isinstance(v, str)]
    yield [*wanted, max(texts, key=len, default="") + _FRESH]
    yield wanted
    yield []
    yield from (c.operand for c in comparisons if isinstance(c.operand, list))
