"""Experiments of one decision: which variants the visitor has, and which of them are new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tagstitch.core.assignment import (
    Assignment,
    Exposure,
    NotAssigned,
    stored_assignments,
)
from tagstitch.core.compiled_condition import Hides, hides_nothing
from tagstitch.core.experiment import Experiment, assign
from tagstitch.core.gate_trace import told_purposes, told_schedule
from tagstitch.core.limits import EXPOSURES_MAX
from tagstitch.core.paths import Facts
from tagstitch.core.situation import Situation
from tagstitch.core.state_ledger import StateLedger
from tagstitch.core.work import Work, WorkExceeded

ExperimentLine = dict[str, Any]

_HASHES_STEPS: Final = 40
"""Of holdout, namespace and split: about 10 microseconds."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """The experiments that take place for one event."""

    variants: Mapping[str, str] = field(default_factory=dict)
    """Experiment -> variant."""
    exposures: tuple[Exposure, ...] = ()
    trace: tuple[ExperimentLine, ...] = ()


NO_VARIANTS: Final = Assigned()


def assign_experiments(
    situation: Situation,
    experiments: Sequence[Experiment],
    ledger: StateLedger,
    *,
    explain: bool = False,
    hides: Hides = hides_nothing,
) -> Assigned:
    """Return the visitor's variants; never raises.

    Nobody has one who cannot be remembered: an exposure that is not recorded would bias the
    result. For the same reason a first exposure is left out when it cannot be stored.
    """
    if not experiments:
        return NO_VARIANTS
    is_nobody = situation.subject is None or situation.obstacle is not None
    if is_nobody:  # telling why must not use up what deciding needs
        told = (_trace(one, _nobody(situation), situation, hides) for one in experiments)
        return Assigned(trace=tuple(told)) if explain else NO_VARIANTS
    stored = stored_assignments({"assignments": situation.assignments})
    facts = situation.facts({}, ledger.work)
    variants: dict[str, str] = {}
    exposures: list[Exposure] = []
    trace: list[ExperimentLine] = []
    for experiment in experiments:
        try:
            ledger.work.spend(_steps(experiment))
        except WorkExceeded:
            break
        before = stored.get(experiment.experiment_id)
        assignment = _assign(experiment, situation, facts, before)
        if isinstance(assignment, Assignment) and assignment.needs_exposure:
            if len(exposures) < EXPOSURES_MAX and ledger.may_commit():
                kept = assignment.after_exposure().to_fields()
                ledger.assign(experiment.experiment_id, kept)
                exposures.append(assignment.to_exposure())
            else:
                assignment = NotAssigned("NOT_COMMITTED")
        if isinstance(assignment, Assignment):
            variants[experiment.experiment_id] = assignment.variant
        if explain:
            trace.append(_trace(experiment, assignment, situation, hides))
    return Assigned(variants, tuple(exposures), tuple(trace))


def _assign(
    experiment: Experiment, situation: Situation, facts: Facts, before: Assignment | None
) -> Assignment | NotAssigned:
    if not all(map(situation.consent.allows, experiment.purposes)):
        return NotAssigned("CONSENT_DENIED")
    if experiment.schedule is not None and not experiment.schedule.is_open(situation.now):
        return NotAssigned("OUT_OF_SCHEDULE")
    return assign(experiment, situation.subject or "", facts, before)


def _nobody(situation: Situation) -> NotAssigned:
    return NotAssigned(situation.obstacle or "NO_SUBJECT")


def _trace(
    experiment: Experiment,
    assignment: Assignment | NotAssigned,
    situation: Situation,
    hides: Hides,
) -> ExperimentLine:
    """Return one experiment's part of a trace."""
    gate: dict[str, Any] = {"purposes": told_purposes(experiment.purposes, situation.consent)}
    if experiment.schedule is not None:
        gate["schedule"] = told_schedule(experiment.schedule, situation.now)
    return {
        "experiment_id": experiment.experiment_id,
        "version": experiment.version,
        "variant": assignment.variant if isinstance(assignment, Assignment) else None,
        "reason": assignment.reason,
        "gate": gate,
        "conditions": experiment.condition.explain(
            situation.facts({}, Work()), situation.missing, hides
        ),
    }


def _steps(experiment: Experiment) -> int:
    """Return the work of an assignment: its comparisons and a few hashes."""
    forced = sum(len(test.condition.read_paths) for test in experiment.forced)
    return _HASHES_STEPS + len(experiment.condition.read_paths) + forced
