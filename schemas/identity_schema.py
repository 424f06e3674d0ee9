"""The setting `TAGSTITCH_IDENTITY`, as `core/identity_settings.py` reads it."""

from __future__ import annotations

from typing import Any

from schemas.shapes import or_null
from tagstitch.core.identifier import IDENTIFIER_TYPES, TYPE_PATTERN
from tagstitch.core.identity_limits import (
    BLOCKED_PATTERNS_MAX,
    BLOCKED_VALUES_MAX,
    IDENTIFIER_LIMIT_DAYS_MAX,
    IDENTIFIER_TYPES_MAX,
    LINK_LOG_DAYS_MAX,
    LINK_LOG_DAYS_MIN,
    QUARANTINE_HOURS_MAX,
    QUARANTINE_PROFILES_MAX,
    QUARANTINE_PROFILES_MIN,
)
from tagstitch.core.identity_settings import MERGE_STRATEGIES
from tagstitch.core.limits import (
    CONDITION_REGEX_CHARS_MAX,
    IDENTIFIER_VALUE_CHARS_MAX,
    IDENTIFIERS_PER_PROFILE_MAX,
)
from tagstitch.core.lookup import QUERY_FIELDS


def identity_schema() -> dict[str, Any]:
    """Return the schema of the whole object."""
    type_ = {"type": "string", "pattern": f"^{TYPE_PATTERN.pattern}$"}
    return {
        "title": "Identity settings",
        "description": "What a project declares about its identifiers.",
        "type": "object",
        "properties": {
            "types": or_null(
                {
                    "description": "Identifier types, the strongest first. The usual ones that are"
                    " not named follow in their order.",
                    "type": "array",
                    "items": {**type_, "not": {"enum": sorted(QUERY_FIELDS)}},
                    "maxItems": IDENTIFIER_TYPES_MAX,
                    "uniqueItems": True,
                    "default": list(IDENTIFIER_TYPES),
                }
            ),
            "limits": or_null(
                {
                    "description": "Type -> how many values of it a profile may have; null for no"
                    " limit. The others keep theirs.",
                    "type": "object",
                    "propertyNames": type_,
                    "additionalProperties": {"$ref": "#/$defs/limit"},
                }
            ),
            "default_limit": {
                "description": "Of the types that have no limit of their own.",
                "$ref": "#/$defs/limit",
            },
            "blocked_values": or_null(
                _texts(
                    "Values that never recognise anybody, in any case, with or without quotes.",
                    BLOCKED_VALUES_MAX,
                    IDENTIFIER_VALUE_CHARS_MAX,
                )
            ),
            "blocked_patterns": or_null(
                _texts(
                    "Regular expressions (RE2). A value in which one of them is found never"
                    " recognises anybody.",
                    BLOCKED_PATTERNS_MAX,
                    CONDITION_REGEX_CHARS_MAX,
                )
            ),
            "merge_strategies": or_null(
                {
                    "description": "Attribute -> how a merge decides it; the newest otherwise.",
                    "type": "object",
                    "propertyNames": {"minLength": 1},
                    "additionalProperties": {"enum": list(MERGE_STRATEGIES)},
                }
            ),
            "quarantine": or_null(
                {
                    "description": "More profiles than this, met by one identifier within so many"
                    " hours, and it is held; null holds nothing.",
                    "type": "object",
                    "properties": {
                        "profiles": _whole(QUARANTINE_PROFILES_MIN, QUARANTINE_PROFILES_MAX),
                        "within_hours": _whole(1, QUARANTINE_HOURS_MAX),
                    },
                    "required": ["profiles", "within_hours"],
                    "additionalProperties": False,
                }
            ),
            "link_log_days": or_null(
                {
                    "description": "Days for which a merge can be undone, and told of.",
                    **_whole(LINK_LOG_DAYS_MIN, LINK_LOG_DAYS_MAX),
                }
            ),
        },
        "additionalProperties": False,
        "$defs": {"limit": _limit()},
    }


def _limit() -> dict[str, Any]:
    days = _whole(1, IDENTIFIER_LIMIT_DAYS_MAX)
    return or_null(
        {
            "type": "object",
            "properties": {
                "values": _whole(1, IDENTIFIERS_PER_PROFILE_MAX),
                "days": or_null(
                    {
                        "description": "Only values that were linked within so many days count;"
                        " without it all do.",
                        **days,
                    }
                ),
            },
            "required": ["values"],
            "additionalProperties": False,
        }
    )


def _texts(description: str, entries_max: int, chars_max: int) -> dict[str, Any]:
    return {
        "description": description,
        "type": "array",
        "items": {"type": "string", "minLength": 1, "maxLength": chars_max},
        "maxItems": entries_max,
    }


def _whole(low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high}
