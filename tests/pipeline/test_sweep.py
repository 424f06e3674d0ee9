"""The sweep publishes rules that were edited in the store, and nothing of that stops the rest."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tagstitch.core.errors import InvalidInput, Unavailable
from tagstitch.core.limits import PENDING_SHARDS
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.pipeline import sweep as sweep_module
from tagstitch.pipeline.backend import Delete, Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.rule_publication import load_bundle, load_pointer, publish_rules
from tests.pipeline.test_rule_publication import BROKEN, DROP, RENAME
from tests.pipeline.world import START, World

CALLBACK = {
    "request_id": "r1",
    "identifiers": [{"type": "client_id", "value": "1.2"}],
    "callback": "main",
}


async def swept(world: World) -> dict[str, Any]:
    result = await world.sweep()
    return result.to_json()


async def edit(world: World, **rules: Any) -> None:
    """Write rule documents as somebody does in the store's console; None deletes."""
    writes = [
        Delete(f"event_rules/{name}") if rule is None else Put(f"event_rules/{name}", rule)
        for name, rule in rules.items()
    ]
    await world.store.commit(writes, deadline=Deadline.after(5))


async def published(world: World) -> set[str]:
    pointer = await load_pointer(world.store, Deadline.after(5))
    assert pointer is not None
    return set((await load_bundle(world.store, pointer, Deadline.after(5))).event_rules)


async def forget_an_action(world: World, name: str = "forgotten", **fields: Any) -> None:
    """Leave an outbox entry as a process does that died before it published the action."""
    entry = {"status": "pending", "pending": 3, "pending_since": START - timedelta(hours=1)}
    await world.store.commit([Put(f"outbox/{name}", entry | fields)], deadline=Deadline.after(5))


async def test_rules_edited_in_the_store_are_published(world: World) -> None:
    await publish_rules(world.store, RuleDefinitions({"drop": DROP}), world.now, Deadline.after(5))
    await edit(world, rename=RENAME)

    first = await swept(world)
    second = await swept(world)

    assert (first, second) == (
        {"records": 0, "actions": 0, "rules": "published", "erasures": 0},
        {"records": 0, "actions": 0, "rules": "unchanged", "erasures": 0},
    )
    assert await published(world) == {"drop", "rename"}


async def test_rules_that_were_never_published_are(world: World) -> None:
    await edit(world, drop=DROP)

    assert (await swept(world))["rules"] == "published"
    assert await published(world) == {"drop"}


async def test_without_any_rules_no_rule_book_begins(world: World) -> None:
    assert (await swept(world))["rules"] == "none"
    assert await world.paths("rule_book") == []


async def test_a_broken_rule_keeps_its_last_version_and_others_are_published(
    world: World,
) -> None:
    await publish_rules(
        world.store, RuleDefinitions({"rename": RENAME}), world.now, Deadline.after(5)
    )
    await edit(world, rename=BROKEN, drop=DROP)

    assert (await swept(world))["rules"] == "published"
    assert (await swept(world))["rules"] == "unchanged"
    assert await published(world) == {"drop", "rename"}


async def test_an_emptied_store_publishes_nothing(world: World) -> None:
    await publish_rules(world.store, RuleDefinitions({"drop": DROP}), world.now, Deadline.after(5))
    await edit(world, drop=None)

    assert (await swept(world))["rules"] == "refused"
    assert await published(world) == {"drop"}


async def test_a_damaged_pointer_does_not_stop_the_rest(world: World) -> None:
    await forget_an_action(world)
    damaged = Put("rule_book/current", {"hash": 5})
    await world.store.commit([damaged], deadline=Deadline.after(5))

    assert await swept(world) == {"records": 0, "actions": 1, "rules": "failed", "erasures": 0}
    assert len(world.published["actions"]) == 1


async def test_a_bug_in_publishing_does_not_stop_the_rest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await forget_an_action(world)

    async def crash(*_: Any) -> None:
        raise ValueError

    monkeypatch.setattr(sweep_module, "publish_edited_rules", crash)

    assert await swept(world) == {"records": 0, "actions": 1, "rules": "failed", "erasures": 0}


@pytest.mark.parametrize(("waiting", "queries"), [(0, 1), (1, 1), (99, 1), (100, 65), (250, 65)])
async def test_all_that_waits_is_published_and_little_of_it_takes_one_query(
    world: World, monkeypatch: pytest.MonkeyPatch, waiting: int, queries: int
) -> None:
    since = START - timedelta(hours=1)
    writes = [
        Put(
            f"outbox/o{number}",
            {"status": "pending", "pending": number % PENDING_SHARDS, "pending_since": since},
        )
        for number in range(waiting)
    ]
    await world.store.commit(writes, deadline=Deadline.after(5))
    asked: list[str] = []
    listing = world.store.list_documents

    async def counted(collection: str, **options: Any) -> Any:
        asked.append(collection)
        return await listing(collection, **options)

    monkeypatch.setattr(world.store, "list_documents", counted)
    result = await swept(world)

    assert result["actions"] == waiting
    assert sorted(message["outbox_id"] for message in world.published.get("actions", [])) == sorted(
        f"o{number}" for number in range(waiting)
    )
    assert (asked.count("outbox"), asked.count("processed")) == (queries, 1)


@pytest.mark.parametrize("damaged", [["text"], [5], [b"no JSON"], "text", 5, None])
async def test_records_that_somebody_damaged_do_not_stop_the_rest(
    world: World, damaged: Any
) -> None:
    for path in ("processed/damaged", "outbox/damaged"):
        fields = {"pending": 1, "pending_since": START - timedelta(hours=1), "records": damaged}
        await world.store.commit([Put(path, fields)], deadline=Deadline.after(5))
    await forget_an_action(world)

    await swept(world)

    assert [action["outbox_id"] for action in world.published["actions"]] == ["forgotten"]


async def test_the_other_records_of_a_damaged_document_are_published(world: World) -> None:
    fields = {
        "pending": 1,
        "pending_since": START - timedelta(hours=1),
        "records": [b"no JSON", b'{"record_id":"r"}'],
    }
    await world.store.commit([Put("processed/damaged", fields)], deadline=Deadline.after(5))

    await swept(world)

    assert [message["records"] for message in world.published["audit"]] == [[{"record_id": "r"}]]


class TestAnOutage:
    """What waits for a subscriber that is down is published once more, not by each sweep anew."""

    async def minutes_of_sweeps(self, world: World, minutes: int) -> None:
        for _ in range(minutes):
            world.now += timedelta(minutes=1)
            await world.sweep()

    async def test_an_entry_whose_message_waits(self, world: World) -> None:
        await forget_an_action(world)

        await self.minutes_of_sweeps(world, 60)

        assert len(world.published["actions"]) == 5

    async def test_records_whose_message_waits(self, world: World) -> None:
        request = {"request_id": "r1", "identifiers": [{"type": "client_id", "value": "1.2"}]}
        await world.stitch(request)
        world.published.clear()

        await self.minutes_of_sweeps(world, 60)

        assert len(world.published["audit"]) == 5

    async def test_what_arrives_in_the_end_is_swept_no_more(self, world: World) -> None:
        request = {"request_id": "r1", "identifiers": [{"type": "client_id", "value": "1.2"}]}
        await world.stitch(request)
        await self.minutes_of_sweeps(world, 5)

        await world.store_audit()
        world.published.clear()
        await self.minutes_of_sweeps(world, 30)

        assert world.published.get("audit", []) == []

    async def test_a_topic_that_takes_nothing_is_told_again_by_the_next_sweep(
        self, world: World
    ) -> None:
        await forget_an_action(world)
        world.down = {"publisher"}
        with pytest.raises(Unavailable):
            await world.sweep()
        world.down = set()

        assert (await swept(world))["actions"] == 1

    async def test_a_callback_is_told_again_before_it_is_of_no_more_use(self, world: World) -> None:
        """A message that was refused again and again may come back when it is too late."""
        world.answers = [503]
        await world.stitch(CALLBACK)
        world.published.clear()

        await self.minutes_of_sweeps(world, 9)

        assert len(world.published["actions"]) == 4

    async def test_a_callback_whose_topic_did_not_hear_of_it_is_published_by_the_sweep(
        self, world: World
    ) -> None:
        world.answers = [503]
        world.down = {"publisher"}
        await world.stitch(CALLBACK)
        world.down = set()

        await self.minutes_of_sweeps(world, 3)

        assert len(world.published["actions"]) == 1

    @pytest.mark.parametrize(("useful_min", "told"), [(60, 0), (13, 0), (12, 1), (5, 1), (-1, 0)])
    async def test_an_entry_whose_message_waits_is_left_to_it_while_that_is_in_time(
        self, world: World, useful_min: int, told: int
    ) -> None:
        since = START - timedelta(minutes=5)
        useful_until = START + timedelta(minutes=useful_min)
        await forget_an_action(world, pending_since=since, told_at=since, useful_until=useful_until)

        assert (await swept(world))["actions"] == told

    async def test_an_entry_that_somebody_works_on_is_left_to_its_owner(self, world: World) -> None:
        lease_until = START + timedelta(seconds=8)
        await forget_an_action(world, lease="theirs", lease_until=lease_until)

        first = await swept(world)
        world.now += timedelta(minutes=3)
        second = await swept(world)

        assert (first["actions"], second["actions"]) == (0, 1)

    async def test_what_has_no_room_for_the_note_does_not_stop_the_rest(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await forget_an_action(world)
        await forget_an_action(world, "full", pending=4)
        commit = world.store.commit

        async def picky(writes: Any, **options: Any) -> None:
            if any(write.path == "outbox/full" for write in writes):
                raise InvalidInput("invalid_field", "too large")
            await commit(writes, **options)

        monkeypatch.setattr(world.store, "commit", picky)

        assert (await swept(world))["actions"] == 2
        assert "told_at" in await world.document("outbox/forgotten")

    async def test_one_that_somebody_went_on_with_does_not_keep_the_others(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await forget_an_action(world)
        await forget_an_action(world, "moving", pending=4)
        publish = world.backend.publisher.publish

        async def meanwhile(topic: str, data: bytes, **options: Any) -> str:
            if b"moving" in data:
                await world.store.commit([Put("outbox/moving", {})], deadline=Deadline.after(5))
            return str(await publish(topic, data, **options))

        monkeypatch.setattr(world.backend.publisher, "publish", meanwhile)
        await world.sweep()

        assert "told_at" in await world.document("outbox/forgotten")
        assert await world.document("outbox/moving") == {}
