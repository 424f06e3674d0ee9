"""Callbacks that waited: what leaves is what the visitor has, and allows, at that moment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from tagstitch.core.errors import Unavailable
from tagstitch.core.identifier import Identifier
from tagstitch.core.view import parse_views
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.replay_dead_letter import replay_dead_letter
from tests.pipeline.acting import patch_profile
from tests.pipeline.erasing import erase
from tests.pipeline.world import KEYRING, START, World

CLIENT = Identifier("client_id", "1294673677.1747154479")
REQUEST = {
    "request_id": "r1",
    "identifiers": [{"type": CLIENT.type, "value": CLIENT.value}],
    "callback": "main",
    "context": {"page": "/cart"},
}


def denied(at: datetime) -> dict[str, Any]:
    return {"analytics_storage": {"granted": False, "at": at, "source": "request"}}


async def waiting(world: World, **request: Any) -> str:
    """Have the first attempt fail; return the visitor's profile."""
    profile_id = await world.put_profile(CLIENT, attributes={"tier": "Gold", "city": "Bonn"})
    world.answers = [503]
    await world.stitch(REQUEST | request)
    return profile_id


async def try_again(world: World) -> Mapping[str, Any]:
    """Make the next attempt; return what it said."""
    world.now += timedelta(seconds=10)
    await world.act()
    data: Mapping[str, Any] = world.callbacks[-1]["body"]["data"]
    return data


async def entry(world: World) -> dict[str, Any]:
    (path,) = await world.paths("outbox")
    return await world.document(path)


async def delivery_record(world: World) -> Mapping[str, Any]:
    await world.store_audit()
    [row] = [row for row in await world.rows() if row["record_type"] == "callback_delivery"]
    return row


class TestConsent:
    async def test_what_was_denied_since_does_not_leave(self, world: World) -> None:
        profile_id = await waiting(world)
        await patch_profile(world, profile_id, consent=denied(START + timedelta(seconds=5)))

        said = await try_again(world)

        assert said == {
            "request_id": "r1",
            "found": False,
            "profile_id": None,
            "attributes": {},
            "reason": "CONSENT_DENIED",
            "context": {"page": "/cart"},
        }
        row = await delivery_record(world)
        assert (row["outcome"], row["subject"]) == ("delivered", None)
        assert row["extra"]["reason"] == "CONSENT_DENIED"

    async def test_the_webhook_id_stays_and_the_attempt_is_signed_anew(self, world: World) -> None:
        profile_id = await waiting(world)
        await patch_profile(world, profile_id, consent=denied(START))
        await try_again(world)

        first, second = (call["headers"] for call in world.callbacks)
        assert first["webhook-id"] == second["webhook-id"] == "r1"
        assert first["webhook-signature"] != second["webhook-signature"]

    @pytest.mark.parametrize(
        ("denied_at", "attributes"),
        [(START - timedelta(days=1), {"tier": "Gold", "city": "Bonn"}), (START, {})],
    )
    async def test_what_the_request_granted_stands_unless_it_was_denied_since(
        self, world: World, denied_at: datetime, attributes: dict[str, str]
    ) -> None:
        profile_id = await waiting(world, consent={"analytics_storage": True}, asserted=False)
        await patch_profile(world, profile_id, consent=denied(denied_at))

        said = await try_again(world)

        assert said["attributes"] == attributes

    async def test_it_is_read_again_at_every_attempt(self, world: World) -> None:
        profile_id = await waiting(world)
        world.answers = [503, 200]
        with pytest.raises(Unavailable):
            await try_again(world)
        await patch_profile(world, profile_id, consent=denied(world.now))
        world.now += timedelta(seconds=10)

        await try_again(world)

        assert [call["body"]["data"]["found"] for call in world.callbacks] == [True, True, False]

    async def test_a_replay_hours_later_asks_too(self, world: World) -> None:
        profile_id = await world.put_profile(CLIENT, attributes={"tier": "Gold"})
        world.answers = [401]
        await world.stitch(REQUEST)
        letter_id = await world.store_dead_letter()
        world.now += timedelta(hours=5)
        await patch_profile(world, profile_id, consent=denied(world.now))
        await replay_dead_letter(world.backend, KEYRING, letter_id, deadline=Deadline.after(5))

        assert (await try_again(world))["attributes"] == {}

    async def test_a_repetition_behind_a_crash_asks_too(self, world: World) -> None:
        profile_id = await world.put_profile(CLIENT, attributes={"tier": "Gold"})
        world.crash_at = (2, "before")
        await world.run_until_crash(world.stitch(REQUEST))
        world.restart()
        world.now += timedelta(seconds=30)
        await patch_profile(world, profile_id, consent=denied(world.now))

        await world.stitch(REQUEST)

        assert [call["body"]["data"]["attributes"] for call in world.callbacks] == [{}]


class TestVisitor:
    async def test_no_attribute_lies_in_the_outbox(self, world: World) -> None:
        await waiting(world)

        assert world.callbacks[0]["body"]["data"]["attributes"]["tier"] == "Gold"
        assert b"Gold" not in (await entry(world))["data"]

    async def test_attributes_leave_as_they_are_now(self, world: World) -> None:
        profile_id = await waiting(world)
        await patch_profile(world, profile_id, attributes={"tier": "Silver"})

        assert (await try_again(world))["attributes"] == {"tier": "Silver"}

    async def test_the_views_of_now_decide(self, world: World) -> None:
        world.views = parse_views({"ads": {"attributes": ["tier", "city"]}})
        await waiting(world, view="ads")
        world.views = parse_views(
            {"default": {"concealed": ["tier"]}, "ads": {"attributes": ["tier", "city"]}}
        )
        world.restart()

        assert (await try_again(world))["attributes"] == {"city": "Bonn"}

    async def test_a_visitor_who_was_merged_is_the_survivor(self, world: World) -> None:
        profile_id = await waiting(world)
        survivor = await world.put_profile(
            Identifier("user_id", "u-1"), attributes={"tier": "Platinum"}
        )
        alias = Put(f"profiles/{profile_id}", {"merged_into": survivor})
        await world.store.commit([alias], deadline=Deadline.after(5))

        said = await try_again(world)

        assert (said["profile_id"], said["attributes"]) == (survivor, {"tier": "Platinum"})

    async def test_nothing_is_said_of_one_who_was_erased(self, world: World) -> None:
        await waiting(world)
        stored = await entry(world)
        [path] = await world.paths("outbox")
        await erase(world, CLIENT)
        await world.store.commit([Put(path, stored)], deadline=Deadline.after(5))  # it came late

        said = await try_again(world)

        assert (said["found"], said["attributes"]) == (False, {})
        assert said["reason"] == "UNKNOWN_PROFILE"
        assert (await delivery_record(world))["subject"] is None

    async def test_nothing_leaves_while_the_visitor_cannot_be_read(self, world: World) -> None:
        await waiting(world)
        world.now += timedelta(seconds=10)
        world.down = {"documents"}
        with pytest.raises(Unavailable):
            await world.act()
        world.down = set()
        attempts = len(world.callbacks)

        await world.act()

        assert (attempts, len(world.callbacks)) == (1, 2)

    async def test_a_view_that_is_gone_makes_it_a_dead_letter(self, world: World) -> None:
        world.views = parse_views({"ads": {"attributes": ["tier"]}})
        await waiting(world, view="ads")
        world.views = parse_views({})
        world.restart()
        world.now += timedelta(seconds=10)

        await world.act()

        assert len(world.callbacks) == 1
        assert (await entry(world))["status"] == "rejected"

    async def test_what_has_grown_too_large_becomes_a_dead_letter(self, world: World) -> None:
        profile_id = await waiting(world)
        await patch_profile(world, profile_id, attributes={"list": ["x" * 1000] * 70})
        world.now += timedelta(seconds=10)

        await world.act()

        assert len(world.callbacks) == 1
        [letter] = world.published["dead-letter"]
        assert letter["reason"]["message"] == "the callback's body would be too large"

    async def test_what_is_too_large_from_the_start_is_linked_all_the_same(
        self, world: World
    ) -> None:
        profile_id = await world.put_profile(CLIENT, attributes={"list": ["x" * 1000] * 70})
        user = {"type": "user_id", "value": "u1"}
        request = REQUEST | {"identifiers": [user, {"type": CLIENT.type, "value": CLIENT.value}]}

        await world.stitch(request)
        await world.stitch(request)

        profile = await world.document(f"profiles/{profile_id}")
        assert len(profile["identifiers"]) == 2
        assert world.callbacks == []
        [letter] = world.published["dead-letter"]
        assert letter["reason"]["message"] == "the callback's body would be too large"
        row = await delivery_record(world)
        assert (row["outcome"], row["extra"]["attempts"]) == ("rejected", 0)
