"""Conditions as closures: nothing of a rule is interpreted while an event is decided."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import structs

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
from tagstitch.core.value_tests import Test, changed
from tagstitch.core.values import shown

_STEPS_PER_RULE: Final = 1
"""Of whoever asks, for gates and bookkeeping."""

_STEPS_PER_LEAF: Final = 8
"""Of one comparison that is asked alone because some data is missing: two microseconds."""

_STEPS_PER_CLOSURE: Final = 20
"""Of building its closure: five microseconds."""

_STEPS_PER_RANGE: Final = 40
"""Of each range of addresses in it: ten microseconds."""

Check = Callable[[Facts], bool]

Hides = Callable[[str], bool]
"""Whether a profile's attribute is kept from the reader of a trace."""


def hides_nothing(attribute: str) -> bool:
    """Show every attribute in a trace."""
    del attribute
    return False


@dataclass(frozen=True, slots=True)
class Leaf:
    """One predicate or match, alone or inside the whole condition."""

    condition: Predicate | Match
    base: Lookup

    def check(self, facts: Facts) -> bool:
        """Return whether it holds; its closure is built anew, which counts as work."""
        facts.work.spend(_steps_to_build(self.condition))
        return _check_of(self.condition)(facts)

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


Node = Leaf | Branch


class CompiledCondition(msgspec.Struct, gc=False):
    """A condition as one closure, and what it is made of for those who ask why.

    The closure is made when it is asked for the first time: of 100,000 rules an index answers for
    most, and many are never asked.
    """

    condition: Condition
    lookups: tuple[tuple[Path, Lookup], ...]
    """Everything that it looks at, without what is inside of a match."""
    read_paths: tuple[Path, ...]
    """Every path that it looks at, those inside of a match included."""
    steps: int
    """The work of asking it, besides what its comparisons count themselves; see `Work`."""
    check: Check | None = None
    """The closure once it is made; `holds` makes it."""

    def holds(self, facts: Facts) -> bool:
        """Return whether it holds for these facts."""
        check = self.check
        if check is None:
            check = self.check = _check_of(self.condition)
        return check(facts)

    @property
    def reads(self) -> frozenset[Source]:
        """The data it may look at; a bare name looks at the event and perhaps the profile."""
        return frozenset(source for path, _ in self.lookups for source in path.sources)

    def is_lacking(self, facts: Facts, unavailable: frozenset[Source]) -> bool:
        """Return whether the condition needs data that could not be loaded."""
        if not any(is_lacking(path, find, facts, unavailable) for path, find in self.lookups):
            return False
        facts.work.spend(_STEPS_PER_LEAF * len(self.read_paths))
        return any(leaf.is_lacking(facts, unavailable) for leaf in _leaves(self.condition))

    def may_hold(self, facts: Facts, unavailable: frozenset[Source]) -> bool:
        """Return False only when the data at hand already says that it does not hold."""
        facts.work.spend(_STEPS_PER_LEAF * len(self.read_paths))
        return _evaluate(_node(self.condition), facts, unavailable) is not False

    def explain(
        self, facts: Facts, unavailable: frozenset[Source], hides: Hides = hides_nothing
    ) -> list[dict[str, Any]]:
        """Return every comparison with path, operator, expected, actual and result.

        The result is None when the data could not be loaded or the comparison failed. The actual
        value of a hidden attribute is left out, with `concealed` in its place. The first one for
        which the whole does not hold has `decisive`.
        """
        root = _node(self.condition)
        leaves = list(_leaves_of(root))
        decisive = _decisive(root, facts, unavailable)
        return [
            {
                **_explain(leaf, facts, unavailable, hides),
                **({"decisive": True} if leaf is decisive else {}),
            }
            for leaf in leaves
        ]


def compile_condition(condition: Condition) -> CompiledCondition:
    """Return the condition, ready to become closures."""
    predicates = _plain_predicates(condition)
    if predicates is None:
        paths = tuple(leaf.path for leaf in _predicates(condition))
        looks = _looks_of(paths, tuple(_read_paths(condition)))
    else:
        looks = _looks_of(tuple([predicate.path for predicate in predicates]))
    steps = _STEPS_PER_RULE + len(looks.read_paths)
    return CompiledCondition(condition, looks.pairs, looks.read_paths, steps)


def _plain_predicates(condition: Condition) -> Sequence[Predicate] | None:
    """Return the comparisons of one value each that a rule mostly consists of, if it does."""
    if isinstance(condition, Predicate):
        members: tuple[Condition, ...] = (condition,)
    elif isinstance(condition, Group) and condition.kind == "all":
        members = condition.members
    else:
        return None
    predicates = []
    for member in members:
        if not isinstance(member, Predicate) or _compares_with_profile(member):
            return None
        if member.path.quantifier is not None:
            return None
        predicates.append(member)
    return predicates


def compile_item_test(condition: Condition) -> Test:
    """Return a test of one element; an element that is no object has no values."""
    check = _check_of(condition)

    def test(item: Any, facts: Facts) -> bool:
        in_item = facts.with_event(item if isinstance(item, dict) else {})
        holds = check(in_item)
        if in_item.coercions:
            facts.coercions += in_item.coercions
        return holds

    return test


class _Looks(NamedTuple):
    """What all conditions on the same paths share."""

    pairs: tuple[tuple[Path, Lookup], ...]
    lookups: tuple[Lookup, ...]
    read_paths: tuple[Path, ...]


@lru_cache(maxsize=4_096)
def _looks_of(paths: tuple[Path, ...], read_paths: tuple[Path, ...] | None = None) -> _Looks:
    read = paths if read_paths is None else read_paths
    stored = (path for path in read if path.root == "profile")
    distinct = dict.fromkeys((*paths, *stored))
    pairs = tuple((path, compile_base(path)) for path in distinct)
    return _Looks(pairs, tuple(map(compile_base, paths)), read)


def _check_of(condition: Condition) -> Check:
    if not isinstance(condition, Group):
        return _comparisons((condition,)) if _is_plain(condition) else _leaf_check(condition)
    if condition.kind == "all":
        runs = groupby(condition.members, _is_plain)
        checks = [
            check
            for is_plain, members in runs
            for check in ((_comparisons(members),) if is_plain else map(_check_of, members))
        ]
        return checks[0] if len(checks) == 1 else _all_hold(tuple(checks))
    some = _any_holds(tuple(map(_check_of, condition.members)))
    return some if condition.kind == "any" else lambda facts: not some(facts)


def _is_plain(condition: Condition) -> bool:
    """Return whether it compares one value, as most conditions do."""
    return isinstance(condition, Predicate) and condition.path.quantifier is None


def _comparisons(predicates: Iterable[Condition]) -> Check:
    found = [predicate for predicate in predicates if isinstance(predicate, Predicate)]
    looks = _looks_of(tuple([predicate.path for predicate in found]))
    return _Comparisons(looks.lookups, tuple(map(_test_of, found))).hold


class _Comparisons:
    """Comparisons of one value each: this takes a third of the room of closures."""

    __slots__ = ("_pairs",)

    def __init__(self, lookups: tuple[Lookup, ...], tests: tuple[Test, ...]) -> None:
        self._pairs = tuple(zip(lookups, tests, strict=True))

    def hold(self, facts: Facts) -> bool:
        """Return whether all of them hold."""
        for look_up, test in self._pairs:  # noqa: SIM110 - a loop costs half of a generator here
            if not test(look_up(facts), facts):
                return False
        return True


def _leaf_check(condition: Predicate | Match) -> Check:
    base = compile_base(condition.path)
    if isinstance(condition, Match):
        in_item = compile_item_test(condition.condition)
        steps = 2 + _count_predicates(condition.condition)
        return _quantified(condition.path, base, in_item, steps)
    return _quantified(condition.path, base, _test_of(condition), 1)


def _node(condition: Condition) -> Node:
    if isinstance(condition, Group):
        return Branch(condition.kind, tuple(map(_node, condition.members)))
    return Leaf(condition, compile_base(condition.path))


def _leaves_of(node: Node) -> Iterator[Leaf]:
    if isinstance(node, Leaf):
        yield node
    else:
        for child in node.children:
            yield from _leaves_of(child)


def _leaves(condition: Condition) -> Iterator[Leaf]:
    for predicate in _predicates(condition):
        yield Leaf(predicate, compile_base(predicate.path))


def _predicates(condition: Condition) -> Iterator[Predicate | Match]:
    if isinstance(condition, Group):
        for member in condition.members:
            yield from _predicates(member)
    else:
        yield condition


def _compares_with_profile(condition: Predicate | Match) -> bool:
    return isinstance(condition, Predicate) and condition.comparison.operator == "changed"


def _steps_to_build(condition: Condition) -> int:
    """Return the work of building the closure of a condition."""
    if isinstance(condition, Group):
        return sum(map(_steps_to_build, condition.members))
    if isinstance(condition, Match):
        return _STEPS_PER_CLOSURE + _steps_to_build(condition.condition)
    operand = condition.comparison.operand
    values = len(operand) if isinstance(operand, tuple) else 0
    per_value = _STEPS_PER_RANGE if condition.comparison.operator == "cidr" else 1
    return _STEPS_PER_CLOSURE + values * per_value


def _test_of(predicate: Predicate) -> Test:
    comparison = predicate.comparison
    if not _compares_with_profile(predicate):
        return comparison.build()
    stored = compile_base(structs.replace(predicate.path, root="profile"))
    return comparison.apply_negation(changed(comparison.operand, stored))


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


def _count_predicates(condition: Condition) -> int:
    """Return how many comparisons there are in a condition."""
    if isinstance(condition, Group):
        return sum(map(_count_predicates, condition.members))
    return 1 if isinstance(condition, Predicate) else 1 + _count_predicates(condition.condition)


def _read_paths(condition: Condition) -> Iterator[Path]:
    if isinstance(condition, Predicate):
        yield condition.path
        if _compares_with_profile(condition):
            yield structs.replace(condition.path, root="profile")
    elif isinstance(condition, Group):
        for member in condition.members:
            yield from _read_paths(member)
    else:  # a list inside of an element is kept whole
        for inner in _read_paths(condition.condition):
            literal = condition.path.literal and inner.literal
            yield structs.replace(condition.path, rest=inner.base, literal=literal)


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


def _decisive(node: Node, facts: Facts, unavailable: frozenset[Source]) -> Leaf | None:
    """Return the first leaf for which the node does not hold, or None when it holds."""
    try:
        while isinstance(node, Branch):
            wrong = node.kind == "none"
            results = [_evaluate(child, facts, unavailable) for child in node.children]
            if node.kind == "any" and True in results:
                return None
            ends = [
                child for child, result in zip(node.children, results, strict=True)
                if (result is not False if wrong else result is not True)
            ]  # fmt: skip
            if not ends:
                return None
            node = ends[0]
            if wrong:
                return next(_leaves_of(node), None)
        return None if _evaluate(node, facts, unavailable) else node
    except Exception:  # noqa: BLE001 - the line of the comparison that failed says so
        return None


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
