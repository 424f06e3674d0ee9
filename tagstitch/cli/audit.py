"""`tagstitch audit`: questions to the audit table, and records that only a log still has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from tagstitch.cli.opened_backend import opened_backend
from tagstitch.cli.output import CommandFailed, JsonOption, emit, progress_bar, run, table_of
from tagstitch.core.limits import AUDIT_MESSAGE_BYTES_MAX, AUDIT_RECORDS_PER_MESSAGE_MAX
from tagstitch.pipeline.deadline import Deadline

_QUERY_TIMEOUT_S = 120.0
_PUBLISH_TIMEOUT_S = 30.0

LAST_HOUR = """
SELECT occurred_at, event_name, rule_id, type, parameter, old_value, new_value, old_name, new_name
FROM modifications
WHERE occurred_at >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 1 HOUR)
ORDER BY occurred_at DESC
LIMIT 200
"""

app = typer.Typer(help="The audit table.", no_args_is_help=True)


@app.command()
def query(
    sql: Annotated[
        str | None,
        typer.Argument(help="BigQuery SQL; without it, the modifications of the last hour."),
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Run a query over `audit` and its views."""

    async def work() -> Sequence[Mapping[str, Any]]:
        async with opened_backend() as opened:
            queries = opened.backend.audit_queries
            return await queries.run(sql or LAST_HOUR, deadline=Deadline.after(_QUERY_TIMEOUT_S))

    rows = run(work(), as_json=json)
    emit(
        list(rows),
        as_json=json,
        show=lambda out: out.print(table_of(rows) if rows else "no rows", markup=False),
    )


@app.command()
def load(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Log lines, JSON.")],
    *,
    json: JsonOption = False,
) -> None:
    """Publish the records of AUDIT_FALLBACK log lines; a record that was stored stays one row."""

    async def work() -> dict[str, int]:
        records, others = _fallback_records(file)
        async with opened_backend() as opened:
            with progress_bar("records", len(records)) as advance:
                for batch in _batches(records):
                    message = msgspec.json.encode({"v": 1, "records": batch})
                    deadline = Deadline.after(_PUBLISH_TIMEOUT_S)
                    await opened.backend.publisher.publish("audit", message, deadline=deadline)
                    advance(len(batch))
        return {"records": len(records), "other_lines": others}

    answer = run(work(), as_json=json)
    emit(
        answer,
        as_json=json,
        show=lambda out: out.print(
            f"{answer['records']} records published, {answer['other_lines']} other lines"
        ),
    )


def _fallback_records(file: Path) -> tuple[list[Mapping[str, Any]], int]:
    """Return the records of a log, and how many lines were something else.

    Takes JSON Lines as the functions write them and what `gcloud logging read --format json`
    gives: one list, with each line's fields below `jsonPayload`.
    """
    content = file.read_bytes()
    entries: list[Any] = []
    others = 0
    try:
        whole = msgspec.json.decode(content)
        entries = whole if isinstance(whole, list) else [whole]
    except msgspec.DecodeError:
        for line in content.splitlines():
            try:
                entries.append(msgspec.json.decode(line))
            except msgspec.DecodeError:
                others += bool(line.strip())
    records = []
    for entry in entries:
        fields = entry.get("jsonPayload", entry) if isinstance(entry, Mapping) else {}
        record = fields.get("record") if fields.get("message") == "AUDIT_FALLBACK" else None
        if isinstance(record, Mapping) and isinstance(record.get("record_id"), str):
            records.append(record)
        else:
            others += 1
    if not records:
        raise CommandFailed("no AUDIT_FALLBACK lines in the file")
    return records, others


def _batches(records: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Yield the records in messages of the size that the functions send."""
    batch: list[Mapping[str, Any]] = []
    size = 0
    for record in records:
        length = len(msgspec.json.encode(record))
        full = (
            len(batch) >= AUDIT_RECORDS_PER_MESSAGE_MAX or size + length > AUDIT_MESSAGE_BYTES_MAX
        )
        if batch and full:
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += length
    if batch:
        yield batch
