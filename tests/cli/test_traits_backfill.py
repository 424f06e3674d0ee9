"""`tagstitch traits backfill`: files of the past against a plain query over the same rows."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Final

import duckdb
import grpc
import pytest
from google.pubsub_v1 import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from tagstitch.cli import backfill_run
from tagstitch.cli.opened_backend import opened_backend
from tagstitch.core.identifier import Identifier
from tagstitch.core.profile import typed_profile
from tagstitch.local_stack.emulators import Emulators
from tagstitch.pipeline.backend import Delete
from tagstitch.pipeline.backfill_traits import TraitBackfill
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.list_all import list_all
from tagstitch.pipeline.publish_audit import AUDIT_TOPIC
from tests.cli.conftest import Cli

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)

TRAITS: Final[Mapping[str, Any]] = {
    "visits": {"event": "*", "operation": "sessions"},
    "page_views": {"event": "page_view", "operation": "count"},
    "first_seen_s": {"event": "*", "operation": "time_since_first", "unit": "seconds"},
    "last_seen_s": {"event": "*", "operation": "time_since_last", "unit": "seconds"},
    "items_viewed": {
        "event": "view_item", "operation": "count_distinct", "field": "items.$.item_id",
    },
    "revenue": {"event": "purchase", "operation": "sum", "field": "value"},
}  # fmt: skip

QUERY: Final = """
WITH params AS (
    SELECT user_pseudo_id AS visitor, event_name, event_timestamp, items, ecommerce,
        list_filter(event_params, p -> p.key = 'ga_session_id')[1].value.int_value AS session_id
    FROM events
), viewed AS (
    SELECT visitor, unnest(items).item_id AS item_id FROM params WHERE event_name = 'view_item'
)
SELECT visitor,
    count(DISTINCT session_id) AS visits,
    count(*) FILTER (event_name = 'page_view') AS page_views,
    ($now_ms - min(event_timestamp // 1000)) // 1000 AS first_seen_s,
    ($now_ms - max(event_timestamp // 1000)) // 1000 AS last_seen_s,
    (SELECT count(DISTINCT item_id) FROM viewed
     WHERE viewed.visitor = params.visitor AND item_id NOT IN ('', '(not set)')) AS items_viewed,
    sum(ecommerce.purchase_revenue) FILTER (event_name = 'purchase') AS revenue
FROM params GROUP BY visitor
"""


def export_rows(size: int = 400) -> list[dict[str, Any]]:
    """Return rows of the GA4 export: a few visitors, twins, items that are not set."""
    chance = random.Random(11)
    rows = []
    for number in range(size):
        visitor = chance.randrange(25)
        session = number // 80
        name = chance.choice(["page_view", "page_view", "view_item", "purchase", "scroll"])
        at = int(NOW.timestamp() * 1_000_000) - (size - number) * 3_600_000_000
        items = [
            {"item_id": chance.choice(["P1", "P2", "P3", "P4", "(not set)"]), "price": 5.0}
            for _ in range(chance.randrange(1, 4))
        ]
        rows.append(
            {
                "event_timestamp": at + chance.randrange(1_000_000),
                "event_name": name,
                "event_params": [
                    {"key": "ga_session_id", "value": {"int_value": 1000 * visitor + session}},
                    {"key": "ga_session_number", "value": {"int_value": session + 1}},
                ],
                "event_bundle_sequence_id": number,
                "user_pseudo_id": f"{visitor}.1763700000",
                "stream_id": 1,
                "privacy_info": {"analytics_storage": chance.choice([None, "Yes"])},
                "items": items if name in ("view_item", "purchase") else [],
                "ecommerce": {"purchase_revenue": chance.randrange(400) / 4}
                if name == "purchase"
                else None,
            }
        )
        if number % 50 == 0:
            rows.append(rows[-1])  # the page sent it twice: two events, by their place in the file
    return rows


def write(file: Path, rows: Sequence[Any]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    file.write_bytes(gzip.compress(text.encode()) if file.suffix == ".gz" else text.encode())
    return file


@pytest.fixture
def traits(cli: Cli, tmp_path: Path) -> Cli:
    """The command line on a store with the traits."""
    file = tmp_path / "traits.json"
    file.write_text(json.dumps({"traits": TRAITS}))
    assert cli("rules", "push", file).exit_code == 0
    return cli


async def people() -> dict[str, Any]:
    """Return every document that is about a visitor, whole."""
    async with opened_backend() as opened:
        return {
            document.path: dict(document.fields)
            for collection in ("profiles", "contributions", "identifiers", "links")
            for document in await list_all(
                opened.backend.documents, collection, deadline=Deadline.after(60)
            )
        }


async def traits_of(
    visitors: Sequence[str], *, names: Sequence[str] = tuple(TRAITS)
) -> dict[str, dict[str, Any]]:
    """Return visitor -> the values of the traits, as they are at NOW."""
    found = {}
    async with opened_backend() as opened:
        for visitor in visitors:
            profile_id = opened.keyring.profile_id(Identifier("client_id", visitor))
            path = f"profiles/{profile_id}"
            document = await opened.backend.documents.get(path, deadline=Deadline.after(10))
            assert document is not None, visitor
            profile = typed_profile(profile_id, document.fields, now=NOW)
            found[visitor] = {name: profile.attributes.get(name) for name in names}
    return found


def queried(file: Path) -> dict[str, dict[str, Any]]:
    """Return what the query says of the same rows; what never happened is absent, not 0."""
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE events AS SELECT * FROM read_json(?, format = 'newline_delimited', columns = {"
        "user_pseudo_id: 'VARCHAR', event_name: 'VARCHAR', event_timestamp: 'BIGINT',"
        "event_params: 'STRUCT(key VARCHAR, value STRUCT(int_value BIGINT))[]',"
        "items: 'STRUCT(item_id VARCHAR)[]', ecommerce: 'STRUCT(purchase_revenue DOUBLE)'})",
        [str(file)],
    )
    answer = connection.execute(QUERY, {"now_ms": int(NOW.timestamp() * 1000)})
    names = [column[0] for column in answer.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
    return {row.pop("visitor"): {n: value or None for n, value in row.items()} for row in rows}


@pytest.mark.parametrize("name", ["day.jsonl", "day.jsonl.gz"])
def test_traits_are_what_a_query_says_of_the_same_rows(
    traits: Cli, tmp_path: Path, name: str
) -> None:
    rows = export_rows()
    random.Random(3).shuffle(rows)
    file = write(tmp_path / name, rows)

    ran = traits("traits", "backfill", file, "--json")

    wanted = queried(file)
    assert ran.exit_code == 0
    assert ran.document["events"] == len(rows)
    assert ran.document["traits"]["page_views"] == sum(
        row["event_name"] == "page_view" for row in rows
    )
    assert ran.document["events_per_second"] > 0
    assert asyncio.run(traits_of(sorted(wanted))) == wanted


@pytest.mark.skipif(
    "TAGSTITCH_GA4_EXPORT" not in os.environ,
    reason="TAGSTITCH_GA4_EXPORT names no file of export rows (JSON Lines, gzip)",
)
def test_traits_of_a_real_export_are_what_a_query_says(traits: Cli, tmp_path: Path) -> None:
    packed = Path(os.environ["TAGSTITCH_GA4_EXPORT"])
    file = tmp_path / "rows.jsonl"
    file.write_bytes(gzip.decompress(packed.read_bytes()).replace(b"NaN", b"null"))

    assert traits("traits", "backfill", file, "--json").exit_code == 0
    before = asyncio.run(people())
    again = traits("traits", "backfill", file, "--json").document

    wanted = queried(file)
    assert asyncio.run(traits_of(sorted(wanted))) == wanted
    assert len(wanted) > 100
    assert again["changed"] == 0
    assert asyncio.run(people()) == before


def test_a_second_time_changes_nothing(traits: Cli, tmp_path: Path) -> None:
    file = write(tmp_path / "day.jsonl", export_rows())
    first = traits("traits", "backfill", file, "--json").document
    before = asyncio.run(people())

    second = traits("traits", "backfill", file, "--json").document

    assert first["changed"] > 0
    assert (second["events"], second["changed"]) == (first["events"], 0)
    assert asyncio.run(people()) == before


def test_a_dry_run_says_the_same_and_writes_nothing(traits: Cli, tmp_path: Path) -> None:
    file = write(tmp_path / "day.jsonl", [*export_rows(), {"event_name": 5}])

    dry = traits("traits", "backfill", file, "--dry-run", "--json")
    after = asyncio.run(people())
    real = traits("traits", "backfill", file, "--json")

    assert after == {}
    assert (dry.exit_code, real.exit_code) == (1, 1)
    same = ("events", "traits", "left_out", "rejected", "lines")
    assert {n: dry.document[n] for n in same} == {n: real.document[n] for n in same}
    assert dry.document["rejects_files"] == []
    assert dry.document["changed"] == 0


def test_what_cannot_be_counted_is_told(traits: Cli, tmp_path: Path) -> None:
    at = NOW.timestamp() * 1000
    page_view = {"event_name": "page_view", "client_id": "1.2", "event_timestamp_ms": at}
    file = write(
        tmp_path / "odd.jsonl",
        [
            page_view,
            {**page_view, "x-ga-gcs": "G100"},
            {"event_name": "page_view", "event_timestamp_ms": at},
            {"event_name": "page_view", "client_id": "1.2"},
            {**page_view, "event_timestamp_ms": at - 5000},
            [1],
        ],
    )

    ran = traits("traits", "backfill", file, "--until", "2026-11-21T20:00:00Z", "--json")

    document = ran.document
    assert ran.exit_code == 1
    assert document["events"] == 1
    assert document["left_out"] == {"no_trait": 0, "no_identifier": 1, "denied": 0, "later": 2}
    assert sorted(r["line"] for r in document["rejections"]) == [4, 6]
    [rejects] = document["rejects_files"]
    written = [json.loads(line) for line in Path(rejects).read_text().splitlines()]
    assert written[0]["path"] == "event_timestamp_ms"
    assert written[0]["content"] == {"event_name": "page_view", "client_id": "1.2"}


class TestANewTrait:
    ADDED: Final = {"scrolls": {"event": "scroll", "operation": "count"}}

    def test_is_counted_alone_from_events_that_others_counted(
        self, traits: Cli, tmp_path: Path
    ) -> None:
        rows = export_rows()
        file = write(tmp_path / "day.jsonl", rows)
        traits("traits", "backfill", file)
        wanted = queried(file)
        self.push(traits, tmp_path, self.ADDED)

        first = traits("traits", "backfill", file, "--trait", "scrolls", "--json").document
        before = asyncio.run(people())
        second = traits("traits", "backfill", file, "--trait", "scrolls", "--json").document

        scrolled = [row["user_pseudo_id"] for row in rows if row["event_name"] == "scroll"]
        assert first["events"] == first["changed"] == second["events"] == len(scrolled)
        assert first["traits"] == {"scrolls": len(scrolled)}
        assert second["changed"] == 0
        assert asyncio.run(people()) == before
        assert asyncio.run(traits_of(sorted(wanted))) == wanted
        counted = asyncio.run(traits_of(sorted(wanted), names=["scrolls"]))
        assert counted == {v: {"scrolls": scrolled.count(v) or None} for v in wanted}

    def test_counts_anew_when_its_definition_changed(self, traits: Cli, tmp_path: Path) -> None:
        file = write(tmp_path / "day.jsonl", export_rows(50))
        self.push(traits, tmp_path, self.ADDED)
        counted = []
        for version in (1, 2):
            scrolls = {**self.ADDED["scrolls"], "version": version}
            self.push(traits, tmp_path, {"scrolls": scrolls})
            ran = traits("traits", "backfill", file, "--trait", "scrolls", "--json")
            counted.append(ran.document["changed"])

        assert counted[0] == counted[1] > 0

    def test_that_is_not_there_is_a_failure(self, traits: Cli, tmp_path: Path) -> None:
        ran = traits("traits", "backfill", write(tmp_path / "d.jsonl", []), "--trait", "scrolls")

        assert ran.exit_code == 1
        assert "scrolls" in ran.err

    def push(self, cli: Cli, folder: Path, definitions: Mapping[str, Any]) -> None:
        file = folder / "added.json"
        file.write_text(json.dumps({"traits": definitions}))
        assert cli("rules", "push", file).exit_code == 0


def test_several_files_are_one_answer(traits: Cli, tmp_path: Path) -> None:
    rows = export_rows(100)
    one, other = write(tmp_path / "1.jsonl", rows[:50]), write(tmp_path / "2.jsonl", rows[50:])

    ran = traits("traits", "backfill", one, other, "--json")
    told = traits("traits", "backfill", one, other)

    assert ran.document["events"] == ran.document["lines"] == len(rows)
    assert ran.document["resumed_after_line"] == [0, 0]
    assert f"{len(rows)} events counted:" in told.out
    assert "0 events changed their visitor's profile" in told.out


def test_a_store_without_traits_is_a_failure(cli: Cli, tmp_path: Path) -> None:
    ran = cli("traits", "backfill", write(tmp_path / "day.jsonl", export_rows(5)))

    assert ran.exit_code == 1
    assert "tagstitch rules push" in ran.err


class Killed(BaseException):
    """The process ends here, as by kill -9: nothing handles it."""


class TestInterrupted:
    BATCH = 50

    @pytest.fixture(autouse=True)
    def small_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(backfill_run, "_BATCH_EVENTS", self.BATCH)

    def interrupt(self, cli: Cli, file: Path, batch: int) -> None:
        """Run until the process dies in the middle of a batch."""
        calls, process = count(1), TraitBackfill.process

        async def dying(self: TraitBackfill, events: Sequence[Any], **options: Any) -> Any:
            if next(calls) < batch:
                return await process(self, events, **options)
            await process(self, events[: len(events) // 2], **options)
            raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TraitBackfill, "process", dying)
            with pytest.raises(Killed):
                cli("traits", "backfill", file)

    @pytest.mark.parametrize("batch", [1, 3, 8])
    def test_it_goes_on_behind_what_is_done(self, traits: Cli, tmp_path: Path, batch: int) -> None:
        rows = [*export_rows(), {"event_name": "page_view", "client_id": "1.2"}]
        file = write(tmp_path / "day.jsonl", [rows[-1], *rows])
        self.interrupt(traits, file, batch)

        document = traits("traits", "backfill", file, "--json").document

        done = document["resumed_after_line"][0]
        assert (done == 0) is (batch == 1)
        assert document["events"] == len(rows) - 1 - max(done - 1, 0)
        assert document["rejected"] == 2
        [rejects] = document["rejects_files"]
        lines = [json.loads(line)["line"] for line in Path(rejects).read_text().splitlines()]
        assert lines == [1, len(rows) + 1]
        wanted = queried(write(tmp_path / "rows.jsonl", rows[:-1]))
        assert asyncio.run(traits_of(sorted(wanted))) == wanted
        assert not file.with_name(file.name + ".import").exists()

    def test_it_can_begin_anew(self, traits: Cli, tmp_path: Path) -> None:
        rows = export_rows()
        file = write(tmp_path / "day.jsonl", rows)
        self.interrupt(traits, file, 3)

        document = traits("traits", "backfill", file, "--restart", "--json").document

        assert document["resumed_after_line"] == [0]
        assert document["events"] == len(rows)

    def test_in_a_store_that_was_cleared_it_begins_anew(self, traits: Cli, tmp_path: Path) -> None:
        rows = export_rows()
        file = write(tmp_path / "day.jsonl", rows)
        self.interrupt(traits, file, 3)
        asyncio.run(self.clear())

        ran = traits("traits", "backfill", file, "--json")

        assert "from the first line" in ran.err
        assert ran.document["events"] == len(rows)

    def test_for_another_time_it_begins_anew(self, traits: Cli, tmp_path: Path) -> None:
        file = write(tmp_path / "day.jsonl", export_rows())
        self.interrupt(traits, file, 3)

        ran = traits("traits", "backfill", file, "--until", "2026-11-21T12:00:00Z", "--json")

        assert ran.document["resumed_after_line"] == [0]

    async def clear(self) -> None:
        paths = list(await people())
        async with opened_backend() as opened:
            await opened.backend.documents.commit(
                [Delete(path) for path in paths], deadline=Deadline.after(10)
            )


@pytest.mark.emulators
def test_it_counts_on_firestore(
    cli: Cli, emulators: Emulators, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project = "tagstitch-backfill"
    for name, value in emulators.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TAGSTITCH_BACKEND", "cloud")
    monkeypatch.setenv("TAGSTITCH_PROJECT", project)
    with grpc.insecure_channel(emulators.pubsub) as channel:
        client = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        topic = f"projects/{project}/topics/{AUDIT_TOPIC}"
        client.create_topic({"name": topic}, timeout=10, retry=None)
    definitions = tmp_path / "traits.json"
    definitions.write_text(json.dumps({"traits": TRAITS}))
    assert cli("rules", "push", definitions).exit_code == 0
    file = write(tmp_path / "day.jsonl", export_rows(80))

    first = cli("traits", "backfill", file, "--json").document
    before = asyncio.run(people())
    second = cli("traits", "backfill", file, "--json").document

    wanted = queried(file)
    assert asyncio.run(traits_of(sorted(wanted))) == wanted
    assert (first["rejected"], second["changed"]) == (0, 0)
    assert asyncio.run(people()) == before
