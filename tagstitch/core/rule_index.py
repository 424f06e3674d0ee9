"""A bitmap index over the rules of one event name.

Each rule has a bit. For the value at a path the index knows which rules' requirements it fulfils;
what is left after all paths is a superset of the rules that hold, and the rules' own conditions
decide. Bitmaps are Python's integers: an AND over 10,000 rules costs 0.1 microseconds, so every
requirement can take part and none has to be chosen.

Nothing here is stricter than the language: a value of an unexpected type narrows nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, Final

from tagstitch.core.index_column import Column, Seen, bitmap_of, see
from tagstitch.core.limits import INDEXED_ELEMENTS_MAX
from tagstitch.core.paths import Facts, Lookup, Path, compile_base, element_finder
from tagstitch.core.requirements import Relation, Requirement, Requirements

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

    __slots__ = ("_common", "_everything", "_rare", "_unlisted")

    def __init__(
        self, rules: int, common: Sequence[PathIndex], rare: Sequence[PathIndex], listed: int
    ) -> None:
        self._everything = (1 << rules) - 1
        self._common = tuple(common)
        """Every one narrows."""
        self._rare = _by_first_key(rare)
        """Top-level key -> paths that may begin there; one fulfilled requirement is enough."""
        self._unlisted = self._everything ^ listed
        """The rules that have nothing in `_rare`."""

    def candidates(self, facts: Facts, *, has_profile: bool = True) -> list[int]:
        """Return the positions, ascending, of all rules that hold and perhaps of others.

        `has_profile` False says that it could not be loaded: what it would say is open. Raises
        WorkExceeded.
        """
        left = self._everything
        for path in self._common:
            left = path.narrow(left, facts, has_profile=has_profile)
            if not left:
                return []
        if self._rare and has_profile:
            left &= self._unlisted | self._with_rare(facts)
        return _positions(left)

    def _with_rare(self, facts: Facts) -> int:
        found = 0
        for container in (facts.event, facts.profile):
            for key in self._rare.keys() & container.keys():
                facts.work.spend(len(self._rare[key]))
                for path in self._rare[key]:
                    found |= path.fulfilled(facts)
        return found


class PathIndex:
    """All that rules require of one path."""

    __slots__ = (
        "_base",
        "_columns",
        "_gives_many",
        "_look_up",
        "_wants_profile",
        "_without",
        "path",
    )

    def __init__(self, path: Path, columns: Iterable[Column]) -> None:
        self.path = path
        self._base = compile_base(path)
        self._look_up = _values_of(path)
        self._gives_many = path.quantifier not in (None, "$count")
        self._wants_profile = path.root != "event"
        self._columns = tuple(columns)
        self._without = -1
        for column in self._columns:
            self._without &= column.others

    def narrow(self, left: int, facts: Facts, *, has_profile: bool) -> int:
        """Return those of the rules left that may hold for the value here."""
        if not has_profile and self._wants_profile and self._base(facts) is None:
            return left
        value = self._look_up(facts)
        if value is None:
            return left & self._without
        seen = see(value, gives_many=self._gives_many)
        if seen is None:
            return left
        for column in self._columns:
            left &= column.others | column.fulfilled(seen)
        return left

    def fulfilled(self, facts: Facts) -> int:
        """Return the rules that have some requirement here which the value fulfils."""
        value = self._look_up(facts)
        seen: Seen | None = None if value is None else see(value, gives_many=self._gives_many)
        found = 0
        for column in self._columns:
            if seen is not None:
                found |= column.fulfilled(seen)
            elif value is not None:
                found |= column.rules
        return found


def index_in_steps(rules: Sequence[Requirements]) -> Generator[None, None, RuleIndex]:
    """Build the index of these rules, in this order; pauses between small pieces of work."""
    entries: _Entries = {}
    for position, requirements in enumerate(rules):
        _note(entries, requirements.all, position)
        if position % _RULES_PER_STEP == 0:
            yield
    few = len(rules) / _COMMON_SHARE
    common = {key for key, found in entries.items() if len(found) >= few}
    rare: _Entries = {}
    listed = []
    for position, requirements in enumerate(rules):
        one_of = _first_rare(requirements, common) or requirements.any
        _note(rare, one_of, position)
        if one_of:
            listed.append(position)
        if position % _RULES_PER_STEP == 0:
            yield
    common_paths = yield from _paths_in_steps({key: entries[key] for key in common}, len(rules))
    rare_paths = yield from _paths_in_steps(rare, len(rules))
    return RuleIndex(len(rules), common_paths, rare_paths, bitmap_of(listed, len(rules)))


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
) -> Generator[None, None, list[PathIndex]]:
    columns: dict[Path, list[Column]] = {}
    for (path, relation), found in entries.items():
        column = Column(relation, rules)
        yield from column.fill_in_steps(found)
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


def _positions(bitmap: int) -> list[int]:
    """Return the positions of the bits that are set: one search per bit in the written number."""
    bits = bin(bitmap)[:1:-1]
    found = []
    at = bits.find("1")
    while at >= 0:
        found.append(at)
        at = bits.find("1", at + 1)
    return found
