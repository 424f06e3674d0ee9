"""Situations: everything that one decision looks at, as plain data.

The same rule book and the same situation always give the same decision. That is what makes a
decision explainable, repeatable after a lost race, and replayable from its receipt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from tagstitch.core.consent import ANALYTICS_STORAGE, Consent
from tagstitch.core.event import Event
from tagstitch.core.limits import WORK_STEPS_MAX
from tagstitch.core.paths import Facts, Source
from tagstitch.core.work import Work

_NOTHING_MISSING: Final[frozenset[Source]] = frozenset()

Obstacle = Literal["NO_IDENTIFIER", "CONSENT_DENIED", "UNAVAILABLE"]
"""Why nothing can be remembered about this visitor."""


class Situation(msgspec.Struct, frozen=True):  # a frozen dataclass takes five times as long
    """One event, what is known about its visitor, and what may be done with it."""

    event: Event
    consent: Consent
    now: float
    """When it is decided, in seconds since 1970 (UTC)."""
    attributes: Mapping[str, Any] = msgspec.field(default_factory=dict)
    """The profile's; empty without consent, as are the three below."""
    state: Mapping[str, Any] = msgspec.field(default_factory=dict)
    caps: Mapping[str, Sequence[float]] = msgspec.field(default_factory=dict)
    """Cap -> when rules used it."""
    assignments: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)
    """Experiment -> the variant that the visitor was given before."""
    subject: str | None = None
    """The id by which shares of visitors are chosen; None when nobody is known or may be."""
    has_identifier: bool = True
    unavailable: frozenset[str] = frozenset()
    """What could not be loaded: `profile`, `state`."""
    is_erased: bool = False
    """Whether the visitor was erased: that denies whatever would be remembered, for good."""
    can_commit: bool = True
    """Whether a change of state can still be stored; otherwise rules that need one do nothing."""

    work_steps: int = WORK_STEPS_MAX
    """How much work the decision may be; see `Work`."""

    @property
    def missing(self) -> frozenset[Source]:
        """The data that paths cannot look at."""
        if not self.unavailable:
            return _NOTHING_MISSING
        found: set[Source] = set()
        if "profile" in self.unavailable:
            found |= {"profile", "experiment"}
        if "state" in self.unavailable:
            found.add("user_state")
        return frozenset(found)

    @property
    def may_not_remember(self) -> bool:
        """Whether the visitor allows neither looking at a profile nor writing one."""
        return self.is_erased or not self.consent.allows(ANALYTICS_STORAGE)

    @property
    def obstacle(self) -> Obstacle | None:
        """Why nothing can be remembered about this visitor, or None when it can."""
        if not self.has_identifier:
            return "NO_IDENTIFIER"
        if self.may_not_remember:
            return "CONSENT_DENIED"
        return "UNAVAILABLE" if self.unavailable else None

    def facts(self, experiments: Mapping[str, str], work: Work) -> Facts:
        """Return what conditions look at."""
        return Facts(
            self.event.parameters,
            self.attributes,
            self.state,
            self.now,
            experiments,
            work,
        )
