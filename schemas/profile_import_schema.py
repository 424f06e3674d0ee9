"""One line of `tagstitch profiles import`, as `pipeline/profile_import.py` reads it."""

from __future__ import annotations

from typing import Any

from schemas.shapes import identifier_value, or_null, time
from tagstitch.core.identifier import IDENTIFIER_TYPES
from tagstitch.core.limits import PROFILE_BYTES_MAX


def profile_import_schema() -> dict[str, Any]:
    """Return the schema of one line."""
    value = identifier_value()
    return {
        "title": "Profile import line",
        "description": "One line of a JSON Lines file. Without a profile_id the profile is the one"
        f" of the strongest identifier. The stored profile has at most {PROFILE_BYTES_MAX} bytes.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "profile_id": or_null(
                {"type": "string", "pattern": "^(?!__)[A-Za-z0-9_.:@=+~-]{1,256}$"}
            ),
            "identifiers": or_null(
                {
                    "type": "object",
                    "description": "Type -> its values, or one value. Values that many visitors"
                    " share by accident (null, guest, 0.0) are refused.",
                    "properties": {
                        type_: {"anyOf": [{"type": "array", "items": value}, value]}
                        for type_ in IDENTIFIER_TYPES
                    },
                    "additionalProperties": False,
                }
            ),
            "identifier_keys": or_null(
                {
                    "type": "array",
                    "description": "Keys from an export; they fit a store with the same"
                    " TAGSTITCH_IDENTITY_KEY.",
                    "items": {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,31}:[A-Z2-7]{26}$"},
                }
            ),
            "attributes": or_null(
                {
                    "type": "object",
                    "propertyNames": {"minLength": 1, "not": {"pattern": "^(__.*__|___?)$"}},
                }
            ),
            "attributes_at": or_null(
                time(
                    "When the attributes were set; without it they hold now. What is older never"
                    " overwrites what is newer."
                )
            ),
            "attribute_times": or_null(
                {
                    "type": "object",
                    "description": "Attribute -> when it was set, where that differs from"
                    " attributes_at. Every name is one of attributes.",
                    "additionalProperties": or_null(time("When it was set.")),
                }
            ),
            "consent": or_null(_consent()),
            "created_at": or_null(
                time("Since when the profile is known, where the line makes it; else now.")
            ),
        },
        "anyOf": [
            _one_of_type("profile_id", {"type": "string"}),
            _one_of_type(
                "identifiers",
                {
                    "type": "object",
                    "minProperties": 1,
                    "not": {"additionalProperties": {"type": "array", "maxItems": 0}},
                },
            ),
            _one_of_type("identifier_keys", {"type": "array", "minItems": 1}),
        ],
    }


def _one_of_type(name: str, shape: dict[str, Any]) -> dict[str, Any]:
    return {"required": [name], "properties": {name: shape}}


def _consent() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "Purpose -> true, false, granted or denied, or {granted, at}. Anything else"
        " is a denial.",
        "propertyNames": {"pattern": "^[A-Za-z][A-Za-z0-9_.-]{0,63}$"},
        "additionalProperties": {
            "if": {"type": "object"},
            "then": {
                "properties": {
                    "granted": {"description": "true or granted; anything else is a denial."},
                    "at": or_null(time("When the person said so.")),
                }
            },
        },
    }
