"""One column of the rule index: for a value, the bitmap of the rules whose requirement it fulfils.

Memory is bounded by the requirements: a bitmap is kept only for values that many rules name, and
for a fixed number of blocks of bounds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from operator import itemgetter, or_
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias, cast

from tagstitch.core.limits import INDEXED_ELEMENTS_MAX
from tagstitch.core.requirements import Relation
from tagstitch.core.steps import Steps, sorted_in_steps
from tagstitch.core.values import is_numeric_text

_DENSE_SHARE: Final = 128
"""A value that at least 1/128 of the rules name is kept as a bitmap, others as positions: so a
rule costs at most 16 bytes for each value that it names."""

_BLOCKS: Final = 256
"""Bitmaps of a column of bounds. A look-up takes whole blocks, and the rest of one by position."""

_ENTRIES_PER_STEP: Final = 100
_POSITIONS_PER_STEP: Final = 2_000

_UPPER: Final = ("below", "at_most")
"""The relations for which a bound must not be too small; for others it must not be too great."""

_Passing: TypeAlias = "int | array[int]"
"""All rules that pass as a bitmap; or, of those that require the value, the `~position` of a single
one, or the positions."""


class Seen(NamedTuple):
    """What a path found, as columns look it up."""

    keys: tuple[Any, ...]
    low: float | None
    """The least of the numbers there, None when there is none."""
    high: float
    is_present: bool
    is_exact: bool
    """Whether a look-up finds neither too few nor too many."""


def see(value: Any, *, gives_many: bool) -> Seen | None:
    """Return what columns look up, or None for a value that says nothing to them.

    `gives_many` says that the value is a list of what the path found in each element.
    """
    kind = value.__class__
    if kind is str:
        if not is_numeric_text(value):
            return Seen((value,), None, 0.0, is_present=True, is_exact=True)
        number = float(value)  # comparing it with a number is to be counted
        return Seen((value,), number, number, is_present=True, is_exact=False)
    if kind is int or kind is float:
        if value != value:  # noqa: PLR0124 - a stored NaN, which has no place among the bounds
            return None
        return Seen((value,), value, value, is_present=True, is_exact=True)
    if kind is bool:
        return Seen(((value,),), None, 0.0, is_present=True, is_exact=True)
    return _see_many(value, gives_many=gives_many) if kind is list else None


def _see_many(values: list[Any], *, gives_many: bool) -> Seen | None:
    """Look at every element; the elements of a plain list are no numbers to compare."""
    if len(values) > INDEXED_ELEMENTS_MAX:
        return None
    keys: dict[Any, None] = {}
    numbers: list[float] = []
    is_exact = gives_many  # how an operator compares a whole list is its own affair
    for value in values:
        kind = value.__class__
        if kind is str and not is_numeric_text(value):  # as `see` does, for most elements
            keys[value] = None
        elif kind is list and gives_many:
            inner = _see_many(value, gives_many=False)
            if inner is None:
                return None
            keys.update(dict.fromkeys(inner.keys))
            is_exact = False
        elif kind in (str, int, float, bool):
            seen = see(value, gives_many=False)
            if seen is None:
                return None
            keys[seen.keys[0]] = None
            is_exact = is_exact and seen.is_exact
            if seen.low is not None:
                numbers.append(seen.low)
        elif kind is not dict and kind is not list and value is not None:
            return None
    low, high = (min(numbers), max(numbers)) if numbers and gives_many else (None, 0.0)
    is_present = not gives_many or any(value is not None for value in values)
    return Seen(tuple(keys), low, high, is_present, is_exact)


def key_of(operand: Any) -> Any:
    """Return the operand as a key for which 5 is 5.0 and True is not 1."""
    return (operand,) if operand.__class__ is bool else operand


class Column(ABC):
    """All requirements of one relation for one path.

    What "passes" is every rule that requires nothing here, or whose requirement is fulfilled.
    """

    __slots__ = ("_size", "others", "rules")

    has_bounds: ClassVar[bool] = False
    """Whether it compares numbers, and texts that stand for one."""

    def __init__(self, rules: int, size: int) -> None:
        self._size = size
        """Of the bitmaps: how many rules there are."""
        self.rules = rules
        """The rules that require something here."""
        self.others = ((1 << size) - 1) ^ rules
        """The rules that do not."""

    @property
    def pass_text(self) -> Callable[[str, int], int] | None:
        """A function that returns the rules that pass for a text, or None.

        Its second argument is what it returns at the least: `others`, or 0 where these are added
        later (they may be in the result all the same).
        """
        return None

    @abstractmethod
    def pass_scalar(self, value: str | float) -> int:
        """Return the rules that pass for a number, or for a text that stands for none."""

    @abstractmethod
    def pass_seen(self, seen: Seen) -> int:
        """Return the rules that pass, and perhaps others unless exact."""


class _KeyedColumn(Column):
    __slots__ = ("_by_key",)

    def __init__(self, rules: int, by_key: Mapping[Any, _Passing], size: int) -> None:
        super().__init__(rules, size)
        self._by_key = by_key


class _EqualColumn(_KeyedColumn):
    """The rules that require a value, or one of several."""

    __slots__ = ()

    @property
    def pass_text(self) -> Callable[[str, int], int] | None:
        """The look-up itself, where every value is kept as a bitmap."""
        found = self._by_key.values()
        is_plain = all(isinstance(passing, int) and passing >= 0 for passing in found)
        return cast(Mapping[Any, int], self._by_key).get if is_plain else None

    def pass_scalar(self, value: str | float) -> int:
        """Return the rules that pass for a number, or for a text that stands for none."""
        passing = self._by_key.get(value)
        if passing is None:
            return self.others
        if passing.__class__ is int and passing >= 0:
            return passing
        return self.others | _bitmap(passing, self._size)

    def pass_seen(self, seen: Seen) -> int:
        """Return the rules that pass, and perhaps others unless exact."""
        found = self.others
        for key in seen.keys:
            passing = self._by_key.get(key)
            if passing is not None:
                found |= _bitmap(passing, self._size)
        return found


class _PrefixColumn(_KeyedColumn):
    __slots__ = ("_lengths",)

    def __init__(self, rules: int, by_key: Mapping[Any, _Passing], size: int) -> None:
        super().__init__(rules, by_key, size)
        self._lengths = tuple(sorted({len(key) for key in by_key}))

    @property
    def pass_text(self) -> Callable[[str, int], int] | None:
        return self._pass_text

    def pass_scalar(self, value: str | float) -> int:
        return self._pass_text(value, self.others) if isinstance(value, str) else self.others

    def pass_seen(self, seen: Seen) -> int:
        found = self.others
        for key in seen.keys:
            if key.__class__ is str:
                found |= self._pass_text(key, found)
        return found

    def _pass_text(self, text: str, found: int) -> int:
        by_key = self._by_key
        for length in self._lengths:
            passing = by_key.get(text[:length])
            if passing is not None:
                found |= _bitmap(passing, self._size)
        return found


class _PresentColumn(Column):
    __slots__ = ()

    def pass_scalar(self, _: str | float) -> int:
        return self.others | self.rules

    def pass_seen(self, seen: Seen) -> int:
        return self.others | self.rules if seen.is_present else self.others


class _Bounds(NamedTuple):
    """The bounds that rules set, ascending."""

    values: Sequence[float]
    order: array[int]
    """Of each its rule."""
    per_block: int
    masks: Sequence[int]
    """The rules of all blocks before each, or of it and all behind it where a value must stay
    below."""


class _BoundColumn(Column):
    __slots__ = ("_bounds", "_find_end", "_is_upper", "_masks", "_order", "_per_block")

    has_bounds = True

    def __init__(self, rules: int, relation: Relation, bounds: _Bounds, size: int) -> None:
        super().__init__(rules, size)
        self._bounds = bounds.values
        self._order = bounds.order
        self._per_block = bounds.per_block
        self._masks = bounds.masks
        self._is_upper = relation in _UPPER
        self._find_end = bisect_right if relation in ("below", "at_least") else bisect_left

    def pass_scalar(self, value: str | float) -> int:
        if isinstance(value, str):
            return self.others
        # Of the rules whose bound it keeps, whole blocks and the rest of one.
        per_block = self._per_block
        end = self._find_end(self._bounds, value)
        if self._is_upper:
            block = -(-end // per_block)
            rest = self._order[end : block * per_block]
        else:
            block = end // per_block
            rest = self._order[block * per_block : end]
        found = self.others | self._masks[block]
        return found | bitmap_of(rest, self._size) if rest else found

    def pass_seen(self, seen: Seen) -> int:
        if seen.low is None:
            return self.others
        return self.pass_scalar(seen.low if self._is_upper else seen.high)


def column_in_steps(
    relation: Relation, entries: Sequence[tuple[int, Any]], size: int
) -> Steps[Column]:
    """Return the column of (position, operand) of every rule; pauses between pieces of work."""
    rules = yield from bitmap_in_steps([position for position, _ in entries], size)
    if relation == "present":
        return _PresentColumn(rules, size)
    if relation in ("equal", "prefix"):
        others = ((1 << size) - 1) ^ rules
        by_key = yield from _by_key_in_steps(entries, others, size)
        kind = _EqualColumn if relation == "equal" else _PrefixColumn
        return kind(rules, by_key, size)
    bounds = yield from _bounds_in_steps(relation, entries, size)
    return _BoundColumn(rules, relation, bounds, size)


def _by_key_in_steps(
    entries: Sequence[tuple[int, Any]], others: int, size: int
) -> Steps[dict[Any, _Passing]]:
    found: dict[Any, list[int]] = {}
    for count, (position, operands) in enumerate(entries):
        for operand in operands:
            found.setdefault(key_of(operand), []).append(position)
        if count % _ENTRIES_PER_STEP == 0:
            yield
    by_key: dict[Any, _Passing] = {}
    for count, (key, positions) in enumerate(found.items()):
        if len(positions) * _DENSE_SHARE >= size:
            by_key[key] = others | (yield from bitmap_in_steps(positions, size))
        else:
            by_key[key] = ~positions[0] if len(positions) == 1 else array("i", positions)
        if count % _ENTRIES_PER_STEP == 0:
            yield
    return by_key


def _bounds_in_steps(
    relation: Relation, entries: Sequence[tuple[int, float]], size: int
) -> Steps[_Bounds]:
    ordered = yield from sorted_in_steps(entries, itemgetter(1))
    per_block = -(-len(ordered) // _BLOCKS)
    order = array("i", [position for position, _ in ordered])
    blocks = []
    for start in range(0, len(order), per_block):
        blocks.append(bitmap_of(order[start : start + per_block], size))
        yield
    masks = [0, *accumulate(blocks, or_)]
    if relation in _UPPER:
        masks = [*reversed([0, *accumulate(reversed(blocks), or_)])]
    return _Bounds([bound for _, bound in ordered], order, per_block, masks)


def _bitmap(passing: _Passing, size: int) -> int:
    if isinstance(passing, int):
        return passing if passing >= 0 else 1 << ~passing
    return bitmap_of(passing, size)


def bitmap_in_steps(positions: Sequence[int], size: int) -> Steps[int]:
    """Return the same as `bitmap_of`."""
    bitmap = 0
    for start in range(0, len(positions), _POSITIONS_PER_STEP):
        bitmap |= bitmap_of(positions[start : start + _POSITIONS_PER_STEP], size)
        yield
    return bitmap


def bitmap_of(positions: Iterable[int], size: int) -> int:
    """Return the integer with these bits set, all of them below `size`."""
    content = bytearray(size // 8 + 1)
    for position in positions:
        content[position >> 3] |= 1 << (position & 7)
    return int.from_bytes(content, "little")
