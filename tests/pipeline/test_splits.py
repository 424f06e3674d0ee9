"""Splitting: a merge can be undone, and what was taken apart stays apart."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from tagstitch.core.caller import Caller
from tagstitch.core.errors import InvalidInput
from tagstitch.core.identifier import Identifier
from tagstitch.core.identity_limits import LINK_LOG_DAYS
from tagstitch.core.profile_traits import compile_traits
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.link_log import home_as_of
from tagstitch.pipeline.split_profiles import ProfileSplitter, SplitResult
from tests.pipeline.erasing import load
from tests.pipeline.test_merges import client, living, message, profile_of, user
from tests.pipeline.world import KEYRING, START, World

DEVICE = Identifier("device_id", "tablet")
SERVER = Caller("server", frozenset({"decide", "assert"}))
OFFER = {
    "event_name_trigger": "purchase",
    "match_all": True,
    "action_type": "return_value",
    "action_details": {"key": "offer", "value": True},
}


def splitter(world: World) -> ProfileSplitter:
    return ProfileSplitter(
        world.backend, KEYRING, audit=world.audit, definitions=compile_traits(world.traits)
    )


async def merged(world: World) -> str:
    """Merge the visitor of a cookie and a tablet into a user; return the audit record's id."""
    await world.put_profile(
        user("u"), attributes={"tier": "Gold", "city": "Graz"}, salt=b"salt of u"
    )
    await world.put_profile(
        client("c"),
        attributes={"city": "Wien", "pages": 3},
        salt=b"salt of c",
        created_at=START + timedelta(hours=1),
        caps={"offer": [1.0]},
    )
    await world.stitch(message("r1", client("c"), DEVICE))
    world.now += timedelta(hours=2)
    await world.stitch(message("r2", user("u"), client("c")))
    await world.store_audit()
    [record] = [row for row in await world.rows() if row["record_type"] == "identity_merge"]
    return str(record["record_id"])


async def undo(world: World, record_id: str) -> SplitResult:
    return await splitter(world).undo_merge(record_id, deadline=Deadline.after(5))


async def take_out(world: World, identifier: Identifier) -> SplitResult:
    key = KEYRING.identifier_key(identifier)
    return await splitter(world).take_out(key, deadline=Deadline.after(5))


async def as_of(world: World, identifier: Identifier, at: datetime) -> str | None:
    return await home_as_of(
        world.store,
        KEYRING.identifier_key(identifier),
        await profile_of(world, identifier),
        at,
        kept_since=world.now - timedelta(days=LINK_LOG_DAYS),
        deadline=Deadline.after(5),
    )


class TestUndoingAMerge:
    async def test_both_are_what_they_were(self, world: World) -> None:
        record_id = await merged(world)
        world.now += timedelta(hours=1)

        result = await undo(world, record_id)

        assert await profile_of(world, user("u")) == KEYRING.profile_id(user("u")) == result.stays
        for identifier in (client("c"), DEVICE):
            assert await profile_of(world, identifier) == result.leaves
        stays = await world.document(f"profiles/{result.stays}")
        leaves = await world.document(f"profiles/{result.leaves}")
        assert stays["attributes"] == {"tier": "Gold", "city": "Graz"}
        assert leaves["attributes"] == {"city": "Wien", "pages": 3}
        assert (stays["salt"], leaves["salt"]) == (b"salt of u", b"salt of c")

    async def test_what_was_set_since_stays(self, world: World) -> None:
        record_id = await merged(world)
        world.now += timedelta(hours=1)
        path = f"profiles/{KEYRING.profile_id(user('u'))}"
        document = await world.document(path)
        await world.put_profile(
            user("u"),
            **document
            | {
                "attributes": document["attributes"] | {"city": "Linz"},
                "attribute_times": {"city": world.now},
            },
        )

        result = await undo(world, record_id)

        stays = await world.document(f"profiles/{result.stays}")
        assert stays["attributes"] == {"tier": "Gold", "city": "Linz"}

    async def test_no_once_only_offer_is_granted_again(self, world: World) -> None:
        result = await undo(world, await merged(world))

        for profile_id in (result.stays, result.leaves):
            assert (await world.document(f"profiles/{profile_id}"))["caps"] == {"offer": [1.0]}

    async def test_they_never_meet_again(self, world: World) -> None:
        result = await undo(world, await merged(world))

        await world.stitch(message("r3", user("u"), client("c")))

        assert await profile_of(world, client("c")) == result.leaves
        assert len(await living(world)) == 2

    async def test_it_is_recorded(self, world: World) -> None:
        result = await undo(world, await merged(world))

        await world.store_audit()
        [row] = [row for row in await world.rows() if row["record_type"] == "identity_split"]
        assert row["record_id"] == result.record_id
        assert row["extra"] == {"reason": "MERGE_UNDONE", "moved": ["client_id", "device_id"]}

    async def test_a_second_time_there_is_nothing_to_undo(self, world: World) -> None:
        record_id = await merged(world)
        await undo(world, record_id)

        with pytest.raises(InvalidInput, match="undone already"):
            await undo(world, record_id)

    async def test_of_two_at_once_one_finds_nothing_to_undo(self, world: World) -> None:
        """The second reads the alias before the first one's commit, and the profile after it."""
        record_id = await merged(world)
        read, is_first = world.store.get_many, True

        async def read_behind_the_other(paths: Sequence[str], *, deadline: Deadline) -> Any:
            nonlocal is_first
            if is_first and len(paths) > 1:
                is_first = False
                await undo(world, record_id)
            return await read(paths, deadline=deadline)

        world.store.get_many = read_behind_the_other  # type: ignore[method-assign]
        with pytest.raises(InvalidInput, match="undone already"):
            await undo(world, record_id)

        tablet = KEYRING.identifier_key(DEVICE)
        cookies = await world.document(f"profiles/{KEYRING.profile_id(client('c'))}")
        assert set(cookies["identifiers"]) == {tablet, KEYRING.identifier_key(client("c"))}

    async def test_nor_is_there_when_who_left_was_merged_into_somebody_else(
        self, world: World
    ) -> None:
        """Otherwise that one would get what the first survivor had."""
        record_id = await merged(world)
        await world.put_profile(
            client("older"), created_at=START - timedelta(days=1), attributes={"city": "Enns"}
        )
        await undo(world, record_id)
        world.now += timedelta(hours=1)
        await world.stitch(message("r3", client("c"), client("older")))

        with pytest.raises(InvalidInput, match="undone already"):
            await undo(world, record_id)

        assert await profile_of(world, client("c")) == KEYRING.profile_id(client("older"))

    async def test_another_record_is_refused(self, world: World) -> None:
        with pytest.raises(InvalidInput, match="no merge is known"):
            await undo(world, "stitch_x_y")

    async def test_each_has_the_merges_that_it_had(self, world: World) -> None:
        """The one that leaves had been merged with somebody before."""
        await world.put_profile(user("u"))
        for n in range(2):
            world.now += timedelta(hours=1)
            await world.stitch(message(f"r{n}", client(f"c{n}")))
        await world.stitch(message("r2", client("c0"), client("c1")))
        await world.stitch(message("r3", user("u"), client("c0")))
        await world.store_audit()
        [*_, record] = [r for r in await world.rows() if r["record_type"] == "identity_merge"]

        result = await undo(world, record["record_id"])

        stays = await world.document(f"profiles/{result.stays}")
        leaves = await world.document(f"profiles/{result.leaves}")
        assert (stays["merges"], leaves["merges"]) == (0, 1)

    async def test_halves_of_the_two_stay_apart_too(self, world: World) -> None:
        await world.stitch(message("r1", user("u"), DEVICE))
        world.now += timedelta(hours=1)
        await world.stitch(message("r2", client("c"), client("d")))
        await world.stitch(message("r3", user("u"), client("c")))
        await world.store_audit()
        [record] = [r for r in await world.rows() if r["record_type"] == "identity_merge"]
        await undo(world, record["record_id"])
        for half in (DEVICE, client("d")):
            world.now += timedelta(hours=1)
            await take_out(world, half)

        await world.stitch(message("r4", client("d"), DEVICE))

        assert await profile_of(world, DEVICE) != await profile_of(world, client("d"))


async def test_an_id_that_an_import_chose_leads_to_whoever_is_left(world: World) -> None:
    """Merged twice, it leads to the second survivor at once; an undo takes it along."""
    await load(world, profile_id="R210319-1", identifiers={"client_id": "a"})
    await world.put_profile(client("b"), created_at=START - timedelta(days=1))
    await world.put_profile(client("c"), created_at=START - timedelta(days=2))
    await world.stitch(message("r1", client("a"), client("b")))
    world.now += timedelta(hours=1)
    await world.stitch(message("r2", client("b"), client("c")))
    await world.store_audit()

    chosen = await world.document("profiles/R210319-1")
    assert chosen["merged_into"] == KEYRING.profile_id(client("c"))

    rows = {row["request_id"]: row["record_id"] for row in await world.rows()}
    world.now += timedelta(hours=1)
    await undo(world, rows["r2"])

    chosen = await world.document("profiles/R210319-1")
    assert chosen["merged_into"] == KEYRING.profile_id(client("b"))


async def test_a_request_that_changes_something_only_later_is_recorded_both_times(
    world: World,
) -> None:
    await world.stitch(message("r1", user("u"), client("c")))
    await world.stitch(message("r2", user("u"), client("c")))
    await take_out(world, client("c"))

    await world.stitch(message("r2", user("u"), client("c")))

    await world.store_audit()
    told = [row["outcome"] for row in await world.rows() if row["request_id"] == "r2"]
    assert told == ["unchanged", "updated"]


async def test_an_import_that_a_split_overtakes_looks_again(world: World) -> None:
    await world.stitch(message("r1", user("u"), client("c")))
    read = world.store.get_many
    is_first = True

    async def read_before_the_split(paths: Sequence[str], *, deadline: Deadline) -> Any:
        nonlocal is_first
        found = await read(paths, deadline=deadline)
        if is_first:
            is_first = False
            await take_out(world, client("c"))
        return found

    world.store.get_many = read_before_the_split  # type: ignore[method-assign]
    await load(world, identifiers={"client_id": "c"}, attributes={"tier": "Gold"})

    [own, users] = [
        await world.document(f"profiles/{KEYRING.profile_id(i)}") for i in (client("c"), user("u"))
    ]
    assert own["attributes"] == {"tier": "Gold"}
    assert set(users["identifiers"]) == {KEYRING.identifier_key(user("u"))}


class TestTakingOneIdentifierOut:
    async def test_it_is_found_behind_whom_it_left(self, world: World) -> None:
        """Somebody new logs in on the browser of another: only the tablet is known of them."""
        await world.stitch(message("r1", user("u"), client("c"), DEVICE))
        left = await take_out(world, DEVICE)
        world.restart()

        found = await world.finder.find(
            [user("new"), client("c"), DEVICE], now=world.now, deadline=Deadline.after(5)
        )

        assert found.profile is not None
        assert found.profile.profile_id == left.leaves

    async def test_the_record_of_its_link_goes(self, world: World) -> None:
        await world.stitch(message("r1", user("u"), client("c")))

        await take_out(world, client("c"))

        assert await world.paths("identifiers") == []

    async def test_it_gets_a_profile_of_its_own(self, world: World) -> None:
        await world.stitch(message("r1", user("u"), client("c")))

        result = await splitter(world).take_out(
            KEYRING.identifier_key(client("c")), deadline=Deadline.after(5)
        )

        assert await profile_of(world, client("c")) == result.leaves != result.stays
        await world.stitch(message("r2", user("u"), client("c")))
        assert await profile_of(world, client("c")) == result.leaves

    async def test_the_one_that_the_profile_was_created_for_stays(self, world: World) -> None:
        await world.stitch(message("r1", user("u"), client("c")))

        with pytest.raises(InvalidInput, match="shares nobody's profile"):
            await splitter(world).take_out(
                KEYRING.identifier_key(user("u")), deadline=Deadline.after(5)
            )


async def test_the_graph_can_be_asked_what_it_said_at_a_time(world: World) -> None:
    record_id = await merged(world)
    merged_at = world.now
    world.now += timedelta(hours=1)
    await undo(world, record_id)
    split_at = world.now
    world.now += timedelta(hours=1)

    cookie, person = KEYRING.profile_id(client("c")), KEYRING.profile_id(user("u"))
    assert await as_of(world, DEVICE, START - timedelta(minutes=1)) is None
    assert await as_of(world, DEVICE, merged_at - timedelta(minutes=1)) == cookie
    assert await as_of(world, DEVICE, merged_at) == person
    assert await as_of(world, DEVICE, split_at - timedelta(minutes=1)) == person
    assert await as_of(world, DEVICE, split_at) == cookie
    assert await as_of(world, user("u"), split_at) == person


async def test_a_clock_that_is_behind_tells_of_no_other_past(world: World) -> None:
    await world.put_profile(user("u"))
    world.now = START + timedelta(seconds=60)
    await world.stitch(message("r1", client("c"), DEVICE))
    world.now = START + timedelta(seconds=30)

    await world.stitch(message("r2", user("u"), client("c")))

    assert await as_of(world, DEVICE, START + timedelta(seconds=10)) is None


@pytest.mark.parametrize("kind", ["event", "decision"])
async def test_what_a_split_overtakes_is_not_whom_the_identifier_left(
    world: World, kind: str
) -> None:
    """Its alias was read before the split, and where that leads to after it."""
    world.traits = {"orders": {"event": "purchase", "operation": "count"}}
    await world.stitch(message("r1", user("u"), client("c")))
    read, is_first = world.store.get_many, True

    async def read_before_the_split(paths: Sequence[str], *, deadline: Deadline) -> Any:
        nonlocal is_first
        found = await read(paths, deadline=deadline)
        if is_first:
            is_first = False
            await take_out(world, client("c"))
        return found

    world.store.get_many = read_before_the_split  # type: ignore[method-assign]
    event = {"event_name": "purchase", "client_id": "c"}
    if kind == "event":
        await world.stitch(message("r2", client("c"), event=event))
    else:
        rule = {**OFFER, "frequency_cap": {"max": 1}}
        body = {"event": event, "request_id": "d1", "deadline_ms": 5000}
        await world.decider({}, {"once": rule}).decide(body, SERVER)

    left = await world.document(f"profiles/{KEYRING.profile_id(user('u'))}")
    own = await world.document(f"profiles/{KEYRING.profile_id(client('c'))}")
    changed = ("traits", "caps")
    assert not any(left.get(name) for name in changed)
    assert any(own.get(name) for name in changed)
