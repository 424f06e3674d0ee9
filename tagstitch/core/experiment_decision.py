"""Experiments of one decision: which variants the visitor has, and which of them are new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tagstitch.core.assignment import Assignment, Exposure, stored_assignments
from tagstitch.core.experiment import Experiment, assign
from tagstitch.core.limits import EXPOSURES_MAX
from tagstitch.core.situation import Situation
from tagstitch.core.state_ledger import StateLedger
from tagstitch.core.work import WorkExceeded

_HASHES_STEPS: Final = 40
"""Of holdout, namespace and split: about 10 microseconds."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """The experiments that take place for one event."""

    variants: Mapping[str, str] = field(default_factory=dict)
    """Experiment -> variant."""
    exposures: tuple[Exposure, ...] = ()


def assign_experiments(
    situation: Situation, experiments: Sequence[Experiment], ledger: StateLedger
) -> Assigned:
    """Return the visitor's variants; never raises.

    Nobody has one who cannot be remembered: an exposure that is not recorded would bias the
    result. For the same reason a first exposure is left out when it cannot be stored.
    """
    if not experiments or situation.subject is None or situation.obstacle is not None:
        return Assigned()
    stored = stored_assignments({"assignments": situation.assignments})
    facts = situation.facts({}, ledger.work)
    variants: dict[str, str] = {}
    exposures: list[Exposure] = []
    for experiment in experiments:
        try:
            ledger.work.spend(_steps(experiment))
        except WorkExceeded:
            break
        if not all(map(situation.consent.allows, experiment.purposes)):
            continue
        if experiment.schedule is not None and not experiment.schedule.is_open(situation.now):
            continue
        before = stored.get(experiment.experiment_id)
        assignment = assign(experiment, situation.subject, facts, before)
        if not isinstance(assignment, Assignment):
            continue
        if assignment.needs_exposure:
            if len(exposures) >= EXPOSURES_MAX or not ledger.may_commit():
                continue
            ledger.assign(experiment.experiment_id, assignment.after_exposure().to_fields())
            exposures.append(assignment.to_exposure())
        variants[experiment.experiment_id] = assignment.variant
    return Assigned(variants, tuple(exposures))


def _steps(experiment: Experiment) -> int:
    """Return the work of an assignment: its comparisons and a few hashes."""
    forced = sum(len(test.condition.leaves) for test in experiment.forced)
    return _HASHES_STEPS + len(experiment.condition.leaves) + forced
