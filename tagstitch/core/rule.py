"""Rules: for which events, under which conditions, what happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

import msgspec

from tagstitch.core.compiled_condition import CompiledCondition, compile_condition
from tagstitch.core.condition import ALWAYS, Condition, parse_conditions
from tagstitch.core.consent import AD_PERSONALIZATION, Purpose
from tagstitch.core.declarations import NOTHING_DECLARED, Declarations
from tagstitch.core.definition import Definition
from tagstitch.core.errors import InvalidRule, Problem
from tagstitch.core.event_action import DropEvent, EventAction, Redact, Sample
from tagstitch.core.event_action_parsing import parse_event_action
from tagstitch.core.limits import (
    INTEGER_ABS_MAX,
    RULE_DEPTH_MAX,
    RULE_ID_CHARS_MAX,
)
from tagstitch.core.operands import flag
from tagstitch.core.outbox_action import OutboxAction
from tagstitch.core.paths import Facts, Lookup, Path, Source, compile_base, is_lacking
from tagstitch.core.personalization_action import AnswerAction, SetState
from tagstitch.core.personalization_action_parsing import (
    parse_personalization_action,
    parse_state_changes,
)
from tagstitch.core.problems import Problems
from tagstitch.core.rule_gates import OPEN_GATES, Gates, parse_gates
from tagstitch.core.state_ledger import sent_key
from tagstitch.core.targeting import take_event_names
from tagstitch.core.values import is_deeper, is_object
from tagstitch.core.written_action import take_actions

PRIORITY_DEFAULT: Final = 100

_DESCRIPTIVE: Final = ("description", "owner", "tags")


class Rule(msgspec.Struct, frozen=True, gc=False):
    """What all rules have.

    Rules are many and hold no cycles: a struct is made in a fifth of a dataclass's time, and the
    garbage collection passes it over.
    """

    rule_id: str
    event_names: tuple[str, ...]
    """`*` alone stands for every event."""
    condition: CompiledCondition
    priority: int
    is_active: bool
    stop_on_match: bool
    is_shadow: bool
    """Evaluated and recorded, never applied."""
    gates: Gates

    @property
    def remembers(self) -> bool:
        """Whether applying it needs a commit, at least the first time."""
        return self.gates.frequency_cap is not None

    @property
    def cap_keys(self) -> tuple[str, ...]:
        """Under which names the uses stand that it looks at and adds to."""
        return self.gates.cap_keys

    @property
    def other_lookups(self) -> tuple[tuple[Path, Lookup], ...]:
        """What the rule looks at besides its conditions, and the parameters that it changes."""
        return self.gates.lookups

    @property
    def read_paths(self) -> tuple[Path, ...]:
        """Every path that decides whether the rule applies."""
        return self.condition.read_paths + self.gates.read_paths

    def is_lacking(self, facts: Facts, unavailable: frozenset[Source]) -> bool:
        """Return whether the rule needs data that could not be loaded."""
        return self.condition.is_lacking(facts, unavailable) or any(
            is_lacking(path, find, facts, unavailable) for path, find in self.other_lookups
        )


class EventRule(Rule, frozen=True, gc=False):
    """A rule that changes events."""

    is_chained: bool
    """Its conditions look at the event as earlier rules left it."""
    actions: tuple[EventAction, ...]
    action_lookups: tuple[tuple[Path, Lookup], ...]
    """What the actions look at besides the parameter that they change."""
    is_plain: bool
    """Whether it has nothing but conditions and actions: no gate, not chained, no shadow."""
    redactions: tuple[Redact, ...]
    """Those of the actions that must be done also where the others cannot."""
    sole_action: EventAction | None
    """All that there is to do when the conditions hold, in a plain rule with one action that needs
    no purpose, redacts nothing, and stops no other rule, as a drop would."""

    @property
    def other_lookups(self) -> tuple[tuple[Path, Lookup], ...]:
        """What the rule looks at besides its conditions, and the parameters that it changes."""
        return self.gates.lookups + self.action_lookups


class PersonalizationRule(Rule, frozen=True, gc=False):
    """A rule that does something for the visitor."""

    actions: tuple[AnswerAction, ...]
    """What the page is told to do."""
    outbox_actions: tuple[OutboxAction, ...]
    """What is done outside, once the decision is stored."""
    state_changes: Mapping[str, Any]
    """What to write to the profile's state when it applies."""

    @property
    def remembers(self) -> bool:
        """Whether applying it needs a commit, at least the first time."""
        return bool(
            self.state_changes or self.outbox_actions or self.gates.frequency_cap is not None
        )

    @property
    def cap_keys(self) -> tuple[str, ...]:
        """Under which names the uses stand that it looks at and adds to."""
        sent = (sent_key(action.key_of(self.rule_id)) for action in self.outbox_actions)
        return (*self.gates.cap_keys, *sent)

    @property
    def read_paths(self) -> tuple[Path, ...]:
        """Every path that decides whether the rule applies, and what it changes in the state."""
        state = (Path(f"user_state.{key}", "user_state", (key,)) for key in self.state_changes)
        return (*self.condition.read_paths, *self.gates.read_paths, *state)


def parse_event_rule(
    rule_id: str, raw: object, *, declared: Declarations = NOTHING_DECLARED
) -> EventRule:
    """Return the rule; raises InvalidRule with everything that is wrong with it."""
    fields = _open(rule_id, raw)
    common = _parse_common(fields, declared, kind="event", rule_id=rule_id, purposes_default=())
    is_chained = fields.take_with(flag, "chain", default=False)
    written = take_actions(fields)
    if not written:
        fields.problems.add("actions", "a rule needs at least one action")
    parsed = [parse_event_action(action, declared=declared) for action in written]
    actions = tuple(action for action in parsed if action is not None)
    fields.refuse(("updates_user_state",), "has no meaning in an event rule")
    _close(rule_id, fields)
    paths = [path for action in actions for path in action.reads]
    is_plain = common["gates"] is OPEN_GATES and not is_chained and not common["is_shadow"]
    redactions = tuple([action for action in actions if isinstance(action, Redact)])
    return EventRule(
        rule_id=rule_id,
        **common,
        is_chained=is_chained,
        actions=actions,
        action_lookups=tuple((path, compile_base(path)) for path in paths),
        is_plain=is_plain,
        redactions=redactions,
        sole_action=(
            actions[0] if is_plain and not common["stop_on_match"] and _is_simple(actions) else None
        ),
    )


def parse_personalization_rule(
    rule_id: str, raw: object, *, declared: Declarations = NOTHING_DECLARED
) -> PersonalizationRule:
    """Return the rule; raises InvalidRule with everything that is wrong with it."""
    fields = _open(rule_id, raw)
    common = _parse_common(
        fields,
        declared,
        kind="personalization",
        rule_id=rule_id,
        purposes_default=(AD_PERSONALIZATION,),
    )
    fields.refuse(("chain",), "has no meaning here: a rule sees the state that earlier ones set")
    actions = [
        parse_personalization_action(action, declared=declared) for action in take_actions(fields)
    ]
    nothing: dict[str, Any] = {}
    state_changes = fields.take_with(parse_state_changes, "updates_user_state", nothing)
    for action in actions:
        if isinstance(action, SetState):
            state_changes = {**state_changes, **action.changes}
    if not actions and not state_changes:
        fields.problems.add("actions", "a rule needs at least one action")
    _close(rule_id, fields)
    return PersonalizationRule(
        rule_id=rule_id,
        **common,
        actions=tuple(action for action in actions if isinstance(action, AnswerAction)),
        outbox_actions=tuple(action for action in actions if isinstance(action, OutboxAction)),
        state_changes=state_changes,
    )


def _is_simple(actions: Sequence[EventAction]) -> bool:
    """Return whether there is one action, and it does no more than change the event."""
    if len(actions) != 1 or actions[0].purposes:
        return False
    return not isinstance(actions[0], DropEvent | Redact | Sample)


class _Common(TypedDict):
    event_names: tuple[str, ...]
    condition: CompiledCondition
    priority: int
    is_active: bool
    stop_on_match: bool
    is_shadow: bool
    gates: Gates


def _open(rule_id: object, raw: object) -> Definition:
    problem = None
    if not isinstance(rule_id, str) or not 0 < len(rule_id) <= RULE_ID_CHARS_MAX:
        problem = Problem("", f"a rule's id is text of 1 to {RULE_ID_CHARS_MAX} characters")
    elif not is_object(raw):
        problem = Problem("", "a rule must be an object")
    elif is_deeper(raw, RULE_DEPTH_MAX):
        problem = Problem("", f"nested in more than {RULE_DEPTH_MAX} levels")
    if problem is not None or not is_object(raw):
        raise InvalidRule(str(rule_id)[:RULE_ID_CHARS_MAX], (problem,) if problem else ())
    return Definition(raw, "", Problems())


def _close(rule_id: str, fields: Definition) -> None:
    fields.refuse_misspelt()
    if fields.problems.found:
        raise InvalidRule(rule_id, tuple(fields.problems.found))


def _parse_common(
    fields: Definition,
    declared: Declarations,
    *,
    kind: str,
    rule_id: str,
    purposes_default: tuple[Purpose, ...],
) -> _Common:
    fields.leave_aside(_DESCRIPTIVE)
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
    return _Common(
        event_names=take_event_names(fields),
        condition=compile_condition(condition),
        priority=fields.take_with(_priority, "priority", default=PRIORITY_DEFAULT),
        is_active=fields.take_with(flag, "is_active", default=True),
        stop_on_match=fields.take_with(flag, "stop_on_match", default=False),
        is_shadow=fields.take_with(flag, "shadow", default=False),
        gates=parse_gates(
            fields,
            rule_id=rule_id,
            rule_key=f"{kind}:{rule_id}",
            purposes_default=purposes_default,
            declared=declared,
        ),
    )


def _priority(raw: Any, where: str, problems: Problems) -> int:
    if raw.__class__ is int and -INTEGER_ABS_MAX <= raw <= INTEGER_ABS_MAX:
        return int(raw)
    is_whole = isinstance(raw, int | float) and not isinstance(raw, bool) and raw == raw // 1
    if not is_whole or abs(raw) > INTEGER_ABS_MAX:
        problems.add(where, "must be a whole number")
        return PRIORITY_DEFAULT
    return int(raw)
