"""An index only saves time: with it and without it, random rules decide random events alike."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagstitch.core import index_column, rule_bucket, rule_index
from tagstitch.core.consent import resolve_consent
from tagstitch.core.event import Event
from tagstitch.core.profile import Profile
from tagstitch.core.rule_book import RuleBook, compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tests.core.deciding import NOON, decide_both, outcome
from tests.core.test_decision_properties import (
    EVENT_ACTIONS,
    EVENTS,
    PERSONAL_ACTIONS,
    PROFILES,
    UNAVAILABLE,
    relaxed,
    rules,
)

CAPS = st.sampled_from(
    [{"max": 1}, {"max": 1, "group": "g"}, {"max": 2, "within": "1h", "group": "g"}]
)
COMMON_GATES = st.fixed_dictionaries(
    {},
    optional={
        "frequency_cap": CAPS,
        "rollout": st.sampled_from([50, {"percent": 50, "by": "tier"}, {"percent": 0}]),
        "schedule": st.sampled_from([{"from": "2026-01-01T00:00:00Z"}, {"until": "2026-01-01T00:00:00Z"}]),
        "shadow": st.booleans(),
        "purposes": st.sampled_from([["analytics_storage"], ["ad_storage"]]),
        "is_active": st.sampled_from([True, True, False]),
    },
)  # fmt: skip
HOOKS = st.fixed_dictionaries({
    "type": st.just("webhook"), "endpoint": st.just("hook"), "body": st.just({"a": {"from": "tier"}}),
    "once_per": st.sampled_from(["decision", "day"]),
})  # fmt: skip
VARIANTS = st.sampled_from([{}, {}, {"experiment.x": "a"}, {"experiment.x": {"exists": False}}])
EXPERIMENT = {"target_event_name": "*", "variants": [{"name": "a"}, {"name": "b"}]}


def with_gates(
    plain: st.SearchStrategy[dict[str, dict[str, Any]]], **more: st.SearchStrategy[Any]
) -> st.SearchStrategy[dict[str, dict[str, Any]]]:
    """Give every rule gates of its own, and some a condition on a variant."""
    extra = st.lists(
        st.tuples(COMMON_GATES, st.fixed_dictionaries({}, optional=more), VARIANTS),
        min_size=5,
        max_size=5,
    )
    return st.builds(_merged, plain, extra)


def _merged(
    plain: dict[str, dict[str, Any]], extra: list[tuple[dict[str, Any], ...]]
) -> dict[str, Any]:
    merged = {}
    for (rule_id, rule), (gates, more, variant) in zip(plain.items(), extra, strict=False):
        conditions = (
            {"all": [rule["conditions"], variant]}
            if rule["conditions"] and variant
            else (rule["conditions"] or variant)
        )
        merged[rule_id] = {**rule, **gates, **more, "conditions": conditions}
    return merged


def book_of(
    rules_max: int,
    for_events: dict[str, Any],
    for_visitors: dict[str, Any],
    *,
    protected: bool,
    is_sparse: bool,
) -> RuleBook:
    """Return the book with an index for buckets of more rules than this.

    A sparse index keeps few bitmaps, as for thousands of rules: most paths are rare, most values
    are positions, and bounds share blocks.
    """
    definitions = RuleDefinitions(
        for_events,
        for_visitors,
        experiments={"x": EXPERIMENT},
        protected=("tier",) if protected else (),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rule_bucket, "PLAIN_RULES_MAX", rules_max)
        if is_sparse:
            patch.setattr(rule_index, "_COMMON_SHARE", 2)
            patch.setattr(index_column, "_DENSE_SHARE", 2)
            patch.setattr(index_column, "_BLOCKS", 2)
        return compile_rule_book(definitions)


CONSENTS = st.sampled_from([None, {"analytics_storage": False}, {"ad_personalization": False}])


@given(
    event=EVENTS,
    for_events=with_gates(rules(EVENT_ACTIONS), chain=st.booleans()),
    for_visitors=with_gates(rules(PERSONAL_ACTIONS | HOOKS)),
    profile=PROFILES,
    unavailable=UNAVAILABLE,
    requested=CONSENTS,
    protected=st.booleans(),
    is_sparse=st.booleans(),
    can_commit=st.sampled_from([True, True, False]),
    has_uses=st.booleans(),
)
@relaxed(400)
def test_an_index_changes_no_decision(
    *,
    event: Event,
    for_events: dict[str, Any],
    for_visitors: dict[str, Any],
    profile: Profile | None,
    unavailable: frozenset[str],
    requested: dict[str, Any] | None,
    protected: bool,
    is_sparse: bool,
    can_commit: bool,
    has_uses: bool,
) -> None:
    plain, indexed = (
        book_of(rules_max, for_events, for_visitors, protected=protected, is_sparse=is_sparse)
        for rules_max in (10**6, 0)
    )
    consent = resolve_consent(requested=requested, event=None, profile=None, default_granted=True)
    situation: dict[str, Any] = {
        "consent": consent,
        "unavailable": unavailable,
        "can_commit": can_commit,
    }
    if has_uses and consent.allows("analytics_storage"):
        situation["caps"] = {"g_g": [NOON - 60]}
    if "profile" in unavailable:  # then nothing of it is at hand
        profile = None
        situation["subject"] = None
    if "state" in unavailable:
        situation["state"] = {}

    for explain in (False, True):
        by_loop = decide_both(event, plain, profile, explain=explain, **situation)
        by_index = decide_both(event, indexed, profile, explain=explain, **situation)
        assert by_loop.to_json() == by_index.to_json()
        assert outcome(by_loop) == outcome(by_index) or explain
    assert plain.version == indexed.version
    assert plain.broken == indexed.broken
