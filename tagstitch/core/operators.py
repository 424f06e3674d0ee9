"""The closed list of operators that compare one value.

An entry of `OPERATORS` says what operand it takes and how the comparison is built. Both run once,
when a rule is read; what is left for an event is one closure.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec

from tagstitch.core import operands, value_tests
from tagstitch.core.limits import CONDITION_PREDICATES_MAX
from tagstitch.core.paths import Facts
from tagstitch.core.problems import Problems
from tagstitch.core.value_tests import Test
from tagstitch.core.values import is_object

_NEGATED_NAMES: Final = {"anyOf": "noneOf"}
"""Opposites that are not called `not…`."""


class Comparison(msgspec.Struct, frozen=True, gc=False):
    """One operator with its operand, checked and in canonical form."""

    operator: str
    operand: Any
    is_negated: bool = False
    ignores_case: bool = False

    @property
    def name(self) -> str:
        """The operator as it is stored: camelCase, with `not` in front when negated."""
        word = self.operator
        if not self.is_negated:
            return word
        return _NEGATED_NAMES.get(word) or f"not{word[0].upper()}{word[1:]}"

    @property
    def written(self) -> Any:
        """The operand as it is stored, with the modifiers that belong to it."""
        if self.operator == "size":
            return {comparison.name: comparison.written for comparison in self.operand}
        if self.operator == "percent":
            low, high, salt = self.operand
            return {"percent": [low, high], "salt": salt}
        return self.operand

    @property
    def wants_absence(self) -> bool:
        """Whether it is true for a value that is not there."""
        if self.operator == "exists":
            return self.operand is self.is_negated
        if self.operator == "isEmpty":
            return self.operand is not self.is_negated
        if self.operator == "equals" and self.operand is None:
            return not self.is_negated
        return self.is_negated

    def build(self) -> Test:
        """Return the closure that compares; a negation is exactly the opposite."""
        if self.operand.__class__ in SHARED_OPERANDS:
            return _shared_test(self.operator, self.operand, self.is_negated, self.ignores_case)
        return _test_of(self)

    def apply_negation(self, test: Test) -> Test:
        """Return the test, or exactly its opposite when the comparison is negated."""
        if not self.is_negated:
            return test
        return lambda value, facts: not test(value, facts)


@lru_cache(maxsize=8_192, typed=True)  # typed: True is not 1
def _shared_test(*comparison: Any) -> Test:
    """Return the test that all rules share which compare alike: there is one for `Gold`."""
    return _test_of(Comparison(*comparison))


def _test_of(comparison: Comparison) -> Test:
    entry = OPERATORS[comparison.operator]
    build = entry.build_ignoring_case if comparison.ignores_case else entry.build
    return comparison.apply_negation((build or entry.build)(comparison.operand))


SHARED_OPERANDS: Final = frozenset((str, int, float, bool))
"""Classes of operands by which rules share what is made of a comparison."""


@dataclass(frozen=True, slots=True)
class Operator:
    """How one operator reads its operand and compares."""

    check: Callable[[Any, str, Problems], Any]
    """Notes what is wrong with the operand at a place; returns it in canonical form."""
    build: Callable[[Any], Test]
    """Takes the canonical operand."""
    build_ignoring_case: Callable[[Any], Test] | None = None
    check_ignoring_case: Callable[[Any, str, Problems], Any] | None = None


@dataclass(frozen=True, slots=True)
class _Modifiers:
    """What stands beside operators and says how they compare."""

    ignore_case: bool = False
    salt: Any = None


_NO_MODIFIERS: Final = _Modifiers()

_SWITCHES: Final = ("ignoreCase", "ignore_case")

MODIFIERS: Final = (*_SWITCHES, "salt")


def parse_comparisons(raw: Any, where: str, problems: Problems) -> tuple[Comparison, ...]:
    """Return the comparisons of a plain value, a plain list or an object of operators.

    All of them must hold. Problems are noted at their place.
    """
    if isinstance(raw, list):
        return _comparison("in", raw, where, problems)
    if not is_object(raw):
        return _comparison("equals", raw, where, problems)
    words = {str(word): operand for word, operand in raw.items() if word not in MODIFIERS}
    if not words:
        hint = "for example {exists: true}"
        problems.add(where, "an object of operators must not be empty", hint)
    if len(words) > CONDITION_PREDICATES_MAX:
        problems.add(where, f"more than {CONDITION_PREDICATES_MAX} comparisons")
        return ()
    modifiers = _NO_MODIFIERS if len(words) == len(raw) else _take_modifiers(raw, where, problems)
    found: list[Comparison] = []
    for word, operand in words.items():
        found += _comparison(word, operand, f"{where}.{word}", problems, modifiers)
    if modifiers.ignore_case and not any(comparison.ignores_case for comparison in found):
        problems.add(f"{where}.ignoreCase", "needs an operator for text beside it")
    if modifiers.salt is not None and not any(c.operator == "percent" for c in found):
        problems.add(f"{where}.salt", "needs percent beside it")
    return tuple(found)


def _take_modifiers(raw: Mapping[Any, Any], where: str, problems: Problems) -> _Modifiers:
    switches = [raw[word] for word in _SWITCHES if word in raw]
    if not all(isinstance(switch, bool) for switch in switches):
        problems.add(f"{where}.ignoreCase", "must be true or false")
    salt = operands.salt(raw["salt"], f"{where}.salt", problems) if "salt" in raw else None
    return _Modifiers(ignore_case=True in switches, salt=salt)


def parse_comparison(
    word: object, raw: Any, where: str, problems: Problems
) -> tuple[Comparison, ...]:
    """Return the comparison of an operator that is given by its name; empty when unknown."""
    return _comparison(str(word), raw, where, problems, _NO_MODIFIERS)


def _comparison(
    word: str, raw: Any, where: str, problems: Problems, modifiers: _Modifiers = _NO_MODIFIERS
) -> tuple[Comparison, ...]:
    if word in PLACED_WORDS:
        name, _ = PLACED_WORDS[word]
        problems.add(where, f"{name} cannot stand here", _PLACES[name])
        return ()
    if word not in WORDS:
        problems.add_unknown(where, "operator", word, _KNOWN_WORDS)
        return ()
    name, is_negated = WORDS[word]
    if raw is None and name != "equals":
        problems.add(where, "the operand must not be null", "exists: false finds what is absent")
        return ()
    entry = OPERATORS[name]
    ignores_case = modifiers.ignore_case and entry.build_ignoring_case is not None
    check = (entry.check_ignoring_case if ignores_case else None) or entry.check
    operand = check(raw, where, problems)
    if name == "percent":
        operand = (*operand, _salt(modifiers, where, problems))
    return (Comparison(name, operand, is_negated, ignores_case),)


def _salt(modifiers: _Modifiers, where: str, problems: Problems) -> str:
    """Return the salt: without one, every split would select the same visitors."""
    if modifiers.salt is None:
        hint = "salt: a name of this split; splits with other salts are independent of it"
        problems.add(where, "percent needs a salt beside it", hint)
    return modifiers.salt or ""


def _size_operand(raw: Any, where: str, problems: Problems) -> tuple[Comparison, ...]:
    if isinstance(raw, Mapping):
        return parse_comparisons(raw, where, problems)
    return (Comparison("equals", operands.number(raw, where, problems)),)


def _size_test(operand: tuple[Comparison, ...]) -> Test:
    tests = [comparison.build() for comparison in operand]

    def test(value: Any, facts: Facts) -> bool:
        return value.__class__ is list and all(holds(len(value), facts) for holds in tests)

    return test


OPERATORS: Final[Mapping[str, Operator]] = {
    "equals": Operator(operands.comparable, value_tests.equals),
    "in": Operator(operands.scalars, value_tests.one_of),
    "lessThan": Operator(operands.number, value_tests.order(operator.lt)),
    "atMost": Operator(operands.number, value_tests.order(operator.le)),
    "greaterThan": Operator(operands.number, value_tests.order(operator.gt)),
    "atLeast": Operator(operands.number, value_tests.order(operator.ge)),
    "between": Operator(operands.bounds, value_tests.between),
    "before": Operator(operands.time, value_tests.before),
    "after": Operator(operands.time, value_tests.after),
    "exists": Operator(operands.flag, value_tests.exists),
    "isEmpty": Operator(operands.flag, value_tests.is_empty),
    "contains": Operator(
        operands.text, value_tests.contains, value_tests.contains_ignoring_case
    ),
    "startsWith": Operator(
        operands.text,
        value_tests.text(str.startswith),
        value_tests.starts_with_ignoring_case,
    ),
    "endsWith": Operator(
        operands.text,
        value_tests.text(str.endswith),
        value_tests.ends_with_ignoring_case,
    ),
    "matches": Operator(
        operands.pattern,
        value_tests.matches(),
        value_tests.matches(ignore_case=True),
        operands.pattern_ignoring_case,
    ),
    "anyOf": Operator(operands.scalars, value_tests.one_of),
    "allOf": Operator(operands.scalars, value_tests.all_of),
    "size": Operator(_size_operand, _size_test),
    "versionAtLeast": Operator(operands.version, value_tests.version(operator.ge)),
    "versionBelow": Operator(operands.version, value_tests.version(operator.lt)),
    "cidr": Operator(operands.ranges, value_tests.is_in_ranges),
    "percent": Operator(operands.share, value_tests.percent),
    "type": Operator(operands.type_name, value_tests.is_of_type),
}  # fmt: skip
"""Canonical name -> operator. `not` before a name (notEquals, not_equals) is its opposite."""


def _snake(word: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in word)


def _spellings(names: Iterable[str]) -> Mapping[str, tuple[str, bool]]:
    words: dict[str, tuple[str, bool]] = {}
    for name in names:
        for is_negated in (False, True):
            word = Comparison(name, None, is_negated).name
            words[word] = words[_snake(word)] = (name, is_negated)
        words[f"not_{name}"] = (name, True)
    return words


WORDS: Final = _spellings(OPERATORS)
"""Every accepted spelling -> canonical name, and whether it is the negation."""

_PLACES: Final[Mapping[str, str]] = {
    "changed": "it compares a parameter of the event with the profile, in a rule's own conditions",
    "inAudience": "it stands behind profile alone: profile: {inAudience: vip}",
}

PLACED_WORDS: Final = _spellings(_PLACES)
"""Spellings of the operators that compare more than one value; `condition.py` reads them."""

_KNOWN_WORDS: Final = tuple(
    word for word in ("match", *WORDS, *PLACED_WORDS) if "_" not in word
)  # fmt: skip
