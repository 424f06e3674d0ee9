"""Loading and refreshing the rule book: what has not changed is kept, what looks wrong is not taken."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tagstitch.adapters.sqlite_database import SqliteDatabase
from tagstitch.adapters.sqlite_documents import SqliteDocuments
from tagstitch.core.errors import Unavailable
from tagstitch.core.rule_book import RuleBook, compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.pipeline import compile_rules
from tagstitch.pipeline.backend import Delete, Patch, Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.load_rules import load_rule_book
from tagstitch.pipeline.rule_publication import POINTER_PATH, publish_rules, publish_stored_rules

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)


def soon() -> Deadline:
    return Deadline.after(30)


def rule(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "target_event_name": f"event_{number % 3}",
        "conditions": {"item_id": f"SKU_{number}", "value": {"lessThan": number + 0.5}},
        "action_type": "modify_parameter",
        "action_details": {"parameter": "label", "operator": "set", "operand": f"label {number}"},
        **fields,
    }


def rules(count: int) -> dict[str, dict[str, Any]]:
    return {f"rule_{number:04d}": rule(number) for number in range(count)}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteDocuments]:
    database = SqliteDatabase(tmp_path)
    yield SqliteDocuments(database)
    database.close()


Load = Callable[[RuleBook | None], Awaitable[RuleBook]]


@pytest.fixture
def load(store: SqliteDocuments) -> Load:
    loader = load_rule_book(store)
    return lambda present: loader(present, soon())


def by_id(book: RuleBook) -> dict[str, Any]:
    return {r.rule_id: r for bucket in book.event_buckets.values() for r in bucket.rules}


async def publish(store: SqliteDocuments, definitions: RuleDefinitions) -> None:
    removed = [f"event_rules/{n}" for n in rules(200) if n not in definitions.event_rules]
    await publish_rules(store, definitions, NOW, soon(), removed=removed)


async def test_only_changed_rules_are_read_anew(store: SqliteDocuments, load: Load) -> None:
    await publish(store, RuleDefinitions(rules(100)))
    before = await load(None)
    changed = rules(100) | {"rule_0007": rule(7, priority=1), "rule_0100": rule(100)}
    del changed["rule_0009"]

    await publish(store, RuleDefinitions(changed))
    after = await load(before)

    old, new = by_id(before), by_id(after)
    assert new.keys() == changed.keys()
    assert {i for i in new if new[i] is not old.get(i)} == {"rule_0007", "rule_0100"}
    assert after.version == compile_rule_book(RuleDefinitions(changed)).version
    assert after.event_bucket("event_2") is before.event_bucket("event_2")
    assert after.event_bucket("event_1") is not before.event_bucket("event_1")


async def test_an_unmoved_pointer_keeps_the_book(store: SqliteDocuments, load: Load) -> None:
    await publish(store, RuleDefinitions(rules(5)))
    book = await load(None)

    assert await load(book) is book


async def test_a_changed_declaration_reads_every_rule_anew(
    store: SqliteDocuments, load: Load
) -> None:
    definitions = rules(3) | {"named": rule(1, conditions={"profile": {"inAudience": "vip"}})}
    audience = {"conditions": {"tier": "Gold"}}
    await publish(store, RuleDefinitions(definitions, audiences={"vip": audience}))
    before = await load(None)
    other = {"conditions": {"tier": "Silver"}}

    await publish(store, RuleDefinitions(definitions, audiences={"vip": other}))
    after = await load(before)

    assert all(by_id(after)[i] is not by_id(before)[i] for i in definitions)
    assert after.broken == ()


async def test_a_protected_name_reads_every_rule_anew(store: SqliteDocuments, load: Load) -> None:
    await publish(store, RuleDefinitions(rules(3)))
    before = await load(None)
    await store.commit([Put("views/default", {"protected": ["item_id"]})], deadline=soon())

    await publish_stored_rules(store, NOW, soon())
    after = await load(before)

    (path, _), *_ = by_id(after)["rule_0001"].condition.lookups
    assert (path.text, path.root) == ("item_id", "profile")


async def test_a_refresh_gives_the_book_of_a_fresh_start(
    store: SqliteDocuments, load: Load
) -> None:
    book = None
    for size in (60, 90, 45, 45, 120):
        definitions = {i: r | {"priority": size} if i < "rule_0010" else r
                       for i, r in rules(size).items()}  # fmt: skip
        await publish(store, RuleDefinitions(definitions | {"broken": {"no": "rule"}}))

        book = await load(book)
        fresh = await load(None)

        assert (book.version, book.count, book.broken) == (fresh.version, size, ())
        assert [r.rule_id for r in book.event_bucket("event_0").rules] == [
            r.rule_id for r in fresh.event_bucket("event_0").rules
        ]


async def test_the_broken_rules_that_a_publication_left_out_are_counted(
    store: SqliteDocuments, load: Load
) -> None:
    await publish(store, RuleDefinitions(rules(2) | {"broken": {"no": "rule"}}))
    book = await load(None)
    await store.commit([Delete("event_rules/broken")], deadline=soon())
    await publish_stored_rules(store, NOW, soon())

    mended = await load(book)

    assert (book.withheld, book.broken) == (1, ())
    assert mended.withheld == 0


async def test_a_bundle_that_its_pointer_does_not_count_is_refused(
    store: SqliteDocuments, load: Load
) -> None:
    await publish(store, RuleDefinitions(rules(3)))
    await store.commit([Patch(POINTER_PATH, {"counts": {"event_rules": 2}})], deadline=soon())

    with pytest.raises(Unavailable):
        await load(None)


@pytest.mark.parametrize("left", [0, 9])
async def test_without_a_pointer_a_shrunken_set_is_refused(
    store: SqliteDocuments, load: Load, left: int
) -> None:
    writes = [Put(f"event_rules/{i}", r) for i, r in rules(20).items()]
    await store.commit(writes, deadline=soon())
    book = await load(None)
    gone = [Delete(f"event_rules/{i}") for i in list(rules(20))[left:]]
    await store.commit(gone, deadline=soon())

    with pytest.raises(Unavailable):
        await load(book)


async def test_a_replaced_book_goes_though_collections_leave_it_out(
    store: SqliteDocuments, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compile_rules, "_MANY_BYTES", 0)
    book, counts = None, []
    try:
        for number in range(50):
            await publish(store, RuleDefinitions(rules(40) | {"moving": rule(number)}))
            book = await load(book)
            await asyncio.gather(*compile_rules._releases)
            counts.append(gc.get_freeze_count())
    finally:
        gc.unfreeze()

    assert max(counts[10:]) < counts[9] * 1.02


async def test_garbage_of_requests_does_not_stay_for_good(
    store: SqliteDocuments, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Circle:
        def __init__(self) -> None:
            self.itself = self

    monkeypatch.setattr(compile_rules, "_MANY_BYTES", 0)
    await publish(store, RuleDefinitions(rules(3)))
    book = await load(None)
    await publish(store, RuleDefinitions(rules(4)))
    circle = Circle()
    left = weakref.ref(circle)
    gc.collect(1)  # the circle is old now: only a full collection finds it
    del circle
    try:
        await load(book)
    finally:
        gc.unfreeze()

    assert left() is None


async def test_requests_are_answered_while_a_book_is_compiled(
    store: SqliteDocuments, load: Load
) -> None:
    await publish(store, RuleDefinitions(rules(200)))
    present = await load(None)
    await publish(store, RuleDefinitions({i: r | {"priority": 1} for i, r in rules(200).items()}))
    loading = asyncio.ensure_future(load(present))

    turns = 0
    while not loading.done():
        await asyncio.sleep(0)
        turns += 1

    assert turns > 10
    assert replace(await loading, compiled=present.compiled) != present
