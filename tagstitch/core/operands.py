"""What operators accept as their operand; all of it is checked when a rule is read."""

from __future__ import annotations

from typing import Any, cast

from tagstitch.core.limits import CONDITION_LIST_MAX, CONDITION_REGEX_CHARS_MAX, RULE_DEPTH_MAX
from tagstitch.core.problems import Problems
from tagstitch.core.value_tests import TYPES, is_pattern
from tagstitch.core.values import is_number, is_numeric_text, json_problem


def any_value(raw: Any, where: str, problems: Problems) -> Any:
    """Accept whatever JSON can hold."""
    problem = json_problem(raw, depth=RULE_DEPTH_MAX)
    if problem:
        problems.add(where, problem)
    return raw


def scalars(raw: Any, where: str, problems: Problems) -> tuple[Any, ...]:
    """Accept a list of texts, numbers and booleans."""
    if not isinstance(raw, list) or not raw:
        problems.add(where, "needs a list with at least one value")
        return ()
    if len(raw) > CONDITION_LIST_MAX:
        problems.add(where, f"more than {CONDITION_LIST_MAX} values")
    usable = []
    for index, value in enumerate(raw[:CONDITION_LIST_MAX]):
        if isinstance(value, bool | str) or is_number(value):
            usable.append(value)
        else:
            problems.add(f"{where}[{index}]", "must be text, a number, true or false")
    return tuple(usable)


def number(raw: Any, where: str, problems: Problems) -> float:
    """Accept a finite number."""
    if is_number(raw) and json_problem(raw, depth=0) is None:
        return cast(float, raw)
    hint = "write the number without quotes" if is_numeric_text(raw) else None
    problems.add(where, "must be a number", hint)
    return 0


def bounds(raw: Any, where: str, problems: Problems) -> tuple[float, float]:
    """Accept `[low, high]`."""
    if not isinstance(raw, list) or len(raw) != 2:
        problems.add(where, "needs the two bounds [low, high]")
        return (0, 0)
    low, high = (number(bound, f"{where}[{i}]", problems) for i, bound in enumerate(raw))
    if low > high:
        problems.add(where, "the lower bound comes first")
    return (low, high)


def flag(raw: Any, where: str, problems: Problems) -> bool:
    """Accept true or false."""
    if not isinstance(raw, bool):
        problems.add(where, "must be true or false")
    return raw is True


def text(raw: Any, where: str, problems: Problems) -> str:
    """Accept a text that is not empty."""
    if not isinstance(raw, str) or not raw:
        problems.add(where, "must be a text that is not empty")
        return ""
    return raw


def pattern(raw: Any, where: str, problems: Problems) -> str:
    """Accept a regular expression that RE2 can run."""
    expression = text(raw, where, problems)
    if len(expression) > CONDITION_REGEX_CHARS_MAX:
        problems.add(where, f"longer than {CONDITION_REGEX_CHARS_MAX} characters")
    elif not is_pattern(expression):
        hint = "RE2 has neither look-around nor back references"
        problems.add(where, "not a regular expression", hint)
    else:
        return expression
    return ""


def type_name(raw: Any, where: str, problems: Problems) -> str:
    """Accept the name of a JSON type."""
    if not isinstance(raw, str) or raw not in TYPES:
        problems.add_unknown(where, "type", raw, TYPES)
        return "string"
    return raw
