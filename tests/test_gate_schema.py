"""The schemas of schedules, frequency caps and rollouts judge as their parsers do."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from schemas.gate_schema import frequency_cap_schema, rollout_schema, schedule_schema
from tagstitch.core.frequency_cap import parse_frequency_cap
from tagstitch.core.problems import Problems
from tagstitch.core.rollout import parse_rollout
from tagstitch.core.schedule import parse_schedule
from tests.gate_cases import FREQUENCY_CAPS, ROLLOUTS, SCHEDULES
from tests.schema_cases import Case


def as_params(cases: list[Case]) -> list[Any]:
    return [pytest.param(value, valid, id=name) for name, value, valid in cases]


def accepts(schema: dict[str, Any], value: Any) -> bool:
    return bool(Draft202012Validator(schema).is_valid(value))


@pytest.mark.parametrize("schema", [schedule_schema(), frequency_cap_schema(), rollout_schema()])
def test_the_schema_is_a_schema(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(("value", "valid"), as_params(SCHEDULES))
def test_a_schedule_is_judged_alike(value: Any, valid: bool) -> None:  # noqa: FBT001
    problems = Problems()
    parse_schedule(value, "schedule", problems)

    assert (accepts(schedule_schema(), value), not problems.found) == (valid, valid)


@pytest.mark.parametrize(("value", "valid"), as_params(FREQUENCY_CAPS))
def test_a_frequency_cap_is_judged_alike(value: Any, valid: bool) -> None:  # noqa: FBT001
    problems = Problems()
    parse_frequency_cap(value, "frequency_cap", problems, rule_key="rule:event:r")

    assert (accepts(frequency_cap_schema(), value), not problems.found) == (valid, valid)


@pytest.mark.parametrize(("value", "valid"), as_params(ROLLOUTS))
def test_a_rollout_is_judged_alike(value: Any, valid: bool) -> None:  # noqa: FBT001
    problems = Problems()
    parse_rollout(value, "rollout", problems, rule_id="r")

    assert (accepts(rollout_schema(), value), not problems.found) == (valid, valid)
