"""Forgetting what was redacted: no record of an earlier change may hold the value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tagstitch.core.event_action import VALUE_FIELDS, EventAction, Modification, Redact
from tagstitch.core.paths import Path

Change = tuple[EventAction, Modification]
"""An action and one of its effects."""


def forget_redacted(changes: Sequence[Change], imagined: Iterable[Change]) -> None:
    """Take the values of redacted parameters out of the changes that came before the redaction.

    Changes that were only imagined lose them whenever they came.
    """
    redacted = _Redacted()
    for action, modification in reversed(changes):  # so each is asked about what came behind it
        if isinstance(action, Redact):
            redacted.add(action.parameters)
        elif any(map(redacted.holds, action.touches)):
            _forget(modification)
    for action, modification in imagined:
        if any(map(redacted.holds, action.touches)):
            _forget(modification)


def _forget(modification: Modification) -> None:
    for name in VALUE_FIELDS:
        modification.pop(name, None)


class _Redacted:
    """Parameters that were redacted."""

    __slots__ = ("_above", "_names")

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._above: set[str] = set()

    def add(self, paths: Iterable[Path]) -> None:
        for path in paths:
            *above, name = _levels(path)
            self._above.update(above)
            self._names.add(name)

    def holds(self, path: Path) -> bool:
        """Return whether the path leads to such a value, to a part of one, or to one above it."""
        levels = _levels(path)
        return levels[-1] in self._above or not self._names.isdisjoint(levels)


def _levels(path: Path) -> list[str]:
    """Return `a`, `a.b`, `a.b.c` for the path a.b.c, however it was written."""
    segments = ".".join(path.base).split(".")
    return [".".join(segments[:length]) for length in range(1, len(segments) + 1)]
