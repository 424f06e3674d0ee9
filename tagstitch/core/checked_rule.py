"""A rule as the static checks see it: parsed conditions, and actions as they are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tagstitch.core.condition import ALWAYS, Condition, Group, Match, Predicate, parse_conditions
from tagstitch.core.condition_form import ConditionForm, form_of
from tagstitch.core.consent import Purpose
from tagstitch.core.declarations import Declarations
from tagstitch.core.errors import InvalidRule
from tagstitch.core.finding import Finding
from tagstitch.core.problems import Problems
from tagstitch.core.rule import (
    EventRule,
    PersonalizationRule,
    parse_event_rule,
    parse_personalization_rule,
)
from tagstitch.core.rule_definitions import RuleDefinitions

_GATES: Final = ("schedule", "frequency_cap", "rollout", "shadow", "experiment")
"""Fields with which a rule may stay out although its conditions hold."""

_ACTION_GATES: Final = ("purposes", "consent")


@dataclass(frozen=True, slots=True)
class WrittenEffect:
    """One action as it stands in the rule."""

    type: str
    details: Mapping[str, Any]
    place: str


@dataclass(frozen=True, slots=True)
class CheckedRule:
    """One active, valid rule."""

    rule_id: str
    kind: str
    event_names: tuple[str, ...]
    priority: int
    condition: Condition
    form: ConditionForm
    effects: tuple[WrittenEffect, ...]
    purposes: frozenset[Purpose]
    """What a personalization rule needs; empty for event rules."""
    writes_state: bool
    is_gated: bool
    """Whether it may stay out although its conditions hold."""
    is_chained: bool
    """Whether its conditions see what earlier rules wrote."""
    ends: bool
    """Whether no later rule is asked once it applied."""

    @property
    def order(self) -> tuple[int, str]:
        """Its place among the rules of an event."""
        return (self.priority, self.rule_id)

    def finding(
        self,
        code: str,
        path: str,
        message: str,
        hint: str | None = None,
        *,
        related: tuple[str, ...] = (),
    ) -> Finding:
        """Return a finding about this rule."""
        return Finding(code, self.rule_id, self.kind, path, message, hint, related)


def read_rules(
    definitions: RuleDefinitions, declared: Declarations
) -> Iterator[CheckedRule | InvalidRule]:
    """Yield every active rule, or what is wrong with it."""
    for rule_id, raw in definitions.event_rules.items():
        try:
            rule = parse_event_rule(rule_id, raw, declared=declared)
        except InvalidRule as invalid:
            yield invalid
            continue
        if rule.is_active:
            yield _event_rule(rule, raw, declared)
    for rule_id, raw in definitions.personalization_rules.items():
        try:
            personal = parse_personalization_rule(rule_id, raw, declared=declared)
        except InvalidRule as invalid:
            yield invalid
            continue
        if personal.is_active:
            yield _personalization_rule(personal, raw, declared)


def leaves_of(condition: Condition) -> Iterator[Predicate | Match]:
    """Yield the comparisons of a condition and, in front of its own, each match."""
    if isinstance(condition, Group):
        for member in condition.members:
            yield from leaves_of(member)
    else:
        yield condition
        if isinstance(condition, Match):
            yield from leaves_of(condition.condition)


def _event_rule(rule: EventRule, raw: Mapping[str, Any], declared: Declarations) -> CheckedRule:
    condition = _condition(raw, declared)
    effects = tuple(_effects(raw))
    drops = any(e.type == "drop_event" and not _is_given(e.details, _ACTION_GATES) for e in effects)
    return CheckedRule(
        rule_id=rule.rule_id,
        kind="event",
        event_names=rule.event_names,
        priority=rule.priority,
        condition=condition,
        form=form_of(condition),
        effects=effects,
        purposes=frozenset(),
        writes_state=False,
        is_gated=_is_given(raw, _GATES) or _is_given(raw, _ACTION_GATES),
        is_chained=_is_given(raw, ("chain",)),
        ends=rule.stop_on_match or drops,
    )


def _personalization_rule(
    rule: PersonalizationRule, raw: Mapping[str, Any], declared: Declarations
) -> CheckedRule:
    condition = _condition(raw, declared)
    return CheckedRule(
        rule_id=rule.rule_id,
        kind="personalization",
        event_names=rule.event_names,
        priority=rule.priority,
        condition=condition,
        form=form_of(condition),
        effects=tuple(_effects(raw)),
        purposes=frozenset(rule.gates.purposes),
        writes_state=bool(rule.state_changes),
        is_gated=_is_given(raw, _GATES),
        is_chained=_is_given(raw, ("chain",)),
        ends=rule.stop_on_match,
    )


def _condition(raw: Mapping[str, Any], declared: Declarations) -> Condition:
    conditions = raw.get("conditions")
    if conditions in (None, {}):
        return ALWAYS
    return parse_conditions(conditions, "conditions", Problems(), declared=declared)


def _effects(raw: Mapping[str, Any]) -> Iterator[WrittenEffect]:
    actions = raw.get("actions")
    if isinstance(actions, list):
        for index, action in enumerate(actions):
            yield WrittenEffect(str(action["type"]), action, f"actions[{index}]")
    elif raw.get("action_type") is not None:
        details = raw.get("action_details") or {}
        yield WrittenEffect(str(raw["action_type"]), details, "action_details")


def _is_given(raw: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    return any(raw.get(name) not in (None, False) for name in names)
