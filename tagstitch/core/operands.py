"""What operators accept as their operand; all of it is checked when a rule is read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, cast

from tagstitch.core.address_ranges import read_network
from tagstitch.core.limits import (
    CONDITION_LIST_MAX,
    CONDITION_REGEX_CHARS_MAX,
    CONDITION_SALT_CHARS_MAX,
    CONDITION_TEXT_CHARS_MAX,
    EPOCH_OPERAND_MAX,
    EPOCH_OPERAND_MIN,
    RULE_DEPTH_MAX,
)
from tagstitch.core.patterns import compile_pattern
from tagstitch.core.problems import Problems
from tagstitch.core.times import epoch_seconds, read_moment
from tagstitch.core.value_tests import TYPES, moment
from tagstitch.core.values import is_number, is_numeric_text, json_problem
from tagstitch.core.versions import read_version

_TIME_HINT: Final = "2026-11-21, 2026-11-21T20:00:00Z (UTC when no zone is given), or now-5d"
_EPOCH_HINT: Final = "an epoch has 10 digits in seconds, 13 in milliseconds, 16 in microseconds"
_PERCENT_STEPS: Final = 100
"""Shares are told apart to a hundredth of a per cent."""


def any_value(raw: Any, where: str, problems: Problems) -> Any:
    """Accept whatever JSON can hold."""
    problem = json_problem(raw, depth=RULE_DEPTH_MAX)
    if problem:
        problems.add(where, problem)
    return raw


def comparable(raw: Any, where: str, problems: Problems) -> Any:
    """Accept whatever JSON can hold, up to the length of a list."""
    if isinstance(raw, list | Mapping) and not _is_short(raw):
        problems.add(where, f"more than {CONDITION_LIST_MAX} values")
        return None
    return any_value(raw, where, problems)


def _is_short(raw: list[Any] | Mapping[Any, Any]) -> bool:
    """Return whether all lists and objects together have few enough entries to compare."""
    count, waiting = 0, [raw]
    while waiting:
        container = waiting.pop()
        count += len(container)
        if count > CONDITION_LIST_MAX:
            return False
        values = container.values() if isinstance(container, Mapping) else container
        waiting += [value for value in values if isinstance(value, list | Mapping)]
    return True


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


def bounds(raw: Any, where: str, problems: Problems) -> tuple[Any, Any]:
    """Accept `[low, high]`: two numbers, or two dates or times."""
    if not isinstance(raw, list) or len(raw) != 2:
        problems.add(where, "needs the two bounds [low, high]")
        return (0, 0)
    are_texts = [isinstance(bound, str) and not is_numeric_text(bound) for bound in raw]
    if any(are_texts) and not all(are_texts):
        problems.add(where, "both bounds must be numbers, or both dates or times")
        return (0, 0)
    check = time if all(are_texts) else number
    known = len(problems.found)
    low, high = (check(bound, f"{where}[{i}]", problems) for i, bound in enumerate(raw))
    if len(problems.found) == known and _is_later(low, high):
        problems.add(where, "the lower bound comes first")
    return (low, high)


def _is_later(low: Any, high: Any) -> bool:
    """Return whether the bounds are the wrong way round; one relative to now may be either."""
    if not isinstance(low, str):
        return bool(low > high)
    start, end = moment(low), moment(high).end
    return start.is_relative is end.is_relative and start.seconds > end.seconds


def time(raw: Any, where: str, problems: Problems) -> str | float:
    """Accept a date, a time, `now` with an offset, or an epoch."""
    if isinstance(raw, datetime):  # a timestamp of the store
        return raw.isoformat()
    if read_moment(raw) is not None:
        return cast(str, raw)
    if is_number(raw):
        seconds = epoch_seconds(raw)
        if seconds is not None and EPOCH_OPERAND_MIN <= seconds < EPOCH_OPERAND_MAX:
            return cast(float, raw)
        problems.add(where, "not clearly an epoch of the years 1990 to 2199", _EPOCH_HINT)
    elif is_numeric_text(raw):
        hint = "write an epoch without quotes, and a date as 2026-11-21"
        problems.add(where, "a date needs dashes", hint)
    elif isinstance(raw, str) and raw.startswith("now"):
        hint = "such as now-5d or now+2h30m, in s, m (minutes), h, d and w"
        problems.add(where, "not a time relative to now", hint)
    else:
        problems.add(where, "must be a date or a time, in quotes", _TIME_HINT)
    return EPOCH_OPERAND_MIN


def version(raw: Any, where: str, problems: Problems) -> str:
    """Accept a version."""
    if isinstance(raw, str) and read_version(raw) is not None:
        return raw
    hint = 'in quotes, such as "2.10.0": 2.10 as a number is 2.1' if is_number(raw) else "2.10.0"
    problems.add(where, "must be a version", hint)
    return "0"


def ranges(raw: Any, where: str, problems: Problems) -> tuple[str, ...]:
    """Accept an address, a range, or a list of them."""
    if isinstance(raw, str):
        return _ranges([raw], where, problems)
    if not isinstance(raw, list) or not raw:
        problems.add(where, "needs a range of addresses or a list of ranges", "10.0.0.0/8")
        return ()
    if len(raw) > CONDITION_LIST_MAX:
        problems.add(where, f"more than {CONDITION_LIST_MAX} values")
    return _ranges(raw[:CONDITION_LIST_MAX], where, problems)


def _ranges(texts: list[Any], where: str, problems: Problems) -> tuple[str, ...]:
    for text_ in texts:
        if not isinstance(text_, str) or read_network(text_) is None:
            hint = "10.0.0.0/8 or 2001:db8::/32, with zeros behind the prefix"
            problems.add(where, "not a range of addresses", hint)
            return ()
    return tuple(texts)


def share(raw: Any, where: str, problems: Problems) -> tuple[float, float]:
    """Accept `[low, high]` in per cent."""
    if not isinstance(raw, list) or len(raw) != 2:
        problems.add(where, "needs the two bounds [low, high], in per cent", "[0, 10] is a tenth")
        return (0, 100)
    low, high = (number(bound, f"{where}[{i}]", problems) for i, bound in enumerate(raw))
    if not 0 <= low < high <= 100:
        problems.add(where, "the bounds must be 0 to 100, the lower one first")
    elif any(abs(b * _PERCENT_STEPS - round(b * _PERCENT_STEPS)) > 1e-6 for b in (low, high)):
        problems.add(where, "at most two decimal places: there are 10,000 buckets")
    return (low, high)


def salt(raw: Any, where: str, problems: Problems) -> str:
    """Accept what keeps one split apart from the others."""
    if not isinstance(raw, str) or not 0 < len(raw) <= CONDITION_SALT_CHARS_MAX:
        problems.add(where, f"must be text of 1 to {CONDITION_SALT_CHARS_MAX} characters")
        return ""
    return raw


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
    if len(raw) > CONDITION_TEXT_CHARS_MAX:
        problems.add(where, f"longer than {CONDITION_TEXT_CHARS_MAX} characters")
        return ""
    return raw


def pattern(raw: Any, where: str, problems: Problems) -> str:
    """Accept a regular expression that RE2 can run."""
    return _pattern(raw, where, problems, ignore_case=False)


def pattern_ignoring_case(raw: Any, where: str, problems: Problems) -> str:
    """Accept a regular expression that RE2 can run when cases are alike: that takes more room."""
    return _pattern(raw, where, problems, ignore_case=True)


def _pattern(raw: Any, where: str, problems: Problems, *, ignore_case: bool) -> str:
    expression = text(raw, where, problems)
    if len(expression) > CONDITION_REGEX_CHARS_MAX:
        problems.add(where, f"longer than {CONDITION_REGEX_CHARS_MAX} characters")
    elif expression and compile_pattern(expression, ignore_case=ignore_case) is None:
        hint = "RE2 has neither look-around nor back references, and large repetitions are refused"
        problems.add(where, "not a regular expression that can be run", hint)
    else:
        return expression
    return ""


def type_name(raw: Any, where: str, problems: Problems) -> str:
    """Accept the name of a JSON type."""
    if not isinstance(raw, str) or raw not in TYPES:
        problems.add_unknown(where, "type", raw, TYPES)
        return "string"
    return raw
