"""The size of a document as Firestore counts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_SCALAR_BYTES: Final = 8
"""Of a number or a time; true, false and null have one."""


def document_bytes(fields: Mapping[str, Any]) -> int:
    """Return the bytes of a document's fields, without its name and its index entries.

    https://cloud.google.com/firestore/docs/storage-size
    """
    return sum(len(name.encode()) + 1 + _value_bytes(value) for name, value in fields.items())


def _value_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode()) + 1
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, Mapping):
        return document_bytes(value)
    if isinstance(value, list):
        return sum(map(_value_bytes, value))
    return 1 if value is None or isinstance(value, bool) else _SCALAR_BYTES
