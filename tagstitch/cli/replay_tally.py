"""What a replay counts, and how it reads."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tagstitch.cli.output import printable


def _latencies() -> array[float]:
    return array("d")


@dataclass(slots=True)
class ReplayTally:
    """Counts and latencies of one replay."""

    events: int = 0
    renamed: int = 0
    changed: int = 0
    """Events that leave with other parameters or items, a new name apart."""
    dropped: int = 0
    unchanged: int = 0
    personalized: int = 0
    """Events that were answered with an action for their visitor."""
    sent_to_stitching: int = 0
    without_identifier: int = 0
    failed: int = 0
    """Events that got no decision, or whose stitch request was not accepted."""
    visitors: set[tuple[str, str]] = field(default_factory=set)
    """Strongest identifier of each event."""
    profiles: int | None = None
    """Distinct profiles that those visitors have after the replay; None when nobody waited."""
    rules: Counter[str] = field(default_factory=Counter)
    degraded: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    decide_ms: array[float] = field(default_factory=_latencies)
    stitch_ms: array[float] = field(default_factory=_latencies)
    seconds: float = 0.0
    """Seconds from the first request to the last answer."""
    drain_seconds: float | None = None
    """Seconds until the queue was empty after that."""

    def count_decision(self, answer: Mapping[str, Any]) -> None:
        """Count one answer of `POST /decide`."""
        self.events += 1
        decision = answer.get("event") or {}
        modifications = decision.get("modifications") or []
        renamed = bool(decision.get("rename"))
        changed = any(m.get("type") != "rename_event" for m in modifications)
        dropped = bool(decision.get("drop"))
        self.dropped += dropped
        self.renamed += renamed and not dropped
        self.changed += changed and not dropped
        self.unchanged += not (renamed or changed or dropped)
        actions = (answer.get("personalization") or {}).get("actions") or []
        self.personalized += bool(actions)
        self.rules.update({entry["rule_id"] for entry in [*modifications, *actions]})
        self.degraded.update(answer.get("degraded") or [])

    def to_document(self) -> dict[str, Any]:
        """Return the tally as --json prints it."""
        return {
            "events": self.events,
            "renamed": self.renamed,
            "changed": self.changed,
            "dropped": self.dropped,
            "unchanged": self.unchanged,
            "personalized": self.personalized,
            "stitching": {
                "sent": self.sent_to_stitching,
                "without_identifier": self.without_identifier,
                "visitors": len(self.visitors),
                "profiles": self.profiles,
            },
            "rules": dict(self.rules.most_common()),
            "degraded": dict(self.degraded),
            "failed": self.failed,
            "errors": dict(self.errors),
            "seconds": round(self.seconds, 3),
            "drain_seconds": None if self.drain_seconds is None else round(self.drain_seconds, 3),
            "events_per_second": round(self.events / self.seconds, 1) if self.seconds else None,
            "latency_ms": {
                "decide": percentiles(self.decide_ms),
                "stitch_accepted": percentiles(self.stitch_ms),
            },
        }


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """Return p50, p95 and p99 by nearest rank, or None without values."""
    if not values:
        return None
    ordered = sorted(values)
    return {
        f"p{p}": round(ordered[max(0, -(-len(ordered) * p // 100) - 1)], 2) for p in (50, 95, 99)
    }


def show_tally(out: Console, document: Mapping[str, Any]) -> None:
    """Print the document of a tally."""
    table = Table("events", str(document["events"]), show_header=True)
    for name in ("renamed", "changed", "dropped", "unchanged", "personalized"):
        table.add_row(name, str(document[name]))
    stitching = document["stitching"]
    profiles = "" if stitching["profiles"] is None else f" in {stitching['profiles']} profiles"
    table.add_row("stitched", f"{stitching['visitors']} visitors{profiles}")
    if stitching["without_identifier"]:
        table.add_row("without identifier", str(stitching["without_identifier"]))
    table.add_row("degraded", _counted(document["degraded"]) or "0")
    table.add_row("failed", _counted(document["errors"]) or "0")
    table.add_row("rejected lines", str(document["rejected"]))
    out.print(table)
    if document["rules"]:
        rules = Table("rule", "events")
        for rule_id, count in document["rules"].items():
            rules.add_row(Text(printable(rule_id)), str(count))
        out.print(rules)
    out.print(f"{document['events_per_second']} events/s, {document['seconds']} s", markup=False)
    for name, values in document["latency_ms"].items():
        if values:
            shown = ", ".join(f"{p} {ms} ms" for p, ms in values.items())
            out.print(f"{name}: {shown}", markup=False)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
