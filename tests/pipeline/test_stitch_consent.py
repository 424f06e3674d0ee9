"""Consent where a request leads to several profiles: who hears a denial, and who is stitched."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from tagstitch.core.identifier import Identifier
from tagstitch.core.profile import typed_profile
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tests.pipeline.world import KEYRING, START, World

USER = Identifier("user_id", "u-1001")
OTHER = Identifier("user_id", "u-2002")
EMAIL = Identifier("email_sha256", "a" * 30 + "0123456789" * 3 + "abcd")
BROWSER = Identifier("client_id", "1294673677.1747154479")
GRANTED = {"analytics_storage": {"granted": True, "at": START, "source": "import"}}
DENIED = {"analytics_storage": {"granted": False, "at": START, "source": "request"}}
DENY = {"analytics_storage": "denied"}


def message(*identifiers: Identifier, **fields: Any) -> dict[str, Any]:
    return {
        "request_id": "r1",
        "identifiers": [{"type": i.type, "value": i.value} for i in identifiers],
        **fields,
    }


async def consent_of(world: World, identifier: Identifier) -> Mapping[str, bool]:
    profile = await world.document(f"profiles/{KEYRING.profile_id(identifier)}")
    return {purpose: said["granted"] for purpose, said in profile["consent"].items()}


async def outcomes(world: World) -> list[str]:
    await world.store_audit()
    return [row["outcome"] for row in await world.rows()]


@pytest.fixture
def later(world: World) -> World:
    """A world an hour after everything that is stored."""
    world.now = START + timedelta(hours=1)
    return world


class TestDenial:
    async def test_it_holds_for_every_profile_that_the_request_leads_to(self, later: World) -> None:
        for identifier in (USER, EMAIL, BROWSER):
            await later.put_profile(identifier, consent=GRANTED)

        await later.stitch(message(USER, EMAIL, BROWSER, consent=DENY | {"email": "denied"}))

        for identifier in (USER, EMAIL, BROWSER):
            said = {"analytics_storage": False, "email": False}
            assert await consent_of(later, identifier) == said
        assert await outcomes(later) == ["suppressed"]

    async def test_the_browser_of_another_hears_it_from_a_user_whom_nobody_knows(
        self, later: World
    ) -> None:
        seen = {"first_seen": START, "last_seen": START}
        both = {KEYRING.identifier_key(each): seen for each in (OTHER, BROWSER)}
        await later.put_profile(BROWSER, identifiers=both, consent=GRANTED)

        await later.stitch(message(USER, BROWSER, consent=DENY))

        assert await consent_of(later, BROWSER) == {"analytics_storage": False}
        assert len(await later.paths("profiles")) == 1
        assert await outcomes(later) == ["suppressed"]

    async def test_nobody_is_merged_linked_or_created_by_it(self, later: World) -> None:
        await later.put_profile(USER)
        await later.put_profile(BROWSER)

        await later.stitch(message(USER, EMAIL, BROWSER, consent=DENY))

        assert len(await later.paths("profiles")) == 2
        assert await later.paths("identifiers") == []

    async def test_another_user_of_the_browser_hears_what_the_browser_denies_and_nothing_else(
        self, later: World
    ) -> None:
        everything = GRANTED | {"email": {"granted": True, "at": START, "source": "import"}}
        await later.put_profile(USER, consent=everything)
        seen = {"first_seen": START, "last_seen": START}
        both = {KEYRING.identifier_key(each): seen for each in (OTHER, BROWSER)}
        await later.put_profile(BROWSER, identifiers=both, consent=everything)

        await later.stitch(message(USER, BROWSER, consent=DENY | {"email": "denied"}))

        assert await consent_of(later, USER) == {"analytics_storage": False, "email": False}
        assert await consent_of(later, BROWSER) == {"analytics_storage": False, "email": True}

    async def test_what_nobody_vouches_for_denies_for_the_browser_alone(self, later: World) -> None:
        await later.put_profile(USER, consent=GRANTED)
        await later.put_profile(BROWSER, consent=GRANTED)

        await later.stitch(message(USER, BROWSER, consent=DENY, asserted=False))

        assert await consent_of(later, USER) == {"analytics_storage": True}
        assert await consent_of(later, BROWSER) == {"analytics_storage": False}

    async def test_a_newer_grant_stands(self, later: World) -> None:
        newer = {"analytics_storage": {"granted": True, "at": START + timedelta(hours=2)}}
        await later.put_profile(USER, consent=GRANTED)
        await later.put_profile(BROWSER, consent=newer)

        await later.stitch(message(USER, BROWSER, consent=DENY))

        assert await consent_of(later, USER) == {"analytics_storage": False}
        assert await consent_of(later, BROWSER) == {"analytics_storage": True}

    async def test_what_somebody_wrote_by_hand_keeps_its_attributes(self, later: World) -> None:
        paths = [f"profiles/{KEYRING.profile_id(each)}" for each in (USER, BROWSER)]
        by_hand = {"tier": "Gold", "consent": {"ad_storage": "granted"}}
        await later.store.commit([Put(path, by_hand) for path in paths], deadline=Deadline.after(5))

        await later.stitch(message(USER, BROWSER, consent=DENY))

        for path in paths:
            stored = typed_profile(path, await later.document(path))
            assert stored.attributes == {"tier": "Gold"}
            assert {purpose: said["granted"] for purpose, said in stored.consent.items()} == {
                "ad_storage": True,
                "analytics_storage": False,
            }

    async def test_two_at_once_are_both_recorded(self, later: World) -> None:
        await later.put_profile(USER)
        await later.put_profile(BROWSER)
        denials = [
            message(USER, BROWSER, request_id=f"r{number}", consent=DENY | {purpose: "denied"})
            for number, purpose in enumerate(["one", "two", "three"])
        ]

        await asyncio.gather(*map(later.stitch, denials))

        for identifier in (USER, BROWSER):
            assert (await consent_of(later, identifier)).keys() >= {"one", "two", "three"}

    async def test_delivered_again_it_changes_nothing(self, later: World) -> None:
        await later.put_profile(USER)
        await later.put_profile(BROWSER)
        denial = message(USER, BROWSER, consent=DENY)
        await later.stitch(denial)
        stored = await later.collection("profiles")
        later.now += timedelta(hours=1)

        await later.stitch(denial)

        assert await later.collection("profiles") == stored


class TestSilence:
    """The request says nothing of consent: what the profiles hold decides."""

    @pytest.fixture(autouse=True)
    def _traits(self, later: World) -> None:
        later.traits = {"orders": {"event": "purchase", "operation": "count"}}

    async def test_one_who_granted_is_served_without_the_browser_that_denied(
        self, later: World
    ) -> None:
        user_id = await later.put_profile(USER, consent=GRANTED)
        browser_id = await later.put_profile(BROWSER, consent=DENIED, attributes={"tier": "Gold"})
        before = await later.document(f"profiles/{browser_id}")

        await later.stitch(
            message(USER, EMAIL, BROWSER, event={"event_name": "purchase"}, callback="main")
        )

        profile = await later.document(f"profiles/{user_id}")
        assert set(profile["identifiers"]) == set(map(KEYRING.identifier_key, (USER, EMAIL)))
        assert "orders" in profile["traits"]
        assert "demoted" not in profile
        assert await later.document(f"profiles/{browser_id}") == before
        data = later.callbacks[0]["body"]["data"]
        assert (data["profile_id"], data["attributes"].get("tier")) == (user_id, None)
        assert "linked" in await outcomes(later)

    async def test_they_become_one_once_the_browser_grants(self, later: World) -> None:
        await later.put_profile(USER, consent=GRANTED)
        await later.put_profile(BROWSER, consent=DENIED)
        await later.stitch(message(USER, BROWSER, event={"event_name": "purchase"}))

        granted = {"analytics_storage": "granted"}
        await later.stitch(message(USER, BROWSER, request_id="r2", consent=granted))

        assert await outcomes(later) == ["updated", "merged"]

    async def test_a_grant_on_record_is_enough_where_the_default_denies(self, later: World) -> None:
        user_id = await later.put_profile(USER, consent=GRANTED)
        browser_id = await later.put_profile(BROWSER)

        await self._stitch_by_default_denied(later, USER, BROWSER)

        assert "orders" in (await later.document(f"profiles/{user_id}"))["traits"]
        assert "merged_into" not in await later.document(f"profiles/{browser_id}")

    async def test_two_with_a_grant_on_record_become_one_where_the_default_denies(
        self, later: World
    ) -> None:
        for identifier in (USER, BROWSER):
            await later.put_profile(identifier, consent=GRANTED)

        await self._stitch_by_default_denied(later, USER, BROWSER)

        assert await outcomes(later) == ["merged"]

    @pytest.mark.parametrize(
        ("user", "browser"),
        [({}, DENIED), (DENIED, {}), (DENIED, GRANTED), (DENIED, DENIED)],
        ids=["only the default grants", "denied", "denied by the stronger", "denied by both"],
    )
    async def test_otherwise_a_denial_on_record_suppresses_the_whole_event(
        self, later: World, user: Mapping[str, Any], browser: Mapping[str, Any]
    ) -> None:
        await later.put_profile(USER, consent=user)
        await later.put_profile(BROWSER, consent=browser)
        before = await later.collection("profiles")

        await later.stitch(message(USER, BROWSER, event={"event_name": "purchase"}))

        assert await later.collection("profiles") == before
        assert await outcomes(later) == ["suppressed"]

    async def _stitch_by_default_denied(self, world: World, *identifiers: Identifier) -> None:
        stitcher = world.stitcher(consent_default_granted=False)
        request = message(*identifiers, event={"event_name": "purchase"})
        await world.stitch(request, stitcher=stitcher)
