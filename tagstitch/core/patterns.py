"""Regular expressions: RE2, so that no expression and no value can take exponential time."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from functools import lru_cache
from typing import Any, Final
from weakref import WeakValueDictionary

import re2

from tagstitch.core.identity_limits import (
    PATTERN_SET_BYTES_MAX,
)
from tagstitch.core.limits import (
    CONDITION_REGEX_BYTES_MAX,
    CONDITION_REGEX_INSTRUCTIONS_MAX,
)


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


class PatternSet:
    """Expressions that are searched together, in one pass over a text."""

    __slots__ = ("_expressions", "matches")

    def __init__(self, expressions: Sequence[str]) -> None:
        """Take expressions that `compile_pattern` accepts."""
        self._expressions = tuple(expressions)
        found = re2.Set.SearchSet(_OPTIONS_OF_SETS)
        for expression in expressions:
            found.Add(expression)
        found.Compile()
        # One request asks the same of each identifier several times.
        self.matches = lru_cache(maxsize=1024)(lambda text: bool(found.Match(text)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PatternSet) and self._expressions == other._expressions

    def __hash__(self) -> int:
        return hash(self._expressions)


def _options(*, ignore_case: bool, bytes_max: int = CONDITION_REGEX_BYTES_MAX) -> Any:
    options = re2.Options()
    options.log_errors = False  # otherwise RE2 writes the expression to standard error
    options.case_sensitive = not ignore_case
    options.never_capture = True  # only whether it matches counts
    options.max_mem = bytes_max
    return options


_OPTIONS: Final = _options(ignore_case=False)
_OPTIONS_IGNORING_CASE: Final = _options(ignore_case=True)
_OPTIONS_OF_SETS: Final = _options(ignore_case=False, bytes_max=PATTERN_SET_BYTES_MAX)
