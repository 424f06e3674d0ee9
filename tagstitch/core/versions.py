"""Semantic versions (https://semver.org/spec/v2.0.0.html), as loosely as apps write them."""

from __future__ import annotations

import re
from typing import Any, Final

from tagstitch.core.limits import VERSION_CHARS_MAX

_IDENTIFIERS: Final = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"

VERSION_PATTERN: Final = (
    rf"[vV]?([0-9]+(?:\.[0-9]+){{0,3}})(?:-({_IDENTIFIERS}))?(?:\+{_IDENTIFIERS})?"
)
"""A fourth number, as browsers have it, counts after the patch; missing numbers are zero."""

_VERSION: Final = re.compile(VERSION_PATTERN)

Version = tuple[Any, ...]
"""Compares as the specification's precedence says; build metadata does not count."""


def read_version(text: object) -> Version | None:
    """Return the version, or None when the value is no text of that form."""
    if not isinstance(text, str) or len(text) > VERSION_CHARS_MAX:
        return None
    found = _VERSION.fullmatch(text)
    if found is None:
        return None
    numbers = [int(number) for number in found[1].split(".")]
    release = tuple(numbers + [0] * (4 - len(numbers)))
    if found[2] is None:
        return (release, 1)  # a release comes after its own pre-releases
    return (release, 0, tuple(map(_precedence, found[2].split("."))))


def _precedence(identifier: str) -> tuple[int, int, str]:
    """Numbers compare as numbers and come before words."""
    return (0, int(identifier), "") if identifier.isdecimal() else (1, 0, identifier)
