"""Shapes that several schemas share."""

from __future__ import annotations

from typing import Any, Final

from tagstitch.core.identifier import IDENTIFIER_TYPES
from tagstitch.core.limits import (
    CONSENT_PURPOSES_MAX,
    IDENTIFIER_VALUE_CHARS_MAX,
    INTEGER_ABS_MAX,
)

Shape = dict[str, Any]

TIME_PATTERN: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})$"
)

ID_PATTERN: Final = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$"
"""An id in a file: it becomes the name of a document and of a file."""

_PURPOSE: Final = {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_.-]{0,63}$"}

PURPOSES: Final[Shape] = {
    "description": "The purposes that the visitor must allow, all of them.",
    "anyOf": [
        _PURPOSE,
        {"type": "array", "minItems": 1, "maxItems": CONSENT_PURPOSES_MAX, "items": _PURPOSE},
    ],
}

CONSENT_TO_PURPOSES: Final[Shape] = {
    "type": "object",
    "properties": {"purpose": PURPOSES, "purposes": PURPOSES},
    "additionalProperties": False,
    "minProperties": 1,
    "maxProperties": 1,
}


def either_purposes_or_consent() -> Shape:
    """Return what must not be: both ways to name purposes at once."""
    is_null = [
        {"required": [field], "properties": {field: {"type": "null"}}}
        for field in ("purposes", "consent")
    ]
    both = [{"required": ["purposes", "consent"]}, *({"not": null} for null in is_null)]
    return {"allOf": both, "description": "Either purposes or consent."}


def text(chars_max: int, **more: Any) -> Shape:
    """Return a text of 1 to so many characters."""
    return {"type": "string", "minLength": 1, "maxLength": chars_max, **more}


def time(description: str) -> Shape:
    """Return an ISO 8601 time with an offset."""
    return {
        "type": "string",
        "format": "date-time",
        "pattern": TIME_PATTERN,
        "description": description,
        "examples": ["2026-11-21T20:00:00Z"],
    }


def identifier_value() -> Shape:
    """Return the value of an identifier.

    The parser trims blanks before it counts; a schema cannot.
    """
    return {
        "description": "Text, or a whole number that is taken for its digits. E-mail addresses and"
        " phone numbers are hashed on arrival; send their SHA-256 where you can.",
        "type": ["string", "integer"],
        "maxLength": IDENTIFIER_VALUE_CHARS_MAX,
        "pattern": r"^[^\u0000-\u001f\u007f]*$",
        "minimum": -INTEGER_ABS_MAX,
        "maximum": INTEGER_ABS_MAX,
    }


def identifier_type() -> Shape:
    """Return the declared identifier types."""
    return {"enum": list(IDENTIFIER_TYPES), "description": "In priority order, strongest first."}


def or_null(shape: Shape) -> Shape:
    """Return the shape, or null: null counts as absent."""
    types = shape.get("type")
    if isinstance(types, str):
        return {**shape, "type": [types, "null"]}
    return {"anyOf": [shape, {"type": "null"}]}
