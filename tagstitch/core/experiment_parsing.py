"""Reading the definition of an experiment, with everything that is wrong with it at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from tagstitch.core.assignment import HASH_VERSIONS
from tagstitch.core.bucketing import HashVersion
from tagstitch.core.compiled_condition import CompiledCondition, compile_condition
from tagstitch.core.condition import ALWAYS, Condition, parse_conditions
from tagstitch.core.consent import AD_PERSONALIZATION
from tagstitch.core.declarations import NOTHING_DECLARED, Declarations
from tagstitch.core.definition import Definition
from tagstitch.core.errors import InvalidRule, Problem
from tagstitch.core.experiment import (
    Experiment,
    ForcedVariant,
    Holdout,
    Namespace,
    Variant,
    bucket_ranges,
)
from tagstitch.core.limits import (
    EXPERIMENT_FORCED_MAX,
    EXPERIMENT_NAME_CHARS_MAX,
    EXPERIMENT_VARIANTS_MAX,
    EXPERIMENT_WEIGHTS_SUM_MAX,
    EXPERIMENT_WEIGHTS_SUM_MIN,
    INTEGER_ABS_MAX,
    RETURN_VALUE_BYTES_MAX,
    RULE_DEPTH_MAX,
    RULE_ID_CHARS_MAX,
)
from tagstitch.core.operands import bounds, flag, number
from tagstitch.core.problems import Problems
from tagstitch.core.schedule import parse_schedule
from tagstitch.core.targeting import take_event_names, take_purposes
from tagstitch.core.values import is_deeper, json_bytes, json_problem

DESCRIPTIVE: Final = ("description", "owner", "tags")

RESTRICTING: Final = ("frequency_cap", "rollout", "shadow", "chain")
"""Fields that would make an experiment act less often: ignoring one would be worse."""

ACTING: Final = ("actions", "action_type", "action_details", "updates_user_state")
"""Fields of rules: an experiment only assigns."""

_ID: Final = re.compile(r"(?!__.*__$)[\s\S]+")
"""A name that Firestore does not keep for itself: it becomes one in a profile's document."""

_Written = tuple[str, float | None, Any]
"""A variant's name, weight and value as somebody wrote them."""

_VARIANTS_HINT: Final = "variants: [{name: control}, {name: treatment}], or {control: 0.5, …}"


def parse_experiment(
    experiment_id: str, raw: object, *, declared: Declarations = NOTHING_DECLARED
) -> Experiment:
    """Return the experiment; raises InvalidRule with everything that is wrong with it."""
    fields = _open(experiment_id, raw)
    for word in DESCRIPTIVE:
        fields.take(word)
    fields.take_with(flag, "match_all", default=False)
    nobody: tuple[Variant, ...] = ()
    variants = fields.require_with(_variants, "variants", nobody)
    coverage = fields.take_with(_share, "coverage", 1.0)
    experiment = Experiment(
        experiment_id=experiment_id,
        version=fields.take_with(_version, "version", 1),
        event_names=take_event_names(fields),
        condition=_condition(fields.take("conditions"), "conditions", fields.problems, declared),
        variants=variants,
        ranges=bucket_ranges([variant.weight for variant in variants], coverage),
        hash_version=fields.take_with(_hash_version, "hash_version", HASH_VERSIONS[-1]),
        seed=fields.take_with(_name, "seed", experiment_id),
        namespace=fields.take_with(_namespace, "namespace", None),
        holdout=fields.take_with(_holdout, "holdout", None),
        forced=_forced(fields, variants, declared),
        is_sticky=fields.take_with(flag, "sticky", default=False),
        is_active=fields.take_with(flag, "is_active", default=True),
        schedule=fields.take_with(parse_schedule, "schedule", None),
        purposes=take_purposes(fields, default=(AD_PERSONALIZATION,)),
    )
    _close(experiment_id, fields)
    return experiment


def _open(experiment_id: object, raw: object) -> Definition:
    problem = None
    if (
        not isinstance(experiment_id, str)
        or len(experiment_id) > RULE_ID_CHARS_MAX
        or not _ID.fullmatch(experiment_id)
    ):
        text = f"an experiment's id is text of 1 to {RULE_ID_CHARS_MAX} characters, not __…__"
        problem = Problem("", text)
    elif not isinstance(raw, Mapping):
        problem = Problem("", "an experiment must be an object")
    elif is_deeper(raw, RULE_DEPTH_MAX):
        problem = Problem("", f"nested in more than {RULE_DEPTH_MAX} levels")
    if problem is not None or not isinstance(raw, Mapping):
        raise InvalidRule(str(experiment_id)[:RULE_ID_CHARS_MAX], (problem,) if problem else ())
    return Definition(raw, "", Problems())


def _close(experiment_id: str, fields: Definition) -> None:
    fields.refuse(RESTRICTING, "is not evaluated here, so the experiment would act too often")
    fields.refuse(ACTING, "an experiment only assigns; a rule on experiment.<id> acts")
    fields.refuse(("weights",), "a weight stands at its variant: {name: a, weight: 0.5}")
    fields.refuse_misspelt()
    if fields.problems.found:
        raise InvalidRule(experiment_id, tuple(fields.problems.found))


def _condition(
    raw: object, where: str, problems: Problems, declared: Declarations
) -> CompiledCondition:
    condition: Condition = ALWAYS
    if raw not in (None, {}):
        condition = parse_conditions(raw, where, problems, declared=declared)
    compiled = compile_condition(condition)
    if "experiment" in compiled.reads:
        hint = "a namespace keeps experiments apart"
        problems.add(where, "must not depend on another experiment's variant", hint)
    return compiled


def _variants(raw: Any, where: str, problems: Problems) -> tuple[Variant, ...]:
    if not isinstance(raw, Mapping | list) or not 2 <= len(raw) <= EXPERIMENT_VARIANTS_MAX:
        problems.add(where, f"needs 2 to {EXPERIMENT_VARIANTS_MAX} variants", _VARIANTS_HINT)
        return ()
    before = len(problems.found)
    if isinstance(raw, Mapping):
        read = [_weighed_name(name, raw[name], f"{where}.{name}", problems) for name in raw]
    else:
        read = [_variant(entry, f"{where}[{i}]", problems) for i, entry in enumerate(raw)]
    if len(problems.found) > before:
        return ()
    if len({name for name, _, _ in read}) < len(read):
        problems.add(where, "two variants have the same name")
    weights = _weights([weight for _, weight, _ in read], where, problems)
    return tuple(
        Variant(name, weight, value) for (name, _, value), weight in zip(read, weights, strict=True)
    )


def _weighed_name(name: object, weight: Any, where: str, problems: Problems) -> _Written:
    share = None if weight is None else _share(weight, where, problems)
    return (_name(name, where, problems), share, None)


def _variant(raw: object, where: str, problems: Problems) -> _Written:
    if not isinstance(raw, Mapping):
        problems.add(where, "must be an object", _VARIANTS_HINT)
        return ("", None, None)
    fields = Definition(raw, where, problems)
    name = fields.require_with(_name, "name", "")
    weight = fields.take_with(_share, "weight", cast(float | None, None))
    value = fields.take("value")
    problem = json_problem(value, depth=RULE_DEPTH_MAX)
    if problem is None and json_bytes(value) > RETURN_VALUE_BYTES_MAX:
        problem = f"more than {RETURN_VALUE_BYTES_MAX} bytes"
    if problem is not None:
        problems.add(fields.place("value"), problem)
    fields.refuse_rest()
    return (name, weight, value)


def _weights(given: list[float | None], where: str, problems: Problems) -> list[float]:
    """Return the weights; equal ones when nobody wrote any."""
    written = [weight for weight in given if weight is not None]
    if not written:
        return [1 / len(given)] * len(given)
    if len(written) < len(given):
        hint = "without weights the variants are equal"
        problems.add(where, "either every variant has a weight or none", hint)
    elif not EXPERIMENT_WEIGHTS_SUM_MIN <= sum(written) <= EXPERIMENT_WEIGHTS_SUM_MAX:
        hint = "weights are shares of 1, such as 0.5 and 0.5; coverage takes in fewer visitors"
        problems.add(where, "the weights do not add up to 1", hint)
    return [weight or 0.0 for weight in given]


def _forced(
    fields: Definition, variants: tuple[Variant, ...], declared: Declarations
) -> tuple[ForcedVariant, ...]:
    raw, where, problems = fields.take("forced"), fields.place("forced"), fields.problems
    if raw is None:
        return ()
    if not isinstance(raw, list) or not 0 < len(raw) <= EXPERIMENT_FORCED_MAX:
        hint = "forced: [{variant: treatment, conditions: {debug_mode: true}}]"
        problems.add(where, f"needs a list of 1 to {EXPERIMENT_FORCED_MAX} entries", hint)
        return ()
    names = [variant.name for variant in variants]
    found = []
    for index, entry in enumerate(raw):
        place = f"{where}[{index}]"
        if not isinstance(entry, Mapping):
            problems.add(place, "must be an object")
            continue
        inner = Definition(entry, place, problems)
        variant, conditions = inner.require("variant"), inner.require("conditions")
        inner.refuse_rest()
        if variant is not None and variants and variant not in names:
            problems.add_unknown(inner.place("variant"), "variant", variant, names)
        if conditions == {}:
            problems.add(inner.place("conditions"), "must not be empty")
        condition = _condition(conditions, inner.place("conditions"), problems, declared)
        found.append(ForcedVariant(str(variant), condition))
    return tuple(found)


def _namespace(raw: Any, where: str, problems: Problems) -> Namespace | None:
    if not isinstance(raw, Mapping):
        problems.add(where, "must be an object", "namespace: {id: checkout, range: [0, 0.5]}")
        return None
    fields = Definition(raw, where, problems)
    namespace_id = fields.require_with(_name, "id", "")
    low, high = fields.require_with(bounds, "range", (0.0, 1.0))
    fields.refuse_rest()
    if not 0 <= low < high <= 1:
        hint = "a part of 0 to 1, such as [0, 0.5]"
        problems.add(fields.place("range"), "not a range of visitors", hint)
    return Namespace(namespace_id, low, high)


def _holdout(raw: Any, where: str, problems: Problems) -> Holdout | None:
    if not isinstance(raw, Mapping):
        problems.add(where, "must be an object", "holdout: {id: spring, percent: 5}")
        return None
    fields = Definition(raw, where, problems)
    holdout_id = fields.require_with(_name, "id", "")
    percent = fields.require_with(number, "percent", 0.0)
    fields.refuse_rest()
    if not 0 <= percent <= 100:
        problems.add(fields.place("percent"), "must be 0 to 100")
    return Holdout(holdout_id, percent)


def _name(raw: Any, where: str, problems: Problems) -> str:
    is_text = isinstance(raw, str) and 0 < len(raw) <= EXPERIMENT_NAME_CHARS_MAX
    if not is_text or json_problem(raw, depth=0) is not None:
        problems.add(where, f"must be text of 1 to {EXPERIMENT_NAME_CHARS_MAX} characters")
        return ""
    return str(raw)


def _share(raw: Any, where: str, problems: Problems) -> float:
    share = number(raw, where, problems)
    if not 0 <= share <= 1:
        problems.add(where, "must be a share from 0 to 1", "0.5 is half of them")
        return 0.0
    return share


def _version(raw: Any, where: str, problems: Problems) -> int:
    is_whole = isinstance(raw, int | float) and not isinstance(raw, bool) and raw == raw // 1
    if not is_whole or not 1 <= raw <= INTEGER_ABS_MAX:
        problems.add(where, "must be a whole number from 1")
        return 1
    return int(raw)


def _hash_version(raw: Any, where: str, problems: Problems) -> HashVersion:
    if isinstance(raw, bool) or raw not in HASH_VERSIONS:
        problems.add(where, "must be 1 or 2", "2 is free of bias between similar seeds")
        return HASH_VERSIONS[-1]
    return cast(HashVersion, int(raw))
