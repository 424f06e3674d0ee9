"""Gates of rules: `schedule`, `frequency_cap` and `rollout`, as the parsers in `core` read them."""

from __future__ import annotations

from typing import Any, Final

from schemas.condition_schema import PATH
from schemas.shapes import Shape, or_null, text
from tagstitch.core.frequency_cap import CALENDAR_UNITS, GROUP_PATTERN, WITHIN_PATTERN
from tagstitch.core.limits import (
    CAP_MAX_MAX,
    CAPS_PER_RULE_MAX,
    SALT_CHARS_MAX,
    SCHEDULE_HOURS_MAX,
)
from tagstitch.core.rollout import BY_VISITOR
from tagstitch.core.schedule import DAYS, HOURS_PATTERN, TIME_PATTERN
from tagstitch.core.time_zone import TIME_ZONE_PATTERN

TIME_ZONE: Final[Shape] = {
    "type": "string",
    "pattern": f"^{TIME_ZONE_PATTERN}$",
    "description": "By its IANA name; UTC by default.",
    "examples": ["Europe/Berlin"],
}
_PERCENT: Final[Shape] = {
    "type": "number",
    "minimum": 0,
    "maximum": 100,
    "description": "In steps of 0.01; 0 includes nobody.",
}


def schedule_schema() -> Shape:
    """Return the shape of `schedule`."""
    time = {"type": "string", "pattern": f"^{TIME_PATTERN}$"}
    hours = {"type": "string", "pattern": f"^{HOURS_PATTERN}$", "examples": ["09:00-17:30"]}
    fields = {
        "from": {**time, "description": "A date or time; in time_zone unless it has an offset."},
        "until": {**time, "description": "Not included; a date alone includes that whole day."},
        "days": _one_or_several({"enum": list(DAYS)}, 7),
        "hours": {
            **_one_or_several(hours, SCHEDULE_HOURS_MAX),
            "description": "By the clock of time_zone. A range over midnight belongs to the day on"
            " which it starts.",
        },
    }
    return {
        "description": "When the rule is open.",
        "type": "object",
        "properties": {
            **{name: or_null(shape) for name, shape in fields.items()},
            "time_zone": or_null(TIME_ZONE),
        },
        "additionalProperties": False,
        "anyOf": [_is_given(name) for name in fields],
    }


def frequency_cap_schema() -> Shape:
    """Return the shape of `frequency_cap`."""
    return {
        **_one_or_several(_cap(), CAPS_PER_RULE_MAX),
        "description": "How often the rule may act for one visitor; all caps must allow it.",
    }


def _cap() -> Shape:
    within = {"type": "string", "pattern": f"^{WITHIN_PATTERN}$", "examples": ["24h", "7d"]}
    return {
        "type": "object",
        "properties": {
            "max": {"type": "integer", "minimum": 1, "maximum": CAP_MAX_MAX},
            "per": {
                "enum": [*CALENDAR_UNITS, None],
                "description": "By the calendar of time_zone; a week starts on Monday.",
            },
            "within": {
                **or_null(within),
                "description": "The last so many minutes, hours or days: 5 minutes to 366 days.",
            },
            "time_zone": or_null(TIME_ZONE),
            "group": {
                **or_null({"type": "string", "pattern": f"^{GROUP_PATTERN}$"}),
                "description": "Rules that name the same group share one count.",
            },
        },
        "required": ["max"],
        "additionalProperties": False,
        "not": {"allOf": [_is_given("per"), _is_given("within")]},
        "if": _is_given("time_zone"),
        "then": _is_given("per"),
    }


def rollout_schema() -> Shape:
    """Return the shape of `rollout`."""
    return {
        "description": "The stable share of visitors for whom the rule is in force.",
        "anyOf": [
            _PERCENT,
            {
                "type": "object",
                "properties": {
                    "percent": _PERCENT,
                    "salt": {
                        **or_null(text(SALT_CHARS_MAX)),
                        "description": "The rule's id by default.",
                    },
                    "by": {
                        **or_null(PATH),
                        "description": f"{BY_VISITOR}, or a path to another id.",
                        "default": BY_VISITOR,
                    },
                },
                "required": ["percent"],
                "additionalProperties": False,
            },
        ],
    }


def _one_or_several(shape: Shape, items_max: int) -> Shape:
    several = {"type": "array", "minItems": 1, "maxItems": items_max, "items": shape}
    return {"anyOf": [shape, several]}


def _is_given(field: str) -> dict[str, Any]:
    """Return that a field is there and not null."""
    return {"required": [field], "properties": {field: {"not": {"type": "null"}}}}
