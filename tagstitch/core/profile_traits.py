"""The traits of a whole profile: every definition of a project, folded over an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from tagstitch.core.broken_rule import BrokenRule
from tagstitch.core.consent import Consent
from tagstitch.core.errors import InvalidRule, Problem
from tagstitch.core.event import Event
from tagstitch.core.limits import TRAITS_BYTES_MAX
from tagstitch.core.rule_definitions import RawDefinitions
from tagstitch.core.targeting import EVERY_EVENT
from tagstitch.core.trait import TraitDefinition, facts_of
from tagstitch.core.trait_parsing import parse_trait
from tagstitch.core.trait_state import State, Traits, fold_values, microseconds
from tagstitch.core.work import WorkExceeded

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
    as_of: datetime | None = None
    """When they were read: somebody who read them later may know more."""

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


class Folded(NamedTuple):
    """What one event made of the traits."""

    traits: Traits
    """The same object when nothing changed."""
    counted: tuple[str, ...]
    """The traits that the event counts for, whether or not it changes them."""


def fold_event(
    definitions: TraitDefinitions, traits: Traits, event: Event, *, at: datetime, consent: Consent
) -> Folded:
    """Return the traits with one event.

    `at` is when the event happened (`event_time`). What the visitor does not allow is not counted.
    An event whose conditions are too much work together counts for those that came first by name.
    """
    folded: dict[str, State] = {}
    counted: list[str] = []
    facts, moment = facts_of(event, at), microseconds(at)
    for definition in definitions.of_event(event.name):
        if not definition.is_allowed(consent):
            continue
        try:
            if not definition.counts(event, facts):
                continue
        except WorkExceeded:
            break
        counted.append(definition.name)
        before = traits.get(definition.name)
        after = fold_values(definition.terms, before, definition.values(event, at), moment)
        if after is not None and after is not before:
            folded[definition.name] = after
    return Folded({**traits, **folded} if folded else traits, tuple(counted))


def current_traits(
    definitions: TraitDefinitions, traits: Traits, *, written_at: datetime | None
) -> Traits:
    """Return the states that today's definitions made, or newer ones than this process knows.

    Others would never change again. Before contributions are merged it removes what an earlier
    edition left in some of them. What a broken definition had counted waits until it is mended.
    `written_at` is when the states were stored: whoever did so after these definitions were read
    may have known a trait that is new.
    """
    as_of = definitions.as_of
    may_be_new = as_of is not None and written_at is not None and written_at > as_of
    return {
        name: state
        for name, state in traits.items()
        if (may_be_new and name not in definitions.by_name) or _is_current(definitions, name, state)
    }


def _is_current(definitions: TraitDefinitions, name: str, state: State) -> bool:
    definition = definitions.by_name.get(name)
    if definition is None:
        return any(broken.rule_id == name for broken in definitions.broken)
    return (
        definition.terms.rank == (state["edition"], state["digest"])
        or state["edition"] > definition.terms.edition
    )
