"""stitch_sync's pipeline: who is known, by how many reads, and what a lookup may set off."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tagstitch.core.caller import Caller
from tagstitch.core.errors import InvalidInput, Unavailable
from tagstitch.core.identifier import Identifier, make_identifier
from tagstitch.core.lookup import AcceptedLookup, LookupAnswer
from tagstitch.core.view import Views, parse_views
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.refreshed import Refreshed
from tests.pipeline.world import KEYRING, START, World

CLIENT = Identifier("client_id", "AUJctU7H7hBB/aMuhE4pKwGu5DWDdklg5abyyyn8i/I=.1747154479")
USER = Identifier("user_id", "u-1001")
DEVICE = Identifier("device_id", "d-1")
KEYS = [KEYRING.identifier_key(each) for each in (DEVICE, USER)]
BROWSER = Caller("browser", frozenset({"lookup"}))
READER = Caller("reader", frozenset({"lookup", "assert"}))
WRITER = Caller("writer", frozenset({"lookup", "stitch", "assert"}))


async def look_up(
    world: World, body: dict[str, Any], caller: Caller = READER, *, may_publish: bool = True
) -> LookupAnswer:
    answer = await world.lookup().answer(body, caller, request_id="r", may_publish=may_publish)
    assert isinstance(answer, LookupAnswer)
    return answer


def identifiers(*wanted: Identifier) -> dict[str, Any]:
    return {"identifiers": {i.type: i.value for i in wanted}}


class TestFinding:
    async def test_a_primary_identifier_costs_one_read_and_no_write(self, world: World) -> None:
        await world.put_profile(CLIENT, attributes={"tier": "Gold"})

        answer = await look_up(world, identifiers(CLIENT))

        assert (answer.found, answer.reason, answer.attributes) == (
            True,
            "KNOWN_PROFILE",
            {"tier": "Gold"},
        )
        assert (world.reads, world.effects) == (1, [])

    async def test_an_alias_costs_two_reads_and_one_when_seen_before(self, world: World) -> None:
        await world.put_profile(USER, attributes={"tier": "Gold"})
        await world.stitch(
            {"identifiers": [{"type": i.type, "value": i.value} for i in (USER, CLIENT)]}
        )
        world.reads = 0

        first = await look_up(world, identifiers(CLIENT))
        reads_first, world.reads = world.reads, 0
        second = await look_up(world, identifiers(CLIENT))

        assert first.attributes == second.attributes == {"tier": "Gold"}
        assert (reads_first, world.reads) == (2, 1)

    async def test_a_stale_memory_of_where_somebody_was_is_noticed(self, world: World) -> None:
        await world.put_profile(CLIENT, attributes={"tier": "Gold"})
        await look_up(world, identifiers(CLIENT))
        both: dict[str, Any] = {KEYRING.identifier_key(each): {} for each in (USER, CLIENT)}
        silver = {"tier": "Silver"}
        survivor = await world.put_profile(USER, attributes=silver, identifiers=both)
        await world.put_profile(CLIENT, merged_into=survivor)

        answer = await look_up(world, identifiers(CLIENT))

        assert (answer.profile_id, answer.attributes) == (survivor, silver)

    async def test_two_requests_notice_one_stale_memory_at_once(self, world: World) -> None:
        await world.put_profile(CLIENT, attributes={"tier": "Gold"})
        finder = world.finder
        now, deadline = world.now, Deadline.after(5)
        await finder.find([CLIENT], now=now, deadline=deadline)
        await world.put_profile(CLIENT, expires_at=START - timedelta(days=1))
        read = world.store.get

        async def read_slowly(path: str, *, deadline: Deadline) -> Any:
            await asyncio.sleep(0.01)
            return await read(path, deadline=deadline)

        world.store.get = read_slowly  # type: ignore[method-assign]
        found = await asyncio.gather(
            *(finder.find([CLIENT], now=now, deadline=deadline) for _ in range(2))
        )

        assert [visitor.profile for visitor in found] == [None, None]

    async def test_nobody_known_is_an_answer(self, world: World) -> None:
        answer = await look_up(world, identifiers(CLIENT))

        assert answer.to_json() == {
            "found": False,
            "profile_id": None,
            "attributes": {},
            "view": "default",
            "reason": "UNKNOWN_PROFILE",
            "request_id": "r",
            "degraded": [],
        }

    async def test_an_expired_profile_is_nobody(self, world: World) -> None:
        await world.put_profile(CLIENT, expires_at=START - timedelta(seconds=1))

        assert (await look_up(world, identifiers(CLIENT))).reason == "UNKNOWN_PROFILE"

    async def test_the_strongest_known_identifier_selects(self, world: World) -> None:
        await world.put_profile(CLIENT, attributes={"who": "browser"})
        await world.put_profile(USER, attributes={"who": "user"})

        answer = await look_up(world, identifiers(CLIENT, USER))

        assert answer.attributes == {"who": "user"}

    async def test_a_weak_identifier_is_found_behind_two_unknown_ones(self, world: World) -> None:
        await world.put_profile(DEVICE, attributes={"who": "device"})

        answer = await look_up(world, identifiers(CLIENT, USER, DEVICE))

        assert answer.attributes == {"who": "device"}


class TestBareId:
    async def test_a_document_written_by_hand_is_found_by_its_own_id(self, world: World) -> None:
        await world.store.commit(
            [Put("profiles/R210319-1", {"user_loyalty_tier": "Gold", "orders": 3})],
            deadline=Deadline.after(5),
        )

        answer = await look_up(world, {"id": "R210319-1"})

        assert answer.attributes == {"user_loyalty_tier": "Gold", "orders": 3}
        assert world.reads == 1

    async def test_whatever_a_hand_written_document_calls_its_fields_they_are_attributes(
        self, world: World
    ) -> None:
        fields = {"tier": "Gold", "state": "CA", "consent": "yes", "created_at": START, "salt": 5}
        await world.store.commit([Put("profiles/R1", fields)], deadline=Deadline.after(5))

        assert (await look_up(world, {"id": "R1"})).attributes == fields

    @pytest.mark.parametrize(
        ("field", "reason"),
        [
            ({"consent": {"analytics_storage": "denied"}}, "CONSENT_DENIED"),
            ({"erased_at": START}, "UNKNOWN_PROFILE"),
            ({"expires_at": START - timedelta(days=1)}, "UNKNOWN_PROFILE"),
        ],
    )
    async def test_a_denial_an_erasure_or_an_expiry_holds_in_a_hand_written_document_too(
        self, world: World, field: dict[str, Any], reason: str
    ) -> None:
        document = Put("profiles/R1", {"tier": "Gold", **field})
        await world.store.commit([document], deadline=Deadline.after(5))

        answer = await look_up(world, {"id": "R1"})

        assert (answer.reason, answer.attributes) == (reason, None)

    @pytest.mark.parametrize("type_", ["user_id", "client_id", "anonymous_id"])
    async def test_a_bare_id_is_tried_as_every_declared_type(
        self, world: World, type_: str
    ) -> None:
        await world.put_profile(Identifier(type_, "x-77"), attributes={"type": type_})

        assert (await look_up(world, {"id": "x-77"})).attributes == {"type": type_}

    @pytest.mark.parametrize("hostile", ["../secrets", "a/b", "__x__", ".", "..", "é" * 500])
    async def test_an_id_that_is_no_document_id_finds_nobody(
        self, world: World, hostile: str
    ) -> None:
        assert (await look_up(world, {"id": hostile})).found is False

    @pytest.mark.parametrize(
        ("identifier", "sent"),
        [
            (Identifier("email_sha256", "abc1" * 16), "ABC1" * 16),
            (make_identifier("email_sha256", "mara@example.com", path=""), "Mara@Example.com "),
            (make_identifier("phone_sha256", "+4915112345678", path=""), "+49 151 1234-5678"),
        ],
    )
    async def test_a_bare_id_is_brought_into_each_types_normal_form(
        self, world: World, identifier: Identifier, sent: str
    ) -> None:
        await world.put_profile(identifier, attributes={"type": identifier.type})

        assert (await look_up(world, {"id": sent})).attributes == {"type": identifier.type}

    @pytest.mark.parametrize("shared", ["undefined", "(not set)", "0000000000", "{{user id}}"])
    async def test_a_blocked_bare_id_is_said_to_be_blocked(self, world: World, shared: str) -> None:
        answer = await look_up(world, {"id": shared})

        assert (answer.found, answer.reason, world.reads) == (False, "BLOCKED_IDENTIFIER", 0)

    async def test_a_blocked_bare_id_beside_an_identifier_does_not_select(
        self, world: World
    ) -> None:
        await world.store.commit([Put("profiles/guest", {"a": 1})], deadline=Deadline.after(5))

        answer = await look_up(world, {**identifiers(CLIENT), "id": "guest"})

        assert (answer.found, answer.reason) == (False, "UNKNOWN_PROFILE")


class TestWhatIsShown:
    async def views(self, world: World) -> Any:
        definitions = {
            "default": {"concealed": ["margin"]},
            "ads": {"attributes": ["tier", "margin"], "identifier_types": ["user_id"]},
        }
        lookup = world.lookup()
        lookup._views = world.refreshed(parse_views(definitions))
        await world.put_profile(USER, attributes={"tier": "Gold", "margin": 0.4, "city": "Bonn"})
        await world.put_profile(CLIENT, attributes={"tier": "Silver"})
        return lookup

    async def ask(self, lookup: Any, caller: Caller, **body: Any) -> LookupAnswer:
        answer: LookupAnswer = await lookup.answer(body, caller, request_id="r")
        return answer

    async def test_a_view_shows_its_attributes_and_fields_narrow_it(self, world: World) -> None:
        lookup = await self.views(world)

        shown = await self.ask(lookup, READER, **identifiers(USER), fields=["city", "none"])

        assert shown.attributes == {"city": "Bonn"}

    async def test_concealed_attributes_need_the_scope(self, world: World) -> None:
        lookup = await self.views(world)
        insider = Caller("insider", frozenset({"lookup", "assert", "concealed"}))

        outside = await self.ask(lookup, READER, **identifiers(USER), view="ads")
        inside = await self.ask(lookup, insider, **identifiers(USER), view="ads")

        assert outside.attributes == {"tier": "Gold"}
        assert inside.attributes == {"tier": "Gold", "margin": 0.4}

    async def test_a_view_may_be_limited_to_identifier_types(self, world: World) -> None:
        lookup = await self.views(world)

        with pytest.raises(InvalidInput):
            await self.ask(lookup, READER, **identifiers(CLIENT), view="ads")

    async def test_a_made_up_identifier_beside_it_opens_no_view(self, world: World) -> None:
        lookup = await self.views(world)
        made_up = Identifier("user_id", "made-up")

        beside = await self.ask(lookup, READER, **identifiers(CLIENT, made_up), view="ads")
        bare = await self.ask(lookup, READER, id=CLIENT.value, view="ads")

        assert (beside.found, bare.found) == (False, False)

    @pytest.mark.parametrize(("value", "found"), [(USER.value, True), ("made-up", False)])
    async def test_what_nobody_vouches_for_counts_where_the_profile_has_it(
        self, world: World, value: str, *, found: bool
    ) -> None:
        lookup = await self.views(world)
        await world.put_profile(DEVICE, identifiers={key: {} for key in KEYS})
        body = identifiers(DEVICE, Identifier("user_id", value))

        answer = await self.ask(lookup, BROWSER, **body, view="ads")

        assert answer.found is found

    async def test_an_asynchronous_request_needs_the_view_too(self, world: World) -> None:
        lookup = await self.views(world)
        limited = Caller("limited", frozenset({"lookup", "stitch"}), frozenset({"ads"}))

        with pytest.raises(InvalidInput) as caught:
            await self.ask(lookup, limited, **identifiers(USER), mode="async")

        assert caught.value.code == "unauthorized"

    async def test_a_key_may_be_limited_to_views(self, world: World) -> None:
        lookup = await self.views(world)
        limited = Caller("limited", frozenset({"lookup"}), frozenset({"ads"}))

        with pytest.raises(InvalidInput) as caught:
            await self.ask(lookup, limited, **identifiers(USER))

        assert caught.value.code == "unauthorized"

    async def test_an_undeclared_view_is_an_error(self, world: World) -> None:
        lookup = await self.views(world)

        with pytest.raises(InvalidInput):
            await self.ask(lookup, READER, **identifiers(USER), view="nobody_declared_this")


class TestReasons:
    async def test_a_denial_in_the_request_reads_nothing(self, world: World) -> None:
        await world.put_profile(CLIENT)

        answer = await look_up(
            world, {**identifiers(CLIENT), "consent": {"analytics_storage": False}}
        )

        assert (answer.found, answer.reason, world.reads) == (False, "CONSENT_DENIED", 0)

    async def test_a_denial_in_the_profile_hides_it(self, world: World) -> None:
        await world.put_profile(
            CLIENT,
            attributes={"tier": "Gold"},
            consent={"analytics_storage": {"granted": False, "at": START}},
        )

        answer = await look_up(world, identifiers(CLIENT))

        assert (answer.found, answer.reason, answer.attributes) == (False, "CONSENT_DENIED", None)

    async def test_blocked_values_find_nobody(self, world: World) -> None:
        answer = await look_up(world, {"identifiers": {"client_id": "undefined"}})

        assert (answer.reason, world.reads) == ("BLOCKED_IDENTIFIER", 0)

    async def test_a_store_that_is_down_is_said_and_not_raised(self, world: World) -> None:
        world.down = {"documents"}

        answer = await look_up(world, identifiers(CLIENT))

        assert (answer.reason, answer.degraded) == ("ERROR", ("profile",))

    async def test_views_that_could_not_be_read_again_make_the_answer_stale(
        self, world: World
    ) -> None:
        await world.put_profile(CLIENT, attributes={"tier": "Gold"})
        loads = [Views()]

        async def load(_present: Views | None, _deadline: Deadline) -> Views:
            if not loads:
                raise Unavailable("firestore")
            return loads.pop()

        lookup = world.lookup()
        lookup._views = Refreshed(load, name="views", interval_s=0, clock=world.backend.clock)

        answers = [await lookup.answer(identifiers(CLIENT), READER, request_id="r") for _ in "12"]

        assert [answer.to_json()["reason"] for answer in answers] == ["KNOWN_PROFILE", "STALE"]
        assert answers[1].to_json()["attributes"] == {"tier": "Gold"}


class TestClaims:
    async def test_a_link_that_nobody_knows_is_published_once_an_hour(self, world: World) -> None:
        await world.put_profile(CLIENT, attributes={"tier": "Gold"})

        first = await look_up(world, identifiers(CLIENT, USER), WRITER)
        await look_up(world, identifiers(CLIENT, USER), WRITER)

        assert (first.reason, first.attributes) == ("MERGE_PENDING", {"tier": "Gold"})
        [request] = world.published["stitch-requests"]
        assert {i["type"] for i in request["identifiers"]} == {"client_id", "user_id"}
        assert request["asserted"] is True

    async def test_the_published_link_is_made_and_then_no_longer_claimed(
        self, world: World
    ) -> None:
        await world.put_profile(CLIENT, attributes={"tier": "Gold"})
        await look_up(world, identifiers(CLIENT, USER), WRITER)
        [request] = world.published.pop("stitch-requests")

        await world.stitch(request)
        world.restart()
        answer = await look_up(world, identifiers(CLIENT, USER), WRITER)

        assert (answer.reason, answer.attributes) == ("KNOWN_PROFILE", {"tier": "Gold"})
        assert "stitch-requests" not in world.published

    @pytest.mark.parametrize(("caller", "may_publish"), [(READER, True), (WRITER, False)])
    async def test_without_the_scope_or_by_get_nothing_is_published(
        self, world: World, caller: Caller, *, may_publish: bool
    ) -> None:
        await world.put_profile(CLIENT)

        await look_up(world, identifiers(CLIENT, USER), caller, may_publish=may_publish)

        assert world.published == {}

    async def test_when_the_claim_cannot_be_published_the_answer_still_comes(
        self, world: World
    ) -> None:
        await world.put_profile(CLIENT, attributes={"tier": "Gold"})
        world.down = {"publisher"}

        answer = await look_up(world, identifiers(CLIENT, USER), WRITER)

        assert (answer.found, answer.reason) == (True, "KNOWN_PROFILE")
        assert answer.degraded == ("stitch",)

    async def test_what_nobody_vouches_for_is_not_claimed(self, world: World) -> None:
        await world.put_profile(CLIENT, attributes={"tier": "Gold"})
        unvouched = Caller("browser", frozenset({"lookup", "stitch"}))

        answer = await look_up(world, identifiers(CLIENT, USER), unvouched)

        assert (answer.reason, world.published) == ("KNOWN_PROFILE", {})

    async def test_a_recorded_user_switch_is_claimed_no_more(self, world: World) -> None:
        jose = Identifier("user_id", "jose")
        await world.put_profile(jose)
        pairs = [(jose, "r1"), (USER, "r2")]
        for user, request_id in pairs:
            await world.stitch(
                {
                    "request_id": request_id,
                    "identifiers": [{"type": i.type, "value": i.value} for i in (user, CLIENT)],
                }
            )

        answer = await look_up(world, identifiers(CLIENT, USER), WRITER)

        assert (answer.reason, answer.profile_id) == ("KNOWN_PROFILE", KEYRING.profile_id(USER))


class TestAccepting:
    BODY = {**identifiers(CLIENT), "mode": "async"}  # noqa: RUF012 - read only

    async def test_a_202_means_that_the_message_is_stored(self, world: World) -> None:
        body = {**self.BODY, "callback": "main", "request_id": "r-9"}

        answer = await world.lookup().answer(body, WRITER, request_id="x")

        assert answer == AcceptedLookup("r-9")
        [request] = world.published["stitch-requests"]
        assert (request["request_id"], request["callback"]) == ("r-9", "main")

    async def test_without_pubsub_it_is_refused(self, world: World) -> None:
        world.down = {"publisher"}

        with pytest.raises(Unavailable):
            await world.lookup().answer(self.BODY, WRITER, request_id="x")

    async def test_a_caller_cannot_vouch_for_itself(self, world: World) -> None:
        caller = Caller("browser", frozenset({"lookup", "stitch"}))

        await world.lookup().answer({**self.BODY, "asserted": True}, caller, request_id="x")

        assert world.published["stitch-requests"][0]["asserted"] is False

    async def test_the_request_says_whose_it_is_whatever_the_body_says(self, world: World) -> None:
        await world.lookup().answer({**self.BODY, "caller": "other"}, WRITER, request_id="x")

        assert world.published["stitch-requests"][0]["caller"] == WRITER.id

    async def test_an_unregistered_callback_is_refused_at_once(self, world: World) -> None:
        with pytest.raises(InvalidInput) as caught:
            await world.lookup().answer({**self.BODY, "callback": "evil"}, WRITER, request_id="x")

        assert caught.value.code == "unknown_callback"
