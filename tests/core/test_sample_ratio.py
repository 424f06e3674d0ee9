from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagstitch.core.decision import decide
from tagstitch.core.event import Event
from tagstitch.core.profile import Profile
from tagstitch.core.rule_book import compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.core.sample_ratio import (
    chi_square_survival,
    judge_sample_ratio,
    sample_ratio_mismatch,
)
from tests.core.deciding import situation_of

HALVES = {"a": 0.5, "b": 0.5}


@pytest.mark.parametrize(
    ("statistic", "degrees", "wanted"),
    [  # the 5 % and 0.1 % columns of any printed table, and values far outside of one
        (3.841459, 1, 0.05), (5.991465, 2, 0.05), (7.814728, 3, 0.05), (9.487729, 4, 0.05),
        (11.070498, 5, 0.05), (16.918978, 9, 0.05), (30.143527, 19, 0.05),
        (10.827566, 1, 0.001), (13.815511, 2, 0.001), (43.820196, 19, 0.001),
        (0, 3, 1.0), (1e9, 2, 0.0), (1e9, 19, 0.0),
    ],
)  # fmt: skip
def test_the_survival_function_is_that_of_the_tables(
    statistic: float, degrees: int, wanted: float
) -> None:
    assert chi_square_survival(statistic, degrees=degrees) == pytest.approx(wanted, rel=1e-4)


def test_two_arms_that_should_be_equal() -> None:
    p = sample_ratio_mismatch({"a": 10_300, "b": 9_700}, HALVES)

    assert p == pytest.approx(2.2e-5, rel=0.01)
    assert p == pytest.approx(math.erfc(math.sqrt(18 / 2)))


def test_three_arms_by_unequal_weights() -> None:
    weights = {"a": 0.2, "b": 0.3, "c": 0.5}

    assert sample_ratio_mismatch({"a": 200, "b": 300, "c": 500}, weights) == 1
    assert sample_ratio_mismatch({"a": 240, "b": 300, "c": 460}, weights) == pytest.approx(
        math.exp(-(8 + 3.2) / 2)
    )


def test_weights_that_do_not_add_up_are_taken_in_proportion() -> None:
    counts = {"a": 60, "b": 40}

    assert sample_ratio_mismatch(counts, {"a": 2, "b": 2}) == sample_ratio_mismatch(counts, HALVES)


@pytest.mark.parametrize(
    ("counts", "weights", "wanted"),
    [
        ({}, HALVES, 1.0),
        ({"a": 0, "b": 0}, HALVES, 1.0),
        ({"a": 10}, {"a": 1.0}, 1.0),
        ({"a": 10, "b": 1}, {"a": 1.0, "b": 0.0}, 0.0),
        ({"a": 10, "b": 10, "c": 1}, HALVES, 0.0),
        ({"a": 10}, {}, 0.0),
        ({"a": 10, "b": 10, "c": 0}, {**HALVES, "c": 0}, 1.0),
    ],
)
def test_what_has_no_visitors_or_no_weight(
    counts: dict[str, int], weights: dict[str, float], wanted: float
) -> None:
    assert sample_ratio_mismatch(counts, weights) == wanted


def test_an_arm_without_any_visitor_counts() -> None:
    assert sample_ratio_mismatch({"a": 100}, HALVES) < 1e-20


@pytest.mark.parametrize(
    ("p", "wanted"),
    [(0.0, "ALERT"), (0.000999, "ALERT"), (0.001, "WARN"), (0.00999, "WARN"), (0.01, "OK")],
)
def test_small_probabilities_warn_and_alert(p: float, wanted: str) -> None:
    assert judge_sample_ratio(p) == wanted


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 10**12)),
    st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1)),
)
def test_it_is_a_probability_whatever_was_counted(
    counts: dict[str, int], weights: dict[str, float]
) -> None:
    assert 0 <= sample_ratio_mismatch(counts, weights) <= 1


# --- A/A: two equal variants over many visitors, as decide assigns them


@pytest.mark.parametrize(
    "weights", [{"a": 0.5, "b": 0.5}, {"a": 0.8, "b": 0.2}, {"a": 0.34, "b": 0.33, "c": 0.33}]
)
def test_twenty_thousand_visitors_are_split_as_weighted_and_no_mismatch_is_reported(
    weights: dict[str, float],
) -> None:
    variants = [{"name": name, "weight": weight} for name, weight in weights.items()]
    experiment = {"target_event_name": "view_item", "variants": variants}
    book = compile_rule_book(RuleDefinitions(experiments={"aa": experiment}))
    event = Event("view_item", {"event_name": "view_item"})
    decisions = (
        decide(situation_of(event, Profile(f"p_{number}")), book) for number in range(20_000)
    )

    counts = Counter(exposure.variant for each in decisions for exposure in each.exposures)

    assert sum(counts.values()) == 20_000
    assert all(counts[name] / 20_000 == pytest.approx(weights[name], abs=0.02) for name in weights)
    assert judge_sample_ratio(sample_ratio_mismatch(counts, weights)) == "OK"
