"""Time zones of definitions, by their IANA name.

The names and their rules come from the machine's time-zone database, else from the package
`tzdata`. It is read when a definition is parsed, never for an event.
"""

from __future__ import annotations

import re
from datetime import UTC, tzinfo
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from tagstitch.core.problems import Problems, suggestion

TIME_ZONE_PATTERN: Final = r"[A-Z][A-Za-z0-9_+-]{0,31}(/[A-Za-z0-9_+-]{1,31}){0,2}"
"""Keeps out `localtime` and `right/...`, which mean something else on every machine."""

_NAME: Final = re.compile(TIME_ZONE_PATTERN)


def parse_time_zone(raw: object, where: str, problems: Problems) -> tzinfo:
    """Return the time zone, or UTC after noting what is wrong with its name."""
    if raw == "UTC":
        return UTC
    if isinstance(raw, str) and _NAME.fullmatch(raw):
        try:
            return ZoneInfo(raw)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass  # a name that is not there, a file of another kind, a folder
    if isinstance(raw, str):
        problems.add(where, "unknown time zone", _closest(raw[:100]))
    else:
        problems.add(where, "must be the name of a time zone", "such as Europe/Berlin")
    return UTC


@cache
def _known() -> frozenset[str]:
    return frozenset(available_timezones())


def _closest(name: str) -> str:
    hint = suggestion(name, _known())
    return hint if hint.startswith("did you mean") else "a name such as Europe/Berlin"
