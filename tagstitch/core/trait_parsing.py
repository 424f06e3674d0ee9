"""Reading the definition of a trait, with everything that is wrong with it at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, tzinfo
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec import structs

from tagstitch.core.compiled_condition import CompiledCondition, compile_condition
from tagstitch.core.condition import ALWAYS, Condition, parse_conditions
from tagstitch.core.consent import ANALYTICS_STORAGE
from tagstitch.core.definition import Definition
from tagstitch.core.errors import InvalidRule, Problem
from tagstitch.core.limits import (
    INTEGER_ABS_MAX,
    RULE_DEPTH_MAX,
    TRAIT_LIST_DEFAULT,
    TRAIT_LIST_MAX,
    TRAIT_NAME_CHARS_MAX,
    TRAIT_TALLY_DEFAULT,
    TRAIT_TALLY_MAX,
    TRAIT_VALUE_BYTES_MAX,
)
from tagstitch.core.operands import flag
from tagstitch.core.paths import Path, Quantifier, parse_path
from tagstitch.core.problems import Problems
from tagstitch.core.targeting import EVENT_WORDS, take_event_names, take_purposes
from tagstitch.core.time_zone import parse_time_zone
from tagstitch.core.trait import TraitDefinition
from tagstitch.core.trait_operations import OPERATIONS, Operation, Reads
from tagstitch.core.trait_scalars import scalar_of
from tagstitch.core.trait_terms import Terms
from tagstitch.core.trait_window import LIFETIME, PERIOD_UNITS, Window, parse_period, parse_window
from tagstitch.core.values import is_deeper

TRAIT_EVENT_WORDS: Final = ("event", *EVENT_WORDS)
DESCRIPTIVE: Final = ("description", "owner", "tags")

RESTRICTING: Final = ("schedule", "rollout", "frequency_cap", "shadow", "chain")
"""Fields that would make a trait count less: ignoring one would be worse."""

FILL: Final = "fill"
"""Kept for traits that a prediction fills where no event does. Refused until there is one: a
definition that is accepted and does nothing would pass for a prediction."""

LIMITS: Final[Mapping[str, tuple[int, int]]] = {
    "unique_list": (TRAIT_LIST_DEFAULT, TRAIT_LIST_MAX),
    "tally": (TRAIT_TALLY_DEFAULT, TRAIT_TALLY_MAX),
}
"""Operation -> its `limit` by default and at most; the others have none."""

UNITS: Final = {"seconds": 1, **PERIOD_UNITS}
UNIT_DEFAULT: Final = "days"

WITH_FIELD: Final[frozenset[Reads]] = frozenset(("number", "value", "element", "key", "constant"))

NAME_PATTERN: Final = rf"[A-Za-z][A-Za-z0-9_]{{0,{TRAIT_NAME_CHARS_MAX - 1}}}"
_NAME: Final = re.compile(NAME_PATTERN)

_QUANTIFIERS: Final[Mapping[Reads, Sequence[Quantifier]]] = {
    "number": ("$", "$count"),
    "element": ("$",),
    "key": ("$",),
}
OTHER_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "value": frozenset(("set", "set_once")),
    "limit": frozenset(LIMITS),
    "unit": frozenset(("time_since_first", "time_since_last")),
    "time_zone": frozenset(("hour_of_day", "day_of_week")),
}
"""Field -> the operations that it belongs to."""


def parse_trait(trait_id: object, raw: object, *, time_zone: str = "UTC") -> TraitDefinition:
    """Return the definition; raises InvalidRule with everything that is wrong with it.

    `time_zone` is the project's, for those that name none.
    """
    fields = _open(trait_id, raw)
    for word in DESCRIPTIVE:
        fields.take(word)
    name = fields.take_with(_operation_name, "operation", "")
    if not name and not fields.problems.found:
        fields.problems.add("operation", "is missing", "such as count")
    if not name:
        raise InvalidRule(str(trait_id), tuple(fields.problems.found))
    operation = OPERATIONS[name]
    event_names = take_event_names(fields, TRAIT_EVENT_WORDS)
    when = fields.take("when", "conditions")
    field, constant = _source(fields, name, operation)
    zone: tzinfo = UTC  # of the others, too: the project's must not make them count anew
    if name in OTHER_FIELDS["time_zone"]:
        zone_name = fields.take("time_zone") or time_zone
        zone = parse_time_zone(zone_name, "time_zone", fields.problems)
    definition = TraitDefinition(
        name=str(trait_id),
        event_names=event_names,
        condition=_condition(when, fields.place("when"), fields.problems),
        terms=_terms(fields, name, operation),
        field=field,
        constant=constant,
        time_zone=zone,
        purposes=take_purposes(fields, default=(ANALYTICS_STORAGE,)),
        is_active=fields.take_with(flag, "is_active", default=True),
    )
    _close(str(trait_id), name, fields)
    counted = [sorted(event_names), when, field and field.text, constant, str(zone)]
    return _with_digest(definition, counted)


def _open(trait_id: object, raw: object) -> Definition:
    text = None
    if not isinstance(trait_id, str) or not _NAME.fullmatch(trait_id):
        text = (
            f"a trait's name is a letter, then up to {TRAIT_NAME_CHARS_MAX - 1} letters, digits"
            " and underscores"
        )
    elif not isinstance(raw, Mapping):
        text = "a trait must be an object"
    elif is_deeper(raw, RULE_DEPTH_MAX):
        text = f"nested in more than {RULE_DEPTH_MAX} levels"
    if text is not None or not isinstance(raw, Mapping):
        raise InvalidRule(str(trait_id)[:TRAIT_NAME_CHARS_MAX], (Problem("", text or ""),))
    return Definition(raw, "", Problems())


def _close(trait_id: str, name: str, fields: Definition) -> None:
    fields.refuse((FILL,), "predictions are not made by this version: leave it out")
    fields.refuse(RESTRICTING, "is not evaluated here, so the trait would count too much")
    foreign = [field for field, owners in OTHER_FIELDS.items() if name not in owners]
    fields.refuse((*foreign, "field", "by"), f"does not belong to the operation {name}")
    fields.refuse_misspelt()
    if fields.problems.found:
        raise InvalidRule(trait_id, tuple(fields.problems.found))


def _operation_name(raw: Any, where: str, problems: Problems) -> str:
    if not isinstance(raw, str) or raw not in OPERATIONS:
        problems.add_unknown(where, "operation", raw, OPERATIONS)
        return ""
    return raw


def _condition(raw: object, where: str, problems: Problems) -> CompiledCondition:
    condition: Condition = ALWAYS
    if raw not in (None, {}):
        condition = parse_conditions(raw, where, problems)
    compiled = compile_condition(condition)
    if any(path.root in ("profile", "user_state", "experiment") for path in compiled.read_paths):
        hint = "a rule or an audience may combine traits with the profile"
        problems.add(where, "must look at the event alone", hint)
    return compiled


def _source(fields: Definition, name: str, operation: Operation) -> tuple[Path | None, Any]:
    """Return the path to the values, or the constant."""
    if operation.reads not in WITH_FIELD:
        return None, None
    is_constant = operation.reads == "constant"
    raw = fields.take("field", "by") if operation.reads == "key" else fields.take("field")
    constant = fields.take("value") if is_constant else None
    if raw is not None and constant is not None:
        fields.problems.add("value", "either field or value", "field reads it from the event")
    elif constant is not None:
        return None, _constant(constant, "value", fields.problems)
    elif raw is None:
        hint = "field: plan, or value: trial" if is_constant else "such as field: value"
        fields.problems.add("field", f"is missing, which {name} needs", hint)
    return None if raw is None else _field(raw, "field", fields.problems, operation.reads), None


def _field(raw: object, where: str, problems: Problems, reads: Reads) -> Path | None:
    path = parse_path(raw, where, problems)
    if path is None:
        return None
    if path.root not in ("bare", "event"):
        problems.add(where, "must be a path of the event", "such as value or items.$.item_id")
        return None
    allowed = _QUANTIFIERS.get(reads, ())
    if path.quantifier is not None and path.quantifier not in allowed:
        known = "use one of: " + ", ".join(allowed)
        hint = known if allowed else "this operation takes one value: name it, as in items[0].price"
        problems.add(where, "this quantifier has no meaning here", hint)
    return structs.replace(path, root="event")


def _constant(raw: Any, where: str, problems: Problems) -> Any:
    constant = scalar_of(raw, bytes_max=TRAIT_VALUE_BYTES_MAX)
    if constant is None:
        text = f"must be text, a number, true or false of at most {TRAIT_VALUE_BYTES_MAX} bytes"
        problems.add(where, text)
    return constant


def _terms(fields: Definition, name: str, operation: Operation) -> Terms:
    limit = unit_s = 0
    if name in LIMITS:
        default, most = LIMITS[name]
        raw, place = fields.take("limit"), fields.place("limit")
        limit = default if raw is None else _whole(raw, place, fields.problems, most=most)
    if name in OTHER_FIELDS["unit"]:
        unit_s = fields.take_with(_unit, "unit", UNITS[UNIT_DEFAULT])
    version, place = fields.take("version"), fields.place("version")
    return Terms(
        operation=name,
        window=_window(fields, name, operation),
        limit=limit,
        unit_s=unit_s,
        expires_s=fields.take_with(parse_period, "expires", 0),
        edition=1
        if version is None
        else _whole(version, place, fields.problems, most=INTEGER_ABS_MAX),
    )


def _window(fields: Definition, name: str, operation: Operation) -> Window:
    raw = fields.take("window")
    if raw is None:
        return LIFETIME
    place = fields.place("window")
    window = parse_window(raw, place, fields.problems, buckets=operation.buckets)
    if window.kind not in operation.windows:
        hint = "possible: " + ", ".join(operation.windows)
        fields.problems.add(place, f"{name} knows no such window", hint)
    return window


def _whole(raw: Any, where: str, problems: Problems, *, most: int) -> int:
    is_number = isinstance(raw, int | float) and not isinstance(raw, bool)
    if not is_number or raw != raw // 1 or not 1 <= raw <= most:
        upper = f" to {most}" if most < INTEGER_ABS_MAX else ""
        problems.add(where, f"must be a whole number from 1{upper}")
        return 1
    return int(raw)


def _unit(raw: Any, where: str, problems: Problems) -> int:
    if not isinstance(raw, str) or raw not in UNITS:
        problems.add_unknown(where, "unit", raw, UNITS)
        return 1
    return UNITS[raw]


def _with_digest(definition: TraitDefinition, counted: list[Any]) -> TraitDefinition:
    """Return the definition with the digest of what it counts: another digest counts anew."""
    said = [*counted, definition.terms.to_state()]
    try:
        content = msgspec.json.encode(said, enc_hook=str, order="deterministic")
    except UnicodeEncodeError:  # half a character: YAML can write it, and nothing can hold it
        raise InvalidRule(definition.name, (Problem("", "not valid Unicode"),)) from None
    digest = blake2b(content, digest_size=6).hexdigest()
    return replace(definition, terms=replace(definition.terms, digest=digest))
