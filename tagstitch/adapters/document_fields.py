"""The closed list of values that a document holds, checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tagstitch.core.limits import INTEGER_ABS_MAX

_SCALARS = (bool, float, str, bytes)


def check_fields(fields: Mapping[str, Any]) -> None:
    """Raise TypeError or OverflowError for a value that no document store holds.

    Both are bugs of the caller: they crash here, and not on the one backend that minds.
    """
    for name, value in fields.items():
        _check_name(name)
        _check_value(value)


def _check_value(value: Any) -> None:
    if value is None or isinstance(value, _SCALARS):
        return
    if isinstance(value, int):
        if not -INTEGER_ABS_MAX - 1 <= value <= INTEGER_ABS_MAX:
            raise OverflowError("a document's integers have 64 bits")
    elif isinstance(value, datetime):
        if value.tzinfo is None:
            raise TypeError("a document's times are aware")
    elif isinstance(value, dict):
        check_fields(value)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, list):
                raise TypeError("a document's list never directly holds a list")
            _check_value(item)
    else:
        raise TypeError(f"a document cannot hold {type(value).__name__}")


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        raise TypeError("a document's field names are text")
    if not name or (name.startswith("__") and name.endswith("__")):
        # https://cloud.google.com/firestore/quotas#collections_documents_and_fields
        raise TypeError("a document's field name is neither empty nor like __this__")
