from __future__ import annotations

from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tagstitch.core.errors import InvalidRule
from tagstitch.core.trait import TraitDefinition
from tagstitch.core.trait_parsing import parse_trait
from tagstitch.core.trait_window import Window

COUNT = {"event": "purchase", "operation": "count"}


def trait(**fields: Any) -> TraitDefinition:
    return parse_trait("t", {**COUNT, **fields})


def problems_of(raw: Any, trait_id: Any = "t") -> list[str]:
    with pytest.raises(InvalidRule) as refused:
        parse_trait(trait_id, raw)
    return [str(problem) for problem in refused.value.problems]


def test_defaults_of_a_trait() -> None:
    found = trait()

    assert (found.name, found.event_names, found.is_active) == ("t", ("purchase",), True)
    assert found.terms.window == Window()
    assert found.purposes == ("analytics_storage",)
    assert (found.terms.edition, found.terms.expires_s) == (1, 0)


def test_defaults_of_what_some_operations_say() -> None:
    assert trait(operation="unique_list", field="page").terms.limit == 10
    assert trait(operation="tally", field="page").terms.limit == 10
    assert trait(operation="time_since_last").terms.unit_s == 86_400
    assert trait(operation="hour_of_day").time_zone is UTC


def test_another_time_zone_makes_only_clocks_count_anew() -> None:
    def digest(operation: str, time_zone: str) -> str:
        raw = {"event": "purchase", "operation": operation}
        return parse_trait("t", raw, time_zone=time_zone).terms.digest

    assert digest("count", "UTC") == digest("count", "Asia/Tokyo")
    assert digest("hour_of_day", "UTC") != digest("hour_of_day", "Asia/Tokyo")


def test_the_time_zone_of_the_project() -> None:
    raw = {"event": "*", "operation": "hour_of_day"}
    berlin = parse_trait("t", raw, time_zone="Europe/Berlin")
    tokyo = parse_trait("t", {**raw, "time_zone": "Asia/Tokyo"}, time_zone="Europe/Berlin")

    assert berlin.time_zone == ZoneInfo("Europe/Berlin")
    assert tokyo.time_zone == ZoneInfo("Asia/Tokyo")
    assert berlin.terms.digest != tokyo.terms.digest


@pytest.mark.parametrize(
    ("operation", "period", "bucket_s"),
    [
        ("count", {"minutes": 5}, 60),
        ("count", {"hours": 6}, 60),
        ("count", {"hours": 7}, 3_600),
        ("count", {"days": 14}, 3_600),
        ("count", {"days": 15}, 86_400),
        ("tally", {"minutes": 5}, 300),
        ("tally", {"hours": 1}, 480),
        ("tally", {"days": 30}, 324_000),
        ("unique_list", {"days": 30}, 0),
    ],
)
def test_the_buckets_of_a_window(operation: str, period: dict[str, int], bucket_s: int) -> None:
    field = {} if operation == "count" else {"field": "page"}

    assert trait(operation=operation, window={"rolling": period}, **field).terms.window == Window(
        "rolling", {"minutes": 60, "hours": 3_600, "days": 86_400}[next(iter(period))]
        * next(iter(period.values())), bucket_s,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"operation": "avg"}, "operation: unknown operation (known: badge, count,"),
        ({"operation": "cuont"}, "operation: unknown operation (did you mean count?)"),
        ({"operation": None}, "operation: is missing"),
        ({"event": None}, "event: is missing"),
        ({"event": []}, "event: not an event name"),
        ({"when": {"profile.tier": "Gold"}}, "when: must look at the event alone"),
        ({"when": {"any": [{"a": {"changed": True}}]}}, "when: must look at the event alone"),
        ({"when": {"value": {"lessThn": 3}}}, "when.value.lessThn: unknown operator"),
        ({"operation": "sum"}, "field: is missing, which sum needs (such as field: value)"),
        ({"operation": "set"}, "field: is missing, which set needs (field: plan, or value: trial)"),
        ({"field": "value"}, "field: does not belong to the operation count"),
        ({"limit": 3}, "limit: does not belong to the operation count"),
        ({"operation": "sum", "field": "profile.age"}, "field: must be a path of the event"),
        ({"operation": "sum", "field": "a..b"}, "field: not a path"),
        ({"operation": "sum", "field": "\ud800"}, ": not valid Unicode"),
        ({"operation": "sum", "field": "items.$all.price"}, "field: this quantifier has no meaning"),
        ({"operation": "last", "field": "items.$.price"}, "field: this quantifier has no meaning"),
        ({"operation": "tally", "field": "items.$count"}, "field: this quantifier has no meaning"),
        ({"operation": "set", "value": "x" * 1_001}, "value: must be text, a number, true or false"),
        ({"operation": "set", "value": 1, "field": "a"}, "value: either field or value"),
        ({"window": "week"}, "window: not a window (lifetime, session, or {rolling: {days: 30}})"),
        ({"window": {"rolling": {"days": 400}}}, "window.rolling.days: must be one minute to 366"),
        ({"window": {"rolling": {"day": 4}}}, "window.rolling: unknown unit (did you mean days?)"),
        ({"window": {"rolling": {"days": float("nan")}}}, "window.rolling.days: must be a whole"),
        ({"operation": "badge", "window": "session"}, "window: badge knows no such window"),
        ({"expires": 30}, "expires: needs one unit and its number (such as {days: 30}"),
        ({"version": 0}, "version: must be a whole number from 1"),
        ({"fill": {"model": "ltv"}}, "fill: predictions are not made by this version"),
        ({"rollout": 10}, "rollout: is not evaluated here, so the trait would count too much"),
        ({"widnow": "session"}, "widnow: unknown field (did you mean window?)"),
        ({"operation": "hour_of_day", "time_zone": "Europe/Berln"}, "time_zone: unknown time zone"),
        ({"operation": "time_since_last", "unit": "day"}, "unit: unknown unit (did you mean days?)"),
    ],
)  # fmt: skip
def test_what_is_refused(fields: dict[str, Any], wanted: str) -> None:
    found = problems_of({**COUNT, **fields})

    assert len(found) == 1
    assert found[0].startswith(wanted)


@pytest.mark.parametrize("trait_id", ["", "a.b", "1st", "__x__", "a" * 65, "a-b", 5, None, "Ä"])
def test_a_name_that_cannot_be_an_attribute(trait_id: Any) -> None:
    assert problems_of(COUNT, trait_id)[0].startswith(": a trait's name is a letter, then")


@pytest.mark.parametrize("raw", [None, [], "count", 5])
def test_a_trait_is_an_object(raw: Any) -> None:
    assert problems_of(raw) == [": a trait must be an object"]


def test_everything_that_is_wrong_is_found_at_once() -> None:
    found = problems_of({"operation": "sum", "window": "week", "version": "x", "limit": 5})

    assert [text.partition(":")[0] for text in found] == [
        "event", "field", "window", "version", "limit",
    ]  # fmt: skip
