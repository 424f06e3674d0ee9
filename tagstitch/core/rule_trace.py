"""Why a rule did or did not apply: told from the same closures that decided."""

from __future__ import annotations

from typing import Any, Literal

from tagstitch.core.compiled_condition import Hides
from tagstitch.core.paths import Facts, Source
from tagstitch.core.rule import Rule

RuleReason = Literal[
    "MATCHED",
    "SHADOW",
    "CONDITIONS_NOT_MET",
    "NO_IDENTIFIER",
    "CONSENT_DENIED",
    "OUT_OF_SCHEDULE",
    "NOT_IN_ROLLOUT",
    "CAPPED",
    "UNAVAILABLE",
    "NOT_COMMITTED",
    "ERROR",
    "STOPPED",
    "EVENT_DROPPED",
    "WORK_EXCEEDED",
]
"""SHADOW: its conditions hold, and it is only watched. NOT_COMMITTED: what it would remember could
not be stored. STOPPED and EVENT_DROPPED: an earlier rule ended the evaluation. WORK_EXCEEDED: all rules together
were too much work for one decision."""

TraceLine = dict[str, Any]


def trace_rule(
    rule: Rule, reason: RuleReason, facts: Facts, missing: frozenset[Source], hides: Hides
) -> TraceLine:
    """Return one rule's part of a trace; leaves `facts` as they are."""
    untouched = facts.with_state(facts.state)
    return {
        "rule_id": rule.rule_id,
        "applied": reason == "MATCHED",
        "reason": reason,
        "conditions": rule.condition.explain(untouched, missing, hides),
    }
