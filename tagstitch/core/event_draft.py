"""The copy of an event that actions change; the event itself stays as it arrived."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tagstitch.core.arithmetic import ResultOutOfRange
from tagstitch.core.event import Event
from tagstitch.core.limits import EVENT_WRITES_BYTES_MAX, JSON_DEPTH_MAX
from tagstitch.core.paths import Path, finder
from tagstitch.core.values import is_deeper, json_bytes, same
from tagstitch.core.work import BYTES_PER_STEP, Work

ORIGINAL_NAME: Final = "_original_event_name"
"""Where a renamed event keeps the name with which it arrived."""

ITEMS: Final = Path("items", "event", ("items",))

NUMBER_BYTES_MAX: Final = 24
"""Of any number; to count its digits would take longer than to add it."""

_COPIED_PER_STEP: Final = 24
"""Entries of a list or an object: a copy takes some 10 nanoseconds for each."""

IMPOSSIBLE: Final = object()
"""What `edited` returns when the value is not there, or something else is in the way."""

REMOVED: Final = object()
"""Stands for the value of what is to be removed."""


class EventDraft(msgspec.Struct, gc=False):
    """An event while actions apply; containers are copied only where something changes."""

    event: Event
    _work: Work
    name: str
    parameters: Mapping[str, Any]
    is_dropped: bool = False
    _owned: dict[str, Any] | None = None
    """The parameters once they are a copy of our own."""
    _touched: dict[str, None] = {}
    _written_bytes: int = 0

    @property
    def current(self) -> Mapping[str, Any]:
        """The event as changed so far, under its present name; later changes stay out of it."""
        if self.name == self.event.name:
            return self.parameters if self._owned is None else dict(self._owned)
        return {**self.parameters, "event_name": self.name, ORIGINAL_NAME: self.event.name}

    def copy(self) -> EventDraft:
        """Return a draft that changes without changing this one."""
        return EventDraft(
            self.event,
            self._work,
            self.name,
            self.parameters if self._owned is None else dict(self._owned),
            self.is_dropped,
            _touched=dict(self._touched),
            _written_bytes=self._written_bytes,
        )

    def find(self, path: Path) -> Any:
        """Return the value, or None when it is absent."""
        base = path.base
        if len(base) == 1:
            return self.parameters.get(base[0])
        return finder(base, literal=path.literal)(self.parameters)

    def write(self, path: Path, value: Any) -> bool:
        """Set a value, making objects on the way; False when something else is in the way.

        Raises ResultOutOfRange like `charge`.
        """
        self.charge(value, path)
        if len(path.base) > 1:
            return self._edit(keys_of(self.parameters, path), value)
        self._put(path.base[0], value)
        return True

    def put(self, key: str, value: Any, size: int) -> None:
        """Set a top-level parameter to a plain value that takes so many bytes.

        Raises ResultOutOfRange like `charge`. As `_count` and `_put`, without the calls.
        """
        if size >= BYTES_PER_STEP:
            self._work.spend_bytes(size)
        self._written_bytes += size
        if self._written_bytes > EVENT_WRITES_BYTES_MAX:
            self._written_bytes -= size
            raise ResultOutOfRange
        owned = self._owned
        if owned is None:
            self.parameters = self._owned = owned = dict(self.parameters)
        owned[key] = value
        self._touched[key] = None

    def remove(self, path: Path) -> bool:
        """Remove a value; False when it is not there."""
        return self._edit(keys_of(self.parameters, path), REMOVED)

    def remove_every_form(self, path: Path) -> bool:
        """Remove the whole key and the dotted path: both may hold the same value."""
        removed = not path.literal and self._edit((".".join(path.base),), REMOVED)
        is_one_key = len(path.base) == 1 and removed
        return is_one_key or self._edit(path.base, REMOVED) or removed

    def put_items(self, items: list[Any]) -> None:
        """Replace the items by some of them, or by copies whose new values were charged."""
        self._edit(ITEMS.base, items)

    def charge(self, value: Any, path: Path, *, levels: int = 0) -> None:
        """Count a value that is written below so many containers and the path.

        Raises ResultOutOfRange when it is nested too deeply, or when all that was written becomes
        too much: an event could double by each copy of itself into itself.
        """
        kind = value.__class__
        if kind is str and value.isascii():  # the short ways for most values
            size = len(value) + 2
        elif kind is int:
            size = NUMBER_BYTES_MAX
        elif is_deeper(value, JSON_DEPTH_MAX - levels - len(path.base)):
            raise ResultOutOfRange
        else:
            size = json_bytes(value)
        self._count(size + len(path.text))

    def _count(self, size: int) -> None:
        if size >= BYTES_PER_STEP:
            self._work.spend_bytes(size)
        self._written_bytes += size
        if self._written_bytes > EVENT_WRITES_BYTES_MAX:
            self._written_bytes -= size
            raise ResultOutOfRange

    def _edit(self, keys: tuple[str, ...], value: Any) -> bool:
        top = keys[0]
        if len(keys) > 1:
            self._work.spend(_copied(self.parameters.get(top), keys[1:]))
            value = edited(self.parameters.get(top), keys[1:], value)
            if value is IMPOSSIBLE:
                return False
        elif value is REMOVED and top not in self.parameters:
            return False
        self._put(top, value)
        return True

    def _put(self, key: str, value: Any) -> None:
        """Replace a top-level parameter, or remove it."""
        owned = self._owned
        if owned is None:
            self.parameters = self._owned = owned = dict(self.parameters)
        if value is REMOVED:
            del owned[key]
        else:
            owned[key] = value
        self._touched[key] = None

    def changed_parameters(self) -> dict[str, Any]:
        """Return the top-level parameters whose value is new."""
        original, parameters = self.event.parameters, self.parameters
        changed: dict[str, Any] = {}
        for key in self._touched:
            if key in parameters:
                value = parameters[key]
                if key not in original or not same(value, original[key]):
                    changed[key] = value
        if self.name != self.event.name:
            changed[ORIGINAL_NAME] = self.event.name
        return changed

    def removed_parameters(self) -> list[str]:
        """Return the top-level parameters that are gone."""
        return [
            key
            for key in self._touched
            if key in self.event.parameters and key not in self.parameters
        ]


def open_draft(event: Event, work: Work) -> EventDraft:
    """Return the draft of an event, with nothing changed yet."""
    return EventDraft(event, work, event.name, event.parameters)


def _copied(container: Any, keys: tuple[str, ...]) -> int:
    """Return how much is copied to change one value: the size of every container on the way."""
    copied = 0
    for key in keys:
        if isinstance(container, Mapping):
            copied, container = copied + len(container), container.get(key)
        elif isinstance(container, list):
            copied += len(container)
            is_there = key.isdecimal() and int(key) < len(container)
            container = container[int(key)] if is_there else None
    return copied // _COPIED_PER_STEP


def keys_of(container: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Return the keys that lead to a value: the whole key, if it is there, before the dotted."""
    if path.literal or len(path.base) == 1:
        return path.base
    whole = ".".join(path.base)
    return path.base if container.get(whole) is None else (whole,)


def edited(container: Any, keys: tuple[str, ...], value: Any) -> Any:
    """Return a copy of the container with the value set, or REMOVED; or IMPOSSIBLE."""
    key, rest = keys[0], keys[1:]
    if isinstance(container, list):
        return _edited_list(container, keys, value)
    is_object = isinstance(container, Mapping) or (container is None and value is not REMOVED)
    if not is_object or (value is REMOVED and key not in container):
        return IMPOSSIBLE
    copy = dict(container or {})
    inner = edited(copy.get(key), rest, value) if rest else value
    if inner is IMPOSSIBLE:
        return IMPOSSIBLE
    if inner is REMOVED:
        del copy[key]
    else:
        copy[key] = inner
    return copy


def _edited_list(container: list[Any], keys: tuple[str, ...], value: Any) -> Any:
    key, rest = keys[0], keys[1:]
    if not key.isdecimal() or int(key) >= len(container):
        return IMPOSSIBLE
    index = int(key)
    inner = edited(container[index], rest, value) if rest else value
    if inner is IMPOSSIBLE:
        return IMPOSSIBLE
    new = [] if inner is REMOVED else [inner]
    return [*container[:index], *new, *container[index + 1 :]]
