from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from tagstitch.core.assignment import Assignment, NotAssigned
from tagstitch.core.bucketing import bucket_of
from tagstitch.core.experiment import Experiment, assign, bucket_ranges, holdout_problems
from tagstitch.core.experiment_parsing import parse_experiment
from tagstitch.core.paths import Facts, Source
from tagstitch.core.sample_ratio import sample_ratio_mismatch

HALVES = [{"name": "control"}, {"name": "treatment"}]
VISITORS = [f"p_{number:05}" for number in range(5_000)]
FACTS = Facts({"event_name": "view_item"}, now=5000.0)
TESTER = Facts({"debug_mode": True}, now=5000.0)
FORCED = [{"variant": "treatment", "conditions": {"debug_mode": True}}]


def experiment(experiment_id: str = "e", **fields: Any) -> Experiment:
    base = {"target_event_name": "view_item", "variants": HALVES}
    return parse_experiment(experiment_id, {**base, **fields})


def variant_of(found: Assignment | NotAssigned) -> str | None:
    return found.variant if isinstance(found, Assignment) else None


def reason_of(found: Assignment | NotAssigned) -> str:
    return found.reason


def split(of: Experiment) -> dict[str, str | None]:
    return {visitor: variant_of(assign(of, visitor, FACTS, None)) for visitor in VISITORS}


def members(of: Experiment) -> set[str]:
    return {visitor for visitor, variant in split(of).items() if variant is not None}


def assigned(of: Experiment, visitor: str, stored: Assignment | None = None) -> Assignment:
    found = assign(of, visitor, FACTS, stored)
    assert isinstance(found, Assignment)
    return found


def in_variant(of: Experiment, variant: str) -> Iterator[str]:
    return (visitor for visitor, found in split(of).items() if found == variant)


# --- the split


@pytest.mark.parametrize(
    ("weights", "coverage", "wanted"),
    [  # what all of GrowthBook's SDKs are tested with (cases.json, "getBucketRange")
        ([0.5, 0.5], 1, [(0, 0.5), (0.5, 1)]),
        ([0.5, 0.5], 0.5, [(0, 0.25), (0.5, 0.75)]),
        ([0.5, 0.5], 0, [(0, 0), (0.5, 0.5)]),
        ([0.25] * 4, 1, [(0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)]),
        ([0.4, 0.6], 1, [(0, 0.4), (0.4, 1)]),
        ([0.2, 0.3, 0.5], 1, [(0, 0.2), (0.2, 0.5), (0.5, 1)]),
        ([0.2, 0.3, 0.5], 0.2, [(0, 0.04), (0.2, 0.26), (0.5, 0.6)]),
        ([0.4, 0.5999], 1, [(0, 0.4), (0.4, 0.9999)]),
    ],
)
def test_the_published_bucket_ranges(
    weights: list[float], coverage: float, wanted: list[tuple[float, float]]
) -> None:
    ranges = bucket_ranges(weights, coverage)

    assert [bound for each in ranges for bound in each] == pytest.approx(
        [bound for each in wanted for bound in each]
    )


def test_an_assignment_says_how_it_came_about() -> None:
    found = assigned(experiment("e", version=3), "p_00001")

    assert (found.experiment_id, found.version, found.reason) == ("e", 3, "SPLIT")
    assert (found.hash_version, found.bucket) == (2, bucket_of("p_00001", seed="e"))
    assert found.first_at == 5000.0


@pytest.mark.parametrize(
    "variants",
    [
        HALVES,
        {"control": 0.9, "treatment": 0.1},
        {"a": 0.2, "b": 0.3, "c": 0.5},
    ],
)
def test_the_shares_are_those_of_the_weights(variants: Any) -> None:
    of = experiment("shares", variants=variants)
    counts = Counter(variant for variant in split(of).values() if variant is not None)

    weights = {variant.name: variant.weight for variant in of.variants}
    assert sum(counts.values()) == len(VISITORS)
    assert sample_ratio_mismatch(counts, weights) > 0.01


def test_a_variant_of_no_weight_gets_nobody() -> None:
    assert set(split(experiment(variants={"a": 1, "b": 0})).values()) == {"a"}


@pytest.mark.parametrize(
    "other",
    [{"seed": "another"}, {"hash_version": 1}, {"seed": "another", "hash_version": 1}],
)
def test_another_seed_or_hash_is_another_split(other: dict[str, Any]) -> None:
    pairs = zip(split(experiment()).values(), split(experiment(**other)).values(), strict=True)
    counts = Counter(f"{one} {two}" for one, two in pairs)

    assert len(counts) == 4
    assert min(counts.values()) > len(VISITORS) / 5


def test_the_seed_decides_and_not_the_id() -> None:
    assert split(experiment("one", seed="s")) == split(experiment("two", seed="s"))


def test_a_raised_version_alone_moves_nobody() -> None:
    assert split(experiment(version=1)) == split(experiment(version=2))


def test_more_coverage_takes_in_visitors_and_moves_nobody() -> None:
    variants = {"a": 0.2, "b": 0.3, "c": 0.5}
    splits = [split(experiment(variants=variants, coverage=c)) for c in (0, 0.1, 0.35, 0.8, 1)]

    assert set(splits[0].values()) == {None}
    assert None not in splits[-1].values()
    for less, more in pairwise(splits):
        assert less != more
        assert all(more[visitor] == found for visitor, found in less.items() if found is not None)


# --- who takes part


def test_an_inactive_experiment_assigns_nobody_not_even_testers_and_those_who_were_in() -> None:
    off = experiment(is_active=False, sticky=True, forced=FORCED)
    stored = assigned(experiment(), "p_00001")

    assert assign(off, "p_00001", TESTER, stored) == NotAssigned("NOT_ACTIVE")


def test_a_visitor_without_an_id_is_not_assigned() -> None:
    assert assign(experiment(), "", FACTS, None) == NotAssigned("NO_SUBJECT")


def test_conditions_say_who_may_enter() -> None:
    of = experiment(conditions={"profile.tier": "Gold"})
    gold = Facts({}, {"tier": "Gold"})

    assert assign(of, "p_1", FACTS, None) == NotAssigned("NOT_ELIGIBLE")
    assert variant_of(assign(of, "p_1", gold, None)) in ("control", "treatment")


def test_namespaces_that_do_not_overlap_exclude_each_other() -> None:
    parts = [[0, 0.3], [0.3, 0.5], [0.5, 1]]
    groups = [
        members(experiment(f"e{index}", namespace={"id": "shop", "range": part}))
        for index, part in enumerate(parts)
    ]

    assert sum(map(len, groups)) == len(VISITORS)
    assert set.union(*groups) == set(VISITORS)
    assert [round(len(group) / len(VISITORS), 1) for group in groups] == [0.3, 0.2, 0.5]


def test_a_namespace_is_the_published_hash() -> None:
    of = experiment(namespace={"id": "shop", "range": [0.25, 0.5]})
    wanted = {v for v in VISITORS if 0.25 <= bucket_of(v, seed="__shop", version=1) < 0.5}

    assert members(of) == wanted


def test_who_is_in_another_namespace_learns_why() -> None:
    of = experiment(namespace={"id": "shop", "range": [0.999999, 1]})

    assert assign(of, "p_1", FACTS, None) == NotAssigned("NOT_IN_NAMESPACE")


def test_a_holdout_keeps_the_same_visitors_out_of_every_experiment() -> None:
    holdout = {"id": "spring", "percent": 10}
    kept_out = [
        set(VISITORS)
        - members(experiment(experiment_id, holdout=holdout, hash_version=hash_version))
        for experiment_id, hash_version in (("one", 1), ("two", 2))
    ]

    assert kept_out[0] == kept_out[1]
    assert 0.08 < len(kept_out[0]) / len(VISITORS) < 0.12
    assert assign(experiment("one", holdout=holdout), min(kept_out[0]), FACTS, None) == NotAssigned(
        "HOLDOUT"
    )


def test_a_larger_holdout_holds_the_smaller_one() -> None:
    small, large = (
        members(experiment(holdout={"id": "spring", "percent": percent})) for percent in (5, 20)
    )

    assert large < small


@pytest.mark.parametrize(("percent", "wanted"), [(0, 0), (100, len(VISITORS))])
def test_a_holdout_of_nobody_and_of_everybody(percent: float, wanted: int) -> None:
    of = experiment(holdout={"id": "h", "percent": percent})

    assert len(VISITORS) - len(members(of)) == wanted


def test_a_holdout_is_independent_of_the_split() -> None:
    shares = Counter(split(experiment("e", holdout={"id": "e", "percent": 50})).values())

    assert sample_ratio_mismatch(
        {"control": shares["control"], "treatment": shares["treatment"]},
        {"control": 0.5, "treatment": 0.5},
    ) > 0.01  # fmt: skip


def test_who_is_not_covered_learns_why() -> None:
    assert assign(experiment(coverage=0), "p_1", FACTS, None) == NotAssigned("NOT_COVERED")


# --- what is kept


def test_a_sticky_variant_survives_other_weights() -> None:
    stored = assigned(experiment(sticky=True), next(in_variant(experiment(), "treatment")))
    changed = experiment(sticky=True, variants={"control": 1, "treatment": 0}, version=2)

    found = assign(changed, "p_of_another_bucket", FACTS, stored)

    assert found == Assignment(
        "e", 1, "treatment", "STICKY", 2, stored.bucket, 5000.0, stored.exposed
    )


def test_without_sticky_the_weights_of_today_decide() -> None:
    visitor = next(in_variant(experiment(), "treatment"))
    stored = assigned(experiment(), visitor).after_exposure()
    changed = experiment(variants={"control": 1, "treatment": 0}, version=2)

    found = assigned(changed, visitor, stored)

    assert (found.variant, found.version, found.reason) == ("control", 2, "SPLIT")
    assert (found.needs_exposure, found.after_exposure().multiple) == (True, False)


def test_other_weights_under_the_same_version_mark_who_saw_both() -> None:
    visitor = next(in_variant(experiment(), "treatment"))
    stored = assigned(experiment(), visitor).after_exposure()

    found = assigned(experiment(variants={"control": 1, "treatment": 0}), visitor, stored)

    assert found.to_exposure().multiple


def test_who_is_in_stays_in_whatever_keeps_others_out() -> None:
    closed = experiment(
        sticky=True,
        conditions={"never": True},
        holdout={"id": "h", "percent": 100},
        namespace={"id": "n", "range": [0.9999, 1]},
        coverage=0,
    )

    found = assign(closed, "p_00001", FACTS, assigned(experiment(), "p_00001"))

    assert reason_of(found) == "STICKY"


@pytest.mark.parametrize(
    "fields",
    [{"version": 1}, {"variants": {"control": 0.5, "other": 0.5}, "version": 2}],
    ids=["of a newer version, after a rollback", "that is no more"],
)
def test_a_sticky_variant_is_not_kept(fields: dict[str, Any]) -> None:
    stored = assigned(experiment(version=2), next(in_variant(experiment(), "treatment")))

    assert assigned(experiment(sticky=True, **fields), "p_00001", stored).reason == "SPLIT"


def test_the_time_of_the_first_assignment_stays_with_its_version_and_variant() -> None:
    first = assigned(experiment(), "p_00001")
    later = Facts({}, now=9000.0)

    same = assign(experiment(), "p_00001", later, first)
    raised = assign(experiment(version=2), "p_00001", later, first)

    assert [found.first_at for found in (same, raised) if isinstance(found, Assignment)] == [
        5000.0,
        9000.0,
    ]


# --- testers


def test_a_tester_is_forced_and_never_exposed() -> None:
    closed = experiment(forced=FORCED, coverage=0, holdout={"id": "h", "percent": 100})

    found = assign(closed, "p_1", TESTER, None)

    assert isinstance(found, Assignment)
    assert (found.variant, found.reason, found.needs_exposure) == ("treatment", "FORCED", False)


def test_the_first_forced_variant_that_holds_wins() -> None:
    of = experiment(
        forced=[
            {"variant": "treatment", "conditions": {"a": 1}},
            {"variant": "control", "conditions": {"debug_mode": True}},
            {"variant": "treatment", "conditions": {"debug_mode": True}},
        ]
    )

    assert variant_of(assign(of, "p_1", TESTER, None)) == "control"


def test_a_forced_variant_goes_before_a_kept_one() -> None:
    stored = assigned(experiment(), next(in_variant(experiment(), "control")))

    assert (
        reason_of(assign(experiment(sticky=True, forced=FORCED), "p", TESTER, stored)) == "FORCED"
    )


# --- what could not be loaded


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({"sticky": True}, "profile"),
        ({"conditions": {"tier": "Gold"}}, "profile"),
        ({"conditions": {"user_state.seen": {"exists": False}}}, "user_state"),
        ({"forced": [{"variant": "control", "conditions": {"profile.staff": True}}]}, "profile"),
    ],
)
def test_an_assignment_that_hangs_on_what_is_missing_is_not_made(
    fields: dict[str, Any], missing: Any
) -> None:
    found = assign(experiment(**fields), "p_1", FACTS, None, unavailable=frozenset((missing,)))

    assert found == NotAssigned("UNAVAILABLE")


def test_a_split_needs_no_profile() -> None:
    missing: frozenset[Source] = frozenset(("profile", "user_state"))

    assert assign(experiment(), "p_1", FACTS, None, unavailable=missing) == assign(
        experiment(), "p_1", FACTS, None
    )


def test_what_an_experiment_reads_is_known() -> None:
    assert experiment().reads == frozenset()
    assert experiment(sticky=True).reads == {"profile"}
    assert experiment(forced=FORCED, conditions={"user_state.a": 1}).reads == {
        "event",
        "profile",
        "user_state",
    }


def test_a_condition_that_breaks_harms_only_its_experiment() -> None:
    broken: Any = None

    assert assign(experiment(conditions={"a": 1}), "p_1", broken, None) == NotAssigned("ERROR")


# --- holdouts of several experiments


def test_a_holdout_is_one_share_in_all_experiments() -> None:
    def named(experiment_id: str, holdout_id: str, percent: float) -> Experiment:
        return experiment(experiment_id, holdout={"id": holdout_id, "percent": percent})

    agreeing = [named("a", "h", 5), named("b", "h", 5.0), experiment("c"), named("d", "other", 7)]

    assert holdout_problems(agreeing) == {}
    assert holdout_problems([*agreeing, named("e", "h", 6)]).keys() == {"a", "b", "e"}
