"""Event decisions: what becomes of one event, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from tagstitch.core.event import Event
from tagstitch.core.event_action import EventAction, Modification, Redact
from tagstitch.core.paths import Path
from tagstitch.core.rule_trace import TraceLine

Effect: TypeAlias = tuple[EventAction, Sequence[Modification]]
"""An action that was done, and what it changed: nothing, mostly one thing, or several."""


@dataclass(frozen=True, slots=True)
class SkippedRule:
    """A rule, or one of its actions, that raised; `error` is the class of the exception."""

    rule_id: str
    error: str


class EventDecision(msgspec.Struct, frozen=True):  # a frozen dataclass takes five times as long
    """What becomes of one event, and why."""

    drop: bool = False
    rename: str | None = None
    set: Mapping[str, Any] = {}
    """Top-level parameters with a new value."""
    unset: tuple[str, ...] = ()
    modifications: tuple[Mapping[str, Any], ...] = ()
    """Effective changes in their order, as the answer lists them."""
    rule_ids: tuple[str, ...] = ()
    """Rules that applied, in their order, also those that found nothing to change."""
    skipped: tuple[SkippedRule, ...] = ()
    coercions: int = 0
    """How often a text was taken for a number."""
    shadow: tuple[Mapping[str, Any], ...] = ()
    """What shadow rules would have changed: {rule_id, modifications}."""
    effects: tuple[Effect, ...] = ()
    """What the actions of rules that matched did; equal decisions of two rule books differ here."""
    imagined: tuple[Effect, ...] = ()
    """What the actions of shadow rules that matched would have done."""
    cut_off_at: str | None = None
    """The rule at which the evaluation ended because all rules together were too much work."""
    trace: tuple[TraceLine, ...] = ()

    @property
    def action_paths(self) -> tuple[Path, ...]:
        """What the actions of rules that matched looked at and changed, redactions aside."""
        lasting = (action for action, _ in self.effects if not isinstance(action, Redact))
        actions = (*lasting, *(action for action, _ in self.imagined))
        return tuple(path for action in actions for path in (*action.reads, *action.touches))

    @property
    def redacted_paths(self) -> tuple[Path, ...]:
        """What redactions removed, if it was there; nobody keeps the values."""
        redactions = (action for action, _ in self.effects if isinstance(action, Redact))
        return tuple(path for action in redactions for path in action.touches)

    def to_json(self) -> dict[str, Any]:
        """Return the decision as the body of `POST /decide` has it."""
        return {
            "drop": self.drop,
            "rename": self.rename,
            "set": dict(self.set),
            "unset": list(self.unset),
            "modifications": list(self.modifications),
        }

    def apply_to(self, event: Event) -> Mapping[str, Any]:
        """Return the whole event as it leaves, or would leave when it is dropped.

        Where nothing changed these are the event's own parameters: not to be changed.
        """
        if not self.set and not self.unset and self.rename is None:
            return event.parameters
        payload = dict(event.parameters)
        for name in self.unset:
            payload.pop(name, None)
        payload |= self.set
        if self.rename is not None:
            payload["event_name"] = self.rename
        return payload
