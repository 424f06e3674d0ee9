"""Quarantine: what brings too many people together recognises nobody until somebody looks at it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from tagstitch.core.caller import Caller
from tagstitch.core.errors import InvalidInput
from tagstitch.core.identifier import Identifier, IdentitySettings, QuarantineLimit
from tagstitch.core.lookup import LookupAnswer
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.quarantine_review import QuarantineReview
from tests.pipeline.test_decide import decide, event
from tests.pipeline.test_export_person import export
from tests.pipeline.test_merges import aliases_are_of_depth_1, client, living, message, user
from tests.pipeline.world import KEYRING, START, World

KIOSK = client("1294673677.1747154479")
KIOSK_KEY = KEYRING.identifier_key(KIOSK)
WRITER = Caller("writer", frozenset({"lookup", "stitch", "assert"}))

THREE_A_DAY = IdentitySettings(quarantine=QuarantineLimit(3, timedelta(days=1)))
WITHOUT_LIMITS = IdentitySettings(
    limits={}, default_limit=None, quarantine=QuarantineLimit(3, timedelta(days=1))
)


@pytest.fixture
def strict(world: World) -> World:
    """A world in which three profiles are all that one identifier may lead to."""
    world.identity = THREE_A_DAY
    world.restart()
    return world


async def log_in(world: World, *names: object, device: Identifier = KIOSK) -> None:
    """Let people log in on one device, one after the other, a minute each."""
    for name in names:
        world.now += timedelta(minutes=1)
        await world.stitch(message(f"login-{name}-{world.now:%dT%H%M}", user(f"u-{name}"), device))


async def look_up(world: World, *identifiers: Identifier) -> LookupAnswer:
    body = {"identifiers": {i.type: i.value for i in identifiers}}
    answer = await world.lookup().answer(body, WRITER, request_id="r")
    assert isinstance(answer, LookupAnswer)
    return answer


def review(world: World) -> QuarantineReview:
    return QuarantineReview(world.backend, KEYRING, world.audit)


async def held(world: World) -> list[str]:
    return [each.key for each in await review(world).held(deadline=Deadline.after(5))]


async def blocks(world: World) -> list[tuple[str, Any]]:
    """Return outcome and `extra` of the audit's records of blocks, oldest first."""
    await world.store_audit()
    return [
        (row["outcome"], row["extra"])
        for row in await world.rows()
        if row["record_type"] == "identity_blocked"
    ]


def profile_of_user(name: object) -> str:
    return KEYRING.profile_id(user(f"u-{name}"))


class TestHolding:
    async def test_a_family_that_shares_a_device_is_five_people(self, world: World) -> None:
        await log_in(world, *range(5))

        profiles = await living(world)
        apart = [
            path for path, profile in profiles.items() if KIOSK_KEY in profile.get("demoted", {})
        ]
        assert len(profiles) == 5
        assert len(apart) == 4
        assert await held(world) == []

    async def test_a_kiosk_with_eleven_logins_is_held(self, world: World) -> None:
        await log_in(world, *range(10))
        before = await held(world)
        await log_in(world, 10)

        document = await world.document(f"quarantine/{KIOSK_KEY}")
        assert (before, await held(world)) == ([], [KIOSK_KEY])
        assert document["type"] == "client_id"
        assert set(document["profiles"]) == {profile_of_user(n) for n in range(11)}
        assert document["expires_at"] - document["held_at"] == timedelta(days=30)
        assert await blocks(world) == [
            ("held", {"reason": "QUARANTINED", "type": "client_id", "profiles": 11})
        ]

    async def test_a_device_that_somebody_used_before_the_logins_is_held_alike(
        self, strict: World
    ) -> None:
        await strict.stitch(message("anonymous", KIOSK))

        await log_in(strict, *range(4))

        assert await held(strict) == [KIOSK_KEY]

    @pytest.mark.parametrize(("logins", "is_held"), [(2, False), (3, False), (4, True), (5, True)])
    async def test_the_threshold_is_what_is_still_allowed(
        self,
        strict: World,
        logins: int,
        is_held: bool,  # noqa: FBT001
    ) -> None:
        await log_in(strict, *range(logins))

        assert bool(await held(strict)) is is_held

    @pytest.mark.parametrize(("hours", "is_held"), [(12, True), (12.01, False)])
    async def test_only_meetings_within_the_window_count(
        self,
        strict: World,
        hours: float,
        is_held: bool,  # noqa: FBT001
    ) -> None:
        for n in range(4):  # the three that meet the first one lie two steps apart
            at = START + timedelta(hours=n * hours)
            await strict.stitch(
                message(f"r{n}", user(f"u-{n}"), KIOSK, occurred_at=at.isoformat()), f"m{n}"
            )
            strict.now = START + timedelta(hours=100)

        assert bool(await held(strict)) is is_held

    @pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
    async def test_the_order_of_arrival_does_not_matter(
        self, strict: World, order: Iterable[int]
    ) -> None:
        strict.now = START + timedelta(hours=10)
        for n in order:
            at = START + timedelta(hours=n)
            await strict.stitch(message(f"r{n}", user(f"u-{n}"), KIOSK, occurred_at=at.isoformat()))

        assert await held(strict) == [KIOSK_KEY]

    async def test_whoever_comes_again_counts_once(self, strict: World) -> None:
        for _ in range(5):
            await log_in(strict, 0, 1, 2)
        login = message("r", user("u-2"), KIOSK)
        await strict.stitch(login)
        await strict.stitch(login)

        assert await held(strict) == []

    async def test_an_identifier_that_merges_too_many_is_held(self, world: World) -> None:
        """A user id that is the same for everybody: "test", or the id of the shop's own account."""
        world.identity = WITHOUT_LIMITS
        for n in range(6):
            world.now += timedelta(minutes=1)
            await world.put_profile(client(f"c{n}"), created_at=world.now)
            await world.stitch(message(f"r{n}", user("everybody"), client(f"c{n}")))

        profiles = await living(world)
        assert await held(world) == [KEYRING.identifier_key(user("everybody"))]
        assert sorted(len(profile["identifiers"]) for profile in profiles.values()) == [1, 1, 5]
        assert await aliases_are_of_depth_1(world)

    async def test_a_link_remembers_no_profile_id_that_people_chose(self, strict: World) -> None:
        """Such an id may be an address, and would outlive its person in somebody else's profile."""
        chosen: dict[str, Any] = {"attributes": {}, "identifiers": {}}
        key = KEYRING.identifier_key(user("u-1"))
        place = KEYRING.profile_id(user("u-1"))
        chosen["identifiers"] = {key: {"first_seen": START, "last_seen": START}}
        await strict.store.commit(
            [
                Put("profiles/anna@example.com", chosen),
                Put(f"profiles/{place}", {"merged_into": "anna@example.com"}),
            ],
            deadline=Deadline.after(5),
        )

        await log_in(strict, *range(4))

        held_from = (await strict.document(f"quarantine/{KIOSK_KEY}"))["profiles"]
        assert KEYRING.own_place_of("anna@example.com") in held_from
        others = [f"profiles/{profile_of_user(n)}" for n in (0, 2, 3)]
        assert "anna@" not in str([await strict.document(path) for path in others])

    async def test_an_export_tells_of_others_their_number_alone(self, strict: World) -> None:
        await log_in(strict, *range(4))

        exported = str(await export(strict, user("u-0"))) + str(await export(strict, user("u-1")))

        assert "'met': 1" in exported
        assert "'profiles': 4" in exported
        assert profile_of_user(2) not in exported

    async def test_both_of_an_event_may_be_held_at_once(self, strict: World) -> None:
        other = client("200.300")
        await log_in(strict, 0, 1, 2)
        await log_in(strict, 3, 4, "x", device=other)
        await log_in(strict, "x")  # who met two by the other device, and three by this one

        assert await held(strict) == [KIOSK_KEY]

    async def test_nothing_is_held_where_the_quarantine_is_switched_off(self, world: World) -> None:
        world.identity = IdentitySettings(quarantine=None)

        await log_in(world, *range(15))

        assert await held(world) == []

    async def test_thirty_who_log_in_at_once_are_thirty_people_and_one_block(
        self, strict: World
    ) -> None:
        await strict.stitch(message("anonymous", KIOSK))

        await asyncio.gather(
            *(strict.stitch(message(f"r{n}", user(f"u-{n}"), KIOSK)) for n in range(30))
        )

        profiles = await living(strict)
        assert len(profiles) == 30
        assert await held(strict) == [KIOSK_KEY]
        assert [outcome for outcome, _ in await blocks(strict)] == ["held"]

    async def test_a_kiosk_is_held_released_and_blocked_on_either_store(self, place: World) -> None:
        place.identity = THREE_A_DAY
        place.restart()
        await log_in(place, *range(4))
        while_held = await held(place), (await look_up(place, KIOSK)).found
        await review(place).release(KIOSK_KEY, deadline=Deadline.after(5))
        released = await held(place), (await look_up(place, KIOSK)).found
        await review(place).block(KIOSK_KEY, deadline=Deadline.after(5))

        assert while_held == ([KIOSK_KEY], False)
        assert released == ([], True)
        assert (await look_up(place, KIOSK)).found is False


class TestCost:
    async def test_who_meets_nobody_new_reads_and_writes_nothing_more(self, strict: World) -> None:
        await log_in(strict, 0, 1)
        strict.effects.clear()
        strict.reads = 0

        await log_in(strict, 0, 1)

        assert strict.effects == ["publish audit", "publish audit"]
        assert strict.reads == 3  # the places of both; for the second the profile behind the alias

    async def test_a_meeting_goes_with_the_commit_that_keeps_them_apart(
        self, strict: World
    ) -> None:
        await log_in(strict, 0)
        strict.effects.clear()
        strict.reads = 0

        await log_in(strict, 1)

        assert strict.effects == ["commit links processed profiles", "publish audit"]
        assert strict.reads == 2


class TestHeld:
    @pytest.fixture
    async def kiosk(self, strict: World) -> World:
        """A world in which the kiosk is held: four people met on it."""
        await log_in(strict, *range(4))
        strict.effects.clear()
        strict.published.clear()
        return strict

    async def test_alone_it_is_nobody(self, kiosk: World) -> None:
        answer = await look_up(kiosk, KIOSK)
        await kiosk.stitch(message("alone", KIOSK, callback="main"))

        assert (answer.found, answer.reason, answer.attributes) == (False, "UNKNOWN_PROFILE", None)
        [callback] = kiosk.callbacks
        assert callback["body"]["data"]["found"] is False
        assert callback["body"]["data"]["reason"] == "BLOCKED_IDENTIFIER"
        assert [outcome for outcome, _ in await blocks(kiosk)] == ["blocked"]

    async def test_a_decision_is_made_as_for_somebody_without_an_identifier(
        self, kiosk: World
    ) -> None:
        remembers = {
            "r": {
                "event_name_trigger": "page_view",
                "match_all": True,
                "action_type": "return_value",
                "action_details": {"key": "x", "value": 1},
                "updates_user_state": {"seen": 1},
            }
        }
        before = await living(kiosk)

        answer = await decide(
            kiosk.decider({}, remembers),
            {
                "event": event("page_view", client_id=KIOSK.value),
                "include": ["personalization", "profile"],
            },
        )

        assert answer["personalization"]["reason"] == "NO_IDENTIFIER"
        assert answer["profile"]["found"] is False
        assert await living(kiosk) == before
        await kiosk.store_audit()
        [row] = await kiosk.rows()
        assert (row["subject"], row["extra"]["held"]) == (None, ["client_id"])

    async def test_whoever_is_known_by_something_else_is_served(self, kiosk: World) -> None:
        for n in range(4):
            answer = await look_up(kiosk, user(f"u-{n}"), KIOSK)
            assert (answer.found, answer.profile_id) == (True, profile_of_user(n))

    async def test_it_is_not_linked_and_takes_nobody_along(self, kiosk: World) -> None:
        await log_in(kiosk, "new")
        await kiosk.stitch(message("tablet", KIOSK, Identifier("device_id", "tablet-7")))

        profiles = await living(kiosk)
        device = Identifier("device_id", "tablet-7")
        alone = profiles[f"profiles/{KEYRING.profile_id(device)}"]
        assert set(alone["identifiers"]) == {KEYRING.identifier_key(device)}
        assert len(profiles) == 6
        assert KIOSK_KEY not in profiles[f"profiles/{profile_of_user('new')}"]["identifiers"]

    async def test_a_lookup_claims_no_link_of_it_once_that_was_recorded(self, kiosk: World) -> None:
        await log_in(kiosk, "new")
        kiosk.published.clear()

        answers = [await look_up(kiosk, user(f"u-{n}"), KIOSK) for n in (0, 1, 3, "new")]

        assert {answer.reason for answer in answers} == {"KNOWN_PROFILE"}
        assert "stitch-requests" not in kiosk.published

    async def test_a_process_that_followed_it_before_does_not_follow_it(
        self, strict: World
    ) -> None:
        await log_in(strict, 0)
        assert (await look_up(strict, KIOSK)).profile_id == profile_of_user(0)

        await log_in(strict, 1, 2, 3)

        assert (await look_up(strict, KIOSK)).found is False

    async def test_it_counts_nobody_any_more(self, kiosk: World) -> None:
        document = await kiosk.document(f"quarantine/{KIOSK_KEY}")

        await log_in(kiosk, *range(20, 30))

        assert await kiosk.document(f"quarantine/{KIOSK_KEY}") == document

    async def test_a_merge_of_its_profile_keeps_it_held(self, kiosk: World) -> None:
        older = Identifier("device_id", "older")
        await kiosk.put_profile(older, created_at=START - timedelta(days=1))

        await kiosk.stitch(message("merge", user("u-0"), older))

        assert (await look_up(kiosk, user("u-0"))).profile_id == KEYRING.profile_id(older)
        assert (await look_up(kiosk, KIOSK)).found is False

    async def test_after_thirty_days_without_a_review_it_recognises_again(
        self, kiosk: World
    ) -> None:
        kiosk.now += timedelta(days=30, minutes=1)

        assert (await look_up(kiosk, KIOSK)).profile_id == profile_of_user(0)
        assert await held(kiosk) == []

    async def test_the_record_of_an_event_names_what_was_left_out(self, kiosk: World) -> None:
        await log_in(kiosk, 1)

        await kiosk.store_audit()
        [row] = await kiosk.rows()
        assert row["extra"]["held"] == ["client_id"]


class TestReview:
    @pytest.fixture(params=[False, True], ids=["alias", "primary"])
    async def kiosk(self, request: pytest.FixtureRequest, strict: World) -> World:
        """A held kiosk: its profile is a user's, or one that was created for the kiosk."""
        if request.param:
            await strict.stitch(message("anonymous", KIOSK))
        await log_in(strict, *range(4))
        await strict.store_audit()
        return strict

    async def test_what_is_held_is_listed_with_counts_and_times(self, kiosk: World) -> None:
        [found] = await review(kiosk).held(deadline=Deadline.after(5))

        assert (found.type, len(found.profiles)) == ("client_id", 4)
        assert found.to_json()["profiles"] == 4
        assert found.held_at == kiosk.now
        assert found.expires_at == kiosk.now + timedelta(days=30)

    async def test_released_it_recognises_and_links_again(self, kiosk: World) -> None:
        await review(kiosk).release(KIOSK_KEY, deadline=Deadline.after(5))

        device = Identifier("device_id", "tablet-7")
        await kiosk.stitch(message("tablet", KIOSK, device))
        answer = await look_up(kiosk, KIOSK)
        assert (await look_up(kiosk, user("u-0"))).profile_id == answer.profile_id
        assert (await look_up(kiosk, device)).profile_id == answer.profile_id
        assert await held(kiosk) == []
        assert (await blocks(kiosk))[-1] == (
            "released",
            {"reason": "RELEASED", "type": "client_id", "profiles": 4},
        )

    async def test_released_it_is_held_again_for_others_only(self, kiosk: World) -> None:
        await review(kiosk).release(KIOSK_KEY, deadline=Deadline.after(5))

        await log_in(kiosk, 1, 2, 3, 0, 10, 11)
        before = await held(kiosk)
        await log_in(kiosk, 12)

        assert (before, await held(kiosk)) == ([], [KIOSK_KEY])

    async def test_blocked_it_recognises_nobody_however_long(self, kiosk: World) -> None:
        await review(kiosk).block(KIOSK_KEY, deadline=Deadline.after(5))

        kiosk.now += timedelta(days=90)
        await log_in(kiosk, "late")
        assert (await look_up(kiosk, KIOSK)).found is False
        assert (await look_up(kiosk, user("u-0"))).found is True
        assert await held(kiosk) == []
        assert [outcome for outcome, _ in await blocks(kiosk)] == ["held", "blocked"]

    async def test_a_block_holds_through_a_merge(self, kiosk: World) -> None:
        await review(kiosk).block(KIOSK_KEY, deadline=Deadline.after(5))
        older = Identifier("device_id", "older")
        await kiosk.put_profile(older, created_at=START - timedelta(days=1))

        await kiosk.stitch(message("merge", user("u-0"), older))

        assert (await look_up(kiosk, KIOSK)).found is False
        assert (await look_up(kiosk, user("u-0"))).profile_id == KEYRING.profile_id(older)
        kiosk.now += timedelta(days=400)  # everybody has gone
        await kiosk.stitch(message("back", KIOSK))
        assert (await look_up(kiosk, KIOSK)).found is False

    async def test_a_block_is_taken_back_by_a_release(self, kiosk: World) -> None:
        await review(kiosk).block(KIOSK_KEY, deadline=Deadline.after(5))
        await review(kiosk).release(KIOSK_KEY, deadline=Deadline.after(5))

        assert (await look_up(kiosk, KIOSK)).found is True
        await log_in(kiosk, *range(4))
        assert await held(kiosk) == []

    async def test_what_is_not_held_may_be_blocked_and_not_released(self, kiosk: World) -> None:
        key = KEYRING.identifier_key(user("u-1"))

        with pytest.raises(InvalidInput, match="not held"):
            await review(kiosk).release(key, deadline=Deadline.after(5))
        await review(kiosk).block(key, deadline=Deadline.after(5))

        assert (await look_up(kiosk, user("u-1"))).found is False

    @pytest.mark.parametrize("verdict", ["release", "block"])
    async def test_what_nobody_ever_had_cannot_be_reviewed(
        self, kiosk: World, verdict: str
    ) -> None:
        key = KEYRING.identifier_key(user("stranger"))

        with pytest.raises(InvalidInput, match="nobody is known"):
            await getattr(review(kiosk), verdict)(key, deadline=Deadline.after(5))

    @pytest.mark.parametrize("edited", [7, "p_1", {"p_1": 3}, None])
    async def test_what_somebody_edited_is_listed_as_far_as_it_can_be_read(
        self, kiosk: World, edited: Any
    ) -> None:
        fields = {"profiles": edited, "held_at": edited}
        await kiosk.store.commit(
            [Put(f"quarantine/{KIOSK_KEY}", fields)], deadline=Deadline.after(5)
        )

        [found] = await review(kiosk).held(deadline=Deadline.after(5))

        assert (found.key, found.profiles, found.held_at) == (KIOSK_KEY, (), None)
