"""Operators that find an interval of an order: times, versions and shares of a split.

A value has one place in each order, so intervals tell which comparisons exclude each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from tagstitch.core.operators import Comparison
from tagstitch.core.times import Moment
from tagstitch.core.value_tests import moment
from tagstitch.core.versions import read_version

RELATIVE_TIME: Final = "time since the decision"

Bound = tuple[Any, int]
"""Where an interval ends, and a step beyond (1) or short of (-1) that place when it is left out."""


class Span(NamedTuple):
    """An interval of one order; None is no bound."""

    order: str
    low: Bound | None = None
    high: Bound | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing lies in it."""
        return self.low is not None and self.high is not None and self.low > self.high

    def overlap(self, other: Span) -> Span:
        """Return what lies in both; they are of one order."""
        lows = [bound for bound in (self.low, other.low) if bound is not None]
        highs = [bound for bound in (self.high, other.high) if bound is not None]
        return Span(self.order, max(lows, default=None), min(highs, default=None))

    def lies_in(self, other: Span) -> bool:
        """Return whether the other one, which is of the same order, has all of it."""
        return self.overlap(other) == self


def spans_of(comparison: Comparison) -> tuple[Span, ...]:
    """Return the intervals in which the operator finds values, negations aside; all must hold.

    Times relative to the decision and fixed ones are two orders.
    """
    read = _READERS.get(comparison.operator)
    return () if read is None else read(comparison.operand)


def are_apart(comparisons: Sequence[Comparison]) -> bool:
    """Return True only when no value satisfies all comparisons, as their intervals show."""
    within: dict[str, Span] = {}
    for comparison in comparisons:
        if not comparison.is_negated:
            for span in spans_of(comparison):
                within[span.order] = within.get(span.order, span).overlap(span)
    if any(span.is_empty for span in within.values()):
        return True
    refused = [spans_of(comparison) for comparison in comparisons if comparison.is_negated]
    return any(
        spans and all(s.order in within and within[s.order].lies_in(s) for s in spans)
        for spans in refused
    )


def _time(operand: str | float, *, low: int | None = None, high: int | None = None) -> Span:
    at = moment(operand)
    return Span(
        _order_of(at),
        None if low is None else (at.seconds, low),
        None if high is None else (at.seconds, high),
    )


def _between(operand: tuple[str, str]) -> tuple[Span, ...]:
    low, end = _time(operand[0], low=0), moment(operand[1]).end
    high = Span(_order_of(end), high=(end.seconds, 0))
    return (low.overlap(high),) if low.order == high.order else (low, high)


def _order_of(at: Moment) -> str:
    return RELATIVE_TIME if at.is_relative else "time"


def _share(operand: tuple[float, float, str]) -> tuple[Span, ...]:
    low, high, salt = operand
    return (Span(f"percent {salt}", (low, 0), (high, -1)),)


_READERS: Final[Mapping[str, Callable[[Any], tuple[Span, ...]]]] = {
    "before": lambda operand: (_time(operand, high=-1),),
    "after": lambda operand: (_time(operand, low=1),),
    "between": lambda operand: _between(operand) if isinstance(operand[0], str) else (),
    "versionAtLeast": lambda operand: (Span("version", low=(read_version(operand), 0)),),
    "versionBelow": lambda operand: (Span("version", high=(read_version(operand), -1)),),
    "percent": _share,
}
