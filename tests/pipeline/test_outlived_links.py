"""What outlives a profile by some days leads to nobody, also when its id is somebody's again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tagstitch.core.errors import InvalidInput
from tagstitch.core.identifier import Identifier
from tagstitch.core.profile_traits import compile_traits
from tagstitch.pipeline.backend import Document
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.erase_person import PersonEraser
from tagstitch.pipeline.person import Asked, find_person
from tagstitch.pipeline.profile_import import ImportResult, import_profiles
from tagstitch.pipeline.profile_line import parse_profile_line
from tagstitch.pipeline.quarantine_review import QuarantineReview
from tagstitch.pipeline.split_profiles import ProfileSplitter
from tests.pipeline.test_merges import client, message, profile_of, user
from tests.pipeline.test_renew_links import expire
from tests.pipeline.world import KEYRING, World

USER, OLD, NEW = user("u"), client("old"), client("new")


async def be_forgotten(world: World) -> None:
    """Let a user with an old browser expire; what leads to them is there for some days more."""
    await world.stitch(message("r1", USER, OLD))
    world.now += timedelta(days=396)
    await expire(world)
    assert await world.paths("profiles") == [f"profiles/{KEYRING.profile_id(OLD)}"]


@pytest.fixture
async def returned(world: World) -> World:
    """A world in which a user came back on a new browser, long after everything had expired."""
    await be_forgotten(world)
    await world.stitch(message("r2", USER, NEW))
    return world


async def test_the_old_browser_of_somebody_who_came_back_is_nobody(returned: World) -> None:
    assert await profile_of(returned, NEW) == KEYRING.profile_id(USER)

    assert await profile_of(returned, OLD) is None


async def test_its_id_is_nobodys_document(returned: World) -> None:
    found = await returned.finder.find_bare(
        KEYRING.profile_id(OLD), asserted=True, now=returned.now, deadline=Deadline.after(5)
    )

    assert found.profile is None


async def test_the_next_visitor_of_the_old_browser_has_a_profile_of_their_own(
    returned: World,
) -> None:
    await returned.stitch(message("r3", OLD))

    assert await profile_of(returned, OLD) == KEYRING.profile_id(OLD)
    assert await profile_of(returned, USER) == KEYRING.profile_id(USER)


async def test_the_old_browser_is_linked_again_when_its_user_logs_in_there(
    returned: World,
) -> None:
    await returned.stitch(message("r3", USER, OLD))

    profile = await returned.document(f"profiles/{KEYRING.profile_id(USER)}")
    assert KEYRING.identifier_key(OLD) in profile["identifiers"]
    assert await profile_of(returned, OLD) == KEYRING.profile_id(USER)


async def test_an_import_for_the_old_browser_does_not_make_its_former_user(world: World) -> None:
    await be_forgotten(world)

    await be_imported(world, OLD)

    assert await profile_of(world, OLD) == KEYRING.profile_id(OLD)
    assert await profile_of(world, USER) is None


async def test_an_import_for_the_old_browser_is_not_for_its_former_user(returned: World) -> None:
    await be_imported(returned, OLD)

    former = await returned.document(f"profiles/{KEYRING.profile_id(USER)}")
    assert former["attributes"] == {}
    assert await profile_of(returned, OLD) == KEYRING.profile_id(OLD)


async def test_an_import_links_the_old_browser_to_whom_it_names(returned: World) -> None:
    await be_imported(returned, user("somebody else"), OLD)

    assert await profile_of(returned, OLD) == KEYRING.profile_id(user("somebody else"))


@pytest.mark.parametrize("comes_back", [False, True])
async def test_no_import_takes_a_block_away(world: World, *, comes_back: bool) -> None:
    await world.stitch(message("r1", USER, OLD))
    review = QuarantineReview(world.backend, KEYRING, world.audit)
    await review.block(KEYRING.identifier_key(OLD), deadline=Deadline.after(5))
    world.now += timedelta(days=396)
    await expire(world)
    if comes_back:
        await world.stitch(message("r2", USER, NEW))

    alone = await be_imported(world, OLD)
    beside = await be_imported(world, user("somebody else"), OLD)

    assert [rejection.code for rejection in alone.rejections] == ["blocked"]
    assert (beside.created, beside.held_elsewhere) == (1, 1)
    assert "blocked_at" in await world.document(f"profiles/{KEYRING.profile_id(OLD)}")
    former = await world.document(f"profiles/{KEYRING.profile_id(USER)}")
    assert not former.get("attributes")


async def test_a_merge_of_a_former_life_is_not_undone(world: World) -> None:
    await world.stitch(message("r0", USER))
    await world.stitch(message("r1", OLD))
    await world.stitch(message("r2", USER, OLD))
    await world.store_audit()
    [merge] = [row for row in await world.rows() if row["record_type"] == "identity_merge"]
    world.now += timedelta(days=396)
    await expire(world)
    await world.stitch(message("r3", USER, NEW))
    stored = await world.collection("profiles")
    splitter = ProfileSplitter(
        world.backend, KEYRING, audit=world.audit, definitions=compile_traits({})
    )

    with pytest.raises(InvalidInput, match="nobody is known there any more"):
        await splitter.undo_merge(merge["record_id"], deadline=Deadline.after(5))

    assert await world.collection("profiles") == stored


async def test_an_identifier_that_moves_while_it_is_looked_for_is_found_where_it_went(
    world: World,
) -> None:
    """To a profile that the same lookup had read before the identifier was there."""
    await world.stitch(message("r1", NEW))
    await world.stitch(message("r2", USER, OLD))
    read, moves = world.store.get, iter([True])

    async def read_behind_the_move(path: str, *, deadline: Deadline) -> Document | None:
        if next(moves, False):
            splitter = ProfileSplitter(
                world.backend, KEYRING, audit=world.audit, definitions=compile_traits({})
            )
            await splitter.take_out(KEYRING.identifier_key(OLD), deadline=deadline)
            await world.stitch(message("r3", NEW, OLD))
        return await read(path, deadline=deadline)

    world.restart()
    world.store.get = read_behind_the_move  # type: ignore[method-assign]
    found = await world.finder.find([OLD, NEW], now=world.now, deadline=Deadline.after(5))

    assert (found.matched, found.profile and found.profile.profile_id) == (
        OLD,
        KEYRING.profile_id(NEW),
    )


async def be_imported(world: World, *identifiers: Identifier) -> ImportResult:
    named = {each.type: [each.value] for each in identifiers}
    raw = {"identifiers": named, "attributes": {"tier": "gold"}}
    line = parse_profile_line(raw, world.identity, KEYRING)
    return await import_profiles(
        world.store, [(1, line)], now=world.now, deadline=Deadline.after(5)
    )


async def test_who_asks_by_the_old_browser_is_not_shown_and_does_not_erase_who_came_back(
    returned: World,
) -> None:
    asked = Asked(KEYRING.profile_id(OLD), (KEYRING.identifier_key(OLD),))

    found = await find_person(returned.store, asked, now=returned.now, deadline=Deadline.after(5))
    await PersonEraser(returned.backend, KEYRING, returned.audit).erase(
        asked, deadline=Deadline.after(20)
    )

    assert found.profile is None
    assert await profile_of(returned, USER) == KEYRING.profile_id(USER)
    assert "erased_at" in await returned.document(f"profiles/{KEYRING.profile_id(OLD)}")
