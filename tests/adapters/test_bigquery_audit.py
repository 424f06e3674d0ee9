"""The audit table in BigQuery, where bqemulator cannot say what BigQuery says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from tagstitch.adapters.bigquery_audit import BigQueryAuditTable
from tagstitch.core.audit import AuditRecord
from tagstitch.core.errors import Unavailable
from tagstitch.pipeline.backend import RejectedRow
from tagstitch.pipeline.deadline import Deadline
from tests.stub_storage_write import StubStorageWrite, run_stub_storage_write

SCHEMA = Path(__file__).resolve().parents[2] / "schemas" / "audit_table.json"


def row(record_id: str) -> dict[str, Any]:
    noon = datetime(2026, 11, 21, 12, tzinfo=UTC)
    record = AuditRecord(record_id, "erasure", occurred_at=noon, outcome="delivered")
    return {**record.to_row(), "recorded_at": noon}


def soon() -> Deadline:
    return Deadline.after(20)


@pytest.fixture
async def stub() -> AsyncIterator[StubStorageWrite]:
    async with run_stub_storage_write() as stub:
        yield stub


@pytest.fixture
async def table(stub: StubStorageWrite) -> AsyncIterator[BigQueryAuditTable]:
    table = BigQueryAuditTable("project", "tagstitch", storage_emulator=stub.address)
    yield table
    await table.close()


def test_a_record_has_exactly_the_columns_of_the_table() -> None:
    columns = [column["name"] for column in json.loads(SCHEMA.read_text())]

    assert sorted(row("a")) == sorted(columns)


async def test_rows_that_bigquery_refuses_are_returned_and_the_others_stored(
    stub: StubStorageWrite, table: BigQueryAuditTable
) -> None:
    stub.refuse = lambda row: b"bad" in row
    rows = [row("good-0"), row("bad-1"), {"record_id": "ours"}, row("bad-3"), row("good-4")]

    rejected = await table.append(rows, deadline=soon())

    assert rejected == [
        RejectedRow(1, "FIELDS_ERROR"),
        RejectedRow(2, "record_type is required"),
        RejectedRow(3, "FIELDS_ERROR"),
    ]
    assert [b"good-0" in stub.stored[0], b"good-4" in stub.stored[1]] == [True, True]
    assert len(stub.stored) == 2


async def test_when_every_row_is_refused_nothing_is_sent_again(
    stub: StubStorageWrite, table: BigQueryAuditTable
) -> None:
    stub.refuse = lambda _row: True

    rejected = await table.append([row("a"), row("b")], deadline=soon())

    assert [one.index for one in rejected] == [0, 1]
    assert len(stub.requests) == 1


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT]
)
async def test_an_error_of_the_whole_append_is_unavailable_and_the_next_append_works(
    stub: StubStorageWrite, table: BigQueryAuditTable, code: grpc.StatusCode
) -> None:
    stub.error_codes = [code]

    with pytest.raises(Unavailable) as raised:
        await table.append([row("a")], deadline=soon())

    assert str(raised.value) == f"bigquery is unavailable: {code.name}"
    assert await table.append([row("a")], deadline=soon()) == []


async def test_one_stream_serves_all_appends_and_each_gets_its_own_answer(
    stub: StubStorageWrite, table: BigQueryAuditTable
) -> None:
    stub.refuse = lambda row: b"bad" in row
    stub.latency_s = 0.002
    names = [f"{'bad' if n % 3 == 0 else 'good'}-{n}" for n in range(30)]

    answers = await asyncio.gather(*(table.append([row(name)], deadline=soon()) for name in names))

    assert [len(answer) for answer in answers] == [int(n % 3 == 0) for n in range(30)]
    assert len(stub.stored) == 20
    assert stub.streams == 1


async def test_a_stream_that_the_server_ended_is_replaced_within_the_append(
    stub: StubStorageWrite, table: BigQueryAuditTable
) -> None:
    await table.append([row("a")], deadline=soon())
    stub.abort_codes = [grpc.StatusCode.ABORTED]

    assert await table.append([row("b")], deadline=soon()) == []

    assert stub.streams == 2
    assert len(stub.stored) == 2


async def test_a_new_stream_that_ends_at_once_is_unavailable(
    stub: StubStorageWrite, table: BigQueryAuditTable
) -> None:
    stub.abort_codes = [grpc.StatusCode.PERMISSION_DENIED]

    with pytest.raises(Unavailable, match="PERMISSION_DENIED"):
        await table.append([row("a")], deadline=soon())

    assert await table.append([row("a")], deadline=soon()) == []


async def test_an_append_without_an_answer_ends_at_its_deadline_and_the_next_one_works(
    stub: StubStorageWrite, table: BigQueryAuditTable
) -> None:
    stub.is_silent = True
    async with asyncio.timeout(2):
        with pytest.raises(Unavailable):
            await table.append([row("a")], deadline=Deadline.after(0.3))
    stub.is_silent = False

    assert await table.append([row("b")], deadline=soon()) == []

    assert stub.streams == 2


async def test_appends_beside_one_that_ran_out_of_time_are_stored(
    stub: StubStorageWrite, table: BigQueryAuditTable
) -> None:
    stub.latency_s = 0.3

    results = await asyncio.gather(
        table.append([row("hasty")], deadline=Deadline.after(0.1)),
        *(table.append([row(f"patient-{n}")], deadline=soon()) for n in range(3)),
        return_exceptions=True,
    )

    assert isinstance(results[0], Unavailable)
    assert results[1:] == [[], [], []]


async def test_requests_name_the_default_stream_and_route_by_it(
    stub: StubStorageWrite, table: BigQueryAuditTable
) -> None:
    await table.append([row("a")], deadline=soon())

    stream = "projects/project/datasets/tagstitch/tables/audit/streams/_default"
    assert stub.requests[0].write_stream == stream
    assert stub.metadata[0]["x-goog-request-params"] == "write_stream=" + stream.replace("/", "%2F")


async def test_after_closing_the_table_an_append_opens_it_again(
    stub: StubStorageWrite, table: BigQueryAuditTable
) -> None:
    await table.append([row("a")], deadline=soon())
    await table.close()

    assert await table.append([row("b")], deadline=soon()) == []

    assert stub.streams == 2


async def test_an_append_on_a_channel_that_another_call_gave_up_is_unavailable(
    table: BigQueryAuditTable,
) -> None:
    await table.append([row("a")], deadline=soon())
    channel = table._channel
    with channel.calling() as append:
        await channel.close()

        with pytest.raises(Unavailable):
            await table._send(append, table._request([b"x"]))

    assert await table.append([row("b")], deadline=soon()) == []
