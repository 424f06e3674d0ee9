from __future__ import annotations

import pytest

from tagstitch.core.errors import InvalidInput
from tagstitch.core.limits import DEADLINE_MS_MAX, DEADLINE_MS_MIN
from tagstitch.pipeline.deadline import AnswersUnderWay, Deadline, seconds_of_calls
from tagstitch.pipeline.decision import Stages


@pytest.mark.parametrize(
    ("answer_ms", "calls_ms"),
    [(DEADLINE_MS_MIN, 10), (50, 40), (100, 90), (250, 225), (400, 360), (1000, 960), (5000, 4960)],
)
def test_calls_end_before_the_answer_is_due(answer_ms: int, calls_ms: int) -> None:
    assert seconds_of_calls(answer_ms / 1000) == pytest.approx(calls_ms / 1000)


@pytest.mark.parametrize(
    ("answer_ms", "others", "calls_ms"),
    [(250, 15, 210), (250, 79, 146), (250, 1000, 125), (50, 15, 25)],
)
def test_calls_end_earlier_the_more_answers_are_due_with_this_one(
    answer_ms: int, others: int, calls_ms: int
) -> None:
    calls_s = seconds_of_calls(answer_ms / 1000, others=others)

    assert calls_s == pytest.approx(calls_ms / 1000)


def test_an_answer_counts_until_it_is_made_or_has_failed() -> None:
    under_way = AnswersUnderWay()

    with under_way.one_more() as first, under_way.one_more() as second:
        assert (first, second) == (0, 1)
    with pytest.raises(InvalidInput), under_way.one_more():
        raise InvalidInput("invalid_field", "any")
    with under_way.one_more() as later:
        assert later == 0


def test_calls_have_half_of_a_time_that_is_too_short_for_anything() -> None:
    assert seconds_of_calls(0.001) == 0.0005


@pytest.mark.parametrize("others", [0, 15, 79])
@pytest.mark.parametrize("answer_ms", [DEADLINE_MS_MIN, 50, 250, 1000, DEADLINE_MS_MAX])
def test_the_stages_of_a_decision_end_in_order_and_before_its_answer_is_due(
    answer_ms: int, others: int
) -> None:
    due = Deadline.after(answer_ms / 1000)
    stages = Stages.of(answer_ms / 1000, others=others)

    assert stages.read.at <= stages.commit.at <= stages.audit.at < due.at
    calls_s = seconds_of_calls(answer_ms / 1000, others=others)
    assert stages.read.remaining_s > 0.4 * calls_s
    if answer_ms >= 50:  # else half of the time is for the answer, and reading has the other half
        assert stages.audit.at - stages.read.at > 0.3 * calls_s
