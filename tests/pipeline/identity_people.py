"""People as the model of identity has them, and what can be said of them in plain Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from tagstitch.core.consent import Consent
from tagstitch.core.event import Event
from tagstitch.core.identifier import Identifier, IdentitySettings
from tagstitch.core.stitch_request import StitchRequest

_LATER: Final = datetime(9999, 1, 1, tzinfo=UTC)

Statement = tuple[bool, datetime]
"""Granted, and since when."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What no stitch request may bring a profile beyond."""

    settings: IdentitySettings
    identifiers_max: int
    merges_max: int


@dataclass(slots=True)
class Person:
    """One profile."""

    profile_id: str
    created_at: datetime | None = None
    linked: dict[Identifier, datetime | None] = field(default_factory=dict)
    demoted: set[Identifier] = field(default_factory=set)
    kept_apart: set[Identifier] = field(default_factory=set)
    merges: int = 0
    consent: dict[str, Statement] = field(default_factory=dict)
    attributes: dict[str, tuple[Any, datetime]] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    had_offer: bool = False
    former_ids: set[str] = field(default_factory=set)
    """Ids of merged profiles that no identifier stands for."""

    def seniority(self) -> tuple[datetime, str]:
        return (self.created_at or _LATER, self.profile_id)


@dataclass(frozen=True, slots=True)
class Counted:
    """One event that may count for traits, with what its visitor allowed."""

    event: Event
    at: datetime
    consent: Consent


@dataclass(slots=True)
class Merge:
    """One merge, with everybody as they were."""

    survivor: Person
    gone: dict[str, Person]
    at: datetime | None = None
    record_id: str | None = None
    undone: set[str] = field(default_factory=set)
    """The merged profiles that have been on their own since."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The request is refused with this code."""

    code: str


@dataclass(frozen=True, slots=True)
class Decide:
    """One event for decide, with the rules of the machine."""

    request_id: str
    event: Literal["view_item", "add_to_cart"]
    identifiers: tuple[Identifier, ...]
    """Those that the caller vouches for, in priority order."""
    denied: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Import:
    """One line of an import."""

    profile_id: str | None
    identifiers: tuple[Identifier, ...]
    attributes: Mapping[str, Any]
    at: datetime


def said_now(request: StitchRequest) -> dict[str, bool]:
    """Return what the request and its event say: denied where one of them denies."""
    states = [request.consent or {}]
    if request.event is not None:
        states.append(request.event.parameters.get("consent_state", {}))
    purposes = {purpose for state in states for purpose in state}
    return {p: all(state.get(p, True) is True for state in states) for p in purposes}


def strictest(people: Sequence[Mapping[str, Statement]]) -> dict[str, Statement]:
    """Return the consent of all of them: what one of them did not say is not granted."""
    found = {}
    for purpose in {purpose for consent in people for purpose in consent}:
        said = [consent[purpose] for consent in people if purpose in consent]
        denied = [one for one in said if not one[0]]
        if denied or len(said) == len(people):
            found[purpose] = max(denied or said, key=lambda one: one[1])
    return found


def vouched_for(
    identifiers: Iterable[Identifier], settings: IdentitySettings, *, asserted: bool
) -> tuple[Identifier, ...]:
    """Return those that may select a visitor, in priority order."""
    usable = [
        i for i in identifiers if not settings.is_blocked(i) and (asserted or i.type == "client_id")
    ]
    return tuple(sorted(usable, key=settings.priority))
