"""What every audit table and its queries must do; a backend's test file subclasses with fixtures.

Fixtures of the subclass: `audit_table` and `audit_queries` over the same rows.
"""

from __future__ import annotations

# ruff: noqa: S608, PLR0917 - queries are made of constants, and tests take fixtures
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tagstitch.core.erasure import nobodys_row
from tagstitch.core.errors import InvalidInput, Unavailable
from tagstitch.pipeline.backend import AuditQueries, AuditTable
from tagstitch.pipeline.deadline import Deadline

NOON = datetime(2026, 11, 21, 12, 30, 0, 123456, tzinfo=UTC)
SECRET = "anna@example.com"
IDENTITY_DOCUMENT = Path(__file__).parents[2] / "docs" / "identity.md"

MODIFICATIONS: list[dict[str, Any]] = [
    {"rule_id": "a", "type": "rename_event", "old_name": "purchase", "new_name": "micro_purchase"},
    {
        "rule_id": "b",
        "type": "modify_parameter",
        "parameter": "value",
        "old_value": 7.5,
        "new_value": 3.75,
    },
    {
        "rule_id": "c",
        "type": "modify_parameter",
        "parameter": "currency",
        "old_value": "EUR",
        "new_value": None,
    },
]

FULL: dict[str, Any] = {
    "record_type": "event_decision",
    "occurred_at": NOON,
    "recorded_at": NOON + timedelta(seconds=1),
    "event_at": NOON - timedelta(days=1),
    "decision_id": "d-1",
    "trace_id": "t-1",
    "subject": "k1:abc",
    "event_name": "purchase",
    "resolved_event_name": "micro_purchase",
    "outcome": "modified",
    "rule_ids": ["a", "b", "c"],
    "rules_version": "sha256:0",
    "modifications": MODIFICATIONS,
    "consent": {"analytics_storage": True, "source": "request"},
    "degraded": ["profile"],
    "latency_ms": 1.25,
    "receipt": bytes(range(256)),
    "extra": {"text": "Grüße 🙂", "deep": {"list": [1, None, {"a": [2.5]}]}, "empty": {}},
}

BAD_ROWS: dict[str, dict[str, Any]] = {
    "without a required text": {"outcome": None},
    "without a required time": {"occurred_at": None},
    "with a number as text": {"event_name": 7},
    "with a text as time": {"event_at": SECRET},
    "with a text as number": {"latency_ms": SECRET},
    "with a text as bytes": {"receipt": SECRET},
    "with a text as list": {"rule_ids": SECRET},
    "with a null in a list": {"degraded": ["profile", None]},
    "with an unknown column": {SECRET: SECRET},
}

QUERIES: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    "counting conditions": (
        "SELECT COUNT(*) AS n, COUNTIF(outcome = 'modified') AS m FROM {t} WHERE {mine}",
        [(1, 1)],
    ),
    "JSON_VALUE gives text": (
        (
            "SELECT JSON_VALUE(modifications, '$[1].old_value') AS a,"
            " JSON_VALUE(extra, '$.deep.list[0]') AS b FROM {t} WHERE {mine}"
        ),
        [("7.5", "1")],
    ),
    "JSON_VALUE of an object, a null and nothing is null": (
        (
            "SELECT JSON_VALUE(extra, '$.deep') AS a, JSON_VALUE(modifications, '$[2].new_value') AS b,"
            " JSON_VALUE(extra, '$.none') AS c FROM {t} WHERE {mine}"
        ),
        [(None, None, None)],
    ),
    "JSON_QUERY and JSON_EXTRACT give JSON": (
        (
            "SELECT JSON_QUERY(extra, '$.deep') AS a, JSON_EXTRACT(consent, '$.source') AS b"
            " FROM {t} WHERE {mine}"
        ),
        [({"list": [1, None, {"a": [2.5]}]}, "request")],
    ),
    "JSON subscripts count from 0": (
        "SELECT JSON_VALUE(modifications[0].rule_id) AS a FROM {t} WHERE {mine}",
        [("a",)],
    ),
    "array subscripts count from 0": (
        (
            "SELECT rule_ids[OFFSET(0)] AS a, rule_ids[SAFE_OFFSET(2)] AS c,"
            " rule_ids[SAFE_OFFSET(3)] AS none, rule_ids[ORDINAL(2)] AS b,"
            " rule_ids[SAFE_OFFSET(ARRAY_LENGTH(rule_ids) - 1)] AS last FROM {t} WHERE {mine}"
        ),
        [("a", "c", None, "b", "c")],
    ),
    "unnesting with an offset from 0": (
        (
            "SELECT rule_id, position FROM {t}, UNNEST(rule_ids) AS rule_id WITH OFFSET AS position"
            " WHERE {mine} ORDER BY position"
        ),
        [("a", 0), ("b", 1), ("c", 2)],
    ),
    "unnesting a JSON list": (
        (
            "SELECT JSON_VALUE(m, '$.rule_id') AS rule_id, position"
            " FROM {t}, UNNEST(JSON_QUERY_ARRAY(modifications)) AS m WITH OFFSET AS position"
            " WHERE {mine} AND position > 0 ORDER BY position"
        ),
        [("b", 1), ("c", 2)],
    ),
    "times": (
        (
            "SELECT DATE(occurred_at) AS day, TIMESTAMP_TRUNC(occurred_at, HOUR) AS hour,"
            " FORMAT_TIMESTAMP('%Y-%m-%d', occurred_at) AS text,"
            " TIMESTAMP_DIFF(recorded_at, occurred_at, MILLISECOND) AS ms,"
            " occurred_at < TIMESTAMP_SUB(TIMESTAMP '2026-11-22 00:00:00+00', INTERVAL 1 HOUR) AS late"
            " FROM {t} WHERE {mine}"
        ),
        [(date(2026, 11, 21), datetime(2026, 11, 21, 12, tzinfo=UTC), "2026-11-21", 1000, True)],
    ),
    "safe functions": (
        (
            "SELECT SAFE_DIVIDE(1, 0) AS a, SAFE_CAST('x' AS INT64) AS b, IFNULL(trace_id, '') AS c,"
            " IF('b' IN UNNEST(rule_ids), 1, 2) AS d FROM {t} WHERE {mine}"
        ),
        [(None, None, "t-1", 1)],
    ),
    "sums of integers are integers": (
        "SELECT SUM(ARRAY_LENGTH(rule_ids)) AS n, MAX(latency_ms) AS ms FROM {t} WHERE {mine}",
        [(3, 1.25)],
    ),
    "a common table expression": (
        (
            "WITH mine AS (SELECT * FROM {t} WHERE {mine}) SELECT event_name FROM mine"
            " UNION ALL SELECT resolved_event_name FROM mine ORDER BY 1"
        ),
        [("micro_purchase",), ("purchase",)],
    ),
}

WRITES = [
    "DELETE FROM {t} WHERE TRUE",
    "DROP TABLE {t}",
    "INSERT INTO {t} (record_id) VALUES ('x')",
    "UPDATE {t} SET outcome = 'x' WHERE TRUE",
    "TRUNCATE TABLE {t}",
    "CREATE TABLE copied AS SELECT * FROM {t}",
    "SELECT 1; DROP TABLE {t}",
    "MERGE {t} USING {t} AS b ON FALSE WHEN NOT MATCHED THEN INSERT ROW",
    "",
]


def soon() -> Deadline:
    return Deadline.after(30)


class AuditTableContract:
    @pytest.fixture
    def table(self) -> str:
        return "`tagstitch.audit`"

    @pytest.fixture
    def request_id(self) -> str:
        """Mark this test's rows: a cloud table is shared."""
        return f"contract-{secrets.token_hex(6)}"

    @pytest.fixture
    def full(self, request_id: str) -> dict[str, Any]:
        return {"record_id": f"{request_id}-0", "request_id": request_id, **FULL}

    # Appending

    async def test_a_row_comes_back_as_it_was(
        self,
        audit_table: AuditTable,
        audit_queries: AuditQueries,
        full: dict[str, Any],
        table: str,
        request_id: str,
    ) -> None:
        assert await audit_table.append([full], deadline=soon()) == []

        assert await self._rows(audit_queries, table, request_id) == [full]

    async def test_a_row_with_only_what_is_required_has_nulls_and_empty_lists(
        self, audit_table: AuditTable, audit_queries: AuditQueries, table: str, request_id: str
    ) -> None:
        row = {
            "record_id": f"{request_id}-0",
            "record_type": "erasure",
            "occurred_at": NOON,
            "recorded_at": NOON,
            "outcome": "delivered",
            "request_id": request_id,
        }
        assert await audit_table.append([row], deadline=soon()) == []

        (stored,) = await self._rows(audit_queries, table, request_id)

        expected = {**dict.fromkeys(FULL), "rule_ids": [], "degraded": [], **row}
        assert stored == expected

    async def test_a_record_that_is_appended_again_counts_once(
        self,
        audit_table: AuditTable,
        audit_queries: AuditQueries,
        full: dict[str, Any],
        request_id: str,
    ) -> None:
        later = {**full, "recorded_at": NOON + timedelta(hours=1), "outcome": "unchanged"}
        assert await audit_table.append([full, full], deadline=soon()) == []
        assert await audit_table.append([later], deadline=soon()) == []

        rows = await self._rows(audit_queries, "`tagstitch.audit_deduplicated`", request_id)

        assert rows == [full]

    @pytest.mark.parametrize("is_first", [True, False], ids=["before", "behind"])
    async def test_of_a_decision_that_was_committed_after_all_the_committed_record_counts(
        self,
        audit_table: AuditTable,
        audit_queries: AuditQueries,
        full: dict[str, Any],
        request_id: str,
        *,
        is_first: bool,
    ) -> None:
        uncommitted = {**full, "record_id": full["record_id"] + ":uncommitted"}
        at = NOON + timedelta(hours=-1 if is_first else 1)
        for row in (uncommitted | {"recorded_at": at}, full):
            assert await audit_table.append([row], deadline=soon()) == []

        rows = await self._rows(audit_queries, "`tagstitch.audit_deduplicated`", request_id)

        assert rows == [full]

    async def test_one_that_was_never_committed_counts(
        self,
        audit_table: AuditTable,
        audit_queries: AuditQueries,
        full: dict[str, Any],
        request_id: str,
    ) -> None:
        uncommitted = {**full, "record_id": full["record_id"] + ":uncommitted"}
        assert await audit_table.append([uncommitted], deadline=soon()) == []

        rows = await self._rows(audit_queries, "`tagstitch.audit_deduplicated`", request_id)

        assert rows == [uncommitted]

    @pytest.mark.parametrize("name", BAD_ROWS)
    async def test_a_bad_row_is_returned_and_the_good_ones_stored(
        self,
        audit_table: AuditTable,
        audit_queries: AuditQueries,
        full: dict[str, Any],
        table: str,
        request_id: str,
        name: str,
    ) -> None:
        rows = [{**full, "record_id": f"{request_id}-{n}"} for n in range(3)]
        rows[1] |= BAD_ROWS[name]

        (rejected,) = await audit_table.append(rows, deadline=soon())

        assert rejected.index == 1
        assert rejected.reason
        assert SECRET not in rejected.reason
        assert await self._rows(audit_queries, table, request_id) == [rows[0], rows[2]]

    async def test_appending_nothing_does_nothing(self, audit_table: AuditTable) -> None:
        assert await audit_table.append([], deadline=soon()) == []

    async def test_an_append_whose_deadline_is_over_is_unavailable(
        self, audit_table: AuditTable, full: dict[str, Any]
    ) -> None:
        with pytest.raises(Unavailable):
            await audit_table.append([full], deadline=Deadline.after(-1))

    # Erasing

    async def test_an_erased_row_is_nobodys_and_others_stay_as_they_are(
        self,
        audit_table: AuditTable,
        audit_queries: AuditQueries,
        full: dict[str, Any],
        table: str,
        request_id: str,
    ) -> None:
        old, new, other = (f"{kid}:{request_id}" for kid in ("k1", "k2", "k3"))
        extra = {"shadow": [{"rule_id": "s", "modifications": [{"old_value": 1}]}], "skipped": 1}
        rows = [
            {
                **full,
                "record_id": f"{request_id}-{n}",
                "subject": subject,
                "decision_id": request_id,
            }
            for n, subject in enumerate((old, new, other))
        ]
        rows[1] |= {"modifications": None, "extra": None}
        rows[0] |= {"extra": extra}
        await audit_table.append(rows, deadline=soon())

        erased = await audit_table.erase([old, new, "k1:nobody"], deadline=soon())
        again = await audit_table.erase([old, new], deadline=soon())

        assert (erased, again) == (2, 0)
        stored = await audit_queries.run(
            f"SELECT * FROM {table} WHERE decision_id = '{request_id}' ORDER BY record_id",
            deadline=soon(),
        )
        assert list(stored) == [nobodys_row(rows[0]), nobodys_row(rows[1]), rows[2]]
        assert stored[0]["extra"] == {"skipped": 1}
        assert all("old_value" not in entry for entry in stored[0]["modifications"])

    async def test_erasing_nobody_does_nothing(self, audit_table: AuditTable) -> None:
        assert await audit_table.erase([], deadline=soon()) == 0

    async def test_an_erasure_whose_deadline_is_over_is_unavailable(
        self, audit_table: AuditTable
    ) -> None:
        with pytest.raises(Unavailable):
            await audit_table.erase(["k1:nobody"], deadline=Deadline.after(-1))

    # Queries

    @pytest.mark.parametrize("name", QUERIES)
    async def test_a_query_answers_as_bigquery_does(
        self,
        audit_table: AuditTable,
        audit_queries: AuditQueries,
        full: dict[str, Any],
        table: str,
        request_id: str,
        name: str,
    ) -> None:
        await audit_table.append([full], deadline=soon())
        sql, expected = QUERIES[name]

        rows = await audit_queries.run(
            sql.format(t=table, mine=f"request_id = '{request_id}'"), deadline=soon()
        )

        assert [tuple(row.values()) for row in rows] == expected

    @pytest.mark.parametrize("sql", WRITES)
    async def test_what_is_not_one_query_is_refused(
        self,
        audit_table: AuditTable,
        audit_queries: AuditQueries,
        full: dict[str, Any],
        table: str,
        request_id: str,
        sql: str,
    ) -> None:
        await audit_table.append([full], deadline=soon())

        with pytest.raises(InvalidInput):
            await audit_queries.run(sql.format(t=table), deadline=soon())

        assert await self._rows(audit_queries, table, request_id) == [full]

    @pytest.mark.parametrize(
        "sql",
        [
            f"SELEC 1 FRM '{SECRET}'",
            f"SELECT unknown_column FROM {{t}} WHERE event_name = '{SECRET}'",
            f"SELECT CAST('{SECRET}' AS INT64) FROM {{t}}",
            f"SELECT 1 FROM `tagstitch.unknown_table` WHERE '{SECRET}' = ''",
            f"SELECT NO_SUCH_FUNCTION('{SECRET}')",
        ],
        ids=["syntax", "column", "conversion", "table", "function"],
    )
    async def test_a_faulty_query_is_invalid_and_the_error_holds_no_data(
        self,
        audit_table: AuditTable,
        audit_queries: AuditQueries,
        full: dict[str, Any],
        table: str,
        sql: str,
    ) -> None:
        await audit_table.append([full], deadline=soon())

        with pytest.raises(InvalidInput) as raised:
            await audit_queries.run(sql.format(t=table), deadline=soon())

        assert raised.value.code == "invalid_field"
        assert SECRET not in str(raised.value)

    async def test_a_query_whose_deadline_is_over_is_unavailable(
        self, audit_queries: AuditQueries
    ) -> None:
        with pytest.raises(Unavailable):
            await audit_queries.run("SELECT 1", deadline=Deadline.after(-1))

    async def test_the_documented_query_of_blocked_identifiers_finds_them_all(
        self,
        audit_table: AuditTable,
        audit_queries: AuditQueries,
        full: dict[str, Any],
        request_id: str,
    ) -> None:
        extras: list[dict[str, Any]] = [
            {"reason": "QUARANTINED", "type": "client_id", "profiles": 11},
            {"reason": "KNOWN_PROFILE", "blocked": 1, "blocked_types": ["user_id"]},
            {"reason": "KNOWN_PROFILE", "blocked": 0, "held": ["client_id"]},
            {"reason": "KNOWN_PROFILE", "blocked": 0},
        ]
        rows = [
            {
                **full,
                "record_id": f"{request_id}-{n}",
                "record_type": "identity_link" if n else "identity_blocked",
                "occurred_at": NOON + timedelta(minutes=n),
                "extra": extra,
            }
            for n, extra in enumerate(extras)
        ]
        await audit_table.append(rows, deadline=soon())
        [query] = re.findall(r"```sql\n(.*?)```", IDENTITY_DOCUMENT.read_text("utf-8"), re.DOTALL)

        found = await audit_queries.run(query, deadline=soon())

        assert [
            (row["reason"], row["type"], row["blocked_types"] is None, row["held"] is None)
            for row in found
            if row["request_id"] == request_id
        ] == [
            ("QUARANTINED", "client_id", True, True),
            ("KNOWN_PROFILE", None, False, True),
            ("KNOWN_PROFILE", None, True, False),
        ]

    # Views

    async def test_the_view_modifications_has_a_row_for_each(
        self,
        audit_table: AuditTable,
        audit_queries: AuditQueries,
        full: dict[str, Any],
        request_id: str,
    ) -> None:
        await audit_table.append([full], deadline=soon())

        rows = await audit_queries.run(
            "SELECT position, rule_id, type, parameter, new_name, old_value, new_value, old_number"
            f" FROM `tagstitch.modifications` WHERE request_id = '{request_id}' ORDER BY position",
            deadline=soon(),
        )

        assert [tuple(row.values()) for row in rows] == [
            (0, "a", "rename_event", None, "micro_purchase", None, None, None),
            (1, "b", "modify_parameter", "value", None, 7.5, 3.75, 7.5),
            (2, "c", "modify_parameter", "currency", None, "EUR", None, None),
        ]

    async def test_the_view_rule_effects_daily_counts_by_rule_and_day(
        self, audit_table: AuditTable, audit_queries: AuditQueries, full: dict[str, Any]
    ) -> None:
        rule = f"rule-{secrets.token_hex(6)}"
        change = {**MODIFICATIONS[1], "rule_id": rule}
        await audit_table.append(
            [
                {
                    **full,
                    "record_id": f"{rule}-{n}",
                    "occurred_at": NOON + timedelta(days=n // 2),
                    "rule_ids": [rule],
                    "modifications": [change] if n else None,
                }
                for n in range(3)
            ],
            deadline=soon(),
        )

        rows = await audit_queries.run(
            "SELECT day, matches, modifications, renames, value_before, value_after"
            f" FROM `tagstitch.rule_effects_daily` WHERE rule_id = '{rule}' ORDER BY day",
            deadline=soon(),
        )

        assert [tuple(row.values()) for row in rows] == [
            (date(2026, 11, 21), 2, 1, 0, 7.5, 3.75),
            (date(2026, 11, 22), 1, 1, 0, 7.5, 3.75),
        ]

    async def test_the_view_callback_health_hourly_counts_by_endpoint(
        self, audit_table: AuditTable, audit_queries: AuditQueries, full: dict[str, Any]
    ) -> None:
        endpoint = f"endpoint-{secrets.token_hex(6)}"
        await audit_table.append(
            [
                {
                    **full,
                    "record_id": f"{endpoint}-{outcome}",
                    "record_type": "callback_delivery",
                    "outcome": outcome,
                    "extra": {"callback": endpoint},
                }
                for outcome in ("delivered", "expired", "rejected", "else")
            ],
            deadline=soon(),
        )

        rows = await audit_queries.run(
            "SELECT hour, callbacks, delivered, expired, rejected, other, delivered_share"
            f" FROM `tagstitch.callback_health_hourly` WHERE callback = '{endpoint}'",
            deadline=soon(),
        )

        hour = datetime(2026, 11, 21, 12, tzinfo=UTC)
        assert [tuple(row.values()) for row in rows] == [(hour, 4, 1, 1, 1, 1, 0.25)]

    async def test_the_view_decision_latency_hourly_has_percentiles(
        self, audit_table: AuditTable, audit_queries: AuditQueries, full: dict[str, Any]
    ) -> None:
        # An hour that no other test writes to.
        hour = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=secrets.randbelow(5_000))
        await audit_table.append(
            [
                {
                    **full,
                    "record_id": f"{full['record_id']}-{n}",
                    "occurred_at": hour,
                    "latency_ms": float(n),
                }
                for n in range(101)
            ],
            deadline=soon(),
        )

        rows = await audit_queries.run(
            "SELECT decisions, latency_ms_p50, latency_ms_p95, latency_ms_max"
            f" FROM `tagstitch.decision_latency_hourly` WHERE hour = '{hour.isoformat()}'",
            deadline=soon(),
        )

        ((decisions, median, p95, slowest),) = [tuple(row.values()) for row in rows]
        assert (decisions, slowest) == (101, 100.0)
        assert abs(median - 50) <= 2
        assert abs(p95 - 95) <= 2

    async def _rows(
        self, audit_queries: AuditQueries, table: str, request_id: str
    ) -> list[Mapping[str, Any]]:
        rows = await audit_queries.run(
            f"SELECT * FROM {table} WHERE request_id = '{request_id}' ORDER BY record_id",
            deadline=soon(),
        )
        return list(rows)
