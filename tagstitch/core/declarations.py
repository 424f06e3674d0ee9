"""Declarations: what rules may refer to by name besides the paths of an event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tagstitch.core.condition import Condition


@dataclass(frozen=True, slots=True)
class Declarations:
    """The names that a rule book declares for its rules."""

    protected: frozenset[str] = frozenset()
    """Attributes that a bare name reads from the profile alone, because a browser could forge an
    event parameter of that name: computed traits and attributes declared `protected`."""
    audiences: Mapping[str, Condition] = field(default_factory=dict)
    """Audience id -> the conditions that make a profile a member."""
    experiments: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Experiment id -> its variants."""


NOTHING_DECLARED: Final = Declarations()
