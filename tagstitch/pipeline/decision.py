"""Making a decision: load the rules and the visitor once, and ask the core; writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tagstitch.core.caller import Caller
from tagstitch.core.compiled_condition import Hides, hides_nothing
from tagstitch.core.consent import ANALYTICS_STORAGE, Consent, resolve_consent
from tagstitch.core.decide_answer import DecideAnswer
from tagstitch.core.decide_request import DecideRequest
from tagstitch.core.decision import Decision, decide
from tagstitch.core.decision_record import told_skipped
from tagstitch.core.errors import Unavailable
from tagstitch.core.event_decision import EventDecision
from tagstitch.core.identifier import Identifier
from tagstitch.core.limits import WORK_STEPS_MAX, WORK_STEPS_PER_MS
from tagstitch.core.personalization import PersonalizationDecision
from tagstitch.core.profile import Profile
from tagstitch.core.rule_book import EMPTY_RULE_BOOK, RuleBook
from tagstitch.core.situation import Situation
from tagstitch.pipeline.backend import Clock
from tagstitch.pipeline.deadline import Deadline, seconds_of_calls
from tagstitch.pipeline.idempotency import IdempotencyMark
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.log_events import RulesCutOff, RulesSkipped, log
from tagstitch.pipeline.refreshed import Refreshed
from tagstitch.pipeline.stage_times import timed
from tagstitch.pipeline.visitor import NOBODY, Visitor, VisitorFinder

_READ_SHARE: Final = 0.5
"""Part of the time that loading may take; what comes late is missing in the answer."""
_COMMIT_SHARE: Final = 0.8
"""Part of the time by which state must be committed."""

_WITHOUT_PROFILE: Final = frozenset({"profile", "state"})


Shape = Callable[[DecideAnswer], Mapping[str, Any]]
"""Which of the three bodies the caller asked for."""


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of one request's deadline."""

    read: Deadline
    commit: Deadline
    audit: Deadline
    """By then the record must be published; then it goes to the log."""

    @classmethod
    def of(cls, seconds: float, *, others: int = 0) -> Stages:
        """Return the stages of a request that has this many seconds, `others` being under way."""
        calls_s = seconds_of_calls(seconds, others=others)
        audit = Deadline.after(calls_s)
        # What the others take is taken from each stage alike: the record needs its time, too.
        whole_s = seconds * calls_s / seconds_of_calls(seconds)
        return cls(
            audit.at_most(whole_s * _READ_SHARE), audit.at_most(whole_s * _COMMIT_SHARE), audit
        )


@dataclass(frozen=True, slots=True)
class DecideCall:
    """What does not change over the attempts at one decision."""

    request: DecideRequest
    caller: Caller
    identifiers: tuple[Identifier, ...]
    """Those that may select the visitor, in priority order."""
    blocked_types: tuple[str, ...]
    """The types of those that are blocked values."""
    mark: IdempotencyMark
    decision_id: str
    is_idempotent: bool
    """Whether the caller gave a request id, so that an earlier decision may be stored."""
    shape: Shape
    stages: Stages
    started: float
    hides: Hides = hides_nothing
    """The attributes whose values the caller's trace leaves out."""
    outbox_paths: tuple[str, ...] = ()
    """Where an earlier attempt's entries would have gone: some may have been there already."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one decision is made from."""

    book: RuleBook
    visitor: Visitor
    consent: Consent
    degraded: tuple[str, ...]
    """Names of what could not be had."""

    @property
    def rules_version(self) -> str | None:
        """The version of the rule book, None when there was none."""
        return None if self.book is EMPTY_RULE_BOOK else self.book.version

    @property
    def may_name_visitor(self) -> bool:
        """Whether anything may tell who it was, be it by a pseudonym."""
        is_nobody = self.visitor.is_erased or self.visitor.is_held
        return self.consent.allows(ANALYTICS_STORAGE) and not is_nobody

    @property
    def profile(self) -> Profile | None:
        """The visitor's profile, as far as consent lets us look."""
        return self.visitor.profile if self.consent.allows(ANALYTICS_STORAGE) else None


@dataclass(frozen=True, slots=True)
class CallDecision:
    """The core's decision for one call; nothing is written yet."""

    loaded: Loaded
    situation: Situation
    decision: Decision
    degraded: tuple[str, ...]

    def also_degraded(self, *missing: str) -> CallDecision:
        """Return the decision with more names of what could not be had."""
        return replace(self, degraded=(*self.degraded, *missing))


class DecisionMaker:
    """Loads what a decision needs and asks the core."""

    def __init__(
        self,
        finder: VisitorFinder,
        keyring: Keyring,
        rule_book: Refreshed[RuleBook],
        *,
        clock: Clock,
        consent_default_granted: bool,
    ) -> None:
        self._finder = finder
        self._keyring = keyring
        self._rule_book = rule_book
        self._clock = clock
        self._consent_default_granted = consent_default_granted

    def decide(self, call: DecideCall, loaded: Loaded, *, can_commit: bool = True) -> CallDecision:
        """Ask the core; without `can_commit`, for what is left when nothing can be stored."""
        situation = self._situation(call, loaded, can_commit=can_commit)
        with timed("decide"):
            decision = decide(
                situation,
                loaded.book,
                include=call.request.include,
                explain=call.request.explain,
                hides=call.hides,
            )
        _log_skipped(decision.event, decision.personalization)
        degraded = loaded.degraded
        if decision.has_withheld:
            degraded += ("state",)
        if decision.is_cut_off:
            degraded += ("rules",)
        return CallDecision(loaded, situation, decision, degraded)

    def _situation(self, call: DecideCall, loaded: Loaded, *, can_commit: bool) -> Situation:
        profile = loaded.profile
        nothing: Mapping[str, Any] = {}
        return Situation(
            event=call.request.event,
            consent=loaded.consent,
            now=self._clock().timestamp(),
            attributes=profile.attributes if profile else nothing,
            state=profile.state if profile else nothing,
            caps=profile.caps if profile else nothing,
            assignments=profile.assignments if profile else nothing,
            subject=self._subject(call, loaded),
            has_identifier=bool(call.identifiers) and not loaded.visitor.is_held,
            unavailable=_WITHOUT_PROFILE if "profile" in loaded.degraded else frozenset(),
            is_erased=loaded.visitor.is_erased,
            can_commit=can_commit,
            work_steps=min(int(call.request.deadline_ms * WORK_STEPS_PER_MS), WORK_STEPS_MAX),
        )

    def _subject(self, call: DecideCall, loaded: Loaded) -> str | None:
        """Return the profile's id, or the id that the visitor's profile would get."""
        is_known = loaded.may_name_visitor and "profile" not in loaded.degraded
        if not is_known:
            return None
        if loaded.visitor.profile is not None:
            return loaded.visitor.profile.profile_id
        return self._keyring.profile_id(call.identifiers[0]) if call.identifiers else None

    async def load(self, call: DecideCall) -> Loaded:
        """Load rule book and visitor once; what cannot be had in time is named."""
        request, stages = call.request, call.stages
        degraded: list[str] = []
        book = await self._rule_book.get(stages.read)
        if book is None:
            degraded.append("rules")
        consent = self._consent(request, None)
        visitor = NOBODY
        riders = [*([call.mark.path] if call.is_idempotent else []), *call.outbox_paths]
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
        return Loaded(book or EMPTY_RULE_BOOK, visitor, consent, tuple(degraded))

    def _consent(self, request: DecideRequest, profile: Profile | None) -> Consent:
        return resolve_consent(
            requested=request.consent,
            event=request.event,
            profile=profile,
            default_granted=self._consent_default_granted,
        )


def _log_skipped(*decisions: EventDecision | PersonalizationDecision | None) -> None:
    """Say which rules were left out because they raised, or all together were too much work."""
    cut_off = [decision.cut_off_at for decision in decisions if decision and decision.cut_off_at]
    if cut_off:
        log(RulesCutOff(at=cut_off))
    skipped = [rule for decision in decisions if decision for rule in decision.skipped]
    if skipped:
        log(RulesSkipped(skipped=told_skipped(skipped), skipped_count=len(skipped)))
