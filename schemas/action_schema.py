"""Actions of rules, as the `…_action_parsing.py` files of the core read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from schemas.condition_schema import PATH, operand_of, words_of
from schemas.outbox_schema import OUTBOX_ACTIONS
from schemas.shapes import CONSENT_TO_PURPOSES, PURPOSES, either_purposes_or_consent, or_null, text
from tagstitch.core.event import EVENT_NAME_CHARS_MAX
from tagstitch.core.limits import (
    ACTION_TABLE_BYTES_MAX,
    ACTION_TABLE_KEY_CHARS_MAX,
    ACTION_VALUE_BYTES_MAX,
    CONDITION_LIST_MAX,
    CONDITION_REGEX_CHARS_MAX,
    COOKIE_EXPIRY_MINUTES_DEFAULT,
    COOKIE_EXPIRY_MINUTES_MAX,
    DECIMAL_PLACES_MAX,
    REPLACEMENT_CHARS_MAX,
    RETURN_VALUE_BYTES_MAX,
    RULE_ACTIONS_MAX,
    SAMPLE_SALT_CHARS_MAX,
    STATE_KEYS_MAX,
    STATE_VALUE_BYTES_MAX,
    TEMPLATE_CHARS_MAX,
)
from tagstitch.core.operators import OPERATORS

Fields = Mapping[str, dict[str, Any]]

_ANY: Final[dict[str, Any]] = {"type": ["string", "number", "boolean", "array", "object"]}
_PLACES: Final = {"type": ["integer", "null"], "minimum": 0, "maximum": DECIMAL_PLACES_MAX}
_NUMBER: Final[dict[str, Any]] = {"type": "number"}
_VALUE: Final = {**_ANY, "description": f"At most {ACTION_VALUE_BYTES_MAX} bytes of JSON."}
_TABLE: Final[dict[str, Any]] = {
    "description": "Text of the value -> new value: numbers in decimal without a fraction of zero,"
    f" true and false as such; at most {ACTION_TABLE_BYTES_MAX} bytes.",
    "type": "object",
    "minProperties": 1,
    "maxProperties": CONDITION_LIST_MAX,
    "propertyNames": {"maxLength": ACTION_TABLE_KEY_CHARS_MAX},
    "additionalProperties": _ANY,
}
_REPLACEMENT: Final[dict[str, Any]] = {
    "pattern": text(CONDITION_REGEX_CHARS_MAX, description="A regular expression of RE2."),
    "replacement": {
        "description": r"\\1 is a group, \\0 the match, \\\\ a backslash.",
        "type": "string",
        "maxLength": REPLACEMENT_CHARS_MAX,
    },
}
_TEMPLATE: Final[dict[str, Any]] = {
    "description": "${path} stands for a value, $$ for a dollar sign.",
    "type": "string",
    "maxLength": TEMPLATE_CHARS_MAX,
}
_STATE_KEY: Final = r"^(?!__)[A-Za-z_][A-Za-z0-9_]{0,63}$"
_COOKIE_NAME: Final = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"

_TARGET: Final[dict[str, Any]] = {
    **PATH,
    "description": "A parameter of the event; never x-ga-*, x-sst-* or the event's name.",
}

STATE_CHANGES: Final[dict[str, Any]] = {
    "description": "What to remember about the visitor, for later decisions; a value has at most"
    f" {STATE_VALUE_BYTES_MAX} bytes.",
    "type": "object",
    "minProperties": 1,
    "maxProperties": STATE_KEYS_MAX,
    "propertyNames": {"pattern": _STATE_KEY},
}

_COMPUTATIONS: Final[dict[str, list[tuple[Fields, tuple[str, ...]]]]] = {
    "set": [({word: _VALUE}, (word,)) for word in ("operand", "value")],
    "set_default": [({word: _VALUE}, (word,)) for word in ("operand", "value")],
    "multiply": [({"operand": _NUMBER, "round": _PLACES}, ("operand",))],
    "add": [({"operand": _NUMBER, "round": _PLACES}, ("operand",))],
    "round": [({"operand": _PLACES}, ())],
    "copy": [({"from": PATH}, ("from",))],
    "delete": [({}, ())],
    "lower": [({}, ())],
    "upper": [({}, ())],
    "trim": [({}, ())],
    "map": [({word: _TABLE, "default": or_null(_VALUE)}, (word,)) for word in ("table", "operand")],
    "hash": [({"normalize": {"type": ["boolean", "null"]}}, ())],
    "regex_replace": [(_REPLACEMENT, tuple(_REPLACEMENT))],
    "template": [({word: _TEMPLATE}, (word,)) for word in ("template", "operand")],
}
"""Operator of `modify_parameter` and `map_items` -> the ways to write it: fields, and those that must be there."""


def action_definitions() -> dict[str, Any]:
    """Return the definitions of both kinds of actions."""
    return {
        "purposes": PURPOSES,
        "consent_to_purposes": CONSENT_TO_PURPOSES,
        **_definitions("event", EVENT_ACTIONS),
        **_definitions("personalization", PERSONALIZATION_ACTIONS),
    }


def take_actions_shape(kind: str, types: Iterable[str]) -> dict[str, Any]:
    """Return the two ways to write a rule's actions, both optional here."""
    single = [
        {
            "if": {"properties": {"action_type": {"const": type_}}, "required": ["action_type"]},
            "then": {
                "properties": {"action_details": {"$ref": f"#/$defs/{kind}_{type_}_details"}},
                **({} if type_ == "drop_event" else {"required": ["action_details"]}),
            },
        }
        for type_ in types
    ]
    return {
        "properties": {
            "action_type": {"enum": [*types, None]},
            "action_details": {"type": ["object", "null"]},
            "actions": or_null(
                {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": RULE_ACTIONS_MAX,
                    "items": {"$ref": f"#/$defs/{kind}_action"},
                }
            ),
        },
        "allOf": [
            *single,
            {
                "if": {"properties": {"actions": {"type": "array"}}, "required": ["actions"]},
                "then": {
                    "properties": {
                        "action_type": {"const": None},
                        "action_details": {"const": None},
                    }
                },
                "else": {
                    "if": {
                        "properties": {"action_details": {"type": "object"}},
                        "required": ["action_details"],
                    },
                    "then": {
                        "properties": {"action_type": {"type": "string"}},
                        "required": ["action_type"],
                    },
                },
            },
        ],
    }


def _definitions(kind: str, actions: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    details = {
        f"{kind}_{type_}_details": or_null(_any_of(forms))
        if type_ == "drop_event"
        else _any_of(forms)
        for type_, forms in actions.items()
    }
    action = {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": list(actions)}},
        "allOf": [
            {
                "if": {"properties": {"type": {"const": type_}}},
                "then": _any_of([_with_type(form) for form in forms]),
            }
            for type_, forms in actions.items()
        ],
    }
    return {**details, f"{kind}_action": action}


def _any_of(forms: list[dict[str, Any]]) -> dict[str, Any]:
    return forms[0] if len(forms) == 1 else {"anyOf": forms}


def _with_type(form: dict[str, Any]) -> dict[str, Any]:
    return {**form, "properties": {"type": True, **form["properties"]}}


def _form(fields: Mapping[str, Any], required: Iterable[str] = (), **more: Any) -> dict[str, Any]:
    """Return one closed way to write an action; what is not required may be null."""
    return {
        "type": "object",
        "properties": {
            **fields,
            "purposes": or_null({"$ref": "#/$defs/purposes"}),
            "consent": or_null({"$ref": "#/$defs/consent_to_purposes"}),
        },
        "required": list(required),
        "additionalProperties": False,
        "not": either_purposes_or_consent(),
        **more,
    }


def _computations(
    key: str, target: dict[str, Any], more: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Return every way to compute what stands at the target."""
    return [
        _form(
            {key: target, "operator": {"const": operator}, **(more or {}), **fields},
            (key, "operator", *required),
        )
        for operator, ways in _COMPUTATIONS.items()
        for fields, required in ways
    ]


def _match(description: str) -> dict[str, Any]:
    return {"description": description, "$ref": "#/$defs/item_conditions", "minProperties": 1}


def _item_filters() -> list[dict[str, Any]]:
    """Return both ways to say which items stay."""
    operands = [
        {
            "if": {"properties": {"operator": {"enum": words_of(name)}}},
            "then": {
                "properties": {"operand": operand_of(name)},
                **({} if name == "equals" else {"required": ["operand"]}),
            },
        }
        for name in OPERATORS
    ]
    compared = _form(
        {"item_property": PATH, "operator": {"$ref": "#/$defs/operator_name"}, "operand": True},
        ("item_property", "operator"),
        allOf=operands,
    )
    match = _match("What an item that stays satisfies.")
    return [_form({"match": match}, ("match",)), compared]


def _redactions() -> list[dict[str, Any]]:
    several = {"type": "array", "minItems": 1, "maxItems": CONDITION_LIST_MAX, "items": _TARGET}
    shape = {"anyOf": [_TARGET, several]}
    return [_form({name: shape}, (name,)) for name in ("parameters", "parameter")]


_RENAME: Final = _form(
    {"new_event_name": text(EVENT_NAME_CHARS_MAX, **{"not": {"const": "*"}})}, ("new_event_name",)
)

_COOKIE: Final = _form(
    {
        "cookie_name": {"type": "string", "pattern": _COOKIE_NAME},
        "cookie_value": {"type": ["string", "number", "boolean"]},
        "expiry_minutes": {
            "type": ["integer", "null"],
            "minimum": 1,
            "maximum": COOKIE_EXPIRY_MINUTES_MAX,
            "default": COOKIE_EXPIRY_MINUTES_DEFAULT,
        },
    },
    ("cookie_name", "cookie_value"),
)

_RETURNED: Final = _form(
    {
        "key": text(64),
        "value": {**_ANY, "description": f"At most {RETURN_VALUE_BYTES_MAX} bytes of JSON."},
    },
    ("key", "value"),
)

_ITEM_PROPERTY: Final = {**PATH, "description": "A path inside the item; never x-ga-* or x-sst-*."}
_MATCHES: Final = {"match": or_null(_match("Which items change; all of them without it."))}

_SAMPLE: Final = _form(
    {
        "percent": {"type": "number", "minimum": 0, "maximum": 100},
        "by": or_null({**PATH, "description": "client_id, else user_id, by default."}),
        "salt": or_null(text(SAMPLE_SALT_CHARS_MAX)),
    },
    ("percent",),
)

EVENT_ACTIONS: Final[dict[str, list[dict[str, Any]]]] = {
    "rename_event": [_RENAME],
    "modify_parameter": _computations("parameter", _TARGET),
    "filter_items": _item_filters(),
    "map_items": _computations("item_property", _ITEM_PROPERTY, _MATCHES),
    "redact": _redactions(),
    "sample": [_SAMPLE],
    "drop_event": [_form({})],
}

PERSONALIZATION_ACTIONS: Final[dict[str, list[dict[str, Any]]]] = {
    "set_client_cookie": [_COOKIE],
    "set_cookie": [_COOKIE],
    "return_value": [_RETURNED],
    "set_state": [_form({"updates_user_state": STATE_CHANGES}, ("updates_user_state",))],
    **{type_: [_form(fields, required)] for type_, (fields, required) in OUTBOX_ACTIONS.items()},
}
