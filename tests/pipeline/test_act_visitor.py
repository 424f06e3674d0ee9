"""Actions reach the visitor as known when they are sent: consent, merges, erasure, no address anywhere."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta
from typing import Any

import pytest

from tagstitch.core.errors import NotSent, Unavailable
from tagstitch.core.identifier import Identifier
from tagstitch.pipeline.backend import Delete, Put
from tagstitch.pipeline.deadline import Deadline
from tests.pipeline.acting import (
    ADDRESS,
    CLIENT,
    GRANTED,
    HOOK,
    HUB,
    MAIL,
    PUSH,
    SENDGRID,
    decide,
    delivery_rows,
    destination,
    known_visitor,
    patch_profile,
    register,
    told,
)
from tests.pipeline.world import START, World


class TestTheVisitorNow:
    @pytest.mark.parametrize(
        "consent",
        [
            {"email": {"granted": False, "at": START}},
            {},
            GRANTED | {"ad_personalization": {"granted": False, "at": START}},
            GRANTED | {"analytics_storage": {"granted": False, "at": START}},
        ],
    )
    async def test_consent_that_was_revoked_since_the_decision_suppresses(
        self, world: World, consent: dict[str, Any]
    ) -> None:
        register(world, destination(SENDGRID))
        profile_id = await known_visitor(world)
        await decide(world, MAIL)
        await patch_profile(world, profile_id, consent=consent)

        await world.act()

        assert world.callbacks == []
        [row] = await delivery_rows(world)
        assert (row["outcome"], row["extra"]["reason"]) == ("suppressed", "CONSENT_DENIED")
        assert any(not said["granted"] for said in row["consent"].values()) or not consent

    @pytest.mark.parametrize(
        ("denied_at", "outcome"),
        [
            (None, ("delivered", "SENT")),
            (START - timedelta(days=1), ("delivered", "SENT")),
            (START, ("suppressed", "CONSENT_DENIED")),
            (START + timedelta(seconds=1), ("suppressed", "CONSENT_DENIED")),
        ],
    )
    async def test_what_the_event_granted_stands_unless_it_was_denied_since(
        self, world: World, denied_at: datetime | None, outcome: tuple[str, str]
    ) -> None:
        """Where the default denies: grants of an event are not recorded in the profile."""
        world.consent_default_granted = False
        register(world, destination(HUB))
        granted = {"ad_personalization": True, "analytics_storage": True}
        await decide(world, HOOK, request={"consent": granted})
        [path] = await world.paths("profiles")
        if denied_at is not None:
            consent = {"ad_personalization": {"granted": False, "at": denied_at}}
            await patch_profile(world, path.removeprefix("profiles/"), consent=consent)

        await world.act()

        assert await told(world) == [outcome]

    async def test_a_denial_that_was_on_its_way_suppresses_what_nobody_granted(
        self, world: World
    ) -> None:
        """The event was silent, and the denial of an hour ago came in after its decision."""
        register(world, destination(HUB))
        profile_id = await known_visitor(world)
        await decide(world, HOOK)
        said = {"granted": False, "at": START - timedelta(hours=1)}
        await patch_profile(world, profile_id, consent={"ad_personalization": said})

        await world.act()

        assert await told(world) == [("suppressed", "CONSENT_DENIED")]

    async def test_an_event_cannot_stand_for_a_grant_on_record(self, world: World) -> None:
        register(world, destination(SENDGRID))
        profile_id = await known_visitor(world)
        await decide(world, MAIL, request={"consent": {"email": True}})
        await patch_profile(world, profile_id, consent={})

        await world.act()

        assert await told(world) == [("suppressed", "CONSENT_DENIED")]

    async def test_consent_is_read_again_at_every_attempt(self, world: World) -> None:
        register(world, destination(SENDGRID))
        profile_id = await known_visitor(world)
        world.answers = [503]
        await decide(world, MAIL)
        with pytest.raises(Unavailable):
            await world.act()
        await patch_profile(world, profile_id, consent={})
        world.now += timedelta(seconds=10)

        await world.act()

        assert len(world.callbacks) == 1
        assert await told(world) == [("suppressed", "CONSENT_DENIED")]

    async def test_a_visitor_who_was_merged_is_reached_as_the_survivor(self, world: World) -> None:
        register(world, destination(SENDGRID))
        profile_id = await known_visitor(world)
        await decide(world, MAIL)
        survivor = {
            "identifiers": {}, "attributes": {"email": "survivor@example.net"},
            "consent": GRANTED, "created_at": START, "expires_at": START + timedelta(days=30),
        }  # fmt: skip
        alias = {"merged_into": "p_SURVIVOR", "identifiers": {}, "attributes": {}}
        await world.store.commit(
            [Put("profiles/p_SURVIVOR", survivor), Put(f"profiles/{profile_id}", alias)],
            deadline=Deadline.after(5),
        )
        world.answers = [202]

        await world.act()

        to = world.callbacks[0]["body"]["personalizations"][0]["to"]
        assert to == [{"email": "survivor@example.net"}]

    async def test_who_logs_in_meanwhile_is_reached_once(self, world: World) -> None:
        """A browser's profile joins that of its user while an e-mail is on its way."""
        register(world, destination(SENDGRID))
        await known_visitor(world)
        user = Identifier("user_id", "u-1")
        await world.put_profile(
            user,
            attributes={"email": "user@example.net"},
            consent=GRANTED,
            created_at=START - timedelta(days=9),
        )
        once = {**MAIL, "once_per": "visitor"}
        await decide(world, once)
        identifiers = [{"type": i.type, "value": i.value} for i in (CLIENT, user)]
        world.now += timedelta(seconds=1)
        await world.stitch({"request_id": "login", "identifiers": identifiers})
        world.answers = [202]

        await world.act(world.published["actions"][0]["outbox_id"])
        await decide(world, once)

        [sent] = world.callbacks
        [to] = sent["body"]["personalizations"][0]["to"]
        assert to["email"] in {ADDRESS, "user@example.net"}
        assert len(world.published["actions"]) == 1, "the survivor knows that it was done"
        assert await told(world) == [("delivered", "SENT")]

    async def merge(self, world: World, *profile_ids: str) -> None:
        """Let profiles become aliases of one survivor, who has an address and grants."""
        survivor = {
            "identifiers": {}, "attributes": {"email": ADDRESS}, "consent": GRANTED,
            "created_at": START, "expires_at": START + timedelta(days=30),
        }  # fmt: skip
        alias = {"merged_into": "p_SURVIVOR", "identifiers": {}, "attributes": {}}
        aliases = [Put(f"profiles/{profile_id}", alias) for profile_id in profile_ids]
        await world.store.commit(
            [Put("profiles/p_SURVIVOR", survivor), *aliases], deadline=Deadline.after(5)
        )

    @pytest.mark.parametrize(
        ("action", "times"),
        [
            ({**MAIL, "once_per": "day"}, 1),
            (MAIL, 2),
            ({**PUSH, "once_per": "day"}, 1),
        ],
    )
    async def test_two_who_become_one_get_it_once_within_a_window(
        self, world: World, action: dict[str, Any], times: int
    ) -> None:
        register(world, destination(SENDGRID, idempotency_header="X-Key"))
        world.answers = [503, *[202] * 9]
        first = await known_visitor(world)
        await decide(world, action)
        other = Identifier("client_id", "77.88")
        second = await world.put_profile(other, attributes={"email": ADDRESS}, consent=GRANTED)
        event = {"event_name": "add_to_cart", "client_id": other.value, "value": 1}
        await decide(world, action, request={"event": event})
        await self.merge(world, first, second)

        ids = [message["outbox_id"] for message in world.published["actions"]]
        for _ in range(3):
            deliveries = (world.act(outbox_id) for outbox_id in ids)
            await asyncio.gather(*deliveries, return_exceptions=True)
            world.now += timedelta(seconds=10)

        outcomes = sorted(await told(world))
        assert [outcome for outcome, _ in outcomes].count("delivered") == times
        assert len(outcomes) == 2
        assert outcomes[times:] == [("suppressed", "DUPLICATE")] * (2 - times)

    @pytest.mark.parametrize("action", [MAIL, PUSH])
    async def test_two_who_join_one_that_went_without_get_it_once(
        self, world: World, action: dict[str, Any]
    ) -> None:
        """The survivor's own entry ended with nothing sent: that leaves room for one, not for all."""
        register(world, destination(SENDGRID))
        survivor, *others = [
            await world.put_profile(
                Identifier("client_id", value), attributes={"email": ADDRESS}, consent=GRANTED
            )
            for value in ("11.22", "33.44", "55.66")
        ]
        for value in ("11.22", "33.44", "55.66"):
            event = {"event_name": "add_to_cart", "client_id": value, "value": 1}
            await decide(world, {**action, "once_per": "day"}, request={"event": event})
        ids = [message["outbox_id"] for message in world.published["actions"]]
        denied = {"granted": False, "at": START}
        denials = {"email": denied, "ad_personalization": denied}
        await patch_profile(world, survivor, consent=denials)
        await world.act(ids[0])
        await patch_profile(world, survivor, consent=GRANTED)
        alias = {"merged_into": survivor, "identifiers": {}, "attributes": {}}
        aliases = [Put(f"profiles/{profile_id}", alias) for profile_id in others]
        await world.store.commit(aliases, deadline=Deadline.after(5))
        world.answers = [202] * 9

        await asyncio.gather(*map(world.act, ids[1:]))

        assert sorted(outcome for outcome, _ in await told(world)) == [
            "delivered", "suppressed", "suppressed",
        ]  # fmt: skip

    @pytest.mark.parametrize("behind_an_alias", [False, True])
    async def test_an_erased_visitor_is_left_alone_and_not_named(
        self, world: World, *, behind_an_alias: bool
    ) -> None:
        register(world, destination(SENDGRID))
        profile_id = await known_visitor(world)
        await decide(world, MAIL)
        writes = [Put(f"profiles/{profile_id}", {"erased_at": world.now})]
        if behind_an_alias:
            writes = [
                Put(f"profiles/{profile_id}", {"merged_into": "p_GONE"}),
                Put("profiles/p_GONE", {"erased_at": world.now}),
            ]
        await world.store.commit(writes, deadline=Deadline.after(5))

        await world.act()

        assert world.callbacks == []
        [row] = await delivery_rows(world)
        assert (row["outcome"], row["extra"]["reason"]) == ("suppressed", "ERASED")
        assert row["subject"] is None

    async def test_an_entry_that_was_erased_is_not_sent(self, world: World) -> None:
        register(world, destination(SENDGRID))
        await known_visitor(world)
        await decide(world, MAIL)
        [path] = await world.paths("outbox")
        await world.store.commit([Delete(path)], deadline=Deadline.after(5))

        await world.act()

        assert world.callbacks == []

    async def test_a_profile_that_expired_is_nobody(self, world: World) -> None:
        register(world, destination(SENDGRID))
        profile_id = await known_visitor(world)
        await decide(world, MAIL)
        await patch_profile(world, profile_id, expires_at=world.now)

        await world.act()

        assert await told(world) == [("suppressed", "NO_PROFILE")]


class TestPrivacy:
    @pytest.mark.parametrize("answer", [202, 400, 503, 504, NotSent("x"), Unavailable("x")])
    async def test_no_address_is_in_any_log_record_letter_or_document_but_the_profile(
        self, world: World, caplog: pytest.LogCaptureFixture, answer: Any
    ) -> None:
        caplog.set_level(0)
        register(world, destination(SENDGRID))
        await known_visitor(world)
        world.answers = [answer]
        await decide(world, MAIL)
        with contextlib.suppress(Unavailable):
            await world.act()
        await world.store_audit()
        letters = world.published.get("dead-letter", [])
        stored = [
            await world.document(path)
            for collection in ("outbox", "processed")
            for path in await world.paths(collection)
        ]

        seen = str([caplog.records, stored, await world.rows(), letters]) + caplog.text
        seen += str([record.__dict__ for record in caplog.records])
        assert ADDRESS not in seen
        assert "SG.key" not in seen
