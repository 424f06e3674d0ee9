"""Collecting what is wrong with a definition, so that its author sees everything at once."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Final

from tagstitch.core.errors import Problem

_KNOWN_SHOWN_MAX: Final = 60
_KNOWN_COMPARED_MAX: Final = 1_000
"""Words above which looking for the nearest one would take longer than reading the rule."""

_WORDS_OF_OTHERS: Final[Mapping[str, str]] = {
    "<": "lessThan", "<=": "atMost", ">": "greaterThan", ">=": "atLeast", "=": "equals",
    "==": "equals", "!=": "notEquals", "<>": "notEquals",
    "lt": "lessThan", "lte": "atMost", "gt": "greaterThan", "gte": "atLeast", "eq": "equals",
    "ne": "notEquals", "neq": "notEquals", "nin": "notIn",
    "lessthanorequal": "atMost", "lessthanorequals": "atMost", "lessthanorequalto": "atMost",
    "greaterthanorequal": "atLeast", "greaterthanorequals": "atLeast",
    "greaterthanorequalto": "atLeast", "min": "atLeast", "max": "atMost",
    "oneof": "in", "isoneof": "in", "inlist": "in", "is": "equals", "isnot": "notEquals",
    "beginswith": "startsWith", "regex": "matches", "regexp": "matches",
    "isnull": "exists", "ispresent": "exists", "isset": "exists", "isnotempty": "notIsEmpty",
    "notempty": "notIsEmpty", "doesnotexist": "notExists", "doesnotcontain": "notContains",
}  # fmt: skip
"""Operators of other languages, in small letters without underscores: the nearest spelling among
ours (oneOf, noneOf) may mean the opposite."""


class Problems:
    """What a parser found so far; parsers go on after the first problem."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, path: str, message: str, hint: str | None = None) -> None:
        """Note one problem; `message` and `hint` never hold a value from the definition."""
        self.found.append(Problem(path, message, hint))

    def add_unknown(self, path: str, what: str, word: object, known: Collection[str]) -> None:
        """Note a word that is not in a closed list, with the nearest one that is."""
        self.add(path, f"unknown {what}", suggestion(word, known))


def suggestion(word: object, known: Collection[str]) -> str:
    """Return a hint with the nearest known word, or with all of them."""
    meant = _WORDS_OF_OTHERS.get(str(word)[:100].lower().replace("_", ""))
    if meant in known:
        return f"did you mean {meant}?"
    if len(known) > _KNOWN_COMPARED_MAX:
        return f"none of the {len(known)} that are known"
    close = difflib.get_close_matches(str(word)[:100], known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return "known: " + ", ".join(sorted(known)[:_KNOWN_SHOWN_MAX])
