"""The text of a scalar: one form, for keys of tables, templates and hashes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tagstitch.core.values import is_number


def scalar_text(value: Any) -> str | None:
    """Return the text of a scalar, or None for what is absent, a list or an object.

    A text stays as it is; true and false are `true` and `false`; a number is written in decimal,
    without exponent and without a fraction of zero, so that 5 and 5.0 are both `5`.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not is_number(value):
        return None
    if value == value // 1:
        return str(int(value))
    return format(Decimal(repr(value)), "f")
