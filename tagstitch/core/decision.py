"""Decisions: what becomes of one event and what its visitor gets, by one rule book."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tagstitch.core.assignment import Exposure
from tagstitch.core.compiled_condition import Hides, hides_nothing
from tagstitch.core.event_decision import EventDecision
from tagstitch.core.event_evaluation import decide_event
from tagstitch.core.experiment_decision import NO_VARIANTS, ExperimentLine, assign_experiments
from tagstitch.core.paths import Path
from tagstitch.core.personalization import PersonalizationDecision, decide_personalization
from tagstitch.core.rule_book import RuleBook
from tagstitch.core.situation import Situation
from tagstitch.core.state_ledger import StateChanges, open_ledger

EVENT_AND_PERSONALIZATION: Final = frozenset({"event", "personalization"})


class Decision(msgspec.Struct, frozen=True):
    """One decision of the core, and what it wants stored; parts not asked for are None."""

    event: EventDecision | None
    personalization: PersonalizationDecision | None
    changes: StateChanges
    exposures: tuple[Exposure, ...] = ()
    """Experiments of which the visitor sees a variant for the first time."""
    has_withheld: bool = False
    """Whether something was left out because what it changes could not be stored."""
    experiments: tuple[ExperimentLine, ...] = ()
    """The trace of the event's experiments."""

    @property
    def is_cut_off(self) -> bool:
        """Whether the evaluation ended before its end because it was too much work."""
        parts = (self.event, self.personalization)
        return any(part is not None and part.cut_off_at is not None for part in parts)

    @property
    def action_paths(self) -> tuple[Path, ...]:
        """What the actions of the rules that matched looked at and changed, redactions aside."""
        parts = (self.event, self.personalization)
        return tuple(path for part in parts if part is not None for path in part.action_paths)

    @property
    def redacted_paths(self) -> tuple[Path, ...]:
        """What redactions of the rules that matched removed, if it was there."""
        return self.event.redacted_paths if self.event is not None else ()

    @property
    def trace(self) -> dict[str, list[Any]]:
        """Why each rule and experiment of the event did or did not apply, when that was asked."""
        trace: dict[str, list[Any]] = {}
        if self.event is not None:
            trace["event"] = list(self.event.trace)
        if self.personalization is not None:
            trace["personalization"] = list(self.personalization.trace)
        return {**trace, "experiments": list(self.experiments)}

    def to_json(self) -> dict[str, Any]:
        """Return the parts as the body of `POST /decide` has them."""
        body: dict[str, Any] = {}
        if self.event is not None:
            body["event"] = self.event.to_json()
        if self.personalization is not None:
            body["personalization"] = self.personalization.to_json()
        return body


def decide(
    situation: Situation,
    book: RuleBook,
    *,
    include: frozenset[str] = EVENT_AND_PERSONALIZATION,
    explain: bool = False,
    hides: Hides = hides_nothing,
) -> Decision:
    """Return the decision; never raises.

    `include` names the parts wanted: `event`, `personalization`. The event's rules come first;
    caps that they use up count for the personalization of the same request.
    """
    ledger = open_ledger(situation)
    name = situation.event.name
    experiments = book.experiments_for(name)
    if experiments and "personalization" not in include:
        # Nobody would see the other variants: that is no exposure.
        seen = book.event_bucket(name).experiments if "event" in include else ()
        experiments = [each for each in experiments if each.experiment_id in seen]
    assigned = NO_VARIANTS
    if experiments:
        assigned = assign_experiments(situation, experiments, ledger, explain=explain, hides=hides)
    event = personalization = None
    if "event" in include:
        event = decide_event(
            situation,
            book.event_bucket(name),
            ledger,
            experiments=assigned.variants,
            explain=explain,
            hides=hides,
        )
    if "personalization" in include:
        personalization = decide_personalization(
            situation,
            book.personalization_bucket(name),
            ledger,
            experiments=assigned.variants,
            explain=explain,
            hides=hides,
        )
    return Decision(
        event,
        personalization,
        ledger.changes(),
        assigned.exposures,
        ledger.has_withheld,
        assigned.trace,
    )
