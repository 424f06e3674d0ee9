"""Meetings of identifiers and profiles, without a store: what an event adds, and when it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagstitch.core.identifier import Identifier, IdentitySettings, QuarantineLimit
from tagstitch.core.identity_graph import (
    GraphNode,
    IdentityGraph,
    Resolution,
    profile_fields,
    resolve,
)
from tagstitch.core.identity_limits import RELEASED_PROFILES_MAX
from tagstitch.core.profile import Profile, typed_profile
from tagstitch.core.profile_merge import merged_person
from tagstitch.core.profile_traits import compile_traits
from tagstitch.core.quarantine import (
    Meeting,
    blocked_link,
    is_held,
    meetings,
    released_link,
)

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
THREE_A_DAY = IdentitySettings(quarantine=QuarantineLimit(3, DAY))
TRAITS = compile_traits({})


@dataclass
class Simulation:
    """The graph in memory: events in, the same code as in a store, nothing written anywhere."""

    settings: IdentitySettings = THREE_A_DAY
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    homes: dict[str, str] = field(default_factory=dict)
    """Identifier key -> the profile that it leads to."""
    held: list[Meeting] = field(default_factory=list)

    def happen(self, at: datetime, *keys: str) -> Resolution:
        """Let an event with these identifiers happen, the strongest first."""
        graph = IdentityGraph(tuple(self._node(key, at) for key in keys))
        resolution = resolve(graph, self.settings, at=at)
        person = merged_person(resolution, {}, TRAITS, now=at)
        met = meetings(
            graph, resolution, person, self.settings.quarantine, hashed=str, at=at, now=at
        )
        if resolution.profile_id is None:
            return resolution
        fields = profile_fields(
            resolution, person, consent=None, seen_at=at, now=at, salt=b"s" * 16
        )
        self.profiles[resolution.profile_id] = fields
        for profile in resolution.merged:
            del self.profiles[profile.profile_id]
        self.homes |= dict.fromkeys(fields["identifiers"], resolution.profile_id)
        for meeting in met:
            self.profiles[meeting.home]["identifiers"][meeting.key] = dict(meeting.link)
            self.held += [meeting] if meeting.held_from else []
        return resolution

    def link(self, key: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.profiles[self.homes[key]]["identifiers"][key]
        return found

    def _node(self, key: str, now: datetime) -> GraphNode:
        profile_id = self.homes.get(key)
        profile = typed_profile(profile_id, self.profiles[profile_id]) if profile_id else None
        type_, _, value = key.partition(":")
        held = profile is not None and is_held(profile, key, now=now)
        return GraphNode(Identifier(type_, value), key, f"p_{value}", profile, held)


def logins(simulation: Simulation, names: Sequence[object], *, step: timedelta) -> None:
    for number, name in enumerate(names):
        simulation.happen(NOON + number * step, f"user_id:{name}", "client_id:kiosk")


def test_who_is_kept_apart_for_the_first_time_is_a_meeting_of_both() -> None:
    simulation = Simulation()

    logins(simulation, "ab", step=timedelta(minutes=1))

    assert simulation.link("client_id:kiosk")["met"] == {"p_b": NOON + timedelta(minutes=1)}
    assert simulation.link("user_id:b")["met"] == {"p_a": NOON + timedelta(minutes=1)}
    assert "met" not in simulation.link("user_id:a")


def test_a_merge_is_a_meeting_with_those_that_are_gone() -> None:
    simulation = Simulation()
    simulation.happen(NOON, "user_id:u")
    simulation.happen(NOON + DAY, "client_id:c")

    simulation.happen(NOON + 2 * DAY, "user_id:u", "client_id:c")

    for key in ("user_id:u", "client_id:c"):
        assert simulation.link(key)["met"] == {"p_c": NOON + 2 * DAY}


@pytest.mark.parametrize(
    ("events", "met"),
    [
        ([("user_id:u", "client_id:c")], "nobody"),
        ([("user_id:u",), ("user_id:u", "client_id:c")], "nobody"),
        ([("user_id:u", "client_id:c"), ("user_id:u", "client_id:c")], "nobody"),
        ([("client_id:c",), ("user_id:u", "client_id:c")], "nobody"),
        ([("client_id:c",), ("user_id:u",), ("user_id:u", "client_id:c")], "somebody"),
    ],
)
def test_a_new_identifier_is_nobody_to_be_met(events: list[tuple[str, ...]], met: str) -> None:
    simulation = Simulation()

    for number, keys in enumerate(events):
        simulation.happen(NOON + timedelta(minutes=number), *keys)

    links = [
        link for profile in simulation.profiles.values() for link in profile["identifiers"].values()
    ]
    assert any("met" in link for link in links) is (met == "somebody")


def test_a_profile_that_was_met_before_counts_once_at_its_newest_time() -> None:
    limits = IdentitySettings(
        limits={"user_id": None}, default_limit=None, quarantine=QuarantineLimit(3, DAY)
    )
    simulation = Simulation(limits)
    simulation.happen(NOON, "device_id:d")
    for number in range(6):
        simulation.happen(
            NOON + number * timedelta(hours=1), f"user_id:{number % 2}", "device_id:d"
        )

    assert simulation.held == []


@given(st.permutations(list(range(6))), st.integers(1, 60))
def test_a_kiosk_is_held_in_whatever_order_its_logins_arrive(
    order: list[int], minutes: int
) -> None:
    simulation = Simulation(IdentitySettings(quarantine=QuarantineLimit(5, DAY)))

    for n in order:
        at = NOON + n * timedelta(minutes=minutes)
        simulation.happen(at, f"user_id:{n}", "client_id:kiosk")

    [held] = simulation.held
    assert held.key == "client_id:kiosk"
    assert set(held.held_from) == {f"p_{n}" for n in range(6)}


@given(st.permutations(list(range(6))))
def test_logins_that_lie_far_apart_hold_nothing_in_any_order(order: list[int]) -> None:
    simulation = Simulation()

    for n in order:
        simulation.happen(NOON + n * DAY, f"user_id:{n}", "client_id:kiosk")

    assert simulation.held == []
    assert len(simulation.link("client_id:kiosk")["met"]) <= 3


def test_an_event_with_nothing_but_held_identifiers_is_nobodys() -> None:
    simulation = Simulation()
    logins(simulation, "abcd", step=timedelta(minutes=1))
    before = {profile_id: dict(fields) for profile_id, fields in simulation.profiles.items()}

    alone = simulation.happen(NOON + timedelta(hours=1), "client_id:kiosk")

    assert (alone.outcome, alone.profile_id, alone.changes_graph) == ("unknown", None, False)
    assert [node.key for node in alone.held] == ["client_id:kiosk"]
    assert simulation.profiles == before


def test_what_is_held_is_recorded_as_kept_apart_once() -> None:
    simulation = Simulation()
    logins(simulation, "abcd", step=timedelta(minutes=1))

    first = simulation.happen(NOON + timedelta(hours=1), "user_id:new", "client_id:kiosk")
    second = simulation.happen(NOON + timedelta(hours=2), "user_id:new", "client_id:kiosk")
    own = simulation.happen(NOON + timedelta(hours=2), "user_id:a", "client_id:kiosk")

    assert [node.key for node in first.demoted] == ["client_id:kiosk"]
    assert (second.changes_graph, own.changes_graph) == (False, False)


def holder(link: Mapping[str, Any]) -> Profile:
    return typed_profile("p", {"attributes": {}, "identifiers": {"client_id:k": link}})


@pytest.mark.parametrize(
    ("link", "held"),
    [
        ({}, False),
        ({"first_seen": NOON}, False),
        ({"held_until": NOON + DAY}, True),
        ({"held_until": NOON}, False),
        ({"held_until": "for ever"}, False),
        ({"blocked_at": NOON - 1000 * DAY}, True),
        ({"held_until": NOON - DAY, "blocked_at": NOON}, True),
        ({"met": {"p_1": NOON}, "cleared": ["p_2"]}, False),
    ],
)
def test_a_link_says_whether_its_identifier_is_held(
    link: Mapping[str, Any],
    held: bool,  # noqa: FBT001
) -> None:
    assert is_held(holder(link), "client_id:k", now=NOON) is held
    assert not is_held(holder(link), "client_id:other", now=NOON)


def test_a_release_remembers_for_whom_and_a_bounded_number_of_them() -> None:
    link = {"first_seen": NOON, "held_until": NOON, "cleared": ["p_0"]}

    once = released_link(link, ["p_1", "p_2", "p_0"])
    blocked = blocked_link(once, ["p_3"], now=NOON)
    many = released_link(blocked, [f"q_{n}" for n in range(RELEASED_PROFILES_MAX)])

    assert once == {"first_seen": NOON, "cleared": ["p_0", "p_1", "p_2"]}
    assert blocked == {
        "first_seen": NOON,
        "cleared": ["p_0", "p_1", "p_2", "p_3"],
        "blocked_at": NOON,
    }
    assert many["cleared"] == [f"q_{n}" for n in range(RELEASED_PROFILES_MAX)]
    assert "blocked_at" not in many
