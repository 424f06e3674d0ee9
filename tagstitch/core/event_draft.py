"""The copy of an event that actions change; the event itself stays as it arrived."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tagstitch.core.event import Event
from tagstitch.core.paths import Path, finder
from tagstitch.core.values import same

ORIGINAL_NAME: Final = "_original_event_name"
"""Where a renamed event keeps the name with which it arrived."""

_IMPOSSIBLE: Final = object()
_REMOVED: Final = object()


class EventDraft:
    """An event while actions apply; containers are copied only where something changes."""

    __slots__ = ("_touched", "event", "is_dropped", "name", "parameters")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.name = event.name
        self.is_dropped = False
        self.parameters: Mapping[str, Any] = event.parameters
        self._touched: dict[str, None] = {}

    def copy(self) -> EventDraft:
        """Return a draft that changes without changing this one."""
        twin = EventDraft(self.event)
        twin.name, twin.is_dropped, twin.parameters = self.name, self.is_dropped, self.parameters
        twin._touched = dict(self._touched)  # noqa: SLF001 - a draft of the same class
        return twin

    def find(self, path: Path) -> Any:
        """Return the value, or None when it is absent."""
        return finder(path.base, literal=path.literal)(self.parameters)

    def write(self, path: Path, value: Any) -> bool:
        """Set a value, making objects on the way; False when something else is in the way."""
        return self._edit(path, value)

    def remove(self, path: Path) -> bool:
        """Remove a value; False when it is not there."""
        return self._edit(path, _REMOVED)

    def _edit(self, path: Path, value: Any) -> bool:
        whole = ".".join(path.base)
        is_whole_key = not path.literal and self.parameters.get(whole) is not None
        keys = (whole,) if is_whole_key else path.base
        edited = _edited(self.parameters, keys, value)
        if edited is _IMPOSSIBLE:
            return False
        self.parameters = edited
        self._touched[keys[0]] = None
        return True

    def changed_parameters(self) -> dict[str, Any]:
        """Return the top-level parameters whose value is new."""
        original = self.event.parameters
        changed = {
            key: self.parameters[key]
            for key in self._touched
            if key in self.parameters
            and not (key in original and same(self.parameters[key], original[key]))
        }
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


def _edited(container: Any, keys: tuple[str, ...], value: Any) -> Any:
    """Return a copy of the container with the value set, or removed; or _IMPOSSIBLE."""
    key, rest = keys[0], keys[1:]
    if isinstance(container, list):
        if not key.isdecimal() or int(key) >= len(container):
            return _IMPOSSIBLE
        index = int(key)
        inner = _edited(container[index], rest, value) if rest else value
        if inner is _IMPOSSIBLE:
            return _IMPOSSIBLE
        return [
            *container[:index],
            *([] if inner is _REMOVED else [inner]),
            *container[index + 1 :],
        ]
    is_object = isinstance(container, Mapping) or (container is None and value is not _REMOVED)
    if not is_object or (value is _REMOVED and key not in container):
        return _IMPOSSIBLE
    copy = dict(container or {})
    inner = _edited(copy.get(key), rest, value) if rest else value
    if inner is _IMPOSSIBLE:
        return _IMPOSSIBLE
    if inner is _REMOVED:
        del copy[key]
    else:
        copy[key] = inner
    return copy
