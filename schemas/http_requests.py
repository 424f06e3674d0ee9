"""The bodies that the four functions take, as components of the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from schemas.audit_record_schema import audit_record_schema
from schemas.shapes import Shape, identifier_type, identifier_value, or_null, text
from schemas.stitch_request_schema import stitch_request_schema
from tagstitch.core.decide_request import PARTS
from tagstitch.core.limits import (
    CONSENT_PURPOSES_MAX,
    DEADLINE_MS_DEFAULT,
    DEADLINE_MS_MAX,
    DEADLINE_MS_MIN,
)

_MESSAGE: Final = stitch_request_schema()
_AUDIT: Final = audit_record_schema()
_COMPONENT_OF: Final[Mapping[str, str]] = {
    "identifiers": "Identifiers",
    "event": "Event",
    "record": "AuditRecord",
}
"""Definition in a message's schema -> component."""

NAME_CHARS_MAX: Final = 256
"""Characters of the name of a view or an endpoint."""

REQUEST_ID: Final[Shape] = {
    **_MESSAGE["properties"]["request_id"],
    "description": "An id of the caller's own. What changed something is not done twice under it"
    " within seven days, and another request under it is refused.",
}

_ONLY_ACCEPTED: Final = (
    "callback", "context", "event", "event_id", "occurred_at", "expires_at", "preview",
)  # fmt: skip
"""Fields of a lookup that are read with `mode: async` only."""


def ref(name: str) -> Shape:
    """Return a reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def request_components() -> dict[str, Shape]:
    """Return name -> schema of what a caller sends."""
    consent = or_null(
        {
            "type": "object",
            "maxProperties": CONSENT_PURPOSES_MAX,
            "propertyNames": {"pattern": "^[A-Za-z][A-Za-z0-9_.-]{0,63}$"},
            "description": "Purpose -> true, false, granted or denied; anything else is a denial.",
        }
    )
    shared = {
        "view": ref("ViewName"),
        "request_id": REQUEST_ID,
        "consent": consent,
        "deadline_ms": {
            "type": "number",
            "default": DEADLINE_MS_DEFAULT,
            "description": f"Milliseconds to answer in, cut to {DEADLINE_MS_MIN} to"
            f" {DEADLINE_MS_MAX}.",
        },
    }
    fields = {"type": ["array", "null"], "items": {"type": "string"}}
    fields["description"] = "The attributes wanted, of those that the view shows."
    visitor = {name: _MESSAGE["properties"][name] for name in ("id", "identifiers")}
    lookup = {**visitor, **shared, "fields": fields}
    later = {name: _MESSAGE["properties"][name] for name in _ONLY_ACCEPTED}
    event = {"event": ref("Event"), "include": _include(), "explain": {"type": "boolean"}}
    event["explain"]["description"] = "Adds trace; needs the scope explain."
    return _with_components(
        {
            "ViewName": or_null(
                text(NAME_CHARS_MAX, description="A declared view; default otherwise.")
            ),
            "Lookup": {
                "description": "Fields that are not listed are ignored, and with mode sync those"
                " of mode async.",
                "oneOf": [ref("SyncLookup"), ref("AsyncLookup")],
                "examples": [
                    {"identifiers": {"client_id": "1294673677.1747154479", "user_id": "u-1001"}}
                ],
            },
            "SyncLookup": {
                "type": "object",
                "properties": {**lookup, "mode": {"enum": ["sync", None]}},
                "anyOf": _MESSAGE["anyOf"],
            },
            "AsyncLookup": {
                "type": "object",
                "properties": {**lookup, **later, "mode": {"const": "async"}},
                "required": ["mode"],
                "anyOf": _MESSAGE["anyOf"],
            },
            "Activation": {
                "type": "object",
                "properties": {
                    "entity": {"const": "user"},
                    "id": {
                        "type": "object",
                        "properties": {"type": identifier_type(), "value": identifier_value()},
                        "required": ["type", "value"],
                    },
                    **shared,
                    "view": text(NAME_CHARS_MAX, description="A view that lists attributes."),
                },
                "required": ["entity", "id", "view"],
                "examples": [
                    {
                        "entity": "user",
                        "id": {
                            "type": "anonymous_id",
                            "value": "5f0c2a9e-3b1d-4c58-9a67-1e2d3c4b5a69",
                        },
                        "view": "features_by_anonymous_id",
                    }
                ],
            },
            "DecideRequest": {
                "type": "object",
                "properties": {**event, "fields": fields, **shared},
                "required": ["event"],
                "examples": [
                    {
                        "event": {
                            "event_name": "purchase",
                            "client_id": "1294673677.1747154479",
                            "value": 7.5,
                            "currency": "EUR",
                        },
                        "include": ["event", "personalization", "profile"],
                    }
                ],
            },
        }
    )


def _include() -> Shape:
    return {
        "type": ["array", "null"],
        "items": {"enum": sorted(PARTS)},
        "minItems": 1,
        "description": "Parts of the answer; event and personalization otherwise. The part profile"
        " needs the scope lookup.",
    }


def message_components() -> dict[str, Shape]:
    """Return what the topics carry; `schemas/*.schema.json` has the same for publishers."""
    parts = {
        _COMPONENT_OF[name]: shape
        for message in (_MESSAGE, _AUDIT)
        for name, shape in message["$defs"].items()
    }
    messages = {
        "StitchRequest": {name: part for name, part in _MESSAGE.items() if name != "$defs"},
        "AuditMessage": {name: part for name, part in _AUDIT.items() if name != "$defs"},
        "ActionMessage": {
            "description": "Names what outbox/{outbox_id} holds.",
            "type": "object",
            "properties": {"v": {"const": 1}, "outbox_id": {"type": "string"}},
            "required": ["outbox_id"],
        },
    }
    return _with_components({**parts, **messages})


def push_of(message: str | None) -> Shape:
    """Return the body of a push subscription whose messages have this schema, or any."""
    content = {"contentMediaType": "application/json", "contentSchema": ref(message or "")}
    data = {
        "type": "string",
        "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
        "contentEncoding": "base64",
        **(content if message else {}),
    }
    published = {
        "type": ["string", "null"],
        "description": "The time of arrival where it is no time.",
    }
    return {
        "type": "object",
        "properties": {
            "message": {
                "type": "object",
                "properties": {
                    "data": data,
                    "messageId": {"type": "string", "minLength": 1},
                    "publishTime": published,
                    "attributes": {
                        "type": "object",
                        "additionalProperties": {"type": "string"},
                    },
                },
                "required": ["messageId"],
            },
            "subscription": {"type": "string"},
            "deliveryAttempt": {"type": ["integer", "null"]},
        },
        "required": ["message"],
    }


def _with_components(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shapes with references to components in place of those to definitions."""
    written = json.dumps(shapes)
    for definition, component in _COMPONENT_OF.items():
        written = written.replace(f"#/$defs/{definition}", f"#/components/schemas/{component}")
    rewritten: dict[str, Shape] = json.loads(written)
    return rewritten
