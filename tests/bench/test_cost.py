"""The cost model: counted on the pipeline, priced by a table, and told in docs/cost.md."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.cost import (
    ASKED_ALWAYS,
    SWEEPS,
    Prices,
    Volumes,
    bill_of,
    count,
    main,
    published_usage,
    read_prices,
    report,
    requests_of,
    sweeps_of,
    usage_of,
)
from bench.cost_counts import RENAME, RULES, CountedDocuments, Usage
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.rule_publication import SCANNED_PER_MINUTE, publish_rules
from tests.pipeline.world import World

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "cost.md"

NOTHING = Volumes(events=0, instances=0, rules=RULES)


@pytest.fixture(scope="module")
def counted() -> dict[str, Usage]:
    return count()


def test_an_event_costs_one_read_and_writes_only_when_state_changes(
    counted: dict[str, Usage],
) -> None:
    plain, changing = counted["event: nothing is written"], counted["event: state changes"]

    assert (plain.reads, plain.writes, plain.messages) == (1, 0, 1)
    assert (changing.reads, changing.messages) == (1, 1)
    assert 0 < changing.writes <= 3, "the profile, the mark, and the mark again once it is recorded"
    assert (counted["lookup"].reads, counted["lookup"].writes) == (1, 0)


def test_what_expires_is_deleted_once(counted: dict[str, Usage]) -> None:
    deletes = {kind: usage.deletes for kind, usage in counted.items() if usage.deletes}

    assert deletes == {
        "stitch: a new visitor": 1, "stitch: a link": 1, "event: state changes": 1,
    }  # fmt: skip


def test_a_sweep_reads_every_definition_and_asks_ten_questions(counted: dict[str, Usage]) -> None:
    """What is pending in two collections, erasures, the pointer, and six kinds of definitions."""
    assert RULES < counted["sweep"].reads <= RULES + 10
    assert counted["sweep"].writes == 0


def test_the_usage_of_a_month_adds_up(counted: dict[str, Usage]) -> None:
    idle = usage_of(NOTHING, counted)
    more_rules = usage_of(replace(NOTHING, rules=RULES + 1), counted)
    one_event = usage_of(
        replace(NOTHING, events=1, state_share=0, new_share=0, link_share=0, lookup_share=0),
        counted,
    )

    assert idle.reads == counted["sweep"].reads * SWEEPS
    assert more_rules.reads - idle.reads == SWEEPS
    assert one_event.reads - idle.reads == counted["event: nothing is written"].reads
    assert one_event.message_bytes == counted["event: nothing is written"].message_bytes


def test_a_sweep_that_looks_through_no_rules_asks_what_is_always_asked(tmp_path: Path) -> None:
    asyncio.run(sweep_of_many(tmp_path, usage := Usage()))

    assert usage.reads == ASKED_ALWAYS


async def sweep_of_many(folder: Path, usage: Usage) -> None:
    """Sweep once in a minute in which a set of more than a thousand definitions is not looked at."""
    world = World(folder, now=datetime.fromtimestamp(61 * 60, UTC))
    rules = {f"r{number}": RENAME for number in range(SCANNED_PER_MINUTE + 1)}
    await publish_rules(world.store, RuleDefinitions(rules), world.now, Deadline.after(30))
    world.store = CountedDocuments(world.store, usage)
    await world.sweep()
    world.database.close()


def test_large_sets_are_looked_through_less_often(counted: dict[str, Usage]) -> None:
    reads = {n: sweeps_of(n, counted["sweep"]).reads for n in (1000, 1001, 10_000, 100_000)}

    assert reads[1000] == (counted["sweep"].reads + 1000 - RULES) * SWEEPS
    assert reads[1001] == pytest.approx(reads[1000] / 2, rel=0.01)
    assert reads[100_000] == pytest.approx(reads[10_000], rel=0.01)


def test_the_published_design_reads_every_rule_in_every_instance_each_minute() -> None:
    volumes = Volumes(events=10, lookup_share=0, rules=7, instances=3)

    usage = published_usage(volumes, Usage(), writes=2)

    assert usage.reads == 10 + 3 * 7 * SWEEPS
    assert usage.writes == 20


def test_each_unit_has_its_price() -> None:
    free = Prices(*([0.0] * len(Prices.__struct_fields__)))
    usage = Usage(
        reads=1e5, writes=2e5, deletes=3e5, message_bytes=2**40, row_bytes=2**30, messages=0
    )

    def bill(**prices: float) -> float:
        priced = Prices(**{name: prices.get(name, 0.0) for name in Prices.__struct_fields__})
        return bill_of(usage, NOTHING, priced).total

    assert bill_of(usage, NOTHING, free).total == 0
    assert bill(firestore_reads_100k=1) == 1
    assert bill(firestore_writes_100k=1) == 2
    assert bill(firestore_deletes_100k=1) == 3
    assert bill(pubsub_tib=1) == 2, "published and delivered"
    assert bill(bigquery_append_gib=1) == 1
    assert bill(bigquery_storage_gib_month=1) == 1


def test_instances_cost_when_they_are_awake_and_idle() -> None:
    prices = read_prices()
    awake = bill_of(Usage(), replace(NOTHING, instances=1), prices)
    asleep = bill_of(Usage(), NOTHING, prices)

    assert awake.idle > 10
    assert asleep.idle == 0


def test_the_command_prints_both_sides(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--events", "5000000", "--rules", "10"])
    told = capsys.readouterr().out

    assert "5,000,000 events a month, 10 rules" in told
    assert "| Tagstitch |" in told
    assert "| published design, 2 writes an event |" in told


def test_the_document_tells_what_is_counted(counted: dict[str, Usage]) -> None:
    rows = re.findall(
        r"^\| ([a-z][^|]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| [\d,]+ \| [\d.]+ \| [\d,]+ \|$",
        DOCUMENT.read_text("utf-8"),
        re.MULTILINE,
    )

    assert {kind: tuple(map(float, figures)) for kind, *figures in rows} == {
        kind: (usage.reads, usage.writes, usage.messages) for kind, usage in counted.items()
    }


def figures(table: str) -> dict[str, list[float]]:
    """Return the figures of each side's row."""
    return {
        name: [float(cell.replace(",", "")) for cell in cells.split(" | ")]
        for name, cells in re.findall(
            r"^\| (Tagstitch|published [^|]+) \| (.+) \|$", table, re.MULTILINE
        )
    }


@pytest.mark.parametrize(
    ("heading", "volumes", "part"),
    [
        ("1,000,000 events use", Volumes(), 0),
        ("1,000,000 events, 200 rules, 2 instances awake", Volumes(), 1),
        (
            "100,000,000 events, 1,000 rules, 10 instances awake",
            Volumes(events=100_000_000, rules=1000, instances=10),
            1,
        ),
    ],
)
def test_the_document_has_what_the_command_prints(
    counted: dict[str, Usage], heading: str, volumes: Volumes, part: int
) -> None:
    tables = "\n".join(report(volumes, counted, read_prices())).partition("| costs |")[::2]
    documented = DOCUMENT.read_text("utf-8").partition(f"| {heading} |")[2].partition("\n\n")[0]

    printed = figures(tables[part])
    assert len(printed) == 3
    assert figures(documented) == {
        name: pytest.approx(cells, rel=0.05, abs=0.01) for name, cells in printed.items()
    }


def test_invocations_are_events_lookups_pushes_and_sweeps() -> None:
    volumes = Volumes(events=100, lookup_share=0.1)

    assert requests_of(Usage(messages=7), volumes) == 100 + 10 + 7 + SWEEPS


def test_the_query_over_a_past_month_counts_the_same_work(counted: dict[str, Usage]) -> None:
    sql = (DOCUMENT.parents[1] / "schemas" / "queries" / "cost_estimate.sql").read_text("utf-8")
    work = {
        kind: dict(zip(("reads", "writes", "message_bytes", "row_bytes"), map(int, n), strict=True))
        for kind, *n in re.findall(
            r"SELECT '([^']+)'(?: AS kind)?, '\w+'(?: AS `function`)?, \d+(?: AS requests)?,"
            r" (\d+)(?: AS reads)?, (\d+)(?: AS writes)?,\s+\d+(?: AS messages)?,"
            r" (\d+)(?: AS message_bytes)?, (\d+)",
            sql,
        )
    }
    event, new = counted["event: nothing is written"], counted["stitch: a new visitor"]

    assert len(work) == 13
    assert work["sweep"]["reads"] == counted["sweep"].reads - RULES
    assert work["decision"]["reads"] == event.reads
    assert work["stitch request"]["reads"] == new.reads
    assert work["decision"]["message_bytes"] == pytest.approx(event.message_bytes, rel=0.1)
    assert work["record of a decision"]["row_bytes"] == pytest.approx(event.row_bytes / 2, rel=0.1)
    assert work["other record"]["row_bytes"] == pytest.approx(new.row_bytes, rel=0.1)
