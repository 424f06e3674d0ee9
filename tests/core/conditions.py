"""An event, a profile and short ways to ask whether conditions hold or what is wrong with them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tagstitch.core.compiled_condition import CompiledCondition, compile_condition
from tagstitch.core.condition import parse_conditions
from tagstitch.core.declarations import NOTHING_DECLARED, Declarations
from tagstitch.core.errors import Problem
from tagstitch.core.paths import Facts
from tagstitch.core.problems import Problems

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()

EVENT: dict[str, Any] = {
    "value": 7.5,
    "count": 3,
    "price_text": "5.00",
    "flag": False,
    "one": 1,
    "empty": "",
    "nothing": None,
    "name": "Summer Sale",
    "tags": ["a", "b", None],
    "no_tags": [],
    "odd": {"a": {"b": 1}, "list": [{"x": 9}]},
    "gtm.start": 5,
    "_resolved.user_id": "u-1",
    "a": {"b.c": "deep", "b": {"c": "deeper"}},
    "event": {"name": "inner"},
    "items": [
        {"brand": "A", "price": 5, "stock": "in", "tags": ["x"]},
        {"brand": "B", "price": 20, "stock": "out", "coupon": None},
    ],
    "tier": "from the event",
}
PROFILE: dict[str, Any] = {
    "tier": "Gold",
    "lifetime_value": 900,
    "segments": ["vip", "de"],
    "scores": [1, 2.0, True],
    "nested": {"deep": {"er": 1}},
}
STATE: dict[str, Any] = {"shown": True, "count": 2}


def compiled(conditions: object, declared: Declarations = NOTHING_DECLARED) -> CompiledCondition:
    problems = Problems()
    condition = parse_conditions(conditions, "conditions", problems, declared=declared)
    assert problems.found == []
    return compile_condition(condition)


def holds(conditions: object, event: dict[str, Any] = EVENT, *, now: float = NOW) -> bool:
    return compiled(conditions).holds(Facts(event, PROFILE, STATE, now=now))


def problems_of(conditions: object, declared: Declarations = NOTHING_DECLARED) -> list[Problem]:
    problems = Problems()
    parse_conditions(conditions, "conditions", problems, declared=declared)
    return problems.found
