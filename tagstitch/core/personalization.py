"""Personalization decisions: what to do for a visitor, and what to remember about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tagstitch.core.compiled_condition import Hides, hides_nothing
from tagstitch.core.event_decision import SkippedRule
from tagstitch.core.outbox_action import OutboxAction
from tagstitch.core.outbox_entry import OutboxEntry
from tagstitch.core.paths import Facts, Path, Source
from tagstitch.core.personalization_action import AnswerAction
from tagstitch.core.rule import PersonalizationRule
from tagstitch.core.rule_bucket import RuleBucket, rule_ids
from tagstitch.core.rule_trace import RuleReason, TraceLine, trace_rule
from tagstitch.core.situation import Situation
from tagstitch.core.state_ledger import StateLedger

PersonalizationReason = Literal[
    "MATCHED", "NO_MATCH", "NO_IDENTIFIER", "CONSENT_DENIED", "DEGRADED"
]

_BEHIND_CONSENT: Final[frozenset[Source]] = frozenset(("profile", "user_state", "experiment"))


@dataclass(frozen=True, slots=True)
class PersonalizationDecision:
    """What to do for one visitor, and why."""

    reason: PersonalizationReason
    actions: tuple[Mapping[str, Any], ...] = ()
    """Everything that the page is told to do."""
    outbox: tuple[OutboxEntry, ...] = ()
    """Everything that is done outside once the decision is stored."""
    rule_ids: tuple[str, ...] = ()
    """Rules that applied, in their order."""
    skipped: tuple[SkippedRule, ...] = ()
    variants: Mapping[str, str] = field(default_factory=dict)
    """Experiment -> the visitor's variant."""
    coercions: int = 0
    """How often a text was taken for a number."""
    shadow: tuple[Mapping[str, Any], ...] = ()
    """What shadow rules would have done: {rule_id, actions}."""
    action_paths: tuple[Path, ...] = ()
    """What the actions of rules that matched looked at."""
    trace: tuple[TraceLine, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the decision as the body of `POST /decide` has it."""
        return {
            "reason": self.reason,
            "variants": dict(self.variants),
            "actions": list(self.actions),
        }


def decide_personalization(
    situation: Situation,
    bucket: RuleBucket[PersonalizationRule],
    ledger: StateLedger,
    *,
    experiments: Mapping[str, str],
    explain: bool = False,
    hides: Hides = hides_nothing,
) -> PersonalizationDecision:
    """Return the decision; never raises.

    A rule that needs what could not be loaded does not apply. `explain` adds the trace of every
    rule, without the values of attributes that it `hides`, and changes nothing else. What rules
    remember and send is noted in the ledger.
    """
    if not situation.has_identifier:
        return PersonalizationDecision("NO_IDENTIFIER")
    facts = situation.facts(experiments)
    run = _Run(situation, ledger, facts.with_state(ledger.state))
    candidates = bucket.candidates(run.facts, has_profile="profile" not in run.missing)
    rules = bucket.rules if explain else candidates
    unasked = rule_ids(rules) - rule_ids(candidates) if explain else frozenset()
    trace: list[TraceLine] = []
    for position, rule in enumerate(rules):
        if rule.rule_id in unasked:
            trace.append(trace_rule(rule, "CONDITIONS_NOT_MET", run.facts, run.missing, hides))
            continue
        facts, reason = run.facts, run.decide_rule(rule)
        if explain:
            trace.append(trace_rule(rule, reason, facts, run.missing, hides))
        if reason == "MATCHED" and rule.stop_on_match:
            if explain:
                trace += (
                    trace_rule(later, "STOPPED", run.facts, run.missing, hides)
                    for later in rules[position + 1 :]
                )
            break
    return run.to_decision(bucket, experiments, tuple(trace))


class _Run:
    """One evaluation in progress."""

    __slots__ = ("_action_paths", "_actions", "_coercions", "_is_degraded", "_ledger", "_outbox", "_rule_ids", "_shadow",
                 "_situation", "_skipped", "facts", "missing")  # fmt: skip

    def __init__(self, situation: Situation, ledger: StateLedger, facts: Facts) -> None:
        self.facts = facts
        self.missing = situation.missing
        self._situation = situation
        self._ledger = ledger
        self._coercions = 0
        self._is_degraded = False
        self._actions: list[Mapping[str, Any]] = []
        self._outbox: list[OutboxEntry] = []
        self._rule_ids: list[str] = []
        self._shadow: list[Mapping[str, Any]] = []
        self._action_paths: list[Path] = []
        self._skipped: list[SkippedRule] = []

    def decide_rule(self, rule: PersonalizationRule) -> RuleReason:
        try:
            reason = self._reason(rule)
            self._is_degraded = self._is_degraded or reason == "UNAVAILABLE"
            if reason != "MATCHED":
                return reason
            self._note_paths(rule)
            if rule.is_shadow:
                self._shadow.append(self._imagine(rule))
                return "SHADOW"
            return self._fire(rule)
        except Exception as error:  # noqa: BLE001 - a broken rule harms only itself
            self._skipped.append(SkippedRule(rule.rule_id, type(error).__name__))
            return "ERROR"

    def _reason(self, rule: PersonalizationRule) -> RuleReason:
        situation = self._situation
        closed = rule.gates.closed(situation)
        if closed is None and rule.remembers:
            closed = situation.obstacle
        if closed is not None:
            return closed
        if self.missing and rule.is_lacking(self.facts, self.missing):
            return "UNAVAILABLE"
        if not rule.condition.holds(self.facts):
            return "CONDITIONS_NOT_MET"
        return rule.gates.refused(situation, self.facts, self._ledger) or "MATCHED"

    def _fire(self, rule: PersonalizationRule) -> RuleReason:
        """Do everything that the rule wants, or nothing."""
        changes = self._ledger.changed(rule.state_changes)
        entries = self._entries(rule)
        cap = rule.gates.frequency_cap
        if (changes or entries or cap is not None) and not self._ledger.may_commit():
            return "NOT_COMMITTED"
        answers = [
            {"rule_id": rule.rule_id, **action.to_answer()}
            for action in rule.actions
            if self._is_allowed(action)
        ]
        self._rule_ids.append(rule.rule_id)
        self._actions += answers
        self._outbox += entries
        self._ledger.send(entries)
        self._ledger.use(cap)
        if changes:
            self._ledger.write(changes)
            self._coercions += self.facts.coercions
            self.facts = self.facts.with_state(self._ledger.state)
        return "MATCHED"

    def _entries(self, rule: PersonalizationRule) -> list[OutboxEntry]:
        wanted = (
            action.to_entry(self.facts, rule_id=rule.rule_id)
            for action in rule.outbox_actions
            if self._is_allowed(action)
        )
        return [entry for entry in wanted if not self._ledger.was_sent(entry)]

    def _note_paths(self, rule: PersonalizationRule) -> None:
        for action in (*rule.actions, *rule.outbox_actions):
            self._action_paths += action.reads

    def _is_allowed(self, action: AnswerAction | OutboxAction) -> bool:
        """Return whether the visitor allows one action; some need a grant on record."""
        consent = self._situation.consent
        if isinstance(action, OutboxAction) and action.needs_recorded_grant:
            return all(map(consent.has_recorded_grant, action.purposes))
        return all(map(consent.allows, action.purposes))

    def _imagine(self, rule: PersonalizationRule) -> Mapping[str, Any]:
        """Return what a shadow rule would do."""
        types = [action.to_answer()["type"] for action in rule.actions if self._is_allowed(action)]
        types += [entry.type for entry in self._entries(rule)]
        return {"rule_id": rule.rule_id, "actions": types}

    def to_decision(
        self,
        bucket: RuleBucket[PersonalizationRule],
        experiments: Mapping[str, str],
        trace: tuple[TraceLine, ...],
    ) -> PersonalizationDecision:
        return PersonalizationDecision(
            reason=self._overall(bucket),
            actions=tuple(self._actions),
            outbox=tuple(self._outbox),
            rule_ids=tuple(self._rule_ids),
            skipped=tuple(self._skipped),
            variants=experiments,
            coercions=self._coercions + self.facts.coercions,
            shadow=tuple(self._shadow),
            action_paths=tuple(self._action_paths),
            trace=trace,
        )

    def _overall(self, bucket: RuleBucket[PersonalizationRule]) -> PersonalizationReason:
        """Say why, by the rules of the event as a whole: which ones an index left out is no reason."""
        if self._rule_ids:
            return "MATCHED"
        if self._lacks_consent(bucket):
            return "CONSENT_DENIED"
        return "DEGRADED" if self._is_degraded or self._ledger.has_withheld else "NO_MATCH"

    def _lacks_consent(self, bucket: RuleBucket[PersonalizationRule]) -> bool:
        consent = self._situation.consent
        if not all(map(consent.allows, bucket.purposes)):
            return True
        if not self._situation.may_not_remember:
            return False
        return bucket.remembers or bucket.looks_behind(self.facts, _BEHIND_CONSENT)
