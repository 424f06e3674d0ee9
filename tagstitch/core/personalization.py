"""Personalization decisions: what to do for a visitor, and what to remember about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from tagstitch.core.compiled_condition import Hides, hides_nothing
from tagstitch.core.event_decision import SkippedRule
from tagstitch.core.limits import TRACED_RULES_MAX
from tagstitch.core.outbox_action import OutboxAction
from tagstitch.core.outbox_entry import OutboxEntry
from tagstitch.core.paths import Facts, Path, Source
from tagstitch.core.personalization_action import AnswerAction
from tagstitch.core.rule import PersonalizationRule
from tagstitch.core.rule_bucket import RuleBucket, every_rule
from tagstitch.core.rule_gates import missing_purposes
from tagstitch.core.rule_trace import RuleReason, TraceLine, TraceView, close_line, trace_rule
from tagstitch.core.situation import Situation
from tagstitch.core.state_ledger import StateLedger
from tagstitch.core.values import json_bytes
from tagstitch.core.work import ACTION_STEPS, LACKING_STEPS, WorkExceeded

PersonalizationReason = Literal[
    "MATCHED", "NO_MATCH", "NO_IDENTIFIER", "CONSENT_DENIED", "DEGRADED"
]

_BEHIND_CONSENT: Final[frozenset[Source]] = frozenset(("profile", "user_state", "experiment"))

_ANSWER_BYTES_PER_STEP: Final = 16
"""The answer is encoded, sent and stored: 16 bytes count as much as a comparison."""


class PersonalizationDecision(msgspec.Struct, frozen=True):
    """What to do for one visitor, and why."""

    reason: PersonalizationReason
    actions: tuple[Mapping[str, Any], ...] = ()
    """Everything that the page is told to do."""
    outbox: tuple[OutboxEntry, ...] = ()
    """Everything that is done outside once the decision is stored."""
    rule_ids: tuple[str, ...] = ()
    """Rules that applied, in their order."""
    skipped: tuple[SkippedRule, ...] = ()
    variants: Mapping[str, str] = {}
    """Experiment -> the visitor's variant."""
    coercions: int = 0
    """How often a text was taken for a number."""
    shadow: tuple[Mapping[str, Any], ...] = ()
    """What shadow rules would have done: {rule_id, actions}."""
    action_paths: tuple[Path, ...] = ()
    """What the actions of rules that matched looked at."""
    cut_off_at: str | None = None
    """The rule at which the evaluation ended because all rules together were too much work."""
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
    remember and send is noted in the ledger. Where the ledger's work is used up the evaluation
    ends, and what was decided stays.
    """
    if not situation.has_identifier:
        return PersonalizationDecision("NO_IDENTIFIER")
    facts = situation.facts(experiments, ledger.work)
    run = _Run(situation, ledger, facts.with_state(ledger.state))
    asked = bucket.candidates(run.facts, has_profile="profile" not in run.missing)
    rules: Iterable[tuple[PersonalizationRule, bool | None, str]]
    rules = every_rule(bucket, asked) if explain else asked
    view = TraceView(situation, ledger, hides) if explain else None
    trace: list[TraceLine] = []
    for rule, is_sure, _ in rules:
        ended = run.ended
        is_told = view is not None and len(trace) < TRACED_RULES_MAX
        line = trace_rule(rule, run.facts, view) if view and is_told else None
        reason: RuleReason = ended or "CONDITIONS_NOT_MET"
        if ended is None and is_sure is not None:
            reason = run.decide_rule(rule)
        if line is not None:
            trace.append(close_line(line, reason))
        elif run.ended is not None:
            break
    return run.to_decision(bucket, experiments, tuple(trace))


class _Run:
    """One evaluation in progress."""

    __slots__ = ("_action_paths", "_actions", "_coercions", "_cut_off_at", "_has_stopped", "_is_degraded", "_is_denied",
                 "_ledger", "_outbox", "_rule_ids", "_shadow", "_situation", "_skipped", "facts", "missing")  # fmt: skip

    def __init__(self, situation: Situation, ledger: StateLedger, facts: Facts) -> None:
        self.facts = facts
        self.missing = situation.missing
        self._situation = situation
        self._ledger = ledger
        self._coercions = 0
        self._is_degraded = False
        self._is_denied = False
        self._has_stopped = False
        self._cut_off_at: str | None = None
        self._actions: list[Mapping[str, Any]] = []
        self._outbox: list[OutboxEntry] = []
        self._rule_ids: list[str] = []
        self._shadow: list[Mapping[str, Any]] = []
        self._action_paths: list[Path] = []
        self._skipped: list[SkippedRule] = []

    @property
    def ended(self) -> RuleReason | None:
        """Why later rules are not asked any more, or None."""
        if self._cut_off_at is not None:
            return "WORK_EXCEEDED"
        return "STOPPED" if self._has_stopped else None

    def decide_rule(self, rule: PersonalizationRule) -> RuleReason:
        """Let a rule apply if it does; only then the coercions on the way are counted."""
        facts, before = self.facts, self.facts.coercions
        try:
            reason = self._decide(rule)
        except WorkExceeded:
            reason = "WORK_EXCEEDED"
        except Exception as error:  # noqa: BLE001 - a broken rule harms only itself
            self._skipped.append(SkippedRule(rule.rule_id, type(error).__name__))
            reason = "ERROR"
        if reason == "MATCHED":
            self._coercions += facts.coercions - before
        facts.coercions = before
        if self._ledger.work.is_exceeded:
            self._cut_off_at = rule.rule_id
        return reason

    def _decide(self, rule: PersonalizationRule) -> RuleReason:
        reason = self._reason(rule)
        if reason == "UNAVAILABLE":
            self._ledger.work.spend(LACKING_STEPS * len(rule.condition.read_paths))
            may_hold = rule.condition.may_hold(self.facts, self.missing)
            self._is_degraded = self._is_degraded or may_hold
        if reason != "MATCHED":
            return reason
        self._note_paths(rule)
        if rule.is_shadow:
            self._shadow.append(self._imagine(rule))
            return "SHADOW"
        return self._fire(rule)

    def _reason(self, rule: PersonalizationRule) -> RuleReason:
        situation = self._situation
        self._ledger.work.spend(rule.condition.steps)
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
        """Do everything that the rule wants and the visitor allows, or nothing."""
        if self._is_wholly_denied(rule):
            self._is_denied = True
            return "CONSENT_DENIED"
        changes = self._ledger.changed(rule.state_changes)
        entries = self._entries(rule)
        answers = self._answers(rule)
        cap = rule.gates.frequency_cap if changes or entries or answers else None
        if (changes or entries or cap is not None) and not self._ledger.may_commit():
            return "NOT_COMMITTED"
        if not self._ledger.may_send(entries):
            return "NOT_COMMITTED"
        self._rule_ids.append(rule.rule_id)
        self._has_stopped = rule.stop_on_match
        self._actions += answers
        self._outbox += entries
        self._ledger.send(entries)
        self._ledger.use(cap)
        if changes:
            self._ledger.write(changes)
            self.facts = self.facts.with_state(self._ledger.state)
        return "MATCHED"

    def _is_wholly_denied(self, rule: PersonalizationRule) -> bool:
        """Return whether the rule has actions and the visitor allows none of them.

        Its state would say that something was shown which was not.
        """
        actions = (*rule.actions, *rule.outbox_actions)
        return bool(actions) and not any(map(self._is_allowed, actions))

    def _answers(self, rule: PersonalizationRule) -> list[Mapping[str, Any]]:
        answers: list[Mapping[str, Any]] = [
            {"rule_id": rule.rule_id, **action.to_answer()}
            for action in rule.actions
            if self._is_allowed(action)
        ]
        for answer in answers:
            self._ledger.work.spend(ACTION_STEPS + json_bytes(answer) // _ANSWER_BYTES_PER_STEP)
        return answers

    def _entries(self, rule: PersonalizationRule) -> list[OutboxEntry]:
        wanted = (
            action.to_entry(self.facts, rule_id=rule.rule_id, rule_purposes=rule.gates.purposes)
            for action in rule.outbox_actions
            if self._is_allowed(action)
        )
        entries = []
        for entry in wanted:
            self._ledger.work.spend(ACTION_STEPS)
            if not self._ledger.was_sent(entry):
                entries.append(entry)
        return entries

    def _note_paths(self, rule: PersonalizationRule) -> None:
        for action in (*rule.actions, *rule.outbox_actions):
            self._action_paths += action.reads

    def _is_allowed(self, action: AnswerAction | OutboxAction) -> bool:
        return not missing_purposes(action, self._situation.consent)

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
            coercions=self._coercions,
            shadow=tuple(self._shadow),
            action_paths=tuple(self._action_paths),
            cut_off_at=self._cut_off_at,
            trace=trace,
        )

    def _overall(self, bucket: RuleBucket[PersonalizationRule]) -> PersonalizationReason:
        """Say why, by the rules of the event as a whole: which ones an index left out is no reason."""
        if self._rule_ids:
            return "MATCHED"
        if self._is_denied or self._lacks_consent(bucket):
            return "CONSENT_DENIED"
        is_degraded = self._is_degraded or self._cut_off_at is not None
        return "DEGRADED" if is_degraded or self._ledger.has_withheld else "NO_MATCH"

    def _lacks_consent(self, bucket: RuleBucket[PersonalizationRule]) -> bool:
        consent = self._situation.consent
        if not all(map(consent.allows, bucket.purposes)):
            return True
        if not self._situation.may_not_remember:
            return False
        return bucket.remembers or bucket.looks_behind(self.facts, _BEHIND_CONSENT)
