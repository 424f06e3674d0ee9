"""Hops: how many callbacks set each other off, so that a loop of them ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tagstitch.core.errors import InvalidInput

HOPS_MAX: Final = 3
"""Callbacks that may have led to a request: a result may ask once or twice more, a loop may not."""

HOPS_HEADER: Final = "x-tagstitch-hops"
"""How many callbacks in a row this is; whatever it sets off passes the number on as `hops`."""


def hop_count(raw: Mapping[str, Any]) -> int:
    """Return how many callbacks led to this request: 0 to `HOPS_MAX`."""
    value = raw.get("hops")
    if value is None:
        return 0
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidInput("invalid_field", f"must be a whole number up to {HOPS_MAX}", "hops")
    if value > HOPS_MAX:
        raise InvalidInput(
            "invalid_field", f"more than {HOPS_MAX} callbacks have set each other off", "hops",
            "what a callback sets off must not ask for the next one: look for a loop",
        )  # fmt: skip
    return value
