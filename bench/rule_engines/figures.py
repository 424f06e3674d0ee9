"""What one run of the comparison measured."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Final

from bench.rule_engines.rule_set import Mix

BASELINE: Final = "plain loop"
"""The candidate to whose times the others' are set in relation."""

CHECKED_EVENTS: Final = 20
"""Events that all candidates must decide alike, in every group."""

EVENT_S_MAX: Final = 2.0
"""A candidate that needs longer for one event is left out from that size on."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of one candidate at one size."""

    candidate: str
    load_s: float
    event_us: list[float]
    """Microseconds an event, one figure a round; empty when it was skipped."""

    @property
    def median_us(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.event_us)


@dataclass(frozen=True, slots=True)
class Group:
    """The candidates that were measured in turn at one size."""

    mix: Mix
    rules: int
    matching: float
    """Rules that applied to an event, on average."""
    figures: list[Figures]

    def of(self, candidate: str) -> Figures | None:
        """Return a candidate's figures, or None when it was skipped."""
        return next((f for f in self.figures if f.candidate == candidate and f.event_us), None)


@dataclass(frozen=True, slots=True)
class Description:
    """One candidate as the results present it."""

    name: str
    how: str
    is_ours: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything of one run."""

    rounds: int
    versions: dict[str, str]
    candidates: list[Description]
    groups: list[Group]
