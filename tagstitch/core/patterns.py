"""Regular expressions: RE2, so that no expression and no value can take exponential time."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Final
from weakref import WeakValueDictionary

import re2

from tagstitch.core.limits import CONDITION_REGEX_BYTES_MAX, CONDITION_REGEX_INSTRUCTIONS_MAX


class Pattern:
    """A compiled expression: a wrapper, because the module's own class has no weak references."""

    __slots__ = ("__weakref__", "instructions", "search")

    def __init__(self, compiled: Any) -> None:
        self.search = compiled.search
        self.instructions: int = compiled.programsize


_patterns: Final[MutableMapping[tuple[str, bool], Pattern]] = WeakValueDictionary()
"""What living rules use: many rules share few expressions, and a program takes kilobytes."""


def compile_pattern(expression: str, *, ignore_case: bool = False) -> Pattern | None:
    """Return the expression ready to search, or None when RE2 cannot run it in its bounds."""
    key = (expression, ignore_case)
    pattern = _patterns.get(key)
    if pattern is not None:
        return pattern
    try:
        compiled = re2.compile(expression, _OPTIONS_IGNORING_CASE if ignore_case else _OPTIONS)
    except (re2.error, UnicodeError):
        return None
    if compiled.programsize > CONDITION_REGEX_INSTRUCTIONS_MAX:
        return None
    pattern = _patterns[key] = Pattern(compiled)
    return pattern


def _options(*, ignore_case: bool) -> Any:
    options = re2.Options()
    options.log_errors = False  # otherwise RE2 writes the expression to standard error
    options.case_sensitive = not ignore_case
    options.never_capture = True  # only whether it matches counts
    options.max_mem = CONDITION_REGEX_BYTES_MAX
    return options


_OPTIONS: Final = _options(ignore_case=False)
_OPTIONS_IGNORING_CASE: Final = _options(ignore_case=True)
