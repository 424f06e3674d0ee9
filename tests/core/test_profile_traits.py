from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tagstitch.core.consent import Consent
from tagstitch.core.event import Event
from tagstitch.core.limits import TRAITS_BYTES_MAX
from tagstitch.core.profile_traits import (
    compile_traits,
    current_traits,
    fold_event,
)
from tagstitch.core.trait_state import merge_traits, trait_values

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
GRANTED = Consent({}, {}, default_granted=True)
NO_LOYALTY = Consent({"loyalty": False}, {"loyalty": "event"}, default_granted=True)

DEFINITIONS = compile_traits(
    {
        "orders": {"event": "purchase", "operation": "count"},
        "revenue": {
            "event": ["purchase", "refund"], "operation": "sum", "field": "value",
            "purposes": ["loyalty"],
        },
        "seen": {"event": "*", "operation": "time_since_last"},
        "retired": {"event": "purchase", "operation": "count", "is_active": False},
        "median": {"event": "purchase", "operation": "median", "field": "value"},
    }
)  # fmt: skip


def purchase(value: float) -> Event:
    return Event("purchase", {"event_name": "purchase", "value": value})


def test_a_broken_definition_is_left_out_and_listed() -> None:
    assert DEFINITIONS.names == {"orders", "revenue", "seen", "retired"}
    assert [(rule.rule_id, rule.collection) for rule in DEFINITIONS.broken] == [
        ("median", "traits")
    ]
    assert DEFINITIONS.broken[0].problems[0].path == "operation"


def test_which_definitions_an_event_may_count_for() -> None:
    def names(event: str) -> list[str]:
        return [definition.name for definition in DEFINITIONS.of_event(event)]

    assert names("purchase") == ["orders", "revenue", "seen"]
    assert names("page_view") == ["seen"]


def test_every_definition_of_an_event_is_folded() -> None:
    traits = fold_event(DEFINITIONS, {}, purchase(5), at=NOON, consent=GRANTED).traits
    traits = fold_event(DEFINITIONS, traits, purchase(2.5), at=NOON, consent=GRANTED).traits

    assert trait_values(traits, now=NOON + timedelta(days=2)) == {
        "orders": 2,
        "revenue": 7.5,
        "seen": 2,
    }


def test_what_the_visitor_does_not_allow_is_not_counted() -> None:
    traits = fold_event(DEFINITIONS, {}, purchase(5), at=NOON, consent=NO_LOYALTY).traits

    assert traits.keys() == {"orders", "seen"}


def test_an_event_that_changes_nothing_gives_the_same_object() -> None:
    definitions = compile_traits({"vip": {"event": "*", "operation": "first", "field": "tier"}})
    traits = fold_event(definitions, {}, Event("x", {"tier": "a"}), at=NOON, consent=GRANTED).traits

    later = NOON + timedelta(days=1)
    again = fold_event(definitions, traits, Event("x", {}), at=later, consent=GRANTED).traits

    assert again is traits


def test_an_event_that_is_too_much_work_counts_as_far_as_the_work_went() -> None:
    definitions = compile_traits(
        {
            "a": {"event": "*", "operation": "count"},
            "b": {"event": "*", "operation": "count", "when": {"tags.$none": "x"}},
        }
    )
    event = Event("x", {"tags": ["y"] * 300_000})

    assert fold_event(definitions, {}, event, at=NOON, consent=GRANTED).traits.keys() == {"a"}


def test_traits_of_two_identifiers_are_merged_by_name() -> None:
    one = fold_event(DEFINITIONS, {}, purchase(5), at=NOON, consent=NO_LOYALTY).traits
    other = fold_event(DEFINITIONS, {}, purchase(2), at=NOON, consent=GRANTED).traits

    merged = merge_traits(one, other)

    assert merged == merge_traits(other, one)
    assert trait_values(merged, now=NOON) == {"orders": 2, "revenue": 2, "seen": 0}
    assert merge_traits({}, one) is one
    assert merge_traits(one, {}) is one


def test_only_states_of_todays_definitions_are_current() -> None:
    traits = fold_event(DEFINITIONS, {}, purchase(5), at=NOON, consent=GRANTED).traits
    changed = compile_traits(
        {
            "orders": {"event": "purchase", "operation": "count", "version": 2},
            "revenue": {"event": ["refund", "purchase"], "operation": "sum", "field": "value"},
        }
    )

    assert current_traits(changed, traits, written_at=None).keys() == {"revenue"}


def test_traits_that_could_outgrow_a_profile_are_left_out() -> None:
    tally: dict[str, Any] = {
        "event": "*", "operation": "tally", "field": "x", "window": {"rolling": {"days": 30}},
    }  # fmt: skip
    found = compile_traits({f"t{number:02}": tally for number in range(40)})
    sizes = [definition.bytes_max for definition in found.by_name.values()]

    assert sum(sizes) <= TRAITS_BYTES_MAX < sum(sizes) + sizes[0]
    assert len(sizes) + len(found.broken) == 40
    assert "t00" in found.names
    assert str(found.broken[-1].problems[0]).startswith(": all traits together may need more")


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "UTC"])
def test_the_time_zone_of_the_project_is_that_of_every_definition(zone: str) -> None:
    found = compile_traits({"h": {"event": "*", "operation": "hour_of_day"}}, time_zone=zone)

    assert str(found.by_name["h"].time_zone) == zone
