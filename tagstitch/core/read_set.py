"""Read sets: the part of an event and a profile that rules look at, and nothing else.

A receipt holds no more of a visitor than a decision needed. For rules, what is left out of a
projection and what is absent are the same: every look-up gives the same value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tagstitch.core.paths import Path

_WHOLE: Final = None
"""Stands in a tree for "everything below"."""

_EACH: Final = object()
"""Stands in a tree for every element of a list."""

_PRESENT: Final = ""
"""Stands for a value of which rules can only tell that it is there and is no list."""

_Tree = dict[Any, Any]
"""Key -> the tree below it, or _WHOLE."""


class Projection:
    """Keeps what some paths look at in one mapping."""

    __slots__ = ("_tree",)

    def __init__(self, paths: Iterable[Path]) -> None:
        self._tree: _Tree = {}
        for path in paths:
            _add(self._tree, path)

    def of(self, mapping: Mapping[str, Any]) -> dict[str, Any]:
        """Return the part of the mapping that the paths look at."""
        kept = _project(mapping, self._tree)
        return kept if isinstance(kept, dict) else {}


@dataclass(frozen=True, slots=True)
class ReadSet:
    """What the rules of one event look at to tell whether they apply."""

    event: Projection
    attributes: Projection
    """Of the profile."""
    state: Projection


def read_set_of(paths: Iterable[Path]) -> ReadSet:
    """Return the read set of these paths; a bare name may lead to both places."""
    distinct = set(paths)
    return ReadSet(
        Projection(path for path in distinct if path.root in ("event", "bare")),
        Projection(path for path in distinct if path.root in ("profile", "bare")),
        Projection(path for path in distinct if path.root == "user_state"),
    )


def _add(tree: _Tree, path: Path) -> None:
    if path.quantifier == "$count":  # how many elements there are, and nothing of them
        for base in _spellings(path.base, literal=path.literal):
            _grow(tree, _until_index((*base, _EACH)), {})
        return
    elements = () if path.quantifier is None else (_EACH,)
    for base in _spellings(path.base, literal=path.literal):
        for rest in _spellings(path.rest, literal=path.literal):
            _grow(tree, _until_index((*base, *elements, *rest)), _WHOLE)


def _spellings(segments: tuple[str, ...], *, literal: bool) -> list[tuple[str, ...]]:
    """Return the ways to go: a whole key with dots in it is looked up besides the dotted path."""
    if literal or len(segments) < 2:
        return [segments]
    return [segments, (".".join(segments),)]


def _until_index(steps: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the steps up to a list's index: leaving elements out would move the others."""
    for position, step in enumerate(steps):
        if position and step is not _EACH and step.isdecimal():
            return steps[:position]
    return steps


def _grow(tree: _Tree, steps: tuple[Any, ...], end: _Tree | None) -> None:
    for step in steps[:-1]:
        below = tree.setdefault(step, {})
        if below is _WHOLE:
            return
        tree = below
    if end is _WHOLE:
        tree[steps[-1]] = _WHOLE
    else:
        tree.setdefault(steps[-1], end)


def _project(value: Any, tree: _Tree) -> Any:
    if value.__class__ is dict or isinstance(value, Mapping):  # the first is ten times as fast
        kept = {}
        for key in tree if len(tree) < len(value) else value:
            if key in value and key in tree:
                below = tree[key]
                kept[key] = value[key] if below is _WHOLE else _project(value[key], below)
        return kept
    if _EACH not in tree or value is None:
        return None  # the paths go deeper than the value: they find nothing there
    if isinstance(value, list):
        each = tree[_EACH]
        return value if each is _WHOLE else [_project(element, each) for element in value]
    return _PRESENT  # a bare name leads to the profile only where the event has nothing
