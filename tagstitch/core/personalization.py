"""Personalization decisions: what to do for a visitor, and what to remember about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tagstitch.core.compiled_condition import Hides, hides_nothing
from tagstitch.core.consent import ANALYTICS_STORAGE, Consent
from tagstitch.core.event import Event
from tagstitch.core.event_decision import SkippedRule
from tagstitch.core.paths import Facts, Source
from tagstitch.core.profile import Profile
from tagstitch.core.rule import PersonalizationRule
from tagstitch.core.rule_book import RuleBook
from tagstitch.core.rule_trace import (
    RuleReason,
    TraceLine,
    make_facts,
    missing_sources,
    trace_rule,
)
from tagstitch.core.values import same

PersonalizationReason = Literal[
    "MATCHED", "NO_MATCH", "NO_IDENTIFIER", "CONSENT_DENIED", "DEGRADED"
]


@dataclass(frozen=True, slots=True)
class FiredRule:
    """One rule that applied, with all that it wants."""

    rule_id: str
    actions: tuple[Mapping[str, Any], ...]
    """As the answer lists them."""
    state_changes: Mapping[str, Any]
    """What it changes in the profile's state; empty when everything is so already."""
    reads_state: bool
    needs_commit: bool
    """It changes state, or it looked at state that an earlier rule of this decision changed."""


@dataclass(frozen=True, slots=True)
class PersonalizationDecision:
    """What to do for one visitor, and why."""

    reason: PersonalizationReason
    fired: tuple[FiredRule, ...] = ()
    skipped: tuple[SkippedRule, ...] = ()
    variants: Mapping[str, str] = field(default_factory=dict)
    coercions: int = 0
    """How often a text was taken for a number."""
    trace: tuple[TraceLine, ...] = ()

    @property
    def actions(self) -> tuple[Mapping[str, Any], ...]:
        """Everything that the page is told to do."""
        return tuple(action for rule in self.fired for action in rule.actions)

    @property
    def rule_ids(self) -> tuple[str, ...]:
        """Rules that applied, in their order."""
        return tuple(rule.rule_id for rule in self.fired)

    @property
    def state_changes(self) -> Mapping[str, Any]:
        """What to write to the profile's `state`; a later rule wins."""
        return {key: value for rule in self.fired for key, value in rule.state_changes.items()}

    @property
    def reads_state(self) -> bool:
        """Whether a rule that fired looked at the state: the write needs a precondition."""
        return any(rule.reads_state for rule in self.fired)

    def without_state_actions(self) -> PersonalizationDecision:
        """Return what is left when the state could not be committed; then it is DEGRADED."""
        kept = tuple(rule for rule in self.fired if not rule.needs_commit)
        if len(kept) == len(self.fired):
            return self
        return replace(self, fired=kept, reason="MATCHED" if kept else "DEGRADED")


def decide_personalization(
    event: Event,
    book: RuleBook,
    profile: Profile | None,
    *,
    consent: Consent,
    has_identifier: bool,
    unavailable: frozenset[str] = frozenset(),
    explain: bool = False,
    hides: Hides = hides_nothing,
) -> PersonalizationDecision:
    """Return the decision; never raises.

    `unavailable` names what could not be loaded (`profile`, `state`): a rule that needs it does
    not apply. Without `analytics_storage` the profile is left aside and no state is written.
    `explain` adds the trace, without the values of attributes that it `hides`.
    """
    if not has_identifier:
        return PersonalizationDecision("NO_IDENTIFIER")
    if not consent.allows(ANALYTICS_STORAGE):
        profile = None
    run = _Run(make_facts(event.parameters, profile), consent, missing_sources(unavailable))
    rules = book.personalization_bucket(event.name).rules
    for position, rule in enumerate(rules):
        facts, reason = run.facts, run.decide_rule(rule)
        if explain:
            run.trace.append(trace_rule(rule, reason, facts, run.missing, hides))
        if reason == "MATCHED" and rule.stop_on_match:
            rest = rules[position + 1 :] if explain else ()
            run.trace += (trace_rule(r, "STOPPED", run.facts, run.missing, hides) for r in rest)
            break
    return run.to_decision()


class _Run:
    """One evaluation in progress."""

    __slots__ = ("_changes", "_coercions", "_fired", "_reasons", "_skipped", "consent", "facts",
                 "missing", "trace")  # fmt: skip

    def __init__(self, facts: Facts, consent: Consent, missing: frozenset[Source]) -> None:
        self.facts = facts
        self.consent = consent
        self.missing = missing
        self.trace: list[TraceLine] = []
        self._changes: dict[str, Any] = {}
        self._coercions = 0
        self._fired: list[FiredRule] = []
        self._reasons: set[RuleReason] = set()
        self._skipped: list[SkippedRule] = []

    def decide_rule(self, rule: PersonalizationRule) -> RuleReason:
        reason = self._reason(rule)
        self._reasons.add(reason)
        if reason == "MATCHED":
            self._fire(rule)
        return reason

    def _reason(self, rule: PersonalizationRule) -> RuleReason:
        if not self._is_allowed(rule):
            return "CONSENT_DENIED"
        try:
            # State lies in the profile's document: what was not loaded cannot be written either.
            if self.missing and (rule.state_changes or rule.is_lacking(self.facts, self.missing)):
                return "UNAVAILABLE"
            return "MATCHED" if rule.condition.holds(self.facts) else self._unmet(rule)
        except Exception as error:  # noqa: BLE001 - a broken rule harms only itself
            self._skipped.append(SkippedRule(rule.rule_id, type(error).__name__))
            return "ERROR"

    def _is_allowed(self, rule: PersonalizationRule) -> bool:
        if rule.state_changes and not self.consent.allows(ANALYTICS_STORAGE):
            return False
        return all(map(self.consent.allows, rule.purposes))

    def _unmet(self, rule: PersonalizationRule) -> RuleReason:
        """Tell "not met" from "might have been met, had we been allowed to look"."""
        looks_at_profile = rule.is_lacking(self.facts, frozenset(("profile", "user_state")))
        if looks_at_profile and not self.consent.allows(ANALYTICS_STORAGE):
            return "CONSENT_DENIED"
        return "CONDITIONS_NOT_MET"

    def _fire(self, rule: PersonalizationRule) -> None:
        state = self.facts.state
        changes = {
            key: value
            for key, value in rule.state_changes.items()
            if not same(state.get(key), value)
        }
        reads_state = "user_state" in rule.condition.reads
        needs_commit = bool(changes) or (reads_state and bool(self._changes))
        actions = tuple({"rule_id": rule.rule_id, **a.to_answer()} for a in rule.actions)
        self._fired.append(FiredRule(rule.rule_id, actions, changes, reads_state, needs_commit))
        if changes:
            self._changes |= changes
            self._coercions += self.facts.coercions
            self.facts = self.facts.with_state({**state, **changes})

    def to_decision(self) -> PersonalizationDecision:
        return PersonalizationDecision(
            reason=self._overall(),
            fired=tuple(self._fired),
            skipped=tuple(self._skipped),
            coercions=self._coercions + self.facts.coercions,
            trace=tuple(self.trace),
        )

    def _overall(self) -> PersonalizationReason:
        if self._fired:
            return "MATCHED"
        if "CONSENT_DENIED" in self._reasons:
            return "CONSENT_DENIED"
        return "DEGRADED" if "UNAVAILABLE" in self._reasons else "NO_MATCH"
