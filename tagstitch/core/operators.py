"""The closed list of operators that compare one value.

An entry of `OPERATORS` says what operand it takes and how the comparison is built. Both run once,
when a rule is read; what is left for an event is one closure.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tagstitch.core import operands, value_tests
from tagstitch.core.paths import Facts
from tagstitch.core.problems import Problems
from tagstitch.core.value_tests import Test

_NEGATED_NAMES: Final = {"anyOf": "noneOf"}
"""Opposites that are not called `not…`."""


@dataclass(frozen=True, slots=True)
class Comparison:
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
    def wants_absence(self) -> bool:
        """Whether it is true for a value that is not there."""
        if self.operator == "exists":
            return self.operand is self.is_negated
        if self.operator == "equals" and self.operand is None:
            return not self.is_negated
        return self.is_negated

    def build(self) -> Test:
        """Return the closure that compares; a negation is exactly the opposite."""
        entry = OPERATORS[self.operator]
        build = entry.build_ignoring_case if self.ignores_case else entry.build
        test = (build or entry.build)(self.operand)
        if not self.is_negated:
            return test
        return lambda value, facts: not test(value, facts)


@dataclass(frozen=True, slots=True)
class Operator:
    """How one operator reads its operand and compares."""

    check: Callable[[Any, str, Problems], Any]
    """Notes what is wrong with the operand at a place; returns it in canonical form."""
    build: Callable[[Any], Test]
    """Takes the canonical operand."""
    build_ignoring_case: Callable[[Any], Test] | None = None


def parse_comparisons(raw: Any, where: str, problems: Problems) -> tuple[Comparison, ...]:
    """Return the comparisons of a plain value, a plain list or an object of operators.

    All of them must hold. Problems are noted at their place.
    """
    if isinstance(raw, list):
        return _comparison("in", raw, where, problems)
    if not isinstance(raw, Mapping):
        return _comparison("equals", raw, where, problems)
    words = {str(word): operand for word, operand in raw.items()}
    switches = [words.pop(word) for word in ("ignoreCase", "ignore_case") if word in words]
    if not words:
        hint = "for example {exists: true}"
        problems.add(where, "an object of operators must not be empty", hint)
    found: list[Comparison] = []
    for word, operand in words.items():
        place = f"{where}.{word}"
        found += _comparison(word, operand, place, problems, ignore_case=True in switches)
    if not all(isinstance(switch, bool) for switch in switches):
        problems.add(f"{where}.ignoreCase", "must be true or false")
    elif True in switches and not any(comparison.ignores_case for comparison in found):
        problems.add(f"{where}.ignoreCase", "needs an operator for text beside it")
    return tuple(found)


def parse_comparison(
    word: object, raw: Any, where: str, problems: Problems
) -> tuple[Comparison, ...]:
    """Return the comparison of an operator that is given by its name; empty when unknown."""
    return _comparison(str(word), raw, where, problems)


def _comparison(
    word: str, raw: Any, where: str, problems: Problems, *, ignore_case: bool = False
) -> tuple[Comparison, ...]:
    if word not in WORDS:
        problems.add_unknown(where, "operator", word, [*_CAMEL_WORDS, "match"])
        return ()
    name, is_negated = WORDS[word]
    if raw is None and name != "equals":
        problems.add(where, "the operand must not be null", "exists: false finds what is absent")
        return ()
    entry = OPERATORS[name]
    operand = entry.check(raw, where, problems)
    ignores_case = ignore_case and entry.build_ignoring_case is not None
    return (Comparison(name, operand, is_negated, ignores_case),)


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
    "equals": Operator(operands.any_value, value_tests.equals),
    "in": Operator(operands.scalars, value_tests.one_of),
    "lessThan": Operator(operands.number, value_tests.order(operator.lt)),
    "atMost": Operator(operands.number, value_tests.order(operator.le)),
    "greaterThan": Operator(operands.number, value_tests.order(operator.gt)),
    "atLeast": Operator(operands.number, value_tests.order(operator.ge)),
    "between": Operator(operands.bounds, value_tests.order(value_tests.is_between)),
    "exists": Operator(operands.flag, value_tests.exists),
    "isEmpty": Operator(operands.flag, value_tests.is_empty),
    "contains": Operator(
        operands.text, value_tests.contains, value_tests.contains_ignoring_case
    ),
    "startsWith": Operator(
        operands.text,
        value_tests.text(str.startswith),
        value_tests.text(str.startswith, ignore_case=True),
    ),
    "endsWith": Operator(
        operands.text,
        value_tests.text(str.endswith),
        value_tests.text(str.endswith, ignore_case=True),
    ),
    "matches": Operator(
        operands.pattern, value_tests.matches(), value_tests.matches(ignore_case=True)
    ),
    "anyOf": Operator(operands.scalars, value_tests.one_of),
    "allOf": Operator(operands.scalars, value_tests.all_of),
    "size": Operator(_size_operand, _size_test),
    "type": Operator(operands.type_name, value_tests.is_of_type),
}  # fmt: skip
"""Canonical name -> operator. `not` before a name (notEquals, not_equals) is its opposite."""


def _snake(word: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in word)


def _accepted_words() -> Mapping[str, tuple[str, bool]]:
    words: dict[str, tuple[str, bool]] = {}
    for name in OPERATORS:
        for is_negated in (False, True):
            word = Comparison(name, None, is_negated).name
            words[word] = words[_snake(word)] = (name, is_negated)
        words[f"not_{name}"] = (name, True)
    return words


WORDS: Final = _accepted_words()
"""Every accepted spelling -> canonical name, and whether it is the negation."""

_CAMEL_WORDS: Final = tuple(word for word in WORDS if "_" not in word)
