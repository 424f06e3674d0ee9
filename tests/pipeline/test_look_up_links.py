"""stitch_sync beside the graph: what a link costs to read, and which ones a lookup asks for.

On both document stores; a read of a world is one RPC (tests/contract).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from tagstitch.core.caller import Caller
from tagstitch.core.identifier import Identifier
from tagstitch.core.lookup import LookupAnswer
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tests.pipeline.test_splits import splitter
from tests.pipeline.world import KEYRING, START, World

USER = Identifier("user_id", "u-1001")
STRANGER = Identifier("user_id", "u-2002")
ADDRESS = Identifier("email_sha256", "0123456789abcdef" * 4)
CLIENT = Identifier("client_id", "1294673677.1747154479")
DEVICE = Identifier("device_id", "d-4711")

CALLER = Caller("container", frozenset({"lookup", "stitch", "assert"}))


@pytest.fixture
def world(place: World) -> World:
    return place


async def look_up(world: World, *named: Identifier, may_publish: bool = True) -> LookupAnswer:
    body = {
        "identifiers": [{"type": i.type, "value": i.value} for i in named],
        "deadline_ms": 3000,  # a busy emulator is not what is tested
    }
    answer = await world.lookup().answer(body, CALLER, request_id="r", may_publish=may_publish)
    assert isinstance(answer, LookupAnswer)
    return answer


async def stitch(world: World, *named: Identifier) -> None:
    world.now += timedelta(seconds=1)
    found = [{"type": i.type, "value": i.value} for i in named]
    await world.stitch({"request_id": f"r{world.now.timestamp():.0f}", "identifiers": found})


async def split(world: World, identifier: Identifier) -> None:
    key = KEYRING.identifier_key(identifier)
    await splitter(world).take_out(key, deadline=Deadline.after(10))


async def put(world: World, profile_id: str, **fields: Any) -> None:
    """Change fields of a profile's document."""
    path = f"profiles/{profile_id}"
    document = await world.document(path) | fields
    await world.store.commit([Put(path, document)], deadline=Deadline.after(5))


async def reads_of(world: World, *named: Identifier) -> tuple[int, str | None]:
    before = world.reads
    answer = await look_up(world, *named, may_publish=False)
    return world.reads - before, answer.profile_id


async def a_link(world: World) -> None:
    await stitch(world, USER, CLIENT)


async def a_merge(world: World) -> None:
    await stitch(world, USER)
    await stitch(world, CLIENT)
    await stitch(world, USER, CLIENT)


async def two_merges(world: World) -> None:
    await stitch(world, USER)
    await stitch(world, ADDRESS)
    await stitch(world, ADDRESS, CLIENT)
    await stitch(world, USER, ADDRESS)


class TestReads:
    @pytest.mark.parametrize("given", [a_link, a_merge, two_merges])
    async def test_the_survivor_is_two_reads_away_and_one_when_seen_before(
        self, world: World, given: Callable[[World], Awaitable[None]]
    ) -> None:
        await given(world)
        survivor = KEYRING.profile_id(USER)
        world.restart()

        first, again = await reads_of(world, CLIENT), await reads_of(world, CLIENT)

        assert (first, again) == ((2, survivor), (1, survivor))

    async def test_also_behind_one_that_nobody_knows_yet(self, world: World) -> None:
        await stitch(world, USER, CLIENT)
        world.restart()

        first, again = (
            await reads_of(world, ADDRESS, CLIENT),
            await reads_of(world, ADDRESS, CLIENT),
        )

        survivor = KEYRING.profile_id(USER)
        assert (first, again) == ((2, survivor), (1, survivor))

    @pytest.mark.parametrize("named", [(USER,), (USER, CLIENT), (USER, ADDRESS, CLIENT, DEVICE)])
    async def test_a_primary_identifier_is_one_read_away(
        self, world: World, named: tuple[Identifier, ...]
    ) -> None:
        await a_link(world)
        world.restart()

        assert await reads_of(world, *named) == (1, KEYRING.profile_id(USER))


async def merged(world: World) -> str | None:
    await put(world, KEYRING.profile_id(STRANGER), created_at=START - timedelta(days=1))
    await put(world, KEYRING.profile_id(ADDRESS), created_at=START - timedelta(days=1))
    await stitch(world, ADDRESS, CLIENT)
    return KEYRING.profile_id(ADDRESS)


async def taken_apart(world: World) -> str | None:
    await split(world, CLIENT)
    return KEYRING.profile_id(CLIENT)


async def erased(world: World) -> str | None:
    await put(world, KEYRING.profile_id(DEVICE), erased_at=START)
    return None


async def expired(world: World) -> str | None:
    await put(world, KEYRING.profile_id(DEVICE), expires_at=START - timedelta(days=1))
    return None


@pytest.mark.parametrize("happens", [merged, taken_apart, erased, expired])
async def test_what_this_process_remembers_is_not_believed(
    world: World, happens: Callable[[World], Awaitable[str | None]]
) -> None:
    """Another process did it meanwhile."""
    await stitch(world, ADDRESS)
    await stitch(world, DEVICE)
    await stitch(world, DEVICE, CLIENT)
    await look_up(world, CLIENT, may_publish=False)
    assert await reads_of(world, CLIENT) == (1, KEYRING.profile_id(DEVICE))
    hints = dict(world.finder._hints)

    wanted = await happens(world)
    world.finder._hints.update(hints)

    assert (await reads_of(world, CLIENT))[1] == wanted


class TestClaims:
    async def test_an_unknown_link_is_asked_for_once_an_hour_and_the_best_is_answered(
        self, world: World
    ) -> None:
        await stitch(world, USER)
        await stitch(world, CLIENT)

        answers = [await look_up(world, USER, CLIENT) for _ in range(3)]
        world.now += timedelta(hours=1)
        await look_up(world, USER, CLIENT)

        assert {(a.reason, a.profile_id) for a in answers} == {
            ("MERGE_PENDING", KEYRING.profile_id(USER))
        }
        assert len(world.published["stitch-requests"]) == 2

    async def test_after_it_was_made_it_is_asked_for_no_more(self, world: World) -> None:
        await stitch(world, USER)
        await stitch(world, CLIENT)
        await look_up(world, USER, CLIENT)
        [claim] = world.published.pop("stitch-requests")

        await world.stitch(claim)
        world.now += timedelta(hours=1)

        assert (await look_up(world, USER, CLIENT)).reason == "KNOWN_PROFILE"
        assert "stitch-requests" not in world.published


async def switch_of_known_users(world: World) -> tuple[Identifier, ...]:
    await stitch(world, STRANGER, CLIENT)
    await stitch(world, USER)
    return USER, CLIENT


async def switch_to_a_new_user(world: World) -> tuple[Identifier, ...]:
    await stitch(world, STRANGER, CLIENT)
    return USER, CLIENT


async def one_too_many(world: World) -> tuple[Identifier, ...]:
    for n in range(5):
        await stitch(world, USER, Identifier("client_id", f"17631632{n}0.1747154479"))
    return USER, CLIENT


async def one_too_many_with_its_own_profile(world: World) -> tuple[Identifier, ...]:
    await stitch(world, CLIENT)
    return await one_too_many(world)


async def taken_out(world: World) -> tuple[Identifier, ...]:
    await stitch(world, USER, CLIENT)
    await split(world, CLIENT)
    return USER, CLIENT


async def taken_out_seen_from_the_weaker_one(world: World) -> tuple[Identifier, ...]:
    await stitch(world, USER, ADDRESS, CLIENT)
    await split(world, CLIENT)
    return ADDRESS, CLIENT


async def a_device_of_two(world: World) -> tuple[Identifier, ...]:
    await stitch(world, STRANGER, DEVICE)
    await stitch(world, USER, CLIENT)
    return USER, CLIENT, DEVICE


async def quarantined(world: World) -> tuple[Identifier, ...]:
    for n in range(12):
        await stitch(world, Identifier("user_id", f"u-30{n}"), CLIENT)
    await stitch(world, USER)
    return USER, CLIENT


async def blocked(world: World) -> tuple[Identifier, ...]:
    await stitch(world, USER)
    return USER, Identifier("client_id", "undefined")


DISAGREEMENTS = [
    switch_of_known_users,
    switch_to_a_new_user,
    one_too_many,
    one_too_many_with_its_own_profile,
    taken_out,
    taken_out_seen_from_the_weaker_one,
    a_device_of_two,
    quarantined,
    blocked,
]


@pytest.mark.parametrize("disagreement", DISAGREEMENTS)
async def test_what_is_recorded_as_apart_is_not_asked_for_again(
    world: World, disagreement: Callable[[World], Awaitable[tuple[Identifier, ...]]]
) -> None:
    named = await disagreement(world)
    await look_up(world, *named)
    for claim in world.published.pop("stitch-requests", []):
        await world.stitch(claim)
    for _ in range(2):
        world.now += timedelta(hours=1)
        world.restart()

        answer = await look_up(world, *named)

        assert (answer.reason, answer.profile_id) == ("KNOWN_PROFILE", KEYRING.profile_id(USER))
        assert "stitch-requests" not in world.published


@pytest.mark.parametrize("disagreement", [taken_out, taken_out_seen_from_the_weaker_one])
async def test_what_somebody_took_apart_is_never_asked_for(
    world: World, disagreement: Callable[[World], Awaitable[tuple[Identifier, ...]]]
) -> None:
    named = await disagreement(world)

    assert (await look_up(world, *named)).reason == "KNOWN_PROFILE"
    assert "stitch-requests" not in world.published


class TestAnotherUser:
    """The browser's last user was somebody else, and this one is not known yet."""

    async def test_is_not_shown_the_one_before(self, world: World) -> None:
        await stitch(world, STRANGER, CLIENT)
        await put(world, KEYRING.profile_id(STRANGER), attributes={"tier": "Gold"})

        answers = [await look_up(world, USER, CLIENT) for _ in range(2)]

        assert [(a.found, a.reason, a.attributes) for a in answers] == [
            (False, "UNKNOWN_PROFILE", None)
        ] * 2
        assert len(world.published["stitch-requests"]) == 1

    async def test_is_not_decided_for_as_the_one_before(self, world: World) -> None:
        await stitch(world, STRANGER, CLIENT)
        await put(world, KEYRING.profile_id(STRANGER), attributes={"tier": "Gold"})
        offer = {
            "gold": {
                "event_name_trigger": "view_item",
                "conditions": {"profile.tier": "Gold"},
                "action_type": "return_value",
                "action_details": {"key": "offer", "value": "ten"},
                "updates_user_state": {"seen": True},
            }
        }
        event = {"event_name": "view_item", "client_id": CLIENT.value}

        before = await world.decider({}, offer).decide({"event": event}, DECIDER)
        after = await world.decider({}, offer).decide(
            {"event": {**event, "user_id": USER.value}}, DECIDER
        )

        assert b'"MATCHED"' in before
        assert b'"NO_MATCH"' in after

    async def test_is_found_behind_one_who_fits(self, world: World) -> None:
        """The device is another's, the address has no user yet."""
        await stitch(world, STRANGER, CLIENT)
        await stitch(world, DEVICE)

        answer = await look_up(world, USER, CLIENT, DEVICE)

        assert (answer.reason, answer.profile_id) == ("MERGE_PENDING", KEYRING.profile_id(DEVICE))


DECIDER = Caller("container", frozenset({"decide", "assert"}))
