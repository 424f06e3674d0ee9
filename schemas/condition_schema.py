"""Conditions of rules: the closed list of operators, as `core/operators.py` reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tagstitch.core import operands
from tagstitch.core.limits import (
    CONDITION_DEPTH_MAX,
    CONDITION_LIST_MAX,
    CONDITION_PREDICATES_MAX,
    CONDITION_REGEX_CHARS_MAX,
    PATH_CHARS_MAX,
)
from tagstitch.core.operators import OPERATORS, WORDS
from tagstitch.core.value_tests import TYPES

GROUPS: Final = ("all", "any", "none")

_SWITCHES: Final = ("ignoreCase", "ignore_case")

_SCALARS: Final[dict[str, Any]] = {
    "type": "array",
    "minItems": 1,
    "maxItems": CONDITION_LIST_MAX,
    "items": {"type": ["string", "number", "boolean"]},
}

_OPERANDS: Final[dict[Callable[..., Any], dict[str, Any]]] = {
    operands.any_value: {},
    operands.scalars: _SCALARS,
    operands.number: {"type": "number"},
    operands.bounds: {
        "description": "[low, high]",
        "type": "array",
        "items": {"type": "number"},
        "minItems": 2,
        "maxItems": 2,
    },
    operands.flag: {"type": "boolean"},
    operands.text: {"type": "string", "minLength": 1},
    operands.pattern: {
        "description": "A regular expression of RE2.",
        "type": "string",
        "minLength": 1,
        "maxLength": CONDITION_REGEX_CHARS_MAX,
    },
    operands.type_name: {"enum": sorted(TYPES)},
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


def condition_definitions() -> dict[str, Any]:
    """Return the definitions that conditions consist of."""
    return {
        "conditions": _conditions(),
        "comparison": {
            "description": "A plain value (equals), a plain list (in), or operators.",
            "if": {"type": "object"},
            "then": {"$ref": "#/$defs/operators_or_match"},
            "else": {"if": {"type": "array"}, "then": _SCALARS},
        },
        "operators": _operators(),
        "operator_name": {"enum": list(WORDS)},
        "operators_or_match": _operators_or_match(),
    }


def _conditions() -> dict[str, Any]:
    return {
        "description": "Path -> comparison, all of which must hold; all, any and none hold lists"
        f" of conditions. At most {CONDITION_DEPTH_MAX} levels and {CONDITION_PREDICATES_MAX}"
        " comparisons.",
        "type": "object",
        "propertyNames": PATH,
        "properties": {
            group: {
                "type": "array",
                "minItems": 1,
                "items": {"$ref": "#/$defs/conditions", "minProperties": 1},
            }
            for group in GROUPS
        },
        "additionalProperties": {"$ref": "#/$defs/comparison"},
    }


def _operators() -> dict[str, Any]:
    return {
        "description": "Operators, all of which must hold. not before a name is its opposite;"
        " snake_case is accepted too.",
        "type": "object",
        "properties": {
            **{word: operand_of(name) for word, (name, _) in WORDS.items()},
            **{switch: {"type": "boolean"} for switch in _SWITCHES},
        },
        "additionalProperties": False,
        "not": {"propertyNames": {"enum": [*_SWITCHES]}},
        "allOf": [_ignores_case(switch) for switch in _SWITCHES],
    }


def _ignores_case(switch: str) -> dict[str, Any]:
    """Return the condition that a switch for texts stands beside an operator for texts."""
    words = [word for word, (name, _) in WORDS.items() if OPERATORS[name].build_ignoring_case]
    return {
        "if": {"properties": {switch: {"const": True}}, "required": [switch]},
        "then": {"anyOf": [{"required": [word]} for word in words]},
    }


def _operators_or_match() -> dict[str, Any]:
    """Return operators with `match`, which stands behind the `$` of a list."""
    match = {
        "description": "Conditions that one and the same element must satisfy.",
        "$ref": "#/$defs/conditions",
        "minProperties": 1,
    }
    operators = _operators()
    return {**operators, "properties": {"match": match, **operators["properties"]}}
