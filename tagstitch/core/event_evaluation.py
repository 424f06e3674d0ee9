"""The evaluation of event rules: each that applies renames, changes, filters or drops the event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from tagstitch.core.compiled_condition import Hides, hides_nothing
from tagstitch.core.event_action import EventAction, Modification, Redact
from tagstitch.core.event_decision import Effect, EventDecision, SkippedRule
from tagstitch.core.event_draft import EventDraft, open_draft
from tagstitch.core.limits import TRACED_RULES_MAX
from tagstitch.core.paths import Facts, Path, Source
from tagstitch.core.redaction import Change, forget_redacted
from tagstitch.core.rule import EventRule
from tagstitch.core.rule_bucket import RuleBucket, ToApply, every_rule
from tagstitch.core.rule_trace import RuleReason, TraceLine, TraceView, close_line, trace_rule
from tagstitch.core.situation import Situation
from tagstitch.core.state_ledger import StateLedger
from tagstitch.core.work import ACTION_STEPS, LACKING_STEPS, Work, WorkExceeded

_MAY_END: Final[frozenset[RuleReason]] = frozenset(("MATCHED", "SHADOW", "WORK_EXCEEDED"))
"""What a rule may have answered when no rule behind it is asked any more."""

A = TypeVar("A", bound=EventAction)

_FOUND: Final = itemgetter(1)

_Asked: TypeAlias = ToApply[EventRule]


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
    if explain or missing:
        found = bucket.candidates(facts, has_profile="profile" not in missing)
        run = _open_run(situation, ledger, facts)
        if not explain:
            return run.decide(found)
        return run.decide_told(every_rule(bucket, found), TraceView(situation, ledger, hides))
    asked = _from_first(bucket.candidates_to_apply(facts), facts)
    if not asked and not facts.coercions:
        return _UNCHANGED
    return _open_run(situation, ledger, facts).decide(asked)


_UNCHANGED: Final = EventDecision()
"""What becomes of most events, and every value of it costs time."""


def _from_first(asked: Sequence[_Asked], facts: Facts) -> Sequence[_Asked]:
    """Return the rules from the first that does more than not to hold.

    Most events end here: what follows is set up for rules that apply.
    """
    work = facts.work
    for position, (rule, is_sure, rule_id) in enumerate(asked):
        if is_sure or not isinstance(rule, EventRule) or not rule.is_plain:
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
            return [(rule, True, rule_id), *asked[position + 1 :]]
        facts.coercions = 0  # only rules that apply count theirs
    return ()


class _Run(msgspec.Struct, gc=False):
    """One evaluation in progress."""

    draft: EventDraft
    facts: Facts
    missing: frozenset[Source]
    _situation: Situation
    _ledger: StateLedger
    _work: Work
    _has_stopped: bool = False
    _cut_off_at: str | None = None
    _rule_ids: list[str] = []
    _skipped: list[SkippedRule] = []
    _effects: list[Effect] = []
    _has_redacted: bool = False
    _shadow: list[tuple[str, list[Modification]]] = []
    _imagined: list[Effect] = []

    def decide(self, asked: Sequence[_Asked]) -> EventDecision:
        """Let the rules apply, in their order."""
        ended: RuleReason | None = None
        draft, facts, work, missing = self.draft, self.facts, self._work, self.missing
        note_rule, note_effect = self._rule_ids.append, self._effects.append
        for position, (rule, is_sure, rule_id) in enumerate(asked):
            if not isinstance(rule, EventRule):
                action = rule  # nothing is left to ask: it stands for its rule
                note_rule(rule_id)
                work.left -= ACTION_STEPS  # from here on as `_do`, without a call
                found: Sequence[Modification] = ()
                if work.left >= 0:
                    try:
                        found = action.apply(rule_id, draft, facts)
                    except Exception as error:  # noqa: BLE001 - as in `_do`
                        found = self._failed(rule_id, error)
                note_effect((action, found))
                if work.left >= 0:
                    continue
                ended = self.ended
            elif is_sure and rule.is_plain and not missing:
                ended = self.apply_sure(rule)
            elif self.decide_rule(rule) in _MAY_END:
                ended = self.ended
            if ended is not None:
                if ended == "WORK_EXCEEDED":
                    left = [rule for rule, *_ in asked[position:]]
                    self.cut_off(rule_id, [rule for rule in left if isinstance(rule, EventRule)])
                break
        return self.to_decision(())

    def decide_told(
        self, rules: Sequence[tuple[EventRule, bool | None, str]], view: TraceView
    ) -> EventDecision:
        """Do the same, and tell of every rule why it did or did not apply."""
        trace: list[TraceLine] = []
        ended: RuleReason | None = None
        for position, (rule, is_sure, rule_id) in enumerate(rules):
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
                    left = [rule for rule, sure, _ in rules[position:] if sure is not None]
                    self.cut_off(rule_id, left)
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
        self._has_stopped = rule.stop_on_match
        self._rule_ids.append(rule.rule_id)
        self._act(rule, self.draft, self._effects)
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
            self._imagine(rule)
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
            self._redact(rule, redaction)
        return "MATCHED"

    def cut_off(self, rule_id: str, rest: Iterable[EventRule]) -> None:
        """End the evaluation at a rule; `rest` are it and the ones behind it that may redact.

        Of nested parameters to redact the whole top-level one goes: each can go only once, so that
        this ends soon whatever the rules are.
        """
        self._cut_off_at = rule_id
        for left in rest:
            is_open = left.gates.closed(self._situation) in (None, "UNAVAILABLE")
            if left.redactions and is_open and not left.is_shadow:
                for redaction in self._allowed(left.redactions):
                    self._redact_whole(left, redaction)

    def _redact_whole(self, rule: EventRule, redaction: Redact) -> None:
        for key in dict.fromkeys(k for path in redaction.parameters for k in _top_level(path)):
            if key in self.draft.parameters:
                self._redact(rule, Redact((Path(key, "event", (key,), literal=True),)))
                if rule.rule_id not in self._rule_ids[-1:]:
                    self._rule_ids.append(rule.rule_id)

    def _redact(self, rule: EventRule, redaction: Redact) -> None:
        self._has_redacted = True
        found = redaction.apply(rule.rule_id, self.draft, self.facts)
        self._effects.append((redaction, found))

    def _apply(self, rule: EventRule) -> bool:
        """Do what the visitor allows of the actions; return whether anything changed."""
        self._rule_ids.append(rule.rule_id)
        before = len(self._effects)
        self._act(rule, self.draft, self._effects)
        return any(found for _, found in self._effects[before:])

    def _imagine(self, rule: EventRule) -> None:
        """Note what a shadow rule would change in the event as it is now."""
        before = len(self._imagined)
        self._act(rule, self.draft.copy(), self._imagined)
        changes = [change for _, found in self._imagined[before:] for change in found]
        self._shadow.append((rule.rule_id, changes))

    def _act(self, rule: EventRule, draft: EventDraft, effects: list[Effect]) -> None:
        """Do the rule's actions in a draft; note which were done and what they changed."""
        if rule.redactions and draft is self.draft:
            self._has_redacted = True
        for action in rule.actions:
            if action.purposes and not all(map(self._situation.consent.allows, action.purposes)):
                continue
            self._do(rule.rule_id, action, draft, effects)
            if draft.is_dropped or self._work.left < 0:
                return

    def _do(
        self, rule_id: str, action: EventAction, draft: EventDraft, effects: list[Effect]
    ) -> None:
        self._work.left -= ACTION_STEPS  # as `spend` does, without a call
        try:
            found = action.apply(rule_id, draft, self.facts) if self._work.left >= 0 else ()
        except Exception as error:  # noqa: BLE001 - a broken rule harms only itself
            found = self._failed(rule_id, error)
        effects.append((action, found))

    def _failed(self, rule_id: str, error: Exception) -> Sequence[Modification]:
        """Note an action that failed, unless it was only too much work."""
        if not isinstance(error, WorkExceeded):
            self._skipped.append(SkippedRule(rule_id, type(error).__name__))
        return ()

    def _allowed(self, actions: Iterable[A]) -> Iterable[A]:
        allows = self._situation.consent.allows
        return (action for action in actions if all(map(allows, action.purposes)))

    def to_decision(self, trace: tuple[TraceLine, ...]) -> EventDecision:
        draft, effects, imagined = self.draft, self._effects, self._imagined
        if (
            not (self._rule_ids or self._shadow or self._skipped or trace)
            and not self.facts.coercions
            and self._cut_off_at is None
        ):
            return _UNCHANGED
        if self._has_redacted:
            forget_redacted(_changes(effects), _changes(imagined))
        return EventDecision(
            drop=draft.is_dropped,
            rename=draft.name if draft.name != draft.event.name else None,
            set=draft.changed_parameters(),
            unset=tuple(draft.removed_parameters()),
            modifications=_modifications(effects),
            rule_ids=tuple(self._rule_ids),
            skipped=tuple(self._skipped),
            coercions=self.facts.coercions,
            shadow=tuple(map(_told_shadow, self._shadow)) if self._shadow else (),
            effects=tuple(effects),
            imagined=tuple(imagined),
            cut_off_at=self._cut_off_at,
            trace=trace,
        )


def _open_run(situation: Situation, ledger: StateLedger, facts: Facts) -> _Run:
    work = ledger.work
    draft = open_draft(situation.event, work)
    return _Run(draft, facts, situation.missing, situation, ledger, work)


def _modifications(effects: Sequence[Effect]) -> tuple[Modification, ...]:
    if len(effects) == 1:
        return tuple(effects[0][1])
    return tuple(chain.from_iterable(map(_FOUND, effects)))


def _changes(effects: Iterable[Effect]) -> list[Change]:
    return [(action, change) for action, found in effects for change in found]


def _told_shadow(shadow: tuple[str, list[Modification]]) -> dict[str, Any]:
    rule_id, found = shadow
    return {"rule_id": rule_id, "modifications": list(map(_without_rule, found))}


def _without_rule(modification: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in modification.items() if name != "rule_id"}


def _top_level(path: Path) -> tuple[str, ...]:
    """Return the top-level parameters in which a path's value may lie."""
    return path.base[:1] if path.literal else (path.base[0], ".".join(path.base))
