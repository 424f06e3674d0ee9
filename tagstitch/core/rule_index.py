"""A bitmap index over the rules of one event name.

Each rule has a bit. For the value at a path the index knows which rules' requirements it fulfils;
what is left after all paths is a superset of the rules that hold. Of some of them it is sure; of
the others their own conditions decide. Bitmaps are Python's integers: an AND over 10,000 rules
costs 0.1 microseconds, so every requirement can take part and none has to be chosen.

Nothing here is stricter than the language: a value of an unexpected type narrows nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from itertools import accumulate, count
from operator import add, and_, or_
from typing import Any, Final, NamedTuple

from tagstitch.core.index_column import Column, bitmap_in_steps, column_in_steps, see
from tagstitch.core.limits import INDEXED_ELEMENTS_MAX
from tagstitch.core.paths import Facts, Lookup, Path, compile_base, element_finder
from tagstitch.core.requirements import Relation, Requirement, Requirements
from tagstitch.core.steps import Steps
from tagstitch.core.values import is_numeric_text

_COMMON_SHARE: Final = 64
"""A requirement that less than 1/64 of the rules have gets no bitmap to AND with: with thousands
of such paths memory and time would grow as rules times paths."""

_RULES_PER_STEP: Final = 100

_UNSPEAKABLE: Final[Mapping[str, Any]] = {}
"""A value that says nothing to an index, as any object does."""

_Key = tuple[Path, Relation]
_Entries = dict[_Key, list[tuple[int, Any]]]


class RuleIndex:
    """Finds the rules that may hold, by their position."""

    __slots__ = (
        "_common",
        "_covered",
        "_everything",
        "_in_event",
        "_in_profile",
        "_plain",
        "_unlisted",
    )

    def __init__(
        self,
        rules: int,
        common: Sequence[PathIndex],
        rare: Sequence[PathIndex],
        *,
        listed: int,
        covered: int,
    ) -> None:
        self._everything = (1 << rules) - 1
        ordered = sorted(common, key=lambda path: path.expense)
        plain = [path.plain for path in ordered]
        self._plain = tuple(found for found in plain if found is not None)
        """What is looked up first, and quickest."""
        self._common = tuple(p for p, found in zip(ordered, plain, strict=True) if found is None)
        """Every one narrows; where nothing is left, the dearer ones behind are not looked at."""
        self._in_event = _by_first_key(path for path in rare if path.path.root != "profile")
        """Top-level key -> paths that may begin there; one fulfilled requirement is enough."""
        self._in_profile = _by_first_key(path for path in rare if path.path.root != "event")
        self._unlisted = self._everything ^ listed
        """The rules that have nothing in the two."""
        self._covered = covered
        """The rules that hold when the index finds them, if it saw nothing unusual."""

    def find(
        self, facts: Facts, *, has_profile: bool = True
    ) -> tuple[Sequence[int], Sequence[bool] | None]:
        """Return the positions of all rules that hold, and of others, and whether each surely does.

        None in its place says that all of them do.

        `has_profile` False says that it could not be loaded: what it would say is open. Raises
        WorkExceeded.
        """
        left, sure = self._everything, self._covered
        look_up = facts.event.get
        for key, pass_text, others, path in self._plain:
            value = look_up(key)
            if value.__class__ is str:
                left &= pass_text(value, others)
            else:
                left, is_exact = path.narrow(left, facts, has_profile=has_profile)
                if not is_exact:
                    sure &= path.without
            if not left:
                return (), None
        left, sure = self._narrow(left, sure, facts, has_profile=has_profile)
        if not left & (left - 1):  # one at most, as for most events
            return ((left.bit_length() - 1,), (left & sure != 0,)) if left else ((), None)
        positions = _positions(left)
        if left & sure == left:
            return positions, None
        surely = set(_positions(left & sure))
        return positions, [position in surely for position in positions]

    def _narrow(self, left: int, sure: int, facts: Facts, *, has_profile: bool) -> tuple[int, int]:
        """Return those of the rules left that may hold for the values elsewhere, and which surely."""
        for path in self._common:
            if not left & path.rules:
                continue  # the dear ones only where a rule that is left asks
            left, is_exact = path.narrow(left, facts, has_profile=has_profile)
            if not left:
                return 0, 0
            if not is_exact:
                sure &= path.without
        if self._in_event or self._in_profile:
            found, is_exact = self._with_rare(facts) if has_profile else (self._everything, False)
            left &= self._unlisted | found
            if not is_exact:
                sure &= self._unlisted
        return left, sure

    def _with_rare(self, facts: Facts) -> tuple[int, bool]:
        found, is_exact = 0, True
        places = ((self._in_event, facts.event), (self._in_profile, facts.profile))
        for rare, container in places:
            for key in rare.keys() & container.keys():
                facts.work.spend(len(rare[key]))
                for path in rare[key]:
                    rules, is_path_exact = path.fulfilled(facts)
                    found |= rules
                    is_exact = is_exact and is_path_exact
        return found, is_exact


class _Plain(NamedTuple):
    key: str
    pass_text: Callable[[str, int], int]
    """Return the rules that pass for a text, given the others, which do not ask."""
    others: int
    path: PathIndex


class PathIndex:
    """All that rules require of one path."""

    __slots__ = (
        "_base",
        "_columns",
        "_compares_numbers",
        "_gives_many",
        "_look_up",
        "_pass_text",
        "_wants_profile",
        "path",
        "rules",
        "without",
    )

    def __init__(self, path: Path, columns: Iterable[Column]) -> None:
        self.path = path
        self._base = compile_base(path)
        self._look_up = _values_of(path)
        self._gives_many = path.quantifier not in (None, "$count")
        self._wants_profile = path.root != "event"
        self._columns = tuple(columns)
        self._compares_numbers = any(column.has_bounds for column in self._columns)
        self._pass_text = self._columns[0].pass_text if len(self._columns) == 1 else None
        self.rules = reduce(or_, (column.rules for column in self._columns))
        """The rules that require something of it."""
        self.without = reduce(and_, (column.others for column in self._columns))

    @property
    def expense(self) -> tuple[bool, bool, int]:
        """What a look-up takes and leaves, to sort by."""
        return (self._gives_many, self._compares_numbers, -self.rules.bit_count())

    @property
    def plain(self) -> _Plain | None:
        """The same in short, for a look at one key that only asks which text is there."""
        path, pass_text = self.path, self._pass_text
        is_at_key = path.root in ("bare", "event") and len(path.base) == 1
        if pass_text is None or not is_at_key or path.quantifier is not None:
            return None
        return _Plain(path.base[0], pass_text, self.without, self)

    def narrow(self, left: int, facts: Facts, *, has_profile: bool) -> tuple[int, bool]:
        """Return those of the rules left that may hold for the value here, and whether exactly."""
        if not has_profile and self._wants_profile and self._base(facts) is None:
            return left, False
        value = self._look_up(facts)
        if value is None:
            return left & self.without, True
        kind = value.__class__
        if (
            (kind is str and not (self._compares_numbers and is_numeric_text(value)))
            or kind is int
            or (kind is float and value == value)  # noqa: PLR0124 - not for a stored NaN
        ):
            for column in self._columns:
                left &= column.pass_scalar(value)
            return left, True
        if self._gives_many and self._pass_text is not None and kind is list:
            passed = _pass_any(value, self._pass_text)
            if passed is not None:
                return left & (passed | self.without), True
        seen = see(value, gives_many=self._gives_many)
        if seen is None:
            return left, False
        for column in self._columns:
            left &= column.pass_seen(seen)
        return left, seen.is_exact

    def fulfilled(self, facts: Facts) -> tuple[int, bool]:
        """Return the rules that have a requirement here which the value fulfils; and if exactly."""
        value = self._look_up(facts)
        if value is None:
            return 0, True
        seen = see(value, gives_many=self._gives_many)
        if seen is None:
            return self.rules, False
        found = 0
        for column in self._columns:
            found |= column.pass_seen(seen) & column.rules
        return found, seen.is_exact


def _pass_any(values: list[Any], pass_text: Callable[[str, int], int]) -> int | None:
    """Return the rules that pass for one of the texts; None for a list of other values."""
    passed = 0
    for value in values:
        if value.__class__ is str:
            passed |= pass_text(value, 0)
        elif value is not None:
            return None
    return passed


def index_in_steps(rules: Sequence[Requirements]) -> Steps[RuleIndex]:
    """Build the index of these rules, in this order; pauses between small pieces of work."""
    entries: _Entries = {}
    for position, requirements in enumerate(rules):
        _note(entries, requirements.all, position)
        if position % _RULES_PER_STEP == 0:
            yield
    few = len(rules) / _COMMON_SHARE
    common = {key for key, found in entries.items() if len(found) >= few}
    rare: _Entries = {}
    listed, covered = [], []
    for position, requirements in enumerate(rules):
        one_of = _first_rare(requirements, common) or requirements.any
        _note(rare, one_of, position)
        if one_of:
            listed.append(position)
        if requirements.is_exact and _is_covered(requirements, common, one_of):
            covered.append(position)
        if position % _RULES_PER_STEP == 0:
            yield
    # In their own order, whatever the hashes are: looking costs work, and where it ends must not
    # depend on the process.
    often = {key: found for key, found in entries.items() if key in common}
    common_paths = yield from _paths_in_steps(often, len(rules))
    rare_paths = yield from _paths_in_steps(rare, len(rules))
    return RuleIndex(
        len(rules),
        common_paths,
        rare_paths,
        listed=(yield from bitmap_in_steps(listed, len(rules))),
        covered=(yield from bitmap_in_steps(covered, len(rules))),
    )


def _is_covered(
    requirements: Requirements, common: set[_Key], looked_up: Sequence[Requirement]
) -> bool:
    """Return whether the index looks up everything that the rule requires."""
    keys = [(requirement.path, requirement.relation) for requirement in requirements.all]
    if len(set(keys)) < len(keys):  # of two in one column, either one will do
        return False
    rest = [r for r, key in zip(requirements.all, keys, strict=True) if key not in common]
    return rest == list(looked_up)


def _note(entries: _Entries, requirements: Iterable[Requirement], position: int) -> None:
    """Add a rule's requirements to their columns; of two in one column either one will do."""
    for requirement in requirements:
        column = entries.setdefault((requirement.path, requirement.relation), [])
        column.append((position, requirement.operand))


def _first_rare(requirements: Requirements, common: set[_Key]) -> tuple[Requirement, ...]:
    for requirement in requirements.all:
        if (requirement.path, requirement.relation) not in common:
            return (requirement,)
    return ()


def _paths_in_steps(
    entries: Mapping[_Key, list[tuple[int, Any]]], rules: int
) -> Steps[list[PathIndex]]:
    columns: dict[Path, list[Column]] = {}
    for (path, relation), found in entries.items():
        column = yield from column_in_steps(relation, found, rules)
        columns.setdefault(path, []).append(column)
    return [PathIndex(path, found) for path, found in columns.items()]


def _by_first_key(paths: Iterable[PathIndex]) -> Mapping[str, tuple[PathIndex, ...]]:
    """Return the paths by every top-level key under which their value may lie."""
    found: dict[str, tuple[PathIndex, ...]] = {}
    for index in paths:
        base = index.path.base
        for key in {base[0], ".".join(base)}:
            found[key] = (*found.get(key, ()), index)
    return found


def _values_of(path: Path) -> Lookup:
    """Return a function that gives the value, or for a quantified path the list of values."""
    base = compile_base(path)
    if path.quantifier is None:
        return base
    find = element_finder(path)

    def elements(facts: Facts) -> list[Any]:
        found = base(facts)
        return found if found.__class__ is list else []

    def find_all(facts: Facts) -> Any:
        found = elements(facts)
        if len(found) > INDEXED_ELEMENTS_MAX:
            return _UNSPEAKABLE
        facts.work.spend(len(found))
        return [find(element) for element in found]

    if path.quantifier == "$count":
        return lambda facts: len(elements(facts))
    return find_all


def _positions(bitmap: int) -> Sequence[int]:
    """Return the bits that are set, ascending; to look for one after the other takes twice as long.

    Between them lie runs of zeros, so that the last run's length is the first position.
    """
    runs = bin(bitmap).split("1")
    runs.reverse()
    del runs[-1]  # `0b`
    return [*map(add, accumulate(map(len, runs)), count())]
