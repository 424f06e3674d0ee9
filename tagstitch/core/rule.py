"""Rules: for which events, under which conditions, what happens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tagstitch.core.compiled_condition import CompiledCondition, compile_condition
from tagstitch.core.condition import ALWAYS, Condition, parse_conditions
from tagstitch.core.consent import AD_PERSONALIZATION, Purpose, is_purpose
from tagstitch.core.declarations import NOTHING_DECLARED, Declarations
from tagstitch.core.definition import Definition
from tagstitch.core.errors import InvalidRule, Problem
from tagstitch.core.event import EVENT_NAME_CHARS_MAX
from tagstitch.core.event_action import EventAction
from tagstitch.core.event_action_parsing import parse_event_action
from tagstitch.core.limits import (
    CONSENT_PURPOSES_MAX,
    INTEGER_ABS_MAX,
    RULE_DEPTH_MAX,
    RULE_EVENT_NAMES_MAX,
    RULE_ID_CHARS_MAX,
)
from tagstitch.core.operands import flag
from tagstitch.core.paths import Facts, Lookup, Path, Source, compile_base, is_lacking
from tagstitch.core.personalization_action import ReturnValue, SetCookie, SetState
from tagstitch.core.personalization_action_parsing import (
    parse_personalization_action,
    parse_state_changes,
)
from tagstitch.core.problems import Problems
from tagstitch.core.values import is_deeper
from tagstitch.core.written_action import take_actions

EVERY_EVENT: Final = "*"

PRIORITY_DEFAULT: Final = 100

_DESCRIPTIVE: Final = ("description", "owner", "tags")

_RESTRICTING: Final = ("schedule", "frequency_cap", "rollout", "shadow", "chain")
"""Fields that would make a rule act less often: ignoring one would be worse than refusing it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What all rules have."""

    rule_id: str
    event_names: tuple[str, ...]
    """`*` alone stands for every event."""
    condition: CompiledCondition
    priority: int
    is_active: bool
    stop_on_match: bool

    @property
    def reads(self) -> frozenset[Source]:
        """The data that the rule may look at."""
        return self.condition.reads

    def is_lacking(self, facts: Facts, unavailable: frozenset[Source]) -> bool:
        """Return whether the rule needs data that could not be loaded."""
        return self.condition.is_lacking(facts, unavailable)


@dataclass(frozen=True, slots=True)
class EventRule(Rule):
    """A rule that changes events."""

    actions: tuple[EventAction, ...]
    action_lookups: tuple[tuple[Path, Lookup], ...]
    """What the actions look at besides the parameter that they change."""

    @property
    def reads(self) -> frozenset[Source]:
        """The data that the rule may look at."""
        sources = (path.sources for path, _ in self.action_lookups)
        return self.condition.reads.union(*sources)

    def is_lacking(self, facts: Facts, unavailable: frozenset[Source]) -> bool:
        """Return whether the rule needs data that could not be loaded."""
        return self.condition.is_lacking(facts, unavailable) or any(
            is_lacking(path, look_up, facts, unavailable) for path, look_up in self.action_lookups
        )


@dataclass(frozen=True, slots=True)
class PersonalizationRule(Rule):
    """A rule that does something for the visitor."""

    actions: tuple[SetCookie | ReturnValue, ...]
    state_changes: Mapping[str, Any]
    """What to write to the profile's state when it applies."""
    purposes: tuple[Purpose, ...]
    """The purposes that the visitor must allow, all of them."""


def parse_event_rule(
    rule_id: str, raw: object, *, declared: Declarations = NOTHING_DECLARED
) -> EventRule:
    """Return the rule; raises InvalidRule with everything that is wrong with it."""
    fields = _open(rule_id, raw)
    rule = _parse_common(rule_id, fields, declared)
    written = take_actions(fields)
    if not written:
        fields.problems.add("actions", "a rule needs at least one action")
    parsed = [parse_event_action(action, declared=declared) for action in written]
    actions = tuple(action for action in parsed if action is not None)
    foreign = ("consent", "purposes", "updates_user_state")
    fields.refuse(foreign, "has no meaning in an event rule")
    _close(rule_id, fields)
    paths = [path for action in actions for path in action.reads]
    return EventRule(
        rule.rule_id,
        rule.event_names,
        rule.condition,
        rule.priority,
        rule.is_active,
        rule.stop_on_match,
        actions,
        tuple((path, compile_base(path)) for path in paths),
    )


def parse_personalization_rule(
    rule_id: str, raw: object, *, declared: Declarations = NOTHING_DECLARED
) -> PersonalizationRule:
    """Return the rule; raises InvalidRule with everything that is wrong with it."""
    fields = _open(rule_id, raw)
    rule = _parse_common(rule_id, fields, declared)
    purposes = _purposes(fields)
    actions = [parse_personalization_action(action) for action in take_actions(fields)]
    nothing: dict[str, Any] = {}
    state_changes = fields.take_with(parse_state_changes, "updates_user_state", nothing)
    for action in actions:
        if isinstance(action, SetState):
            state_changes = {**state_changes, **action.changes}
    if not actions and not state_changes:
        fields.problems.add("actions", "a rule needs at least one action")
    _close(rule_id, fields)
    return PersonalizationRule(
        rule.rule_id,
        rule.event_names,
        rule.condition,
        rule.priority,
        rule.is_active,
        rule.stop_on_match,
        tuple(action for action in actions if isinstance(action, SetCookie | ReturnValue)),
        state_changes,
        purposes,
    )


def _open(rule_id: object, raw: object) -> Definition:
    problem = None
    if not isinstance(rule_id, str) or not 0 < len(rule_id) <= RULE_ID_CHARS_MAX:
        problem = Problem("", f"a rule's id is text of 1 to {RULE_ID_CHARS_MAX} characters")
    elif not isinstance(raw, Mapping):
        problem = Problem("", "a rule must be an object")
    elif is_deeper(raw, RULE_DEPTH_MAX):
        problem = Problem("", f"nested in more than {RULE_DEPTH_MAX} levels")
    if problem is not None or not isinstance(raw, Mapping):
        raise InvalidRule(str(rule_id)[:RULE_ID_CHARS_MAX], (problem,) if problem else ())
    return Definition(raw, "", Problems())


def _close(rule_id: str, fields: Definition) -> None:
    fields.refuse(_RESTRICTING, "is not evaluated here, so the rule would act too often")
    fields.refuse_misspelt()
    if fields.problems.found:
        raise InvalidRule(rule_id, tuple(fields.problems.found))


def _parse_common(rule_id: str, fields: Definition, declared: Declarations) -> Rule:
    for word in _DESCRIPTIVE:
        fields.take(word)
    names = fields.require("target_event_name", "event_name_trigger")
    raw_conditions = fields.take("conditions")
    match_all = fields.take_with(flag, "match_all", default=False)
    condition: Condition = ALWAYS
    if raw_conditions not in (None, {}):
        condition = parse_conditions(
            raw_conditions, "conditions", fields.problems, declared=declared
        )
    elif not match_all:
        hint = "match_all: true says that every event of this name is meant"
        fields.problems.add("conditions", "must not be empty", hint)
    return Rule(
        rule_id=rule_id,
        event_names=_event_names(names, fields),
        condition=compile_condition(condition),
        priority=fields.take_with(_priority, "priority", default=PRIORITY_DEFAULT),
        is_active=fields.take_with(flag, "is_active", default=True),
        stop_on_match=fields.take_with(flag, "stop_on_match", default=False),
    )


def _event_names(raw: Any, fields: Definition) -> tuple[str, ...]:
    if raw is None:
        return ()
    names = [raw] if isinstance(raw, str) else raw
    place = "target_event_name"
    if not isinstance(names, list) or not 0 < len(names) <= RULE_EVENT_NAMES_MAX:
        hint = f'a name, a list of up to {RULE_EVENT_NAMES_MAX} names, or "{EVERY_EVENT}"'
        fields.problems.add(place, "not an event name", hint)
        return ()
    for name in names:
        if not isinstance(name, str) or not 0 < len(name) <= EVENT_NAME_CHARS_MAX:
            fields.problems.add(place, f"a name is text of 1 to {EVENT_NAME_CHARS_MAX} characters")
            return ()
    return (EVERY_EVENT,) if EVERY_EVENT in names else tuple(dict.fromkeys(names))


def _priority(raw: Any, where: str, problems: Problems) -> int:
    is_whole = isinstance(raw, int | float) and not isinstance(raw, bool) and raw == raw // 1
    if not is_whole or abs(raw) > INTEGER_ABS_MAX:
        problems.add(where, "must be a whole number")
        return PRIORITY_DEFAULT
    return int(raw)


def _purposes(fields: Definition) -> tuple[Purpose, ...]:
    """Return what `purposes: [a, b]` or `consent: {purpose: a}` say, or ad_personalization."""
    raw = fields.take("purposes")
    consent = fields.take("consent")
    if consent is not None:
        if raw is not None:
            fields.problems.add("consent", "either purposes or consent")
        if not isinstance(consent, Mapping):
            fields.problems.add("consent", "must be an object", "consent: {purpose: a_purpose}")
            return ()
        inner = Definition(consent, "consent", fields.problems)
        raw = inner.require("purpose", "purposes")
        inner.refuse_rest()
    elif raw is None:
        return (AD_PERSONALIZATION,)
    purposes = [raw] if isinstance(raw, str) else raw
    is_list = isinstance(purposes, list) and 0 < len(purposes) <= CONSENT_PURPOSES_MAX
    if is_list and all(map(is_purpose, purposes)):
        return tuple(purposes)
    fields.problems.add("purposes", "needs the name of a purpose, or a list of names")
    return ()
