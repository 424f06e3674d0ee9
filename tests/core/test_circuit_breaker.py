from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tagstitch.core.circuit_breaker import STORE, CircuitBreaker, CircuitBreakers, Judged

START = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def opened(*, at_s: float = 0, scale: float = 1.0) -> CircuitBreaker:
    breaker = CircuitBreaker(scale)
    for _ in range(5):
        breaker.note("fails", at(at_s))
    return breaker


def test_a_closed_breaker_lets_everything_through() -> None:
    breaker = CircuitBreaker()

    assert [breaker.wait_s(START) for _ in range(100)] == [0] * 100


def test_five_failures_in_a_row_open_it_for_ten_seconds() -> None:
    breaker = CircuitBreaker()

    assert [breaker.note("fails", START) for _ in range(5)] == [False] * 4 + [True]
    assert breaker.wait_s(at(4)) == 6


def test_one_success_among_them_starts_the_count_anew() -> None:
    breaker = CircuitBreaker()
    for judged in ("fails", "fails", "fails", "fails", "works") * 3:
        breaker.note(judged, START)

    assert breaker.wait_s(START) == 0


@pytest.mark.parametrize(("judged", "times"), [("fails", 5), ("refuses", 20)])
def test_refusals_open_it_too_when_there_are_many(judged: Judged, times: int) -> None:
    breaker = CircuitBreaker()
    for _ in range(times - 1):
        breaker.note(judged, START)
    before = breaker.wait_s(START)
    breaker.note(judged, START)

    assert (before, breaker.wait_s(START)) == (0, 10)


def test_half_open_lets_one_probe_through_at_a_time() -> None:
    breaker = opened()

    assert breaker.wait_s(at(10)) == 0
    assert [breaker.wait_s(at(10)) > 0 for _ in range(5)] == [True] * 5


def test_a_probe_that_works_closes_it() -> None:
    breaker = opened()
    breaker.wait_s(at(10))
    breaker.note("works", at(11))

    assert [breaker.wait_s(at(11)) for _ in range(3)] == [0, 0, 0]


def test_probes_that_fail_keep_it_open_for_twice_as_long_up_to_five_minutes() -> None:
    breaker, now, waits = opened(), 0.0, []
    for _ in range(8):
        waits.append(breaker.wait_s(at(now)))
        now += waits[-1]
        assert breaker.wait_s(at(now)) == 0
        breaker.note("fails", at(now))

    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]


def test_a_probe_that_is_never_heard_of_is_followed_by_another() -> None:
    breaker = opened()
    breaker.wait_s(at(10))

    assert breaker.wait_s(at(20)) == 20
    assert breaker.wait_s(at(40)) == 0


def test_failures_that_were_under_way_when_it_opened_say_nothing_new() -> None:
    breaker = opened()
    for _ in range(20):
        breaker.note("fails", at(1))

    assert breaker.wait_s(at(1)) == 9


def test_an_endpoint_that_asks_for_longer_gets_it_up_to_five_minutes() -> None:
    asked, too_much = CircuitBreaker(), CircuitBreaker()
    for _ in range(5):
        asked.note("fails", START, retry_after_s=60)
        too_much.note("fails", START, retry_after_s=86_400)

    assert (asked.wait_s(START), too_much.wait_s(START)) == (60, 300)


def test_local_work_waits_less() -> None:
    assert opened(scale=0.01).wait_s(START) == pytest.approx(0.1)


def test_every_endpoint_has_its_own() -> None:
    breakers = CircuitBreakers()
    for _ in range(5):
        breakers.of("a").note("fails", START)

    assert breakers.of("a").wait_s(START) == 10
    assert breakers.of("b").wait_s(START) == 0


class TestAStore:
    """What answers wait for: left alone later than an endpoint, and never for long."""

    @staticmethod
    def failing(*seconds: float) -> CircuitBreaker:
        breaker = CircuitBreaker(patience=STORE)
        for second in seconds:
            breaker.note("fails", at(second))
        return breaker

    def test_a_hiccup_of_less_than_a_second_leaves_it_closed(self) -> None:
        assert self.failing(*[0.01 * n for n in range(99)]).wait_s(at(0.99)) == 0

    def test_failures_over_a_second_open_it_for_half_of_one(self) -> None:
        breaker = self.failing(0, 0.2, 0.4, 0.6, 1.0)

        assert breaker.wait_s(at(1.0)) == 0.5
        assert (breaker.is_open(at(1.4)), breaker.is_open(at(1.6))) == (True, False)

    def test_four_failures_are_too_few_however_long_they_take(self) -> None:
        assert self.failing(0, 10, 20, 30).wait_s(at(30)) == 0

    def test_a_success_among_the_failures_begins_the_second_anew(self) -> None:
        breaker = self.failing(0, 0.3, 0.6)
        breaker.note("works", at(0.7))
        for second in (0.8, 0.9, 1.0, 1.1, 1.2, 1.7):
            breaker.note("fails", at(second))

        assert breaker.wait_s(at(1.7)) == 0

    def test_it_is_probed_every_two_seconds_however_long_it_fails(self) -> None:
        breaker, now, waits = self.failing(0, 0.2, 0.4, 0.6, 1.0), 1.0, []
        for _ in range(5):
            waits.append(breaker.wait_s(at(now)))
            now += waits[-1]
            assert breaker.wait_s(at(now)) == 0
            breaker.note("fails", at(now))

        assert waits == [0.5, 1, 2, 2, 2]
