"""SQL over the audit table in BigQuery, each query in a thread and bounded in time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import Any, Final

import requests
from google.api_core import exceptions as api_errors
from google.api_core.client_options import ClientOptions
from google.auth import exceptions as auth_errors
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from tagstitch.adapters.bigquery_sql import parse_query
from tagstitch.adapters.grpc_channel import timeout_s
from tagstitch.core.errors import InvalidInput, Unavailable
from tagstitch.pipeline.deadline import Deadline

_WHAT: Final = "bigquery"


NO_RETRY: Final[Any] = None
"""The library's own retries go on for 10 minutes, whatever the time-out; None is not in its types.
"""


def open_client(project: str, *, emulator: str | None) -> Any:
    """Return a client of BigQuery, or of its emulator at a URL."""
    if emulator is None:
        return bigquery.Client(project=project)
    return bigquery.Client(
        project=project,
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options=ClientOptions(api_endpoint=emulator),
    )


class BigQueryAuditQueries:
    """Queries with one dataset as their default."""

    def __init__(self, project: str, dataset: str, *, emulator: str | None = None) -> None:
        self._project = project
        self._dataset = f"{project}.{dataset}"
        self._emulator = emulator
        self._client: Any = None

    async def run(self, sql: str, *, deadline: Deadline) -> Sequence[Mapping[str, Any]]:
        """Return the rows of one query.

        What writes is refused here, before BigQuery sees it, by the parser that the local backend
        uses: the same SQL is accepted everywhere, and its errors quote nothing.
        """
        timeout = timeout_s(_WHAT, deadline, at_most_s=deadline.remaining_s)
        parse_query(sql)
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.to_thread(self._run, sql, deadline)
        except (api_errors.BadRequest, api_errors.NotFound) as error:
            raise InvalidInput(
                "invalid_field", f"the query cannot be run: {_reason(error)}", path="sql"
            ) from None
        except (TimeoutError, futures.TimeoutError):
            raise Unavailable(_WHAT, "the deadline is over") from None
        except (
            api_errors.GoogleAPICallError,
            auth_errors.GoogleAuthError,
            requests.RequestException,
        ) as error:
            raise Unavailable(_WHAT, type(error).__name__) from None

    async def close(self) -> None:
        """Close the connections; a later query opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _run(self, sql: str, deadline: Deadline) -> list[dict[str, Any]]:
        configuration = bigquery.QueryJobConfig(default_dataset=self._dataset)
        # BigQuery ends the query, too, when nobody waits for it any longer.
        configuration.job_timeout_ms = int(deadline.remaining_s * 1_000)
        if self._client is None:
            self._client = open_client(self._project, emulator=self._emulator)
        job = self._client.query(
            sql,
            job_config=configuration,
            timeout=deadline.remaining_s,
            retry=NO_RETRY,
            job_retry=None,
        )
        rows = job.result(timeout=deadline.remaining_s, retry=NO_RETRY, job_retry=None)
        return [dict(row.items()) for row in rows]


def _reason(error: api_errors.GoogleAPICallError) -> str:
    """Return BigQuery's own code of the error (`invalidQuery`): its text quotes values."""
    errors: Sequence[Mapping[str, Any]] = error.errors or ()
    return str(errors[0].get("reason")) if errors else type(error).__name__
