"""What rules and experiments say alike: for which events, and for which purposes."""

from __future__ import annotations

from typing import Any, Final

from schemas.shapes import Shape, text
from tagstitch.core.event import EVENT_NAME_CHARS_MAX
from tagstitch.core.limits import CONSENT_PURPOSES_MAX, RULE_EVENT_NAMES_MAX

_PURPOSE: Final = {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_.-]{0,63}$"}

PURPOSES: Final[Shape] = {
    "description": "The purposes that the visitor must allow; ad_personalization by default.",
    "anyOf": [
        _PURPOSE,
        {"type": "array", "minItems": 1, "maxItems": CONSENT_PURPOSES_MAX, "items": _PURPOSE},
    ],
}

CONSENT: Final[Shape] = {
    "description": "The same in other words: {purpose: a_purpose}.",
    "type": "object",
    "properties": {"purpose": PURPOSES, "purposes": PURPOSES},
    "additionalProperties": False,
    "minProperties": 1,
    "maxProperties": 1,
}


def event_names(description: str) -> Shape:
    """Return a name, a list of names, or `*`."""
    name = text(EVENT_NAME_CHARS_MAX)
    names = {"type": "array", "minItems": 1, "maxItems": RULE_EVENT_NAMES_MAX, "items": name}
    return {"description": description, "anyOf": [name, names]}


def both_purposes() -> Shape:
    """Return what nobody may write: purposes and consent."""
    given: list[dict[str, Any]] = [
        {"not": {"required": [field], "properties": {field: {"type": "null"}}}}
        for field in ("purposes", "consent")
    ]
    both = [{"required": ["purposes", "consent"]}, *given]
    return {"allOf": both, "description": "Either purposes or consent."}
