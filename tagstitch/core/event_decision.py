"""Event decisions: rename, change, filter or drop an event by its rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tagstitch.core.compiled_condition import Hides, hides_nothing
from tagstitch.core.event import Event
from tagstitch.core.event_action import VALUE_FIELDS, EventAction, Redact
from tagstitch.core.event_draft import EventDraft
from tagstitch.core.paths import Facts, Path
from tagstitch.core.rule import EventRule
from tagstitch.core.rule_bucket import RuleBucket, rule_ids
from tagstitch.core.rule_trace import RuleReason, TraceLine, TraceView, close_line, trace_rule
from tagstitch.core.situation import Situation
from tagstitch.core.state_ledger import StateLedger


@dataclass(frozen=True, slots=True)
class SkippedRule:
    """A rule, or one of its actions, that raised; `error` is the class of the exception."""

    rule_id: str
    error: str


@dataclass(frozen=True, slots=True)
class EventDecision:
    """What becomes of one event, and why."""

    drop: bool = False
    rename: str | None = None
    set: Mapping[str, Any] = field(default_factory=dict)
    """Top-level parameters with a new value."""
    unset: tuple[str, ...] = ()
    modifications: tuple[Mapping[str, Any], ...] = ()
    """Effective changes in their order, as the answer lists them."""
    rule_ids: tuple[str, ...] = ()
    """Rules that applied, in their order, also those that found nothing to change."""
    skipped: tuple[SkippedRule, ...] = ()
    coercions: int = 0
    """How often a text was taken for a number."""
    shadow: tuple[Mapping[str, Any], ...] = ()
    """What shadow rules would have changed: {rule_id, modifications}."""
    action_paths: tuple[Path, ...] = ()
    """What the actions of rules that matched looked at and changed."""
    trace: tuple[TraceLine, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the decision as the body of `POST /decide` has it."""
        return {
            "drop": self.drop,
            "rename": self.rename,
            "set": dict(self.set),
            "unset": list(self.unset),
            "modifications": list(self.modifications),
        }

    def apply_to(self, event: Event) -> dict[str, Any]:
        """Return the whole event as it leaves, or would leave when it is dropped."""
        payload = {key: value for key, value in event.parameters.items() if key not in self.unset}
        payload |= self.set
        if self.rename is not None:
            payload["event_name"] = self.rename
        return payload


def decide_event(
    situation: Situation,
    bucket: RuleBucket[EventRule],
    ledger: StateLedger,
    *,
    experiments: Mapping[str, str],
    explain: bool = False,
    hides: Hides = hides_nothing,
) -> EventDecision:
    """Return the decision; never raises.

    A rule that needs what could not be loaded does not apply, except for redactions. `explain`
    adds the trace of every rule, without the values of attributes that it `hides`, and changes
    nothing else. What rules use up is noted in the ledger.
    """
    run = _Run(situation, ledger, situation.facts(experiments))
    candidates = bucket.candidates(run.facts, has_profile="profile" not in run.missing)
    rules = bucket.rules if explain else candidates
    unasked = rule_ids(rules) - rule_ids(candidates) if explain else frozenset()
    view = TraceView(situation, ledger, hides) if explain else None
    trace: list[TraceLine] = []
    for position, rule in enumerate(rules):
        facts = run.facts_for(rule)
        line = trace_rule(rule, facts, view) if view else None
        is_unasked = rule.rule_id in unasked
        reason = "CONDITIONS_NOT_MET" if is_unasked else run.decide_rule(rule, facts)
        if line is not None:
            trace.append(close_line(line, reason))
        if run.draft.is_dropped or (reason == "MATCHED" and rule.stop_on_match):
            if view is not None:
                ended: RuleReason = "EVENT_DROPPED" if run.draft.is_dropped else "STOPPED"
                trace += (
                    close_line(trace_rule(later, run.facts_for(later), view), ended)
                    for later in rules[position + 1 :]
                )
            break
    return run.to_decision(tuple(trace))


class _Run:
    """One evaluation in progress."""

    __slots__ = ("_action_paths", "_changes", "_ledger", "_rule_ids", "_shadow", "_situation", "_skipped", "draft",
                 "facts", "missing")  # fmt: skip

    def __init__(self, situation: Situation, ledger: StateLedger, facts: Facts) -> None:
        self.draft = EventDraft(situation.event)
        self.facts = facts
        self.missing = situation.missing
        self._situation = situation
        self._ledger = ledger
        self._rule_ids: list[str] = []
        self._skipped: list[SkippedRule] = []
        self._shadow: list[Mapping[str, Any]] = []
        self._action_paths: list[Path] = []
        self._changes: list[tuple[EventAction, dict[str, Any]]] = []

    def facts_for(self, rule: EventRule) -> Facts:
        """Return what a rule's conditions look at: the event as it arrived, or as it is now."""
        if not rule.is_chained:
            return self.facts
        present = {**self.draft.parameters, "event_name": self.draft.name}
        return self.facts.with_event(present)

    def decide_rule(self, rule: EventRule, facts: Facts) -> RuleReason:
        try:
            reason = self._reason(rule, facts)
        except Exception as error:  # noqa: BLE001 - a broken rule harms only itself
            self._skipped.append(SkippedRule(rule.rule_id, type(error).__name__))
            return "ERROR"
        if facts is not self.facts:
            self.facts.coercions += facts.coercions
        if reason == "UNAVAILABLE":
            return self._decide_lacking(rule, facts)
        if reason != "MATCHED":
            return reason
        if rule.is_shadow:
            self._shadow.append(self._imagine(rule))
            return "SHADOW"
        cap = rule.gates.frequency_cap
        if cap is not None and not self._ledger.may_commit():
            return "NOT_COMMITTED"
        if self._apply(rule, rule.actions):
            self._ledger.use(cap)
        return "MATCHED"

    def _reason(self, rule: EventRule, facts: Facts) -> RuleReason:
        closed = rule.gates.closed(self._situation)
        if closed is not None:
            return closed
        if self.missing and rule.is_lacking(facts, self.missing):
            return "UNAVAILABLE"
        if not rule.condition.holds(facts):
            return "CONDITIONS_NOT_MET"
        return rule.gates.refused(self._situation, facts, self._ledger) or "MATCHED"

    def _decide_lacking(self, rule: EventRule, facts: Facts) -> RuleReason:
        """Redact unless the data at hand already says no: what is not known may be private."""
        redactions = [action for action in rule.actions if isinstance(action, Redact)]
        try:
            may_hold = rule.condition.may_hold(facts, self.missing)
        except Exception as error:  # noqa: BLE001 - a broken rule harms only itself
            self._skipped.append(SkippedRule(rule.rule_id, type(error).__name__))
            return "ERROR"
        if not redactions or rule.is_shadow or not may_hold:
            return "UNAVAILABLE"
        self._apply(rule, redactions)
        return "MATCHED"

    def _apply(self, rule: EventRule, actions: Iterable[EventAction]) -> bool:
        """Do what the visitor allows of these actions; return whether anything changed."""
        self._rule_ids.append(rule.rule_id)
        before = len(self._changes)
        for action, effects in self._effects(rule, actions, self.draft):
            if isinstance(action, Redact) and effects:
                self._forget_values(action.parameters)
            self._changes += ((action, {"rule_id": rule.rule_id, **e}) for e in effects)
        return len(self._changes) > before

    def _effects(
        self, rule: EventRule, actions: Iterable[EventAction], draft: EventDraft
    ) -> Iterable[tuple[EventAction, Sequence[Mapping[str, Any]]]]:
        for action in actions:
            if not all(map(self._situation.consent.allows, action.purposes)):
                continue
            self._action_paths += (*action.reads, *action.touches)
            try:
                effects = action.apply(draft, self.facts)
            except Exception as error:  # noqa: BLE001 - a broken rule harms only itself
                self._skipped.append(SkippedRule(rule.rule_id, type(error).__name__))
                continue
            yield action, effects
            if draft.is_dropped:
                return

    def _imagine(self, rule: EventRule) -> Mapping[str, Any]:
        """Return what a shadow rule would change in the event as it is now."""
        effects = self._effects(rule, rule.actions, self.draft.copy())
        return {
            "rule_id": rule.rule_id,
            "modifications": [e for _, found in effects for e in found],
        }

    def _forget_values(self, redacted: Sequence[Path]) -> None:
        """Take the values of redacted parameters out of what was recorded before."""
        for action, modification in self._changes:
            if any(_overlap(touched, path) for touched in action.touches for path in redacted):
                for name in VALUE_FIELDS:
                    modification.pop(name, None)

    def to_decision(self, trace: tuple[TraceLine, ...]) -> EventDecision:
        draft = self.draft
        return EventDecision(
            drop=draft.is_dropped,
            rename=draft.name if draft.name != draft.event.name else None,
            set=draft.changed_parameters(),
            unset=tuple(draft.removed_parameters()),
            modifications=tuple(modification for _, modification in self._changes),
            rule_ids=tuple(self._rule_ids),
            skipped=tuple(self._skipped),
            coercions=self.facts.coercions,
            shadow=tuple(self._shadow),
            action_paths=tuple(self._action_paths),
            trace=trace,
        )


def _overlap(one: Path, other: Path) -> bool:
    """Return whether one path leads to the other's value or to a part of it."""
    left, right = ".".join(one.base) + ".", ".".join(other.base) + "."
    return left.startswith(right) or right.startswith(left)
