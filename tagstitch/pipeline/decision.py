"""Making a decision: load the rules and the visitor once, and ask the core; writes nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tagstitch.core.caller import Caller
from tagstitch.core.compiled_condition import Hides, hides_nothing
from tagstitch.core.consent import Consent, resolve_consent
from tagstitch.core.decide_answer import DecideAnswer
from tagstitch.core.decide_request import DecideRequest
from tagstitch.core.decision_record import told_skipped
from tagstitch.core.errors import Unavailable
from tagstitch.core.event_decision import EventDecision, decide_event
from tagstitch.core.identifier import Identifier
from tagstitch.core.personalization import PersonalizationDecision, decide_personalization
from tagstitch.core.profile import Profile
from tagstitch.core.rule_book import EMPTY_RULE_BOOK, RuleBook
from tagstitch.pipeline.backend import Clock
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.idempotency import IdempotencyMark
from tagstitch.pipeline.refreshed import Refreshed
from tagstitch.pipeline.visitor import NOBODY, Visitor, VisitorFinder

_READ_SHARE: Final = 0.5
"""Part of the deadline that loading may take; what comes late is missing in the answer."""
_COMMIT_SHARE: Final = 0.8
"""Part of the deadline by which state must be committed."""
_AUDIT_SHARE: Final = 0.95
"""Part of the deadline by which the audit record must be published; then it goes to the log."""

logger = logging.getLogger("tagstitch")

Shape = Callable[[DecideAnswer], Mapping[str, Any]]
"""Which of the three bodies the caller asked for."""


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of one request's deadline."""

    read: Deadline
    commit: Deadline
    audit: Deadline

    @classmethod
    def of(cls, seconds: float) -> Stages:
        """Return the stages of a request that has this many seconds."""
        return cls(
            Deadline.after(seconds * _READ_SHARE),
            Deadline.after(seconds * _COMMIT_SHARE),
            Deadline.after(seconds * _AUDIT_SHARE),
        )


@dataclass(frozen=True, slots=True)
class DecideCall:
    """What does not change over the attempts at one decision."""

    request: DecideRequest
    caller: Caller
    identifiers: tuple[Identifier, ...]
    """Those that may select the visitor, in priority order."""
    mark: IdempotencyMark
    decision_id: str
    is_idempotent: bool
    """Whether the caller gave a request id, so that an earlier decision may be stored."""
    shape: Shape
    stages: Stages
    started: float
    hides: Hides = hides_nothing
    """The attributes whose values the caller's trace leaves out."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision as the core made it; nothing is written yet."""

    visitor: Visitor
    consent: Consent
    event_decision: EventDecision | None
    personalization: PersonalizationDecision | None
    rules_version: str | None
    degraded: tuple[str, ...]

    @property
    def state_changes(self) -> Mapping[str, Any]:
        """What the fired rules write to the profile's state."""
        return self.personalization.state_changes if self.personalization else {}

    def without_state(self) -> Decision:
        """Return the decision without the actions whose state could not be committed."""
        if self.personalization is None:
            return self
        return replace(
            self,
            personalization=self.personalization.without_state_actions(),
            degraded=(*self.degraded, "state"),
        )

    def also_degraded(self, *missing: str) -> Decision:
        """Return the decision with more names of what could not be had."""
        return replace(self, degraded=(*self.degraded, *missing))


class DecisionMaker:
    """Loads what a decision needs and asks the core."""

    def __init__(
        self,
        finder: VisitorFinder,
        rule_book: Refreshed[RuleBook],
        *,
        clock: Clock,
        consent_default_granted: bool,
    ) -> None:
        self._finder = finder
        self._rule_book = rule_book
        self._clock = clock
        self._consent_default_granted = consent_default_granted

    async def decide(self, call: DecideCall) -> Decision:
        """Load the visitor once and ask the core."""
        request = call.request
        book, visitor, consent, degraded = await self._load(call)
        unavailable = frozenset({"profile", "state"}) if "profile" in degraded else frozenset()
        profile = visitor.profile if consent.allows("analytics_storage") else None
        event_decision = personalization = None
        if "event" in request.include:
            event_decision = decide_event(
                request.event,
                book,
                profile,
                unavailable=unavailable,
                explain=request.explain,
                hides=call.hides,
            )
        if "personalization" in request.include:
            personalization = decide_personalization(
                request.event,
                book,
                profile,
                consent=consent,
                unavailable=unavailable,
                has_identifier=bool(call.identifiers),
                explain=request.explain,
                hides=call.hides,
            )
        _log_skipped(event_decision, personalization)
        return Decision(
            visitor,
            consent,
            event_decision,
            personalization,
            None if book is EMPTY_RULE_BOOK else book.version,
            degraded,
        )

    async def _load(self, call: DecideCall) -> tuple[RuleBook, Visitor, Consent, tuple[str, ...]]:
        """Return rule book, visitor and consent, with the names of what could not be had."""
        request, stages = call.request, call.stages
        degraded: list[str] = []
        book = await self._rule_book.get(stages.read)
        if book is None:
            degraded.append("rules")
        consent = self._consent(request, None)
        visitor = NOBODY
        riders = [call.mark.path] if call.is_idempotent else []
        may_look_up = "analytics_storage" not in consent.denied_by_request
        try:
            visitor = await self._finder.find(
                call.identifiers if may_look_up else (),
                now=self._clock(),
                deadline=stages.read,
                riders=riders,
            )
        except Unavailable:
            degraded.append("profile")
        if visitor.profile is not None and visitor.profile.consent:
            consent = self._consent(request, visitor.profile)
        return book or EMPTY_RULE_BOOK, visitor, consent, tuple(degraded)

    def _consent(self, request: DecideRequest, profile: Profile | None) -> Consent:
        return resolve_consent(
            requested=request.consent,
            event=request.event,
            profile=profile,
            default_granted=self._consent_default_granted,
        )


def _log_skipped(*decisions: EventDecision | PersonalizationDecision | None) -> None:
    """Say which rules raised: they were left out, and the others applied."""
    skipped = [rule for decision in decisions if decision for rule in decision.skipped]
    if skipped:
        fields = {"skipped": told_skipped(skipped), "skipped_count": len(skipped)}
        logger.warning("rules_skipped", extra={"fields": fields})
