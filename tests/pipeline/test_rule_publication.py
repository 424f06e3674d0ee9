"""Rules are published whole, in order, and a broken one harms only itself."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tagstitch.adapters.sqlite_database import SqliteDatabase
from tagstitch.adapters.sqlite_documents import SqliteDocuments
from tagstitch.core.errors import Conflict, InvalidInput, Unavailable
from tagstitch.core.rule_book import compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.pipeline.backend import Delete, Put, Write
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.rule_publication import (
    POINTER_PATH,
    Publication,
    RulePointer,
    load_bundle,
    load_definitions,
    load_pointer,
    publish_rules,
    publish_stored_rules,
)

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)

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


async def test_large_sets_are_published_in_parts(store: SqliteDocuments) -> None:
    noise = random.Random(1)
    rules = {f"rule{n}": RENAME | {"description": noise.randbytes(3000).hex()} for n in range(700)}

    await publish(store, **rules)

    pointer = await pointer_of(store)
    assert pointer.parts > 1
    assert await published(store) == RuleDefinitions(rules)
    parts = await store.list_documents("rule_bundles", deadline=soon())
    assert all(len(part.fields["content"]) < 1_000_000 for part in parts)


async def test_the_bundle_before_stays_readable_and_older_ones_go(store: SqliteDocuments) -> None:
    pointers = []
    for limit in (1, 2, 3, 4):
        await publish(store, rename=RENAME | {"conditions": {"value": {"lessThan": limit}}})
        pointers.append(await pointer_of(store))

    await load_bundle(store, pointers[-2], soon())
    with pytest.raises(Unavailable):
        await load_bundle(store, pointers[0], soon())
    assert len(await store.list_documents("rule_bundles", deadline=soon())) == 2


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
