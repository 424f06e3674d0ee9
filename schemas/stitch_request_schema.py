"""The message of topic `stitch-requests`, as `core/stitch_request.py` reads it."""

from __future__ import annotations

from typing import Any

from schemas.shapes import identifier_type, identifier_value, or_null, text, time
from tagstitch.core.event import EVENT_NAME_CHARS_MAX
from tagstitch.core.hops import HOPS_MAX
from tagstitch.core.identifier import IDENTIFIER_TYPES
from tagstitch.core.limits import (
    CONTEXT_BYTES_MAX,
    EVENT_PARAMETERS_MAX,
    IDENTIFIER_VALUE_CHARS_MAX,
    IDENTIFIERS_PER_REQUEST_MAX,
    PREVIEW_HEADER_BYTES_MAX,
    REQUEST_ID_CHARS_MAX,
)
from tagstitch.core.message_version import MESSAGE_VERSION
from tagstitch.core.stitch_request import MESSAGE_TYPE

_NAME_CHARS_MAX = 256


def stitch_request_schema() -> dict[str, Any]:
    """Return the schema of one message."""
    return {
        "title": "Stitch request",
        "description": "A message of the topic stitch-requests. Anyone with publish rights may"
        " send it. An invalid one goes to the topic dead-letter with its reason. Fields that are"
        " not listed are ignored.",
        "type": "object",
        "properties": {
            "v": {"const": MESSAGE_VERSION, "default": MESSAGE_VERSION},
            "type": {"const": MESSAGE_TYPE, "default": MESSAGE_TYPE},
            "request_id": or_null(
                {
                    "type": "string",
                    "pattern": rf"^[A-Za-z0-9_:@=+~-]{{1,{REQUEST_ID_CHARS_MAX}}}$",
                    "description": "The idempotency key; the message id by default. The same id"
                    " with another body becomes a dead letter.",
                }
            ),
            "identifiers": {"$ref": "#/$defs/identifiers"},
            "id": {
                "description": "An identifier of unknown type: it finds a profile and never"
                " creates or links one.",
                "type": ["string", "integer", "null"],
                "minLength": 1,
                "maxLength": IDENTIFIER_VALUE_CHARS_MAX,
                "pattern": r"^(?=[\s\S]*\S)[^\u0000-\u001f\u007f]*$",
            },
            "asserted": {
                "type": "boolean",
                "default": True,
                "description": "Whether the identifiers were authenticated. Without it only the"
                " client_id selects and links.",
            },
            "event": or_null({"$ref": "#/$defs/event"}),
            "event_id": or_null(text(_NAME_CHARS_MAX, description="The request id by default.")),
            "view": or_null(text(_NAME_CHARS_MAX, default="default")),
            "callback": or_null(
                text(
                    _NAME_CHARS_MAX,
                    description="The id of a registered endpoint, never a URL. Without it nothing"
                    " is posted.",
                )
            ),
            "context": or_null(
                {
                    "type": "object",
                    "description": f"Echoed on the callback; at most {CONTEXT_BYTES_MAX} bytes.",
                }
            ),
            "consent": or_null(
                {
                    "type": "object",
                    "description": "Purpose -> true, false, granted or denied; anything else is a"
                    " denial.",
                }
            ),
            "occurred_at": or_null(time("The publish time by default.")),
            "expires_at": or_null(
                time(
                    "When the result is of no use any more, ten minutes after publishing by"
                    " default; the link is made even later."
                )
            ),
            "preview": or_null(
                text(
                    PREVIEW_HEADER_BYTES_MAX,
                    pattern=r"^[\u0020-\u007e]*$",
                    description="sGTM's preview header, sent on with the callback.",
                )
            ),
            "hops": or_null(
                {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": HOPS_MAX,
                    "description": "How many callbacks led to this request: what a callback sets"
                    " off passes on the number of its header x-tagstitch-hops. Beyond the maximum"
                    " it is refused, so that a loop ends.",
                }
            ),
            "caller": or_null(
                text(
                    _NAME_CHARS_MAX,
                    description="Whose request id it is: stitch_sync writes the id of the key that"
                    " asked. Publishers leave it out.",
                )
            ),
        },
        "anyOf": [
            {
                "required": ["identifiers"],
                "properties": {
                    "identifiers": {
                        "type": ["object", "array"],
                        "minProperties": 1,
                        "minItems": 1,
                    }
                },
            },
            {"required": ["id"], "properties": {"id": {"type": ["string", "integer"]}}},
        ],
        "$defs": {"identifiers": _identifiers(), "event": _event()},
    }


def _identifiers() -> dict[str, Any]:
    """Return both forms: a list of type and value, or an object from type to value."""
    return {
        "type": ["array", "object", "null"],
        "maxItems": IDENTIFIERS_PER_REQUEST_MAX,
        "items": {
            "type": "object",
            "properties": {"type": identifier_type(), "value": identifier_value()},
            "required": ["type", "value"],
        },
        "properties": {type_: identifier_value() for type_ in IDENTIFIER_TYPES},
        "additionalProperties": False,
        "examples": [[{"type": "client_id", "value": "1294673677.1747154479"}]],
    }


def _event() -> dict[str, Any]:
    return {
        "description": "An event as sGTM's getAllEventData() gives it.",
        "type": "object",
        "maxProperties": EVENT_PARAMETERS_MAX,
        "properties": {"event_name": text(EVENT_NAME_CHARS_MAX)},
        "required": ["event_name"],
    }
