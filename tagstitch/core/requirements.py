"""What an event must have for a condition to hold, in the few forms that an index can look up.

A requirement is never stricter than the condition it comes from: an index may let too many rules
through, which the condition itself then refuses, and must never lose one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import structs

from tagstitch.core.condition import Condition, Group, Match, Predicate
from tagstitch.core.paths import Facts, Path
from tagstitch.core.values import is_number

Relation = Literal["equal", "prefix", "below", "at_most", "above", "at_least", "present"]


class Requirement(msgspec.Struct, frozen=True, gc=False):
    """One thing that the value at a path, or one of the values, must fulfil."""

    path: Path
    relation: Relation
    operand: Any = None
    """`equal`: a tuple of scalars; `prefix`: a tuple of texts; `present`: nothing; else the bound."""


class Requirements(msgspec.Struct, frozen=True, gc=False):
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

_EXACT_QUANTIFIERS: Final = (None, "$", "$any", "$count")

_INDEXED_ROOTS: Final = frozenset(("bare", "event", "profile", "item"))
"""Not the state and the experiments: they move while one request is decided."""


def requirements_of(condition: Condition) -> Requirements:
    """Return what the condition requires; what cannot be told leaves no trace."""
    found: list[Requirement] = []
    alternatives, is_exact = _collect(condition, found)
    if not found and not alternatives:
        return NO_REQUIREMENTS
    return Requirements(tuple(found), alternatives, is_exact)


def _collect(
    condition: Condition, found: list[Requirement]
) -> tuple[tuple[Requirement, ...], bool]:
    """Note what is required for certain; return the alternatives of one `any`, and if exact."""
    if isinstance(condition, Predicate):
        return (), _collect_predicate(condition, found)
    if isinstance(condition, Match):
        found += _of_match(condition)
    elif condition.kind == "any":
        return _of_alternatives(condition), False
    elif condition.kind == "all":
        alternatives: tuple[Requirement, ...] = ()
        is_exact = bool(condition.members)
        for member in condition.members:
            its_alternatives, is_member_exact = _collect(member, found)
            alternatives = alternatives or its_alternatives
            is_exact = is_exact and is_member_exact
        return alternatives, is_exact
    return (), False


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


def _collect_predicate(predicate: Predicate, found: list[Requirement]) -> bool:
    """Note what a comparison requires; return whether that is all that there is to it."""
    path, comparison = predicate.path, predicate.comparison
    if comparison.is_negated or path.root not in _INDEXED_ROOTS or path.quantifier == "$none":
        return False
    if path.quantifier == "$count" and comparison.build()(0, Facts({})):
        return False  # it holds without the list too, and nothing leads from there to the rule
    word = comparison.operator
    forms = _present if comparison.ignores_case else _FORMS.get(word)
    if forms is None:
        return False
    requirements = forms(comparison.operand)
    for relation, operand in requirements:
        found.append(Requirement(path, relation, operand))
    is_simple = path.quantifier in _EXACT_QUANTIFIERS and path.root != "item"
    # The two bounds of `between` may be kept by two elements of which none lies between them.
    is_one = len(requirements) == 1 or path.quantifier in (None, "$count")
    return bool(requirements) and is_simple and is_one and word in _EXACT and forms is not _present


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
    return msgspec.structs.replace(
        inner, path=structs.replace(outer, text=text, rest=path.base, quantifier="$")
    )
