"""Conditions: from what people write to a small typed tree.

`compiled_condition.py` turns the tree into closures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, Literal, TypeGuard

import msgspec
from msgspec import structs

from tagstitch.core.declarations import NOTHING_DECLARED, Declarations
from tagstitch.core.limits import CONDITION_DEPTH_MAX, CONDITION_PREDICATES_MAX
from tagstitch.core.operands import flag
from tagstitch.core.operators import (
    MODIFIERS,
    PLACED_WORDS,
    SHARED_OPERANDS,
    Comparison,
    parse_comparisons,
)
from tagstitch.core.paths import Path, Source, parse_path
from tagstitch.core.problems import Problems
from tagstitch.core.values import is_object

GroupKind = Literal["all", "any", "none"]

_Subject = Literal["event", "item", "profile"]
"""What bare names belong to."""

_GROUP_KINDS: Final[tuple[GroupKind, ...]] = ("all", "any", "none")

_LISTING: Final = ("in", "anyOf", "allOf")

CHANGED_WORDS: Final = {w: found for w, found in PLACED_WORDS.items() if found[0] == "changed"}
AUDIENCE_WORDS: Final = {w: found for w, found in PLACED_WORDS.items() if found[0] == "inAudience"}

_PLACED_WORDS: Final = frozenset(("match", *CHANGED_WORDS))


class Predicate(msgspec.Struct, frozen=True, gc=False):
    """One comparison of what a path finds."""

    path: Path
    comparison: Comparison
    where: str
    """The place in the rule document, for traces."""

    @property
    def reads(self) -> frozenset[Source]:
        """The data that it may look at."""
        if self.comparison.operator == "changed":
            return self.path.sources | {"profile"}
        return self.path.sources


class Match(msgspec.Struct, frozen=True, gc=False):
    """Conditions that one and the same element of a list must satisfy.

    Behind `$all` every element must, behind `$none` none may; `$count` takes no match.
    """

    path: Path
    condition: Condition
    where: str
    expected: Mapping[str, Any]
    """As written, for traces."""

    @property
    def reads(self) -> frozenset[Source]:
        """The data that it may look at; its conditions see nothing but the element."""
        return self.path.sources


class Group(msgspec.Struct, frozen=True, gc=False):
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
    return _Parser(problems, declared, "event").parse(raw, where)


def parse_item_conditions(
    raw: object, where: str, problems: Problems, *, declared: Declarations = NOTHING_DECLARED
) -> Condition:
    """Return the tree of conditions whose paths start at one element of a list."""
    return _Parser(problems, declared, "item").parse(raw, where)


def parse_profile_conditions(raw: object, where: str, problems: Problems) -> Condition:
    """Return the tree of conditions that look at a profile alone; a bare name is its attribute."""
    return _Parser(problems, NOTHING_DECLARED, "profile").parse(raw, where)


def count_predicates(condition: Condition) -> int:
    """Return how many comparisons the tree consists of."""
    if isinstance(condition, Predicate):
        return 1
    members = condition.members if isinstance(condition, Group) else (condition.condition,)
    return sum(map(count_predicates, members))


class _Parser:
    __slots__ = ("declared", "predicates", "problems", "subject")

    def __init__(self, problems: Problems, declared: Declarations, subject: _Subject) -> None:
        self.problems = problems
        self.declared = declared
        self.subject = subject
        self.predicates = 0

    def parse(self, raw: object, where: str) -> Condition:
        condition = self.parse_object(raw, where, depth=1, in_item=self.subject == "item")
        if self.predicates > CONDITION_PREDICATES_MAX:
            self.problems.add(where, f"more than {CONDITION_PREDICATES_MAX} comparisons")
        return condition

    def parse_object(self, raw: object, where: str, *, depth: int, in_item: bool) -> Condition:
        if not is_object(raw):
            hint = "for example {value: {lessThan: 10}}"
            self.problems.add(where, "conditions must be an object", hint)
            return ALWAYS
        if depth > CONDITION_DEPTH_MAX:
            self.problems.add(where, f"more than {CONDITION_DEPTH_MAX} levels of conditions")
            return ALWAYS
        members: list[Condition] = []
        for key, value in raw.items():
            place = _place(where, key) if key.__class__ is str else f"{where}.{key}"
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
        if len(raw) > CONDITION_PREDICATES_MAX:
            self.problems.add(where, f"more than {CONDITION_PREDICATES_MAX} conditions")
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
        if self.predicates > CONDITION_PREDICATES_MAX:  # the rest is not worth reading
            return []
        if key == "profile" and not in_item:
            return self._audiences(raw, where)
        path = self._path(key, where, in_item=in_item)
        if path is None:
            self.predicates += 1
            return []
        if raw.__class__ in SHARED_OPERANDS and path.root != "experiment":
            equal = _equal_predicate(path, where, raw)
            if equal is not None:
                self.predicates += 1
                return [equal]
        found: list[Condition] = []
        if isinstance(raw, Mapping) and not _PLACED_WORDS.isdisjoint(raw):
            raw = dict(raw)
            if "match" in raw:
                found += self._match(path, raw.pop("match"), f"{where}.match", depth=depth)
            for word in [word for word in raw if word in CHANGED_WORDS]:
                found += self._changed(path, word, raw.pop(word), where)
            if not raw:
                return found
        return found + self._predicates(path, raw, where)

    def _path(self, key: object, where: str, *, in_item: bool) -> Path | None:
        path = parse_path(key, where, self.problems, in_item=in_item, declared=self.declared)
        if path is None or in_item or self.subject != "profile":
            return path
        if path.root == "bare":
            return structs.replace(path, root="profile")
        if path.root not in ("profile", "user_state"):
            hint = "write profile.…, user_state.… or the bare name of an attribute"
            self.problems.add(where, "an audience looks at the profile alone", hint)
            return None
        return path

    def _predicates(self, path: Path, raw: Any, where: str) -> list[Condition]:
        comparisons = parse_comparisons(raw, where, self.problems)
        written = sum(word not in MODIFIERS for word in raw) if is_object(raw) else 1
        self.predicates += max(1, written)
        for comparison in comparisons:
            if path.quantifier == "$" and comparison.wants_absence:
                self.problems.add(
                    where,
                    f"{comparison.name} behind a bare $ can be read in two ways",
                    "write $none with the positive operator (no element), or $any (some element)",
                )
        if path.root == "experiment":
            self._check_experiment(path, comparisons, where)
        return [_predicate(path, comparison, where) for comparison in comparisons]

    def _check_experiment(self, path: Path, comparisons: Iterable[Comparison], where: str) -> None:
        """Note an experiment or a variant that is not declared: it could never be met."""
        experiments = self.declared.experiments
        experiment_id = ".".join(path.base)
        if path.quantifier is not None or experiment_id not in experiments:
            self.problems.add_unknown(where, "experiment", experiment_id, experiments)
            return
        variants = experiments[experiment_id]
        for comparison in comparisons:
            unknown = [v for v in _named_values(comparison) if v not in (None, *variants)]
            if unknown:
                self.problems.add_unknown(where, "variant", unknown[0], variants)

    def _changed(self, path: Path, word: str, raw: Any, where: str) -> list[Condition]:
        place = f"{where}.{word}"
        self.predicates += 1
        if path.root not in ("bare", "event") or path.quantifier is not None:
            hint = "a name in the event such as event.city; it is compared with profile.city"
            self.problems.add(place, "changed compares a parameter of the event", hint)
        name, is_negated = CHANGED_WORDS[word]
        comparison = Comparison(name, flag(raw, place, self.problems), is_negated)
        return [Predicate(structs.replace(path, root="event"), comparison, where)]

    def _audiences(self, raw: Any, where: str) -> list[Condition]:
        """Return `profile: {inAudience: …}` as the conditions of the audiences that it names."""
        if not isinstance(raw, Mapping) or not raw or not AUDIENCE_WORDS.keys() >= raw.keys():
            hint = (
                "profile: {inAudience: vip}; profile.… is an attribute, event.profile a parameter"
            )
            self.problems.add(where, "profile alone takes nothing but inAudience", hint)
            return []
        if self.subject == "profile":
            self.problems.add(where, "an audience cannot refer to another one")
            return []
        found: list[Condition] = []
        for word, operand in raw.items():
            members = self._members(operand, f"{where}.{word}")
            _, is_negated = AUDIENCE_WORDS[word]
            if len(members) == 1 and not is_negated:
                found += members
            else:
                found.append(Group("none" if is_negated else "any", tuple(members)))
        return found

    def _members(self, raw: Any, where: str) -> list[Condition]:
        ids = [raw] if isinstance(raw, str) else raw
        if (
            not isinstance(ids, list)
            or not 0 < len(ids) <= CONDITION_PREDICATES_MAX
            or not all(isinstance(audience_id, str) for audience_id in ids)
        ):
            self.problems.add(where, "needs the id of an audience, or a list of ids")
            return []
        audiences = self.declared.audiences
        members = [audiences[audience_id] for audience_id in ids if audience_id in audiences]
        for audience_id in ids:
            if audience_id not in audiences:
                self.problems.add_unknown(where, "or broken audience", audience_id, audiences)
        self.predicates += max(1, sum(map(count_predicates, members)))
        return members

    def _match(self, path: Path, raw: Any, where: str, *, depth: int) -> list[Condition]:
        if path.quantifier in (None, "$count") or path.rest:
            hint = "items.$: {match: {…}}, or $any, $all, $none; $count counts every element"
            self.problems.add(where, "match stands behind a list's $", hint)
        elif not isinstance(raw, Mapping) or not raw:
            self.problems.add(where, "match needs an object of conditions")
        else:
            condition = self.parse_object(raw, where, depth=depth + 1, in_item=True)
            return [Match(path, condition, where, raw)]
        self.predicates += 1
        return []


@lru_cache(maxsize=4_096)
def _place(where: str, key: str) -> str:
    """Return the place of a key: one text for all rules that have a condition there."""
    return f"{where}.{key}"


def _predicate(path: Path, comparison: Comparison, where: str) -> Predicate:
    """Return the predicate, which rules share that compare one path with the same scalar."""
    c = comparison
    if c.operand.__class__ in SHARED_OPERANDS:
        return _shared_predicate(path, where, c.operator, c.operand, c.is_negated, c.ignores_case)
    return Predicate(path, comparison, where)


@lru_cache(maxsize=8_192, typed=True)
def _equal_predicate(path: Path, where: str, value: Any) -> Predicate | None:
    """Return the predicate of a plain value, or None when something is wrong with it."""
    problems = Problems()
    comparisons = parse_comparisons(value, where, problems)
    return None if problems.found else _predicate(path, comparisons[0], where)


@lru_cache(maxsize=8_192, typed=True)  # typed: True is not 1
def _shared_predicate(path: Path, where: str, *comparison: Any) -> Predicate:
    return Predicate(path, Comparison(*comparison), where)


def _is_list_of_objects(raw: object) -> TypeGuard[list[Mapping[str, Any]]]:
    return isinstance(raw, list) and bool(raw) and all(isinstance(r, Mapping) for r in raw)


def _named_values(comparison: Comparison) -> Iterable[Any]:
    if comparison.operator == "equals":
        return (comparison.operand,)
    return comparison.operand if comparison.operator in _LISTING else ()
