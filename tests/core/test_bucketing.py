"""The published vectors of the bucketing hash, and how evenly it splits."""

from __future__ import annotations

from collections import Counter

import pytest

from tagstitch.core.bucketing import HashVersion, bucket_of
from tagstitch.core.sample_ratio import sample_ratio_mismatch

TENTHS = {str(tenth): 0.1 for tenth in range(10)}


@pytest.mark.parametrize(
    ("seed", "value", "version", "wanted"),
    [  # what all of GrowthBook's SDKs are tested with (cases.json, "hash")
        ("", "a", 1, 0.22),
        ("", "b", 1, 0.077),
        ("b", "a", 1, 0.946),
        ("ef", "d", 1, 0.652),
        ("asdf", "8952klfjas09ujk", 1, 0.549),
        ("", "123", 1, 0.011),
        ("", '___)((*":&', 1, 0.563),
        ("seed", "a", 2, 0.0505),
        ("seed", "b", 2, 0.2696),
        ("foo", "ab", 2, 0.2575),
        ("foo", "def", 2, 0.2019),
        ("89123klj", "8952klfjas09ujkasdf", 2, 0.124),
        ("90850943850283058242805", "123", 2, 0.7516),
        ("()**(%$##$%#$#", '___)((*":&', 2, 0.0128),
    ],
)
def test_the_published_vectors(seed: str, value: str, version: HashVersion, wanted: float) -> None:
    assert bucket_of(value, seed=seed, version=version) == wanted


@pytest.mark.parametrize(
    ("seed", "value", "version", "wanted"),
    [  # computed by JavaScript's charCodeAt
        ("s", "🙂42", 2, 0.0368),
        ("s", "Zoë", 1, 0.844),
        ("exp-1", "日本語", 2, 0.2751),
    ],
)
def test_an_id_outside_ascii_has_the_bucket_that_a_browser_computes(
    seed: str, value: str, version: HashVersion, wanted: float
) -> None:
    assert bucket_of(value, seed=seed, version=version) == wanted


def test_a_lone_surrogate_has_a_bucket_too() -> None:
    assert 0 <= bucket_of("\ud83d", seed="s") < 1


@pytest.mark.parametrize("version", [1, 2])
def test_visitors_spread_evenly(version: HashVersion) -> None:
    ids = (f"p_{number:05}" for number in range(50_000))
    tenths = Counter(str(int(bucket_of(each, seed="e", version=version) * 10)) for each in ids)

    assert sample_ratio_mismatch(tenths, TENTHS) > 0.001
