"""Who was kept apart, and why: the audit record and the link log say it for every identifier."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tagstitch.core.identifier import (
    Identifier,
    IdentifierLimit,
    IdentitySettings,
    QuarantineLimit,
)
from tagstitch.core.limits import (
    DEMOTED_PER_PROFILE_MAX,
    MERGES_PER_PROFILE_MAX,
    PROFILE_BYTES_MAX,
)
from tagstitch.core.profile_traits import compile_traits
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.split_profiles import ProfileSplitter
from tests.pipeline.test_merges import client, living, message, user
from tests.pipeline.world import KEYRING, START, World

DEVICE = Identifier("device_id", "tablet")
WITHOUT_LIMITS = IdentitySettings(limits={}, default_limit=None, quarantine=None)
ONE_BROWSER = IdentitySettings(default_limit=IdentifierLimit(1), quarantine=None)
TWO_MEETINGS = IdentitySettings(quarantine=QuarantineLimit(2, timedelta(days=1)))


async def kept_apart(world: World) -> list[tuple[str, str]]:
    """Return (type, reason) of the last record; the entry of the log must say the same."""
    await world.store_audit()
    record = [row for row in await world.rows() if row["record_type"] != "identity_blocked"][-1]
    told = [(each["type"], each["reason"]) for each in record["extra"].get("demoted_for", [])]
    assert [type_ for type_, _ in told] == record["extra"]["demoted"]
    entries = (await world.collection("links")).values()
    [entry] = [each for each in entries if each.get("record_id") == record["record_id"]]
    logged = {key.partition(":")[0]: reason for key, reason in entry["demoted_for"].items()}
    assert logged == dict(told)
    assert list(entry["demoted_for"]) == entry["demoted"]
    return told


async def test_another_user(world: World) -> None:
    await world.stitch(message("r1", user("ann"), client("c")))
    await world.stitch(message("r2", user("bob"), client("c")))

    assert await kept_apart(world) == [("client_id", "USER_SWITCH")]


async def test_a_value_beyond_the_limit_of_its_type(world: World) -> None:
    world.identity = ONE_BROWSER
    await world.stitch(message("r1", user("ann"), client("c"), client("d")))

    assert await kept_apart(world) == [("client_id", "TYPE_LIMIT")]


async def test_a_profile_that_brings_a_value_beyond_the_limit_of_a_type(world: World) -> None:
    world.identity = ONE_BROWSER
    await world.stitch(message("r1", client("c"), DEVICE))
    await world.stitch(message("r2", user("ann"), client("d"), DEVICE))

    assert await kept_apart(world) == [("device_id", "TYPE_LIMIT")]


async def test_beyond_fifty_identifiers(world: World) -> None:
    world.identity = WITHOUT_LIMITS
    for n in range(50):
        await world.stitch(message(f"r{n}", user("u"), client(f"c{n}")))

    assert await kept_apart(world) == [("client_id", "IDENTIFIER_LIMIT")]


async def test_beyond_a_hundred_merges(world: World) -> None:
    await world.put_profile(user("u"), merges=MERGES_PER_PROFILE_MAX)
    await world.put_profile(client("c"))
    await world.stitch(message("r1", user("u"), client("c"), DEVICE))

    assert await kept_apart(world) == [("client_id", "MERGE_LIMIT")]


async def test_too_large_together(world: World) -> None:
    half = "x" * (PROFILE_BYTES_MAX // 2)
    await world.put_profile(user("u"), attributes={"notes": half})
    await world.put_profile(client("c"), attributes={"story": half})
    await world.stitch(message("r1", user("u"), client("c"), DEVICE))

    assert await kept_apart(world) == [("client_id", "SIZE_LIMIT")]


async def test_taken_apart_before(world: World) -> None:
    await world.stitch(message("r1", user("u"), client("c"), DEVICE))
    splitter = ProfileSplitter(
        world.backend, KEYRING, audit=world.audit, definitions=compile_traits({})
    )
    key = KEYRING.identifier_key(client("c"))
    await splitter.take_out(key, deadline=Deadline.after(5))
    world.now += timedelta(hours=1)
    await world.stitch(message("r2", user("u"), client("c")))

    assert await kept_apart(world) == [("client_id", "TAKEN_APART")]


async def test_held_in_quarantine(world: World) -> None:
    world.identity = TWO_MEETINGS
    world.restart()
    for n in range(4):
        await world.stitch(message(f"r{n}", user(f"person {n}"), DEVICE))

    assert await kept_apart(world) == [("device_id", "HELD")]


async def test_each_identifier_has_its_own_reason(world: World) -> None:
    world.identity = ONE_BROWSER
    await world.stitch(message("r1", user("bob"), DEVICE))
    await world.stitch(message("r2", user("ann"), client("c"), client("d"), DEVICE))

    assert await kept_apart(world) == [("client_id", "TYPE_LIMIT"), ("device_id", "USER_SWITCH")]


async def test_what_was_kept_apart_before_is_told_once(world: World) -> None:
    await world.stitch(message("r1", user("ann"), client("c")))
    await world.stitch(message("r2", user("bob"), client("c")))
    world.now += timedelta(hours=1)
    await world.stitch(message("r3", user("bob"), client("c"), DEVICE))

    assert await kept_apart(world) == []


async def test_a_denial_keeps_the_whole_request_out_and_demotes_nobody(world: World) -> None:
    denied = {"analytics_storage": {"granted": False, "at": START, "source": "request"}}
    await world.put_profile(client("c"), consent=denied)
    await world.stitch(message("r1", user("ann"), client("c")))

    await world.store_audit()
    assert (await world.rows())[-1]["extra"] == {"reason": "CONSENT_DENIED"}


async def test_a_merge_remembers_no_more_of_them_than_one_profile_does(world: World) -> None:
    for each in (user("ann"), client("c")):
        demoted = {
            f"device_id:{each.type}{number}": START - timedelta(hours=number)
            for number in range(DEMOTED_PER_PROFILE_MAX)
        }
        await world.put_profile(each, demoted=demoted)

    await world.stitch(message("r1", user("ann"), client("c")))

    [person] = (await living(world)).values()
    assert len(person["demoted"]) == DEMOTED_PER_PROFILE_MAX
    assert min(person["demoted"].values()) == START - timedelta(
        hours=DEMOTED_PER_PROFILE_MAX // 2 - 1
    )


@pytest.mark.parametrize("edited", ["none", 7, ["c"], {"client_id:c": "yesterday"}])
async def test_an_edited_list_of_them_stops_nobody(world: World, edited: Any) -> None:
    await world.put_profile(user("ann"), demoted=edited)
    await world.stitch(message("r1", user("bob"), client("c")))

    await world.stitch(message("r2", user("ann"), client("c")))

    profile = await world.document(f"profiles/{KEYRING.profile_id(user('ann'))}")
    assert list(profile["demoted"]) == [KEYRING.identifier_key(client("c"))]
