"""Rules are published whole, in order, and a broken one harms only itself."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tagstitch.adapters.sqlite_database import SqliteDatabase
from tagstitch.adapters.sqlite_documents import SqliteDocuments
from tagstitch.core.errors import Conflict, InvalidInput, Unavailable
from tagstitch.core.rule_book import compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.pipeline import rule_publication
from tagstitch.pipeline.backend import Delete, Put, Write
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.rule_bundle import load_bundle_of_version
from tagstitch.pipeline.rule_publication import (
    POINTER_PATH,
    Publication,
    RulePointer,
    load_bundle,
    load_definitions,
    load_pointer,
    publish_edited_rules,
    publish_rules,
    publish_stored_rules,
)

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)

ORDERS = {"event": "purchase", "operation": "count"}
DROP = {
    "target_event_name": "view_item",
    "conditions": {"item_id": {"in": ["A"]}},
    "action_type": "drop_event",
    "action_details": {},
    "priority": 5,
    "is_active": True,
}
RENAME = {
    "target_event_name": "purchase",
    "conditions": {"value": {"lessThan": 10}},
    "action_type": "rename_event",
    "action_details": {"new_event_name": "micro_purchase"},
    "priority": 10,
    "is_active": True,
}
BROKEN = {**RENAME, "conditions": {"value": {"lessThen": 10}}}


def soon() -> Deadline:
    return Deadline.after(10)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteDocuments]:
    database = SqliteDatabase(tmp_path)
    yield SqliteDocuments(database)
    database.close()


async def publish(store: SqliteDocuments, **event_rules: Mapping[str, Any]) -> Publication:
    return await publish_rules(store, RuleDefinitions(event_rules), NOW, soon())


async def pointer_of(store: SqliteDocuments) -> RulePointer:
    pointer = await load_pointer(store, soon())
    assert pointer is not None
    return pointer


async def published(store: SqliteDocuments) -> RuleDefinitions:
    return await load_bundle(store, await pointer_of(store), soon())


async def test_what_was_published_is_loaded(store: SqliteDocuments) -> None:
    await publish(store, drop=DROP, rename=RENAME)

    pointer = await pointer_of(store)

    assert await published(store) == RuleDefinitions({"drop": DROP, "rename": RENAME})
    assert await load_definitions(store, soon()) == await published(store)
    assert (
        pointer.version
        == compile_rule_book(RuleDefinitions({"drop": DROP, "rename": RENAME})).version
    )
    rest = {"personalization_rules": 0, "experiments": 0, "audiences": 0, "broken": 0}
    assert pointer.counts == {"event_rules": 2, **rest}
    assert pointer.published_at == NOW


async def test_nothing_published_means_no_pointer(store: SqliteDocuments) -> None:
    assert await load_pointer(store, soon()) is None


async def test_publishing_the_same_again_writes_nothing(store: SqliteDocuments) -> None:
    await publish(store, drop=DROP)
    before = await store.get(POINTER_PATH, deadline=soon())

    again = await publish(store, drop=dict(reversed(DROP.items())))

    assert not again.is_new
    assert await store.get(POINTER_PATH, deadline=soon()) == before


async def test_true_replaces_one(store: SqliteDocuments) -> None:
    await publish(store, rename=RENAME | {"conditions": {"value": 1}})

    await publish(store, rename=RENAME | {"conditions": {"value": True}})

    stored = await load_definitions(store, soon())
    assert stored.event_rules["rename"]["conditions"]["value"] is True


async def test_removed_documents_are_gone_from_store_and_bundle(store: SqliteDocuments) -> None:
    await publish(store, drop=DROP, rename=RENAME)

    await publish_rules(
        store, RuleDefinitions({"drop": DROP}), NOW, soon(), removed=["event_rules/rename"]
    )

    assert (await published(store)).event_rules.keys() == {"drop"}
    assert (await load_definitions(store, soon())).event_rules.keys() == {"drop"}


async def test_a_broken_edit_keeps_the_last_valid_version(store: SqliteDocuments) -> None:
    await publish(store, drop=DROP, rename=RENAME)
    await store.commit([Put("event_rules/rename", BROKEN)], deadline=soon())

    publication = await publish_stored_rules(store, NOW, soon())

    assert [rule.rule_id for rule in publication.broken] == ["rename"]
    assert publication.kept == ["rename"]
    assert (await published(store)).event_rules == {"drop": DROP, "rename": RENAME}
    assert (await pointer_of(store)).counts["broken"] == 1


async def test_a_broken_audience_keeps_its_last_valid_version_and_so_do_its_rules(
    store: SqliteDocuments,
) -> None:
    drop = {**DROP, "conditions": {"profile": {"inAudience": "vip"}}}
    vip = {"conditions": {"tier": "Gold"}}
    await store.commit([Put("event_rules/drop", drop), Put("audiences/vip", vip)], deadline=soon())
    await publish_stored_rules(store, NOW, soon())
    await store.commit([Put("audiences/vip", {"conditions": {"tier": {}}})], deadline=soon())

    publication = await publish_stored_rules(store, NOW, soon())
    in_force = await published(store)

    assert {(rule.kind, rule.rule_id) for rule in publication.broken} == {
        ("audience", "vip"),
        ("event", "drop"),
    }
    assert (in_force.audiences, in_force.event_rules) == ({"vip": vip}, {"drop": drop})


async def test_a_new_broken_rule_is_left_out_and_the_rest_is_published(
    store: SqliteDocuments,
) -> None:
    await store.commit(
        [Put("event_rules/rename", BROKEN), Put("event_rules/drop", DROP)], deadline=soon()
    )

    publication = await publish_stored_rules(store, NOW, soon())

    assert publication.is_new
    assert publication.kept == []
    assert (await published(store)).event_rules == {"drop": DROP}


async def test_a_mended_rule_is_published(store: SqliteDocuments) -> None:
    await publish(store, rename=BROKEN)
    await store.commit([Put("event_rules/rename", RENAME)], deadline=soon())

    publication = await publish_stored_rules(store, NOW, soon())

    assert (await published(store)).event_rules == {"rename": RENAME}
    assert publication.pointer.counts["broken"] == 0


async def test_an_emptied_store_is_not_published_by_accident(store: SqliteDocuments) -> None:
    await publish(store, drop=DROP)
    await store.commit([Delete("event_rules/drop")], deadline=soon())

    with pytest.raises(InvalidInput):
        await publish_stored_rules(store, NOW, soon())
    assert (await published(store)).event_rules == {"drop": DROP}

    await publish_stored_rules(store, NOW, soon(), allow_empty=True)
    assert await published(store) == RuleDefinitions({})


async def test_a_stored_time_becomes_text(store: SqliteDocuments) -> None:
    rule = RENAME | {"conditions": {"birthday": {"equals": NOW}}}
    await store.commit([Put("event_rules/rename", rule)], deadline=soon())

    await publish_stored_rules(store, NOW, soon())

    rules = (await published(store)).event_rules
    assert rules["rename"]["conditions"]["birthday"]["equals"] == "2026-11-21T20:00:00Z"


def noisy_rules() -> dict[str, Any]:
    noise = random.Random(1)
    return {f"rule{n}": RENAME | {"description": noise.randbytes(3000).hex()} for n in range(700)}


async def test_large_sets_are_published_in_parts(store: SqliteDocuments) -> None:
    rules = noisy_rules()

    await publish(store, **rules)

    pointer = await pointer_of(store)
    assert pointer.parts > 1
    assert await published(store) == RuleDefinitions(rules)
    parts = await store.list_documents("rule_bundles", deadline=soon())
    assert all(len(part.fields["content"]) < 1_000_000 for part in parts)


async def test_every_published_version_can_be_loaded_again(store: SqliteDocuments) -> None:
    versions = []
    for limit in (1, 2, 3, 4):
        rule = RENAME | {"conditions": {"value": {"lessThan": limit}}}
        versions.append((await publish(store, rename=rule)).pointer.version)

    found = [await load_bundle_of_version(store, version, soon()) for version in versions]

    limits = [f.event_rules["rename"]["conditions"]["value"]["lessThan"] for f in found]
    assert limits == [1, 2, 3, 4]
    with pytest.raises(InvalidInput):
        await load_bundle_of_version(store, "sha256:" + "0" * 64, soon())


async def test_a_version_in_parts_is_loaded_without_its_pointer(store: SqliteDocuments) -> None:
    rules = noisy_rules()
    version = (await publish(store, **rules)).pointer.version

    assert (await load_bundle_of_version(store, version, soon())).event_rules == rules


async def test_the_version_is_the_hash_of_the_bundle(store: SqliteDocuments) -> None:
    pointer = (await publish(store, drop=DROP)).pointer

    assert pointer.version == f"sha256:{pointer.hash}"
    assert compile_rule_book(await published(store)).version == pointer.version


async def test_traits_and_what_views_protect_are_published_with_the_rules(
    store: SqliteDocuments,
) -> None:
    writes = [
        Put("views/default", {"protected": ["user_loyalty_tier", 5, ""]}),
        Put("views/odd", {"protected": "text"}), Put("traits/orders", {"kind": "count"}),
        Put("event_rules/drop", DROP),
    ]  # fmt: skip
    await store.commit(writes, deadline=soon())

    await publish_stored_rules(store, NOW, soon())
    from_store = (await published(store)).protected
    await publish(store, drop=DROP, rename=RENAME)

    assert from_store == (await published(store)).protected == ("orders", "user_loyalty_tier")


async def test_traits_are_written_with_the_rules_and_published_by_name(
    store: SqliteDocuments,
) -> None:
    definitions = RuleDefinitions({"drop": DROP}, traits={"orders": ORDERS, "broken": {}})

    first = await publish_rules(store, definitions, NOW, soon())
    second = await publish_rules(
        store, RuleDefinitions({"drop": DROP}), NOW, soon(), removed=["traits/broken"]
    )

    assert (await store.get("traits/orders", deadline=soon())) is not None
    assert first.traits.names == {"orders"}
    assert [trait.rule_id for trait in first.traits.broken] == ["broken"]
    assert first.pointer.broken == 0
    assert (await published(store)).traits == {}
    assert (await published(store)).protected == ("orders",)
    assert second.traits.names == {"orders"}
    assert second.traits.broken == ()


async def test_another_trait_of_the_same_name_needs_no_new_version(
    store: SqliteDocuments,
) -> None:
    await publish_rules(store, RuleDefinitions(traits={"orders": ORDERS}), NOW, soon())
    paused = RuleDefinitions(traits={"orders": {**ORDERS, "is_active": False}})

    publication = await publish_rules(store, paused, NOW, soon())

    assert publication.is_new is False
    stored = await store.get("traits/orders", deadline=soon())
    assert stored is not None
    assert stored.fields["is_active"] is False


async def test_a_store_that_lost_most_of_its_rules_is_not_published_by_accident(
    store: SqliteDocuments,
) -> None:
    await publish(store, **{f"r{n}": DROP for n in range(20)})
    await store.commit([Delete(f"event_rules/r{n}") for n in range(11)], deadline=soon())

    with pytest.raises(InvalidInput):
        await publish_stored_rules(store, NOW, soon())
    assert len((await published(store)).event_rules) == 20

    await publish_stored_rules(store, NOW, soon(), allow_empty=True)
    assert len((await published(store)).event_rules) == 9


async def test_a_large_set_is_looked_through_less_often(
    store: SqliteDocuments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule_publication, "SCANNED_PER_MINUTE", 1)
    await publish(store, one=DROP, two=DROP, three=DROP)
    await store.commit([Put("event_rules/four", DROP)], deadline=soon())
    start = datetime.fromtimestamp(3 * 60 * 1_000_000, UTC)

    seen = [
        await publish_edited_rules(store, start + timedelta(minutes=minute), soon())
        for minute in (1, 2, 3)
    ]

    assert [publication and publication.is_new for publication in seen] == [None, None, True]


@pytest.mark.parametrize("unreadable", [float("nan"), [[float("inf")]]])
async def test_what_json_cannot_say_breaks_its_own_rule_only(
    store: SqliteDocuments, unreadable: Any
) -> None:
    broken = RENAME | {"conditions": {"value": {"equals": unreadable}}}

    publication = await publish_rules(
        Unwritten(store), RuleDefinitions({"drop": DROP, "rename": broken}), NOW, soon()
    )

    assert [rule.rule_id for rule in publication.broken] == ["rename"]
    assert (await published(store)).event_rules == {"drop": DROP}


class Unwritten:
    """A real store that keeps bundles and pointers and no definitions."""

    def __init__(self, store: SqliteDocuments) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, writes: Sequence[Write], *, deadline: Deadline) -> None:
        kept = [write for write in writes if not write.path.startswith("event_rules/")]
        await self._store.commit(kept, deadline=deadline)


async def test_going_back_and_forth_never_loses_the_published_bundle(
    store: SqliteDocuments,
) -> None:
    for name in ("one", "two", "one", "three", "one", "one", "two"):
        details = {"new_event_name": name}
        await publish(store, rename=RENAME | {"action_details": details})

        rules = (await published(store)).event_rules
        assert rules["rename"]["action_details"] == details


async def test_a_damaged_bundle_is_unavailable_not_wrong(store: SqliteDocuments) -> None:
    await publish(store, drop=DROP)
    pointer = await pointer_of(store)
    path = f"rule_bundles/{pointer.hash}"
    for fields in ({"content": b"damaged"}, {"content": "text"}, {}):
        await store.commit([Put(path, fields)], deadline=soon())

        with pytest.raises(Unavailable):
            await load_bundle(store, pointer, soon())


class InterruptedStore:
    """A real store whose commits stop after some, as when the process dies."""

    def __init__(self, store: SqliteDocuments, commits: int) -> None:
        self._store = store
        self._left = commits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, writes: Sequence[Write], *, deadline: Deadline) -> None:
        if self._left == 0:
            raise Unavailable("firestore")
        self._left -= 1
        await self._store.commit(writes, deadline=deadline)


@pytest.mark.parametrize("commits", [0, 1, 2])
async def test_an_interrupted_publication_leaves_the_old_one(
    store: SqliteDocuments, commits: int
) -> None:
    await publish(store, drop=DROP)
    interrupted: Any = InterruptedStore(store, commits)

    with pytest.raises(Unavailable):
        await publish_rules(
            interrupted, RuleDefinitions({"drop": DROP, "rename": RENAME}), NOW, soon()
        )

    assert (await published(store)).event_rules == {"drop": DROP}
    await publish(store, drop=DROP, rename=RENAME)
    assert (await published(store)).event_rules == {"drop": DROP, "rename": RENAME}


class SlowStore:
    """A real store whose reader is overtaken by another publication after its first page."""

    def __init__(self, store: SqliteDocuments) -> None:
        self._store = store
        self._overtaken = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def list_documents(self, collection: str, **options: Any) -> Any:
        found = await self._store.list_documents(collection, **options)
        if not self._overtaken:
            self._overtaken = True
            await publish(self._store, drop=DROP, rename=RENAME)
        return found


async def test_an_overtaken_publication_does_not_put_old_rules_back(
    store: SqliteDocuments,
) -> None:
    await publish(store, drop=DROP)
    await store.commit([Put("event_rules/drop", DROP | {"priority": 6})], deadline=soon())
    slow: Any = SlowStore(store)

    with pytest.raises(Conflict):
        await publish_stored_rules(slow, NOW, soon())

    assert (await published(store)).event_rules.keys() == {"drop", "rename"}
