"""What the static checks say about rules: findings, each under a code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from tagstitch.core.broken_rule import RuleKind

Severity = Literal["error", "warning"]

SEVERITIES: Final[Mapping[str, Severity]] = {
    "invalid": "error",
    "never_holds": "error",
    "drops_everything": "error",
    "purpose_missing": "error",
    "holdout_mismatch": "error",
    "always_holds": "warning",
    "dead_alternative": "warning",
    "lists_only": "warning",
    "true_when_absent": "warning",
    "unreachable": "warning",
    "rename_cycle": "warning",
    "overlapping_renames": "warning",
    "overlapping_writes": "warning",
    "drops_every_event_of_a_name": "warning",
    "forgeable_condition": "warning",
    "forgeable_sending": "warning",
    "namespace_overlap": "warning",
    "unread_experiment": "warning",
    "unknown_event": "warning",
    "unknown_field": "warning",
    "type_mismatch": "warning",
}
"""Code -> severity: an error keeps the rules from being published. docs/rule-checks.md explains
each code."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a rule, an experiment or an audience, or looks wrong."""

    code: str
    rule_id: str
    kind: RuleKind
    path: str
    """The place in the rule's document."""
    message: str
    """Never holds a value of the rule."""
    hint: str | None = None
    related: tuple[str, ...] = ()
    """Ids of other rules that have a part in it."""

    @property
    def severity(self) -> Severity:
        """How bad it is; the code tells."""
        return SEVERITIES[self.code]

    def to_json(self) -> dict[str, Any]:
        """Return the finding as commands print it."""
        return {
            "severity": self.severity,
            "code": self.code,
            "rule_id": self.rule_id,
            "kind": self.kind,
            "path": self.path,
            "message": self.message,
            "hint": self.hint,
            "related": list(self.related),
        }


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What the checks of a set of rules found."""

    findings: tuple[Finding, ...]
    """Errors first, then by rule."""
    notes: tuple[str, ...] = ()
    """What was not looked at because the set is too large."""

    @property
    def has_errors(self) -> bool:
        """Whether the set must not be published."""
        return any(finding.severity == "error" for finding in self.findings)
