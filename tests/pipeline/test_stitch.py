"""stitch_async's pipeline: what one request does, and that repeating it does nothing more."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tagstitch.core.caller import Caller
from tagstitch.core.errors import InvalidInput, Unavailable
from tagstitch.core.identifier import Identifier, IdentitySettings
from tagstitch.core.limits import CONSENT_PURPOSES_MAX
from tagstitch.core.view import parse_views
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.webhook_signature import verify_signature
from tests.pipeline.world import KEYRING, MAIN, SECRET, START, World

CLIENT = Identifier("client_id", "1294673677.1747154479")
USER = Identifier("user_id", "u-1001")


def message(**fields: Any) -> dict[str, Any]:
    return {
        "request_id": "r1",
        "identifiers": [{"type": CLIENT.type, "value": CLIENT.value}],
        **fields,
    }


BOTH = [{"type": i.type, "value": i.value} for i in (CLIENT, USER)]


class TestLinking:
    async def test_an_unknown_visitor_gets_a_profile_named_by_the_strongest_identifier(
        self, world: World
    ) -> None:
        await world.stitch(message(identifiers=BOTH))

        profile = await world.document(f"profiles/{KEYRING.profile_id(USER)}")
        link = await world.document(f"identifiers/{KEYRING.identifier_key(CLIENT)}")
        assert set(profile["identifiers"]) == {
            KEYRING.identifier_key(USER),
            KEYRING.identifier_key(CLIENT),
        }
        assert link["profile_id"] == KEYRING.profile_id(USER)

    async def test_a_known_visitor_is_linked_to_the_new_identifier(self, world: World) -> None:
        profile_id = await world.put_profile(CLIENT, attributes={"tier": "Gold"})

        await world.stitch(message(identifiers=BOTH))

        link = await world.document(f"identifiers/{KEYRING.identifier_key(USER)}")
        assert link["profile_id"] == profile_id
        assert (await world.document(f"profiles/{profile_id}"))["attributes"] == {"tier": "Gold"}

    async def test_another_users_login_gets_a_profile_of_its_own(self, world: World) -> None:
        """The browser's profile has user jose; michel logs in: nothing of jose's is his."""
        jose = await world.put_profile(Identifier("user_id", "jose"))
        await world.stitch(
            message(
                request_id="r0",
                identifiers=[{"type": "user_id", "value": "jose"}, BOTH[0]],
            )
        )

        await world.stitch(
            message(
                request_id="r2",
                identifiers=[{"type": "user_id", "value": "michel"}, BOTH[0]],
            )
        )

        michel = KEYRING.profile_id(Identifier("user_id", "michel"))
        pointer = await world.document(f"identifiers/{KEYRING.identifier_key(CLIENT)}")
        assert pointer["profile_id"] == jose
        assert (
            KEYRING.identifier_key(CLIENT)
            in (await world.document(f"profiles/{michel}"))["demoted"]
        )

    async def test_a_forged_hit_links_nothing_but_its_client_id(self, world: World) -> None:
        victim = await world.put_profile(USER, attributes={"tier": "Gold"})

        await world.stitch(message(identifiers=BOTH, asserted=False, callback="main"))

        assert await world.document(f"identifiers/{KEYRING.identifier_key(CLIENT)}") == {}
        assert set((await world.document(f"profiles/{victim}"))["identifiers"]) == {
            KEYRING.identifier_key(USER)
        }
        assert world.callbacks[0]["body"]["data"]["attributes"] == {}

    async def test_blocked_values_create_nobody(self, world: World) -> None:
        await world.stitch(message(identifiers=[{"type": "client_id", "value": "undefined"}]))

        assert await world.paths("profiles") == []
        assert await world.store_audit() != []
        assert [row["outcome"] for row in await world.rows()] == ["blocked"]

    async def test_nothing_is_written_without_consent(self, world: World) -> None:
        await world.stitch(message(consent={"analytics_storage": "denied"}, callback="main"))

        assert await world.paths("profiles") == []
        assert world.callbacks[0]["body"]["data"]["reason"] == "CONSENT_DENIED"
        await world.store_audit()
        rows = await world.rows()
        assert {row["outcome"] for row in rows} == {"suppressed", "delivered"}
        assert {row["subject"] for row in rows} == {None}

    async def test_a_denial_is_recorded_in_the_profile_and_nothing_else(self, world: World) -> None:
        profile_id = await world.put_profile(
            CLIENT, consent={"ad_personalization": {"granted": True, "at": START}}
        )
        world.now = START + timedelta(hours=1)

        await world.stitch(
            message(
                identifiers=BOTH,
                consent={"analytics_storage": False, "ad_personalization": False},
            )
        )

        profile = await world.document(f"profiles/{profile_id}")
        assert profile["consent"]["ad_personalization"]["granted"] is False
        assert set(profile["identifiers"]) == {KEYRING.identifier_key(CLIENT)}

    async def test_a_denial_is_recorded_where_no_more_grants_are(self, world: World) -> None:
        purposes = [f"purpose_{number}" for number in range(CONSENT_PURPOSES_MAX)]
        granted = {purpose: {"granted": True, "at": START} for purpose in purposes}
        path = f"profiles/{await world.put_profile(CLIENT, consent=granted)}"
        said = {"analytics_storage": False, "one_more": True}

        await world.stitch(message(consent=said))

        consent = (await world.document(path))["consent"]
        assert consent["analytics_storage"]["granted"] is False
        assert "one_more" not in consent

    async def test_a_time_of_the_future_is_cut_to_five_minutes_ahead(self, world: World) -> None:
        """Otherwise one wrong clock would hold against every later statement."""
        tomorrow = (START + timedelta(days=1)).isoformat()
        await world.stitch(
            message(consent={"marketing": "denied"}, event={"event_name": "login"},
                    occurred_at=tomorrow)
        )  # fmt: skip
        path = f"profiles/{KEYRING.profile_id(CLIENT)}"
        first = await world.document(path)
        world.now = START + timedelta(minutes=6)
        await world.stitch(message(request_id="r2", consent={"marketing": "granted"}))

        latest = START + timedelta(minutes=5)
        assert first["consent"]["marketing"]["at"] == latest
        assert first["identifiers"][KEYRING.identifier_key(CLIENT)]["first_seen"] == latest
        assert (await world.document(path))["consent"]["marketing"]["granted"] is True
        await world.store_audit()
        assert (await world.rows())[0]["event_at"] == latest

    async def test_a_time_of_long_ago_is_kept(self, world: World) -> None:
        await world.stitch(message(occurred_at="1999-12-31T23:59:59Z"))

        profile = await world.document(f"profiles/{KEYRING.profile_id(CLIENT)}")
        seen = profile["identifiers"][KEYRING.identifier_key(CLIENT)]["first_seen"]
        assert seen == datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)

    async def test_an_old_grant_that_arrives_late_does_not_undo_a_denial(
        self, world: World
    ) -> None:
        profile_id = await world.put_profile(CLIENT)
        denied_at = START + timedelta(hours=2)
        granted_at = START + timedelta(hours=1)
        world.now = START + timedelta(hours=3)

        await world.stitch(
            message(consent={"marketing": "denied"}, occurred_at=denied_at.isoformat())
        )
        await world.stitch(
            message(
                request_id="r2",
                consent={"marketing": "granted"},
                occurred_at=granted_at.isoformat(),
            )
        )

        profile = await world.document(f"profiles/{profile_id}")
        assert profile["consent"]["marketing"]["granted"] is False

    async def test_an_expired_profile_makes_room_for_a_new_one(self, world: World) -> None:
        profile_id = await world.put_profile(
            CLIENT, expires_at=START - timedelta(days=1), attributes={"old": 1}
        )

        await world.stitch(message())

        assert (await world.document(f"profiles/{profile_id}"))["attributes"] == {}

    async def test_an_erased_person_stays_erased(self, world: World) -> None:
        profile_id = KEYRING.profile_id(CLIENT)
        await world.put_profile(CLIENT, erased_at=START)

        await world.stitch(message(identifiers=BOTH))

        assert "erased_at" in await world.document(f"profiles/{profile_id}")
        assert await world.document(f"profiles/{KEYRING.profile_id(USER)}") == {}

    async def test_whoever_comes_to_their_browser_later_is_somebody_else(
        self, world: World
    ) -> None:
        await world.put_profile(CLIENT, erased_at=START)
        world.now += timedelta(hours=1)

        await world.stitch(message(identifiers=BOTH))

        profile = await world.document(f"profiles/{KEYRING.profile_id(USER)}")
        assert list(profile["identifiers"]) == [KEYRING.identifier_key(USER)]


class TestPlaces:
    """A linked identifier has a pointer, and an alias where its own profile would be created."""

    async def test_two_requests_that_meet_leave_one_profile_for_one_browser(
        self, world: World
    ) -> None:
        """One knows the browser alone, the other the user too; both load before either commits."""
        gate = asyncio.Barrier(2)
        commit = world.store.commit
        passed: set[object] = set()

        async def commit_together(writes: Any, *, deadline: Deadline) -> None:
            task = asyncio.current_task()
            if task not in passed:
                passed.add(task)
                await gate.wait()
            await commit(writes, deadline=deadline)

        world.store.commit = commit_together  # type: ignore[method-assign]
        await asyncio.gather(
            world.stitch(message(request_id="s1")),
            world.stitch(message(request_id="s2", identifiers=BOTH)),
        )

        holders = [
            path
            for path in await world.paths("profiles")
            if KEYRING.identifier_key(CLIENT) in (await world.document(path)).get("identifiers", {})
        ]
        assert len(holders) == 1

    async def test_an_expired_profile_gives_its_identifiers_back(self, world: World) -> None:
        await world.stitch(message(identifiers=BOTH))
        world.now += timedelta(days=400)

        await world.stitch(message(request_id="r2"))
        await world.stitch(message(request_id="r3"))

        own = await world.document(f"profiles/{KEYRING.profile_id(CLIENT)}")
        assert set(own["identifiers"]) == {KEYRING.identifier_key(CLIENT)}
        assert [row["outcome"] for row in await _rows(world)] == ["created", "created", "unchanged"]

    async def test_two_user_ids_in_one_request_are_not_one_person(self, world: World) -> None:
        two = [{"type": "user_id", "value": value} for value in ("anna", "bert")]

        await world.stitch(message(identifiers=two))

        profiles = await world.paths("profiles")
        assert len(profiles) == 1
        assert len((await world.document(profiles[0]))["identifiers"]) == 1

    async def test_a_bare_id_records_consent_in_the_profile_that_it_finds(
        self, world: World
    ) -> None:
        profile_id = await world.put_profile(USER)

        await world.stitch(
            {"request_id": "r1", "id": USER.value, "consent": {"analytics_storage": False}}
        )

        consent = (await world.document(f"profiles/{profile_id}"))["consent"]
        assert consent["analytics_storage"]["granted"] is False

    @pytest.mark.parametrize("purpose", ["", "__x__", "a b", "x" * 100])
    async def test_a_name_that_is_no_purpose_is_refused(self, world: World, purpose: str) -> None:
        with pytest.raises(InvalidInput):
            await world.stitch(message(consent={purpose: "granted"}))

    async def test_a_browser_cannot_fill_a_profile_with_purposes(self, world: World) -> None:
        profile_id = await world.put_profile(CLIENT)
        state = {f"purpose_{n}": "denied" for n in range(30)}

        await world.stitch(
            message(asserted=False, event={"event_name": "a", "consent_state": state})
        )

        assert (await world.document(f"profiles/{profile_id}"))["consent"] == {}


async def _rows(world: World) -> list[Any]:
    await world.store_audit()
    return await world.rows()


class TestOrderOfEffects:
    async def test_one_load_one_commit_publish_then_callback_then_its_mark(
        self, world: World
    ) -> None:
        await world.stitch(message(callback="main"))

        assert world.effects == [
            "commit links outbox processed profiles",
            "publish audit",
            "post",
            "commit outbox",
            "publish audit",
        ]
        assert world.reads == 1

    async def test_a_request_that_changes_nothing_writes_nothing(self, world: World) -> None:
        await world.put_profile(CLIENT)

        await world.stitch(message())

        assert world.effects == ["publish audit"]


class TestIdempotency:
    async def test_five_deliveries_one_after_the_other_have_one_effect(self, world: World) -> None:
        for _ in range(5):
            await world.stitch(message(callback="main"))

        assert len(world.callbacks) == 1
        assert len(await world.paths("profiles")) == 1
        assert len(await world.store_audit()) == 2

    async def test_five_deliveries_at_once_have_one_effect(self, world: World) -> None:
        await asyncio.gather(*(world.stitch(message(callback="main")) for _ in range(5)))

        assert len(world.callbacks) == 1
        assert len(await world.paths("links")) == 1
        assert len(set(await world.store_audit())) == len(await world.rows()) == 2

    async def test_twenty_requests_that_meet_in_one_profile_all_succeed(self, world: World) -> None:
        world.identity = IdentitySettings(limits={}, default_limit=None)
        requests = [
            message(
                request_id=f"r{n}",
                identifiers=[BOTH[1], {"type": "device_id", "value": f"device-{n}"}],
            )
            for n in range(8)
        ]

        await asyncio.gather(*(world.stitch(request) for request in requests))

        profile = await world.document(f"profiles/{KEYRING.profile_id(USER)}")
        assert len(profile["identifiers"]) == 9

    async def test_a_request_id_can_be_used_again_after_seven_days(self, world: World) -> None:
        """The expired mark may still be there: Firestore deletes late."""
        await world.stitch(message(callback="main"))
        world.now += timedelta(days=8)

        await world.stitch(message(callback="main"))

        assert len(world.callbacks) == 2

    async def test_another_body_behind_an_unchanged_request_has_a_record_of_its_own(
        self, world: World
    ) -> None:
        """What changed nothing left no mark, so its id is not refused; no record is swallowed."""
        await world.put_profile(CLIENT)
        await world.stitch(message())

        await world.stitch(message(identifiers=BOTH))

        assert [row["outcome"] for row in await _rows(world)] == ["unchanged", "linked"]

    async def test_the_same_id_with_another_body_is_refused(self, world: World) -> None:
        await world.stitch(message())

        with pytest.raises(InvalidInput) as caught:
            await world.stitch(message(identifiers=BOTH))

        assert caught.value.code == "idempotency_conflict"

    async def test_the_records_are_published_again_until_the_sink_has_them(
        self, world: World
    ) -> None:
        await world.stitch(message())
        await world.stitch(message())
        published = len(world.published["audit"])
        await world.store_audit()

        await world.stitch(message())

        assert published == 2
        assert "audit" not in world.published
        assert len(await world.rows()) == 1


def crash_points() -> list[tuple[int, str]]:
    return [(effect, where) for effect in range(5) for where in ("before", "behind")]


class TestCallers:
    """Request ids are a caller's own; what publishers send has the topic's."""

    SHOP = Identifier("client_id", "1.2")
    BLOG = Identifier("client_id", "3.4")

    async def accept(self, world: World, key_id: str, identifier: Identifier) -> None:
        """Have a caller ask for a stitch under the id that everybody uses."""
        caller = Caller(key_id, frozenset({"lookup", "stitch", "assert"}))
        body = {"identifiers": {identifier.type: identifier.value}, "mode": "async",
                "request_id": "1", "callback": "main"}  # fmt: skip
        await world.lookup().answer(body, caller, request_id="x")
        await world.stitch(world.published["stitch-requests"][-1])

    async def test_two_callers_may_use_the_same_id(self, world: World) -> None:
        await self.accept(world, "shop", self.SHOP)
        await self.accept(world, "blog", self.BLOG)

        assert len(await world.paths("profiles")) == 2
        said = [callback["body"]["data"] for callback in world.callbacks]
        assert [data["request_id"] for data in said] == ["1", "1"]
        assert len({data["profile_id"] for data in said}) == 2
        assert "dead-letter" not in world.published

    async def test_a_publisher_may_use_it_too(self, world: World) -> None:
        await self.accept(world, "shop", self.SHOP)

        await world.stitch(message(request_id="1", callback="main"))

        assert len(await world.paths("profiles")) == 2

    async def test_one_caller_has_it_once(self, world: World) -> None:
        await self.accept(world, "shop", self.SHOP)
        await self.accept(world, "shop", self.SHOP)
        with pytest.raises(InvalidInput) as caught:
            await self.accept(world, "shop", self.BLOG)

        assert caught.value.code == "idempotency_conflict"
        assert len(world.callbacks) == 1


class TestCrashes:
    @pytest.mark.parametrize("point", crash_points(), ids=lambda p: f"{p[1]}-effect-{p[0]}")
    async def test_a_crash_anywhere_loses_nothing_and_doubles_nothing(
        self, world: World, point: tuple[int, str]
    ) -> None:
        """The message is delivered again, as Pub/Sub does without an acknowledgement."""
        world.crash_at = point
        await world.run_until_crash(world.stitch(message(callback="main")))
        world.restart()
        world.now += timedelta(seconds=30)  # the dead process's lease runs out

        await world.stitch(message(callback="main"))

        assert len(await world.paths("profiles")) == 1
        assert len(await world.paths("links")) == 1
        webhook_ids = [callback["headers"]["webhook-id"] for callback in world.callbacks]
        # The one place where a POST repeats: the process died behind it and before its mark.
        assert webhook_ids == ["r1"] * (2 if point in {(2, "behind"), (3, "before")} else 1)
        record_ids = await world.store_audit()
        assert len(record_ids) == len(set(record_ids)) == 2

    async def test_a_crash_behind_the_commit_leaves_the_record_to_the_redelivery(
        self, world: World
    ) -> None:
        world.crash_at = (0, "behind")
        await world.run_until_crash(world.stitch(message()))
        world.restart()
        assert "audit" not in world.published

        await world.stitch(message())

        assert len(world.published["audit"]) == 1


class TestCallback:
    async def test_the_callback_is_signed_and_carries_the_result(self, world: World) -> None:
        await world.put_profile(CLIENT, attributes={"tier": "Gold"})

        await world.stitch(message(callback="main", context={"page": "checkout"}, preview="ZW52"))

        callback = world.callbacks[0]
        data = callback["body"]["data"]
        assert callback["body"]["type"] == "visitor.stitched"
        assert data["attributes"] == {"tier": "Gold"}
        assert data["context"] == {"page": "checkout"}
        assert data["request_id"] == callback["headers"]["webhook-id"] == "r1"
        assert callback["headers"]["x-gtm-server-preview"] == "ZW52"
        assert callback["headers"]["webhook-signature"].startswith("v1,")

    async def test_an_endpoint_that_is_down_delays_nothing_and_is_tried_again(
        self, world: World
    ) -> None:
        world.answers = [503, Unavailable("callback"), 200]
        await world.stitch(message(callback="main"))
        assert len(world.published["actions"]) == 1

        world.now += timedelta(seconds=10)
        with pytest.raises(Unavailable):
            await world.act()
        world.now += timedelta(seconds=20)
        await world.act()

        assert len(world.callbacks) == 3
        assert {c["headers"]["webhook-id"] for c in world.callbacks} == {"r1"}
        await world.store_audit()
        [delivery] = [r for r in await world.rows() if r["record_type"] == "callback_delivery"]
        assert (delivery["outcome"], delivery["extra"]["attempts"]) == ("delivered", 3)

    async def test_a_result_that_comes_too_late_expires(self, world: World) -> None:
        world.answers = [503]
        await world.stitch(message(callback="main"))
        world.now += timedelta(minutes=11)

        await world.act()

        assert len(world.callbacks) == 1
        await world.store_audit()
        outcomes = {row["outcome"] for row in await world.rows()}
        assert outcomes == {"created", "expired"}

    @pytest.mark.parametrize("status", [301, 400, 404, 410])
    async def test_an_endpoint_that_refuses_gives_one_dead_letter(
        self, world: World, status: int
    ) -> None:
        world.answers = [status]

        await world.stitch(message(callback="main"))
        await world.stitch(message(callback="main"))

        assert len(world.callbacks) == 1
        [letter] = world.published["dead-letter"]
        assert letter["request_id"] == "r1"

    async def test_the_view_and_the_allow_list_decide_what_leaves(self, world: World) -> None:
        world.views = parse_views(
            {"default": {"concealed": ["margin"]}, "ads": {"attributes": ["tier", "margin"]}}
        )
        await world.put_profile(CLIENT, attributes={"tier": "Gold", "margin": 0.4, "city": "Bonn"})

        await world.stitch(message(callback="main", view="ads"))

        assert world.callbacks[0]["body"]["data"]["attributes"] == {"tier": "Gold"}

    async def test_an_undeclared_view_is_refused(self, world: World) -> None:
        with pytest.raises(InvalidInput):
            await world.stitch(message(callback="main", view="nobody_declared_this"))

    async def test_an_unregistered_callback_is_refused_before_anything_happens(
        self, world: World
    ) -> None:
        with pytest.raises(InvalidInput) as caught:
            await world.stitch(message(callback="http://169.254.169.254/"))

        assert caught.value.code == "unknown_callback"
        assert world.effects == []

    async def test_a_signature_of_the_callback_verifies_with_the_endpoints_secret(
        self, world: World
    ) -> None:
        await world.stitch(message(callback="main"))

        callback = world.callbacks[0]
        # The library checks the timestamp against the real clock, which is not the test's.
        headers = callback["headers"]
        assert headers["webhook-timestamp"] == str(int(START.timestamp()))
        assert MAIN.secret == SECRET
        assert verify_signature(headers, callback["raw"], [SECRET]) in (0, None)


class TestServicesDown:
    async def test_without_the_store_the_message_is_delivered_again(self, world: World) -> None:
        world.down = {"documents"}

        with pytest.raises(Unavailable):
            await world.stitch(message())

        assert world.effects == []

    async def test_without_pubsub_the_committed_record_waits_for_the_sweep(
        self, world: World
    ) -> None:
        world.down = {"publisher"}

        await world.stitch(message(callback="main"))

        assert len(world.callbacks) == 1
        document = await world.document((await world.paths("processed"))[0])
        assert "pending" in document
