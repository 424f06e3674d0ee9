"""Reading an object that people wrote, key by key, so that no key is silently ignored."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from tagstitch.core.limits import UNKNOWN_FIELDS_MAX
from tagstitch.core.problems import Problems, suggestion

T = TypeVar("T")

_FLAT: Final = frozenset((str, int, float, bool))


class Definition:
    """One object of a definition; `where` is its place, empty at the top."""

    __slots__ = ("_known", "_left", "problems", "where")

    def __init__(self, raw: Mapping[Any, Any], where: str, problems: Problems) -> None:
        self._left = _with_text_keys(raw)
        self._known: list[str] = []
        self.where = where
        self.problems = problems

    def place(self, key: str) -> str:
        """Return the place of one of its keys."""
        return f"{self.where}.{key}" if self.where else key

    def flat_content(self) -> bytes | None:
        """Return what is left as JSON, or None when it holds more than texts and numbers."""
        if not all(value.__class__ in _FLAT for value in self._left.values()):
            return None
        try:
            content = msgspec.json.encode(self._left)
        except (OverflowError, ValueError):  # an integer or a text that JSON cannot hold
            return None
        return None if b"null" in content else content  # not a number is written as null

    def take(self, key: str, *synonyms: str) -> Any:
        """Return the value of a key or of one of its synonyms, or None."""
        if not synonyms:
            self._known.append(key)
            return self._left.pop(key, None)
        words = (key, *synonyms)
        self._known += words
        values = [self._left.pop(word) for word in words if word in self._left]
        if len(values) > 1:
            self.problems.add(self.place(key), "stands there twice", "one of: " + ", ".join(words))
        return values[0] if values else None

    def has_any(self, keys: Iterable[str]) -> bool:
        """Return whether one of these keys, which are known from now on, is there."""
        self._known += keys
        return not self._left.keys().isdisjoint(keys)

    def leave_aside(self, keys: Sequence[str]) -> None:
        """Accept keys that mean nothing to a decision."""
        self._known += keys
        if not self._left.keys().isdisjoint(keys):
            for key in keys:
                self._left.pop(key, None)

    def require(self, key: str, *synonyms: str) -> Any:
        """Return the value like `take`, and note a problem when it is absent."""
        value = self.take(key, *synonyms)
        if value is None:
            self.problems.add(self.place(key), "is missing")
        return value

    def take_with(self, check: Callable[[Any, str, Problems], T], key: str, default: T) -> T:
        """Return the value after its check, or the default when it is absent."""
        self._known.append(key)
        value = self._left.pop(key, None)
        return default if value is None else check(value, self.place(key), self.problems)

    def require_with(self, check: Callable[[Any, str, Problems], T], key: str, default: T) -> T:
        """Return the value after its check; a missing one is a problem."""
        value = self.require(key)
        return default if value is None else check(value, self.place(key), self.problems)

    def refuse(self, keys: Iterable[str], message: str) -> None:
        """Note a problem for each of these keys that is there, unless it is switched off."""
        for key in keys:
            if self._left.pop(key, None) not in (None, False):
                self.problems.add(self.place(key), message)

    def refuse_rest(self) -> None:
        """Note a problem for each key that nobody asked for."""
        for key in self._unknown():
            self.problems.add(self.place(key), "unknown field", suggestion(key, self._known))

    def refuse_misspelt(self) -> None:
        """Note a problem for each key left that looks like a known one; keep other people's."""
        for key in self._unknown():
            close = difflib.get_close_matches(key[:100], self._known, n=1, cutoff=0.8)
            if close:
                self.problems.add(self.place(key), "unknown field", f"did you mean {close[0]}?")

    def _unknown(self) -> Iterable[str]:
        if len(self._left) <= UNKNOWN_FIELDS_MAX:
            return self._left
        self.problems.add(self.where, f"more than {UNKNOWN_FIELDS_MAX} unknown fields")
        return ()


def _with_text_keys(raw: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a copy; keys that are no text come from YAML alone."""
    try:
        "".join(raw)  # asks all keys at once
    except TypeError:
        return {str(key): value for key, value in raw.items()}
    return dict(raw)
