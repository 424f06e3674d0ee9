"""Checks of experiments and audiences: their conditions, and experiments that disturb each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from tagstitch.core.broken_rule import RuleKind
from tagstitch.core.checked_rule import CheckedConditions, CheckedRule
from tagstitch.core.condition import Condition
from tagstitch.core.condition_form import form_of
from tagstitch.core.declared import Declared
from tagstitch.core.experiment import Experiment, Namespace, holdout_problems
from tagstitch.core.finding import Finding
from tagstitch.core.limits import CHECK_RELATED_MAX
from tagstitch.core.schedule import never_meet
from tagstitch.core.targeting import EVERY_EVENT

_InNamespace = tuple[Experiment, Namespace]


def declared_conditions(declared: Declared) -> Iterator[CheckedConditions]:
    """Yield the conditions of active experiments and of audiences."""
    for experiment in declared.experiments:
        if experiment.is_active:
            yield _checked(experiment, "conditions", experiment.condition.condition)
            for index, forced in enumerate(experiment.forced):
                place = f"forced[{index}].conditions"
                yield _checked(experiment, place, forced.condition.condition)
    for audience_id, condition in declared.declarations.audiences.items():
        yield _conditions(audience_id, "audience", "conditions", (EVERY_EVENT,), condition)


def check_experiments(
    experiments: Sequence[Experiment], rules: Sequence[CheckedRule]
) -> Iterator[Finding]:
    """Yield what is wrong between active experiments, and those that nothing comes of."""
    active = [experiment for experiment in experiments if experiment.is_active]
    for experiment_id, problem in holdout_problems(active).items():
        yield Finding(
            "holdout_mismatch", experiment_id, "experiment", problem.path, problem.message,
            problem.hint,
        )  # fmt: skip
    for experiment_id, others in sorted(_overlapping(active).items()):
        yield Finding(
            "namespace_overlap", experiment_id, "experiment", "namespace.range",
            "another experiment of this namespace has some of the same visitors",
            "ranges that do not overlap keep experiments apart",
            tuple(sorted(others))[:CHECK_RELATED_MAX],
        )  # fmt: skip
    read = frozenset[str]().union(*(rule.experiments for rule in rules))
    for experiment in active:
        has_value = any(variant.value is not None for variant in experiment.variants)
        if not has_value and experiment.experiment_id not in read:
            yield Finding(
                "unread_experiment", experiment.experiment_id, "experiment", "",
                "no active rule asks for its variant, and no variant has a value",
                "a condition experiment.<id>: <variant> on a rule, or a value at a variant",
            )  # fmt: skip


def _overlapping(experiments: Sequence[Experiment]) -> Mapping[str, list[str]]:
    """Return experiment id -> others of its namespace that take some of the same visitors."""
    by_namespace: dict[str, list[_InNamespace]] = defaultdict(list)
    for experiment in experiments:
        if experiment.namespace is not None:
            by_namespace[experiment.namespace.namespace_id].append(
                (experiment, experiment.namespace)
            )
    found: dict[str, list[str]] = defaultdict(list)
    for members in by_namespace.values():
        for one, other in _overlapping_pairs(members):
            found[one.experiment_id].append(other.experiment_id)
            found[other.experiment_id].append(one.experiment_id)
    return found


def _overlapping_pairs(
    members: Sequence[_InNamespace],
) -> Iterator[tuple[Experiment, Experiment]]:
    """Yield the pairs whose ranges overlap and whose schedules may, from left to right."""
    reaching: list[_InNamespace] = []
    for experiment, namespace in sorted(members, key=lambda member: member[1].low):
        reaching = [member for member in reaching if member[1].high > namespace.low]
        for other, _ in reaching:
            if not never_meet(experiment.schedule, other.schedule):
                yield other, experiment
        reaching.append((experiment, namespace))


def _checked(experiment: Experiment, place: str, condition: Condition) -> CheckedConditions:
    names = experiment.event_names
    return _conditions(experiment.experiment_id, "experiment", place, names, condition)


def _conditions(
    rule_id: str, kind: RuleKind, place: str, event_names: tuple[str, ...], condition: Condition
) -> CheckedConditions:
    form = form_of(condition)
    return CheckedConditions(rule_id, kind, place, event_names, condition, form, is_chained=False)
