"""An erasure against whoever writes at the same time, against crashes, and against late rows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from tagstitch.core.erasure import is_tombstone
from tagstitch.core.errors import Unavailable
from tagstitch.core.identifier import Identifier
from tagstitch.core.limits import ERASURE_PASSES_S
from tagstitch.pipeline.backend import Put, Write
from tagstitch.pipeline.deadline import Deadline
from tests.pipeline.erasing import (
    QUEUED,
    RACING,
    READER,
    erase,
    erased,
    look_up,
)
from tests.pipeline.lives import Life, everything, traces
from tests.pipeline.test_merges import message, user
from tests.pipeline.world import KEYRING, START, World


class TestConcurrency:
    @pytest.mark.parametrize("name", RACING)
    async def test_what_happens_at_the_same_time_does_not_survive(
        self, world: World, name: str
    ) -> None:
        ada = Life(world, "ada")
        await ada.live()
        await world.store_audit()

        await asyncio.gather(
            erase(world, ada.user), QUEUED[name](world, ada), erase(world, ada.browser)
        )

        await world.store_audit()
        await QUEUED[name](world, ada)
        world.now += timedelta(seconds=ERASURE_PASSES_S[0] + 1)
        world.published.clear()
        await world.sweep()
        left = await everything(world)
        profiles = {path: fields for path, fields in left.items() if path.startswith("profiles/")}
        strangers = {f"profiles/{KEYRING.profile_id(user('bob'))}"}
        assert all(
            is_tombstone(fields, now=world.now)
            for path, fields in profiles.items()
            if path not in strangers
        )
        late = [path for path in traces(left, ada.trace) if not path.startswith("audit/")]
        assert late == []

    @pytest.mark.parametrize("name", RACING)
    async def test_an_erasure_between_its_reading_and_its_writing_wins(
        self, world: World, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ada = Life(world, "ada")
        await ada.live()
        await world.store_audit()
        race = _Race(world, lambda: erase(world, ada.user))
        monkeypatch.setattr(world.store, "commit", race.commit)

        await QUEUED[name](world, ada)

        world.published.clear()
        left = await everything(world)
        bob = f"profiles/{KEYRING.profile_id(user('bob'))}"
        assert traces(left, ada.trace) == [] or not race.ran
        assert not race.ran or all(
            is_tombstone(fields, now=world.now)
            for path, fields in left.items()
            if path.startswith("profiles/") and path != bob
        )

    async def test_a_callback_that_was_about_to_be_sent_leaves_nothing_behind(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It changes no profile, so nothing refuses its commit; the second pass finds it."""
        ada = Life(world, "ada")
        await ada.live()
        await world.store_audit()
        race = _Race(world, lambda: erase(world, ada.user))
        monkeypatch.setattr(world.store, "commit", race.commit)
        world.answers = [503]
        await world.stitch(message("late", ada.user, callback="main"))
        [waiting] = (await world.collection("outbox")).values()
        assert waiting["request_id"] == "late", "no attribute lies in it, but whose it is"

        world.now += timedelta(seconds=ERASURE_PASSES_S[0] + 1)
        await world.sweep()

        assert await world.paths("outbox") == []
        assert traces(await everything(world), ada.trace) == []

    async def test_a_link_between_reading_and_writing_is_erased_too(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ada = Life(world, "ada")
        await ada.live()
        late = Identifier("device_id", "late")
        race = _Race(world, lambda: world.stitch(message("race", ada.user, late)))
        monkeypatch.setattr(world.store, "commit", race.commit)

        await erase(world, ada.browser)

        assert race.ran
        place = await world.document(f"profiles/{KEYRING.profile_id(late)}")
        assert is_tombstone(place, now=world.now)
        assert await world.paths("identifiers") == []


class _Race:
    """A commit of the store before which, the first time, something else happens."""

    def __init__(self, world: World, other: Callable[[], Awaitable[Any]]) -> None:
        self._commit = world.store.commit
        self._other = other
        self.ran = False

    async def commit(self, writes: Sequence[Write], *, deadline: Deadline) -> None:
        if not self.ran:
            self.ran = True
            await self._other()
        await self._commit(writes, deadline=deadline)


class TestCrashes:
    @pytest.mark.parametrize("side", ["before", "behind"])
    async def test_a_crash_at_any_step_leaves_nothing_once_it_is_run_again(
        self, world: World, side: str
    ) -> None:
        for step in range(100):
            ada = Life(world, f"ada{step}")
            await ada.live()
            await world.store_audit()
            world.crash_at = (len(world.effects) + step, side)
            try:
                await world.run_until_crash(_erased_by(world, ada))
            except AssertionError:  # it ended before the crash: every step was tried
                assert step > 8
                break
            world.restart()

            await erase(world, ada.phone)

            await world.store_audit()
            assert traces(await everything(world), ada.trace) == [], step
        else:
            raise AssertionError("an erasure has fewer steps")

    async def test_the_sweep_goes_on_with_what_a_dead_process_began(self, world: World) -> None:
        ada = Life(world, "ada")
        await ada.live()
        await world.store_audit()
        world.crash_at = (len(world.effects), "behind")
        await world.run_until_crash(_erased_by(world, ada))
        world.restart()
        assert (await world.sweep()).erasures == 0  # perhaps it is still at it

        world.now += timedelta(minutes=3)
        assert (await world.sweep()).erasures == 1

        await world.store_audit()
        assert traces(await everything(world), ada.trace) == []

    async def test_an_erasure_whose_journal_is_damaged_holds_up_no_other(
        self, world: World
    ) -> None:
        damaged = Put("erasures/0", {"pending": 0, "status": 5})
        await world.store.commit([damaged], deadline=Deadline.after(5))
        await erased(world)
        world.now += timedelta(seconds=ERASURE_PASSES_S[0] + 1)

        assert (await world.sweep()).erasures == 1

    async def test_without_the_audit_it_waits_and_nobody_is_served(self, world: World) -> None:
        ada = Life(world, "ada")
        await ada.live()
        await world.store_audit()
        world.down = {"audit_table"}

        with pytest.raises(Unavailable):
            await erase(world, ada.user)
        world.now += timedelta(minutes=3)
        swept = await world.sweep()

        assert swept.erasures == 0
        assert not (await look_up(world, ada.browser)).found
        world.down = set()
        assert (await world.sweep()).erasures == 1
        assert traces(await everything(world), ada.trace) == []


async def _erased_by(world: World, life: Life) -> None:
    await erase(world, life.phone)


async def _on_its_way(world: World, life: Life) -> list[dict[str, Any]]:
    """Return messages with a record of this person that no document holds."""
    await world.store_audit()
    event = {"event_name": "x", "client_id": life.browser.value}
    body = {"event": event, "deadline_ms": 5000, "request_id": life.trace}
    await world.decider({}).decide(body, READER)
    return world.published.pop("audit")


class TestLaterPasses:
    async def test_rows_that_were_on_their_way_are_nobodys_after_ninety_minutes(
        self, world: World
    ) -> None:
        ada = Life(world, "ada")
        await ada.live()
        waiting = await _on_its_way(world, ada)
        await erase(world, ada.user)
        await world.store_audit()
        world.published["audit"] = waiting
        await world.store_audit()
        assert traces(await everything(world), ada.trace) != []

        world.now += timedelta(seconds=ERASURE_PASSES_S[0] - 1)
        assert (await world.sweep()).erasures == 0
        world.now += timedelta(seconds=2)
        assert (await world.sweep()).erasures == 1

        assert traces(await everything(world), ada.trace) == []
        await world.store_audit()
        rows = [row for row in await world.rows() if row["record_type"] == "erasure"]
        assert [row["outcome"] for row in rows] == ["erased", "repeated"]

    async def test_after_the_last_one_the_sweep_has_nothing_to_do(self, world: World) -> None:
        await erased(world)
        for seconds in ERASURE_PASSES_S:
            world.now = START + timedelta(seconds=seconds, minutes=10)
            assert (await world.sweep()).erasures == 1
            assert (await world.sweep()).erasures == 0

        [path] = await world.paths("erasures")
        journal = await world.document(path)
        assert journal["status"] == "done"
        assert not {"pending", "profile_ids", "keys", "split_from"} & journal.keys()
        world.now += timedelta(days=10)
        assert (await world.sweep()).erasures == 0

    async def test_a_second_erasure_finds_what_came_late(self, world: World) -> None:
        ada = Life(world, "ada")
        await ada.live()
        waiting = await _on_its_way(world, ada)
        first = await erase(world, ada.user)
        world.published["audit"] = waiting
        await world.store_audit()

        second = await erase(world, ada.phone)

        assert second.erasure_id == first.erasure_id
        assert traces(await everything(world), ada.trace) == []
        assert second.journal.due_at == first.journal.due_at
