"""Merging: who becomes one person, who stays apart, and what every identifier leads to after it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tagstitch.core.identifier import Identifier, IdentitySettings
from tagstitch.pipeline.backend import Put, Write
from tagstitch.pipeline.deadline import Deadline
from tests.pipeline.world import KEYRING, START, World

WITHOUT_LIMITS = IdentitySettings(limits={}, default_limit=None)


def user(value: str) -> Identifier:
    return Identifier("user_id", value)


def client(value: str) -> Identifier:
    return Identifier("client_id", value)


def message(request_id: str, *identifiers: Identifier, **fields: Any) -> dict[str, Any]:
    named = [{"type": i.type, "value": i.value} for i in identifiers]
    return {"request_id": request_id, "identifiers": named, **fields}


async def profile_of(world: World, identifier: Identifier) -> str | None:
    """Return where an identifier leads, as a process that knows nothing yet finds it."""
    world.restart()
    visitor = await world.finder.find([identifier], now=world.now, deadline=Deadline.after(5))
    return visitor.profile.profile_id if visitor.profile else None


async def living(world: World) -> dict[str, dict[str, Any]]:
    """Return the profiles that are no aliases."""
    found = await world.collection("profiles")
    return {path: fields for path, fields in found.items() if "merged_into" not in fields}


async def aliases_are_of_depth_1(world: World) -> bool:
    found = await world.collection("profiles")
    targets = [fields["merged_into"] for fields in found.values() if "merged_into" in fields]
    return all("merged_into" not in found[f"profiles/{target}"] for target in targets)


class TestTheTableOfCases:
    """Each case on both document stores."""

    @pytest.fixture
    def world(self, place: World) -> World:
        return place

    async def test_switch(self, world: World) -> None:
        jose = await world.put_profile(user("jose"))
        await world.stitch(message("r1", user("jose"), client("c")))

        await world.stitch(message("r2", user("michel"), client("c")))

        assert await profile_of(world, user("michel")) == KEYRING.profile_id(user("michel"))
        assert await profile_of(world, client("c")) == jose
        assert len(await living(world)) == 2

    async def test_alias(self, world: World) -> None:
        """An anonymous visitor logs in with a known address."""
        address = Identifier("email_sha256", "a" * 40 + "0123456789abcdef01234567")
        older = await world.put_profile(address, attributes={"tier": "Gold"})
        world.now += timedelta(hours=1)
        await world.stitch(message("r1", client("c")))
        anonymous = KEYRING.profile_id(client("c"))

        await world.stitch(message("r2", address, client("c"), callback="main"))

        assert (await world.document(f"profiles/{anonymous}"))["merged_into"] == older
        assert await profile_of(world, client("c")) == older
        answer = world.callbacks[-1]["body"]["data"]
        assert answer["reason"] == "PROFILES_MERGED"
        assert answer["profile_id"] == older
        assert answer["attributes"] == {"tier": "Gold"}

    @pytest.mark.parametrize("is_known", [False, True])
    async def test_session_of_another(self, world: World, *, is_known: bool) -> None:
        """The browser's last user was b, now a logs in."""
        await world.stitch(message("r1", user("b"), client("c")))
        if is_known:
            await world.stitch(message("r2", user("a")))

        await world.stitch(message("r3", user("a"), client("c")))

        assert await profile_of(world, user("a")) == KEYRING.profile_id(user("a"))
        assert await profile_of(world, user("b")) == await profile_of(world, client("c"))

    async def test_rewrite(self, world: World) -> None:
        """After a merge every identifier of the merged profile resolves to the survivor."""
        survivor = await world.put_profile(user("u"))
        world.now += timedelta(hours=1)
        devices = [Identifier("device_id", f"device {n}") for n in range(3)]
        await world.stitch(message("r1", client("c"), *devices))

        await world.stitch(message("r2", user("u"), client("c")))

        assert {await profile_of(world, i) for i in (user("u"), client("c"), *devices)} == {
            survivor
        }
        assert await aliases_are_of_depth_1(world)
        for device in devices:
            link = await world.document(f"identifiers/{KEYRING.identifier_key(device)}")
            assert link["profile_id"] == survivor

    async def test_two_logins_in_one_browser(self, world: World) -> None:
        await world.stitch(message("r1", user("a"), client("c")))
        await world.stitch(message("r2", user("b"), client("c")))

        assert await profile_of(world, user("a")) != await profile_of(world, user("b"))

    async def test_family(self, world: World) -> None:
        """Five people share one device."""
        device = Identifier("device_id", "the living room")
        for n in range(5):
            await world.stitch(message(f"r{n}", user(f"person {n}"), device))

        assert len({await profile_of(world, user(f"person {n}")) for n in range(5)}) == 5
        last = await world.document(f"profiles/{KEYRING.profile_id(user('person 4'))}")
        assert KEYRING.identifier_key(device) in last["demoted"]

    async def test_junk(self, world: World) -> None:
        for n in range(1_000):
            await world.stitch(message(f"r{n}", client("undefined")))

        assert await living(world) == {}

    async def test_alias_to_itself(self, world: World) -> None:
        """One identifier named twice is one; no document leads to itself."""
        await world.stitch(message("r1", client("c"), client("c"), user("u"), user("u")))

        [(path, profile)] = (await living(world)).items()
        assert path == f"profiles/{KEYRING.profile_id(user('u'))}"
        assert len(profile["identifiers"]) == 2
        assert len(await world.collection("profiles")) == 2
        assert await aliases_are_of_depth_1(world)

    async def test_duplicate_alias(self, world: World) -> None:
        """A link that is there already is not made again."""
        await world.stitch(message("r1", user("u"), client("c")))
        before, commits = await world.collection("profiles"), world.commits

        await world.stitch(message("r2", user("u"), client("c")))

        assert world.commits == commits
        assert await world.collection("profiles") == before
        assert len(await world.paths("links")) == 1

    async def test_stale_version(self, world: World) -> None:
        """Somebody writes between load and commit: nothing of theirs is lost."""
        profile_id = await world.put_profile(user("u"))
        path, commit = f"profiles/{profile_id}", world.store.commit
        tried = []

        async def write_first(writes: Sequence[Write], *, deadline: Deadline) -> None:
            tried.append(writes)
            if len(tried) == 1:
                theirs = await world.document(path) | {"attributes": {"tier": "Gold"}}
                await commit([Put(path, theirs)], deadline=deadline)
            await commit(writes, deadline=deadline)

        world.store.commit = write_first  # type: ignore[method-assign]
        await world.stitch(message("r1", user("u"), client("c")))

        profile = await world.document(path)
        assert len(tried) == 2
        assert profile["attributes"] == {"tier": "Gold"}
        assert len(profile["identifiers"]) == 2

    async def test_concurrent(self, world: World) -> None:
        """Fifty events at once join the same two profiles."""
        older = await world.put_profile(user("u"))
        await world.put_profile(client("c"), created_at=START + timedelta(hours=1))

        await asyncio.gather(
            *(world.stitch(message(f"r{n}", user("u"), client("c"))) for n in range(50))
        )

        await world.store_audit()
        assert [row["record_type"] for row in await world.rows()].count("identity_merge") == 1
        assert len(await living(world)) == 1
        assert await aliases_are_of_depth_1(world)
        assert await profile_of(world, client("c")) == older
        logged = await world.paths("links")
        assert len([path for path in logged if "~P" in path or "record~" not in path]) == 1

    async def test_merging_each_into_the_other_at_once_ends_in_one(self, world: World) -> None:
        await world.put_profile(user("u"), created_at=START)
        await world.put_profile(client("c"), created_at=START)

        await asyncio.gather(
            world.stitch(message("r1", user("u"), client("c"))),
            world.stitch(message("r2", client("c"), user("u"))),
        )

        assert len(await living(world)) == 1
        assert await aliases_are_of_depth_1(world)


CHAIN = ((0, 1), (2, 3), (1, 2), (1, 2))


@pytest.mark.parametrize("order", [*set(itertools.permutations(CHAIN))])
async def test_a_chain_is_one_person_whatever_the_order(
    place: World, order: Iterable[tuple[int, int]]
) -> None:
    """A-B, C-D, B-C: the same attributes for every order."""
    world = place
    world.identity = WITHOUT_LIMITS
    for n in range(4):
        await world.put_profile(
            client(f"c{n}"),
            created_at=START + timedelta(minutes=n),
            attributes={"n": n, "own": f"of {n}", f"only_{n}": True},
            attribute_times={"own": START - timedelta(days=n)},
        )
    for number, (one, other) in enumerate(order):
        world.now += timedelta(minutes=1)
        await world.stitch(message(f"r{number}", client(f"c{one}"), client(f"c{other}")))

    [(path, profile)] = (await living(world)).items()
    assert path == f"profiles/{KEYRING.profile_id(client('c0'))}"
    assert profile["attributes"] == {
        "n": 3,
        "own": "of 0",
        "only_0": True,
        "only_1": True,
        "only_2": True,
        "only_3": True,
    }
    assert len(profile["identifiers"]) == 4


class TestWhatAMergeKeeps:
    async def test_attributes_follow_their_strategies(self, world: World) -> None:
        world.identity = IdentitySettings(
            merge_strategies={
                "spent": "sum",
                "best": "max",
                "worst": "min",
                "first": "oldest",
                "name": "first_non_empty",
                "tags": "union",
                "plan": "keep_target",
            }
        )
        old = {"spent": 10, "best": 1, "worst": 5, "first": "a", "name": "", "tags": ["x"],
               "plan": "free", "last": "a"}  # fmt: skip
        new = {"spent": 2.5, "best": 7, "worst": 4, "first": "b", "name": "Ann", "tags": ["y", "x"],
               "plan": "pro", "last": "b"}  # fmt: skip
        await world.put_profile(user("u"), attributes=old)
        await world.put_profile(client("c"), attributes=new, created_at=START + timedelta(hours=1))

        await world.stitch(message("r1", user("u"), client("c")))

        [profile] = (await living(world)).values()
        assert profile["attributes"] == {
            "spent": 12.5,
            "best": 7,
            "worst": 4,
            "first": "a",
            "name": "Ann",
            "tags": ["y", "x"],
            "plan": "free",
            "last": "b",
        }

    @pytest.mark.parametrize(
        ("old", "new", "sum_"), [(2**63 - 1, 2**63 - 1, 2.0**64), (1e308, 1.5e308, 1.5e308)]
    )
    async def test_a_sum_that_no_document_holds_does_not_stop_the_merge(
        self, world: World, old: float, new: float, sum_: float
    ) -> None:
        world.identity = IdentitySettings(merge_strategies={"spent": "sum"})
        await world.put_profile(user("u"), attributes={"spent": old})
        await world.put_profile(
            client("c"), attributes={"spent": new}, created_at=START + timedelta(hours=1)
        )

        await world.stitch(message("r1", user("u"), client("c")))

        [profile] = (await living(world)).values()
        assert profile["attributes"] == {"spent": sum_}

    async def test_consent_takes_the_strictest(self, world: World) -> None:
        """Missing counts as not granted."""
        yes, no = {"granted": True, "at": START}, {"granted": False, "at": START}
        await world.put_profile(
            user("u"), consent={"email": yes, "crm": yes, "ads": yes, "calls": no}
        )
        await world.put_profile(
            client("c"),
            consent={"email": yes, "ads": no},
            created_at=START + timedelta(hours=1),
        )

        await world.stitch(message("r1", user("u"), client("c")))

        [profile] = (await living(world)).values()
        granted = {purpose: said["granted"] for purpose, said in profile["consent"].items()}
        assert granted == {"email": True, "ads": False, "calls": False}

    async def test_a_merge_never_grants_a_once_only_offer_again(self, world: World) -> None:
        await world.put_profile(user("u"), caps={"offer": [1.0]}, state={"seen": 1})
        await world.put_profile(
            client("c"), caps={"other": [2.0]}, created_at=START + timedelta(hours=1)
        )

        await world.stitch(message("r1", user("u"), client("c")))

        [profile] = (await living(world)).values()
        assert profile["caps"] == {"offer": [1.0], "other": [2.0]}
        assert profile["state"] == {"seen": 1}

    async def test_receipts_of_the_merged_profile_still_find_their_salt(self, world: World) -> None:
        await world.put_profile(user("u"), salt=b"salt of u")
        merged = await world.put_profile(
            client("c"), salt=b"salt of c", created_at=START + timedelta(hours=1)
        )
        await world.stitch(message("r1", user("u"), client("c")))
        await world.put_profile(client("d"), created_at=START - timedelta(hours=1))

        await world.stitch(message("r2", user("u"), client("d")))

        alias = await world.document(f"profiles/{merged}")
        assert alias["salt"] == b"salt of c"
        assert alias["merged_into"] == KEYRING.profile_id(client("d"))

    async def test_a_denial_of_one_of_them_stops_the_merge(self, world: World) -> None:
        await world.put_profile(user("u"))
        await world.put_profile(
            client("c"), consent={"analytics_storage": {"granted": False, "at": START}}
        )

        await world.stitch(message("r1", user("u"), client("c")))

        assert len(await living(world)) == 2


async def test_a_link_that_somebody_wrote_by_hand_stops_nobody(world: World) -> None:
    links = {KEYRING.identifier_key(user("u")): True, KEYRING.identifier_key(client("c")): "yes"}
    await world.put_profile(user("u"), identifiers=links)

    assert await profile_of(world, user("u")) == KEYRING.profile_id(user("u"))
    await world.stitch(message("r1", user("u"), client("d")))

    assert await profile_of(world, client("d")) == KEYRING.profile_id(user("u"))


class TestLimits:
    async def test_a_sixth_address_of_a_year_stays_apart(self, world: World) -> None:
        addresses = [
            Identifier("email_sha256", f"{n:02d}" + "0123456789abcdef" * 3 + "01234567890123")
            for n in range(6)
        ]
        for n, address in enumerate(addresses):
            world.now += timedelta(days=1)
            await world.stitch(message(f"r{n}", user("u"), address, client("c")))

        profile = await world.document(f"profiles/{KEYRING.profile_id(user('u'))}")
        keys = [KEYRING.identifier_key(address) for address in addresses]
        assert set(keys[:5]) < set(profile["identifiers"])
        assert keys[5] in profile["demoted"]
        assert KEYRING.identifier_key(client("c")) in profile["identifiers"]

    async def test_a_year_later_there_is_room_again(self, world: World) -> None:
        for n in range(6):
            address = Identifier(
                "email_sha256", f"{n:02d}" + "0123456789abcdef" * 3 + "01234567890123"
            )
            at = START + timedelta(days=100 * n)
            world.now = at
            await world.put_profile(
                user("u"),
                **await world.document(f"profiles/{KEYRING.profile_id(user('u'))}")
                | {"expires_at": at + timedelta(days=30)},
            )
            await world.stitch(message(f"r{n}", user("u"), address, occurred_at=at.isoformat()))

        profile = await world.document(f"profiles/{KEYRING.profile_id(user('u'))}")
        assert len(profile["identifiers"]) == 7

    async def test_an_event_of_the_year_1_is_one_like_any_other(self, world: World) -> None:
        unset = "0001-01-01T00:00:00Z"  # what some languages send for a time that nobody set
        await world.stitch(message("r1", user("u"), client("c"), occurred_at=unset))

        assert await profile_of(world, client("c")) == KEYRING.profile_id(user("u"))

    async def test_no_profile_has_more_than_fifty_identifiers(self, world: World) -> None:
        world.identity = WITHOUT_LIMITS
        for n in range(60):
            await world.stitch(message(f"r{n}", user("u"), client(f"c{n}")))

        profile = await world.document(f"profiles/{KEYRING.profile_id(user('u'))}")
        assert len(profile["identifiers"]) == 50
        assert len(profile["demoted"]) == 11

    async def test_a_forged_hit_merges_nobody(self, world: World) -> None:
        """A browser claims another's user id and address: only its own cookie counts."""
        await world.put_profile(user("victim"), attributes={"tier": "Gold"})
        await world.put_profile(client("thief"))

        await world.stitch(
            message("r1", user("victim"), client("thief"), asserted=False, callback="main")
        )

        assert len(await living(world)) == 2
        assert world.callbacks[0]["body"]["data"]["attributes"] == {}


EDGES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=14)


@given(EDGES)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_people_are_the_components_of_the_graph(
    tmp_path_factory: pytest.TempPathFactory, edges: list[tuple[int, int]]
) -> None:
    """Without limits identity is what a union-find says."""
    world = World(tmp_path_factory.mktemp("graph"), identity=WITHOUT_LIMITS)

    async def run() -> dict[int, str | None]:
        for number, (one, other) in enumerate(edges):
            world.now += timedelta(seconds=1)
            await world.stitch(message(f"r{number}", client(f"c{one}"), client(f"c{other}")))
        assert await aliases_are_of_depth_1(world)
        nodes = {node for edge in edges for node in edge}
        return {node: await profile_of(world, client(f"c{node}")) for node in nodes}

    found = asyncio.run(run())
    world.database.close()
    roots = components(edges)
    assert all(profile is not None for profile in found.values())
    for one, other in itertools.combinations(found, 2):
        assert (found[one] == found[other]) == (roots[one] == roots[other])


NAMED = st.one_of(
    st.builds(lambda n: user(f"user {n}"), st.integers(0, 3)),
    st.builds(lambda n: Identifier("email_sha256", f"{n:x}123456789abcdef" * 4), st.integers(0, 3)),
    st.builds(lambda n: client(f"client {n}"), st.integers(0, 7)),
)
REQUESTS = st.lists(st.lists(NAMED, min_size=1, max_size=4), min_size=1, max_size=12)


@given(REQUESTS)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_with_limits_nobody_is_two_users_and_everybody_is_found(
    tmp_path_factory: pytest.TempPathFactory, requests: list[list[Identifier]]
) -> None:
    world = World(tmp_path_factory.mktemp("graph"))

    async def run() -> None:
        for number, named in enumerate(requests):
            world.now += timedelta(seconds=1)
            await world.stitch(message(f"r{number}", *named))
        assert await aliases_are_of_depth_1(world)
        homes = {
            KEYRING.identifier_key(each): await profile_of(world, each)
            for each in itertools.chain.from_iterable(requests)
        }
        for path, fields in (await living(world)).items():
            types = [key.partition(":")[0] for key in fields["identifiers"]]
            assert types.count("user_id") <= 1
            assert max(types.count("client_id"), types.count("email_sha256")) <= 5
            assert {homes[key] for key in fields["identifiers"]} == {path.partition("/")[2]}

    asyncio.run(run())
    world.database.close()


def components(edges: Iterable[tuple[int, int]]) -> Mapping[int, int]:
    """Return node -> the least node of its component."""
    parent: dict[int, int] = {}

    def find(node: int) -> int:
        parent.setdefault(node, node)
        while parent[node] != node:
            node = parent[node]
        return node

    for one, other in edges:
        low, high = sorted((find(one), find(other)))
        parent[high] = low
    return {node: find(node) for node in parent}
