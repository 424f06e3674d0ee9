"""Conditions as closures: nothing of a rule is interpreted while an event is decided."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from tagstitch.core.condition import Condition, Group, GroupKind, Match, Predicate
from tagstitch.core.paths import (
    Facts,
    Lookup,
    Path,
    Quantifier,
    Source,
    compile_base,
    element_finder,
    is_lacking,
)
from tagstitch.core.requirements import Requirements, requirements_of
from tagstitch.core.value_tests import Test, changed
from tagstitch.core.values import shown

_STEPS_PER_RULE: Final = 1
"""Of whoever asks, for gates and bookkeeping."""

Check = Callable[[Facts], bool]

Hides = Callable[[str], bool]
"""Whether a profile's attribute is kept from the reader of a trace."""


def hides_nothing(attribute: str) -> bool:
    """Show every attribute in a trace."""
    del attribute
    return False


@dataclass(frozen=True, slots=True)
class Leaf:
    """One predicate or match, ready to run, alone or inside the whole condition."""

    condition: Predicate | Match
    base: Lookup
    check: Check

    def is_lacking(self, facts: Facts, unavailable: frozenset[Source]) -> bool:
        """Return whether it would look at data that could not be loaded."""
        if _compares_with_profile(self.condition):
            return "profile" in unavailable and self.base(facts) is not None
        return is_lacking(self.condition.path, self.base, facts, unavailable)


@dataclass(frozen=True, slots=True)
class Branch:
    """A group of nodes."""

    kind: GroupKind
    children: tuple[Node, ...]
    check: Check


Node = Leaf | Branch


@dataclass(frozen=True, slots=True)
class CompiledCondition:
    """A condition as one closure, with the parts that a trace needs."""

    root: Node
    holds: Check
    leaves: tuple[Leaf, ...]
    requirements: Requirements
    """What an index may look up before it asks the condition itself."""
    steps: int
    """The work of asking it, besides what its comparisons count themselves; see `Work`."""

    @property
    def reads(self) -> frozenset[Source]:
        """The data it may look at; a bare name looks at the event and perhaps the profile."""
        return frozenset(source for leaf in self.leaves for source in leaf.condition.reads)

    @property
    def lookups(self) -> tuple[tuple[Path, Lookup], ...]:
        """Everything that it looks at."""
        found = [(leaf.condition.path, leaf.base) for leaf in self.leaves]
        stored = (path for path in self.read_paths if path.root == "profile")
        found += ((path, compile_base(path)) for path in stored)
        return tuple(found)

    def is_lacking(self, facts: Facts, unavailable: frozenset[Source]) -> bool:
        """Return whether the condition needs data that could not be loaded."""
        return any(leaf.is_lacking(facts, unavailable) for leaf in self.leaves)

    @property
    def read_paths(self) -> tuple[Path, ...]:
        """Every path that it looks at, those inside of a match included."""
        return tuple(path for leaf in self.leaves for path in _read_paths(leaf.condition))

    def may_hold(self, facts: Facts, unavailable: frozenset[Source]) -> bool:
        """Return False only when the data at hand already says that it does not hold."""
        return _evaluate(self.root, facts, unavailable) is not False

    def explain(
        self, facts: Facts, unavailable: frozenset[Source], hides: Hides = hides_nothing
    ) -> list[dict[str, Any]]:
        """Return every comparison with path, operator, expected, actual and result.

        The result is None when the data could not be loaded or the comparison failed. The actual
        value of a hidden attribute is left out, with `concealed` in its place.
        """
        return [_explain(leaf, facts, unavailable, hides) for leaf in self.leaves]


def compile_condition(condition: Condition) -> CompiledCondition:
    """Return the condition as closures."""
    root = _compile(condition)
    leaves = tuple(_leaves(root))
    steps = _STEPS_PER_RULE + len(leaves)
    return CompiledCondition(root, root.check, leaves, requirements_of(condition), steps)


def compile_item_test(condition: Condition) -> Test:
    """Return a test of one element; an element that is no object has no values."""
    check = _compile(condition).check
    return lambda item, facts: check(facts.with_event(item if isinstance(item, dict) else {}))


def _compile(condition: Condition) -> Node:
    if isinstance(condition, Group):
        children = tuple(_compile(member) for member in condition.members)
        return Branch(condition.kind, children, _group_check(condition.kind, children))
    base = compile_base(condition.path)
    if isinstance(condition, Match):
        in_item = compile_item_test(condition.condition)
        steps = 2 + _predicates_of(condition.condition)
        return Leaf(condition, base, _quantified(condition.path, base, in_item, steps))
    test = _test_of(condition)
    if condition.path.quantifier is not None:
        return Leaf(condition, base, _quantified(condition.path, base, test, 1))
    return Leaf(condition, base, lambda facts: test(base(facts), facts))


def _compares_with_profile(condition: Predicate | Match) -> bool:
    return isinstance(condition, Predicate) and condition.comparison.operator == "changed"


def _test_of(predicate: Predicate) -> Test:
    comparison = predicate.comparison
    if not _compares_with_profile(predicate):
        return comparison.build()
    stored = compile_base(replace(predicate.path, root="profile"))
    return comparison.apply_negation(changed(comparison.operand, stored))


def _group_check(kind: GroupKind, children: tuple[Node, ...]) -> Check:
    checks = tuple(child.check for child in children)
    if kind == "all":
        return checks[0] if len(checks) == 1 else _all_hold(checks)
    if kind == "any":
        return _any_holds(checks)
    some = _any_holds(checks)
    return lambda facts: not some(facts)


def _all_hold(checks: tuple[Check, ...]) -> Check:
    def check(facts: Facts) -> bool:
        for holds in checks:  # noqa: SIM110 - a loop costs half of a generator here
            if not holds(facts):
                return False
        return True

    return check


def _any_holds(checks: tuple[Check, ...]) -> Check:
    def check(facts: Facts) -> bool:
        for holds in checks:  # noqa: SIM110 - a loop costs half of a generator here
            if holds(facts):
                return True
        return False

    return check


def _quantified(path: Path, base: Lookup, test: Test, steps: int) -> Check:
    """Compare the elements of a list; anything that is no list has no elements.

    `steps` is the work of one element.
    """
    find = element_finder(path)
    quantifier: Quantifier = path.quantifier or "$"
    element_steps = 0 if quantifier == "$count" else steps

    def elements(facts: Facts) -> list[Any]:
        value = base(facts)
        if value.__class__ is not list:
            return []
        facts.work.spend(element_steps * len(value))
        return value

    if quantifier == "$count":
        return lambda facts: test(len(elements(facts)), facts)
    if quantifier == "$all":  # without elements it is false, as positive operators are

        def all_hold(facts: Facts) -> bool:
            found = elements(facts)
            return bool(found) and all(test(find(element), facts) for element in found)

        return all_hold

    def some_hold(facts: Facts) -> bool:
        return any(test(find(element), facts) for element in elements(facts))

    return some_hold if quantifier != "$none" else lambda facts: not some_hold(facts)


def _predicates_of(condition: Condition) -> int:
    """Return how many comparisons there are in a condition."""
    if isinstance(condition, Group):
        return sum(map(_predicates_of, condition.members))
    return 1 if isinstance(condition, Predicate) else 1 + _predicates_of(condition.condition)


def _leaves(node: Node) -> Iterator[Leaf]:
    if isinstance(node, Leaf):
        yield node
    else:
        for child in node.children:
            yield from _leaves(child)


def _read_paths(condition: Condition) -> Iterator[Path]:
    if isinstance(condition, Predicate):
        yield condition.path
        if _compares_with_profile(condition):
            yield replace(condition.path, root="profile")
    elif isinstance(condition, Group):
        for member in condition.members:
            yield from _read_paths(member)
    else:  # a list inside of an element is kept whole
        for inner in _read_paths(condition.condition):
            literal = condition.path.literal and inner.literal
            yield replace(condition.path, rest=inner.base, literal=literal)


def _evaluate(node: Node, facts: Facts, unavailable: frozenset[Source]) -> bool | None:
    """Return True, False, or None when it hangs on data that could not be loaded."""
    if isinstance(node, Leaf):
        return None if node.is_lacking(facts, unavailable) else node.check(facts)
    results = [_evaluate(child, facts, unavailable) for child in node.children]
    if node.kind == "all":
        return False if False in results else (None if None in results else True)
    if True in results:
        return node.kind == "any"
    return None if None in results else node.kind == "none"


def _explain(
    leaf: Leaf, facts: Facts, unavailable: frozenset[Source], hides: Hides
) -> dict[str, Any]:
    condition = leaf.condition
    if isinstance(condition, Match):
        operator, expected = "match", condition.expected
    else:
        operator, expected = condition.comparison.name, condition.comparison.written
    line: dict[str, Any] = {
        "path": condition.path.text,
        "where": condition.where,
        "operator": operator,
        "expected": shown(expected),
        "actual": None,
        "result": None,
    }
    if leaf.is_lacking(facts, unavailable):
        return line
    try:
        if _is_hidden(leaf, facts, hides):
            line["concealed"] = True
        else:
            line["actual"] = shown(_actual(leaf, facts))
        line["result"] = leaf.check(facts)
    except Exception as error:  # noqa: BLE001 - the decision skips such a rule; the trace says why
        line["error"] = type(error).__name__
    return line


def _is_hidden(leaf: Leaf, facts: Facts, hides: Hides) -> bool:
    """Return whether the value comes from an attribute that the reader of a trace may not see."""
    path = leaf.condition.path
    if not is_lacking(path, leaf.base, facts, frozenset(("profile",))):
        return False  # it reads no profile, or the event has the value
    names = (".".join(path.base[:length]) for length in range(1, len(path.base) + 1))
    return any(map(hides, names))


def _actual(leaf: Leaf, facts: Facts) -> Any:
    path, value = leaf.condition.path, leaf.base(facts)
    if path.quantifier is None:
        return value
    elements = value if isinstance(value, list) else []
    if path.quantifier == "$count":
        return len(elements)
    find = element_finder(path)
    return [find(element) for element in elements]
