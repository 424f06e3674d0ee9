"""The traits of a whole profile: every definition folded, every state merged and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tagstitch.core.broken_rule import BrokenRule
from tagstitch.core.consent import Consent
from tagstitch.core.errors import InvalidRule, Problem
from tagstitch.core.event import Event
from tagstitch.core.limits import TRAITS_BYTES_MAX
from tagstitch.core.rule_definitions import RawDefinitions
from tagstitch.core.targeting import EVERY_EVENT
from tagstitch.core.trait import TraitDefinition, facts_of, fold_counted
from tagstitch.core.trait_parsing import parse_trait
from tagstitch.core.trait_state import State, merge_states, microseconds, read_value
from tagstitch.core.work import WorkExceeded

Traits = Mapping[str, State]
"""Name -> state, as a profile's document and a contribution hold them."""

_TOO_MANY: Final = Problem(
    "",
    f"all traits together may need more than {TRAITS_BYTES_MAX // 1024} KiB of a profile",
    "fewer traits, lower limits or shorter windows",
)


@dataclass(frozen=True, slots=True)
class TraitDefinitions:
    """All traits of a project that can be computed."""

    by_name: Mapping[str, TraitDefinition]
    by_event: Mapping[str, Sequence[TraitDefinition]]
    """Event name -> its active definitions; `*` for those of every event."""
    broken: tuple[BrokenRule, ...] = ()
    """Definitions that were left out, and why."""

    @property
    def names(self) -> frozenset[str]:
        """The attributes that only events may set: rules must not take them from an event."""
        return frozenset(self.by_name)

    def of_event(self, name: str) -> Sequence[TraitDefinition]:
        """Return the definitions that an event of this name may count for; mostly none."""
        named, every = self.by_event.get(name, ()), self.by_event.get(EVERY_EVENT, ())
        return (*named, *every)


NO_TRAITS: Final = TraitDefinitions({}, {})


def compile_traits(definitions: RawDefinitions, *, time_zone: str = "UTC") -> TraitDefinitions:
    """Return the definitions that can be computed; never raises.

    Where all states together could outgrow a profile, the last ones by name are left out.
    """
    by_name: dict[str, TraitDefinition] = {}
    broken: list[BrokenRule] = []
    room = TRAITS_BYTES_MAX
    for name, raw in sorted(definitions.items()):
        try:
            definition = parse_trait(name, raw, time_zone=time_zone)
        except InvalidRule as invalid:
            broken.append(BrokenRule(invalid.rule_id, "trait", invalid.problems))
            continue
        if definition.bytes_max > room:
            broken.append(BrokenRule(name, "trait", (_TOO_MANY,)))
            continue
        room -= definition.bytes_max
        by_name[name] = definition
    by_event: dict[str, list[TraitDefinition]] = {}
    for definition in by_name.values():
        for event_name in definition.event_names if definition.is_active else ():
            by_event.setdefault(event_name, []).append(definition)
    return TraitDefinitions(by_name, by_event, tuple(broken))


def fold_event(
    definitions: TraitDefinitions, traits: Traits, event: Event, *, at: datetime, consent: Consent
) -> Traits:
    """Return the traits with one event, or the same object when nothing changes.

    `at` is when the event happened (`event_time`). What the visitor does not allow is not counted.
    An event whose conditions are too much work together counts for those that came first by name.
    """
    folded: dict[str, State] = {}
    facts = facts_of(event, at)
    for definition in definitions.of_event(event.name):
        if not definition.is_allowed(consent):
            continue
        before = traits.get(definition.name)
        try:
            after = fold_counted(definition, before, event, at=at, facts=facts)
        except WorkExceeded:
            break
        if after is not None and after is not before:
            folded[definition.name] = after
    return {**traits, **folded} if folded else traits


def merge_traits(one: Traits, other: Traits) -> Traits:
    """Return the traits of both; the order does not matter, and none at all change nothing."""
    if not one or not other:
        return one or other
    merged = dict(one)
    for name, state in other.items():
        both = merge_states(one.get(name), state)
        merged[name] = state if both is None else both
    return merged


def current_traits(definitions: TraitDefinitions, traits: Traits) -> Traits:
    """Return the states that today's definitions made; others would never change again.

    Before contributions are merged it removes what an earlier edition left in some of them.
    """
    return {
        name: state
        for name, state in traits.items()
        if (definition := definitions.by_name.get(name)) is not None
        and definition.terms.rank == (state["edition"], state["digest"])
    }


def trait_values(traits: Traits, *, now: datetime) -> dict[str, Any]:
    """Return the attributes that the traits come to at this moment; what has no value is absent."""
    moment = microseconds(now)
    values = {name: read_value(state, moment) for name, state in traits.items()}
    return {name: value for name, value in values.items() if value is not None}
