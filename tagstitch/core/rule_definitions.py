"""Rule definitions: what a rule book is compiled from, and traits, as their authors wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

RawDefinitions = Mapping[str, Mapping[str, Any]]
"""Id -> the definition as its author wrote it."""


COLLECTIONS: Final = ("event_rules", "personalization_rules", "experiments", "audiences")
"""Where people edit what a rule book holds; also the names of fields of `RuleDefinitions`."""

EDITED: Final = (*COLLECTIONS, "traits")
"""Where people edit what rule files hold. A rule book has the names of the traits alone."""


@dataclass(frozen=True, slots=True)
class RuleDefinitions:
    """The content of one rule book, and the computed traits beside it."""

    event_rules: RawDefinitions = field(default_factory=dict)
    personalization_rules: RawDefinitions = field(default_factory=dict)
    experiments: RawDefinitions = field(default_factory=dict)
    audiences: RawDefinitions = field(default_factory=dict)
    protected: tuple[str, ...] = ()
    """Names of attributes that a bare name reads from the profile alone, besides the traits."""
    traits: RawDefinitions = field(default_factory=dict)

    @property
    def collections(self) -> Mapping[str, RawDefinitions]:
        """Collection -> its definitions, of what a rule book holds."""
        return {name: getattr(self, name) for name in COLLECTIONS}

    @property
    def edited(self) -> Mapping[str, RawDefinitions]:
        """Collection -> its definitions, of all that people edit."""
        return {name: getattr(self, name) for name in EDITED}

    @property
    def protected_names(self) -> frozenset[str]:
        """Names that events cannot forge: those that views declare, and every trait."""
        return frozenset((*self.protected, *self.traits))

    @property
    def is_empty(self) -> bool:
        """Whether there is no rule, experiment or audience."""
        return not any(self.collections.values())

    @classmethod
    def of(
        cls, collections: Mapping[str, RawDefinitions], protected: tuple[str, ...] = ()
    ) -> RuleDefinitions:
        """Return the definitions of these collections; what is not among them is empty."""
        present = {name: collections.get(name, {}) for name in EDITED}
        return cls(
            event_rules=present["event_rules"],
            personalization_rules=present["personalization_rules"],
            experiments=present["experiments"],
            audiences=present["audiences"],
            protected=protected,
            traits=present["traits"],
        )
