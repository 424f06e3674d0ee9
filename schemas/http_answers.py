"""The bodies that the four functions answer, as components of the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from schemas.http_requests import ref
from schemas.shapes import Shape
from tagstitch.core.event_action import EventAction
from tagstitch.core.lookup import LookupReason
from tagstitch.core.personalization import PersonalizationReason
from tagstitch.core.rule_trace import RuleReason
from tagstitch.pipeline.sweep import RulesOutcome

_ANY_OBJECT: Final[Shape] = {"type": "object"}


def answer_components() -> dict[str, Shape]:
    """Return name -> schema of what a function answers."""
    found = {"type": "boolean"}
    profile_id = {"type": ["string", "null"]}
    lookup_reasons = get_args(LookupReason)
    degraded = {
        "type": "array",
        "items": {"enum": ["profile", "rules", "state", "audit", "stitch"]},
        "description": "What did not answer; docs/reasons.md explains each word.",
    }
    decision = {
        "decision_id": {"type": "string"},
        "rules_version": {"type": ["string", "null"], "pattern": "^sha256:"},
        "degraded": ref("Degraded"),
    }
    status = {"status": {"enum": ["success", "degraded"]}}
    modifications = {"type": "array", "items": ref("Modification")}
    actions = {"type": "array", "items": ref("Action")}
    personalization_reason = {"enum": list(get_args(PersonalizationReason))}
    attributes = {"profile_id": profile_id, "attributes": _ANY_OBJECT}
    return {
        "Degraded": degraded,
        "LookupAnswer": _object_of(
            {
                "found": found,
                **attributes,
                "view": {"type": "string"},
                "reason": {"enum": list(lookup_reasons)},
                "request_id": {"type": "string"},
                "degraded": ref("Degraded"),
            }
        ),
        "AcceptedLookup": _object_of(
            {"request_id": {"type": "string"}, "status": {"const": "accepted"}}
        ),
        "ActivationAnswer": _object_of(
            {
                "data": {
                    "description": "The view's name -> each of its attributes, null where nothing"
                    " is known.",
                    "type": "object",
                    "additionalProperties": _ANY_OBJECT,
                    "minProperties": 1,
                    "maxProperties": 1,
                },
                "found": found,
                "reason": {"enum": [r for r in lookup_reasons if r != "MERGE_PENDING"]},
                "request_id": {"type": "string"},
                "degraded": ref("Degraded"),
            }
        ),
        "Decision": _object_of(
            {
                **decision,
                "event": _object_of(
                    {
                        "drop": {"type": "boolean"},
                        "rename": {"type": ["string", "null"]},
                        "set": _ANY_OBJECT,
                        "unset": {"type": "array", "items": {"type": "string"}},
                        "modifications": modifications,
                    }
                ),
                "personalization": _object_of(
                    {
                        "reason": personalization_reason,
                        "variants": {
                            "type": "object",
                            "additionalProperties": {"type": "string"},
                        },
                        "actions": actions,
                    }
                ),
                "profile": _object_of({"found": found, **attributes}),
                "trace": ref("Trace"),
            },
            optional=("event", "personalization", "profile", "trace"),
        ),
        "EventDecision": _object_of(
            {
                **status,
                "original_event_name": {"type": "string"},
                "resolved_event_payload": _ANY_OBJECT,
                "applied_modifications": modifications,
                "drop_event": {"type": "boolean"},
                **decision,
            }
        ),
        "PersonalizationDecision": _object_of(
            {
                **status,
                "user_id": {"type": ["string", "null"]},
                "triggered_actions": actions,
                "reason": personalization_reason,
                **decision,
            }
        ),
        "Modification": _modification(),
        "Action": _action(),
        "Trace": _trace(),
        "Swept": _object_of(
            {
                **{name: _count(what) for name, what in _SWEPT.items()},
                "rules": {"enum": list(get_args(RulesOutcome))},
            }
        ),
        "Error": _object_of(
            {
                "error": _object_of(
                    {
                        "code": {"type": "string"},
                        "message": {"type": "string"},
                        "path": {"type": "string", "examples": ["items[3].price"]},
                        "hint": {"type": "string"},
                        "error_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
                    },
                    optional=("path", "hint"),
                )
            }
        ),
    }


_SWEPT: Final[Mapping[str, str]] = {
    "records": "Audit records that were published again.",
    "actions": "Outbox entries that were handed over again.",
    "erasures": "Erasures that were gone through again.",
}


def _count(description: str) -> Shape:
    return {"type": "integer", "minimum": 0, "description": description}


def _modification() -> Shape:
    changed: Shape = {"type": "array", "items": _ANY_OBJECT}
    return _object_of(
        {
            "rule_id": {"type": "string"},
            "type": {
                "enum": sorted({action.type for action in get_args(EventAction)}),
            },
            "parameter": {"type": "string"},
            "old_value": True,
            "new_value": True,
            "old_name": {"type": "string"},
            "new_name": {"type": "string"},
            "item_property": {"type": "string"},
            "changed_items": changed,
            "removed_items": {
                "type": "array",
                "items": {"type": ["string", "integer"]},
                "description": "Ids of items, or their places.",
            },
        },
        optional=(
            "parameter", "old_value", "new_value", "old_name", "new_name", "item_property",
            "changed_items", "removed_items",
        ),
    )  # fmt: skip


def _action() -> Shape:
    rule_id = {"rule_id": {"type": "string"}}
    cookie = {
        "type": {"const": "set_cookie"},
        "name": {"type": "string"},
        "value": {"type": "string"},
        "expiry_minutes": {"type": "integer", "minimum": 1},
    }
    value = {"type": {"const": "value"}, "key": {"type": "string"}, "value": True}
    return {"oneOf": [_object_of({**rule_id, **cookie}), _object_of({**rule_id, **value})]}


def _trace() -> Shape:
    """Return the trace; conditions and gates are for people, and may grow."""
    line = {
        "type": "object",
        "properties": {
            "rule_id": {"type": "string"},
            "applied": {"type": "boolean"},
            "reason": {"enum": list(get_args(RuleReason))},
        },
        "required": ["rule_id", "applied", "reason", "conditions"],
    }
    experiment = {
        "type": "object",
        "required": ["experiment_id", "version", "variant", "reason", "gate", "conditions"],
    }
    lines = {"type": "array", "items": line}
    return _object_of(
        {
            "event": lines,
            "personalization": lines,
            "experiments": {"type": "array", "items": experiment},
        },
        optional=("event", "personalization"),
    )


def health(function: str) -> Shape:
    """Return the answer of a function's `/health`."""
    answer = {
        "status": {
            "enum": ["ok", "loading", "stale"] if function == "decide" else ["ok", "loading"]
        },
        "function": {"const": function},
        "version": {"type": "string"},
    }
    if function != "decide":
        return _object_of(answer)
    rules = {
        "version": {"type": ["string", "null"], "pattern": "^sha256:"},
        "loaded_at": {"type": ["string", "null"], "format": "date-time"},
        "count": _count("Rules in force."),
        "broken": _count("Rules that are left out."),
    }
    return _object_of({**answer, "rules": _object_of(rules)})


def _object_of(properties: Mapping[str, Any], *, optional: tuple[str, ...] = ()) -> Shape:
    """Return an object of exactly these properties; those that are not optional are there."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }
