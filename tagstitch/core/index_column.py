"""One column of the rule index: for a value, the bitmap of the rules whose requirement it fulfils.

Memory is bounded by the requirements: a bitmap is kept only for values that many rules name, and
for a fixed number of blocks of bounds.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import itemgetter, or_
from typing import Any, Final, NamedTuple, TypeAlias

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

_Rules: TypeAlias = "int | array[int]"
"""A bitmap, or `~position` of a single rule, or positions."""


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
        number = float(value) if is_numeric_text(value) else None
        is_exact = number is None  # else comparing it with a number is to be counted
        return Seen((value,), number, number or 0.0, is_present=True, is_exact=is_exact)
    if kind is int or kind is float:
        if math.isnan(value):  # a stored one, which has no place among the bounds
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
        if kind is list and gives_many:
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


class Column:
    """All requirements of one relation for one path."""

    __slots__ = ("_bounds", "_by_key", "_lengths", "_masks", "_order", "_per_block", "_relation", "_size", "others",
                 "rules")  # fmt: skip

    def __init__(self, relation: Relation, size: int) -> None:
        self._relation = relation
        self._size = size
        self._by_key: dict[Any, _Rules] = {}
        self._lengths: tuple[int, ...] = ()
        """Of the prefixes."""
        self._bounds: list[float] = []
        self._masks: list[int] = []
        self._order = array("i")
        """The rules by their bounds."""
        self._per_block = 1
        self.rules = 0
        """The rules that require something here."""
        self.others = 0
        """The rules that do not."""

    def fill_in_steps(self, entries: Sequence[tuple[int, Any]]) -> Steps[None]:
        """Take in (position, operand) of every rule; pauses between small pieces of work."""
        self.rules = yield from bitmap_in_steps([position for position, _ in entries], self._size)
        self.others = ((1 << self._size) - 1) ^ self.rules
        if self._relation in ("equal", "prefix"):
            yield from self._fill_keys(entries)
        elif self._relation != "present":
            yield from self._fill_bounds((yield from sorted_in_steps(entries, itemgetter(1))))

    def _fill_keys(self, entries: Sequence[tuple[int, Any]]) -> Steps[None]:
        found: dict[Any, list[int]] = {}
        for count, (position, operands) in enumerate(entries):
            for operand in operands:
                found.setdefault(key_of(operand), []).append(position)
            if count % _ENTRIES_PER_STEP == 0:
                yield
        if self._relation == "prefix":
            self._lengths = tuple(sorted({len(key) for key in found}))
        for count, (key, positions) in enumerate(found.items()):
            if len(positions) * _DENSE_SHARE >= self._size:
                self._by_key[key] = yield from bitmap_in_steps(positions, self._size)
            else:
                self._by_key[key] = ~positions[0] if len(positions) == 1 else array("i", positions)
            if count % _ENTRIES_PER_STEP == 0:
                yield

    def _fill_bounds(self, entries: Sequence[tuple[int, Any]]) -> Steps[None]:
        self._bounds = [bound for _, bound in entries]
        self._order = array("i", [position for position, _ in entries])
        self._per_block = -(-len(entries) // _BLOCKS)
        blocks = []
        for start in range(0, len(entries), self._per_block):
            block = entries[start : start + self._per_block]
            blocks.append(bitmap_of((position for position, _ in block), self._size))
            yield
        if self._relation in ("below", "at_most"):  # _masks[i]: block i and all behind it
            self._masks = [*reversed([0, *accumulate(reversed(blocks), or_)])]
        else:  # _masks[i]: all blocks before i
            self._masks = [0, *accumulate(blocks, or_)]

    def fulfilled(self, seen: Seen) -> int:
        """Return the rules whose requirement is fulfilled, and perhaps others unless exact."""
        if self._relation == "equal":
            return self._with_keys(seen.keys)
        if self._relation == "prefix":
            texts = [key for key in seen.keys if key.__class__ is str]
            return self._with_keys([text[:length] for text in texts for length in self._lengths])
        if self._relation == "present":
            return self.rules if seen.is_present else 0
        if seen.low is None:
            return 0
        return self._bounded(seen.low, seen.high)

    def _bounded(self, low: float, high: float) -> int:
        """Return the rules whose bound is kept by the least or by the greatest number."""
        bounds, per_block = self._bounds, self._per_block
        if self._relation in ("below", "at_most"):
            is_strict = self._relation == "below"
            first = bisect_right(bounds, low) if is_strict else bisect_left(bounds, low)
            block = -(-first // per_block)
            return self._masks[block] | self._bitmap(self._order[first : block * per_block])
        is_strict = self._relation == "above"
        end = bisect_left(bounds, high) if is_strict else bisect_right(bounds, high)
        block = end // per_block
        return self._masks[block] | self._bitmap(self._order[block * per_block : end])

    def _with_keys(self, keys: Iterable[Any]) -> int:
        found = 0
        for key in keys:
            rules = self._by_key.get(key)
            if rules is not None:
                found |= self._bitmap(rules)
        return found

    def _bitmap(self, rules: _Rules) -> int:
        if isinstance(rules, int):
            return rules if rules >= 0 else 1 << ~rules
        return bitmap_of(rules, self._size)


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
