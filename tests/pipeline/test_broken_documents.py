"""Documents that somebody edited by hand: no request and no command fails on what they say.

A person lived here: a customer with two merged profiles, computed traits in several contributions,
uses of caps, variants, a consent. Something in one of the documents becomes something else, and
then everything is asked of the person. What cannot be read counts as not said.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tagstitch.adapters.duckdb_audit_queries import DuckDbAuditQueries
from tagstitch.core.document_id import is_document_id
from tagstitch.core.errors import InvalidInput
from tagstitch.core.identifier import Identifier
from tagstitch.core.profile_traits import compile_traits
from tagstitch.pipeline.backend import Document, DocumentStore, Put, Write
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.export_person import export_person
from tagstitch.pipeline.link_log import entries_of, home_as_of
from tagstitch.pipeline.person import Asked
from tagstitch.pipeline.quarantine_review import QuarantineReview
from tagstitch.pipeline.split_profiles import ProfileSplitter
from tests.pipeline.erasing import erase, load, look_up
from tests.pipeline.lives import Life, everything, traces
from tests.pipeline.test_merges import client, message, user
from tests.pipeline.world import KEYRING, START, World

STRANGER: Final = client("stranger")
SOON: Final = 20.0

READ_IN_PROFILES: Final = (
    "traits", "contributors", "event_ids", "identifiers", "demoted", "caps", "kept_apart",
    "attributes", "attribute_times", "state", "assignments", "consent", "merges", "former_ids",
    "created_at", "updated_at", "expires_at", "salt", "merged_into",
)  # fmt: skip


def deadline() -> Deadline:
    return Deadline.after(SOON)


async def lived(world: World) -> Life:
    ada = Life(world, "ada")
    await ada.live()
    device = Identifier("device_id", "shared")
    await world.stitch(message("bob-login", user("bob"), device))
    await world.stitch(message("ada-tv", ada.user, device))
    await world.stitch(message("stranger", STRANGER, event={"event_name": "page_view"}))
    path = f"profiles/{KEYRING.profile_id(ada.user)}"
    more = {"kept_apart": {KEYRING.identifier_key(client("left")): START}, "former_ids": ["card-1"]}
    alias = {"merged_into": KEYRING.profile_id(ada.user)}
    document = await world.document(path)
    puts = [Put(path, document | more), Put("profiles/card-1", alias)]
    await world.store.commit(puts, deadline=deadline())
    await world.store_audit()
    return ada


async def merge(world: World, ada: Life) -> None:
    await world.stitch(message("late-merge", ada.user, STRANGER))
    assert [row for row in await rows(world, "late-merge") if row["outcome"] != "dead_letter"]


async def link(world: World, ada: Life) -> None:
    await world.stitch(message("late-link", ada.user, Identifier("device_id", "new")))
    assert await rows(world, "late-link")


async def count_an_event(world: World, ada: Life) -> None:
    del world
    await ada.view_page("late", ada.user, ada.browser)
    await ada.view_page("later", ada.browser)


async def deny(world: World, ada: Life) -> None:
    await world.stitch(message("late-denial", ada.user, consent={"email": False}))


async def look(world: World, ada: Life) -> None:
    for identifier in ada.identifiers:
        await look_up(world, identifier)


async def decide(world: World, ada: Life) -> None:
    del world
    answer = await ada.browse("late", user_id=ada.name)
    assert answer["event"] is not None


async def take_out(world: World, ada: Life) -> None:
    await splitter(world).take_out(ada.keys[2], deadline=deadline())


async def undo(world: World, ada: Life) -> None:
    merges = [row for row in await world.rows() if row["record_type"] == "identity_merge"]
    await splitter(world).undo_merge(merges[0]["record_id"], deadline=deadline())
    del ada


async def import_a_line(world: World, ada: Life) -> None:
    await load(world, identifiers={"user_id": [ada.name]}, attributes={"tier": "Gold"})
    await load(world, profile_id="card-1", identifiers={}, attributes={"tier": "Gold"})


async def tell_the_past(world: World, ada: Life) -> None:
    home = KEYRING.profile_id(ada.user)
    await entries_of(world.store, home, deadline=deadline())
    for key in ada.keys:
        await home_as_of(
            world.store,
            key,
            home,
            START,
            kept_since=START - timedelta(days=400),
            deadline=deadline(),
        )


async def review(world: World, ada: Life) -> None:
    reviewer = QuarantineReview(world.backend, KEYRING, world.audit)
    await reviewer.held(deadline=deadline())
    await reviewer.block(ada.keys[2], deadline=deadline())
    await reviewer.release(ada.keys[2], deadline=deadline())


async def export(world: World, ada: Life) -> None:
    queries = DuckDbAuditQueries(world.database, world.audit_rows, dataset="tagstitch")
    backend = replace(world.backend, audit_queries=queries)
    await export_person(
        backend, KEYRING, Asked.by_identifier(ada.user, KEYRING), deadline=deadline()
    )


async def erase_ada(world: World, ada: Life) -> None:
    await erase(world, ada.user)


COMMANDS: Mapping[str, Callable[[World, Life], Awaitable[None]]] = {
    "a merge": merge,
    "a link": link,
    "an event that counts for traits": count_an_event,
    "a denial": deny,
    "a lookup": look,
    "a decision": decide,
    "taking an identifier out": take_out,
    "undoing the merge": undo,
    "an import": import_a_line,
    "asking the log": tell_the_past,
    "a review": review,
    "an export": export,
    "an erasure": erase_ada,
}


@dataclass
class LegalPaths:
    """A store that refuses paths which Firestore refuses."""

    store: DocumentStore

    async def get(self, path: str, *, deadline: Deadline) -> Document | None:
        self._check(path)
        return await self.store.get(path, deadline=deadline)

    async def get_many(self, paths: Sequence[str], *, deadline: Deadline) -> Mapping[str, Document]:
        self._check(*paths)
        return await self.store.get_many(paths, deadline=deadline)

    async def commit(self, writes: Sequence[Write], *, deadline: Deadline) -> None:
        self._check(*(write.path for write in writes))
        await self.store.commit(writes, deadline=deadline)

    async def list_documents(self, collection: str, **options: Any) -> Sequence[Document]:
        if options.get("after"):
            self._check(options["after"])
        return await self.store.list_documents(collection, **options)

    def _check(self, *paths: str) -> None:
        for path in paths:
            collection, _, document_id = path.partition("/")
            assert collection.isidentifier(), path
            assert is_document_id(document_id), path


def splitter(world: World) -> ProfileSplitter:
    return ProfileSplitter(
        world.backend, KEYRING, audit=world.audit, definitions=compile_traits(world.traits)
    )


async def rows(world: World, request_id: str) -> list[Mapping[str, Any]]:
    await world.store_audit()
    return [row for row in await world.rows() if row["request_id"] == request_id]


OTHERS = ("contributions", "links", "identifiers", "quarantine")

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.sampled_from(["", "0", "ada", "client_id:x", "a/b", "client_id:a/b", "..", "__a__"]),
    st.sampled_from([b"", b"x", b"0123456789ab"]),
    st.sampled_from(
        [START, datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)]
    ),
)
NAMES = st.sampled_from(["a", "0", "client_id:x", "user_id:a/b", "..", "parts"])
MAPS = st.recursive(
    st.dictionaries(NAMES, SCALARS, max_size=3),
    lambda inner: st.dictionaries(NAMES, st.one_of(inner, st.lists(inner, max_size=2)), max_size=2),
    max_leaves=4,
)
GARBAGE = st.one_of(SCALARS, MAPS, st.lists(st.one_of(SCALARS, MAPS), max_size=3))


Place = tuple[str | int, ...]


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Yield every place in a document, from the fields down to the last value."""
    if at:
        yield at
    inside: Any = ()
    if isinstance(value, Mapping):
        inside = value.items()
    elif isinstance(value, list):
        inside = enumerate(value)
    for name, each in inside:
        yield from places(each, (*at, name))


def edited(value: Any, at: Place, garbage: Any) -> Any:
    """Return the document with garbage in one place; None for something that is taken away."""
    if not at:
        return garbage
    name, *inside = at
    if isinstance(value, list):
        new = edited(value[int(name)], tuple(inside), garbage)
        new = {"a": new} if isinstance(new, list) else new  # no store holds lists of lists
        return [*value[: int(name)], new, *value[int(name) + 1 :]]
    if not inside and garbage is None:
        return {each: value[each] for each in value if each != name}
    return {**value, name: edited(value[name], tuple(inside), garbage)}


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, datetime]:
    """A folder in which a person has lived, and the time at which it was left."""
    folder = tmp_path_factory.mktemp("lived")
    world = World(folder)
    asyncio.run(lived(world))
    world.database.close()
    return folder, world.now


async def run(world: World, command: str, path: str, fields: Mapping[str, Any]) -> None:
    ada = Life(world, "ada")
    await world.store.commit([Put(path, dict(fields))], deadline=deadline())
    world.now += timedelta(hours=1)
    try:
        await COMMANDS[command](world, ada)
    except InvalidInput:
        return  # what it refuses with a sentence, the operator can read
    await world.sweep()


@pytest.mark.parametrize("command", COMMANDS)
@given(data=st.data())
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_nothing_fails_on_a_document_that_somebody_edited(
    past: tuple[Path, datetime],
    tmp_path_factory: pytest.TempPathFactory,
    command: str,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("edited")
    shutil.copytree(past[0], folder, dirs_exist_ok=True)
    world = World(folder, now=past[1])
    world.store = LegalPaths(world.store)
    home = f"profiles/{KEYRING.profile_id(user('ada'))}"

    async def edit_and_run() -> None:
        of = data.draw(st.sampled_from([home, home, home, *OTHERS]), label="of")
        path = of if of == home else data.draw(st.sampled_from(await world.paths(of)), label="path")
        document = await world.document(path)
        known = [at for at in places(document) if of != home or at[0] in READ_IN_PROFILES]
        at = data.draw(st.sampled_from(known), label="at")
        await run(world, command, path, edited(document, at, data.draw(GARBAGE, label="garbage")))

    asyncio.run(edit_and_run())
    world.database.close()


class TestBrokenTraits:
    """What can be read is merged and divided; the record says that something was left out."""

    @staticmethod
    async def break_in(world: World, path: str) -> None:
        document = await world.document(path)
        pages = {**document["traits"]["pages"], "parts": {"0": "nonsense"}}
        new = document | {"traits": document["traits"] | {"pages": pages}}
        await world.store.commit([Put(path, new)], deadline=deadline())

    async def test_a_split_divides_the_others(self, world: World) -> None:
        ada = await lived(world)
        await self.break_in(world, f"contributions/{ada.keys[1]}")

        done = await splitter(world).take_out(ada.keys[2], deadline=deadline())

        assert done.left_out == ("pages",)
        assert done.to_json()["left_out"] == ["pages"]
        await world.store_audit()
        [row] = [row for row in await world.rows() if row["record_type"] == "identity_split"]
        assert row["degraded"] == ["traits"]
        stays = await world.document(f"profiles/{done.stays}")
        assert stays["traits"]["pages"]["parts"] == {"0": 2}  # what the user's own events added
        assert stays["traits"]["last_page"]["parts"]["0"][1] == ada.trace

    @pytest.mark.parametrize("broken", ["survivor", "merged"])
    async def test_a_merge_keeps_what_the_other_profile_counted(
        self, world: World, broken: str
    ) -> None:
        ada = await lived(world)
        home, other = (KEYRING.profile_id(each) for each in (ada.user, STRANGER))
        await self.break_in(world, f"profiles/{home if broken == 'survivor' else other}")

        await world.stitch(message("late-merge", ada.user, STRANGER))

        [row] = await rows(world, "late-merge")
        assert (row["record_type"], row["degraded"]) == ("identity_merge", ["traits"])
        merged = await world.document(f"profiles/{home}")
        counted = {"survivor": 1, "merged": 3}[broken]
        assert merged["traits"]["pages"]["parts"] == {"0": counted}

    async def test_where_nothing_is_broken_nothing_is_said(self, world: World) -> None:
        ada = await lived(world)

        await world.stitch(message("late-merge", ada.user, STRANGER))
        done = await splitter(world).take_out(ada.keys[2], deadline=deadline())

        assert "left_out" not in done.to_json()
        assert [row["degraded"] for row in await rows(world, "late-merge")] == [[]]


CUT: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "empty": lambda _: {},
    "without its profile": lambda entry: {**entry, "profile_id": 7},
    "without its kind": lambda entry: {n: v for n, v in entry.items() if n != "kind"},
    "without its time": lambda entry: {**entry, "committed_at": "yesterday"},
    "a text in place of the profiles": lambda entry: {**entry, "merged": "x", "survivor": "x"},
    "a number in place of a profile": lambda entry: {
        **entry, "merged": dict.fromkeys(entry.get("merged", {}), 7),
    },
    "numbers in place of the keys": lambda entry: {**entry, "linked": 3, "moved": 4},
    "a record that cannot be": lambda entry: {**entry, "record_id": "a/b", "survivor": 1},
}  # fmt: skip


class TestDamagedLinks:
    @pytest.mark.parametrize("damage", CUT)
    async def test_an_erasure_gets_through_and_says_what_it_met(
        self, world: World, damage: str
    ) -> None:
        ada = await lived(world)
        entries = {
            path: fields
            for path, fields in (await world.collection("links")).items()
            if path.startswith(f"links/{KEYRING.profile_id(ada.user)}~")
        }
        cut = {path: CUT[damage](fields) for path, fields in entries.items()}
        puts = [Put(path, fields) for path, fields in cut.items()]
        await world.store.commit(puts, deadline=deadline())

        result = await erase(world, ada.user)

        counts = result.journal.counts
        assert 1 <= counts["damaged_links"] <= sum(cut[path] != entries[path] for path in entries)
        assert counts.get("links", 0) + counts["damaged_links"] >= len(entries)
        await world.store_audit()
        left = traces(await everything(world), ada.trace)
        assert left == []
        assert "profiles/card-1" not in await world.paths("profiles")

    async def test_an_unreadable_entry_of_a_log_that_one_left_goes_too(self, world: World) -> None:
        ada = await lived(world)
        merges = [row for row in await world.rows() if row["record_type"] == "identity_merge"]
        done = await splitter(world).undo_merge(merges[0]["record_id"], deadline=deadline())
        log = await world.collection("links")
        [path] = [each for each, fields in log.items() if fields.get("kind") == "merge"]
        old = next(iter(log[path]["merged"].values()))
        cut = Put(path, log[path] | {"merged": [old]})
        await world.store.commit([cut], deadline=deadline())

        await erase(world, ada.browser)

        assert done.leaves in path or path.startswith(f"links/{done.stays}~")
        assert path not in await world.paths("links")
