"""What an entry of somebody else's log says when a person was erased."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from tagstitch.core.link_log import brought_by, forgotten

NOW = datetime(2026, 11, 22, tzinfo=UTC)
without_ada = partial(forgotten, profile_ids={"p_ada"}, keys={"client_id:ada"})


brought_by_ada = partial(brought_by, profile_ids={"p_ada"}, keys={"client_id:ada"})


def person(*names: str, city: str, at: datetime = NOW, **others: Any) -> dict[str, Any]:
    return {
        "identifiers": {f"client_id:{name}": {} for name in names},
        "attributes": {"city": city},
        "attribute_times": {"city": at},
        **others,
    }


def merge(survivor: dict[str, Any], **merged: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "merge", "merged": merged, "survivor": survivor, "linked": [], "demoted": []}


def test_an_entry_that_says_nothing_of_the_person_stays_as_it_is() -> None:
    entry = merge(person("bob", city="Bonn"), p_eve=person("eve", city="Essen"))

    assert without_ada(entry) == {}
    assert without_ada({"kind": "link", "linked": ["client_id:bob"]}) == {}


def test_a_merge_with_the_person_alone_goes_and_one_with_others_keeps_them() -> None:
    ada, bob, eve = (person(name, city="Aachen") for name in ("ada", "bob", "eve"))

    assert without_ada(merge(bob, p_ada=ada)) is None
    assert without_ada(merge(bob, p_ada=ada, p_eve=eve)) == {"merged": {"p_eve": eve}}


def test_a_split_from_the_person_goes() -> None:
    assert without_ada({"kind": "split", "moved": [], "other_id": "p_ada"}) is None


def test_what_the_person_brought_leaves_the_documents_that_they_were_part_of() -> None:
    ada = person("ada", city="Aachen", state={"seen": True})
    both = person("bob", "ada", city="Aachen", state={"seen": True, "won": 1}, former_ids=["p_ada"])
    entry = merge(both, p_eve=person("eve", city="Essen"))

    changed = without_ada(entry, brought=[ada])

    assert changed == {
        "survivor": {
            "identifiers": {"client_id:bob": {}},
            "attributes": {},
            "attribute_times": {},
            "state": {"won": 1},
            "former_ids": [],
        }
    }


@pytest.mark.parametrize("later", [timedelta(hours=1), -timedelta(hours=1)])
def test_the_same_value_that_was_set_at_another_time_is_somebody_elses(later: timedelta) -> None:
    ada = person("ada", city="Aachen", at=NOW + later)
    entry = merge(person("bob", "ada", city="Aachen"), p_eve=person("eve", city="Essen"))

    changed = without_ada(entry, brought=[ada])

    assert changed == {"survivor": person("bob", city="Aachen")}


def test_what_the_survivor_or_another_one_had_too_was_not_brought() -> None:
    ada = person("ada", city="Aachen", state={"welcomed": True, "seen": True})
    bob = person("bob", city="Aachen", state={"welcomed": True})
    eve = person("eve", city="Essen", state={"seen": True})

    [brought] = brought_by_ada(merge(bob, p_ada=ada, p_eve=eve))

    assert (brought["attributes"], brought["state"]) == ({}, {})


def test_what_a_profile_of_two_people_brought_may_be_the_other_ones() -> None:
    entry = merge(person("eve", city="Essen"), p_ada=person("ada", "bob", city="Aachen"))

    assert brought_by_ada(entry) == []


def test_identifiers_that_were_kept_apart_go_and_values_stay() -> None:
    bob = person("bob", city="Aachen", demoted={"client_id:ada": NOW, "client_id:eve": NOW})
    entry = merge(bob, p_eve=person("eve", city="Essen"))

    changed = without_ada(entry, brought=[person("ada", city="Aachen")])

    assert changed == {"survivor": {**bob, "demoted": {"client_id:eve": NOW}}}


def test_lists_of_identifiers_forget_the_persons() -> None:
    entry = {
        "kind": "link",
        "linked": ["client_id:ada", "client_id:bob"],
        "demoted": ["client_id:ada"],
        "demoted_for": {"client_id:ada": "HELD", "client_id:eve": "HELD"},
    }

    assert without_ada(entry) == {
        "linked": ["client_id:bob"],
        "demoted": [],
        "demoted_for": {"client_id:eve": "HELD"},
    }


def test_what_somebody_edited_goes_where_nobody_can_say_what_it_holds() -> None:
    assert without_ada({"kind": "merge", "merged": "p_ada"}) is None
    entry = {"kind": "merge", "merged": {"p_eve": "edited"}, "survivor": 7, "linked": "edited"}
    assert without_ada(entry) == {}
    assert without_ada({"kind": "split", "moved": [], "other_id": ["p_ada"]}) == {}
