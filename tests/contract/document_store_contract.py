"""What every document store must do; a backend's test file subclasses with its `store` fixture."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tagstitch.core.errors import Conflict, InvalidInput, Unavailable
from tagstitch.pipeline.backend import Delete, DocumentStore, Patch, Put, Write
from tagstitch.pipeline.deadline import Deadline

Call = Callable[[DocumentStore, str, Deadline], Any]

VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "zero": 0,
    "smallest integer": -(2**63),
    "largest integer": 2**63 - 1,
    "beyond a double's integers": 2**53 + 1,
    "whole float": 1.0,
    "float": 0.1,
    "negative float": -2.5e-10,
    "largest float": 1.7976931348623157e308,
    "smallest float": 5e-324,
    "empty text": "",
    "non-ASCII text": "Grüße, 東京 🙂 e\u0301 \u202eabc",
    "text with control characters": "a\tb\nc\"d'e\\f",
    "bytes": bytes(range(256)),
    "empty bytes": b"",
    "time": datetime(2026, 11, 21, 20, 0, 0, 123456, tzinfo=UTC),
    "time before 1970": datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    "early time": datetime(1, 1, 2, tzinfo=UTC),
    "late time": datetime(9999, 12, 30, 23, 59, 59, 999999, tzinfo=UTC),
    "empty list": [],
    "list": [None, True, 1, 1.5, "a", b"b", datetime(2026, 1, 1, tzinfo=UTC), {"k": [1]}, {}],
    "empty map": {},
    "map": {"a": {"b": {"c": [1, {"d": None}]}}, "empty": {}, "list": []},
}

FIELD_NAMES = [
    "plain",
    "with.dot",
    ".",
    "with blank",
    " ",
    "with`backquote",
    "`",
    "back\\slash",
    'quo"te',
    "1leading_digit",
    "42",
    "x-ga-gcd",
    "[0]",
    "a/b",
    "*~",
    "ünïcode 🙂",
    "_underscore",
    "__two",
]

REFUSED_VALUES: dict[str, Any] = {
    "a list inside a list": [[1]],
    "a list inside a list further down": {"a": [{"b": [[1]]}]},
    "a naive time": datetime(2026, 1, 1),  # noqa: DTZ001 - the case under test
    "a set": {1, 2},
    "an integer above 64 bits": 2**63,
    "a map with a number as key": {1: "a"},
    "an object": object(),
}


def soon() -> Deadline:
    return Deadline.after(20)


def over() -> Deadline:
    return Deadline.after(-1)


class DocumentStoreContract:
    @pytest.fixture
    def collection(self) -> str:
        return f"contract_{secrets.token_hex(6)}"

    # Values

    @pytest.mark.parametrize("name", VALUES)
    async def test_a_value_comes_back_equal_and_of_the_same_type(
        self, store: DocumentStore, collection: str, name: str
    ) -> None:
        await store.commit([Put(f"{collection}/a", {"value": VALUES[name]})], deadline=soon())

        document = await store.get(f"{collection}/a", deadline=soon())

        assert document is not None
        assert_same(dict(document.fields), {"value": VALUES[name]})

    async def test_a_time_of_another_zone_comes_back_as_the_same_instant_in_utc(
        self, store: DocumentStore, collection: str
    ) -> None:
        time = datetime(2026, 11, 21, 21, 0, 0, 1, tzinfo=timezone(timedelta(hours=1)))
        await store.commit([Put(f"{collection}/a", {"time": time})], deadline=soon())

        document = await store.get(f"{collection}/a", deadline=soon())

        assert document is not None
        assert_same(document.fields["time"], datetime(2026, 11, 21, 20, 0, 0, 1, tzinfo=UTC))

    async def test_any_field_name_is_put_patched_and_removed_as_it_is(
        self, store: DocumentStore, collection: str
    ) -> None:
        path = f"{collection}/a"
        await store.commit([Put(path, {name: {name: 1} for name in FIELD_NAMES})], deadline=soon())
        half = len(FIELD_NAMES) // 2
        patch = Patch(path, dict.fromkeys(FIELD_NAMES[:half], 2), remove=FIELD_NAMES[half:-1])
        await store.commit([patch], deadline=soon())

        document = await store.get(path, deadline=soon())

        assert document is not None
        last = FIELD_NAMES[-1]
        assert dict(document.fields) == {**dict.fromkeys(FIELD_NAMES[:half], 2), last: {last: 1}}

    async def test_a_document_without_fields_exists(
        self, store: DocumentStore, collection: str
    ) -> None:
        await store.commit([Put(f"{collection}/a", {})], deadline=soon())

        document = await store.get(f"{collection}/a", deadline=soon())

        assert document is not None
        assert dict(document.fields) == {}
        assert document.path == f"{collection}/a"

    @pytest.mark.parametrize("name", REFUSED_VALUES)
    async def test_a_value_outside_the_list_is_a_bug_and_nothing_is_written(
        self, store: DocumentStore, collection: str, name: str
    ) -> None:
        with pytest.raises((TypeError, ValueError, OverflowError)):
            await store.commit(
                [
                    Put(f"{collection}/good", {"a": 1}),
                    Put(f"{collection}/bad", {"value": REFUSED_VALUES[name]}),
                ],
                deadline=soon(),
            )

        assert await store.list_documents(collection, deadline=soon()) == []

    async def test_a_document_above_one_mebibyte_is_refused_for_good(
        self, store: DocumentStore, collection: str
    ) -> None:
        with pytest.raises(InvalidInput):
            await store.commit(
                [Put(f"{collection}/a", {"value": "x" * (1024 * 1024 + 1)})], deadline=soon()
            )

        assert await store.get(f"{collection}/a", deadline=soon()) is None

    @pytest.mark.parametrize("document_id", ["a:b", "p_1.2-3~4", "GA1.1.12", "ü 🙂", "a%2Fb", "1"])
    async def test_document_ids_are_taken_as_they_are(
        self, store: DocumentStore, collection: str, document_id: str
    ) -> None:
        path = f"{collection}/{document_id}"
        await store.commit([Put(path, {"a": 1})], deadline=soon())

        (listed,) = await store.list_documents(collection, deadline=soon())

        assert listed.path == path
        assert set(await store.get_many([path], deadline=soon())) == {path}

    # Reading

    async def test_a_missing_document_is_none(self, store: DocumentStore, collection: str) -> None:
        assert await store.get(f"{collection}/missing", deadline=soon()) is None

    async def test_get_many_returns_each_existing_document_once(
        self, store: DocumentStore, collection: str
    ) -> None:
        a, b, missing = (f"{collection}/{name}" for name in ("a", "b", "missing"))
        await store.commit([Put(a, {"n": 1}), Put(b, {"n": 2})], deadline=soon())

        documents = await store.get_many([b, missing, a, b, missing], deadline=soon())

        assert {path: dict(document.fields) for path, document in documents.items()} == {
            a: {"n": 1},
            b: {"n": 2},
        }
        assert documents[a] == await store.get(a, deadline=soon())

    async def test_get_many_of_nothing_is_empty(self, store: DocumentStore) -> None:
        assert await store.get_many([], deadline=soon()) == {}

    # Writing

    async def test_a_commit_of_nothing_does_nothing(self, store: DocumentStore) -> None:
        await store.commit([], deadline=soon())

    async def test_put_replaces_the_whole_document(
        self, store: DocumentStore, collection: str
    ) -> None:
        path = f"{collection}/a"
        await store.commit([Put(path, {"old": 1, "kept": 1})], deadline=soon())
        await store.commit([Put(path, {"kept": 2})], deadline=soon())

        document = await store.get(path, deadline=soon())

        assert document is not None
        assert dict(document.fields) == {"kept": 2}

    async def test_creating_a_document_twice_is_a_conflict(
        self, store: DocumentStore, collection: str
    ) -> None:
        path = f"{collection}/a"
        await store.commit([Put(path, {"n": 1}, if_version="")], deadline=soon())

        with pytest.raises(Conflict):
            await store.commit([Put(path, {"n": 2}, if_version="")], deadline=soon())

        document = await store.get(path, deadline=soon())
        assert document is not None
        assert dict(document.fields) == {"n": 1}

    async def test_a_put_holds_only_while_the_version_does(
        self, store: DocumentStore, collection: str
    ) -> None:
        path = f"{collection}/a"
        first = await self._written(store, path, {"n": 1})
        await store.commit([Put(path, {"n": 2}, if_version=first)], deadline=soon())

        with pytest.raises(Conflict):
            await store.commit([Put(path, {"n": 3}, if_version=first)], deadline=soon())

        document = await store.get(path, deadline=soon())
        assert document is not None
        assert dict(document.fields) == {"n": 2}

    async def test_a_versioned_put_of_a_missing_document_is_a_conflict(
        self, store: DocumentStore, collection: str
    ) -> None:
        path = f"{collection}/a"
        version = await self._written(store, path, {"n": 1})
        await store.commit([Delete(path)], deadline=soon())

        with pytest.raises(Conflict):
            await store.commit([Put(path, {"n": 2}, if_version=version)], deadline=soon())

        assert await store.get(path, deadline=soon()) is None

    async def test_the_version_changes_with_the_content(
        self, store: DocumentStore, collection: str
    ) -> None:
        path = f"{collection}/a"
        versions = [await self._written(store, path, {"n": n}) for n in (1, 2, 1)]
        await store.commit([Patch(path, {"n": 9})], deadline=soon())
        patched = await store.get(path, deadline=soon())

        assert patched is not None
        assert len({*versions, patched.version}) == 4
        assert all(versions)

    async def test_reading_does_not_change_the_version(
        self, store: DocumentStore, collection: str
    ) -> None:
        version = await self._written(store, f"{collection}/a", {"n": 1})

        again = await store.get(f"{collection}/a", deadline=soon())
        (listed,) = await store.list_documents(collection, deadline=soon())

        assert again is not None
        assert again.version == version == listed.version

    async def test_a_document_made_again_has_a_version_of_its_own(
        self, store: DocumentStore, collection: str
    ) -> None:
        path = f"{collection}/a"
        first = await self._written(store, path, {"n": 1})
        await store.commit([Delete(path)], deadline=soon())
        await self._written(store, path, {"n": 1})

        with pytest.raises(Conflict):
            await store.commit([Put(path, {"n": 2}, if_version=first)], deadline=soon())

    async def test_a_patch_sets_and_removes_top_level_fields(
        self, store: DocumentStore, collection: str
    ) -> None:
        path = f"{collection}/a"
        await store.commit(
            [Put(path, {"kept": 1, "map": {"x": 1, "y": 2}, "gone": 1})], deadline=soon()
        )
        patch = Patch(path, {"map": {"x": 3}, "new": [1]}, remove=["gone", "never there"])
        await store.commit([patch], deadline=soon())

        document = await store.get(path, deadline=soon())

        assert document is not None
        assert dict(document.fields) == {"kept": 1, "map": {"x": 3}, "new": [1]}

    async def test_a_patch_that_only_removes_keeps_the_rest(
        self, store: DocumentStore, collection: str
    ) -> None:
        path = f"{collection}/a"
        await store.commit([Put(path, {"kept": 1, "gone": 1})], deadline=soon())
        await store.commit([Patch(path, {}, remove=["gone"])], deadline=soon())

        document = await store.get(path, deadline=soon())

        assert document is not None
        assert dict(document.fields) == {"kept": 1}

    async def test_a_patch_of_a_missing_document_is_a_conflict(
        self, store: DocumentStore, collection: str
    ) -> None:
        with pytest.raises(Conflict):
            await store.commit([Patch(f"{collection}/a", {"n": 1})], deadline=soon())

        assert await store.get(f"{collection}/a", deadline=soon()) is None

    async def test_a_patch_with_a_stale_version_is_a_conflict(
        self, store: DocumentStore, collection: str
    ) -> None:
        path = f"{collection}/a"
        first = await self._written(store, path, {"n": 1})
        await store.commit([Patch(path, {"n": 2}, if_version=first)], deadline=soon())

        with pytest.raises(Conflict):
            await store.commit([Patch(path, {"n": 3}, if_version=first)], deadline=soon())

    async def test_a_deleted_document_is_gone_and_may_be_deleted_again(
        self, store: DocumentStore, collection: str
    ) -> None:
        path = f"{collection}/a"
        await store.commit([Put(path, {"n": 1})], deadline=soon())
        await store.commit([Delete(path)], deadline=soon())
        await store.commit([Delete(path)], deadline=soon())

        assert await store.get(path, deadline=soon()) is None
        assert await store.list_documents(collection, deadline=soon()) == []

    @pytest.mark.parametrize("position", [0, 3])
    async def test_a_commit_with_one_conflict_writes_nothing(
        self, store: DocumentStore, collection: str, position: int
    ) -> None:
        taken, patched, deleted, new = (f"{collection}/{name}" for name in "abcd")
        await store.commit(
            [Put(path, {"n": 1}) for path in (taken, patched, deleted)], deadline=soon()
        )
        writes: list[Write] = [Put(new, {"n": 2}), Patch(patched, {"n": 2}), Delete(deleted)]
        with pytest.raises(Conflict):
            await store.commit(
                [
                    *writes[:position],
                    Put(taken, {"n": 2}, if_version=""),
                    *writes[position:],
                ],
                deadline=soon(),
            )

        documents = await store.list_documents(collection, deadline=soon())
        assert {document.path: dict(document.fields) for document in documents} == {
            taken: {"n": 1},
            patched: {"n": 1},
            deleted: {"n": 1},
        }

    async def test_a_commit_may_have_five_hundred_writes(
        self, store: DocumentStore, collection: str
    ) -> None:
        paths = [f"{collection}/{n:03}" for n in range(500)]
        await store.commit([Put(path, {"path": path}) for path in paths], deadline=soon())

        documents = await store.get_many(paths, deadline=soon())

        assert {path: document.fields["path"] for path, document in documents.items()} == {
            path: path for path in paths
        }

    # Concurrency

    async def test_of_twenty_concurrent_creators_exactly_one_wins(
        self, store: DocumentStore, collection: str
    ) -> None:
        path = f"{collection}/a"

        won = await asyncio.gather(
            *(self._wins(store, Put(path, {"n": n}, if_version="")) for n in range(20))
        )

        document = await store.get(path, deadline=soon())
        assert document is not None
        assert [n for n in range(20) if won[n]] == [document.fields["n"]]

    async def test_of_twenty_concurrent_commits_on_one_version_exactly_one_wins(
        self, store: DocumentStore, collection: str
    ) -> None:
        path = f"{collection}/a"
        version = await self._written(store, path, {"n": -1})

        won = await asyncio.gather(
            *(self._wins(store, Put(path, {"n": n}, if_version=version)) for n in range(20))
        )

        document = await store.get(path, deadline=soon())
        assert document is not None
        assert [n for n in range(20) if won[n]] == [document.fields["n"]]

    async def test_twenty_writers_that_reload_after_a_conflict_all_succeed(
        self, store: DocumentStore, collection: str
    ) -> None:
        path = f"{collection}/a"
        await store.commit([Put(path, {"n": 0})], deadline=soon())

        async def add_one() -> None:
            while True:
                document = await store.get(path, deadline=soon())
                assert document is not None
                put = Put(path, {"n": document.fields["n"] + 1}, if_version=document.version)
                if await self._wins(store, put):
                    return

        await asyncio.wait_for(asyncio.gather(*(add_one() for _ in range(20))), 60)

        document = await store.get(path, deadline=soon())
        assert document is not None
        assert document.fields["n"] == 20

    async def test_concurrent_commits_on_different_documents_all_succeed(
        self, store: DocumentStore, collection: str
    ) -> None:
        await asyncio.gather(
            *(
                store.commit([Put(f"{collection}/{n}", {"n": n}, if_version="")], deadline=soon())
                for n in range(50)
            )
        )

        assert len(await store.list_documents(collection, deadline=soon())) == 50

    # Listing

    async def test_listing_pages_in_order_of_the_path(
        self, store: DocumentStore, collection: str
    ) -> None:
        paths = [f"{collection}/{name}" for name in ("A", "B", "a", "b", "é", "🙂")]
        await store.commit([Put(path, {}) for path in reversed(paths)], deadline=soon())

        pages: list[list[str]] = []
        after: str | None = None
        while page := await store.list_documents(collection, after=after, limit=4, deadline=soon()):
            pages.append([document.path for document in page])
            after = page[-1].path

        assert pages == [paths[:4], paths[4:]]

    async def test_listing_keeps_to_its_collection(
        self, store: DocumentStore, collection: str
    ) -> None:
        await store.commit(
            [Put(f"{name}/x", {}) for name in (collection, f"{collection}0", f"{collection}_")],
            deadline=soon(),
        )

        documents = await store.list_documents(collection, deadline=soon())

        assert [document.path for document in documents] == [f"{collection}/x"]

    async def test_listing_continues_behind_a_document_that_is_gone(
        self, store: DocumentStore, collection: str
    ) -> None:
        await store.commit([Put(f"{collection}/{n}", {}) for n in "abc"], deadline=soon())
        await store.commit([Delete(f"{collection}/b")], deadline=soon())

        documents = await store.list_documents(collection, after=f"{collection}/b", deadline=soon())

        assert [document.path for document in documents] == [f"{collection}/c"]

    async def test_listing_pending_keeps_what_has_that_shard(
        self, store: DocumentStore, collection: str
    ) -> None:
        shards: dict[str, Any] = {"a": 7, "b": 8, "c": None, "d": 7, "f": 7}
        await store.commit(
            [
                *(Put(f"{collection}/{name}", {"pending": n}) for name, n in shards.items()),
                Put(f"{collection}/e", {"n": 7}),
            ],
            deadline=soon(),
        )
        await store.commit(
            [
                Patch(f"{collection}/d", {}, remove=["pending"]),
                Patch(f"{collection}/e", {"pending": 7}),
            ],
            deadline=soon(),
        )

        first = await store.list_documents(collection, pending=7, limit=2, deadline=soon())
        second = await store.list_documents(
            collection, pending=7, after=first[-1].path, limit=2, deadline=soon()
        )

        assert [d.path[-1] for d in first] == ["a", "e"]
        assert [d.path[-1] for d in second] == ["f"]
        assert dict(first[1].fields) == {"n": 7, "pending": 7}

    async def test_listing_anything_pending_keeps_what_has_a_shard(
        self, store: DocumentStore, collection: str
    ) -> None:
        shards: dict[str, Any] = {"a": 63, "b": 8, "c": None, "d": 0, "e": 8, "f": True, "g": "7"}
        others = [Put(f"{collection}a/x", {"pending": 1}), Put(f"{collection}/h", {"n": 7})]
        await store.commit(
            [*(Put(f"{collection}/{name}", {"pending": n}) for name, n in shards.items()), *others],
            deadline=soon(),
        )

        all_of_them = await store.list_documents(collection, pending="any", deadline=soon())
        some = await store.list_documents(collection, pending="any", limit=3, deadline=soon())

        assert [d.path[-1] for d in all_of_them] == ["d", "b", "e", "a"]
        assert [d.path[-1] for d in some] == ["d", "b", "e"]
        assert dict(all_of_them[0].fields) == {"pending": 0}

    async def test_listing_a_subject_keeps_what_is_of_that_one(
        self, store: DocumentStore, collection: str
    ) -> None:
        of: dict[str, Any] = {"a": "k:A", "b": "k:B", "c": None, "d": "k:A", "e": 5, "f": "k:A"}
        await store.commit(
            [Put(f"{collection}/{name}", {"subject": one}) for name, one in of.items()],
            deadline=soon(),
        )
        await store.commit(
            [
                Patch(f"{collection}/d", {}, remove=["subject"]),
                Patch(f"{collection}/e", {"subject": "k:A", "pending": 3}),
            ],
            deadline=soon(),
        )

        first = await store.list_documents(collection, subject="k:A", limit=2, deadline=soon())
        second = await store.list_documents(
            collection, subject="k:A", after=first[-1].path, limit=2, deadline=soon()
        )

        assert [d.path[-1] for d in first] == ["a", "e"]
        assert [d.path[-1] for d in second] == ["f"]

    # Deadlines

    @pytest.mark.parametrize(
        "call",
        [
            lambda store, path, deadline: store.get(path, deadline=deadline),
            lambda store, path, deadline: store.get_many([path], deadline=deadline),
            lambda store, path, deadline: store.commit([Put(path, {})], deadline=deadline),
            lambda store, path, deadline: store.list_documents(
                path.partition("/")[0], deadline=deadline
            ),
        ],
        ids=["get", "get_many", "commit", "list_documents"],
    )
    async def test_a_call_whose_deadline_is_over_is_unavailable_and_does_nothing(
        self, store: DocumentStore, collection: str, call: Call
    ) -> None:
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable):
                await call(store, f"{collection}/a", over())

        assert await store.get(f"{collection}/a", deadline=soon()) is None

    # Steps that several tests share

    async def _written(self, store: DocumentStore, path: str, fields: dict[str, Any]) -> str:
        await store.commit([Put(path, fields)], deadline=soon())
        document = await store.get(path, deadline=soon())
        assert document is not None
        return document.version

    async def _wins(self, store: DocumentStore, put: Put) -> bool:
        try:
            await store.commit([put], deadline=soon())
        except Conflict:
            return False
        return True


def assert_same(actual: Any, expected: Any) -> None:
    """Compare values and their types, so that 1, 1.0 and True are three things."""
    assert type(actual) is type(expected) or isinstance(expected, datetime)
    assert actual == expected
    if isinstance(expected, datetime):
        assert isinstance(actual, datetime)
        assert actual.utcoffset() == timedelta(0)
    elif isinstance(expected, dict):
        for key, value in expected.items():
            assert_same(actual[key], value)
    elif isinstance(expected, list):
        for ours, theirs in zip(actual, expected, strict=True):
            assert_same(ours, theirs)
