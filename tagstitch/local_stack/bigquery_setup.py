"""The dataset, the audit table and its views, made in the BigQuery emulator.

A deployment makes them from the same files in `schemas/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from tagstitch.adapters.audit_columns import SCHEMAS_DIR

_CALL_S: Final = 20.0
_PARTITION_DAYS: Final = 400


def create_audit_dataset(dataset: str, *, emulator: str, project: str) -> None:
    """Make the dataset, the table and the views in an emulator that has none of them."""
    from google.cloud import bigquery

    from tagstitch.adapters.bigquery_audit_queries import NO_RETRY, open_client

    client = open_client(project, emulator=emulator)
    name = f"{project}.{dataset}"
    try:
        client.create_dataset(name, retry=NO_RETRY, timeout=_CALL_S)
        client.create_table(_audit_table(f"{name}.audit"), retry=NO_RETRY, timeout=_CALL_S)
        for path in _views_in_order(SCHEMAS_DIR / "views"):
            view = bigquery.Table(f"{name}.{path.stem}")
            view.view_query = path.read_text(encoding="utf-8").replace("${dataset}", name)
            client.create_table(view, retry=NO_RETRY, timeout=_CALL_S)
    finally:
        client.close()


def clear_audit_table(dataset: str, *, emulator: str, project: str) -> None:
    """Delete every row; the cloud's table cannot be cleared from here."""
    from tagstitch.adapters.bigquery_audit_queries import NO_RETRY, open_client

    client = open_client(project, emulator=emulator)
    try:
        sql = f"DELETE FROM `{project}.{dataset}.audit` WHERE TRUE"  # noqa: S608 - our own names
        job = client.query(sql, timeout=_CALL_S, retry=NO_RETRY, job_retry=None)
        job.result(timeout=_CALL_S, retry=NO_RETRY, job_retry=None)
    finally:
        client.close()


def _audit_table(name: str) -> Any:
    from google.cloud import bigquery

    columns = msgspec.json.decode((SCHEMAS_DIR / "audit_table.json").read_bytes())
    schema = [bigquery.SchemaField.from_api_repr(column) for column in columns]
    table = bigquery.Table(name, schema=schema)
    table.time_partitioning = bigquery.TimePartitioning(
        field="occurred_at", expiration_ms=_PARTITION_DAYS * 24 * 60 * 60 * 1000
    )
    table.clustering_fields = ["record_type", "event_name"]
    return table


def _views_in_order(folder: Path) -> list[Path]:
    """Return the views so that each comes behind those that it reads."""
    first = ("audit_deduplicated", "modifications")
    others = sorted(path.stem for path in folder.glob("*.sql") if path.stem not in first)
    return [folder / f"{name}.sql" for name in (*first, *others)]
