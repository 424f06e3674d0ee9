"""Rule definitions: everything that one rule book is compiled from, as its authors wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

RawDefinitions = Mapping[str, Mapping[str, Any]]
"""Id -> the definition as its author wrote it."""


COLLECTIONS: Final = ("event_rules", "personalization_rules", "experiments", "audiences")
"""Where people edit them; also the names of the fields of `RuleDefinitions`."""


@dataclass(frozen=True, slots=True)
class RuleDefinitions:
    """The content of one rule book."""

    event_rules: RawDefinitions = field(default_factory=dict)
    personalization_rules: RawDefinitions = field(default_factory=dict)
    experiments: RawDefinitions = field(default_factory=dict)
    audiences: RawDefinitions = field(default_factory=dict)
    protected: tuple[str, ...] = ()
    """Names of attributes that a bare name reads from the profile alone."""

    @property
    def collections(self) -> Mapping[str, RawDefinitions]:
        """Collection -> its definitions."""
        return {name: getattr(self, name) for name in COLLECTIONS}

    @property
    def is_empty(self) -> bool:
        """Whether there is no rule, experiment or audience."""
        return not any(self.collections.values())

    @classmethod
    def of(
        cls, collections: Mapping[str, RawDefinitions], protected: tuple[str, ...] = ()
    ) -> RuleDefinitions:
        """Return the definitions of these collections; what is not among them is empty."""
        present = {name: collections.get(name, {}) for name in COLLECTIONS}
        return cls(
            event_rules=present["event_rules"],
            personalization_rules=present["personalization_rules"],
            experiments=present["experiments"],
            audiences=present["audiences"],
            protected=protected,
        )
