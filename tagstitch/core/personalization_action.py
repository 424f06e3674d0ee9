"""What a personalization rule can do for a visitor at once.

What is done elsewhere, later, is an `OutboxAction`. Each action tells what it `reads`, which
parameters of the event it `touches` (none) and for which `purposes` it needs consent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tagstitch.core.consent import Purpose
from tagstitch.core.outbox_action import OutboxAction
from tagstitch.core.paths import Path


@dataclass(frozen=True, slots=True)
class SetCookie:
    """Let the browser keep a cookie."""

    name: str
    value: str
    """Letters, digits and `._~-`; everything else is percent-encoded."""
    expiry_minutes: int
    purposes: tuple[Purpose, ...] = ()

    reads: ClassVar[tuple[Path, ...]] = ()
    touches: ClassVar[tuple[Path, ...]] = ()

    def to_answer(self) -> dict[str, Any]:
        """Return the action as the page gets it."""
        return {
            "type": "set_cookie",
            "name": self.name,
            "value": self.value,
            "expiry_minutes": self.expiry_minutes,
        }


@dataclass(frozen=True, slots=True)
class ReturnValue:
    """Give the page a value: a flag, a variant, the id of some content."""

    key: str
    value: Any
    purposes: tuple[Purpose, ...] = ()

    reads: ClassVar[tuple[Path, ...]] = ()
    touches: ClassVar[tuple[Path, ...]] = ()

    def to_answer(self) -> dict[str, Any]:
        """Return the action as the page gets it."""
        return {"type": "value", "key": self.key, "value": self.value}


@dataclass(frozen=True, slots=True)
class SetState:
    """Remember something about the visitor, for the conditions of later decisions."""

    changes: Mapping[str, Any]
    purposes: tuple[Purpose, ...] = ()

    reads: ClassVar[tuple[Path, ...]] = ()
    touches: ClassVar[tuple[Path, ...]] = ()


AnswerAction = SetCookie | ReturnValue
"""Actions that are part of the answer."""

PersonalizationAction = AnswerAction | OutboxAction | SetState
