"""Erasing: nothing is left of the person, and nobody else loses anything."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tagstitch.core.erasure import is_tombstone
from tagstitch.core.identifier import Identifier
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.person import Asked
from tests.pipeline.erasing import (
    READER,
    asked,
    erase,
    erased,
    eraser,
    load,
)
from tests.pipeline.lives import Life, everything, traces
from tests.pipeline.test_merges import client, message, profile_of, user
from tests.pipeline.test_splits import splitter
from tests.pipeline.world import KEYRING, START, World


class TestWhatIsLeft:
    @pytest.mark.parametrize("named", [0, 1, 2])
    async def test_nothing_but_tombstones_whichever_identifier_is_named(
        self, world: World, named: int
    ) -> None:
        ada = Life(world, "ada")
        await ada.live()
        await world.store_audit()
        held = await everything(world)
        assert {path.partition("/")[0] for path in traces(held, ada.trace)} == {
            "profiles", "processed", "outbox", "links", "contributions", "quarantine", "audit",
        }  # fmt: skip

        result = await erase(world, ada.identifiers[named])

        await world.store_audit()
        left = await everything(world)
        assert traces(left, ada.trace) == []
        assert {path.partition("/")[0] for path in left} == {"profiles", "erasures", "audit"}
        assert all(
            is_tombstone(fields, now=world.now) and "salt" not in fields
            for path, fields in left.items()
            if path.startswith("profiles/")
        )
        assert result.was_known
        assert result.journal.counts["profiles"] == 1
        assert result.journal.counts["identifiers"] == 2

    async def test_rows_stay_and_are_nobodys(self, world: World) -> None:
        ada = Life(world, "ada")
        await ada.live()
        await world.store_audit()
        before = {row["record_id"]: row for row in await world.rows()}

        await erase(world, ada.user)

        after = {row["record_id"]: row for row in await world.rows()}
        assert after.keys() == before.keys()
        assert {row["subject"] for row in before.values()} != {None}
        for record_id, row in after.items():
            assert (row["subject"], row["request_id"], row["receipt"]) == (None, None, None)
            for name in ("record_type", "occurred_at", "outcome", "rule_ids", "event_name"):
                assert row[name] == before[record_id][name]
        changed = [row["modifications"] for row in after.values() if row["modifications"]]
        told = {"rule_id": "shown", "type": "modify_parameter", "parameter": "value"}
        assert changed == [[told], [told]]

    async def test_the_record_of_it_has_counts_and_no_subject(self, world: World) -> None:
        await erased(world)

        [row] = [row for row in await world.rows() if row["record_type"] == "erasure"]
        assert (row["outcome"], row["subject"], row["request_id"]) == ("erased", None, None)
        assert row["extra"]["counts"]["audit_rows"] > 5
        assert row["extra"]["counts"]["outbox"] == 3
        assert set(map(type, row["extra"]["counts"].values())) == {int}

    async def test_others_lose_nothing(self, world: World) -> None:
        bob = Life(world, "bob")
        await bob.live()
        await world.store_audit()
        theirs = await everything(world)

        await erased(world)

        left = await everything(world)
        assert {path: left.get(path) for path in theirs} == theirs

    async def test_records_that_were_never_sent_are_sent_as_nobodys(self, world: World) -> None:
        ada = Life(world, "ada")
        await ada.live()
        world.published.clear()  # the messages were lost: only the documents hold the records

        await erase(world, ada.user)

        record_ids = await world.store_audit()
        assert len([record_id for record_id in record_ids if record_id.startswith("stitch_")]) == 3
        assert traces(await everything(world), ada.trace) == []

    async def test_what_waits_in_the_outbox_ends_in_a_record_that_names_nobody(
        self, world: World
    ) -> None:
        world.answers = [503, 503]
        waiting = message("r-9", user("nine"), client("nine"), callback="main")
        await world.stitch(waiting)
        await world.store_audit()
        [(path, _)] = (await world.collection("outbox")).items()

        for _ in range(2):  # the same command, as after a crash
            await erase(world, user("nine"))
        await world.store_audit()

        assert await world.collection("outbox") == {}
        [row] = [row for row in await world.rows() if row["record_type"] == "callback_delivery"]
        assert row["record_id"].startswith("callback_" + path.partition("/")[2])
        assert row["outcome"] == "suppressed"
        assert row["extra"] == {"callback": "main", "attempts": 1, "reason": "ERASED"}
        assert (row["request_id"], row["subject"]) == (None, None)

    async def test_the_salt_of_every_alias_goes(self, world: World) -> None:
        ada = Life(world, "ada")
        await ada.live()
        alias = f"profiles/{KEYRING.profile_id(ada.browser)}"
        assert (await world.document(alias))["salt"]

        await erase(world, ada.user)

        assert "salt" not in await world.document(alias)

    async def test_rows_of_older_pseudonym_keys_are_found(self, world: World) -> None:
        ada = Life(world, "ada")
        await ada.live()
        await world.store_audit()
        rotated = Keyring(
            KEYRING.identity_key, (("t2", b"a new key"), *KEYRING.pseudonym_keys), b"r" * 32
        )

        await eraser(world, rotated).erase(asked(ada.user), deadline=Deadline.after(20))

        assert traces(await everything(world), ada.trace) == []

    async def test_who_has_expired_is_erased_all_the_same(self, world: World) -> None:
        ada = Life(world, "ada")
        await ada.live()
        await world.store_audit()
        world.now += timedelta(days=1000)

        await erase(world, ada.user)

        assert traces(await everything(world), ada.trace) == []


class TestWhoIsErased:
    async def test_one_with_more_identifiers_than_a_commit_has_room_for(self, world: World) -> None:
        devices = [Identifier("device_id", f"device {n}") for n in range(700)]
        seen = {"first_seen": START, "last_seen": START}
        home = await world.put_profile(
            user("u"), identifiers={KEYRING.identifier_key(i): seen for i in (user("u"), *devices)}
        )
        places = [KEYRING.profile_id(device) for device in devices[:-1]]
        for start in range(0, len(places), 400):
            aliases = [
                Put(f"profiles/{place}", {"merged_into": home})
                for place in places[start : start + 400]
            ]
            await world.store.commit(aliases, deadline=Deadline.after(5))

        result = await erase(world, devices[3])

        assert result.journal.counts["tombstones"] == 701
        left = await everything(world)
        tombstones = [path for path, fields in left.items() if "erased_at" in fields]
        assert len(tombstones) == 701
        assert await profile_of(world, user("u")) is None

    async def test_an_unknown_one_gets_a_tombstone(self, world: World) -> None:
        result = await erase(world, user("nobody"))

        assert not result.was_known
        await world.stitch(message("late", user("nobody"), client("c")))
        assert await world.paths("identifiers") == []
        assert await profile_of(world, client("c")) is None

    async def test_the_rows_of_an_unknown_one_are_nobodys_too(self, world: World) -> None:
        decider = world.decider({})
        event = {"event_name": "x", "client_id": "c"}
        await decider.decide({"event": event, "deadline_ms": 5000, "request_id": "r-1"}, READER)
        await world.store_audit()
        assert (await world.rows())[0]["subject"]

        await erase(world, client("c"))

        assert {(row["subject"], row["request_id"]) for row in await world.rows()} == {(None, None)}

    async def test_who_was_split_off_stays(self, world: World) -> None:
        ada = Life(world, "ada")
        await ada.live()
        await splitter(world).take_out(
            KEYRING.identifier_key(ada.phone), deadline=Deadline.after(5)
        )

        await erase(world, ada.user)

        assert await profile_of(world, ada.phone) == KEYRING.profile_id(ada.phone)
        assert await profile_of(world, ada.user) is None

    async def test_what_one_brought_to_a_merge_that_was_undone_goes_from_the_others_log(
        self, world: World
    ) -> None:
        await world.put_profile(user("u"), attributes={"tier": "Gold"})
        world.now += timedelta(hours=1)
        for name in ("c", "d"):
            await world.put_profile(
                client(name), attributes={"page": f"trace-{name}"}, created_at=world.now
            )
        await world.stitch(message("r2", user("u"), client("c"), client("d")))
        await world.store_audit()
        [merge] = [row for row in await world.rows() if row["record_type"] == "identity_merge"]
        await splitter(world).undo_merge(
            str(merge["record_id"]),
            merged_id=KEYRING.profile_id(client("c")),
            deadline=Deadline.after(5),
        )
        world.published.clear()

        await erase(world, client("c"))

        left = await everything(world)
        assert traces(left, "trace-c") == []
        assert traces(left, "trace-d") != []
        assert await profile_of(world, client("d")) == KEYRING.profile_id(user("u"))

    @pytest.mark.parametrize("how", ["merge undone", "taken out"])
    async def test_who_came_along_with_another_profile_goes_from_every_log(
        self, world: World, how: str
    ) -> None:
        names = ("u", "d", "c")
        for name in names:
            await world.put_profile(
                client(name), attributes={f"page_{name}": f"trace-{name}"}, created_at=world.now
            )
            world.now += timedelta(hours=1)
        await world.stitch(message("r1", client("d"), client("c"), user("one")))
        await world.stitch(message("r2", client("u"), client("d")))
        await world.store_audit()
        rows = await world.rows()
        first, second = [r["record_id"] for r in rows if r["record_type"] == "identity_merge"]
        key = KEYRING.identifier_key(client("c"))
        if how == "merge undone":
            await splitter(world).undo_merge(first, deadline=Deadline.after(5))
        else:
            await splitter(world).take_out(key, deadline=Deadline.after(5))
        await world.store_audit()
        world.published.clear()

        await erase(world, client("c"))

        logs = {path: f for path, f in (await everything(world)).items() if "links/" in path}
        assert traces(logs, "trace-c") == []
        assert traces(logs, key) == []
        assert traces(logs, "trace-d") != []
        assert await profile_of(world, client("d")) == KEYRING.profile_id(client("u"))
        await splitter(world).undo_merge(second, deadline=Deadline.after(5))
        profile = await world.document(f"profiles/{KEYRING.profile_id(client('d'))}")
        assert profile["attributes"] == {"page_d": "trace-d"}

    async def test_identifiers_that_stayed_go_from_the_log_of_who_left(self, world: World) -> None:
        await world.put_profile(client("a"))
        world.now += timedelta(hours=1)
        await world.stitch(message("r1", user("u"), client("b")))
        await world.stitch(message("r2", client("a"), user("u")))
        left_behind = KEYRING.identifier_key(client("b"))
        leaver = KEYRING.identifier_key(user("u"))
        assert await profile_of(world, client("b")) == KEYRING.profile_id(client("a"))
        await splitter(world).take_out(leaver, deadline=Deadline.after(5))
        world.published.clear()

        await erase(world, client("b"))

        logs = {path: f for path, f in (await everything(world)).items() if "links/" in path}
        assert traces(logs, left_behind) == []
        assert traces(logs, leaver) != []
        assert await profile_of(world, user("u")) == KEYRING.profile_id(user("u"))

    async def test_a_profile_whose_id_people_chose_goes_and_stays_away(self, world: World) -> None:
        line = {"profile_id": "ada@example.net", "attributes": {"tier": "Gold"}}
        await load(world, **line, identifiers={"user_id": "ada"})

        await erase(world, Asked("ada@example.net"))

        assert traces(await everything(world), "ada@example.net") == [
            "erasures/" + (await world.paths("erasures"))[0].partition("/")[2]
        ]
        assert await load(world, **line) == ["erased"]
        assert not (
            await world.lookup().answer({"id": "ada@example.net"}, READER, request_id="r")
        ).found  # type: ignore[union-attr]
        world.now = START + timedelta(days=9)
        await world.sweep()
        await world.sweep()
        assert traces(await everything(world), "ada@example.net") == []
        assert await load(world, **line) == ["erased"]

    @pytest.mark.parametrize("chosen", ["card", "record"])
    async def test_logs_whose_entries_begin_alike_are_not_mixed_up(
        self, world: World, chosen: str
    ) -> None:
        """An entry of `card~1` begins like one of `card`, what leads to merges like `record`."""
        for profile_id, name in ((chosen, "u"), (f"{chosen}~1", "v")):
            await load(world, profile_id=profile_id, identifiers={"user_id": name})
            await world.stitch(message(name, user(name), client(f"c-{name}")))
        await world.put_profile(client("d"))
        await world.stitch(message("merge", user("v"), client("d")))
        await world.store_audit()
        before = set(await world.paths("links"))

        await erase(world, user("u"))

        gone = before - set(await world.paths("links"))
        assert [path.rpartition("~")[0].rpartition("~")[0] for path in gone] == [f"links/{chosen}"]
        [merge] = [row for row in await world.rows() if row["record_type"] == "identity_merge"]
        await splitter(world).undo_merge(str(merge["record_id"]), deadline=Deadline.after(5))
