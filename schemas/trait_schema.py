"""Computed traits, as `core/trait_parsing.py` reads them."""

from __future__ import annotations

from typing import Any, Final

from schemas.condition_schema import PATH, condition_definitions, event_conditions
from schemas.gate_schema import TIME_ZONE
from schemas.shapes import (
    CONSENT_TO_PURPOSES,
    PURPOSES,
    either_purposes_or_consent,
    or_null,
)
from schemas.targeting_shapes import event_names
from tagstitch.core.limits import (
    INTEGER_ABS_MAX,
    TRAIT_PERIOD_S_MAX,
    TRAIT_VALUE_BYTES_MAX,
)
from tagstitch.core.trait_operations import OPERATIONS
from tagstitch.core.trait_parsing import (
    DESCRIPTIVE,
    FILL,
    LIMITS,
    NAME_PATTERN,
    OTHER_FIELDS,
    RESTRICTING,
    TRAIT_EVENT_WORDS,
    UNIT_DEFAULT,
    UNITS,
    WITH_FIELD,
)
from tagstitch.core.trait_window import PERIOD_UNITS

_OFF: Final[dict[str, Any]] = {"enum": [None, False]}
_PERIOD: Final[dict[str, Any]] = {
    "description": "One unit and its whole number; at most 366 days.",
    "type": "object",
    "properties": {
        unit: {"type": "integer", "minimum": 1, "maximum": TRAIT_PERIOD_S_MAX // seconds}
        for unit, seconds in PERIOD_UNITS.items()
    },
    "additionalProperties": False,
    "minProperties": 1,
    "maxProperties": 1,
}
_PATH: Final[dict[str, Any]] = {"$ref": "#/$defs/path"}
_ROLLING: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"rolling": {"$ref": "#/$defs/period"}},
    "required": ["rolling"],
    "additionalProperties": False,
}
_SCALAR: Final[dict[str, Any]] = {
    "description": f"The value itself, of at most {TRAIT_VALUE_BYTES_MAX} bytes.",
    "type": ["string", "number", "boolean"],
}


def trait_schema() -> dict[str, Any]:
    """Return the schema of one trait."""
    return {
        "title": "Trait",
        "description": "One computed trait, in YAML or JSON; its id is the name of the attribute."
        " A schema cannot check paths and regular expressions, and which quantifiers an operation"
        " takes.",
        "$ref": "#/$defs/trait",
        "$defs": {**trait_definitions(), **condition_definitions()},
    }


def trait_definitions() -> dict[str, Any]:
    """Return the definitions that a trait consists of, besides those of conditions."""
    return {
        "trait": _trait(),
        "period": _PERIOD,
        "path": PATH,
        "event_conditions": event_conditions(),
    }


def _trait() -> dict[str, Any]:
    names = event_names("The events that it is computed from: a name, a list of names, or *.")
    conditions = or_null(
        {
            "description": "Which of these events count; all without them. They look at the event"
            " alone, and may hang on its time.",
            "$ref": "#/$defs/event_conditions",
        }
    )
    return {
        "type": "object",
        "required": ["operation"],
        "properties": {
            "trait_id": {"type": "string", "pattern": f"^{NAME_PATTERN}$"},
            **dict.fromkeys(DESCRIPTIVE, True),
            **dict.fromkeys(TRAIT_EVENT_WORDS, names),
            "when": conditions,
            "conditions": conditions,
            "operation": {"enum": [*OPERATIONS]},
            **_operation_properties(),
            "expires": {
                **or_null({"$ref": "#/$defs/period"}),
                "description": "The value is absent when no event came for so long.",
            },
            "version": {
                "type": ["integer", "null"],
                "minimum": 1,
                "maximum": INTEGER_ABS_MAX,
                "default": 1,
                "description": "To be raised when what is counted changes: it counts anew.",
            },
            "is_active": {"type": ["boolean", "null"], "default": True},
            "purposes": or_null(PURPOSES),
            "consent": or_null(CONSENT_TO_PURPOSES),
            FILL: {**_OFF, "description": "Kept for predictions; not made by this version."},
            **dict.fromkeys(RESTRICTING, _OFF),
        },
        "oneOf": [{"required": [word]} for word in TRAIT_EVENT_WORDS],
        "not": {
            "anyOf": [either_purposes_or_consent(), {"required": ["when", "conditions"]}],
        },
        "allOf": _of_operations(),
    }


def _operation_properties() -> dict[str, Any]:
    return {
        "field": {
            "description": "Where in the event the value is, such as value or items.$.item_id."
        },
        "by": {"description": "Another word for field, in tally and most_frequent."},
        "value": {"description": "What set and set_once write, in place of a field."},
        "window": {
            "description": "lifetime (by default), session, or {rolling: {days: 30}}.",
            "default": "lifetime",
        },
        "limit": {"description": "Values that a list keeps, or keys that a tally shows."},
        "unit": {"description": "Of a length of time.", "default": UNIT_DEFAULT},
        "time_zone": {"description": "By whose clock; the project's by default."},
    }


def _of_operations() -> list[dict[str, Any]]:
    """Return what holds of the other fields, for operations that demand the same at once."""
    groups: list[tuple[list[str], dict[str, Any]]] = []
    for name in OPERATIONS:
        then = _of_operation(name)
        names = next((names for names, other in groups if other == then), None)
        if names is None:
            groups.append(([name], then))
        else:
            names.append(name)
    return [
        {
            "if": {"properties": {"operation": {"enum": names}}, "required": ["operation"]},
            "then": then,
        }
        for names, then in groups
    ]


def _of_operation(name: str) -> dict[str, Any]:
    """Return what holds of the other fields when this is the operation."""
    operation = OPERATIONS[name]
    demands: dict[str, Any] = {"window": or_null(_window(name))}
    for field, owners in OTHER_FIELDS.items():
        demands[field] = or_null(_other_field(field, name)) if name in owners else _OFF
    then: dict[str, Any] = {"properties": demands}
    if operation.reads == "constant":
        demands |= {"field": or_null(_PATH), "by": _OFF}
        then["oneOf"] = [_given("field"), _given("value")]
    elif operation.reads == "key":
        demands |= {"field": _PATH, "by": _PATH}
        then["oneOf"] = [{"required": ["field"]}, {"required": ["by"]}]
    elif operation.reads in WITH_FIELD:
        demands |= {"field": _PATH, "by": _OFF}
        then["required"] = ["field"]
    else:
        demands |= {"field": _OFF, "by": _OFF}
    return then


def _window(name: str) -> dict[str, Any]:
    windows = OPERATIONS[name].windows
    words = {"enum": [window for window in windows if window != "rolling"]}
    return {"anyOf": [words, _ROLLING]} if "rolling" in windows else words


def _other_field(field: str, name: str) -> dict[str, Any]:
    if field == "limit":
        default, most = LIMITS[name]
        return {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return {"value": _SCALAR, "unit": {"enum": [*UNITS]}, "time_zone": TIME_ZONE}[field]


def _given(field: str) -> dict[str, Any]:
    return {"required": [field], "properties": {field: {"not": {"type": "null"}}}}
