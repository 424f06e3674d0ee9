"""Event decisions: rename, change, filter or drop an event by its rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from tagstitch.core.compiled_condition import Hides, hides_nothing
from tagstitch.core.event import Event
from tagstitch.core.event_action import EventAction, Redact
from tagstitch.core.event_draft import EventDraft
from tagstitch.core.paths import Facts, Path
from tagstitch.core.redaction import forget_redacted
from tagstitch.core.rule import EventRule
from tagstitch.core.rule_bucket import RuleBucket, rule_ids
from tagstitch.core.rule_gates import OPEN_GATES
from tagstitch.core.rule_trace import RuleReason, TraceLine, trace_rule
from tagstitch.core.situation import Situation
from tagstitch.core.state_ledger import StateLedger
from tagstitch.core.work import ACTION_STEPS, WorkExceeded

_TO_ACT_ON: Final[frozenset[RuleReason]] = frozenset(("MATCHED", "UNAVAILABLE"))

_MAY_END: Final[frozenset[RuleReason]] = frozenset(("MATCHED", "SHADOW", "WORK_EXCEEDED"))
"""What a rule may have answered when no rule behind it is asked any more."""

A = TypeVar("A", bound=EventAction)

_Change = tuple[EventAction, dict[str, Any]]
"""An action and one of its effects, as the answer lists it."""


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
    cut_off_at: str | None = None
    """The rule at which the evaluation ended because all rules together were too much work."""
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

    Where the ledger's work is used up the evaluation ends: what was decided stays, and what the
    rules that are left would redact leaves the event whatever their conditions say.
    """
    run = _Run(situation, ledger, situation.facts(experiments, ledger.work))
    candidates = run.candidates(bucket)
    rules = bucket.rules if explain else candidates
    unasked = rule_ids(rules) - rule_ids(candidates) if explain else frozenset()
    trace: list[TraceLine] = []
    ended: RuleReason | None = None
    for position, rule in enumerate(rules):
        facts = run.facts_now() if rule.is_chained else run.facts
        reason: RuleReason = ended or "CONDITIONS_NOT_MET"
        if ended is None and rule.rule_id not in unasked:
            reason = run.decide_rule(rule, facts)
            if reason in _MAY_END:
                ended = run.ended
            if ended == "WORK_EXCEEDED":
                run.cut_off(rule, [r for r in rules[position:] if r.rule_id not in unasked])
        if explain:
            trace.append(trace_rule(rule, reason, facts, run.missing, hides))
        elif ended is not None:
            break
    return run.to_decision(tuple(trace))


class _Run:
    """One evaluation in progress."""

    __slots__ = ("_action_paths", "_changes", "_cut_off_at", "_has_stopped", "_ledger", "_rule_ids", "_shadow",
                 "_situation", "_skipped", "_work", "draft", "facts", "missing")  # fmt: skip

    def __init__(self, situation: Situation, ledger: StateLedger, facts: Facts) -> None:
        self.draft = EventDraft(situation.event, ledger.work)
        self.facts = facts
        self.missing = situation.missing
        self._situation = situation
        self._ledger = ledger
        self._work = ledger.work
        self._has_stopped = False
        self._cut_off_at: str | None = None
        self._rule_ids: list[str] = []
        self._skipped: list[SkippedRule] = []
        self._shadow: list[tuple[str, list[_Change]]] = []
        self._action_paths: list[Path] = []
        self._changes: list[_Change] = []

    @property
    def ended(self) -> RuleReason | None:
        """Why later rules are not asked any more, or None."""
        if self.draft.is_dropped:
            return "EVENT_DROPPED"
        if self._work.is_exceeded:
            return "WORK_EXCEEDED"
        return "STOPPED" if self._has_stopped else None

    def candidates(self, bucket: RuleBucket[EventRule]) -> Sequence[EventRule]:
        """Return the rules to ask; all of them when to choose was too much work."""
        try:
            return bucket.candidates(self.facts, has_profile="profile" not in self.missing)
        except WorkExceeded:
            return bucket.rules

    def facts_now(self) -> Facts:
        """Return what a chained rule's conditions look at: the event as it is now."""
        self._work.left -= (
            ACTION_STEPS  # of the copy; the next rule is refused if that was too much
        )
        present = {**self.draft.parameters, "event_name": self.draft.name}
        return self.facts.with_event(present)

    def decide_rule(self, rule: EventRule, facts: Facts) -> RuleReason:
        """Let a rule apply if it does; only then the coercions on the way are counted."""
        own = self.facts
        before = own.coercions
        try:
            reason = self._reason(rule, facts)
            if reason in _TO_ACT_ON:
                reason = self._act(rule, facts, reason)
        except WorkExceeded:
            reason = "WORK_EXCEEDED"
        except Exception as error:  # noqa: BLE001 - a broken rule harms only itself
            self._skipped.append(SkippedRule(rule.rule_id, type(error).__name__))
            reason = "ERROR"
        if reason != "MATCHED":
            own.coercions = before
        elif facts is not own:
            own.coercions += facts.coercions
        return reason

    def _act(self, rule: EventRule, facts: Facts, reason: RuleReason) -> RuleReason:
        if reason == "UNAVAILABLE":
            may_hold = rule.condition.may_hold(facts, self.missing)
            return self._redact_at_least(rule, reason) if may_hold else reason
        if rule.is_shadow:
            effects = self._effects(rule, self.draft.copy())
            self._shadow.append(
                (rule.rule_id, [(a, dict(e)) for a, found in effects for e in found])
            )
            return "SHADOW"
        cap = rule.gates.frequency_cap
        if cap is not None and not self._ledger.may_commit():
            return self._redact_at_least(rule, "NOT_COMMITTED")
        self._has_stopped = rule.stop_on_match
        if self._apply(rule):
            self._ledger.use(cap)
        return "MATCHED"

    def _reason(self, rule: EventRule, facts: Facts) -> RuleReason:
        gates, condition = rule.gates, rule.condition
        self._work.spend(condition.steps)
        if gates is not OPEN_GATES:
            closed = gates.closed(self._situation)
            if closed is not None:
                return closed
        if self.missing and rule.is_lacking(facts, self.missing):
            return "UNAVAILABLE"
        if not condition.holds(facts):
            return "CONDITIONS_NOT_MET"
        if gates is OPEN_GATES:
            return "MATCHED"
        return gates.refused(self._situation, facts, self._ledger) or "MATCHED"

    def _redact_at_least(self, rule: EventRule, reason: RuleReason) -> RuleReason:
        """Redact where the rule's other actions are left out: what is not known may be private.

        The rules behind it run all the same, also when it would stop them if it were sure.
        """
        if rule.is_shadow or not rule.redactions:
            return reason
        self._rule_ids.append(rule.rule_id)
        for redaction in self._allowed(rule.redactions):
            self._action_paths += redaction.touches
            self._note(rule, redaction, redaction.apply(self.draft, self.facts))
        return "MATCHED"

    def cut_off(self, rule: EventRule, rest: Iterable[EventRule]) -> None:
        """End the evaluation at a rule; `rest` are it and the ones behind it.

        Of nested parameters to redact the whole top-level one goes: each can go only once, so that
        this ends soon whatever the rules are.
        """
        self._cut_off_at = rule.rule_id
        for left in rest:
            is_open = left.gates.closed(self._situation) in (None, "UNAVAILABLE")
            if left.redactions and is_open and not left.is_shadow:
                for redaction in self._allowed(left.redactions):
                    self._redact_whole(left, redaction)

    def _redact_whole(self, rule: EventRule, redaction: Redact) -> None:
        for key in dict.fromkeys(k for path in redaction.parameters for k in _top_level(path)):
            if key in self.draft.parameters:
                whole = Redact((Path(key, "event", (key,), literal=True),))
                self._action_paths += whole.touches
                self._note(rule, whole, whole.apply(self.draft, self.facts))
                if rule.rule_id not in self._rule_ids[-1:]:
                    self._rule_ids.append(rule.rule_id)

    def _apply(self, rule: EventRule) -> bool:
        """Do what the visitor allows of the actions; return whether anything changed."""
        self._rule_ids.append(rule.rule_id)
        before = len(self._changes)
        for action, effects in self._effects(rule, self.draft):
            self._note(rule, action, effects)
        return len(self._changes) > before

    def _note(
        self, rule: EventRule, action: EventAction, effects: Iterable[Mapping[str, Any]]
    ) -> None:
        self._changes += ((action, {"rule_id": rule.rule_id, **effect}) for effect in effects)

    def _allowed(self, actions: Iterable[A]) -> Iterable[A]:
        allows = self._situation.consent.allows
        return (action for action in actions if all(map(allows, action.purposes)))

    def _effects(
        self, rule: EventRule, draft: EventDraft
    ) -> Iterable[tuple[EventAction, Sequence[Mapping[str, Any]]]]:
        for action in self._allowed(rule.actions):
            self._action_paths += (*action.reads, *action.touches)
            try:
                self._work.spend(ACTION_STEPS)
                effects = action.apply(draft, self.facts)
            except WorkExceeded:
                return
            except Exception as error:  # noqa: BLE001 - a broken rule harms only itself
                self._skipped.append(SkippedRule(rule.rule_id, type(error).__name__))
                continue
            yield action, effects
            if draft.is_dropped:
                return

    def to_decision(self, trace: tuple[TraceLine, ...]) -> EventDecision:
        draft = self.draft
        forget_redacted(self._changes, [change for _, found in self._shadow for change in found])
        return EventDecision(
            drop=draft.is_dropped,
            rename=draft.name if draft.name != draft.event.name else None,
            set=draft.changed_parameters(),
            unset=tuple(draft.removed_parameters()),
            modifications=tuple(modification for _, modification in self._changes),
            rule_ids=tuple(self._rule_ids),
            skipped=tuple(self._skipped),
            coercions=self.facts.coercions,
            shadow=tuple(
                {"rule_id": rule_id, "modifications": [told for _, told in found]}
                for rule_id, found in self._shadow
            ),
            action_paths=tuple(self._action_paths),
            cut_off_at=self._cut_off_at,
            trace=trace,
        )


def _top_level(path: Path) -> tuple[str, ...]:
    """Return the top-level parameters in which a path's value may lie."""
    return path.base[:1] if path.literal else (path.base[0], ".".join(path.base))
