from __future__ import annotations

from datetime import date
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagstitch.core.bucketing import bucket_of
from tagstitch.core.declarations import Declarations
from tagstitch.core.errors import Problem
from tagstitch.core.paths import Facts, Source
from tagstitch.core.problems import Problems
from tagstitch.core.rollout import Rollout, parse_rollout

NOTHING = Facts({})
VISITORS = [f"p_{number}" for number in range(20_000)]


def rollout(raw: object, **options: Any) -> Rollout:
    problems = Problems()
    parsed = parse_rollout(raw, "rollout", problems, **{"rule_id": "r1", **options})
    assert problems.found == []
    return parsed


def problems_of(raw: object) -> list[Problem]:
    problems = Problems()
    parse_rollout(raw, "rollout", problems, rule_id="r1")
    return problems.found


def included(raw: object, **options: Any) -> set[str]:
    parsed = rollout(raw, **options)
    return {visitor for visitor in VISITORS if parsed.includes(visitor, NOTHING)}


@pytest.mark.parametrize("percent", [0.5, 10, 50, 99])
def test_a_rollout_includes_about_its_share(percent: float) -> None:
    assert abs(len(included(percent)) / len(VISITORS) * 100 - percent) < 1.5


def test_nobody_has_0_percent_and_everybody_100() -> None:
    assert included(0) == set()
    assert included(100) == set(VISITORS)


def test_a_growing_share_moves_nobody_out() -> None:
    shares = [included(percent) for percent in (0, 0.01, 1, 5, 5.5, 50, 100)]

    assert all(smaller <= larger for smaller, larger in pairwise(shares))


def test_the_published_hash_places_a_visitor() -> None:
    # the vector of version 2 for the seed "seed" and the value "b" is 0.2696
    assert not rollout({"percent": 26.96, "salt": "seed"}).includes("b", NOTHING)
    assert rollout({"percent": 26.97, "salt": "seed"}).includes("b", NOTHING)


@given(st.integers(0, 10_000), st.text(min_size=1, max_size=3))
def test_every_hundredth_of_a_percent_is_one_bucket(hundredths: int, visitor: str) -> None:
    bucket = round(bucket_of(visitor, seed="r1") * 10_000)

    assert rollout(hundredths / 100).includes(visitor, NOTHING) is (bucket < hundredths)


def test_the_salt_is_the_rules_id_unless_another_is_given() -> None:
    assert included(10) == included({"percent": 10, "salt": "r1"})
    assert included(10) == included({"percent": 10, "salt": "r1", "by": "visitor"}, rule_id="r2")
    assert included(10) != included(10, rule_id="r2")


@pytest.mark.parametrize("visitor", [None, ""])
def test_nobody_is_in_no_share(visitor: str | None) -> None:
    assert not rollout(100).includes(visitor, NOTHING)


def test_a_path_names_another_subject() -> None:
    by_store = rollout({"percent": 50, "by": "store.id"})
    stores = {n: by_store.includes(None, Facts({"store": {"id": n}})) for n in range(50)}

    assert set(stores.values()) == {True, False}
    for number, is_in in stores.items():
        for same in (float(number), str(number)):
            assert by_store.includes("p_1", Facts({"store": {"id": same}})) is is_in


@pytest.mark.parametrize("value", [None, True, [], ["a"], {"a": 1}, float("nan"), ""])
def test_what_is_no_id_is_in_no_share(value: object) -> None:
    everybody = rollout({"percent": 100, "by": "store"})

    assert everybody.includes(None, Facts({"store": 1.5}))
    assert not everybody.includes("p_1", Facts({"store": value}))


def test_a_rollout_says_what_it_reads() -> None:
    by_company = rollout({"percent": 50, "by": "company"})
    missing: frozenset[Source] = frozenset(("profile",))

    assert rollout(50).reads == frozenset()
    assert not rollout(50).is_lacking(NOTHING, missing)
    assert by_company.reads == {"event", "profile"}
    assert by_company.is_lacking(NOTHING, missing)
    assert not by_company.is_lacking(Facts({"company": "c"}), missing)


def test_a_protected_attribute_is_read_from_the_profile() -> None:
    declared = Declarations(protected=frozenset(("company",)))
    by_company = rollout({"percent": 100, "by": "company"}, declared=declared)

    assert by_company.includes(None, Facts({}, {"company": "c"}))
    assert not by_company.includes(None, Facts({"company": "forged"}))


@pytest.mark.parametrize(
    ("raw", "path", "hint"),
    [
        ("10", "rollout", "without quotes"),
        ("10%", "rollout", None),
        (True, "rollout", None),
        ([10], "rollout", None),
        (-1, "rollout", "0 includes nobody"),
        (100.5, "rollout", "0 includes nobody"),
        (0.001, "rollout", "10,000 buckets"),
        (float("nan"), "rollout", None),
        (float("inf"), "rollout", None),
        (10**400, "rollout", None),
        ({}, "rollout.percent", None),
        ({"percent": "10"}, "rollout.percent", "without quotes"),
        ({"percent": 10, "salt": ""}, "rollout.salt", "the same visitors"),
        ({"percent": 10, "salt": "x" * 129}, "rollout.salt", None),
        ({"percent": 10, "salt": date(2026, 1, 1)}, "rollout.salt", None),
        ({"percent": 10, "by": ""}, "rollout.by", None),
        ({"percent": 10, "by": 5}, "rollout.by", None),
        ({"percent": 10, "by": ["visitor"]}, "rollout.by", None),
        ({"percent": 10, "by": "items.$.id"}, "rollout.by", "visitor, or a path"),
        ({"precent": 10, "percent": 10}, "rollout.precent", "did you mean percent?"),
    ],
)
def test_a_wrong_rollout_says_where_and_what_to_do(
    raw: object, path: str, hint: str | None
) -> None:
    problem = problems_of(raw)[0]

    assert path == problem.path
    assert hint is None or hint in (problem.hint or "")
