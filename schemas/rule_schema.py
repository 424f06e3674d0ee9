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
from schemas.experiment_schema import experiment_definition
from schemas.gate_schema import frequency_cap_schema, rollout_schema, schedule_schema
from schemas.shapes import ID_PATTERN, either_purposes_or_consent, or_null
from schemas.targeting_shapes import event_names
from schemas.trait_schema import trait_definitions
from tagstitch.core.limits import INTEGER_ABS_MAX
from tagstitch.core.rule import PRIORITY_DEFAULT
from tagstitch.core.trait_parsing import NAME_PATTERN

_COLLECTIONS: Final = {
    "event_rules": "event_rule",
    "personalization_rules": "personalization_rule",
    "experiments": "experiment",
    "audiences": "audience",
    "traits": "trait",
}
"""Top key of a file -> the shape of one entry."""

_ALONE: Final = ("event_rule", "personalization_rule", "experiment", "trait")
"""What a file without top keys may hold; an audience looks like a rule that lost its action."""

_OFF: Final[dict[str, Any]] = {"enum": [None, False]}

_PURPOSES_DEFAULT: Final = (
    "The purposes that the visitor must allow; ad_personalization by default."
)


def rule_schema() -> dict[str, Any]:
    """Return the schema of a rule file; `$defs` has those of one rule of each kind."""
    return {
        "title": "Rule file",
        "description": "One definition, a list of them, or {event_rules, personalization_rules,"
        " experiments, audiences, traits}, in YAML or JSON. `tagstitch rules validate` also checks what a"
        " schema cannot: paths, regular expressions, the order of bounds, how deep things are"
        " nested.",
        "if": {"type": "array"},
        "then": {"items": {"$ref": "#/$defs/rule"}},
        "else": {
            "type": "object",
            "if": {"anyOf": [{"required": [name]} for name in _COLLECTIONS]},
            "then": {
                "properties": {name: _collection(kind) for name, kind in _COLLECTIONS.items()},
                "additionalProperties": False,
            },
            "else": {"$ref": "#/$defs/rule"},
        },
        "$defs": {
            "rule": {"anyOf": [{"$ref": f"#/$defs/{kind}"} for kind in _ALONE]},
            "event_rule": _event_rule(),
            "personalization_rule": _personalization_rule(),
            "experiment": experiment_definition(),
            **trait_definitions(),
            **condition_definitions(),
            **action_definitions(),
        },
    }


def _collection(kind: str) -> dict[str, Any]:
    entry = {"$ref": f"#/$defs/{kind}"}
    names = {"propertyNames": {"pattern": f"^{NAME_PATTERN}$"}} if kind == "trait" else {}
    return names | {
        "description": "Id -> definition, or a list of definitions with an id each.",
        "type": ["object", "array", "null"],
        "additionalProperties": entry,
        "items": entry,
    }


def _event_rule() -> dict[str, Any]:
    actions = take_actions_shape("event", EVENT_ACTIONS)
    rule = _common(actions)
    rule["properties"] |= {
        "updates_user_state": _OFF,
        "chain": {"type": ["boolean", "null"], "description": "Conditions see earlier changes."},
    }
    rule["anyOf"] = _ways_to_act()
    return rule


def _personalization_rule() -> dict[str, Any]:
    actions = take_actions_shape("personalization", PERSONALIZATION_ACTIONS)
    rule = _common(actions)
    rule["properties"] |= {
        "updates_user_state": or_null(STATE_CHANGES),
        "chain": _OFF,
    }
    rule["properties"]["purposes"] = or_null(
        {"$ref": "#/$defs/purposes", "description": _PURPOSES_DEFAULT}
    )
    rule["anyOf"] = [*_ways_to_act(), _is_there("updates_user_state", "object")]
    return rule


def _ways_to_act() -> list[dict[str, Any]]:
    return [_is_there("action_type", "string"), _is_there("actions", "array")]


def _is_there(field: str, type_: str) -> dict[str, Any]:
    return {"required": [field], "properties": {field: {"type": type_}}}


def _common(actions: dict[str, Any]) -> dict[str, Any]:
    """Return what all rules have."""
    names = event_names("The events that the rule is for: a name, a list of names, or *.")
    return {
        "type": "object",
        "properties": {
            "rule_id": {"type": "string", "pattern": ID_PATTERN},
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
            "schedule": or_null(schedule_schema()),
            "rollout": or_null(rollout_schema()),
            "frequency_cap": or_null(frequency_cap_schema()),
            "shadow": {
                "type": ["boolean", "null"],
                "default": False,
                "description": "Evaluated and recorded, never applied.",
            },
            "purposes": or_null({"$ref": "#/$defs/purposes"}),
            "consent": or_null({"$ref": "#/$defs/consent_to_purposes"}),
            **actions["properties"],
        },
        "not": either_purposes_or_consent(),
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
