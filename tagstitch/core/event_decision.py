"""Event decisions: rename, change, filter or drop an event by its rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tagstitch.core.compiled_condition import Hides, hides_nothing
from tagstitch.core.event import Event
from tagstitch.core.event_action import VALUE_FIELDS, EventAction, Redact
from tagstitch.core.event_draft import EventDraft
from tagstitch.core.paths import Facts, Path
from tagstitch.core.rule import EventRule
from tagstitch.core.rule_bucket import RuleBucket, rule_ids
from tagstitch.core.rule_trace import RuleReason, TraceLine, trace_rule
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
    acted: tuple[EventAction, ...] = field(default=(), repr=False, compare=False)
    """The actions of rules that matched, shadow rules included; redactions that applied aside."""
    redactions: tuple[Redact, ...] = field(default=(), repr=False, compare=False)
    """The redactions that applied."""
    trace: tuple[TraceLine, ...] = ()

    @property
    def action_paths(self) -> tuple[Path, ...]:
        """What the actions of rules that matched looked at and changed, redactions aside."""
        return tuple(path for action in self.acted for path in (*action.reads, *action.touches))

    @property
    def redacted_paths(self) -> tuple[Path, ...]:
        """What redactions removed, if it was there; nobody keeps the values."""
        return tuple(path for action in self.redactions for path in action.touches)

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
        payload = dict(event.parameters)
        for name in self.unset:
            payload.pop(name, None)
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
    trace: list[TraceLine] = []
    for position, rule in enumerate(rules):
        facts = run.facts_for(rule)
        if rule.rule_id in unasked:
            trace.append(trace_rule(rule, "CONDITIONS_NOT_MET", facts, run.missing, hides))
            continue
        reason = run.decide_rule(rule, facts)
        if explain:
            trace.append(trace_rule(rule, reason, facts, run.missing, hides))
        if run.draft.is_dropped or (reason == "MATCHED" and rule.stop_on_match):
            if explain:
                ended: RuleReason = "EVENT_DROPPED" if run.draft.is_dropped else "STOPPED"
                trace += (
                    trace_rule(later, ended, run.facts_for(later), run.missing, hides)
                    for later in rules[position + 1 :]
                )
            break
    return run.to_decision(tuple(trace))


_UNCHANGED: Final = EventDecision()


class _Run:
    """One evaluation in progress."""

    __slots__ = ("_acted", "_changes", "_ledger", "_redactions", "_rule_ids", "_shadow", "_situation", "_skipped", "draft",
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
        self._acted: list[EventAction] = []
        self._redactions: list[Redact] = []
        self._changes: list[tuple[EventAction, dict[str, Any]]] = []

    def facts_for(self, rule: EventRule) -> Facts:
        """Return what a rule's conditions look at: the event as it arrived, or as it is now."""
        if not rule.is_chained:
            return self.facts
        present = {**self.draft.parameters, "event_name": self.draft.name}
        return self.facts.with_event(present)

    def decide_rule(self, rule: EventRule, facts: Facts) -> RuleReason:
        try:
            if not rule.is_plain or self.missing:
                return self._decide_gated(rule, facts)
            if not rule.condition.holds(facts):  # nearly every rule: nothing else to ask
                return "CONDITIONS_NOT_MET"
        except Exception as error:  # noqa: BLE001 - a broken rule harms only itself
            self._skipped.append(SkippedRule(rule.rule_id, type(error).__name__))
            return "ERROR"
        self._apply(rule, rule.actions)
        return "MATCHED"

    def _decide_gated(self, rule: EventRule, facts: Facts) -> RuleReason:
        reason = self._reason(rule, facts)
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
        may_redact = bool(redactions) and not rule.is_shadow
        if not may_redact or not rule.condition.may_hold(facts, self.missing):
            return "UNAVAILABLE"
        self._apply(rule, redactions)
        return "MATCHED"

    def _apply(self, rule: EventRule, actions: Iterable[EventAction]) -> bool:
        """Do what the visitor allows of these actions; return whether anything changed."""
        rule_id = rule.rule_id
        self._rule_ids.append(rule_id)
        before = len(self._changes)
        for action in actions:
            effects = self._effects(rule, action, self.draft)
            if effects:
                if isinstance(action, Redact):
                    self._forget_values(action.parameters)
                for effect in effects:
                    self._changes.append((action, {"rule_id": rule_id, **effect}))
                if self.draft.is_dropped:
                    break
        return len(self._changes) > before

    def _effects(
        self, rule: EventRule, action: EventAction, draft: EventDraft
    ) -> Sequence[Mapping[str, Any]]:
        """Do one action, if the visitor allows it; return what it changed in the draft."""
        purposes = action.purposes
        if purposes and not all(map(self._situation.consent.allows, purposes)):
            return ()
        if isinstance(action, Redact) and draft is self.draft:
            self._redactions.append(action)
        else:
            self._acted.append(action)
        try:
            return action.apply(draft, self.facts)
        except Exception as error:  # noqa: BLE001 - a broken rule harms only itself
            self._skipped.append(SkippedRule(rule.rule_id, type(error).__name__))
            return ()

    def _imagine(self, rule: EventRule) -> Mapping[str, Any]:
        """Return what a shadow rule would change in the event as it is now."""
        draft = self.draft.copy()
        modifications: list[Mapping[str, Any]] = []
        for action in rule.actions:
            modifications += self._effects(rule, action, draft)
            if draft.is_dropped:
                break
        return {"rule_id": rule.rule_id, "modifications": modifications}

    def _forget_values(self, redacted: Sequence[Path]) -> None:
        """Take the values of redacted parameters out of what was recorded before."""
        for action, modification in self._changes:
            if any(overlap(touched, path) for touched in action.touches for path in redacted):
                for name in VALUE_FIELDS:
                    modification.pop(name, None)

    def to_decision(self, trace: tuple[TraceLine, ...]) -> EventDecision:
        draft = self.draft
        is_untouched = not (self._rule_ids or self._acted or self._skipped or trace)
        if is_untouched and not self.facts.coercions:
            return _UNCHANGED  # most events, and every value of it costs time
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
            acted=tuple(self._acted),
            redactions=tuple(self._redactions),
            trace=trace,
        )


def overlap(one: Path, other: Path) -> bool:
    """Return whether one path leads to the other's value or to a part of it."""
    left, right = ".".join(one.base) + ".", ".".join(other.base) + "."
    return left.startswith(right) or right.startswith(left)
