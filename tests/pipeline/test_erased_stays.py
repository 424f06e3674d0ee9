"""Who was erased stays unknown, until the tombstone expires or is lifted."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tagstitch.core.errors import InvalidInput, TagstitchError
from tagstitch.core.limits import TOMBSTONE_DAYS
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tests.pipeline.erasing import (
    QUEUED,
    READER,
    asked,
    erase,
    erased,
    eraser,
    load,
    look_up,
)
from tests.pipeline.lives import Life, everything
from tests.pipeline.test_merges import client, message, profile_of, user
from tests.pipeline.test_splits import splitter
from tests.pipeline.world import KEYRING, World


class TestComingBack:
    @pytest.mark.parametrize("name", QUEUED)
    async def test_nothing_that_was_on_its_way_changes_anything(
        self, world: World, name: str
    ) -> None:
        await world.stitch(message("bob", user("bob")))
        ada = await erased(world)
        before = await everything(world)
        posted = len(world.callbacks)

        await QUEUED[name](world, ada)

        world.published.clear()
        after = await everything(world)
        assert after == before
        assert len(world.callbacks) == posted

    async def test_a_callback_that_waited_is_not_sent(self, world: World) -> None:
        ada = Life(world, "ada")
        await ada.live()
        waiting = [action["outbox_id"] for action in world.published["actions"]]
        posted = len(world.callbacks)

        await erase(world, ada.user)
        for outbox_id in waiting:
            await world.act(outbox_id)

        assert waiting
        assert len(world.callbacks) == posted

    async def test_a_callback_that_is_asked_for_later_says_that_nobody_is_known(
        self, world: World
    ) -> None:
        ada = await erased(world)

        await world.stitch(message("late", ada.user, ada.browser, callback="main"))

        data = world.callbacks[-1]["body"]["data"]
        assert (data["found"], data["profile_id"], data["attributes"]) == (False, None, {})

    async def test_a_merge_of_theirs_cannot_be_undone(self, world: World) -> None:
        ada = Life(world, "ada")
        await ada.live()
        await world.store_audit()
        rows = await world.rows()
        [merge] = [row["record_id"] for row in rows if row["record_type"] == "identity_merge"]
        await erase(world, ada.user)
        before = await everything(world)

        with pytest.raises(InvalidInput, match="no merge is known"):
            await splitter(world).undo_merge(str(merge), deadline=Deadline.after(5))
        for key in ada.keys:
            with pytest.raises(InvalidInput):
                await splitter(world).take_out(key, deadline=Deadline.after(5))

        assert await everything(world) == before

    async def test_a_process_that_knew_them_answers_as_unknown(self, world: World) -> None:
        ada = Life(world, "ada")
        await ada.live()
        assert (await look_up(world, ada.browser)).found
        assert (await look_up(world, ada.phone)).found

        await erase(world, ada.user)

        world.published.clear()
        for identifiers in (ada.identifiers, (ada.browser,), (ada.phone, client("new"))):
            answer = await look_up(world, *identifiers)
            assert (answer.found, answer.reason) == (False, "UNKNOWN_PROFILE")
        assert world.published == {}

    async def test_a_decision_knows_nothing_and_names_nobody(self, world: World) -> None:
        ada = await erased(world)

        answer = await ada.browse("late", user_id=ada.name)

        assert answer["profile"] == {"found": False, "profile_id": None, "attributes": {}}
        assert answer["personalization"]["actions"] == []
        await world.store_audit()
        assert {row["subject"] for row in await world.rows()} == {None}

    async def test_a_decision_publishes_neither_their_event_nor_their_denial(
        self, world: World
    ) -> None:
        ada = await erased(world)
        decider = world.decider({})

        async def publishes(browser: str) -> set[str]:
            world.published.clear()
            event = {"event_name": "page_view", "client_id": browser, "page": "x"}
            consent = {"ad_personalization": "denied"}
            body = {"event": event, "consent": consent, "deadline_ms": 5000}
            await decider.decide(body, READER)
            return set(world.published)

        assert await publishes(ada.browser.value) == {"audit"}
        assert await publishes("stranger") == {"audit", "stitch-requests"}

    async def test_a_new_cookie_is_a_new_person_until_they_log_in(self, world: World) -> None:
        ada = await erased(world)
        newcomer = Life(world, "ada")
        newcomer.browser = client("newcomer.1747154479")

        await newcomer.browse("3")
        known = await profile_of(world, newcomer.browser)
        before = await world.document(f"profiles/{known}")
        answer = await newcomer.browse("4", user_id=ada.name)
        await world.stitch(message("login", ada.user, newcomer.browser))

        assert known == KEYRING.profile_id(newcomer.browser)
        assert not answer["profile"]["found"]
        assert await world.document(f"profiles/{known}") == before
        assert await profile_of(world, ada.user) is None

    async def test_who_shares_their_browser_is_still_known(self, world: World) -> None:
        bob = await world.put_profile(user("bob"), attributes={"tier": "Silver"})
        ada = await erased(world)

        answer = await look_up(world, user("bob"), ada.browser)

        assert (answer.found, answer.profile_id) == (True, bob)

    async def test_a_tombstone_behind_an_alias_counts(self, world: World) -> None:
        ada = await erased(world)
        alias = Put(
            f"profiles/{KEYRING.profile_id(client('late'))}",
            {"merged_into": KEYRING.profile_id(ada.user)},
        )
        await world.store.commit([alias], deadline=Deadline.after(5))
        before = await everything(world)

        await world.stitch(message("late", client("late"), client("other")))
        rejected = await load(world, identifiers={"client_id": "late"}, attributes={"x": 1})

        assert not (await look_up(world, client("late"))).found
        assert rejected == ["erased"]
        assert await everything(world) == before

    async def test_after_the_tombstone_has_expired_they_are_somebody_new(
        self, world: World
    ) -> None:
        ada = await erased(world)
        world.now += timedelta(days=TOMBSTONE_DAYS, seconds=1)

        await world.stitch(message("much-later", ada.user, ada.browser))

        assert await profile_of(world, ada.browser) == KEYRING.profile_id(ada.user)


class TestLifting:
    async def test_who_comes_back_is_somebody_new(self, world: World) -> None:
        ada = await erased(world)

        count = await eraser(world).lift(asked(ada.phone), deadline=Deadline.after(5))

        await world.stitch(message("back", ada.user, ada.browser))
        assert count == 3
        assert await profile_of(world, ada.browser) == KEYRING.profile_id(ada.user)
        document = await world.document(f"profiles/{KEYRING.profile_id(ada.user)}")
        assert document["attributes"] == {}
        world.now += timedelta(days=10)
        assert (await world.sweep()).erasures == 0
        assert await profile_of(world, ada.browser) == KEYRING.profile_id(ada.user)

    async def test_a_crash_leaves_it_to_the_next_call_and_never_erases_anew(
        self, world: World
    ) -> None:
        for step in range(20):
            ada = Life(world, f"ada{step}")
            await ada.live()
            await erase(world, ada.user)
            world.crash_at = (len(world.effects) + step, "behind")
            try:
                await world.run_until_crash(_lifted(world, ada))
            except AssertionError:
                assert step > 2
                break
            world.restart()
            try:
                await eraser(world).lift(asked(ada.user), deadline=Deadline.after(5))
            except TagstitchError:
                assert await world.document(f"profiles/{KEYRING.profile_id(ada.user)}") == {}
            world.now += timedelta(days=9)
            await world.sweep()
            for identifier in ada.identifiers:
                assert await world.document(f"profiles/{KEYRING.profile_id(identifier)}") == {}

    async def test_who_was_not_erased_cannot_be_lifted(self, world: World) -> None:
        with pytest.raises(InvalidInput, match="nobody was erased"):
            await eraser(world).lift(asked(user("u")), deadline=Deadline.after(5))


async def _lifted(world: World, life: Life) -> None:
    await eraser(world).lift(asked(life.user), deadline=Deadline.after(5))
