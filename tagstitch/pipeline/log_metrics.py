"""Every metric that is counted from the log: its name and the lines that it counts.

infra/logging.tf deploys them and tests/test_observability.py compares the two. None has a label:
a metric's cost and its limit grow with every value of one, and a line's fields have endless ones
(https://cloud.google.com/logging/quotas#log-based-metrics). Fields are for reading the log itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tagstitch.pipeline.log_events import (
    AuditFallback,
    DeadLetter,
    DeadLetterLeftToSubscription,
    DeadLetterRecordRefused,
    EndpointDisabled,
    ErasureCrashed,
    ErasureLeftToNextSweep,
    ErasuresNotLookedFor,
    LogEvent,
    OpeningFailed,
    PushStreamCrashed,
    RefreshCrashed,
    RefreshFailed,
    RequestAnswered,
    RequestFailed,
    RulesCrashed,
    RulesNotPublished,
    RulesRefused,
    Severity,
    Swept,
    TraitFoldFailed,
)


@dataclass(frozen=True, slots=True)
class LogMetric:
    """A counter of lines."""

    counts: tuple[type[LogEvent], ...]
    severity: Severity | None = None
    """The least severity of a line that is counted; None counts all."""
    where: Mapping[str, str | int] = field(default_factory=dict)
    """Fields that a line must have with these values."""

    def filter(self) -> str:
        """Return what follows the choice of our functions in the metric's filter.

        https://cloud.google.com/logging/docs/view/logging-query-language
        """
        names = " OR ".join(f'"{event.message}"' for event in self.counts)
        one_of = names if len(self.counts) == 1 else f"({names})"
        least = [f"severity>={self.severity}"] if self.severity else []
        where = [f"jsonPayload.{name}={_literal(value)}" for name, value in self.where.items()]
        return " AND ".join([*least, f"jsonPayload.message={one_of}", *where])


LOG_METRICS: Final[Mapping[str, LogMetric]] = {
    "audit_fallback": LogMetric((AuditFallback,)),
    "disabled_endpoints": LogMetric((EndpointDisabled,)),
    "dead_letters": LogMetric((DeadLetter, DeadLetterLeftToSubscription, DeadLetterRecordRefused)),
    "stale_rules": LogMetric((RefreshFailed, RefreshCrashed), where={"of": "rules"}),
    "unpublished_rules": LogMetric((RulesRefused, RulesNotPublished, RulesCrashed)),
    "crashes": LogMetric(
        (
            RequestFailed,
            OpeningFailed,
            RefreshCrashed,
            RulesCrashed,
            ErasureCrashed,
            TraitFoldFailed,
            PushStreamCrashed,
        ),
        severity="ERROR",
    ),
    "stuck_erasures": LogMetric((ErasuresNotLookedFor, ErasureLeftToNextSweep, ErasureCrashed)),
    "left_to_sweep": LogMetric((Swept,)),
    "refused_signatures": LogMetric((RequestAnswered,), where={"status": 401}),
}

PLATFORM_METRICS: Final = frozenset({"failed_schedules"})
"""Counted from lines that Cloud Scheduler writes, not from ours."""


def _literal(value: str | int) -> str:
    return str(value) if isinstance(value, int) else f'"{value}"'
