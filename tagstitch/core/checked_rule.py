"""A rule as the static checks see it: parsed conditions, and actions as they are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tagstitch.core.broken_rule import BrokenRule, RuleKind
from tagstitch.core.condition import Condition, Group, Match, Predicate
from tagstitch.core.condition_form import ConditionForm, form_of
from tagstitch.core.consent import Purpose
from tagstitch.core.event_action import DropEvent
from tagstitch.core.finding import Finding
from tagstitch.core.outbox_action import OutboxAction
from tagstitch.core.paths import Path
from tagstitch.core.rule import EventRule, PersonalizationRule, Rule
from tagstitch.core.rule_book import RuleBook
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.core.rule_gates import Purposeful
from tagstitch.core.schedule import Schedule

IN_AUDIENCE: Final = "audiences."
"""How the places of conditions begin that a rule has from an audience."""


@dataclass(frozen=True, slots=True)
class WrittenEffect:
    """One action as it stands in the rule."""

    type: str
    details: Mapping[str, Any]
    place: str


@dataclass(frozen=True, slots=True)
class CheckedConditions:
    """Conditions of an active rule or experiment, or of an audience."""

    rule_id: str
    kind: RuleKind
    place: str
    """Where they stand in the definition."""
    event_names: tuple[str, ...]
    condition: Condition
    form: ConditionForm
    is_chained: bool
    """Whether they see what earlier rules wrote."""

    def finding(
        self,
        code: str,
        path: str,
        message: str,
        hint: str | None = None,
        *,
        related: tuple[str, ...] = (),
    ) -> Finding:
        """Return a finding about the definition that they stand in."""
        if self.kind == "audience":
            path = path.removeprefix(f"{IN_AUDIENCE}{self.rule_id}.")
        return Finding(code, self.rule_id, self.kind, path, message, hint, related)


@dataclass(frozen=True, slots=True)
class CheckedRule(CheckedConditions):
    """One active, valid rule."""

    priority: int
    effects: tuple[WrittenEffect, ...]
    outbox_actions: tuple[OutboxAction, ...]
    purposes: frozenset[Purpose]
    """Without which the rule does nothing."""
    experiments: frozenset[str]
    """The experiments that it asks for."""
    schedule: Schedule | None
    is_shadow: bool
    may_stay_out: bool
    """Although its conditions hold and its purposes are allowed."""
    writes_state: bool
    drops: bool
    """Whether it drops the event wherever it applies."""
    stops: bool
    """Whether no later rule is asked once it applied, even if it does not drop the event."""

    @property
    def ends(self) -> bool:
        """Whether no later rule is asked once it applied."""
        return self.stops or self.drops

    @property
    def order(self) -> tuple[int, str]:
        """Its place among the rules of an event."""
        return (self.priority, self.rule_id)


def read_rules(definitions: RuleDefinitions, book: RuleBook) -> Iterator[CheckedRule]:
    """Yield every active rule of the book that was compiled from these definitions."""
    for rule in book.compiled.event_rules.values():
        if not isinstance(rule, BrokenRule) and rule.is_active:
            yield _event_rule(rule, definitions.event_rules[rule.rule_id])
    for personal in book.compiled.personalization_rules.values():
        if not isinstance(personal, BrokenRule) and personal.is_active:
            raw = definitions.personalization_rules[personal.rule_id]
            yield _personalization_rule(personal, raw)


def leaves_of(condition: Condition) -> Iterator[Predicate | Match]:
    """Yield the comparisons of a condition and, in front of its own, each match."""
    if isinstance(condition, Group):
        for member in condition.members:
            yield from leaves_of(member)
    else:
        yield condition
        if isinstance(condition, Match):
            yield from leaves_of(condition.condition)


def _event_rule(rule: EventRule, raw: Mapping[str, Any]) -> CheckedRule:
    condition = rule.condition.condition
    purposes = frozenset(rule.gates.purposes)
    read = [path for action in rule.actions for path in action.reads]
    return CheckedRule(
        rule_id=rule.rule_id,
        kind="event",
        place="conditions",
        event_names=rule.event_names,
        condition=condition,
        form=form_of(condition),
        is_chained=rule.is_chained,
        priority=rule.priority,
        effects=tuple(_effects(raw)),
        outbox_actions=(),
        purposes=purposes,
        experiments=_experiments((*rule.read_paths, *read)),
        schedule=rule.gates.schedule,
        is_shadow=rule.is_shadow,
        may_stay_out=_has_other_gates(rule),
        writes_state=False,
        drops=any(isinstance(a, DropEvent) and purposes.issuperset(a.purposes) for a in rule.actions),
        stops=rule.stop_on_match,
    )  # fmt: skip


def _personalization_rule(rule: PersonalizationRule, raw: Mapping[str, Any]) -> CheckedRule:
    condition = rule.condition.condition
    actions: tuple[Purposeful, ...] = (*rule.actions, *rule.outbox_actions)
    purposes = frozenset(rule.gates.purposes) | _common_purposes(actions)
    may_be_denied = actions and not any(purposes.issuperset(a.purposes) for a in actions)
    read = [path for action in rule.outbox_actions for path in action.reads]
    return CheckedRule(
        rule_id=rule.rule_id,
        kind="personalization",
        place="conditions",
        event_names=rule.event_names,
        condition=condition,
        form=form_of(condition),
        is_chained=False,
        priority=rule.priority,
        effects=tuple(_effects(raw)),
        outbox_actions=rule.outbox_actions,
        purposes=purposes,
        experiments=_experiments((*rule.read_paths, *read)),
        schedule=rule.gates.schedule,
        is_shadow=rule.is_shadow,
        # what is sent may find no room, be too large or lack a grant on record
        may_stay_out=bool(_has_other_gates(rule) or rule.outbox_actions or may_be_denied),
        writes_state=bool(rule.state_changes),
        drops=False,
        stops=rule.stop_on_match,
    )


def _has_other_gates(rule: Rule) -> bool:
    """Return whether a gate besides its purposes may keep the rule out."""
    gates = (rule.gates.schedule, rule.gates.rollout, rule.gates.frequency_cap)
    return rule.is_shadow or any(gate is not None for gate in gates)


def _common_purposes(actions: Iterable[Purposeful]) -> frozenset[Purpose]:
    """Return the purposes of every action: where all actions are denied, nothing is done."""
    wanted = [frozenset(action.purposes) for action in actions]
    return frozenset.intersection(*wanted) if wanted else frozenset()


def _experiments(paths: Iterable[Path]) -> frozenset[str]:
    return frozenset(".".join(path.base) for path in paths if path.root == "experiment")


def _effects(raw: Mapping[str, Any]) -> Iterator[WrittenEffect]:
    actions = raw.get("actions")
    if isinstance(actions, list):
        for index, action in enumerate(actions):
            yield WrittenEffect(str(action["type"]), action, f"actions[{index}]")
    elif raw.get("action_type") is not None:
        details = raw.get("action_details") or {}
        yield WrittenEffect(str(raw["action_type"]), details, "action_details")
