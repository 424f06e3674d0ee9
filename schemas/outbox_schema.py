"""Actions that leave through the outbox, as `core/outbox_action_parsing.py` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from schemas.condition_schema import PATH
from schemas.shapes import or_null
from tagstitch.core.limits import OUTBOX_FIELDS_MAX, PATH_CHARS_MAX, TEMPLATE_CHARS_MAX
from tagstitch.core.outbox_entry import OncePer
from tagstitch.core.written_value import FIELD_PATTERN, NAME_PATTERN

_NAME: Final[dict[str, Any]] = {"type": "string", "pattern": f"^{NAME_PATTERN}$"}

_PROFILE_PATH: Final[dict[str, Any]] = {
    "description": "A path of the profile, looked up when the entry is sent.",
    "type": "string",
    "maxLength": PATH_CHARS_MAX,
    "pattern": r"^profile[.\[]",
}

_FIELDS: Final[dict[str, Any]] = {
    "description": "Name -> a value, a text with ${path} in it, or {from: path}.",
    "type": "object",
    "minProperties": 1,
    "maxProperties": OUTBOX_FIELDS_MAX,
    "propertyNames": {"pattern": f"^{FIELD_PATTERN}$"},
    "additionalProperties": {
        "anyOf": [
            {"type": "string", "maxLength": TEMPLATE_CHARS_MAX},
            {"type": ["number", "boolean"]},
            {
                "type": "object",
                "properties": {"from": PATH},
                "required": ["from"],
                "additionalProperties": False,
            },
        ]
    },
}

_ONCE_PER: Final[dict[str, Any]] = {
    "description": "How often at most, for one visitor, by UTC; by default once a decision.",
    "enum": [*get_args(OncePer), None],
}

_EMAIL: Final[Mapping[str, Any]] = {
    "template_id": _NAME,
    "recipient": _PROFILE_PATH,
    "data": or_null(_FIELDS),
    "once_per": _ONCE_PER,
}

OUTBOX_ACTIONS: Final[Mapping[str, tuple[Mapping[str, Any], tuple[str, ...]]]] = {
    "send_email": (_EMAIL, ("template_id", "recipient")),
    "send_marketing_email": (_EMAIL, ("template_id", "recipient")),
    "update_crm": (
        {"object": _NAME, "external_id": _PROFILE_PATH, "fields": _FIELDS, "once_per": _ONCE_PER},
        ("object", "external_id", "fields"),
    ),
    "webhook": (
        {"endpoint": _NAME, "body": or_null(_FIELDS), "once_per": _ONCE_PER},
        ("endpoint",),
    ),
    "push_message": (
        {"channel": _NAME, "payload": _FIELDS, "once_per": _ONCE_PER},
        ("channel", "payload"),
    ),
}
"""Type -> its fields, and those that must be there."""
