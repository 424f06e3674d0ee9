"""What leads to a profile lives as long as the profile, and no longer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tagstitch.core.caller import Caller
from tagstitch.core.errors import InvalidInput
from tagstitch.core.identifier import Identifier
from tagstitch.core.profile_traits import compile_traits
from tagstitch.pipeline.backend import Delete, Patch, Write
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.link_log import home_as_of
from tagstitch.pipeline.profile_import import import_profiles
from tagstitch.pipeline.profile_line import parse_profile_line
from tagstitch.pipeline.quarantine_review import QuarantineReview
from tagstitch.pipeline.split_profiles import ProfileSplitter
from tests.pipeline.test_merges import client, message, profile_of, user
from tests.pipeline.test_traits import purchase, traits_of
from tests.pipeline.world import KEYRING, START, World

TABLET = Identifier("device_id", "tablet")
SERVER = Caller("server", frozenset({"decide", "assert"}))
TRAITS = {"orders": {"event": "purchase", "operation": "count"}}
LED = ("profiles", "identifiers", "contributions")
Visit = Callable[[World, int], Awaitable[None]]


@pytest.fixture(autouse=True)
def definitions(world: World) -> None:
    world.traits = TRAITS


async def known(world: World) -> None:
    """Make one person of a user, a browser and a tablet; all three have bought something."""
    await world.stitch(purchase("r1", client("c"), TABLET))
    await world.stitch(purchase("r2", TABLET))
    await world.stitch(purchase("r3", user("u"), client("c")))


async def expire(world: World) -> None:
    """Delete what has expired, as Firestore does by its policies."""
    gone = [
        Delete(path)
        for collection in (*LED, "links", "processed")
        for path, fields in (await world.collection(collection)).items()
        if isinstance(until := fields.get("expires_at"), datetime) and until <= world.now
    ]
    await world.store.commit(gone, deadline=Deadline.after(5))


async def visit_logged_in(world: World, number: int) -> None:
    await world.stitch(purchase(f"v{number}", user("u")))


async def visit_and_be_remembered(world: World, number: int) -> None:
    remember = {
        "event_name_trigger": "page_view",
        "match_all": True,
        "action_type": "set_state",
        "action_details": {"updates_user_state": {"visit": number}},
    }
    event = {"event_name": "page_view", "user_id": "u"}
    body = {"event": event, "request_id": f"d{number}", "deadline_ms": 5000}
    await world.decider({}, {"visit": remember}, traits={}).decide(body, SERVER)


async def be_imported(world: World, number: int) -> None:
    raw = {"identifiers": {"user_id": ["u"]}, "attributes": {"points": number}}
    line = parse_profile_line(raw, world.identity, KEYRING)
    await import_profiles(world.store, [(1, line)], now=world.now, deadline=Deadline.after(5))


@pytest.mark.parametrize("visit", [visit_logged_in, visit_and_be_remembered, be_imported])
@pytest.mark.parametrize("days", [20, 90, 380])
async def test_whoever_comes_back_in_time_is_known_by_all_they_had(
    world: World, visit: Visit, days: int
) -> None:
    await known(world)
    [profile_id] = {await profile_of(world, each) for each in (user("u"), client("c"), TABLET)}

    for number in range(1500 // days):
        world.now += timedelta(days=days)
        await expire(world)
        await visit(world, number)
        await check_expiries(world)

    for identifier in (user("u"), client("c"), TABLET):
        assert await profile_of(world, identifier) == profile_id
    splitter = ProfileSplitter(
        world.backend, KEYRING, audit=world.audit, definitions=compile_traits(TRAITS)
    )
    await splitter.take_out(KEYRING.identifier_key(TABLET), deadline=Deadline.after(5))
    await check_expiries(world)
    counted = (await traits_of(world, client("c")))["orders"]
    assert counted == 2 + (1500 // days if visit is visit_logged_in else 0)


@pytest.mark.parametrize("visit", [visit_logged_in, visit_and_be_remembered, be_imported])
@pytest.mark.parametrize("name", ["expires_at", "updated_at", "links_expire_at", "created_at"])
async def test_a_profile_that_somebody_keeps_for_ever_is_served(
    world: World, name: str, visit: Visit
) -> None:
    times: Any = {name: datetime.max.replace(tzinfo=UTC)}
    profile_id = await world.put_profile(user("u"), **times)

    await visit(world, 1)

    stored = await world.document(f"profiles/{profile_id}")
    assert stored["links_expire_at"] >= stored["expires_at"]
    assert stored["expires_at"] >= times.get("expires_at", START)


async def test_it_is_renewed_about_once_a_month(world: World) -> None:
    await known(world)
    world.reads = 0

    for number in range(120):
        world.now += timedelta(days=3)
        await visit_logged_in(world, number)

    assert 10 <= world.reads - 120 * 3 <= 12  # an event's own: alias, profile, contribution


@pytest.mark.parametrize("visit", [visit_logged_in, visit_and_be_remembered, be_imported])
async def test_of_what_is_renewed_only_the_expiry_is_written(world: World, visit: Visit) -> None:
    """A contribution may be as large as a profile, and fifty of them larger than a commit."""
    await known(world)
    world.now += timedelta(days=60)
    commit, written = world.store.commit, list[Write]()

    async def remember(writes: Sequence[Write], *, deadline: Deadline) -> None:
        written.extend(writes)
        await commit(writes, deadline=deadline)

    world.store.commit = remember  # type: ignore[method-assign]
    await visit(world, 1)

    own = KEYRING.identifier_key(user("u"))
    renewed = [
        write
        for write in written
        if write.path.startswith(("contributions/", "identifiers/")) and own not in write.path
    ]
    assert len(renewed) == 3
    assert all(
        isinstance(write, Patch) and list(write.fields) == ["expires_at"] for write in renewed
    )


async def test_the_contributions_of_a_merged_profile_last_as_long_as_the_survivor(
    world: World,
) -> None:
    await known(world)
    world.now += timedelta(days=200)
    await world.stitch(purchase("n1", client("n"), Identifier("device_id", "phone")))
    await world.stitch(purchase("n2", Identifier("device_id", "phone")))
    world.now += timedelta(days=5)

    await world.stitch(message("n3", user("u"), client("n")))

    await check_expiries(world)
    assert (await traits_of(world, client("n")))["orders"] == 5


async def test_they_last_as_long_when_the_survivor_was_renewed_just_before(world: World) -> None:
    await known(world)
    world.now += timedelta(days=100)
    await world.stitch(purchase("n1", client("n"), Identifier("device_id", "phone")))
    await world.stitch(purchase("n2", Identifier("device_id", "phone")))
    world.now += timedelta(days=100)
    await visit_logged_in(world, 1)

    await world.stitch(message("n3", user("u"), client("n")))

    await check_expiries(world)


async def test_nothing_is_left_of_whoever_never_comes_back(world: World) -> None:
    await known(world)
    await world.stitch(purchase("x1", client("x"), Identifier("device_id", "phone")))
    await world.stitch(message("x2", user("u"), client("x")))

    world.now += timedelta(days=396)
    await expire(world)
    living = {
        path: fields
        for path, fields in (await world.collection("profiles")).items()
        if "merged_into" not in fields
    }
    world.now += timedelta(days=31)
    await expire(world)

    assert living == {}
    for collection in (*LED, "links", "processed"):
        assert await world.paths(collection) == []


async def test_the_log_is_kept_as_long_as_the_settings_say(world: World) -> None:
    world.identity = world.identity.__class__(link_log_days=30)
    world.restart()

    await known(world)

    entries = await world.collection("links")
    assert entries
    for fields in entries.values():
        assert fields["expires_at"] - fields["committed_at"] == timedelta(days=30)


async def test_nobody_is_told_of_a_time_that_the_log_has_forgotten(world: World) -> None:
    await known(world)
    key = KEYRING.identifier_key(TABLET)

    with pytest.raises(InvalidInput, match="longer ago than the log is kept"):
        await home_as_of(
            world.store,
            key,
            await profile_of(world, TABLET),
            START - timedelta(seconds=1),
            kept_since=START,
            deadline=Deadline.after(5),
        )


async def test_a_block_outlives_the_profile(world: World) -> None:
    await known(world)
    review = QuarantineReview(world.backend, KEYRING, world.audit)
    key = KEYRING.identifier_key(TABLET)
    await review.block(key, deadline=Deadline.after(5))

    for number in range(15):
        world.now += timedelta(days=30)
        await visit_logged_in(world, number)
    world.now += timedelta(days=900)
    await expire(world)

    [place] = (await world.collection("profiles")).values()
    assert "blocked_at" in place
    await review.release(key, deadline=Deadline.after(5))
    await expire(world)
    assert await world.paths("profiles") == []


async def test_what_was_released_expires_with_its_profile(world: World) -> None:
    await known(world)
    review = QuarantineReview(world.backend, KEYRING, world.audit)
    key = KEYRING.identifier_key(TABLET)
    await review.block(key, deadline=Deadline.after(5))
    await review.release(key, deadline=Deadline.after(5))

    await check_expiries(world)


async def check_expiries(world: World) -> None:
    """Check that whatever leads to somebody expires, and not before them."""
    found = {name: await world.collection(name) for name in LED}
    profiles = {
        path.partition("/")[2]: fields
        for path, fields in found["profiles"].items()
        if "merged_into" not in fields
    }
    led: list[tuple[str, Mapping[str, Any]]] = []
    for pointer in (*found["profiles"].values(), *found["identifiers"].values()):
        home = pointer.get("merged_into") or pointer.get("profile_id")
        if home is not None:
            led.append((home, pointer))
    for path, contribution in found["contributions"].items():
        key = path.partition("/")[2]
        homes = [id_ for id_, profile in profiles.items() if key in profile["contributors"]]
        led += [(id_, contribution) for id_ in homes]
    assert led
    for home, fields in led:
        assert fields["expires_at"] >= profiles[home]["expires_at"], (home, fields)
