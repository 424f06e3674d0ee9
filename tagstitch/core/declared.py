"""What a rule book declares for its rules, read from its definitions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tagstitch.core.audience import parse_audience
from tagstitch.core.broken_rule import BrokenRule
from tagstitch.core.condition import Condition
from tagstitch.core.declarations import Declarations
from tagstitch.core.errors import InvalidRule
from tagstitch.core.experiment import Experiment
from tagstitch.core.experiment_parsing import parse_experiment
from tagstitch.core.rule_definitions import RawDefinitions, RuleDefinitions


@dataclass(frozen=True, slots=True)
class Declared:
    """Everything that rules may refer to, as it was read."""

    declarations: Declarations
    experiments: tuple[Experiment, ...]
    """By id, the inactive ones included."""
    broken: tuple[BrokenRule, ...]
    """Experiments and audiences that cannot be read: no rule may refer to them."""


def declarations_of(definitions: RuleDefinitions) -> Declared:
    """Return what the definitions declare; never raises."""
    broken: list[BrokenRule] = []
    protected = definitions.protected_names
    audiences = _audiences(definitions.audiences, broken)
    names = Declarations(protected=protected, audiences=audiences)
    experiments = _experiments(definitions.experiments, names, broken)
    variants = {
        experiment.experiment_id: frozenset(variant.name for variant in experiment.variants)
        for experiment in experiments
    }
    return Declared(
        Declarations(protected=protected, audiences=audiences, experiments=variants),
        tuple(sorted(experiments, key=lambda experiment: experiment.experiment_id)),
        tuple(broken),
    )


def _audiences(definitions: RawDefinitions, broken: list[BrokenRule]) -> Mapping[str, Condition]:
    found: dict[str, Condition] = {}
    for audience_id, raw in definitions.items():
        try:
            found[audience_id] = parse_audience(audience_id, raw)
        except InvalidRule as invalid:
            broken.append(BrokenRule(invalid.rule_id, "audience", invalid.problems))
    return found


def _experiments(
    definitions: RawDefinitions, declared: Declarations, broken: list[BrokenRule]
) -> list[Experiment]:
    found: list[Experiment] = []
    for experiment_id, raw in definitions.items():
        try:
            found.append(parse_experiment(experiment_id, raw, declared=declared))
        except InvalidRule as invalid:
            broken.append(BrokenRule(invalid.rule_id, "experiment", invalid.problems))
    return found
