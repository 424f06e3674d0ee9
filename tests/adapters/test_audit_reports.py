"""Views and queries that compare and judge, over rows that the pipeline itself wrote."""

from __future__ import annotations

# ruff: noqa: S608 - queries are made of our own words
import re
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bench.cost import read_prices
from bench.cost_counts import OFFER, CountedDocuments, Usage
from tagstitch.adapters.bigquery_audit import BigQueryAuditTable
from tagstitch.adapters.bigquery_audit_queries import BigQueryAuditQueries
from tagstitch.adapters.duckdb_audit_queries import DuckDbAuditQueries
from tagstitch.core.caller import Caller
from tagstitch.core.limits import (
    EXPERIMENT_VARIANTS_MAX,
    SAMPLE_RATIO_ALERT_P,
    SAMPLE_RATIO_WARN_P,
)
from tagstitch.core.sample_ratio import (
    chi_square_survival,
    judge_sample_ratio,
    sample_ratio_mismatch,
)
from tagstitch.pipeline.backend import AuditQueries, AuditTable
from tagstitch.pipeline.deadline import Deadline
from tests.emulators import PROJECT
from tests.pipeline.world import START, World

QUERIES = Path(__file__).resolve().parents[2] / "schemas" / "queries"
MANY = dict.fromkeys(
    ["control", "treatment", *(f"v{n}" for n in range(EXPERIMENT_VARIANTS_MAX - 2))], 0.05
)
"""As many variants as an experiment may have, of equal weight."""

SERVER = Caller("server", frozenset({"decide", "lookup", "stitch", "assert", "explain"}))


@dataclass
class Ask:
    """Run a query over everything that the world's pipeline has published for the audit."""

    world: World
    queries: AuditQueries
    table: AuditTable
    is_stored: bool = False
    """Whether the table has the rows already."""

    async def __call__(self, sql: str) -> Sequence[Mapping[str, Any]]:
        await self.world.store_audit()
        if self.table is not self.world.audit_rows and not self.is_stored:
            await self.table.append(await self.world.rows(), deadline=Deadline.after(60))
        return await self.queries.run(
            sql.replace("${dataset}", "tagstitch"), deadline=Deadline.after(60)
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.database.close()


@pytest.fixture
def name() -> str:
    """A name for rules, events and experiments that no other test uses."""
    return "t" + secrets.token_hex(6)


@pytest.fixture(params=["duckdb", pytest.param("bqemulator", marks=pytest.mark.emulators)])
async def ask(request: pytest.FixtureRequest, world: World) -> AsyncIterator[Ask]:
    if request.param == "duckdb":
        queries = DuckDbAuditQueries(world.database, world.audit_rows, dataset="tagstitch")
        yield Ask(world, queries, world.audit_rows)
        return
    emulators = request.getfixturevalue("emulators")
    dataset = request.getfixturevalue("audit_dataset")
    asked = BigQueryAuditQueries(PROJECT, dataset, emulator=emulators.bigquery)
    table = BigQueryAuditTable(
        PROJECT, dataset, emulator=emulators.bigquery, storage_emulator=emulators.bigquery_storage
    )
    yield Ask(world, asked, table)
    await asked.close()
    await table.close()


def query(file: str, **values: str) -> str:
    sql = (QUERIES / f"{file}.sql").read_text("utf-8")
    for name, value in values.items():
        assert "${" + name + "}" in sql, name
        sql = sql.replace("${" + name + "}", value)
    return sql


class TestViews:
    """Each view of the audit over what decisions and callbacks left there."""

    async def decide(self, world: World, name: str) -> None:
        """Halve three purchases on two days; give the first another name too."""
        halve: dict[str, Any] = {
            "target_event_name": name,
            "conditions": {"value": {"greaterThan": 0}},
            "action_type": "modify_parameter",
            "action_details": {"parameter": "value", "operator": "multiply", "operand": 0.5},
        }
        rename: dict[str, Any] = {
            "target_event_name": name,
            "conditions": {"coupon": {"exists": True}},
            "action_type": "rename_event",
            "action_details": {"new_event_name": f"{name}_coupon"},
        }
        decider = world.decider({f"{name}-halve": halve, f"{name}-rename": rename})
        sent: list[tuple[int, dict[str, Any]]] = [
            (0, {"value": 8.0, "coupon": "X"}), (0, {"value": 4.0}), (1, {"value": 2.0}),
        ]  # fmt: skip
        for day, parameters in sent:
            world.now = START + timedelta(days=day)
            event = {"event_name": name, "client_id": f"{day}.1", **parameters}
            body = {"event": event, "include": ["event"], "deadline_ms": 5000}
            await decider.decide(body, SERVER)

    async def test_modifications_has_a_row_for_each(
        self, world: World, ask: Ask, name: str
    ) -> None:
        await self.decide(world, name)

        rows = await ask(
            "SELECT rule_id, type, new_name, old_number, new_number FROM `tagstitch.modifications`"
            f" WHERE event_name = '{name}'"
        )

        assert {(row["rule_id"].rpartition("-")[2], *list(row.values())[1:]) for row in rows} == {
            ("halve", "modify_parameter", None, 8.0, 4.0),
            ("rename", "rename_event", f"{name}_coupon", None, None),
            ("halve", "modify_parameter", None, 4.0, 2.0),
            ("halve", "modify_parameter", None, 2.0, 1.0),
        }
        assert len(rows) == 4

    async def test_rule_effects_daily_counts_by_rule_and_day(
        self, world: World, ask: Ask, name: str
    ) -> None:
        await self.decide(world, name)

        rows = await ask(
            "SELECT rule_id, day, matches, modifications, renames, drops, value_before, value_after"
            f" FROM `tagstitch.rule_effects_daily` WHERE STARTS_WITH(rule_id, '{name}')"
            " ORDER BY rule_id, day"
        )

        first = START.date()
        assert [tuple(row.values()) for row in rows] == [
            (f"{name}-halve", first, 2, 2, 0, 0, 12.0, 6.0),
            (f"{name}-halve", first + timedelta(days=1), 1, 1, 0, 0, 2.0, 1.0),
            (f"{name}-rename", first, 1, 1, 1, 0, None, None),
        ]

    async def test_decision_latency_hourly_has_what_decisions_took(
        self, world: World, ask: Ask, name: str
    ) -> None:
        world.now = hour = self.hour(name)
        decider = world.decider()
        for number in range(5):
            event = {"event_name": name, "client_id": f"{number}.1"}
            await decider.decide({"event": event, "deadline_ms": 5000}, SERVER)

        rows = await ask(
            "SELECT record_type, decisions, degraded_decisions, latency_ms_p50, latency_ms_max"
            f" FROM `tagstitch.decision_latency_hourly` WHERE hour = '{hour.isoformat()}'"
            " ORDER BY record_type"
        )

        took = [row for row in await world.rows() if row["record_type"] == "event_decision"]
        assert [tuple(row.values())[:3] for row in rows] == [
            ("event_decision", 5, 0), ("personalization_decision", 5, 0),
        ]  # fmt: skip
        assert rows[0]["latency_ms_max"] == max(row["latency_ms"] for row in took)
        assert 0 < rows[0]["latency_ms_p50"] <= rows[0]["latency_ms_max"]

    async def test_callback_health_hourly_counts_how_callbacks_ended(
        self, world: World, ask: Ask, name: str
    ) -> None:
        world.now = hour = self.hour(name)
        world.answers = [200, 200, 200, 400]
        for number in range(4):
            await world.stitch(
                {
                    "request_id": f"{name}-{number}", "callback": "main",
                    "identifiers": [{"type": "client_id", "value": f"{name}.{number}"}],
                }
            )  # fmt: skip

        rows = await ask(
            "SELECT callback, callbacks, delivered, expired, rejected, other, delivered_share"
            f" FROM `tagstitch.callback_health_hourly` WHERE hour = '{hour.isoformat()}'"
        )

        assert [tuple(row.values()) for row in rows] == [("main", 4, 3, 0, 1, 0, 0.75)]

    @staticmethod
    def hour(name: str) -> datetime:
        """An hour that no other test writes to."""
        return datetime(1990, 1, 1, tzinfo=UTC) + timedelta(
            hours=int(name.removeprefix("t"), 16) % 200_000
        )


class TestRuleImpact:
    async def test_the_days_before_and_after_a_rule_began(
        self, world: World, ask: Ask, name: str
    ) -> None:
        halve: dict[str, Any] = {
            "target_event_name": name,
            "conditions": {"coupon": {"exists": True}},
            "action_type": "modify_parameter",
            "action_details": {"parameter": "value", "operator": "multiply", "operand": 0.5},
        }
        rename: dict[str, Any] = {
            "target_event_name": name,
            "conditions": {"value": {"lessThan": 5}},
            "action_type": "rename_event",
            "action_details": {"new_event_name": f"{name}_small"},
        }
        drop: dict[str, Any] = {
            "target_event_name": name,
            "conditions": {"value": {"lessThan": 0}},
            "action_type": "drop_event",
            "action_details": {},
        }
        old = world.decider({f"{name}-halve": halve})
        new = world.decider(
            {f"{name}-halve": halve, f"{name}-rename": rename, f"{name}-drop": drop}
        )
        for day, decider in enumerate([old] * 3 + [new] * 2):
            world.now = START + timedelta(days=5 * day)
            sent: list[dict[str, Any]] = [
                {"value": 8.0, "coupon": "X"}, {"value": 4.0}, {"value": -1.0}, {},
            ]  # fmt: skip
            for number, parameters in enumerate(sent):
                event = {"event_name": name, "client_id": f"{day}.{number}", **parameters}
                await decider.decide({"event": event, "deadline_ms": 5000}, SERVER)

        rows = await ask(
            "SELECT rule_id, events_before, events_after, renames_before, renames_after,"
            " drops_before, drops_after, value_difference_before, value_difference_after,"
            " TIMESTAMP_DIFF(began_at, TIMESTAMP '2026-11-21 20:00:00+00', DAY) AS began"
            f" FROM `tagstitch.rule_impact` WHERE event_name = '{name}' ORDER BY rule_id"
        )

        assert {row["rule_id"].rpartition("-")[2]: tuple(row.values())[1:] for row in rows} == {
            "drop": (4, 8, 0, 2, 0, 2, -4.0, -8.0, 15),
            "halve": (0, 8, 0, 0, 0, 0, None, -8.0, 0),
            "rename": (4, 8, 0, 2, 0, 2, -4.0, -8.0, 15),
        }


class TestExperiments:
    async def serve(self, world: World, name: str, *, visitors: int) -> None:
        experiment = {
            "target_event_name": name,
            "variants": [{"name": "control"}, {"name": "treatment"}],
            "sticky": True,
        }
        decider = world.decider(experiments={name: experiment})
        for visitor in range(visitors):
            event = {"event_name": name, "client_id": f"{visitor + 1000}.1"}
            await decider.decide({"event": event, "deadline_ms": 5000}, SERVER)

    async def test_each_visitor_counts_once_for_the_variant_that_was_served(
        self, world: World, ask: Ask, name: str
    ) -> None:
        await self.serve(world, name, visitors=30)
        await self.serve(world, name, visitors=20)

        rows = await ask(
            "SELECT version, variant, visitors FROM `tagstitch.experiment_visitors`"
            f" WHERE experiment_id = '{name}' ORDER BY variant"
        )

        assert [row["variant"] for row in rows] == ["control", "treatment"]
        assert sum(row["visitors"] for row in rows) == 30
        assert {row["version"] for row in rows} == {1}

    @pytest.mark.parametrize(
        "weights",
        [
            {"control": 0.5, "treatment": 0.5},
            {"control": 0.2, "treatment": 0.8},
            {"control": 0.05, "treatment": 0.95},
            {"control": 0.4, "treatment": 0.4, "third": 0.2},
            {"control": 1.0},
            {"control": 0.5, "treatment": 0.5, "third": 0.0},
            {"control": 1.0, "treatment": 0.0},
            MANY,
            {**dict.fromkeys(MANY, 1e-9), "control": 0.5, "treatment": 0.5},
        ],
        ids=[
            "as planned",
            "far off",
            "farther off",
            "a third is missing",
            "only one",
            "a third without weight",
            "one without weight",
            "as many as there may be",
            "as many, most of them rare",
        ],
    )
    async def test_a_sample_ratio_is_judged_as_the_command_judges_it(
        self, world: World, ask: Ask, name: str, weights: dict[str, float]
    ) -> None:
        await self.serve(world, name, visitors=40)
        union = " UNION ALL ".join(
            f"SELECT '{variant}' AS variant, {weight} AS weight"
            for variant, weight in weights.items()
        )

        counted = await ask(
            "SELECT variant, visitors FROM `tagstitch.experiment_visitors`"
            f" WHERE experiment_id = '{name}'"
        )
        (judged,) = await ask(
            query("sample_ratio_mismatch", experiment_id=name, version="1", weights=union)
        )

        counts = {row["variant"]: row["visitors"] for row in counted}
        assert judged["verdict"] == judge_sample_ratio(sample_ratio_mismatch(counts, weights))
        assert judged["visitors"] == 40

    def test_the_query_has_the_bounds_of_the_test_for_every_number_of_variants(self) -> None:
        sql = (QUERIES / "sample_ratio_mismatch.sql").read_text("utf-8")
        bounds = [
            {
                int(degrees): float(bound)
                for degrees, bound in re.findall(r"(\d+) THEN ([\d.]+)", table)
            }
            for table in re.findall(r"CASE degrees(.*?)END", sql, re.DOTALL)
        ]

        assert [table.keys() for table in bounds] == [set(range(1, EXPERIMENT_VARIANTS_MAX))] * 2
        for table, p in zip(bounds, (SAMPLE_RATIO_ALERT_P, SAMPLE_RATIO_WARN_P), strict=True):
            for degrees, bound in table.items():
                assert chi_square_survival(bound, degrees=degrees) == pytest.approx(p, rel=1e-4)


class TestErasure:
    async def test_the_proof_counts_what_is_left_of_a_visitor(
        self, world: World, ask: Ask, name: str
    ) -> None:
        identifiers = [
            {"type": "client_id", "value": f"{name}.1"},
            {"type": "user_id", "value": f"u-{name}"},
        ]
        await world.stitch({"request_id": name, "identifiers": identifiers})
        event = {"event_name": "purchase", "client_id": f"{name}.1", "value": 1.0}
        await world.decider().decide({"event": event, "deadline_ms": 5000}, SERVER)
        await world.store_audit()
        subject = (await world.rows())[-1]["subject"]
        proof = query("erasure_proof", subject=subject)

        (before,) = await ask(proof)
        ask.is_stored = True
        await ask.table.erase([subject], deadline=Deadline.after(60))
        (after,) = await ask(proof)

        assert before["rows_left"] == 3
        assert (before["request_ids_left"], before["receipts_left"]) == (1, 1)
        assert tuple(after.values()) == (0, 0, 0, 0, None)


class TestCostEstimate:
    """A month in which three visitors came, five events changed nothing and two changed state."""

    @pytest.fixture
    async def used(self, world: World, name: str) -> Usage:
        """What Firestore counted; the month is one that no other test uses."""
        world.now = self.month(name) + timedelta(days=14)
        world.store = CountedDocuments(world.store, used := Usage())
        for number in range(3):
            identifiers = [{"type": "client_id", "value": f"55512345{number}.1763700000"}]
            await world.stitch({"request_id": f"{name}-{number}", "identifiers": identifiers})
        known = {"type": "client_id", "value": "555123450.1763700000"}
        login = [known, {"type": "user_id", "value": f"u-{name}"}]
        await world.stitch({"request_id": f"{name}-login", "identifiers": login})
        decider = world.decider(personalization_rules={"offer": OFFER})
        for event_name, visitor in [("purchase", 0)] * 5 + [("view_item", 1), ("view_item", 2)]:
            event = {"event_name": event_name, "client_id": f"55512345{visitor}.1763700000"}
            body = {"event": event, "include": ["event", "personalization"], "deadline_ms": 5000}
            await decider.decide(body, SERVER)
        await world.store_audit()
        return used

    @staticmethod
    def month(name: str) -> datetime:
        number = int(name.removeprefix("t"), 16)
        return datetime(1980 + number % 40, 1 + number // 40 % 12, 1, tzinfo=UTC)

    async def estimate(self, ask: Ask, name: str, **values: str) -> dict[str, Mapping[str, Any]]:
        filled = {"first_day": f"{self.month(name):%Y-%m-%d}", "lookups": "0", "definitions": "0"}
        rows = await ask(query("cost_estimate", **{**filled, **values}))
        return {row["function"]: row for row in rows}

    async def test_it_says_what_the_pipeline_used(self, used: Usage, ask: Ask, name: str) -> None:
        found = await self.estimate(ask, name)
        minutes = ((self.month(name) + timedelta(days=31)).replace(day=1) - self.month(name)).days
        minutes *= 24 * 60

        assert sum(row["writes"] for row in found.values()) == used.writes
        assert sum(row["reads"] for row in found.values()) == used.reads + 9 * minutes
        assert {name: row["requests"] for name, row in found.items()} == {
            "decide": 7, "stitch_async": 4 + minutes, "audit_sink": 7 + 4, "stitch_sync": 0,
        }  # fmt: skip
        assert sum(row["messages"] for row in found.values()) == 7 + 4 * 2

    async def test_it_is_priced_as_the_table_of_prices_says(
        self, used: Usage, ask: Ask, name: str
    ) -> None:
        prices = read_prices()
        found = await self.estimate(ask, name, lookups="1000000")

        assert used.reads > 0
        for row in found.values():
            documents = (
                row["reads"] / 1e5 * prices.firestore_reads_100k
                + row["writes"] / 1e5 * prices.firestore_writes_100k
            )
            busy_s = row["requests"] * 0.1 / 4
            requests = row["requests"] / 1e6 * prices.run_requests_million + busy_s * (
                prices.run_vcpu_s + prices.run_gib_s
            )
            parts = [row[f"{what}_cost"] for what in (
                "documents", "messages", "audit", "requests", "idle",
            )]  # fmt: skip
            assert row["documents_cost"] == pytest.approx(documents)
            assert row["requests_cost"] == pytest.approx(requests)
            assert row["cost"] == pytest.approx(sum(parts))
        assert found["stitch_sync"]["requests"] == 1_000_000
        assert found["decide"]["messages_cost"] == pytest.approx(
            2 * 7 * 2060 / 2**40 * prices.pubsub_tib
        )
        per_row = (prices.bigquery_append_gib + prices.bigquery_storage_gib_month) / 2**30
        assert found["audit_sink"]["audit_cost"] == pytest.approx((14 * 1400 + 4 * 660) * per_row)
        idle_s = prices.run_idle_vcpu_s + prices.run_idle_gib_s
        assert found["decide"]["idle_cost"] == pytest.approx(
            idle_s * 86400 * ((self.month(name) + timedelta(days=31)).replace(day=1)
            - self.month(name)).days
        )  # fmt: skip

    async def test_a_month_without_records_costs_the_sweep(
        self, used: Usage, ask: Ask, name: str
    ) -> None:
        found = await self.estimate(ask, name, first_day="1970-02-01", definitions="300")

        assert used.reads > 0
        assert {name: row["reads"] for name, row in found.items()} == {
            "decide": 0, "audit_sink": 0, "stitch_sync": 0,
            "stitch_async": (9 + 300) * 28 * 24 * 60,
        }  # fmt: skip
