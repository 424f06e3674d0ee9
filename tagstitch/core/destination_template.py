"""What is sent to a destination: a template of its settings, filled with the values of an action."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

_FIELD: Final = re.compile(r"\$\{([a-z][a-z0-9_]*)(?:\.([A-Za-z_][A-Za-z0-9_.-]*))?\}")
"""`${recipient}`, or `${data.tier}` for one of the fields that a rule gives."""

_DOT_SEGMENTS: Final = ("", ".", "..")


class UnusableValue(Exception):
    """A value would make another URL of the template's; the action cannot be sent."""


def fields_of(template: Any) -> Iterator[str]:
    """Yield the names that a template takes values of."""
    if isinstance(template, str):
        for match in _FIELD.finditer(template):
            yield match[1]
    elif isinstance(template, Mapping):
        for value in template.values():
            yield from fields_of(value)
    elif isinstance(template, list):
        for value in template:
            yield from fields_of(value)


def fill(template: Any, values: Mapping[str, Any]) -> Any:
    """Return the template with its fields replaced.

    A text that is one field alone becomes the value, of whatever type; inside a longer text it
    becomes text. What is absent is null, or nothing.
    """
    if isinstance(template, str):
        whole = _FIELD.fullmatch(template)
        if whole is not None:
            return _value(whole, values)
        return _FIELD.sub(lambda match: as_text(_value(match, values)), template)
    if isinstance(template, Mapping):
        return {name: fill(value, values) for name, value in template.items()}
    if isinstance(template, list):
        return [fill(value, values) for value in template]
    return template


def fill_url(template: str, values: Mapping[str, Any]) -> str:
    """Return the URL with its fields replaced, percent-encoded as one segment each.

    Raises UnusableValue for a segment that would lead elsewhere.
    """

    def segment(match: re.Match[str]) -> str:
        text = as_text(_value(match, values))
        if text in _DOT_SEGMENTS:
            raise UnusableValue
        return quote(text, safe="")

    return _FIELD.sub(segment, template)


def fill_constants(template: Any, constants: Mapping[str, str]) -> Any:
    """Return the template with only those fields replaced that the settings give."""
    if isinstance(template, str):
        return _FIELD.sub(
            lambda match: constants.get(match[1], match[0]) if match[2] is None else match[0],
            template,
        )
    if isinstance(template, Mapping):
        return {name: fill_constants(value, constants) for name, value in template.items()}
    if isinstance(template, list):
        return [fill_constants(value, constants) for value in template]
    return template


def as_text(value: Any) -> str:
    """Return a value as it stands inside a text."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _value(match: re.Match[str], values: Mapping[str, Any]) -> Any:
    value = values.get(match[1])
    if match[2] is None:
        return value
    return value.get(match[2]) if isinstance(value, Mapping) else None
