"""Whoever tries identifiers learns nothing: not by an answer, and not by the work behind it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tagstitch.adapters.sqlite_documents import SqliteDocuments
from tests.functions.conftest import Start
from tests.functions.test_bad_input import check_error
from tests.functions.test_forged_hits import (
    ADDRESS,
    FORGED_LOOKUPS,
    THIEF,
    USER,
    service,
)

READS = ("get", "get_many", "list_documents", "commit")
WARMING = {"id": "x", "deadline_ms": 3000}
TRIED: list[dict[str, Any]] = [
    {"id": USER},
    {"identifiers": {"user_id": USER}},
    {"identifiers": {"email_sha256": ADDRESS}},
    {"identifiers": {"client_id": THIEF}},
    {"identifiers": {"client_id": "nobody.1"}},
]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What the store is asked from now on: the method, and for how many documents."""
    seen: list[tuple[str, int]] = []

    def spy(name: str) -> None:
        real = getattr(SqliteDocuments, name)

        async def asked_and_answered(self: SqliteDocuments, what: Any, **options: Any) -> Any:
            count = len(what) if isinstance(what, Sequence) and not isinstance(what, str) else 1
            seen.append((name, count))
            return await real(self, what, **options)

        monkeypatch.setattr(SqliteDocuments, name, asked_and_answered)

    for name in READS:
        spy(name)
    return seen


@pytest.mark.parametrize("body", TRIED, ids=json.dumps)
@pytest.mark.parametrize("key", ["", "wrong", "s" * 31])
async def test_without_a_key_known_and_unknown_are_the_same_and_nothing_is_read(
    start: Start, tmp_path: Path, asked: list[tuple[str, int]], key: str, body: dict[str, Any]
) -> None:
    async with service(start, tmp_path, knows_victim=True) as running:
        await running.post("stitch_sync", "/", WARMING)
        asked.clear()

        answer = await running.post("stitch_sync", "/", body, key)
        read_without_a_key = list(asked)
        await running.post("stitch_sync", "/", {"id": "somebody else"})

    error = check_error(answer, 401, "unauthorized")
    del error["error_id"]
    assert json.dumps(error) == (
        '{"code": "unauthorized", "message": "missing or wrong key or signature, or a scope that'
        ' the key lacks", "hint": "docs/settings.md, TAGSTITCH_AUTH, says how to authenticate"}'
    )
    assert read_without_a_key == []
    assert asked != []


@pytest.mark.parametrize("name", FORGED_LOOKUPS)
async def test_a_key_that_does_not_vouch_causes_the_same_work_whoever_is_known(
    start: Start, tmp_path: Path, asked: list[tuple[str, int]], name: str
) -> None:
    work = []
    for knows_victim in (True, False):
        place = tmp_path / str(knows_victim)
        async with service(start, place, knows_victim=knows_victim) as running:
            await running.post("stitch_sync", "/", WARMING)
            asked.clear()

            await running.post("stitch_sync", "/", {**FORGED_LOOKUPS[name], "deadline_ms": 3000})

            work.append(list(asked))

    assert work[0] == work[1]
