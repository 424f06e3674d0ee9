"""What is older never overwrites what is newer, whatever order it arrives in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from tagstitch.core.attribute_times import AttributeStatement, merge_attributes

MON = datetime(2026, 11, 16, tzinfo=UTC)
TUE, WED, THU, FRI = (MON + timedelta(days=n) for n in range(1, 5))

GOLD = {"attributes": {"tier": "Gold"}, "created_at": MON, "attribute_times": {"tier": WED}}


def after(
    stored: dict[str, Any], values: dict[str, Any], at: datetime | None = None, **options: Any
) -> dict[str, Any]:
    merged = merge_attributes(stored, AttributeStatement(values, at), now=FRI, **options)
    return {**stored, "attributes": merged.values, "attribute_times": merged.times}


@pytest.mark.parametrize(
    ("at", "tier", "set_at"),
    [
        (None, "Silver", FRI),  # holds now
        (THU, "Silver", THU),
        (WED, "Silver", WED),  # of the same time the later statement stays
        (TUE, "Gold", WED),
        (FRI + timedelta(days=900), "Silver", FRI),  # a time to come would win for ever
    ],
)
def test_the_value_that_was_set_later_stays(
    at: datetime | None, tier: str, set_at: datetime
) -> None:
    merged = after(GOLD, {"tier": "Silver"}, at)

    assert (merged["attributes"], merged["attribute_times"]) == ({"tier": tier}, {"tier": set_at})


@pytest.mark.parametrize(("at", "set_at"), [(None, WED), (TUE, WED), (THU, THU)])
def test_a_repeated_value_moves_its_time_only_where_it_is_dated(
    at: datetime | None, set_at: datetime
) -> None:
    assert after(GOLD, {"tier": "Gold"}, at)["attribute_times"] == {"tier": set_at}


def test_an_attribute_without_a_time_was_set_when_the_profile_was_made() -> None:
    stored = {"attributes": {"tier": "Gold"}, "created_at": WED}

    assert after(stored, {"tier": "Silver"}, TUE)["attributes"] == {"tier": "Gold"}
    assert after(stored, {"tier": "Silver"}, THU)["attributes"] == {"tier": "Silver"}
    assert after(stored, {"store": "Graz"}, MON)["attribute_times"] == {"store": MON}


def test_what_was_set_when_the_profile_was_made_needs_no_entry() -> None:
    made = {"attributes": {}, "created_at": FRI}

    assert after(made, {"tier": "Gold"})["attribute_times"] == {}


def test_one_attribute_can_have_a_time_of_its_own() -> None:
    said = AttributeStatement({"tier": "Silver", "store": "Graz"}, THU, {"tier": TUE})

    merged = merge_attributes(GOLD, said, now=FRI)

    assert merged.values == {"tier": "Gold", "store": "Graz"}
    assert merged.older == 1


def test_true_is_another_value_than_1() -> None:
    stored = {"attributes": {"is_member": True}, "created_at": MON}

    assert after(stored, {"is_member": 1})["attribute_times"] == {"is_member": FRI}


@pytest.mark.parametrize(
    ("at", "left"), [(None, {"b": 1}), (THU, {"b": 1}), (TUE, {"tier": "Gold", "b": 1})]
)
def test_replacing_removes_what_is_not_newer(at: datetime | None, left: dict[str, Any]) -> None:
    assert after(GOLD, {"b": 1}, at, replace=True)["attributes"] == left


def test_dated_statements_end_alike_in_every_order() -> None:
    said = [({"tier": "Gold"}, MON), ({"tier": "Silver"}, TUE), ({"tier": "Gold"}, WED)]
    ends = set()
    for order in permutations(said):
        stored: dict[str, Any] = {"attributes": {}, "created_at": FRI}
        for values, at in order:
            stored = after(stored, values, at)
        ends.add((stored["attributes"]["tier"], stored["attribute_times"]["tier"]))

    assert ends == {("Gold", WED)}
