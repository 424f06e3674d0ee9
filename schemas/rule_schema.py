"""Rule files, as `cli/rule_files.py` and `core/rule.py` read them."""

from __future__ import annotations

from typing import Any, Final

from schemas.action_schema import (
    EVENT_ACTIONS,
    PERSONALIZATION_ACTIONS,
    STATE_CHANGES,
    action_definitions,
    take_actions_shape,
)
from schemas.condition_schema import condition_definitions
from schemas.shapes import or_null, text
from tagstitch.core.event import EVENT_NAME_CHARS_MAX
from tagstitch.core.limits import (
    CONSENT_PURPOSES_MAX,
    INTEGER_ABS_MAX,
    RULE_EVENT_NAMES_MAX,
)
from tagstitch.core.rule import PRIORITY_DEFAULT

_KINDS: Final = ("event", "personalization")

_COLLECTIONS: Final = {
    "event_rules": "event_rule",
    "personalization_rules": "personalization_rule",
    "audiences": "audience",
}

_OFF: Final[dict[str, Any]] = {"enum": [None, False]}

_RESTRICTING: Final = ("schedule", "frequency_cap", "rollout", "shadow", "chain")
_FOREIGN: Final = ("consent", "purposes", "updates_user_state")

_PURPOSE: Final = {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_.-]{0,63}$"}
_PURPOSES: Final[dict[str, Any]] = {
    "anyOf": [
        _PURPOSE,
        {"type": "array", "minItems": 1, "maxItems": CONSENT_PURPOSES_MAX, "items": _PURPOSE},
    ]
}


def rule_schema() -> dict[str, Any]:
    """Return the schema of a rule file; `$defs` has those of one rule of each kind."""
    return {
        "title": "Rule file",
        "description": "One rule, a list of rules, or {event_rules, personalization_rules, audiences}, in YAML"
        " or JSON. `tagstitch rules validate` also checks what a schema cannot: paths, regular"
        " expressions, the order of bounds, how deep things are nested.",
        "if": {"type": "array"},
        "then": {"items": {"$ref": "#/$defs/rule"}},
        "else": {
            "type": "object",
            "if": {"anyOf": [{"required": [name]} for name in _COLLECTIONS]},
            "then": {
                "properties": {
                    name: _collection(definition) for name, definition in _COLLECTIONS.items()
                },
                "additionalProperties": False,
            },
            "else": {"$ref": "#/$defs/rule"},
        },
        "$defs": {
            "rule": {"anyOf": [{"$ref": f"#/$defs/{kind}_rule"} for kind in _KINDS]},
            "event_rule": _event_rule(),
            "personalization_rule": _personalization_rule(),
            **condition_definitions(),
            **action_definitions(),
        },
    }


def _collection(definition: str) -> dict[str, Any]:
    shape = {"$ref": f"#/$defs/{definition}"}
    return {
        "description": "Id -> definition, or a list of definitions with a rule_id each.",
        "type": ["object", "array", "null"],
        "additionalProperties": shape,
        "items": shape,
    }


def _event_rule() -> dict[str, Any]:
    actions = take_actions_shape("event", EVENT_ACTIONS)
    rule = _common(actions)
    rule["properties"] |= dict.fromkeys(_FOREIGN, _OFF)
    rule["anyOf"] = _ways_to_act()
    return rule


def _personalization_rule() -> dict[str, Any]:
    actions = take_actions_shape("personalization", PERSONALIZATION_ACTIONS)
    rule = _common(actions)
    rule["properties"] |= {
        "updates_user_state": or_null(STATE_CHANGES),
        "purposes": or_null(
            {
                **_PURPOSES,
                "description": "The purposes that the visitor must allow; ad_personalization by"
                " default.",
            }
        ),
        "consent": or_null(
            {
                "type": "object",
                "properties": {"purpose": _PURPOSES, "purposes": _PURPOSES},
                "additionalProperties": False,
                "minProperties": 1,
                "maxProperties": 1,
            }
        ),
    }
    rule["anyOf"] = [*_ways_to_act(), _is_there("updates_user_state", "object")]
    given = [{"not": _is_there(field, "null")} for field in ("purposes", "consent")]
    both = [{"required": ["purposes", "consent"]}, *given]
    rule["not"] = {"allOf": both, "description": "Either purposes or consent."}
    return rule


def _ways_to_act() -> list[dict[str, Any]]:
    return [_is_there("action_type", "string"), _is_there("actions", "array")]


def _is_there(field: str, type_: str) -> dict[str, Any]:
    return {"required": [field], "properties": {field: {"type": type_}}}


def _common(actions: dict[str, Any]) -> dict[str, Any]:
    """Return what all rules have."""
    name = text(EVENT_NAME_CHARS_MAX)
    names = {
        "description": "The events that the rule is for: a name, a list of names, or *.",
        "anyOf": [
            name,
            {"type": "array", "minItems": 1, "maxItems": RULE_EVENT_NAMES_MAX, "items": name},
        ],
    }
    return {
        "type": "object",
        "properties": {
            "rule_id": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$"},
            "description": True,
            "owner": True,
            "tags": True,
            "target_event_name": names,
            "event_name_trigger": names,
            "conditions": or_null({"$ref": "#/$defs/conditions"}),
            "match_all": {
                "type": ["boolean", "null"],
                "description": "Says that a rule without conditions is meant for every such event.",
            },
            "priority": {
                "type": ["integer", "null"],
                "minimum": -INTEGER_ABS_MAX,
                "maximum": INTEGER_ABS_MAX,
                "default": PRIORITY_DEFAULT,
                "description": "The lowest is evaluated first.",
            },
            "is_active": {"type": ["boolean", "null"], "default": True},
            "stop_on_match": {"type": ["boolean", "null"], "default": False},
            **dict.fromkeys(_RESTRICTING, _OFF),
            **actions["properties"],
        },
        "oneOf": [{"required": ["target_event_name"]}, {"required": ["event_name_trigger"]}],
        "allOf": [*actions["allOf"], _some_condition()],
    }


def _some_condition() -> dict[str, Any]:
    """Return that a rule has conditions, or says that it needs none."""
    return {
        "anyOf": [
            {
                "required": ["conditions"],
                "properties": {"conditions": {"type": "object", "minProperties": 1}},
            },
            {"required": ["match_all"], "properties": {"match_all": {"const": True}}},
        ]
    }
