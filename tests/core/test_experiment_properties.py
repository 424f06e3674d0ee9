"""What holds for every experiment and visitor, found by random search."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tagstitch.core.assignment import Assignment, NotAssigned
from tagstitch.core.experiment import Experiment, assign
from tagstitch.core.experiment_parsing import parse_experiment
from tagstitch.core.paths import Facts

PLAIN = Facts({"event_name": "view_item"}, now=5000.0)
TESTER = Facts({"debug_mode": True}, now=5000.0)
GOLD = Facts({"tier": "Gold"}, {"tier": "Gold"})

SHARES = st.floats(0, 1)
SUBJECTS = st.text(max_size=8)
RANGES = st.tuples(SHARES, SHARES).filter(lambda pair: pair[0] != pair[1]).map(sorted)
VARIANTS = st.sampled_from(
    [
        [{"name": "control"}, {"name": "b"}],
        {"control": 0.1, "b": 0.9},
        {"control": 0.333, "b": 0.333, "c": 0.333},
        {"control": 0, "b": 1},
    ]
)
EXPERIMENTS = st.fixed_dictionaries(
    {"target_event_name": st.just("*"), "variants": VARIANTS},
    optional={
        "conditions": st.sampled_from([{}, {"debug_mode": True}, {"profile.tier": "Gold"}]),
        "hash_version": st.sampled_from([1, 2]),
        "seed": st.text(min_size=1, max_size=3),
        "coverage": SHARES,
        "namespace": RANGES.map(lambda range_: {"id": "n", "range": range_}),
        "holdout": st.floats(0, 100).map(lambda percent: {"id": "h", "percent": percent}),
        "forced": st.just([{"variant": "b", "conditions": {"debug_mode": True}}]),
        "sticky": st.booleans(),
        "version": st.integers(1, 3),
        "is_active": st.booleans(),
    },
)
FACTS = st.sampled_from([PLAIN, TESTER, GOLD])
STORED = st.none() | st.builds(
    Assignment,
    experiment_id=st.just("e"),
    version=st.integers(1, 4),
    variant=st.sampled_from(["control", "b", "gone"]),
    reason=st.just("SPLIT"),
    hash_version=st.just(2),
    bucket=st.none(),
    first_at=st.just(1.0),
)
MISSING: Any = st.sampled_from([frozenset(), frozenset({"profile"}), frozenset({"user_state"})])


def experiment(raw: dict[str, Any], **changes: Any) -> Experiment:
    return parse_experiment("e", {**raw, **changes})


def variant_of(found: Assignment | NotAssigned) -> str | None:
    return found.variant if isinstance(found, Assignment) else None


@given(EXPERIMENTS, SUBJECTS, FACTS, STORED, MISSING)
def test_every_visitor_gets_the_same_answer_every_time(
    raw: dict[str, Any], subject: str, facts: Facts, stored: Assignment | None, missing: Any
) -> None:
    of = experiment(raw)

    first, second = (assign(of, subject, facts, stored, unavailable=missing) for _ in range(2))

    assert first == second
    assert first != NotAssigned("ERROR")
    if isinstance(first, Assignment):
        again = assign(of, subject, facts, first, unavailable=missing)
        assert of.variant(first.variant) is not None
        assert variant_of(again) == first.variant


@given(EXPERIMENTS, SUBJECTS, SHARES, SHARES)
def test_more_coverage_never_takes_a_variant_away(
    raw: dict[str, Any], subject: str, one: float, other: float
) -> None:
    less, more = (
        variant_of(assign(experiment(raw, coverage=share), subject, PLAIN, None))
        for share in sorted((one, other))
    )

    assert less in (None, more)
