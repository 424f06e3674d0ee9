"""Experiments, as `core/experiment_parsing.py` reads them."""

from __future__ import annotations

from typing import Any, Final

from schemas.condition_schema import condition_definitions
from schemas.gate_schema import schedule_schema
from schemas.shapes import (
    CONSENT_TO_PURPOSES,
    ID_PATTERN,
    PURPOSES,
    either_purposes_or_consent,
    or_null,
    text,
)
from schemas.targeting_shapes import event_names
from tagstitch.core.assignment import HASH_VERSIONS
from tagstitch.core.experiment_parsing import ACTING, DESCRIPTIVE, RESTRICTING
from tagstitch.core.limits import (
    EXPERIMENT_FORCED_MAX,
    EXPERIMENT_NAME_CHARS_MAX,
    EXPERIMENT_VARIANTS_MAX,
    INTEGER_ABS_MAX,
    RETURN_VALUE_BYTES_MAX,
)

_OFF: Final[dict[str, Any]] = {"enum": [None, False]}
_FLAG: Final[dict[str, Any]] = {"type": ["boolean", "null"]}
_SHARE: Final[dict[str, Any]] = {"type": "number", "minimum": 0, "maximum": 1}
_NAME: Final = text(EXPERIMENT_NAME_CHARS_MAX)
_SOME_CONDITIONS: Final[dict[str, Any]] = {"$ref": "#/$defs/conditions", "minProperties": 1}


def experiment_schema() -> dict[str, Any]:
    """Return the schema of one experiment."""
    return {
        "title": "Experiment",
        "description": "One experiment, in YAML or JSON. `tagstitch rules validate` also checks"
        " what a schema cannot: that weights add up to 1, that names are different and known, the"
        " order of bounds.",
        "$ref": "#/$defs/experiment",
        "$defs": {"experiment": experiment_definition(), **condition_definitions()},
    }


def experiment_definition() -> dict[str, Any]:
    """Return the shape of one experiment; it refers to the definition of conditions."""
    names = event_names("The events on which visitors are assigned: a name, a list of names, or *.")
    return {
        "type": "object",
        "required": ["variants"],
        "properties": {
            "experiment_id": {"type": "string", "pattern": ID_PATTERN},
            **dict.fromkeys(DESCRIPTIVE, True),
            "target_event_name": names,
            "event_name_trigger": names,
            "conditions": or_null(
                {
                    "description": "Who may enter; everybody without them.",
                    "$ref": "#/$defs/conditions",
                }
            ),
            "match_all": _FLAG,
            "variants": _variants(),
            **_split_properties(),
            "forced": or_null(_forced()),
            "sticky": {
                **_FLAG,
                "default": False,
                "description": "Whether a visitor keeps a variant when weights or versions change.",
            },
            "is_active": {**_FLAG, "default": True},
            "purposes": or_null(PURPOSES),
            "schedule": or_null(schedule_schema()),
            "consent": or_null(CONSENT_TO_PURPOSES),
            **dict.fromkeys((*RESTRICTING, *ACTING, "weights"), _OFF),
        },
        "oneOf": [{"required": ["target_event_name"]}, {"required": ["event_name_trigger"]}],
        "not": either_purposes_or_consent(),
    }


def _split_properties() -> dict[str, Any]:
    return {
        "coverage": {
            **or_null(_SHARE),
            "default": 1,
            "description": "The share of visitors who take part.",
        },
        "version": {
            "type": ["integer", "null"],
            "minimum": 1,
            "maximum": INTEGER_ABS_MAX,
            "default": 1,
            "description": "To be raised when weights change: each version is analysed alone.",
        },
        "hash_version": {"enum": [*HASH_VERSIONS, None], "default": HASH_VERSIONS[-1]},
        "seed": {**or_null(_NAME), "description": "The experiment's id by default."},
        "namespace": or_null(
            {
                "description": "Experiments with ranges that do not overlap exclude each other.",
                **_object({"id": _NAME, "range": _pair()}),
            }
        ),
        "holdout": or_null(
            {
                "description": "A share of visitors kept out of every experiment that names it.",
                **_object(
                    {"id": _NAME, "percent": {"type": "number", "minimum": 0, "maximum": 100}}
                ),
            }
        ),
    }


def _variants() -> dict[str, Any]:
    """Return both forms; either every variant has a weight or none has."""
    weighed = {"required": ["weight"], "properties": {"weight": _SHARE}}
    unweighed = {"properties": {"weight": {"type": "null"}}}
    return {
        "description": "A list of variants, or name -> weight. Weights add up to 1; without them"
        " all are equal.",
        "type": ["array", "object"],
        "minItems": 2,
        "maxItems": EXPERIMENT_VARIANTS_MAX,
        "minProperties": 2,
        "maxProperties": EXPERIMENT_VARIANTS_MAX,
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": _NAME,
                "weight": or_null(_SHARE),
                "value": {
                    "description": "What the page is to use; at most"
                    f" {RETURN_VALUE_BYTES_MAX} bytes."
                },
            },
            "additionalProperties": False,
        },
        "propertyNames": _NAME,
        "anyOf": [
            {"items": weighed, "additionalProperties": _SHARE},
            {"items": unweighed, "additionalProperties": {"type": "null"}},
        ],
    }


def _forced() -> dict[str, Any]:
    return {
        "description": "For testing: the first entry whose conditions hold gives the variant, and"
        " no exposure is recorded.",
        "type": "array",
        "minItems": 1,
        "maxItems": EXPERIMENT_FORCED_MAX,
        "items": _object({"variant": {"type": "string"}, "conditions": _SOME_CONDITIONS}),
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [*properties],
        "properties": properties,
        "additionalProperties": False,
    }


def _pair() -> dict[str, Any]:
    return {
        "description": "[low, high]: the lower bound is in, the upper is not.",
        "type": "array",
        "items": _SHARE,
        "minItems": 2,
        "maxItems": 2,
    }
