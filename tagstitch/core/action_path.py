"""Where actions take values from, and which parameters they may change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, get_args

from tagstitch.core.declarations import Declarations
from tagstitch.core.event_draft import ORIGINAL_NAME
from tagstitch.core.paths import Facts, Path, Source, compile_base, finder, parse_path
from tagstitch.core.problems import Problems
from tagstitch.core.values import to_json_value

Item = Mapping[str, Any]

NO_ITEM: Final[Item] = MappingProxyType({})
"""For actions that are not about one item."""

Look = Callable[[Facts, Item], Any]
"""Returns a JSON value, or None when it is absent."""

_ORIGINS_SHARED_MAX: Final = 1_024
"""Paths whose look-up is shared, below 1 MB."""

_INTERNAL_PREFIXES: Final = ("x-ga-", "x-sst-")
_ROOTS: Final = tuple(root + mark for root in get_args(Source) for mark in (".", "["))


@dataclass(frozen=True, slots=True)
class PathScope:
    """What the paths of one action may mean."""

    declared: Declarations
    in_item: bool = False
    """A path starts at the item, unless it says event., profile., user_state. or experiment."""


@dataclass(frozen=True, slots=True)
class Origin:
    """One value that an action looks at."""

    path: Path
    look: Look

    @property
    def reads(self) -> tuple[Path, ...]:
        """The path, unless it is a part of the item that changes."""
        return () if self.path.root == "item" else (self.path,)


def parse_origin(text: object, where: str, problems: Problems, scope: PathScope) -> Origin | None:
    """Return where to look, or None after noting what is wrong with the path."""
    in_item = scope.in_item and not (isinstance(text, str) and text.startswith(_ROOTS))
    path = parse_path(text, where, problems, in_item=in_item, declared=scope.declared)
    if path is None:
        return None
    if path.quantifier is not None:
        problems.add(where, "one value, not every element of a list", "items[0].x is one value")
        return None
    return _origin(path)


@lru_cache(maxsize=_ORIGINS_SHARED_MAX)
def _origin(path: Path) -> Origin:
    """Return the same object for the same path: 100,000 rules look at few different places."""
    if path.root == "item":
        find_in_item = finder(path.base, literal=path.literal)
        return Origin(path, lambda _, item: find_in_item(item))
    find = compile_base(path)

    def look(facts: Facts, _: Item) -> Any:
        value = find(facts)
        if isinstance(value, list | dict):
            facts.work.spend_nodes(value)
        return to_json_value(value)

    return Origin(path, look)


def parse_target(text: object, where: str, problems: Problems) -> Path | None:
    """Return the path of a parameter that actions may change."""
    path = _changeable(parse_path(text, where, problems), where, problems)
    if path is None:
        return None
    if path.root not in ("bare", "event"):
        problems.add(where, "an event rule changes parameters of the event only")
    elif path.base[0] in ("event_name", ORIGINAL_NAME):
        problems.add(where, "the name changes by rename_event only")
    else:
        return path
    return None


def parse_item_target(text: object, where: str, problems: Problems) -> Path | None:
    """Return the path, inside an item, of a property that actions may change."""
    return _changeable(parse_path(text, where, problems, in_item=True), where, problems)


def _changeable(path: Path | None, where: str, problems: Problems) -> Path | None:
    if path is None:
        return None
    if path.quantifier is not None:
        hint = "map_items changes every item"
        problems.add(where, "one parameter, not every element of a list", hint)
    elif any(segment.lower().startswith(_INTERNAL_PREFIXES) for segment in path.base):
        problems.add(where, "x-ga-* and x-sst-* belong to Google's tags: no action may touch them")
    else:
        return path
    return None
