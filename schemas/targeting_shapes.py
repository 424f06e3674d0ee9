"""What rules, experiments and traits say alike: for which events."""

from __future__ import annotations

from schemas.shapes import Shape, text
from tagstitch.core.event import EVENT_NAME_CHARS_MAX
from tagstitch.core.limits import RULE_EVENT_NAMES_MAX


def event_names(description: str) -> Shape:
    """Return a name, a list of names, or `*`."""
    name = text(EVENT_NAME_CHARS_MAX)
    names = {"type": "array", "minItems": 1, "maxItems": RULE_EVENT_NAMES_MAX, "items": name}
    return {"description": description, "anyOf": [name, names]}
