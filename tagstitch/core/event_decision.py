"""Event decisions: rename, change, filter or drop an event by its rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tagstitch.core.compiled_condition import Hides, hides_nothing
from tagstitch.core.event import Event
from tagstitch.core.event_action import DropEvent, EventAction, ModifyParameter, Redact
from tagstitch.core.event_draft import EventDraft
from tagstitch.core.paths import Facts, Path, Source
from tagstitch.core.profile import Profile
from tagstitch.core.rule import EventRule
from tagstitch.core.rule_book import RuleBook
from tagstitch.core.rule_trace import (
    RuleReason,
    TraceLine,
    make_facts,
    missing_sources,
    trace_rule,
)


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
    trace: tuple[TraceLine, ...] = ()

    def apply_to(self, event: Event) -> dict[str, Any]:
        """Return the whole event as it leaves, or would leave when it is dropped."""
        payload = {key: value for key, value in event.parameters.items() if key not in self.unset}
        payload |= self.set
        if self.rename is not None:
            payload["event_name"] = self.rename
        return payload


def decide_event(
    event: Event,
    book: RuleBook,
    profile: Profile | None,
    *,
    unavailable: frozenset[str] = frozenset(),
    explain: bool = False,
    hides: Hides = hides_nothing,
) -> EventDecision:
    """Return the decision; never raises.

    `unavailable` names what could not be loaded (`profile`, `state`): a rule that needs it does
    not apply, except for redactions. `explain` adds the trace, without the values of attributes
    that it `hides`, and changes nothing else.
    """
    run = _Run(EventDraft(event), make_facts(event.parameters, profile))
    missing = missing_sources(unavailable)
    rules = book.event_bucket(event.name).rules
    reasons: list[RuleReason] = []
    for rule in rules:
        reason = run.decide_rule(rule, missing)
        reasons.append(reason)
        if run.draft.is_dropped or (reason == "MATCHED" and rule.stop_on_match):
            break
    return run.to_decision(_trace(rules, reasons, run, missing, hides) if explain else ())


class _Run:
    """One evaluation in progress."""

    __slots__ = ("_changes", "draft", "facts", "rule_ids", "skipped")

    def __init__(self, draft: EventDraft, facts: Facts) -> None:
        self.draft = draft
        self.facts = facts
        self.rule_ids: list[str] = []
        self.skipped: list[SkippedRule] = []
        self._changes: list[tuple[EventAction, dict[str, Any]]] = []

    def decide_rule(self, rule: EventRule, missing: frozenset[Source]) -> RuleReason:
        try:
            if missing and rule.is_lacking(self.facts, missing):
                return self._decide_lacking(rule, missing)
            if not rule.condition.holds(self.facts):
                return "CONDITIONS_NOT_MET"
        except Exception as error:  # noqa: BLE001 - a broken rule harms only itself
            self.skipped.append(SkippedRule(rule.rule_id, type(error).__name__))
            return "ERROR"
        self._apply(rule, rule.actions)
        return "MATCHED"

    def _decide_lacking(self, rule: EventRule, missing: frozenset[Source]) -> RuleReason:
        """Redact unless the data at hand already says no: what is not known may be private."""
        redactions = [action for action in rule.actions if isinstance(action, Redact)]
        if not redactions or not rule.condition.may_hold(self.facts, missing):
            return "UNAVAILABLE"
        self._apply(rule, redactions)
        return "MATCHED"

    def _apply(self, rule: EventRule, actions: Iterable[EventAction]) -> None:
        self.rule_ids.append(rule.rule_id)
        for action in actions:
            try:
                effects = action.apply(self.draft, self.facts)
            except Exception as error:  # noqa: BLE001 - a broken rule harms only itself
                self.skipped.append(SkippedRule(rule.rule_id, type(error).__name__))
                continue
            if isinstance(action, Redact) and effects:
                self._forget_values(action.parameters)
            self._changes += ((action, {"rule_id": rule.rule_id, **e}) for e in effects)
            if isinstance(action, DropEvent):
                return

    def _forget_values(self, redacted: Sequence[Path]) -> None:
        """Take the values of redacted parameters out of what was recorded before."""
        for action, modification in self._changes:
            if isinstance(action, ModifyParameter) and any(
                _overlap(action.parameter, path) for path in redacted
            ):
                modification.pop("old_value", None)
                modification.pop("new_value", None)

    def to_decision(self, trace: tuple[TraceLine, ...]) -> EventDecision:
        draft = self.draft
        return EventDecision(
            drop=draft.is_dropped,
            rename=draft.name if draft.name != draft.event.name else None,
            set=draft.changed_parameters(),
            unset=tuple(draft.removed_parameters()),
            modifications=tuple(modification for _, modification in self._changes),
            rule_ids=tuple(self.rule_ids),
            skipped=tuple(self.skipped),
            coercions=self.facts.coercions,
            trace=trace,
        )


def _overlap(one: Path, other: Path) -> bool:
    """Return whether one path leads to the other's value or to a part of it."""
    left, right = ".".join(one.base) + ".", ".".join(other.base) + "."
    return left.startswith(right) or right.startswith(left)


def _trace(
    rules: Sequence[EventRule],
    reasons: Sequence[RuleReason],
    run: _Run,
    missing: frozenset[Source],
    hides: Hides,
) -> tuple[TraceLine, ...]:
    ended: RuleReason = "EVENT_DROPPED" if run.draft.is_dropped else "STOPPED"
    rest = [ended] * (len(rules) - len(reasons))
    return tuple(
        trace_rule(rule, reason, run.facts, missing, hides)
        for rule, reason in zip(rules, [*reasons, *rest], strict=True)
    )
