"""Uses: when the rules under a frequency cap acted for a visitor.

A profile stores them in its field `caps`. Every list is sorted and bounded by its newest times.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from tagstitch.core.limits import CAP_TIMES_MAX

Uses = Mapping[str, Any]
"""Cap key -> times in seconds since 1970 (UTC), as stored: what is not such a list is unreadable,
and so is null."""


_NUMBERS: Final[frozenset[type]] = frozenset((int, float))


def read_times(uses: Uses, key: str) -> list[float] | None:
    """Return the times of one key in order, none when it was never used, or None: unreadable."""
    stored = uses.get(key, ())
    if not isinstance(stored, list | tuple) or not set(map(type, stored)) <= _NUMBERS:
        return None
    try:
        is_finite = all(map(math.isfinite, stored))
    except OverflowError:  # an integer that is no time
        return None
    return sorted(stored)[-CAP_TIMES_MAX:] if is_finite else None


def merge_uses(one: Uses, other: Uses) -> dict[str, list[float] | None]:
    """Return the uses of two profiles that turned out to be one visitor.

    The order of the two does not matter, nor how often they are merged. What is unreadable in one
    of them stays so, as null: a merge never allows what one of the profiles did not.
    """
    merged: dict[str, list[float] | None] = {}
    for key in (*one, *(key for key in other if key not in one)):
        left, right = read_times(one, key), read_times(other, key)
        if left is None or right is None:
            merged[key] = None
        else:  # a time that stands twice was used twice: two rules of a group in one decision
            both = Counter(left) | Counter(right)
            merged[key] = sorted(both.elements())[-CAP_TIMES_MAX:]
    return merged
