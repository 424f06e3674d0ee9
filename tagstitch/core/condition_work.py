"""The work of asking comparisons one by one, which happens where some data is missing."""

from __future__ import annotations

from typing import Final

from tagstitch.core.condition import Condition, Group, Match

STEPS_PER_LEAF: Final = 8
"""Of one comparison that is asked alone because some data is missing: two microseconds."""

_STEPS_PER_CLOSURE: Final = 20
"""Of building its closure: five microseconds."""

_STEPS_PER_RANGE: Final = 40
"""Of each range of addresses in it: ten microseconds."""


def steps_to_build(condition: Condition) -> int:
    """Return the steps of building the closure of a condition."""
    if isinstance(condition, Group):
        return sum(map(steps_to_build, condition.members))
    if isinstance(condition, Match):
        return _STEPS_PER_CLOSURE + steps_to_build(condition.condition)
    operand = condition.comparison.operand
    values = len(operand) if isinstance(operand, tuple) else 0
    per_value = _STEPS_PER_RANGE if condition.comparison.operator == "cidr" else 1
    return _STEPS_PER_CLOSURE + values * per_value
