"""Token buckets: so many requests a second on average, and so many at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagstitch.core.token_bucket import RateLimit, TokenBucket, parse_rate


def test_a_new_bucket_gives_its_burst_at_once_and_then_one_token_at_a_time() -> None:
    bucket = TokenBucket(RateLimit(per_second=2, burst=3))

    assert [bucket.wait_s(100.0) for _ in range(5)] == [0, 0, 0, 0.5, 0.5]
    assert [bucket.wait_s(100.5), bucket.wait_s(100.5)] == [0, 0.5]


def test_a_pause_fills_it_to_its_burst_and_no_further() -> None:
    bucket = TokenBucket(RateLimit(per_second=10, burst=2))
    for now in (0.0, 0.0, 0.0):
        bucket.wait_s(now)

    assert [bucket.wait_s(3600.0) for _ in range(3)] == [0, 0, 0.1]


def test_asking_in_vain_costs_nothing() -> None:
    bucket = TokenBucket(RateLimit(per_second=1, burst=1))

    waits = [bucket.wait_s(now) for now in (0.0, *[0.5] * 100, 1.0)]

    assert (waits[0], waits[-1]) == (0, 0)


def test_a_clock_that_goes_back_gives_no_tokens() -> None:
    bucket = TokenBucket(RateLimit(per_second=1, burst=1))

    assert [bucket.wait_s(now) for now in (10.0, 5.0, 10.0)] == [0, 1, 1]


@given(
    per_second=st.floats(0.001, 100_000),
    burst=st.integers(1, 1000),
    pauses=st.lists(st.floats(0, 10), max_size=200),
)
def test_nobody_gets_more_than_the_burst_and_the_rate(
    per_second: float, burst: int, pauses: list[float]
) -> None:
    bucket = TokenBucket(RateLimit(per_second, burst))
    now, given_tokens = 1_000.0, 0
    for pause in pauses:
        now += pause
        given_tokens += bucket.wait_s(now) == 0

    assert given_tokens <= burst + (now - 1_000.0) * per_second + 0.01


@given(per_second=st.floats(0.001, 100_000), burst=st.integers(1, 5), now=st.floats(0, 1e7))
def test_whoever_waits_as_long_as_it_says_gets_a_token(
    per_second: float, burst: int, now: float
) -> None:
    bucket = TokenBucket(RateLimit(per_second, burst))
    wait_s = 0.0
    while not wait_s:
        wait_s = bucket.wait_s(now)

    assert bucket.wait_s(now + max(wait_s, 0.001)) == 0


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("off", None),
        ("50", RateLimit(50, 50)),
        ("50,100", RateLimit(50, 100)),
        ("50, 100", RateLimit(50, 100)),
        ("0.5", RateLimit(0.5, 1)),
        ("2.5", RateLimit(2.5, 3)),
        ("100000,1000000", RateLimit(100_000, 1_000_000)),
    ],
)
def test_a_rate_is_requests_a_second_and_how_many_at_once(
    text: str, limit: RateLimit | None
) -> None:
    assert parse_rate(text) == limit


@pytest.mark.parametrize(
    "text",
    ["", "on", "0", "0,5", "5,0", "-1", "50,", ",50", "50,1.5", "1e3", "nan", "inf", "50/s",
     "100001", "1,1000001", "\u0665", "5\n"],
)  # fmt: skip
def test_every_other_text_is_no_rate_and_is_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="off, or requests a second") as raised:
        parse_rate(text)

    assert text == "" or repr(text) not in str(raised.value)
