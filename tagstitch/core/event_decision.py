"""Event decisions: rename, change, filter or drop an event by its rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from tagstitch.core.compiled_condition import Hides, hides_nothing
from tagstitch.core.event import Event
from tagstitch.core.event_action import EventAction, Redact
from tagstitch.core.event_draft import EventDraft
from tagstitch.core.limits import TRACED_RULES_MAX
from tagstitch.core.paths import Facts, Path, Source
from tagstitch.core.redaction import forget_redacted
from tagstitch.core.rule import EventRule
from tagstitch.core.rule_bucket import RuleBucket, every_rule
from tagstitch.core.rule_trace import RuleReason, TraceLine, TraceView, close_line, trace_rule
from tagstitch.core.situation import Situation
from tagstitch.core.state_ledger import StateLedger
from tagstitch.core.work import ACTION_STEPS, LACKING_STEPS, WorkExceeded

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
    acted: tuple[EventAction, ...] = field(default=(), repr=False, compare=False)
    """The actions of rules that matched."""
    imagined: tuple[EventAction, ...] = field(default=(), repr=False, compare=False)
    """The actions of shadow rules that matched."""
    cut_off_at: str | None = None
    """The rule at which the evaluation ended because all rules together were too much work."""
    trace: tuple[TraceLine, ...] = ()

    @property
    def action_paths(self) -> tuple[Path, ...]:
        """What the actions of rules that matched looked at and changed, redactions aside."""
        lasting = (action for action in self.acted if not isinstance(action, Redact))
        actions = (*lasting, *self.imagined)
        return tuple(path for action in actions for path in (*action.reads, *action.touches))

    @property
    def redacted_paths(self) -> tuple[Path, ...]:
        """What redactions removed, if it was there; nobody keeps the values."""
        redactions = (action for action in self.acted if isinstance(action, Redact))
        return tuple(path for action in redactions for path in action.touches)

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

    Where the ledger's work is used up the evaluation ends: what was decided stays, and what the
    rules that are left would redact leaves the event whatever their conditions say.
    """
    facts, missing = situation.facts(experiments, ledger.work), situation.missing
    asked = _candidates(bucket, facts, missing)
    if explain:
        run = _Run(situation, ledger, facts)
        return run.decide_told(every_rule(bucket, asked), TraceView(situation, ledger, hides))
    if not missing:
        asked = _from_first(asked, facts)
        if not asked and not facts.coercions:
            return _UNCHANGED
    return _Run(situation, ledger, facts).decide(asked)


_UNCHANGED: Final = EventDecision()
"""What becomes of most events, and every value of it costs time."""


def _candidates(
    bucket: RuleBucket[EventRule], facts: Facts, missing: frozenset[Source]
) -> Sequence[tuple[EventRule, bool]]:
    """Return the rules to ask; all of them when to choose was too much work."""
    try:
        return bucket.candidates(facts, has_profile="profile" not in missing)
    except WorkExceeded:
        return [(rule, False) for rule in bucket.rules]


def _from_first(
    asked: Sequence[tuple[EventRule, bool]], facts: Facts
) -> Sequence[tuple[EventRule, bool]]:
    """Return the rules from the first that does more than not to hold.

    Most events end here: what follows is set up for rules that apply.
    """
    work = facts.work
    for position, (rule, is_sure) in enumerate(asked):
        if is_sure or not rule.is_plain:
            return asked[position:]
        condition = rule.condition
        work.left -= condition.steps  # as `spend` does, without a call
        if work.left < 0:
            return asked[position:]
        try:
            holds = (condition.check or condition.holds)(facts)
        except Exception:  # noqa: BLE001 - whoever decides asks again, and tells
            facts.coercions = 0
            return asked[position:]
        if holds:
            work.left += condition.steps  # to be counted when it applies
            return [(rule, True), *asked[position + 1 :]]
        facts.coercions = 0  # only rules that apply count theirs
    return ()


class _Run:
    """One evaluation in progress."""

    __slots__ = ("_acted", "_changes", "_cut_off_at", "_has_stopped", "_imagined", "_ledger", "_rule_ids", "_shadow",
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
        self._acted: list[EventAction] = []
        self._imagined: list[EventAction] = []
        self._changes: list[_Change] = []

    def decide(self, asked: Sequence[tuple[EventRule, bool]]) -> EventDecision:
        """Let the rules apply, in their order."""
        ended: RuleReason | None = None
        for position, (rule, is_sure) in enumerate(asked):
            if is_sure and rule.is_plain and not self.missing:  # nothing is left to ask
                ended = self.apply_sure(rule)
            elif self.decide_rule(rule) in _MAY_END:
                ended = self.ended
            if ended is not None:
                if ended == "WORK_EXCEEDED":
                    self.cut_off(rule, [left for left, _ in asked[position:]])
                break
        return self.to_decision(())

    def decide_told(
        self, rules: Sequence[tuple[EventRule, bool | None]], view: TraceView
    ) -> EventDecision:
        """Do the same, and tell of every rule why it did or did not apply."""
        trace: list[TraceLine] = []
        ended: RuleReason | None = None
        for position, (rule, is_sure) in enumerate(rules):
            facts = self.facts_now(is_free=True) if rule.is_chained else self.facts
            is_told = len(trace) < TRACED_RULES_MAX
            line = trace_rule(rule, facts, view) if is_told else None
            reason: RuleReason = ended or "CONDITIONS_NOT_MET"
            if ended is None and is_sure is not None:
                if is_sure and rule.is_plain and not self.missing:
                    reason, ended = "MATCHED", self.apply_sure(rule)
                else:
                    reason = self.decide_rule(rule)
                    ended = self.ended if reason in _MAY_END else None
                if ended == "WORK_EXCEEDED":
                    self.cut_off(
                        rule, [left for left, sure in rules[position:] if sure is not None]
                    )
            if line is not None:
                trace.append(close_line(line, reason))
        return self.to_decision(tuple(trace))

    @property
    def ended(self) -> RuleReason | None:
        """Why later rules are not asked any more, or None."""
        if self.draft.is_dropped:
            return "EVENT_DROPPED"
        if self._work.is_exceeded:
            return "WORK_EXCEEDED"
        return "STOPPED" if self._has_stopped else None

    def facts_now(self, *, is_free: bool = False) -> Facts:
        """Return what a chained rule's conditions look at: the event as it is now."""
        if not is_free:  # telling why uses up nothing
            self._work.spend(ACTION_STEPS)
        present = {**self.draft.parameters, "event_name": self.draft.name}
        return self.facts.with_event(present)

    def apply_sure(self, rule: EventRule) -> RuleReason | None:
        """Apply a rule without gates whose conditions hold; return why later ones are not asked."""
        self._work.left -= rule.condition.steps
        self._has_stopped = rule.stop_on_match
        self._apply(rule)
        if self._has_stopped or self._work.left < 0 or self.draft.is_dropped:
            return self.ended
        return None

    def decide_rule(self, rule: EventRule) -> RuleReason:
        """Let a rule apply if it does; only then the coercions on the way are counted."""
        facts = self.facts
        before = facts.coercions
        try:
            facts = self.facts_now() if rule.is_chained else facts
            reason = self._decide(rule, facts)
        except WorkExceeded:
            reason = "WORK_EXCEEDED"
        except Exception as error:  # noqa: BLE001 - a broken rule harms only itself
            self._skipped.append(SkippedRule(rule.rule_id, type(error).__name__))
            reason = "ERROR"
        if reason != "MATCHED":
            self.facts.coercions = before
        elif facts is not self.facts:
            self.facts.coercions += facts.coercions
        return reason

    def _decide(self, rule: EventRule, facts: Facts) -> RuleReason:
        if not rule.is_plain or self.missing:
            return self._decide_gated(rule, facts)
        self._work.spend(rule.condition.steps)  # nearly every rule: nothing else to ask
        if not rule.condition.holds(facts):
            return "CONDITIONS_NOT_MET"
        self._has_stopped = rule.stop_on_match
        self._apply(rule)
        return "MATCHED"

    def _decide_gated(self, rule: EventRule, facts: Facts) -> RuleReason:
        reason = self._reason(rule, facts)
        if reason == "UNAVAILABLE":
            if rule.is_shadow or not rule.redactions:
                return reason
            self._work.spend(LACKING_STEPS * len(rule.condition.read_paths))
            if rule.condition.may_hold(facts, self.missing):
                return self._redact_at_least(rule, reason)
        if reason != "MATCHED":
            return reason
        if rule.is_shadow:
            self._shadow.append((rule.rule_id, self._imagine(rule)))
            return "SHADOW"
        cap = rule.gates.frequency_cap
        if cap is not None and not self._ledger.may_commit():
            return self._redact_at_least(rule, "NOT_COMMITTED")
        self._has_stopped = rule.stop_on_match
        if self._apply(rule):
            self._ledger.use(cap)
        return "MATCHED"

    def _reason(self, rule: EventRule, facts: Facts) -> RuleReason:
        self._work.spend(rule.condition.steps)
        closed = rule.gates.closed(self._situation)
        if closed is not None:
            return closed
        if self.missing and rule.is_lacking(facts, self.missing):
            return "UNAVAILABLE"
        if not rule.condition.holds(facts):
            return "CONDITIONS_NOT_MET"
        return rule.gates.refused(self._situation, facts, self._ledger) or "MATCHED"

    def _redact_at_least(self, rule: EventRule, reason: RuleReason) -> RuleReason:
        """Redact where the rule's other actions are left out: what is not known may be private.

        The rules behind it run all the same, also when it would stop them if it were sure.
        """
        if rule.is_shadow or not rule.redactions:
            return reason
        self._rule_ids.append(rule.rule_id)
        for redaction in self._allowed(rule.redactions):
            self._acted.append(redaction)
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
                self._acted.append(whole)
                self._note(rule, whole, whole.apply(self.draft, self.facts))
                if rule.rule_id not in self._rule_ids[-1:]:
                    self._rule_ids.append(rule.rule_id)

    def _apply(self, rule: EventRule) -> bool:
        """Do what the visitor allows of the actions; return whether anything changed."""
        self._rule_ids.append(rule.rule_id)
        before = len(self._changes)
        self._act(rule, self.draft, self._acted, self._changes)
        return len(self._changes) > before

    def _imagine(self, rule: EventRule) -> list[_Change]:
        """Return what a shadow rule would change in the event as it is now."""
        changes: list[_Change] = []
        self._act(rule, self.draft.copy(), self._imagined, changes)
        return changes

    def _act(
        self,
        rule: EventRule,
        draft: EventDraft,
        acted: list[EventAction],
        changes: list[_Change],
    ) -> None:
        """Do the rule's actions in a draft; note which were done and what they changed."""
        rule_id, facts, work = rule.rule_id, self.facts, self._work
        note = changes.append
        for action in rule.actions:
            purposes = action.purposes
            if purposes and not all(map(self._situation.consent.allows, purposes)):
                continue
            acted.append(action)
            try:
                work.spend(ACTION_STEPS)
                effects = action.apply(draft, facts)
            except WorkExceeded:
                return
            except Exception as error:  # noqa: BLE001 - a broken rule harms only itself
                self._skipped.append(SkippedRule(rule_id, type(error).__name__))
                continue
            for effect in effects:
                note((action, {"rule_id": rule_id, **effect}))
            if draft.is_dropped or work.left < 0:
                return

    def _note(
        self, rule: EventRule, action: EventAction, effects: Iterable[Mapping[str, Any]]
    ) -> None:
        for effect in effects:
            self._changes.append((action, {"rule_id": rule.rule_id, **effect}))

    def _allowed(self, actions: Iterable[A]) -> Iterable[A]:
        allows = self._situation.consent.allows
        return (action for action in actions if all(map(allows, action.purposes)))

    def to_decision(self, trace: tuple[TraceLine, ...]) -> EventDecision:
        draft = self.draft
        is_untouched = not (self._rule_ids or self._imagined or self._skipped or trace)
        if is_untouched and not self.facts.coercions and self._cut_off_at is None:
            return _UNCHANGED
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
                {"rule_id": rule_id, "modifications": [_without_rule(told) for _, told in found]}
                for rule_id, found in self._shadow
            ),
            acted=tuple(self._acted),
            imagined=tuple(self._imagined),
            cut_off_at=self._cut_off_at,
            trace=trace,
        )


def _without_rule(modification: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in modification.items() if name != "rule_id"}


def _top_level(path: Path) -> tuple[str, ...]:
    """Return the top-level parameters in which a path's value may lie."""
    return path.base[:1] if path.literal else (path.base[0], ".".join(path.base))
