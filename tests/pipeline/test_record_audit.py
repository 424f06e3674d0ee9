"""audit_sink: rows that no table takes leave alone, and fields that no column has are kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tagstitch.adapters.sqlite_audit import SqliteAuditTable
from tagstitch.core.errors import Unavailable
from tagstitch.pipeline.backend import Patch, Put, RejectedRow
from tagstitch.pipeline.dead_letter import Message
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.record_audit import record_audit
from tagstitch.pipeline.replay_dead_letter import replay_dead_letter
from tests.pipeline.world import KEYRING, START, World


class PickyTable(SqliteAuditTable):
    """The real table, which refuses some rows, as BigQuery does one that breaks a limit of its own."""

    refuses: frozenset[str] = frozenset()

    async def append(
        self, rows: Sequence[Mapping[str, Any]], *, deadline: Deadline
    ) -> Sequence[RejectedRow]:
        refused = [n for n, row in enumerate(rows) if row["record_id"] in self.refuses]
        good = [row for n, row in enumerate(rows) if n not in refused]
        assert not await super().append(good, deadline=deadline)
        return [RejectedRow(n, "outcome is too large") for n in refused]


@pytest.fixture
def table(world: World) -> PickyTable:
    table = PickyTable(world.database)
    world.audit_rows = table
    return table


def record(record_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "record_id": record_id,
        "record_type": "identity_link",
        "occurred_at": "2026-11-21T20:00:00Z",
        "outcome": "linked",
        **fields,
    }


UNREADABLE = record("unreadable", record_type="a_type_of_the_future")


async def receive(world: World, content: Mapping[str, Any]) -> None:
    message = Message(json.dumps(content).encode(), "m-1", "audit", START)
    await record_audit(world.backend, message, deadline=Deadline.after(20))


def records(*every: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    return {"v": 1, "records": list(every), **fields}


async def stored_ids(world: World) -> list[str]:
    return [str(row["record_id"]) for row in await world.rows()]


class TestRefusedRows:
    async def test_the_good_ones_are_stored_and_the_others_are_one_dead_letter(
        self, world: World, table: PickyTable
    ) -> None:
        table.refuses = frozenset({"b", "d"})

        await receive(world, records(*map(record, "abcd"), UNREADABLE))

        assert await stored_ids(world) == ["a", "c"]
        [letter] = world.published["dead-letter"]
        assert (letter["source"]["topic"], letter["reason"]["path"]) == ("audit", "records")

    async def test_the_dead_letter_repeats_only_them(self, world: World, table: PickyTable) -> None:
        table.refuses = frozenset({"b"})
        await receive(world, records(*map(record, "abc"), UNREADABLE))
        letter_id = await world.store_dead_letter()

        await replay_dead_letter(world.backend, KEYRING, letter_id, deadline=Deadline.after(5))

        [again] = world.published["audit"]
        assert again == records(UNREADABLE, record("b"))

    async def test_what_was_refused_is_stored_once_the_cause_is_mended(
        self, world: World, table: PickyTable
    ) -> None:
        table.refuses = frozenset({"b"})
        await receive(world, records(record("a"), record("b")))
        letter_id = await world.store_dead_letter()
        table.refuses = frozenset()

        for _ in range(2):
            await replay_dead_letter(world.backend, KEYRING, letter_id, deadline=Deadline.after(5))
        await world.store_audit()

        assert sorted(await stored_ids(world)) == ["a", "b", f"dead_letter_{letter_id}"]

    async def test_a_message_that_comes_again_is_the_same_dead_letter(
        self, world: World, table: PickyTable
    ) -> None:
        table.refuses = frozenset({"b"})
        for _ in range(2):
            await receive(world, records(record("a"), record("b")))

        letters = {letter["dead_letter_id"] for letter in world.published["dead-letter"]}
        assert len(letters) == 1
        assert await stored_ids(world) == ["a"]

    async def test_the_sweep_does_not_repeat_a_refused_row_for_ever(
        self, world: World, table: PickyTable
    ) -> None:
        held = {"pending": 3, "pending_since": START, "records": [b"{}"]}
        await world.store.commit([Put("processed/p", held)], deadline=Deadline.after(5))
        table.refuses = frozenset({"b"})

        await receive(world, records(record("b"), pending=["processed/p"]))

        assert await world.document("processed/p") == {"records": [b"{}"]}

    async def test_a_document_that_changes_under_its_hands_is_cleared_all_the_same(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        held = {"status": "delivered", "pending": 3, "pending_since": START, "records": [b"{}"]}
        for path in ("outbox/moving", "outbox/still"):
            await world.store.commit([Put(path, held)], deadline=Deadline.after(5))
        commit, notes = world.store.commit, ["first", "second"]

        async def behind_a_note(writes: Sequence[Any], **options: Any) -> None:
            if notes:
                note = Patch("outbox/moving", {"told_at": START, "note": notes.pop()})
                await commit([note], deadline=Deadline.after(5))
            await commit(writes, **options)

        monkeypatch.setattr(world.store, "commit", behind_a_note)
        pending = ["outbox/moving", "outbox/still", "outbox/gone"]
        await receive(world, records(record("b"), pending=pending))

        assert "pending" not in await world.document("outbox/moving")
        assert "pending" not in await world.document("outbox/still")

    async def test_nothing_is_acknowledged_while_the_dead_letter_cannot_be_published(
        self, world: World, table: PickyTable
    ) -> None:
        table.refuses = frozenset({"b"})
        world.down.add("publisher")

        with pytest.raises(Unavailable):
            await receive(world, records(record("b")))


class TestUnknownFields:
    async def test_they_are_kept_beside_what_extra_held(self, world: World) -> None:
        sent = record("a", extra={"reason": "X"}, weather={"sky": "clear"}, score=2)

        await receive(world, records(sent))

        [row] = await world.rows()
        assert row["outcome"] == "linked"
        assert row["extra"] == {
            "reason": "X",
            "unknown_fields": {"weather": {"sky": "clear"}, "score": 2},
        }
        assert "dead-letter" not in world.published

    async def test_of_a_record_that_comes_alone_too(self, world: World) -> None:
        await receive(world, {"v": 1, **record("a", score=2)})

        [row] = await world.rows()
        assert row["extra"] == {"unknown_fields": {"score": 2}}

    async def test_when_a_record_was_stored_is_nobodys_to_say(self, world: World) -> None:
        await receive(world, records(record("a", recorded_at="1999-01-01T00:00:00Z")))

        [row] = await world.rows()
        assert row["recorded_at"] == START
        assert not row["extra"]
