"""Why a rule did or did not apply: told from the same closures that decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from tagstitch.core.compiled_condition import Hides
from tagstitch.core.gate_trace import told_gates, told_withheld
from tagstitch.core.paths import Facts
from tagstitch.core.rule import Rule
from tagstitch.core.situation import Situation
from tagstitch.core.state_ledger import StateLedger
from tagstitch.core.work import Work

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

_TELLING_WITHHELD: Final[tuple[RuleReason, ...]] = ("MATCHED", "SHADOW", "CONSENT_DENIED")
"""Reasons for which the actions that stay undone are told."""


@dataclass(frozen=True, slots=True)
class TraceView:
    """What a trace is told from, besides the rule and the facts."""

    situation: Situation
    ledger: StateLedger
    hides: Hides


def trace_rule(rule: Rule, facts: Facts, view: TraceView) -> TraceLine:
    """Return one rule's part of a trace, to be closed with the reason.

    To be asked before the rule applies, since that may use up its own cap; leaves `facts` as they
    are.
    """
    situation = view.situation
    untouched = facts.with_state(facts.state)
    untouched.work = Work()  # telling why must not use up what deciding needs
    gate = told_gates(rule, situation, untouched, view.ledger)
    return {
        "rule_id": rule.rule_id,
        "applied": False,
        "reason": None,
        **({"gate": gate} if gate else {}),
        "conditions": rule.condition.explain(untouched, situation.missing, view.hides),
        "withheld": told_withheld(rule, situation.consent, untouched, view.ledger),
    }


def close_line(line: TraceLine, reason: RuleReason) -> TraceLine:
    """Return the line with the reason why the rule did or did not apply."""
    line |= {"applied": reason == "MATCHED", "reason": reason}
    if not line["withheld"] or reason not in _TELLING_WITHHELD:
        del line["withheld"]
    return line
