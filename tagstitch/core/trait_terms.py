"""Terms of a trait: what a state says about itself, so that it can be read without definitions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tagstitch.core.trait_window import LIFETIME, Window

_TERMS_BYTES: Final = 300
"""Bytes of everything in a state but its parts."""

_SPAN_BYTES: Final = 12 + 16


@dataclass(frozen=True, slots=True)
class Terms:
    """What is computed, and which edition of its definition says so."""

    operation: str
    window: Window = LIFETIME
    limit: int = 0
    """Values that a list keeps, or keys that a tally shows."""
    unit_s: int = 0
    """Seconds of the unit in which a length of time is given."""
    expires_s: int = 0
    """Seconds after the newest event from which there is no value; 0 for never."""
    edition: int = 1
    digest: str = ""
    """Of everything in the definition that decides what is counted."""

    @property
    def rank(self) -> tuple[int, str]:
        """Which of two definitions' states stays when they meet: the greater one."""
        return (self.edition, self.digest)

    def bytes_max(self, part_bytes: int) -> int:
        """Return the most bytes of a state whose parts have at most so many each."""
        spans = self.window.buckets_max if self.window.kind == "session" else 0
        spans = max(spans, _SESSION_SPANS_MAX) if spans else 0
        return _TERMS_BYTES + spans * _SPAN_BYTES + self.window.buckets_max * (12 + part_bytes)

    def to_state(self) -> dict[str, Any]:
        """Return the terms as a state holds them; what is not said is left out."""
        said = {
            "operation": self.operation,
            "edition": self.edition,
            "digest": self.digest,
            "window": self.window.kind,
            "length_s": self.window.length_s,
            "bucket_s": self.window.bucket_s,
            "limit": self.limit,
            "unit_s": self.unit_s,
            "expires_s": self.expires_s,
        }
        return {name: value for name, value in said.items() if value}


_SESSION_SPANS_MAX: Final = 16


def read_terms(state: Mapping[str, Any]) -> Terms:
    """Return what a state says about itself."""
    window = Window(
        state.get("window", "lifetime"), state.get("length_s", 0), state.get("bucket_s", 0)
    )
    return Terms(
        state["operation"],
        window,
        state.get("limit", 0),
        state.get("unit_s", 0),
        state.get("expires_s", 0),
        state.get("edition", 1),
        state.get("digest", ""),
    )


@dataclass(frozen=True, slots=True)
class Reading:
    """For what a value is read: the terms, the moment, and where the window begins."""

    terms: Terms
    now: int
    start: int
