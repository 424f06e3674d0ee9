"""An import merges what is known elsewhere, steals nothing, and is repeatable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tagstitch.adapters.sqlite_database import SqliteDatabase
from tagstitch.adapters.sqlite_documents import SqliteDocuments
from tagstitch.core.errors import Conflict, InvalidInput
from tagstitch.core.identifier import Identifier, IdentitySettings
from tagstitch.core.profile import parse_profile
from tagstitch.pipeline.backend import Document, Put, Write
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.profile_import import (
    ImportResult,
    export_line,
    import_profiles,
    in_batches,
)
from tagstitch.pipeline.profile_line import parse_profile_line
from tagstitch.pipeline.visitor import VisitorFinder

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
LATER = NOW + timedelta(days=2)
KEYRING = Keyring(b"i" * 32, (("k1", b"p" * 32),), b"r" * 32)
SETTINGS = IdentitySettings()

GOLD = {
    "identifiers": {"user_id": ["u-1"], "email_sha256": ["mara@example.com"]},
    "attributes": {"tier": "Gold", "value": 10.5},
    "consent": {"analytics_storage": True, "email": "denied"},
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteDocuments]:
    database = SqliteDatabase(tmp_path)
    yield SqliteDocuments(database)
    database.close()


async def load(
    store: SqliteDocuments, *lines: dict[str, Any], now: datetime = NOW, **options: Any
) -> ImportResult:
    parsed = [(n, parse_profile_line(line, SETTINGS, KEYRING)) for n, line in enumerate(lines, 1)]
    return await import_profiles(store, parsed, now=now, deadline=Deadline.after(5), **options)


async def everything(store: SqliteDocuments) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for collection in ("profiles", "identifiers"):
        page = await store.list_documents(collection, deadline=Deadline.after(5))
        found |= {document.path: document.fields for document in page}
    return found


def key(type_: str, value: str) -> str:
    return KEYRING.identifier_key(Identifier(type_, value))


async def find(store: SqliteDocuments, type_: str, value: str) -> Any:
    finder = VisitorFinder(store, KEYRING, SETTINGS)
    found = await finder.find([Identifier(type_, value)], now=NOW, deadline=Deadline.after(5))
    return found.profile


async def test_a_line_makes_the_profile_that_an_event_would_have_made(
    store: SqliteDocuments,
) -> None:
    result = await load(store, GOLD)

    assert result.created == 1
    profile = await find(store, "user_id", "u-1")
    assert profile.profile_id == KEYRING.profile_id(Identifier("user_id", "u-1"))
    assert profile.attributes == {"tier": "Gold", "value": 10.5}
    assert profile.consent["email"] == {"granted": False, "at": NOW, "source": "import"}
    assert profile.expires_at == NOW + timedelta(days=396)


async def test_every_identifier_of_a_line_finds_the_profile(store: SqliteDocuments) -> None:
    await load(store, GOLD | {"profile_id": "card-7"})

    by_user = await find(store, "user_id", "u-1")
    email = parse_profile_line(GOLD, SETTINGS, KEYRING).identifier_keys[1]

    assert by_user.profile_id == "card-7"
    assert email in by_user.identifiers
    assert f"identifiers/{email}" in await everything(store)


async def test_importing_twice_changes_nothing(store: SqliteDocuments) -> None:
    await load(store, GOLD)
    before = await everything(store)

    again = await load(store, GOLD, now=LATER)

    assert (again.created, again.updated, again.unchanged) == (0, 0, 1)
    assert await everything(store) == before


async def test_new_attributes_join_the_stored_ones_and_state_stays(store: SqliteDocuments) -> None:
    await load(store, GOLD)
    path = "profiles/" + KEYRING.profile_id(Identifier("user_id", "u-1"))
    stored = (await everything(store))[path]
    kept = {**stored, "state": {"seen": True}, "salt": b"1234"}
    await store.commit([Put(path, kept)], deadline=Deadline.after(5))

    result = await load(store, GOLD | {"attributes": {"tier": "Silver"}}, now=LATER)

    document = (await everything(store))[path]
    assert result.updated == 1
    assert document["attributes"] == {"tier": "Silver", "value": 10.5}
    assert (document["state"], document["salt"]) == ({"seen": True}, b"1234")
    assert document["created_at"] == NOW


async def test_a_changed_attribute_keeps_when_it_was_set(store: SqliteDocuments) -> None:
    await load(store, GOLD)

    await load(store, GOLD | {"attributes": {"tier": "Silver", "value": 10.5}}, now=LATER)

    assert (await find(store, "user_id", "u-1")).fields["attribute_times"] == {"tier": LATER}


async def test_an_older_line_changes_no_newer_value(store: SqliteDocuments) -> None:
    await load(store, GOLD | {"attributes_at": "2026-11-20T00:00:00Z"})
    older = {"attributes": {"tier": "None", "store": "Graz"}, "attributes_at": "2026-11-19T00:00Z"}

    result = await load(store, GOLD | older, now=LATER)

    assert (result.updated, result.older_values) == (1, 1)
    assert (await find(store, "user_id", "u-1")).attributes == {
        "tier": "Gold",
        "value": 10.5,
        "store": "Graz",
    }


async def test_a_put_of_older_values_changes_nothing(store: SqliteDocuments) -> None:
    await load(store, GOLD)
    before = await everything(store)

    older = {"attributes": {"tier": "None"}, "attributes_at": "2026-11-19T00:00Z"}
    result = await load(store, GOLD | older, now=LATER, replace_attributes=True)

    assert (result.unchanged, result.older_values) == (1, 2)
    assert await everything(store) == before


async def test_attributes_are_replaced_on_request(store: SqliteDocuments) -> None:
    await load(store, GOLD)

    await load(store, GOLD | {"attributes": {"tier": "Silver"}}, replace_attributes=True)

    assert (await find(store, "user_id", "u-1")).attributes == {"tier": "Silver"}


async def test_a_dry_run_counts_and_writes_nothing(store: SqliteDocuments) -> None:
    result = await load(store, GOLD, dry_run=True)

    assert result.created == 1
    assert await everything(store) == {}


async def test_an_identifier_of_another_profile_stays_there(store: SqliteDocuments) -> None:
    await load(store, {"profile_id": "one", "identifiers": {"user_id": "u-1"}})

    result = await load(store, {"profile_id": "two", "identifiers": {"user_id": "u-1"}})

    assert result.held_elsewhere == 1
    assert (await find(store, "user_id", "u-1")).profile_id == "one"


async def test_two_lines_about_one_person_in_a_batch_are_one_profile(
    store: SqliteDocuments,
) -> None:
    result = await load(
        store,
        {"identifiers": {"user_id": "u-1"}, "attributes": {"a": 1}},
        {"identifiers": {"user_id": "u-1"}, "attributes": {"b": 2}},
    )

    assert (result.created, result.updated) == (1, 1)
    assert (await find(store, "user_id", "u-1")).attributes == {"a": 1, "b": 2}


async def test_a_line_follows_a_merged_profile_to_the_survivor(store: SqliteDocuments) -> None:
    old = KEYRING.profile_id(Identifier("user_id", "u-1"))
    await store.commit(
        [
            Put(f"profiles/{old}", {"merged_into": "survivor", "created_at": NOW}),
            Put("profiles/survivor", {"attributes": {}, "identifiers": {}, "created_at": NOW}),
        ],
        deadline=Deadline.after(5),
    )

    await load(store, {"identifiers": {"user_id": "u-1"}, "attributes": {"tier": "Gold"}})

    survivor = (await everything(store))["profiles/survivor"]
    assert survivor["attributes"] == {"tier": "Gold"}


BY_HAND = {
    "tier": "Gold",
    "state": "CA",
    "created_at": NOW,
    "attributes": "none",
    "consent": {"email": "granted", "crm": "no", "ads": {"granted": True, "at": NOW}},
}
"""A document that somebody wrote in the console; `state` is the state they live in."""


def test_an_export_has_what_somebody_wrote_by_hand() -> None:
    line = export_line(Document("profiles/R1", BY_HAND, "1"))

    assert line == {
        "profile_id": "R1",
        "identifier_keys": [],
        "attributes": {"tier": "Gold", "state": "CA", "created_at": NOW, "attributes": "none"},
        "consent": {
            "email": {"granted": True, "at": None},
            "crm": {"granted": False, "at": None},
            "ads": {"granted": True, "at": NOW},
        },
    }


async def test_an_import_joins_what_somebody_wrote_by_hand(store: SqliteDocuments) -> None:
    await store.commit([Put("profiles/R1", BY_HAND)], deadline=Deadline.after(5))

    line = {"profile_id": "R1", "attributes": {"tier": "Silver"}, "consent": {"crm": True}}
    result = await load(store, line)

    stored = (await everything(store))["profiles/R1"]
    assert result.updated == 1
    assert stored["attributes"] == {
        "tier": "Silver",
        "state": "CA",
        "created_at": NOW,
        "attributes": "none",
    }
    assert stored["consent"]["crm"]["granted"] is False  # an undated grant never ends a denial
    assert "state" not in stored


async def test_an_erased_person_is_not_brought_back(store: SqliteDocuments) -> None:
    path = "profiles/" + KEYRING.profile_id(Identifier("user_id", "u-1"))
    await store.commit([Put(path, {"erased_at": NOW})], deadline=Deadline.after(5))

    result = await load(store, GOLD)

    assert [r.code for r in result.rejections] == ["erased"]
    assert list(await everything(store)) == [path]


async def test_an_expired_profile_begins_anew(store: SqliteDocuments) -> None:
    path = "profiles/" + KEYRING.profile_id(Identifier("user_id", "u-1"))
    old = {"attributes": {"old": 1}, "created_at": NOW, "expires_at": NOW - timedelta(days=1)}
    await store.commit([Put(path, old)], deadline=Deadline.after(5))

    result = await load(store, GOLD)

    assert result.created == 1
    assert "old" not in (await find(store, "user_id", "u-1")).attributes


async def test_a_document_written_by_hand_keeps_its_attributes(store: SqliteDocuments) -> None:
    await store.commit(
        [Put("profiles/R210319-1", {"user_loyalty_tier": "Gold"})], deadline=Deadline.after(5)
    )

    await load(store, {"profile_id": "R210319-1", "attributes": {"store": "Vienna"}})

    fields = (await everything(store))["profiles/R210319-1"]
    profile = parse_profile("R210319-1", fields, now=NOW)
    assert profile is not None
    assert profile.attributes == {"user_loyalty_tier": "Gold", "store": "Vienna"}


@pytest.mark.parametrize(
    ("first", "second", "granted"),
    [
        (False, True, False),  # an undated grant does not end a denial
        (True, False, False),
        ({"granted": False, "at": "2026-11-20T00:00:00Z"}, {"granted": True, "at": "2026-11-21T00:00:00Z"}, True),
        ({"granted": True, "at": "2026-11-21T00:00:00Z"}, {"granted": False, "at": "2026-11-20T00:00:00Z"}, True),
        ({"granted": False, "at": "2026-11-20T00:00:00Z"}, {"granted": True, "at": "2026-11-20T00:00:00Z"}, False),
        (1, "yes", False),  # neither is a clear grant
    ],
)  # fmt: skip
async def test_the_newest_consent_wins_and_a_tie_is_a_denial(
    store: SqliteDocuments, first: Any, second: Any, granted: object
) -> None:
    line = {"identifiers": {"user_id": "u-1"}}

    await load(store, line | {"consent": {"email": first}})
    await load(store, line | {"consent": {"email": second}}, now=LATER)

    assert (await find(store, "user_id", "u-1")).consent["email"]["granted"] is granted


async def test_an_export_reads_back_into_an_empty_store(
    store: SqliteDocuments, tmp_path: Path
) -> None:
    import msgspec

    await load(store, GOLD | {"profile_id": "card-7"})
    page = await store.list_documents("profiles", deadline=Deadline.after(5))
    lines = [
        msgspec.json.decode(msgspec.json.encode(export_line(document)))
        for document in page
        if "merged_into" not in document.fields  # an alias is nobody, and the command skips it
    ]
    database = SqliteDatabase(tmp_path / "other")
    other = SqliteDocuments(database)

    await load(other, *lines)

    restored = await find(other, "user_id", "u-1")
    database.close()
    assert restored.profile_id == "card-7"
    assert restored.attributes == GOLD["attributes"]
    assert restored.consent["email"]["at"] == NOW


async def test_an_export_reads_back_to_the_same_document(
    store: SqliteDocuments, tmp_path: Path
) -> None:
    import msgspec

    await load(store, GOLD | {"profile_id": "card-7", "attributes_at": "2026-11-20T00:00:00Z"})
    await load(store, {"profile_id": "card-7", "attributes": {"tier": "Silver"}}, now=LATER)
    document = await store.get("profiles/card-7", deadline=Deadline.after(5))
    assert document is not None
    line = msgspec.json.decode(msgspec.json.encode(export_line(document)))
    database = SqliteDatabase(tmp_path / "other")
    other = SqliteDocuments(database)

    again = await load(store, line, now=LATER)
    await load(other, line, now=LATER)

    restored = (await everything(other))["profiles/card-7"]
    database.close()
    assert again.unchanged == 1
    for name in ("attributes", "attribute_times", "created_at"):
        assert restored[name] == document.fields[name]


async def version_of(store: SqliteDocuments, profile_id: str) -> str:
    document = await store.get(f"profiles/{profile_id}", deadline=Deadline.after(5))
    return document.version if document else ""


async def test_a_version_that_is_given_must_be_the_documents(store: SqliteDocuments) -> None:
    line = {"profile_id": "card-7", "attributes": {"tier": "Gold"}}
    await load(store, line, if_version="")
    seen = await version_of(store, "card-7")
    await load(store, line | {"attributes": {"tier": "Silver"}}, if_version=seen)
    before = await everything(store)

    for version in (seen, "", "nonsense"):
        with pytest.raises(Conflict):
            await load(store, line, if_version=version)

    assert await everything(store) == before


async def test_a_version_of_a_profile_that_was_merged_is_out_of_date(
    store: SqliteDocuments,
) -> None:
    alias = {"merged_into": "survivor", "created_at": NOW}
    await store.commit([Put("profiles/old", alias)], deadline=Deadline.after(5))

    with pytest.raises(Conflict):
        await load(store, {"profile_id": "old"}, if_version=await version_of(store, "old"))


class Overtaken(SqliteDocuments):
    """A store in which somebody else writes just before the first commit."""

    def __init__(self, database: SqliteDatabase, write: Put) -> None:
        super().__init__(database)
        self._write: list[Put] = [write]

    async def commit(self, writes: Sequence[Write], *, deadline: Deadline) -> None:
        while self._write:
            await super().commit([self._write.pop()], deadline=deadline)
        await super().commit(writes, deadline=deadline)


async def test_who_is_overtaken_between_read_and_commit_is_refused(
    store: SqliteDocuments,
) -> None:
    await load(store, {"profile_id": "card-7", "attributes": {"tier": "Gold"}})
    theirs = Put("profiles/card-7", {"attributes": {"tier": "Black"}, "identifiers": {}})
    seen = await version_of(store, "card-7")

    with pytest.raises(Conflict):
        await load(
            Overtaken(store.database, theirs),
            {"profile_id": "card-7", "attributes": {"tier": "Silver"}},
            if_version=seen,
        )

    assert (await everything(store))["profiles/card-7"]["attributes"] == {"tier": "Black"}


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ([], None),
        ({}, "identifiers"),
        ({"identifiers": {"user_id": "u-1"}, "attribute": {}}, None),
        ({"identifiers": {"shoe_size": "44"}}, "identifiers"),
        ({"identifiers": {"user_id": "undefined"}}, "identifiers.user_id"),
        ({"identifiers": {"user_id": [None]}}, "identifiers.user_id"),
        ({"profile_id": "a/b"}, "profile_id"),
        ({"profile_id": "__a__"}, "profile_id"),
        ({"profile_id": "a", "attributes": []}, "attributes"),
        ({"profile_id": "a", "attributes": {"x": [[1]]}}, "attributes.x"),
        ({"profile_id": "a", "attributes": {"x": 2**64}}, "attributes.x"),
        ({"profile_id": "a", "attributes": {"": 1}}, "attributes"),
        ({"profile_id": "a", "attributes": {"__a__": 1}}, "attributes"),
        ({"profile_id": "a", "attributes": {"x": {"__a__": 1}}}, "attributes.x"),
        ({"profile_id": "a", "attributes": {"x": [{"": 1}]}}, "attributes.x"),
        ({"profile_id": "a", "attributes": {"ä" * 751: 1}}, "attributes"),
        ({"profile_id": "a", "consent": {"": True}}, "consent"),
        ({"profile_id": "a", "consent": {"__a__": {"granted": True}}}, "consent"),
        (
            {"profile_id": "a", "consent": {"email": {"granted": True, "at": "yesterday"}}},
            "consent.email.at",
        ),
        ({"profile_id": "a", "attributes_at": "2026-11-21"}, "attributes_at"),
        ({"profile_id": "a", "attribute_times": {"x": "2026-11-21T20:00:00Z"}}, "attribute_times"),
        (
            {"profile_id": "a", "attributes": {"x": 1}, "attribute_times": {"x": 7}},
            "attribute_times.x",
        ),
        ({"profile_id": "a", "created_at": "soon"}, "created_at"),
        ({"profile_id": "a", "identifier_keys": ["user_id:short"]}, "identifier_keys"),
    ],
)
def test_a_line_that_cannot_be_right_is_refused(line: Any, path: str | None) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_profile_line(line, SETTINGS, KEYRING)

    assert refused.value.path == path


async def test_a_profile_that_would_be_too_large_is_rejected(store: SqliteDocuments) -> None:
    result = await load(store, {"profile_id": "a", "attributes": {"text": "x" * 300_000}})

    assert len(result.rejections) == 1
    assert await everything(store) == {}


async def test_its_size_is_what_the_store_counts(store: SqliteDocuments) -> None:
    """As a merge counts it: a number has 8 bytes, however few of them a file needs."""
    line = {"profile_id": "a", "attributes": {"numbers": [1] * 40_000}}

    result = await load(store, line)

    assert len(result.rejections) == 1
    assert await everything(store) == {}


def test_batches_fit_one_commit() -> None:
    small = parse_profile_line({"profile_id": "a"}, SETTINGS, KEYRING)
    keys = [f"client_id:{'A' * 24}{c}{d}" for c in "ABCDEFG" for d in "ABCDEFG"]
    large = parse_profile_line({"profile_id": "b", "identifier_keys": keys}, SETTINGS, KEYRING)

    batches = list(in_batches(enumerate([small] * 70 + [large] * 30)))

    assert [n for batch in batches for n, _ in batch] == list(range(100))
    assert max(map(len, batches)) == 30
    assert all(sum(1 + len(line.identifier_keys) for _, line in b) <= 500 for b in batches)
