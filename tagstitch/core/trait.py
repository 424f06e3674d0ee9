"""Traits: attributes that are computed from a visitor's events.

A definition looks at the event alone, never at the profile: what it counts must not depend on when
an event arrives, or on which profile its identifier belonged to at the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from tagstitch.core.compiled_condition import CompiledCondition
from tagstitch.core.consent import Consent, Purpose
from tagstitch.core.event import Event
from tagstitch.core.limits import (
    TRAIT_ELEMENT_BYTES_MAX,
    TRAIT_KEY_BYTES_MAX,
    TRAIT_VALUE_BYTES_MAX,
    TRAIT_VALUES_PER_EVENT_MAX,
    WORK_STEPS_MAX,
)
from tagstitch.core.paths import Facts, Path, compile_base, element_finder
from tagstitch.core.scalar_text import scalar_text
from tagstitch.core.targeting import EVERY_EVENT
from tagstitch.core.trait_numbers import millionths_of
from tagstitch.core.trait_operations import OPERATIONS, Reads
from tagstitch.core.trait_scalars import scalar_of
from tagstitch.core.trait_state import State, fold_values, microseconds
from tagstitch.core.trait_terms import Terms
from tagstitch.core.work import Work

SESSION_ID: Final = "ga_session_id"
"""The parameter that tells sessions apart."""

_BYTES_MAX: Final[Mapping[Reads, int]] = {
    "value": TRAIT_VALUE_BYTES_MAX,
    "element": TRAIT_ELEMENT_BYTES_MAX,
    "key": TRAIT_KEY_BYTES_MAX,
    "constant": TRAIT_VALUE_BYTES_MAX,
}


@dataclass(frozen=True, slots=True)
class TraitDefinition:
    """How one trait is computed."""

    name: str
    """Of the attribute."""
    event_names: tuple[str, ...]
    """`*` alone stands for every event."""
    condition: CompiledCondition
    terms: Terms
    field: Path | None = None
    """Where in the event the values are."""
    constant: Any = None
    """The value of `set` and `set_once` where they read no field."""
    time_zone: tzinfo = UTC
    """By whose clock hours and days are told."""
    purposes: tuple[Purpose, ...] = ()
    """The purposes that the visitor must allow, all of them."""
    is_active: bool = True

    @property
    def bytes_max(self) -> int:
        """The most bytes that its state can have, whatever is folded."""
        return self.terms.bytes_max(OPERATIONS[self.terms.operation].part_bytes(self.terms))

    def counts(self, event: Event, facts: Facts) -> bool:
        """Return whether the event is one of those that the trait is computed from."""
        is_named = event.name in self.event_names or EVERY_EVENT in self.event_names
        return self.is_active and is_named and self.condition.holds(facts)

    def is_allowed(self, consent: Consent) -> bool:
        """Return whether the visitor allows every purpose of the trait."""
        return all(map(consent.allows, self.purposes))

    def values(self, event: Event, at: datetime) -> list[Any]:
        """Return what the event adds; nothing when it has no usable value."""
        reads = OPERATIONS[self.terms.operation].reads
        if reads == "nothing":
            return [None]
        if reads == "clock":
            local = at.astimezone(self.time_zone)
            is_day = self.terms.operation == "day_of_week"
            return [local.weekday() if is_day else local.hour]
        if reads == "session":
            return [scalar_text(event.parameters.get(SESSION_ID))]
        if self.field is None:
            return [self.constant]
        return _usable(_found(self.field, event), reads)


def fold(
    definition: TraitDefinition, state: State | None, event: Event, *, at: datetime
) -> State | None:
    """Return the state with one event, or the same object when nothing changes.

    `at` is when the event happened; a future time must be cut beforehand (`event_time`), for the
    newest time decides what has left the window. None is the state of no event at all.
    Purposes are the caller's to ask for. Raises WorkExceeded when the event makes its conditions
    too much work.
    """
    if not definition.counts(event, facts_of(event, at)):
        return state
    return fold_values(definition.terms, state, definition.values(event, at), microseconds(at))


def facts_of(event: Event, at: datetime) -> Facts:
    """Return what a trait's conditions look at: the event, and its own time as now."""
    return Facts(event.parameters, now=at.timestamp(), work=Work(WORK_STEPS_MAX))


def _found(path: Path, event: Event) -> list[Any]:
    found = compile_base(path)(Facts(event.parameters))
    if path.quantifier is None:
        return [found]
    elements = found if isinstance(found, list) else []
    if path.quantifier == "$count":
        return [len(elements)] if elements else []
    find = element_finder(path)
    return [find(element) for element in elements[:TRAIT_VALUES_PER_EVENT_MAX]]


def _usable(found: list[Any], reads: Reads) -> list[Any]:
    if reads == "number":
        numbers = map(millionths_of, found)
        return [number for number in numbers if number is not None]
    scalars = (scalar_of(value, bytes_max=_BYTES_MAX[reads]) for value in found)
    return [scalar for scalar in scalars if scalar is not None]
