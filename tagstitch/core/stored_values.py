"""Values of stored documents, which people may have edited: what is of another kind says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


def stored_map(value: object) -> Mapping[str, Any]:
    """Return the map, or an empty one."""
    return value if isinstance(value, Mapping) else _EMPTY


def stored_text(value: object) -> str | None:
    """Return the text, or None."""
    return value if isinstance(value, str) else None


def stored_texts(value: object) -> tuple[str, ...]:
    """Return the texts of a list, each once."""
    found = value if isinstance(value, list) else ()
    return tuple(dict.fromkeys(each for each in found if isinstance(each, str)))


def stored_time(value: object) -> datetime | None:
    """Return the time, or None."""
    return value if isinstance(value, datetime) else None


def stored_times(value: object) -> Mapping[str, datetime]:
    """Return the entries of a map that are times."""
    stored = stored_map(value)
    return {key: at for key, at in stored.items() if isinstance(at, datetime)} if stored else _EMPTY


def stored_count(value: object) -> int:
    """Return the positive number, or 0."""
    return value if isinstance(value, int) and value > 0 else 0
