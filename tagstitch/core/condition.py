"""Conditions: from what people write to a small typed tree.

`compiled_condition.py` turns the tree into closures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeGuard

from tagstitch.core.declarations import NOTHING_DECLARED, Declarations
from tagstitch.core.limits import CONDITION_DEPTH_MAX, CONDITION_PREDICATES_MAX
from tagstitch.core.operators import Comparison, parse_comparisons
from tagstitch.core.paths import Path, parse_path
from tagstitch.core.problems import Problems

GroupKind = Literal["all", "any", "none"]

_GROUP_KINDS: Final[tuple[GroupKind, ...]] = ("all", "any", "none")


@dataclass(frozen=True, slots=True)
class Predicate:
    """One comparison of what a path finds."""

    path: Path
    comparison: Comparison
    where: str
    """The place in the rule document, for traces."""


@dataclass(frozen=True, slots=True)
class Match:
    """Conditions that one and the same element of a list must satisfy."""

    path: Path
    condition: Condition
    where: str
    expected: Mapping[str, Any]
    """As written, for traces."""


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions of which all, any or none must hold; an empty `all` always holds."""

    kind: GroupKind
    members: tuple[Condition, ...]


Condition = Predicate | Match | Group

ALWAYS: Final = Group("all", ())


def parse_conditions(
    raw: object,
    where: str,
    problems: Problems,
    *,
    declared: Declarations = NOTHING_DECLARED,
) -> Condition:
    """Return the tree of a rule's `conditions`, every entry of which must hold.

    What is wrong is noted in `problems`; the tree is worth something only if nothing was.
    """
    parser = _Parser(problems, declared)
    condition = parser.parse_object(raw, where, depth=1, in_item=False)
    if parser.predicates > CONDITION_PREDICATES_MAX:
        problems.add(where, f"more than {CONDITION_PREDICATES_MAX} comparisons")
    return condition


def parse_item_conditions(
    raw: object, where: str, problems: Problems, *, declared: Declarations = NOTHING_DECLARED
) -> Condition:
    """Return the tree of conditions whose paths start at one element of a list."""
    parser = _Parser(problems, declared)
    return parser.parse_object(raw, where, depth=1, in_item=True)


class _Parser:
    __slots__ = ("declared", "predicates", "problems")

    def __init__(self, problems: Problems, declared: Declarations) -> None:
        self.problems = problems
        self.declared = declared
        self.predicates = 0

    def parse_object(self, raw: object, where: str, *, depth: int, in_item: bool) -> Condition:
        if not isinstance(raw, Mapping):
            hint = "for example {value: {lessThan: 10}}"
            self.problems.add(where, "conditions must be an object", hint)
            return ALWAYS
        if depth > CONDITION_DEPTH_MAX:
            self.problems.add(where, f"more than {CONDITION_DEPTH_MAX} levels of conditions")
            return ALWAYS
        members: list[Condition] = []
        for key, value in raw.items():
            place = f"{where}.{key}"
            if key in _GROUP_KINDS:
                members.append(self._group(key, value, place, depth=depth, in_item=in_item))
            else:
                members += self._entry(key, value, place, depth=depth, in_item=in_item)
        return members[0] if len(members) == 1 else Group("all", tuple(members))

    def _group(
        self, kind: GroupKind, raw: object, where: str, *, depth: int, in_item: bool
    ) -> Condition:
        if not _is_list_of_objects(raw):
            hint = f"a parameter of this name is written event.{kind}"
            self.problems.add(where, "a group needs a list of conditions", hint)
            return ALWAYS
        members = []
        for index, member in enumerate(raw):
            place = f"{where}[{index}]"
            if not member:
                self.problems.add(place, "a group's conditions must not be empty")
            members.append(self.parse_object(member, place, depth=depth + 1, in_item=in_item))
        return Group(kind, tuple(members))

    def _entry(
        self, key: object, raw: Any, where: str, *, depth: int, in_item: bool
    ) -> list[Condition]:
        path = parse_path(key, where, self.problems, in_item=in_item, declared=self.declared)
        if path is None:
            return []
        found: list[Condition] = []
        if isinstance(raw, Mapping) and "match" in raw:
            found += self._match(path, raw["match"], f"{where}.match", depth=depth)
            raw = {word: operand for word, operand in raw.items() if word != "match"}
            if not raw:
                return found
        for comparison in parse_comparisons(raw, where, self.problems):
            self.predicates += 1
            if path.quantifier == "$" and comparison.wants_absence:
                self.problems.add(
                    where,
                    f"{comparison.name} behind a bare $ can be read in two ways",
                    "write $none with the positive operator (no element), or $any (some element)",
                )
            found.append(Predicate(path, comparison, where))
        return found

    def _match(self, path: Path, raw: Any, where: str, *, depth: int) -> list[Condition]:
        if path.quantifier in (None, "$count") or path.rest:
            self.problems.add(where, "match stands behind a list's $", "items.$: {match: {…}}")
            return []
        if not isinstance(raw, Mapping) or not raw:
            self.problems.add(where, "match needs an object of conditions")
            return []
        condition = self.parse_object(raw, where, depth=depth + 1, in_item=True)
        return [Match(path, condition, where, raw)]


def _is_list_of_objects(raw: object) -> TypeGuard[list[Mapping[str, Any]]]:
    return isinstance(raw, list) and bool(raw) and all(isinstance(r, Mapping) for r in raw)
