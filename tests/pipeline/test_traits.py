"""Computed traits: each event counts once, for whoever its visitor turns out to be."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from tagstitch.core.identifier import Identifier, IdentitySettings, QuarantineLimit
from tagstitch.core.limits import EVENT_IDS_MAX, PROFILE_BYTES_MAX
from tagstitch.core.profile import parse_profile
from tagstitch.core.profile_traits import compile_traits
from tagstitch.core.stitch_request import parse_stitch_request
from tagstitch.pipeline.backend import Delete, Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.quarantine_review import QuarantineReview
from tagstitch.pipeline.split_profiles import ProfileSplitter
from tagstitch.pipeline.stitch import Stitcher
from tests.pipeline.test_merges import client, living, message, profile_of, user
from tests.pipeline.world import KEYRING, START, World

DEFINITIONS: Mapping[str, Mapping[str, Any]] = {
    "orders": {"event": "purchase", "operation": "count"},
    "revenue": {"event": "purchase", "operation": "sum", "field": "value"},
    "last_page": {"event": "page_view", "operation": "last", "field": "page"},
    "recent": {"event": "page_view", "operation": "unique_list", "field": "page"},
    "newsletter_clicks": {"event": "click", "operation": "count", "purposes": ["newsletter"]},
}


@pytest.fixture(autouse=True)
def definitions(world: World) -> None:
    world.traits = DEFINITIONS


def purchase(request_id: str, *identifiers: Identifier, value: float = 5.0, **fields: Any) -> Any:
    event = {"event_name": "purchase", "value": value}
    return message(request_id, *identifiers, event=event, **fields)


def page_view(request_id: str, *identifiers: Identifier, page: str, **fields: Any) -> Any:
    event = {"event_name": "page_view", "page": page}
    return message(request_id, *identifiers, event=event, **fields)


async def traits_of(world: World, identifier: Identifier) -> dict[str, Any]:
    """Return the attributes of whoever the identifier leads to; empty for nobody."""
    profile_id = await profile_of(world, identifier)
    fields = await world.document(f"profiles/{profile_id}")
    profile = parse_profile(str(profile_id), fields, now=world.now) if fields else None
    return dict(profile.attributes) if profile else {}


def splitter(world: World) -> ProfileSplitter:
    return ProfileSplitter(
        world.backend, KEYRING, audit=world.audit, definitions=compile_traits(world.traits)
    )


async def records(world: World) -> list[tuple[str, str]]:
    await world.store_audit()
    return [(row["record_type"], row["outcome"]) for row in await world.rows()]


async def deliver(world: World, stitcher: Stitcher, raw: Mapping[str, Any]) -> None:
    request = parse_stitch_request(
        raw, world.identity, default_request_id="m", received_at=world.now
    )
    await stitcher.process(request, deadline=Deadline.after(5))


class TestOneVisitor:
    async def test_an_event_counts_and_its_visitor_is_made(self, world: World) -> None:
        await world.stitch(purchase("r1", client("c"), value=19.9))

        assert await traits_of(world, client("c")) == {"orders": 1, "revenue": 19.9}

    async def test_an_event_of_a_known_visitor_is_one_write_and_no_mark(self, world: World) -> None:
        await world.stitch(purchase("r1", client("c")))
        before = world.effects.copy()

        await world.stitch(purchase("r2", client("c")))

        assert world.effects[len(before) :] == ["commit profiles", "publish audit"]
        assert await traits_of(world, client("c")) == {"orders": 2, "revenue": 10}
        assert await records(world) == [("identity_link", "created"), ("profile_update", "updated")]

    async def test_an_event_that_is_delivered_again_counts_once(self, world: World) -> None:
        await world.stitch(purchase("r1", client("c")))
        for _ in range(3):
            await world.stitch(purchase("r2", client("c")))

        assert (await traits_of(world, client("c")))["orders"] == 2
        assert len(set(await records(world))) == len(await world.rows()) == 2

    async def test_one_event_in_two_requests_counts_once(self, world: World) -> None:
        await world.stitch(purchase("r1", client("c"), event_id="e1"))
        await world.stitch(purchase("r2", client("c"), event_id="e1"))

        assert (await traits_of(world, client("c")))["orders"] == 1
        assert await records(world) == [
            ("identity_link", "created"), ("identity_link", "unchanged"),
        ]  # fmt: skip

    async def test_an_event_no_trait_looks_at_writes_nothing(self, world: World) -> None:
        await world.stitch(purchase("r1", client("c")))
        commits = world.commits

        await world.stitch(message("r2", client("c"), event={"event_name": "scroll"}))

        assert world.commits == commits

    async def test_the_order_of_arrival_never_shows(self, world: World) -> None:
        pages = [
            page_view(f"r{n}", client("c"), page=page, occurred_at=f"2026-11-2{day}T08:00:00Z")
            for n, (page, day) in enumerate([("b", 0), ("a", 1), ("c", 0)])
        ]
        found = []
        for order in itertools.permutations(pages):
            for one in order:
                await world.stitch(one)
            found.append(await traits_of(world, client("c")))
            profile = f"profiles/{KEYRING.profile_id(client('c'))}"
            await world.store.commit([Put(profile, {})], deadline=Deadline.after(5))
            await forget_requests(world)

        assert found == [found[0]] * 6
        assert found[0]["last_page"] == "a"

    async def test_only_so_many_events_are_remembered(self, world: World) -> None:
        await world.stitch(purchase("first", client("c")))
        profile = f"profiles/{KEYRING.profile_id(client('c'))}"
        fields = await world.document(profile)
        full = {**fields, "event_ids": b"123456789abc" * EVENT_IDS_MAX}
        await world.store.commit([Put(profile, full)], deadline=Deadline.after(5))

        await world.stitch(purchase("r2", client("c")))

        assert len((await world.document(profile))["event_ids"]) == 12 * EVENT_IDS_MAX

    async def test_the_callback_has_the_value_with_the_event(self, world: World) -> None:
        await world.stitch(purchase("r1", client("c"), value=7, callback="main"))
        await world.stitch(purchase("r2", client("c"), value=3, callback="main"))

        sent = [callback["body"]["data"]["attributes"] for callback in world.callbacks]
        assert sent == [{"orders": 1, "revenue": 7}, {"orders": 2, "revenue": 10}]

    async def test_a_computed_value_wins_over_an_imported_one(self, world: World) -> None:
        await world.put_profile(client("c"), attributes={"orders": 99, "tier": "Gold"})

        await world.stitch(purchase("r1", client("c")))

        assert await traits_of(world, client("c")) == {"orders": 1, "revenue": 5, "tier": "Gold"}


class TestConsent:
    async def test_without_consent_nothing_is_counted(self, world: World) -> None:
        await world.put_profile(client("c"))

        denial = {"analytics_storage": "denied"}
        await world.stitch(purchase("r1", client("c"), consent=denial))

        assert await traits_of(world, client("c")) == {}

    async def test_a_purpose_of_its_own_is_asked_for(self, world: World) -> None:
        for number, said in enumerate(("denied", "granted")):
            click = {"event_name": "click"}
            consent = {"newsletter": said}
            await world.stitch(message(f"r{number}", client("c"), event=click, consent=consent))

        assert await traits_of(world, client("c")) == {"newsletter_clicks": 1}

    async def test_a_user_nobody_vouched_for_is_not_counted(self, world: World) -> None:
        await world.put_profile(user("victim"))

        await world.stitch(purchase("r1", user("victim"), client("c"), asserted=False))

        assert await traits_of(world, user("victim")) == {}
        assert (await traits_of(world, client("c")))["orders"] == 1


class TestSeveralIdentifiers:
    async def test_traits_of_merged_profiles_add_up(self, world: World) -> None:
        await world.stitch(purchase("r1", client("phone"), value=1))
        await world.stitch(purchase("r2", client("laptop"), value=2))
        await world.stitch(purchase("r3", user("u"), value=4))
        for number, device in enumerate(("phone", "laptop")):
            await world.stitch(message(f"m{number}", user("u"), client(device)))

        await world.stitch(purchase("r4", client("laptop"), value=8))

        for each in (client("phone"), client("laptop"), user("u")):
            assert await traits_of(world, each) == {"orders": 4, "revenue": 15}

    async def test_every_order_of_events_and_merges_gives_the_same(self, world: World) -> None:
        events = [
            purchase("a", client("x"), value=1),
            purchase("b", client("y"), value=2),
            page_view("c", user("u"), client("x"), page="p", occurred_at="2026-11-20T08:00:00Z"),
            page_view("d", user("u"), client("y"), page="q", occurred_at="2026-11-19T08:00:00Z"),
        ]
        found = []
        for order in itertools.permutations(events):
            fresh = World(world.folder / "".join(one["request_id"] for one in order))
            fresh.traits = DEFINITIONS
            for one in [*order, *random.sample(order, 2)]:
                fresh.now += timedelta(seconds=1)
                await fresh.stitch(one)
            found.append(await traits_of(fresh, user("u")))
            assert len(await living(fresh)) == 1

        assert found == [{"orders": 2, "revenue": 3, "last_page": "p", "recent": ["p", "q"]}] * len(
            found
        )

    async def test_an_event_that_merges_counts_too(self, world: World) -> None:
        await world.stitch(purchase("r1", client("c"), value=1))
        await world.put_profile(user("u"), created_at=START - timedelta(days=1))

        await world.stitch(purchase("r2", user("u"), client("c"), value=2))

        assert await traits_of(world, client("c")) == {"orders": 2, "revenue": 3}
        keys = sorted(map(KEYRING.identifier_key, (user("u"), client("c"))))
        assert await world.paths("contributions") == [f"contributions/{key}" for key in keys]

    async def test_redelivery_behind_a_merge_counts_once(self, world: World) -> None:
        await world.stitch(purchase("r1", client("c")))
        await world.stitch(purchase("r2", client("c")))
        await world.stitch(message("r3", user("u"), client("c")))
        await world.stitch(purchase("r4", user("u"), client("c")))

        for request_id, *identifiers in (("r2", client("c")), ("r4", user("u"), client("c"))):
            await world.stitch(purchase(request_id, *identifiers))

        assert (await traits_of(world, client("c")))["orders"] == 3

    async def test_a_replay_counts_nothing_though_an_identifier_was_held_meanwhile(
        self, world: World
    ) -> None:
        world.identity = IdentitySettings(quarantine=QuarantineLimit(3, timedelta(days=1)))
        browsers = [client(f"c{number}") for number in range(6)]

        async def visits() -> dict[str, Any]:
            world.restart()
            for number, browser in enumerate(browsers):
                await world.stitch(purchase(f"before-{number}", browser))
                await world.stitch(purchase(f"login-{number}", user("test"), browser))
                await world.stitch(purchase(f"after-{number}", user("test"), browser))
            stored = await living(world)
            return {path: profile["traits"] for path, profile in stored.items()}

        once = await visits()

        assert await world.paths("quarantine") != []
        assert await visits() == once

    @pytest.mark.parametrize("is_released", [True, False], ids=["released", "expired"])
    @pytest.mark.parametrize("is_forgotten", [True, False], ids=["without marks", "with marks"])
    async def test_nor_does_it_when_the_stronger_identifier_recognises_again(
        self, world: World, *, is_released: bool, is_forgotten: bool
    ) -> None:
        """What counted for the browser meanwhile does not count for the user, too."""
        world.identity = IdentitySettings(quarantine=QuarantineLimit(3, timedelta(days=1)))
        world.restart()
        browsers = [client(f"c{number}") for number in range(6)]
        requests = [
            purchase(f"{when}-{number}", *named)
            for number, browser in enumerate(browsers)
            for when, named in (("before", [browser]), ("login", [user("test"), browser]))
        ]
        requests += [purchase(f"held-{n}", user("test"), each) for n, each in enumerate(browsers)]
        for each in requests:
            await world.stitch(each)
        assert await orders(world) == len(requests)
        if is_released:
            reviewed = QuarantineReview(world.backend, KEYRING, world.audit)
            key = KEYRING.identifier_key(user("test"))
            await reviewed.release(key, deadline=Deadline.after(5))
        else:
            world.now += timedelta(days=31)
        if is_forgotten:
            await remove(world, await world.paths("processed"))

        for each in requests:
            await world.stitch(each)

        assert await orders(world) == len(requests)
        await world.stitch(purchase("new", user("test"), browsers[0]))
        assert await orders(world) == len(requests) + 1


class TestSplits:
    async def test_each_takes_along_what_its_events_added(self, world: World) -> None:
        await world.stitch(purchase("r1", client("phone"), value=1))
        await world.stitch(purchase("r2", user("u"), client("phone"), value=2))
        await world.stitch(purchase("r3", user("u"), client("laptop"), value=4))
        await world.stitch(purchase("r4", client("laptop"), value=8))
        key = KEYRING.identifier_key(client("laptop"))

        await splitter(world).take_out(key, deadline=Deadline.after(5))

        assert await traits_of(world, client("laptop")) == {"orders": 1, "revenue": 8}
        assert await traits_of(world, user("u")) == {"orders": 3, "revenue": 7}
        assert await traits_of(world, client("phone")) == {"orders": 3, "revenue": 7}

    async def test_what_comes_behind_the_split_counts_on(self, world: World) -> None:
        await world.stitch(purchase("r1", client("a")))
        await world.stitch(purchase("r2", user("u"), client("a")))
        key = KEYRING.identifier_key(user("u"))
        await splitter(world).take_out(key, deadline=Deadline.after(5))
        assert await world.paths("contributions") == []

        await world.stitch(purchase("r2", user("u"), client("a")))  # delivered again
        await world.stitch(purchase("r3", user("u")))
        await world.stitch(purchase("r4", client("a")))

        assert (await traits_of(world, user("u")))["orders"] == 2
        assert (await traits_of(world, client("a")))["orders"] == 2

    async def test_an_undone_merge_leaves_what_was_counted(self, world: World) -> None:
        await world.stitch(purchase("r1", client("c"), value=1))
        await world.stitch(purchase("r2", user("u"), value=2))
        await world.stitch(message("r3", user("u"), client("c")))
        await world.stitch(purchase("r4", user("u"), value=4))
        await world.store_audit()
        [merge] = [row for row in await world.rows() if row["record_type"] == "identity_merge"]

        await splitter(world).undo_merge(merge["record_id"], deadline=Deadline.after(5))

        assert await traits_of(world, client("c")) == {"orders": 1, "revenue": 1}
        assert await traits_of(world, user("u")) == {"orders": 2, "revenue": 6}


class TestDefinitionsThatChange:
    async def test_a_changed_definition_counts_from_the_beginning(self, world: World) -> None:
        await world.stitch(purchase("r1", client("c"), value=5))
        changed = {**DEFINITIONS["orders"], "when": {"value": {"atLeast": 5}}, "version": 2}
        world.traits = {**DEFINITIONS, "orders": changed}

        await world.stitch(purchase("r2", client("c"), value=6))

        assert await traits_of(world, client("c")) == {"orders": 1, "revenue": 11}

    async def test_a_removed_trait_goes_with_the_next_event(self, world: World) -> None:
        await world.stitch(purchase("r1", client("c")))
        world.traits = {"revenue": DEFINITIONS["revenue"]}

        await world.stitch(purchase("r2", client("c")))

        assert await traits_of(world, client("c")) == {"revenue": 10}

    async def test_what_a_broken_definition_had_counted_waits_until_it_is_mended(
        self, world: World
    ) -> None:
        await world.stitch(purchase("r1", client("c")))
        world.traits = {**DEFINITIONS, "orders": {"event": "purchase", "operation": "cuont"}}
        await world.stitch(purchase("r2", user("u"), client("c")))
        world.traits = DEFINITIONS

        await world.stitch(purchase("r3", user("u"), client("c")))

        assert await traits_of(world, client("c")) == {"orders": 2, "revenue": 15}

    async def test_a_process_that_does_not_know_a_new_trait_yet_leaves_it_alone(
        self, world: World
    ) -> None:
        world.traits = {"revenue": DEFINITIONS["revenue"]}
        behind = world.stitcher()
        await deliver(world, behind, purchase("r1", client("c")))
        world.now += timedelta(seconds=5)
        world.traits = DEFINITIONS
        await world.stitch(purchase("r2", client("c")))

        await deliver(world, behind, purchase("r3", client("c")))
        await world.stitch(purchase("r4", client("c")))

        assert await traits_of(world, client("c")) == {"orders": 2, "revenue": 20}

    async def test_profiles_of_two_editions_merge_to_what_todays_counted(
        self, world: World
    ) -> None:
        await world.stitch(purchase("r1", client("old")))
        world.traits = {**DEFINITIONS, "orders": {"event": "purchase", "operation": "badge"}}
        await world.stitch(purchase("r2", user("new")))

        await world.stitch(message("r3", user("new"), client("old")))

        assert (await traits_of(world, client("old")))["orders"] is True


class TestWhatGoesWrong:
    @pytest.mark.parametrize("when", ["before", "behind"])
    @pytest.mark.parametrize("effect", range(2))
    async def test_a_crash_anywhere_counts_once_and_is_recorded(
        self, world: World, effect: int, when: str
    ) -> None:
        await world.stitch(purchase("r1", client("c")))
        world.crash_at = (len(world.effects) + effect, when)
        await world.run_until_crash(world.stitch(purchase("r2", client("c"))))
        world.restart()

        await world.stitch(purchase("r2", client("c")))

        assert (await traits_of(world, client("c")))["orders"] == 2
        assert await records(world) == [("identity_link", "created"), ("profile_update", "updated")]

    async def test_a_state_nobody_can_read_does_not_stop_the_link(self, world: World) -> None:
        await world.stitch(purchase("r1", client("c")))
        profile = f"profiles/{KEYRING.profile_id(client('c'))}"
        fields = await world.document(profile)
        parts = fields["traits"]["orders"]["parts"]
        broken = {**fields["traits"]["orders"], "parts": dict.fromkeys(parts, "broken")}
        fields["traits"] = {**fields["traits"], "orders": broken}
        await world.store.commit([Put(profile, fields)], deadline=Deadline.after(5))

        await world.stitch(purchase("r2", client("c"), Identifier("device_id", "tablet")))

        assert await profile_of(world, Identifier("device_id", "tablet")) is not None
        await world.store_audit()
        assert (await world.rows())[-1]["degraded"] == ["traits"]
        assert await traits_of(world, client("c")) == {"revenue": 5}

    async def test_what_is_no_state_is_nothing(self, world: World) -> None:
        await world.put_profile(client("c"), traits={"orders": 3, "revenue": {"operation": "sum"}})

        assert await traits_of(world, client("c")) == {}

    async def test_profiles_that_do_not_fit_together_stay_apart(self, world: World) -> None:
        half = {"notes": "x" * (PROFILE_BYTES_MAX // 2)}
        more = {"story": "x" * (PROFILE_BYTES_MAX // 2)}
        await world.put_profile(user("u"), attributes=half)
        await world.put_profile(client("c"), attributes=more)

        await world.stitch(purchase("r1", user("u"), client("c")))

        assert len(await living(world)) == 2
        assert (await traits_of(world, user("u")))["orders"] == 1
        await world.store_audit()
        assert (await world.rows())[-1]["extra"]["demoted"] == ["client_id"]


async def orders(world: World) -> int:
    """Return what was counted for everybody together."""
    people = [
        parse_profile(path.partition("/")[2], fields, now=world.now)
        for path, fields in (await living(world)).items()
    ]
    return sum(person.attributes.get("orders", 0) for person in people if person is not None)


async def forget_requests(world: World) -> None:
    """Remove every mark and alias, as if nothing had been delivered yet."""
    for collection in ("processed", "links", "profiles"):
        await remove(world, await world.paths(collection))


async def remove(world: World, paths: Sequence[str]) -> None:
    await world.store.commit([Delete(path) for path in paths], deadline=Deadline.after(5))
