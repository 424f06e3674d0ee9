"""What an event must have for a condition to hold, in the few forms that an index can look up.

A requirement is never stricter than the condition it comes from: an index may let too many rules
through, which the condition itself then refuses, and must never lose one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from tagstitch.core.condition import Condition, Group, Match, Predicate
from tagstitch.core.paths import Path
from tagstitch.core.values import is_number

Relation = Literal["equal", "prefix", "below", "at_most", "above", "at_least", "present"]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing that the value at a path, or one of the values, must fulfil."""

    path: Path
    relation: Relation
    operand: Any = None
    """`equal`: a tuple of scalars; `prefix`: a tuple of texts; `present`: nothing; else the bound."""


@dataclass(frozen=True, slots=True)
class Requirements:
    """What must be so for a condition to hold."""

    all: tuple[Requirement, ...] = ()
    """Every one of these."""
    any: tuple[Requirement, ...] = ()
    """And at least one of these, unless there are none."""
    is_exact: bool = False
    """Whether the condition holds exactly when `all` of them are fulfilled."""


NO_REQUIREMENTS: Final = Requirements()

_Forms = tuple[tuple[Relation, Any], ...]


def _equal(operand: Any) -> _Forms:
    """Return nothing for null, which is absence, and for lists and objects."""
    return (("equal", (operand,)),) if isinstance(operand, bool | int | float | str) else ()


def _between(operand: tuple[Any, Any]) -> _Forms:
    """Return nothing for times, which are no numbers to sort."""
    low, high = operand
    return (("at_least", low), ("at_most", high)) if is_number(low) and is_number(high) else ()


def _exists(operand: bool) -> _Forms:  # noqa: FBT001 - the operand of `exists` is a boolean
    return (("present", None),) if operand else ()


def _present(_: Any) -> _Forms:
    """For operators that are false for what is absent and offer no value to look up."""
    return (("present", None),)


_FORMS: Final[Mapping[str, Callable[[Any], _Forms]]] = {
    "equals": _equal,
    "in": lambda operand: (("equal", operand),),
    "anyOf": lambda operand: (("equal", operand),),
    "lessThan": lambda operand: (("below", operand),),
    "atMost": lambda operand: (("at_most", operand),),
    "greaterThan": lambda operand: (("above", operand),),
    "atLeast": lambda operand: (("at_least", operand),),
    "between": _between,
    "exists": _exists,
    "startsWith": lambda operand: (("prefix", (operand,)),),
    "contains": _present,
    "endsWith": _present,
    "matches": _present,
    "allOf": _present,
    "type": _present,
}
"""What an operator requires of the value; one that is not here requires nothing."""

_EXACT: Final = frozenset(
    ("equals", "in", "anyOf", "lessThan", "atMost", "greaterThan", "atLeast", "between", "exists",
     "startsWith")
)  # fmt: skip
"""The operators whose forms say all that they do, for scalar values."""

_INDEXED_ROOTS: Final = frozenset(("bare", "event", "profile"))
"""Not the state and the experiments: they move while one request is decided."""


def requirements_of(condition: Condition) -> Requirements:
    """Return what the condition requires; what cannot be told leaves no trace."""
    if isinstance(condition, Predicate):
        found = _of_predicate(condition)
        is_exact = bool(found) and _is_exact(condition)
        return Requirements(found, is_exact=is_exact) if found else NO_REQUIREMENTS
    if isinstance(condition, Match):
        found = _of_match(condition)
        return Requirements(found) if found else NO_REQUIREMENTS
    if condition.kind == "any":
        return Requirements(any=_of_alternatives(condition))
    if condition.kind == "none":
        return NO_REQUIREMENTS
    members = [requirements_of(member) for member in condition.members]
    return Requirements(
        all=tuple(requirement for member in members for requirement in member.all),
        any=next((member.any for member in members if member.any), ()),
        is_exact=bool(members) and all(member.is_exact for member in members),
    )


def _of_alternatives(group: Group) -> tuple[Requirement, ...]:
    """Return one requirement or more for each member, or nothing when a member has none."""
    found: list[Requirement] = []
    for member in group.members:
        required = requirements_of(member)
        if required.all:
            found.append(min(required.all, key=_selectivity))
        elif required.any:
            found += required.any
        else:
            return ()
    return tuple(found)


_BY_SELECTIVITY: Final = (
    "equal", "prefix", "below", "at_most", "above", "at_least", "present",
)  # fmt: skip


def _selectivity(requirement: Requirement) -> int:
    """Return a rank: values narrow most, presence least."""
    return _BY_SELECTIVITY.index(requirement.relation)


def _of_predicate(predicate: Predicate) -> tuple[Requirement, ...]:
    path, comparison = predicate.path, predicate.comparison
    is_usable = path.root in _INDEXED_ROOTS or path.root == "item"
    if not is_usable or path.quantifier == "$none" or comparison.is_negated:
        return ()
    forms = _present if comparison.ignores_case else _FORMS.get(comparison.operator)
    if forms is None:
        return ()
    return tuple(Requirement(path, *form) for form in forms(comparison.operand))


def _is_exact(predicate: Predicate) -> bool:
    """Return whether what the index looks up is all that there is to a comparison."""
    path, comparison = predicate.path, predicate.comparison
    is_simple = path.root in _INDEXED_ROOTS and path.quantifier in (None, "$", "$any", "$count")
    return is_simple and not comparison.ignores_case and comparison.operator in _EXACT


def _of_match(match: Match) -> tuple[Requirement, ...]:
    """Return what some element must have; that one element has all of it is left to the match."""
    if match.path.root not in _INDEXED_ROOTS or match.path.quantifier == "$none":
        return ()
    inner = requirements_of(match.condition).all
    found = (_in_element(match.path, requirement) for requirement in inner)
    return tuple(requirement for requirement in found if requirement is not None)


def _in_element(outer: Path, inner: Requirement) -> Requirement | None:
    """Return the requirement of a path that starts at the list instead of at its element."""
    path = inner.path
    is_one_way = outer.literal == path.literal or (len(outer.base) == len(path.base) == 1)
    if path.quantifier is not None or not is_one_way:
        return None
    text = f"{outer.text}.{path.text}"
    return replace(inner, path=replace(outer, text=text, rest=path.base, quantifier="$"))
