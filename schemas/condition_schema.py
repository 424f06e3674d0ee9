"""Conditions of rules: the closed list of operators, as `core/operators.py` reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tagstitch.core import operands
from tagstitch.core.address_ranges import NETWORK_PATTERN
from tagstitch.core.condition import AUDIENCE_WORDS, CHANGED_WORDS
from tagstitch.core.limits import (
    CONDITION_DEPTH_MAX,
    CONDITION_LIST_MAX,
    CONDITION_PREDICATES_MAX,
    CONDITION_REGEX_CHARS_MAX,
    CONDITION_SALT_CHARS_MAX,
    CONDITION_TEXT_CHARS_MAX,
    EPOCH_OPERAND_MAX,
    EPOCH_OPERAND_MIN,
    PATH_CHARS_MAX,
    RULE_ID_CHARS_MAX,
    TIME_TEXT_CHARS_MAX,
    VERSION_CHARS_MAX,
)
from tagstitch.core.operators import MODIFIERS, OPERATORS, WORDS
from tagstitch.core.times import ISO_PATTERN, RELATIVE_PATTERN
from tagstitch.core.value_tests import TYPES
from tagstitch.core.versions import VERSION_PATTERN

GROUPS: Final = ("all", "any", "none")

_SWITCHES: Final = ("ignoreCase", "ignore_case")

_SCALARS: Final[dict[str, Any]] = {
    "type": "array",
    "minItems": 1,
    "maxItems": CONDITION_LIST_MAX,
    "items": {"type": ["string", "number", "boolean"]},
}

_TIME_TEXT: Final[dict[str, Any]] = {
    "description": "A date, a time (UTC when no zone is given), or now with an offset (now-5d).",
    "type": "string",
    "maxLength": TIME_TEXT_CHARS_MAX,
    "pattern": f"^({ISO_PATTERN}|{RELATIVE_PATTERN})$",
}

_EPOCHS: Final[list[dict[str, Any]]] = [
    {
        "description": f"An epoch in {unit}.",
        "type": "number",
        "minimum": EPOCH_OPERAND_MIN * factor,
        "exclusiveMaximum": EPOCH_OPERAND_MAX * factor,
    }
    for unit, factor in (("seconds", 1), ("milliseconds", 1_000), ("microseconds", 1_000_000))
]

_RANGE: Final[dict[str, Any]] = {"type": "string", "pattern": f"^{NETWORK_PATTERN}$"}

_OPERANDS: Final[dict[Callable[..., Any], dict[str, Any]]] = {
    operands.comparable: {"maxItems": CONDITION_LIST_MAX, "maxProperties": CONDITION_LIST_MAX},
    operands.scalars: _SCALARS,
    operands.number: {"type": "number"},
    operands.bounds: {
        "description": "[low, high]: two numbers, or two dates or times.",
        "type": "array",
        "anyOf": [{"items": {"type": "number"}}, {"items": _TIME_TEXT}],
        "minItems": 2,
        "maxItems": 2,
    },
    operands.flag: {"type": "boolean"},
    operands.text: {
        "type": "string",
        "minLength": 1,
        "maxLength": CONDITION_TEXT_CHARS_MAX,
    },
    operands.pattern: {
        "description": "A regular expression of RE2.",
        "type": "string",
        "minLength": 1,
        "maxLength": CONDITION_REGEX_CHARS_MAX,
    },
    operands.type_name: {"enum": sorted(TYPES)},
    operands.time: {"anyOf": [_TIME_TEXT, *_EPOCHS]},
    operands.version: {
        "description": "A semantic version, in quotes.",
        "type": "string",
        "maxLength": VERSION_CHARS_MAX,
        "pattern": f"^{VERSION_PATTERN}$",
    },
    operands.ranges: {
        "description": "An address, a range such as 10.0.0.0/8, or a list of them.",
        "anyOf": [
            _RANGE,
            {"type": "array", "minItems": 1, "maxItems": CONDITION_LIST_MAX, "items": _RANGE},
        ],
    },
    operands.share: {
        "description": "[low, high] in per cent, with at most two decimal places.",
        "type": "array",
        "items": {"type": "number", "minimum": 0, "maximum": 100},
        "minItems": 2,
        "maxItems": 2,
    },
}

_SIZE: Final[dict[str, Any]] = {
    "description": "A number, or operators on the number of elements.",
    "anyOf": [{"type": "number"}, {"$ref": "#/$defs/operators"}],
}

PATH: Final[dict[str, Any]] = {
    "type": "string",
    "minLength": 1,
    "maxLength": PATH_CHARS_MAX,
    "description": "Such as value, items.$.price or profile.user_loyalty_tier.",
}


def operand_of(name: str) -> dict[str, Any]:
    """Return the shape of the operand of an operator, by its canonical name."""
    return _OPERANDS.get(OPERATORS[name].check, _SIZE)


def words_of(name: str) -> list[str]:
    """Return every spelling of an operator and of its negation."""
    return [word for word, (canonical, _) in WORDS.items() if canonical == name]


def condition_definitions() -> dict[str, Any]:
    """Return the definitions that conditions consist of."""
    return {
        "conditions": _conditions(
            "conditions", "event_comparison", {"profile": {"$ref": "#/$defs/membership"}}
        ),
        "item_conditions": _conditions("item_conditions", "comparison", {}),
        "profile_conditions": {
            **_conditions("profile_conditions", "comparison", {"profile": False}),
            "propertyNames": {**PATH, "not": {"pattern": r"^(event|experiment)[.\[]"}},
        },
        "audience": _audience(),
        "membership": _membership(),
        "comparison": _comparison("operators_or_match"),
        "event_comparison": _comparison("operators_or_changed"),
        "operators": _operators({}),
        "operator_name": {"enum": [w for w, (name, _) in WORDS.items() if name != "percent"]},
        "operators_or_match": _operators(_MATCH),
        "operators_or_changed": _operators(_MATCH | _CHANGED),
    }


def event_conditions() -> dict[str, Any]:
    """Return the shape of conditions that look at an event alone, as `event_conditions`."""
    return {
        **_conditions("event_conditions", "comparison", {"profile": False}),
        "propertyNames": {**PATH, "not": {"pattern": r"^(profile|user_state|experiment)[.\[]"}},
    }


def _comparison(operators: str) -> dict[str, Any]:
    return {
        "description": "A plain value (equals), a plain list (in), or operators.",
        "if": {"type": "object"},
        "then": {"$ref": f"#/$defs/{operators}"},
        "else": {"if": {"type": "array"}, "then": _SCALARS},
    }


def _conditions(own_name: str, comparison: str, special: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": "Path -> comparison, all of which must hold; all, any and none hold lists"
        f" of conditions. At most {CONDITION_DEPTH_MAX} levels and {CONDITION_PREDICATES_MAX}"
        " comparisons.",
        "type": "object",
        "propertyNames": PATH,
        "properties": {
            **{
                group: {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": CONDITION_PREDICATES_MAX,
                    "items": {"$ref": f"#/$defs/{own_name}", "minProperties": 1},
                }
                for group in GROUPS
            },
            **special,
        },
        "additionalProperties": {"$ref": f"#/$defs/{comparison}"},
    }


def _operators(more: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": "Operators, all of which must hold. not before a name is its opposite;"
        " snake_case is accepted too.",
        "type": "object",
        "properties": {
            **more,
            **{word: operand_of(name) for word, (name, _) in WORDS.items()},
            **{switch: {"type": "boolean"} for switch in _SWITCHES},
            "salt": {
                "description": "Keeps a percentage apart from the others.",
                "type": "string",
                "minLength": 1,
                "maxLength": CONDITION_SALT_CHARS_MAX,
            },
        },
        "additionalProperties": False,
        "not": {"propertyNames": {"enum": [*MODIFIERS]}},
        "dependentRequired": {word: ["salt"] for word in words_of("percent")},
        "allOf": [*(_ignores_case(switch) for switch in _SWITCHES), _salts()],
    }


def _ignores_case(switch: str) -> dict[str, Any]:
    """Return the condition that a switch for texts stands beside an operator for texts."""
    words = [word for word, (name, _) in WORDS.items() if OPERATORS[name].build_ignoring_case]
    return {
        "if": {"properties": {switch: {"const": True}}, "required": [switch]},
        "then": {"anyOf": [{"required": [word]} for word in words]},
    }


def _salts() -> dict[str, Any]:
    return {
        "if": {"required": ["salt"]},
        "then": {"anyOf": [{"required": [word]} for word in words_of("percent")]},
    }


_MATCH: Final[dict[str, Any]] = {
    "match": {
        "description": "Conditions that one and the same element of a list must satisfy.",
        "$ref": "#/$defs/item_conditions",
        "minProperties": 1,
    }
}

_CHANGED: Final[dict[str, Any]] = {
    word: {
        "description": "Whether the event's value differs from the profile's of the same name.",
        "type": "boolean",
    }
    for word in CHANGED_WORDS
}


def _membership() -> dict[str, Any]:
    audience = {"type": "string"}
    shape = {
        "description": "The id of an audience, or a list of ids of which one is enough.",
        "anyOf": [
            audience,
            {
                "type": "array",
                "minItems": 1,
                "maxItems": CONDITION_PREDICATES_MAX,
                "items": audience,
            },
        ],
    }
    return {
        "description": "Whether the visitor's profile belongs to an audience.",
        "type": "object",
        "minProperties": 1,
        "properties": dict.fromkeys(AUDIENCE_WORDS, shape),
        "additionalProperties": False,
    }


def _audience() -> dict[str, Any]:
    return {
        "description": "A named condition on profiles, for inAudience: paths are profile.…,"
        f" user_state.… or bare attributes. Its id has at most {RULE_ID_CHARS_MAX} characters.",
        "type": "object",
        "required": ["conditions"],
        "properties": {
            "description": True,
            "owner": True,
            "tags": True,
            "conditions": {"$ref": "#/$defs/profile_conditions", "minProperties": 1},
        },
    }
