"""Why a rule did or did not apply: told from the same closures that decided."""

from __future__ import annotations

from typing import Any, Literal

from tagstitch.core.compiled_condition import Hides
from tagstitch.core.paths import Facts, Source
from tagstitch.core.profile import Profile
from tagstitch.core.rule import Rule

RuleReason = Literal[
    "MATCHED",
    "CONDITIONS_NOT_MET",
    "UNAVAILABLE",
    "CONSENT_DENIED",
    "ERROR",
    "STOPPED",
    "EVENT_DROPPED",
]
"""STOPPED and EVENT_DROPPED: an earlier rule ended the evaluation."""

TraceLine = dict[str, Any]


def make_facts(parameters: Any, profile: Profile | None) -> Facts:
    """Return what conditions look at; without a profile its paths are absent."""
    if profile is None:
        return Facts(parameters)
    return Facts(parameters, profile.attributes, profile.state)


def missing_sources(unavailable: frozenset[str]) -> frozenset[Source]:
    """Return the sources that could not be loaded, for `profile` and `state`."""
    found: set[Source] = set()
    if "profile" in unavailable:
        found.add("profile")
    if "state" in unavailable:
        found.add("user_state")
    return frozenset(found)


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
