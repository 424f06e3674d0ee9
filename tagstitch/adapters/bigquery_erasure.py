"""The one statement that changes rows of the audit table in BigQuery: an erasure."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent import futures
from functools import reduce
from typing import Any, Final

import requests
from google.api_core import exceptions as api_errors
from google.auth import exceptions as auth_errors
from google.cloud import bigquery

from tagstitch.adapters.bigquery_audit_queries import NO_RETRY, open_client
from tagstitch.adapters.grpc_channel import timeout_s
from tagstitch.core.erasure import ERASED_COLUMNS, ERASED_EXTRAS
from tagstitch.core.errors import Unavailable
from tagstitch.core.event_action import VALUE_FIELDS
from tagstitch.pipeline.deadline import Deadline

_WHAT: Final = "bigquery"


def _without(json: str, names: Iterable[str]) -> str:
    """Return SQL of a JSON object without these members; one each, as the emulator has it."""
    return reduce(lambda sql, name: f"JSON_REMOVE({sql}, '$.{name}')", sorted(names), json)


_ENTRIES: Final = (
    f"ARRAY(SELECT {_without('entry', VALUE_FIELDS)}"  # noqa: S608 - names of our own
    " FROM UNNEST(JSON_QUERY_ARRAY(modifications)) AS entry WITH OFFSET AS position"
    " ORDER BY position)"
)

ERASURE_SQL: Final = (
    f"UPDATE audit SET {', '.join(f'{column} = NULL' for column in ERASED_COLUMNS)},"  # noqa: S608
    f" modifications = IF(modifications IS NULL, NULL, TO_JSON({_ENTRIES})),"
    f" extra = {_without('extra', ERASED_EXTRAS)}"
    " WHERE subject IN UNNEST(@subjects)"
)
"""The same as `nobodys_row` in core/erasure.py: tests/contract/audit_table_contract.py holds both
to it. Rows that the Storage Write API appended can be updated at once
(https://cloud.google.com/bigquery/docs/data-manipulation-language#limitations)."""


class BigQueryErasure:
    """Erases rows of one dataset's audit table, in a thread, bounded in time."""

    def __init__(self, project: str, dataset: str, *, emulator: str | None) -> None:
        self._project = project
        self._dataset = f"{project}.{dataset}"
        self._emulator = emulator

    async def erase(self, subjects: Sequence[str], *, deadline: Deadline) -> int:
        """Make the rows of these pseudonyms nobody's; return how many there were."""
        timeout = timeout_s(_WHAT, deadline, at_most_s=deadline.remaining_s)
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.to_thread(self._erase, subjects, deadline)
        except (TimeoutError, futures.TimeoutError):
            raise Unavailable(_WHAT, "the deadline is over") from None
        except (
            api_errors.GoogleAPICallError,
            auth_errors.GoogleAuthError,
            requests.RequestException,
        ) as error:  # its text may quote values
            raise Unavailable(_WHAT, type(error).__name__) from None

    def _erase(self, subjects: Sequence[str], deadline: Deadline) -> int:
        wanted = bigquery.ArrayQueryParameter("subjects", "STRING", list(subjects))
        configuration: Any = bigquery.QueryJobConfig(
            default_dataset=self._dataset, query_parameters=[wanted]
        )
        configuration.job_timeout_ms = int(deadline.remaining_s * 1_000)
        client = open_client(self._project, emulator=self._emulator)
        try:
            job = client.query(
                ERASURE_SQL,
                job_config=configuration,
                timeout=deadline.remaining_s,
                retry=NO_RETRY,
                job_retry=None,
            )
            job.result(timeout=deadline.remaining_s, retry=NO_RETRY, job_retry=None)
        finally:
            client.close()
        return int(job.num_dml_affected_rows or 0)
