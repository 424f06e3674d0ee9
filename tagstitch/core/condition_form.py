"""Conditions as alternatives of requirements on single places: the form that checks reason about.

`any`, `all` and `none` groups are multiplied out; `Requirements` of one place are then judged by
`value_kinds.py`. What is claimed is certain; what cannot be told apart is left open.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from msgspec import structs

from tagstitch.core.condition import Condition, Group, Match, Predicate
from tagstitch.core.limits import CHECK_ALTERNATIVES_MAX
from tagstitch.core.operators import Comparison
from tagstitch.core.paths import Path, Root
from tagstitch.core.value_kinds import can_count, can_hold, negated, possible_kinds


class Place(NamedTuple):
    """Where conditions look: a value or, with a quantifier, the elements of a list."""

    root: Root
    base: tuple[str, ...]
    rest: tuple[str, ...]
    literal: bool


@dataclass(slots=True)
class Requirements:
    """What one alternative demands of one place."""

    value: list[Comparison] = field(default_factory=list)
    count: list[Comparison] = field(default_factory=list)
    """Of the number of elements."""
    some: list[Comparison] = field(default_factory=list)
    """Each of some element, not necessarily the same."""
    every: list[Comparison] = field(default_factory=list)
    """Of every element, of which there is at least one."""
    no: list[Comparison] = field(default_factory=list)
    """Of no element."""

    @property
    def of_each(self) -> list[Comparison]:
        """What holds for each element, if there is one."""
        return [*self.every, *map(negated, self.no)]

    @property
    def wants_elements(self) -> bool:
        """Whether there must be an element."""
        return bool(self.some or self.every)

    def and_also(self, other: Requirements) -> Requirements:
        """Return the demands of both."""
        return Requirements(
            self.value + other.value,
            self.count + other.count,
            self.some + other.some,
            self.every + other.every,
            self.no + other.no,
        )

    def can_be_met(self) -> bool:
        """Return False only when nothing satisfies them."""
        if self.value and not can_hold(self.value):
            return False
        if self.count and not can_count(self.count):
            return False
        of_each = self.of_each if self.wants_elements else []
        if self.every and not can_hold(of_each):
            return False
        return all(can_hold([comparison, *of_each]) for comparison in self.some)

    def imply(self, other: Requirements) -> bool:
        """Return True only when whatever satisfies these also satisfies the others."""
        of_each = self.of_each
        witnesses = [[some, *of_each] for some in self.some]
        if self.every:
            witnesses.append(of_each)
        return (
            all(not _allow(self.value, negated(c)) for c in other.value)
            and all(not can_count([*self.count, negated(c)]) for c in other.count)
            and all(any(not _allow(w, negated(c)) for w in witnesses) for c in other.some)
            and all(bool(self.every) and not _allow(of_each, negated(c)) for c in other.every)
            and all(not _allow(of_each, c) for c in other.no)
        )


def _allow(comparisons: list[Comparison], another: Comparison) -> bool:
    return can_hold([*comparisons, another])


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way for a condition to hold: all of this together."""

    places: dict[Place, Requirements]
    opaque: frozenset[tuple[str, bool]] = frozenset()
    """Parts that are only compared with themselves, and whether each must hold."""

    def can_hold(self) -> bool:
        """Return False only when it never holds."""
        if any((text, not holds) in self.opaque for text, holds in self.opaque):
            return False
        return all(
            requirements.can_be_met() and self._has_list(place, requirements)
            for place, requirements in self.places.items()
        )

    def _has_list(self, place: Place, requirements: Requirements) -> bool:
        """Return False when elements are wanted of what can be no list."""
        base = self.places.get(place._replace(rest=()))
        if not requirements.wants_elements or base is None or not base.value:
            return True
        return "list" in possible_kinds(base.value)

    def can_hold_with(self, other: Alternative) -> bool:
        """Return False only when both never hold at once; each can hold alone."""
        return all(
            requirements.and_also(other.places[place]).can_be_met()
            for place, requirements in self.places.items()
            if place in other.places
        )

    def implies(self, other: Alternative) -> bool:
        """Return True only when the other holds wherever this one does."""
        if not (other.opaque <= self.opaque and other.places.keys() <= self.places.keys()):
            return False
        return all(self.places[place].imply(wanted) for place, wanted in other.places.items())


@dataclass(frozen=True, slots=True)
class ConditionForm:
    """A condition as alternatives of which at least one holds when it does."""

    alternatives: tuple[Alternative, ...]
    is_exact: bool
    """Whether the condition also holds when an alternative does: nothing was left out."""

    def can_hold(self) -> bool:
        """Return False only when the condition never holds."""
        return any(alternative.can_hold() for alternative in self.alternatives)

    def can_hold_with(self, other: ConditionForm) -> bool:
        """Return False only when both never hold at once."""
        return any(
            one.can_hold_with(another)
            for one in self.alternatives
            for another in other.alternatives
        )

    def implies(self, other: ConditionForm) -> bool:
        """Return True only when the other holds wherever this one does."""
        return other.is_exact and all(
            any(one.implies(another) for another in other.alternatives) for one in self.alternatives
        )


def form_of(condition: Condition, *, negate: bool = False) -> ConditionForm:
    """Return the form of a condition, or of its opposite."""
    expansion = _Expansion()
    found = expansion.alternatives_of(condition, negate=negate)
    return ConditionForm(tuple(map(_alternative, found)), expansion.is_exact)


class _Atom(NamedTuple):
    path: Path
    test: Comparison | str
    """A comparison, or the text of an opaque part."""
    holds: bool


class _Expansion:
    """Multiplies groups out, and leaves demands out where that would grow too large."""

    __slots__ = ("is_exact",)

    def __init__(self) -> None:
        self.is_exact = True

    def alternatives_of(self, condition: Condition, *, negate: bool) -> list[tuple[_Atom, ...]]:
        if not isinstance(condition, Group):
            if isinstance(condition, Match) and not form_of(condition.condition).can_hold():
                return [()] if (condition.path.quantifier == "$none") != negate else []
            return [(_atom(condition, negate=negate),)]
        if condition.kind == "none":
            negate = not negate
        parts = [self.alternatives_of(member, negate=negate) for member in condition.members]
        if (condition.kind == "all") == negate:
            return self._one_of(parts)
        return self._all_of(parts)

    def _one_of(self, parts: list[list[tuple[_Atom, ...]]]) -> list[tuple[_Atom, ...]]:
        found = [alternative for part in parts for alternative in part]
        if len(found) <= CHECK_ALTERNATIVES_MAX:
            return found
        self.is_exact = False
        return [()]

    def _all_of(self, parts: list[list[tuple[_Atom, ...]]]) -> list[tuple[_Atom, ...]]:
        found: list[tuple[_Atom, ...]] = [()]
        for part in sorted(parts, key=len):
            if len(found) * len(part) > CHECK_ALTERNATIVES_MAX:
                self.is_exact = False
            else:
                found = [one + another for one in found for another in part]
        return found


def _atom(condition: Predicate | Match, *, negate: bool) -> _Atom:
    path = condition.path
    if isinstance(condition, Match):
        return _Atom(path, _opaque_text(path, condition.expected), not negate)
    comparison = condition.comparison
    if not negate:
        return _Atom(path, comparison, holds=True)
    if path.quantifier == "$all":
        return _Atom(path, _opaque_text(path, comparison), holds=False)
    if path.quantifier in (None, "$count"):
        return _Atom(path, negated(comparison), holds=True)
    opposite = structs.replace(path, quantifier="$any" if path.quantifier == "$none" else "$none")
    return _Atom(opposite, comparison, holds=True)


def _opaque_text(path: Path, test: Any) -> str:
    content = [path.root, path.base, path.quantifier, path.rest, path.literal]
    written = (
        json.dumps(test, sort_keys=True, default=str) if isinstance(test, dict) else repr(test)
    )
    return f"{content} {written}"


_SLOTS: Final = {None: "value", "$count": "count", "$": "some", "$any": "some",
                 "$all": "every", "$none": "no"}  # fmt: skip


def _alternative(atoms: Iterable[_Atom]) -> Alternative:
    places: dict[Place, Requirements] = {}
    opaque: set[tuple[str, bool]] = set()
    for path, test, holds in atoms:
        if isinstance(test, str):
            opaque.add((test, holds))
            continue
        place = Place(path.root, path.base, path.rest, path.literal)
        requirements = places.setdefault(place, Requirements())
        wanted: list[Comparison] = getattr(requirements, _SLOTS[path.quantifier])
        wanted.append(test)
    return Alternative(places, frozenset(opaque))


def conditions_below(condition: Condition) -> Sequence[Condition]:
    """Return the entries of a condition, every one of which must hold."""
    if isinstance(condition, Group) and condition.kind == "all":
        return [entry for member in condition.members for entry in conditions_below(member)]
    return (condition,)
