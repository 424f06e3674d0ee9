"""What a rule book leaves out, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from tagstitch.core.errors import Problem

RuleKind = Literal["event", "personalization", "experiment", "audience", "trait"]

COLLECTION_OF: Final[Mapping[RuleKind, str]] = {
    "event": "event_rules",
    "personalization": "personalization_rules",
    "experiment": "experiments",
    "audience": "audiences",
    "trait": "traits",
}
"""Kind -> where its authors edit it."""


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """A rule, an experiment, an audience or a trait that was left out, and why."""

    rule_id: str
    kind: RuleKind
    problems: tuple[Problem, ...]

    @property
    def collection(self) -> str:
        """Where its authors edit it."""
        return COLLECTION_OF[self.kind]
