"""Erasing: nothing is left of the person, nobody else loses anything, and nothing brings them back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from tagstitch.core.caller import Caller
from tagstitch.core.erasure import is_tombstone
from tagstitch.core.errors import InvalidInput, TagstitchError, Unavailable
from tagstitch.core.identifier import Identifier, IdentitySettings
from tagstitch.core.limits import ERASURE_PASSES_S, TOMBSTONE_DAYS
from tagstitch.core.lookup import LookupAnswer
from tagstitch.pipeline.backend import Put, Write
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.erase_person import ErasureResult, PersonEraser
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.person import Asked
from tagstitch.pipeline.profile_import import import_profiles
from tagstitch.pipeline.profile_line import parse_profile_line
from tests.pipeline.lives import Life, everything, traces
from tests.pipeline.test_merges import client, message, profile_of, user
from tests.pipeline.test_splits import splitter
from tests.pipeline.world import KEYRING, START, World

READER = Caller("reader", frozenset({"lookup", "stitch", "assert"}))


def eraser(world: World, keyring: Keyring = KEYRING) -> PersonEraser:
    return PersonEraser(world.backend, keyring, world.audit)


def asked(identifier: Identifier) -> Asked:
    return Asked.by_identifier(identifier, KEYRING)


async def erase(world: World, who: Asked | Identifier) -> ErasureResult:
    named = asked(who) if isinstance(who, Identifier) else who
    return await eraser(world).erase(named, deadline=Deadline.after(20))


async def load(world: World, **line: Any) -> list[str]:
    """Import one line; return the codes of its rejections."""
    parsed = parse_profile_line(line, IdentitySettings(), KEYRING)
    result = await import_profiles(
        world.backend.documents, [(1, parsed)], now=world.now, deadline=Deadline.after(5)
    )
    return [rejection.code for rejection in result.rejections]


async def look_up(world: World, *identifiers: Identifier) -> LookupAnswer:
    body = {"identifiers": {i.type: i.value for i in identifiers}}
    answer = await world.lookup().answer(body, READER, request_id="r")
    assert isinstance(answer, LookupAnswer)
    return answer


async def erased(world: World) -> Life:
    """Return a person who lived here, whose records are stored, and who was erased."""
    ada = Life(world, "ada")
    await ada.live()
    await world.store_audit()
    await erase(world, ada.browser)
    await world.store_audit()
    return ada


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


QUEUED: dict[str, Callable[[World, Life], Awaitable[Any]]] = {
    "a stitch request": lambda w, a: w.stitch(message("late", *a.identifiers)),
    "one of a single identifier": lambda w, a: w.stitch(message("late", a.phone)),
    "one with a cookie that nobody knows": lambda w, a: w.stitch(
        message("late", a.user, client("new"))
    ),
    "one that brings a stranger's profile": lambda w, a: w.stitch(
        message("late", user("bob"), a.browser)
    ),
    "a grant": lambda w, a: w.stitch(message("late", a.user, consent={"email": True})),
    "a denial": lambda w, a: w.stitch(message("late", a.user, consent={"email": False})),
    "an event that counts for traits": lambda _, a: a.view_page("late", a.user, a.browser),
    "one that was counted before": lambda _, a: a.view_page("b", a.user, a.browser),
    "a redelivery": lambda w, a: w.stitch(message(f"{a.trace}-login", a.user, a.browser)),
    "a bare id": lambda w, a: w.stitch({"request_id": "late", "id": a.user.value}),
    "a decision": lambda _, a: a.browse("late", user_id=a.name),
    "a decision by the cookie alone": lambda _, a: a.browse("late"),
    "a decision that was made before": lambda _, a: a.browse("1"),
    "an import": lambda w, a: load(w, identifiers={"user_id": a.name}, attributes={"x": a.trace}),
    "an import by profile id": lambda w, a: load(
        w, profile_id=KEYRING.profile_id(a.user), attributes={"x": a.trace}
    ),
    "an import by the id of an alias": lambda w, a: load(
        w, profile_id=KEYRING.profile_id(a.browser), attributes={"x": a.trace}
    ),
    "an import of a new profile with an old identifier": lambda w, a: load(
        w, profile_id="other", identifiers={"client_id": a.browser.value}, attributes={"x": a.trace}
    ),
    "the sweep": lambda w, _a: w.sweep(),
}


RACING = [name for name in QUEUED if name != "an import of a new profile with an old identifier"]
"""Not that import: when it comes first it is of somebody else, whom nothing links to them."""


class TestComingBack:
    @pytest.mark.parametrize("name", QUEUED)
    async def test_nothing_that_was_on_its_way_changes_anything(
        self, world: World, name: str
    ) -> None:
        await world.stitch(message("bob", user("bob")))
        ada = await erased(world)
        before = await everything(world)
        posted = len(world.callbacks)

        await QUEUED[name](world, ada)

        world.published.clear()
        after = await everything(world)
        assert after == before
        assert len(world.callbacks) == posted

    async def test_a_callback_that_waited_is_not_sent(self, world: World) -> None:
        ada = Life(world, "ada")
        await ada.live()
        [action] = world.published["actions"]
        posted = len(world.callbacks)

        await erase(world, ada.user)
        await world.act(action["outbox_id"])

        assert len(world.callbacks) == posted

    async def test_a_callback_that_is_asked_for_later_says_that_nobody_is_known(
        self, world: World
    ) -> None:
        ada = await erased(world)

        await world.stitch(message("late", ada.user, ada.browser, callback="main"))

        data = world.callbacks[-1]["body"]["data"]
        assert (data["found"], data["profile_id"], data["attributes"]) == (False, None, {})

    async def test_a_merge_of_theirs_cannot_be_undone(self, world: World) -> None:
        ada = Life(world, "ada")
        await ada.live()
        await world.store_audit()
        rows = await world.rows()
        [merge] = [row["record_id"] for row in rows if row["record_type"] == "identity_merge"]
        await erase(world, ada.user)
        before = await everything(world)

        with pytest.raises(InvalidInput, match="no merge is known"):
            await splitter(world).undo_merge(str(merge), deadline=Deadline.after(5))
        for key in ada.keys:
            with pytest.raises(InvalidInput):
                await splitter(world).take_out(key, deadline=Deadline.after(5))

        assert await everything(world) == before

    async def test_a_process_that_knew_them_answers_as_unknown(self, world: World) -> None:
        ada = Life(world, "ada")
        await ada.live()
        assert (await look_up(world, ada.browser)).found
        assert (await look_up(world, ada.phone)).found

        await erase(world, ada.user)

        world.published.clear()
        for identifiers in (ada.identifiers, (ada.browser,), (ada.phone, client("new"))):
            answer = await look_up(world, *identifiers)
            assert (answer.found, answer.reason) == (False, "UNKNOWN_PROFILE")
        assert world.published == {}

    async def test_a_decision_knows_nothing_and_names_nobody(self, world: World) -> None:
        ada = await erased(world)

        answer = await ada.browse("late", user_id=ada.name)

        assert answer["profile"] == {"found": False, "profile_id": None, "attributes": {}}
        assert answer["personalization"]["actions"] == []
        await world.store_audit()
        assert {row["subject"] for row in await world.rows()} == {None}

    async def test_a_decision_publishes_neither_their_event_nor_their_denial(
        self, world: World
    ) -> None:
        ada = await erased(world)
        decider = world.decider({})

        async def publishes(browser: str) -> set[str]:
            world.published.clear()
            event = {"event_name": "page_view", "client_id": browser, "page": "x"}
            consent = {"ad_personalization": "denied"}
            body = {"event": event, "consent": consent, "deadline_ms": 5000}
            await decider.decide(body, READER)
            return set(world.published)

        assert await publishes(ada.browser.value) == {"audit"}
        assert await publishes("stranger") == {"audit", "stitch-requests"}

    async def test_a_new_cookie_is_a_new_person_until_they_log_in(self, world: World) -> None:
        ada = await erased(world)
        newcomer = Life(world, "ada")
        newcomer.browser = client("newcomer.1747154479")

        await newcomer.browse("3")
        known = await profile_of(world, newcomer.browser)
        before = await world.document(f"profiles/{known}")
        answer = await newcomer.browse("4", user_id=ada.name)
        await world.stitch(message("login", ada.user, newcomer.browser))

        assert known == KEYRING.profile_id(newcomer.browser)
        assert not answer["profile"]["found"]
        assert await world.document(f"profiles/{known}") == before
        assert await profile_of(world, ada.user) is None

    async def test_who_shares_their_browser_is_still_known(self, world: World) -> None:
        bob = await world.put_profile(user("bob"), attributes={"tier": "Silver"})
        ada = await erased(world)

        answer = await look_up(world, user("bob"), ada.browser)

        assert (answer.found, answer.profile_id) == (True, bob)

    async def test_a_tombstone_behind_an_alias_counts(self, world: World) -> None:
        ada = await erased(world)
        alias = Put(
            f"profiles/{KEYRING.profile_id(client('late'))}",
            {"merged_into": KEYRING.profile_id(ada.user)},
        )
        await world.store.commit([alias], deadline=Deadline.after(5))
        before = await everything(world)

        await world.stitch(message("late", client("late"), client("other")))
        rejected = await load(world, identifiers={"client_id": "late"}, attributes={"x": 1})

        assert not (await look_up(world, client("late"))).found
        assert rejected == ["erased"]
        assert await everything(world) == before

    async def test_after_the_tombstone_has_expired_they_are_somebody_new(
        self, world: World
    ) -> None:
        ada = await erased(world)
        world.now += timedelta(days=TOMBSTONE_DAYS, seconds=1)

        await world.stitch(message("much-later", ada.user, ada.browser))

        assert await profile_of(world, ada.browser) == KEYRING.profile_id(ada.user)


class TestConcurrency:
    @pytest.mark.parametrize("name", RACING)
    async def test_what_happens_at_the_same_time_does_not_survive(
        self, world: World, name: str
    ) -> None:
        ada = Life(world, "ada")
        await ada.live()
        await world.store_audit()

        await asyncio.gather(
            erase(world, ada.user), QUEUED[name](world, ada), erase(world, ada.browser)
        )

        await world.store_audit()
        await QUEUED[name](world, ada)
        world.now += timedelta(seconds=ERASURE_PASSES_S[0] + 1)
        world.published.clear()
        await world.sweep()
        left = await everything(world)
        profiles = {path: fields for path, fields in left.items() if path.startswith("profiles/")}
        strangers = {f"profiles/{KEYRING.profile_id(user('bob'))}"}
        assert all(
            is_tombstone(fields, now=world.now)
            for path, fields in profiles.items()
            if path not in strangers
        )
        late = [path for path in traces(left, ada.trace) if not path.startswith("audit/")]
        assert late == []

    @pytest.mark.parametrize("name", RACING)
    async def test_an_erasure_between_its_reading_and_its_writing_wins(
        self, world: World, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ada = Life(world, "ada")
        await ada.live()
        await world.store_audit()
        race = _Race(world, lambda: erase(world, ada.user))
        monkeypatch.setattr(world.store, "commit", race.commit)

        await QUEUED[name](world, ada)

        world.published.clear()
        left = await everything(world)
        bob = f"profiles/{KEYRING.profile_id(user('bob'))}"
        assert traces(left, ada.trace) == [] or not race.ran
        assert not race.ran or all(
            is_tombstone(fields, now=world.now)
            for path, fields in left.items()
            if path.startswith("profiles/") and path != bob
        )

    async def test_a_callback_that_was_about_to_be_sent_leaves_nothing_behind(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It changes no profile, so nothing refuses its commit; the second pass finds it."""
        ada = Life(world, "ada")
        await ada.live()
        await world.store_audit()
        race = _Race(world, lambda: erase(world, ada.user))
        monkeypatch.setattr(world.store, "commit", race.commit)
        world.answers = [503]
        await world.stitch(message("late", ada.user, callback="main"))
        assert traces(await everything(world), ada.trace) != []

        world.now += timedelta(seconds=ERASURE_PASSES_S[0] + 1)
        await world.sweep()

        assert traces(await everything(world), ada.trace) == []

    async def test_a_link_between_reading_and_writing_is_erased_too(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ada = Life(world, "ada")
        await ada.live()
        late = Identifier("device_id", "late")
        race = _Race(world, lambda: world.stitch(message("race", ada.user, late)))
        monkeypatch.setattr(world.store, "commit", race.commit)

        await erase(world, ada.browser)

        assert race.ran
        place = await world.document(f"profiles/{KEYRING.profile_id(late)}")
        assert is_tombstone(place, now=world.now)
        assert await world.paths("identifiers") == []


class _Race:
    """A commit of the store before which, the first time, something else happens."""

    def __init__(self, world: World, other: Callable[[], Awaitable[Any]]) -> None:
        self._commit = world.store.commit
        self._other = other
        self.ran = False

    async def commit(self, writes: Sequence[Write], *, deadline: Deadline) -> None:
        if not self.ran:
            self.ran = True
            await self._other()
        await self._commit(writes, deadline=deadline)


class TestCrashes:
    @pytest.mark.parametrize("side", ["before", "behind"])
    async def test_a_crash_at_any_step_leaves_nothing_once_it_is_run_again(
        self, world: World, side: str
    ) -> None:
        for step in range(100):
            ada = Life(world, f"ada{step}")
            await ada.live()
            await world.store_audit()
            world.crash_at = (len(world.effects) + step, side)
            try:
                await world.run_until_crash(_erased_by(world, ada))
            except AssertionError:  # it ended before the crash: every step was tried
                assert step > 8
                break
            world.restart()

            await erase(world, ada.phone)

            await world.store_audit()
            assert traces(await everything(world), ada.trace) == [], step
        else:
            raise AssertionError("an erasure has fewer steps")

    async def test_the_sweep_goes_on_with_what_a_dead_process_began(self, world: World) -> None:
        ada = Life(world, "ada")
        await ada.live()
        await world.store_audit()
        world.crash_at = (len(world.effects), "behind")
        await world.run_until_crash(_erased_by(world, ada))
        world.restart()
        assert (await world.sweep()).erasures == 0  # perhaps it is still at it

        world.now += timedelta(minutes=3)
        assert (await world.sweep()).erasures == 1

        await world.store_audit()
        assert traces(await everything(world), ada.trace) == []

    async def test_an_erasure_whose_journal_is_damaged_holds_up_no_other(
        self, world: World
    ) -> None:
        damaged = Put("erasures/0", {"pending": 0, "status": 5})
        await world.store.commit([damaged], deadline=Deadline.after(5))
        await erased(world)
        world.now += timedelta(seconds=ERASURE_PASSES_S[0] + 1)

        assert (await world.sweep()).erasures == 1

    async def test_without_the_audit_it_waits_and_nobody_is_served(self, world: World) -> None:
        ada = Life(world, "ada")
        await ada.live()
        await world.store_audit()
        world.down = {"audit_table"}

        with pytest.raises(Unavailable):
            await erase(world, ada.user)
        world.now += timedelta(minutes=3)
        swept = await world.sweep()

        assert swept.erasures == 0
        assert not (await look_up(world, ada.browser)).found
        world.down = set()
        assert (await world.sweep()).erasures == 1
        assert traces(await everything(world), ada.trace) == []


async def _erased_by(world: World, life: Life) -> None:
    await erase(world, life.phone)


async def _on_its_way(world: World, life: Life) -> list[dict[str, Any]]:
    """Return messages with a record of this person that no document holds."""
    await world.store_audit()
    event = {"event_name": "x", "client_id": life.browser.value}
    body = {"event": event, "deadline_ms": 5000, "request_id": life.trace}
    await world.decider({}).decide(body, READER)
    return world.published.pop("audit")


class TestLaterPasses:
    async def test_rows_that_were_on_their_way_are_nobodys_after_ninety_minutes(
        self, world: World
    ) -> None:
        ada = Life(world, "ada")
        await ada.live()
        waiting = await _on_its_way(world, ada)
        await erase(world, ada.user)
        await world.store_audit()
        world.published["audit"] = waiting
        await world.store_audit()
        assert traces(await everything(world), ada.trace) != []

        world.now += timedelta(seconds=ERASURE_PASSES_S[0] - 1)
        assert (await world.sweep()).erasures == 0
        world.now += timedelta(seconds=2)
        assert (await world.sweep()).erasures == 1

        assert traces(await everything(world), ada.trace) == []
        await world.store_audit()
        rows = [row for row in await world.rows() if row["record_type"] == "erasure"]
        assert [row["outcome"] for row in rows] == ["erased", "repeated"]

    async def test_after_the_last_one_the_sweep_has_nothing_to_do(self, world: World) -> None:
        await erased(world)
        for seconds in ERASURE_PASSES_S:
            world.now = START + timedelta(seconds=seconds, minutes=10)
            assert (await world.sweep()).erasures == 1
            assert (await world.sweep()).erasures == 0

        [path] = await world.paths("erasures")
        journal = await world.document(path)
        assert journal["status"] == "done"
        assert not {"pending", "profile_ids", "keys", "split_from"} & journal.keys()
        world.now += timedelta(days=10)
        assert (await world.sweep()).erasures == 0

    async def test_a_second_erasure_finds_what_came_late(self, world: World) -> None:
        ada = Life(world, "ada")
        await ada.live()
        waiting = await _on_its_way(world, ada)
        first = await erase(world, ada.user)
        world.published["audit"] = waiting
        await world.store_audit()

        second = await erase(world, ada.phone)

        assert second.erasure_id == first.erasure_id
        assert traces(await everything(world), ada.trace) == []
        assert second.journal.due_at == first.journal.due_at


class TestLifting:
    async def test_who_comes_back_is_somebody_new(self, world: World) -> None:
        ada = await erased(world)

        count = await eraser(world).lift(asked(ada.phone), deadline=Deadline.after(5))

        await world.stitch(message("back", ada.user, ada.browser))
        assert count == 3
        assert await profile_of(world, ada.browser) == KEYRING.profile_id(ada.user)
        document = await world.document(f"profiles/{KEYRING.profile_id(ada.user)}")
        assert document["attributes"] == {}
        world.now += timedelta(days=10)
        assert (await world.sweep()).erasures == 0
        assert await profile_of(world, ada.browser) == KEYRING.profile_id(ada.user)

    async def test_a_crash_leaves_it_to_the_next_call_and_never_erases_anew(
        self, world: World
    ) -> None:
        for step in range(20):
            ada = Life(world, f"ada{step}")
            await ada.live()
            await erase(world, ada.user)
            world.crash_at = (len(world.effects) + step, "behind")
            try:
                await world.run_until_crash(_lifted(world, ada))
            except AssertionError:
                assert step > 2
                break
            world.restart()
            try:
                await eraser(world).lift(asked(ada.user), deadline=Deadline.after(5))
            except TagstitchError:
                assert await world.document(f"profiles/{KEYRING.profile_id(ada.user)}") == {}
            world.now += timedelta(days=9)
            await world.sweep()
            for identifier in ada.identifiers:
                assert await world.document(f"profiles/{KEYRING.profile_id(identifier)}") == {}

    async def test_who_was_not_erased_cannot_be_lifted(self, world: World) -> None:
        with pytest.raises(InvalidInput, match="nobody was erased"):
            await eraser(world).lift(asked(user("u")), deadline=Deadline.after(5))


async def _lifted(world: World, life: Life) -> None:
    await eraser(world).lift(asked(life.user), deadline=Deadline.after(5))
