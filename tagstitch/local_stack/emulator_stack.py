"""The local stack on Google's emulators: the cloud backend's own code, on one machine."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tagstitch.adapters.backend_factory import open_backend
from tagstitch.adapters.settings import Settings, environment_with, read_settings
from tagstitch.adapters.topology import TOPOLOGY_FILE, read_topology
from tagstitch.core.errors import Unavailable
from tagstitch.core.limits import COMMIT_WRITES_MAX
from tagstitch.local_stack.app import StackBackend
from tagstitch.local_stack.bigquery_setup import clear_audit_table, create_audit_dataset
from tagstitch.local_stack.emulators import Emulators, run_emulators
from tagstitch.local_stack.inspection import (
    DEFINITION_COLLECTIONS,
    IN_FLIGHT_S,
    Listing,
    WaitIdle,
)
from tagstitch.local_stack.pubsub_topology import create_topology, drop_messages, one_server
from tagstitch.local_stack.server import HOST, StackOptions
from tagstitch.pipeline.backend import Backend, Delete
from tagstitch.pipeline.deadline import Deadline

PROJECT: Final = "tagstitch-local"
DATASET: Final = "tagstitch"
REPOSITORY: Final = Path(__file__).resolve().parents[2]

_DATA_COLLECTIONS: Final = (
    "profiles", "identifiers", "links", "contributions", "processed", "outbox", "quarantine",
    "dead_letters", "dead_letter_parts", "exposures",
)  # fmt: skip


@contextmanager
def emulator_stack(*, port: int, data_dir: Path) -> Iterator[StackOptions]:
    """Run empty emulators, and yield how to run the stack on them.

    Raises EmulatorError when something is missing. The data folder keeps the secrets and the
    received callbacks only.
    """
    with run_emulators(REPOSITORY, project=PROJECT) as emulators:
        yield stack_on_emulators(emulators, PROJECT, port=port, data_dir=data_dir)


def stack_on_emulators(
    emulators: Emulators, project: str, *, port: int, data_dir: Path
) -> StackOptions:
    """Make topics, subscriptions and tables in running emulators; return how to run the stack.

    The project must be new to them.
    """
    port = port or _free_port()
    settings = {
        "TAGSTITCH_BACKEND": "cloud",
        "TAGSTITCH_PROJECT": project,
        "TAGSTITCH_DATASET": DATASET,
        "TAGSTITCH_DATA_DIR": str(data_dir),
        **emulators.environment(),
    }
    create_audit_dataset(DATASET, emulator=emulators.bigquery, project=project)
    create_topology(
        json.loads(TOPOLOGY_FILE.read_bytes()),
        emulator=emulators.pubsub,
        project=project,
        push_url=one_server(f"http://{HOST}:{port}"),
        retry_scale=read_settings(environment_with(overrides=settings)).retry_scale,
    )
    return StackOptions(
        data_dir=data_dir,
        port=port,
        settings=settings,
        open_stack_backend=open_emulator_stack_backend,
    )


async def open_emulator_stack_backend(settings: Settings) -> StackBackend:
    """Return the cloud backend; the Pub/Sub emulator pushes to this server by itself."""
    backend = open_backend(settings)
    return StackBackend(backend, EmulatorInspection(backend, settings), dispatcher=None)


class EmulatorInspection:
    """Inspection of the cloud backend on emulators."""

    def __init__(self, backend: Backend, settings: Settings) -> None:
        self._backend = backend
        self._settings = settings

    async def list_audit(
        self, *, request_id: str | None, limit: int | None, deadline: Deadline
    ) -> Listing:
        """Return rows of the audit table."""
        # A JSON text is a BigQuery string literal too.
        where = "" if request_id is None else f"WHERE request_id = {json.dumps(request_id)}"
        sql = f"SELECT * FROM audit {where} ORDER BY recorded_at"  # noqa: S608 - quoted above
        rows = await self._backend.audit_queries.run(sql, deadline=deadline)
        return len(rows), rows[:limit]

    async def clear(self, *, keep_definitions: bool, wait_idle: WaitIdle) -> None:
        """Clear documents, queues and audit once the work in flight has ended."""
        await asyncio.to_thread(self._drop_messages)
        try:
            await asyncio.wait_for(wait_idle(), IN_FLIGHT_S)
        except TimeoutError:
            raise Unavailable("pubsub", "work in flight did not end") from None
        await asyncio.to_thread(self._drop_messages)  # what that work has published
        await self._clear_documents(frozenset() if keep_definitions else DEFINITION_COLLECTIONS)
        await asyncio.to_thread(
            clear_audit_table,
            self._settings.dataset,
            emulator=str(self._settings.bigquery_emulator),
            project=self._settings.project,
        )

    async def _clear_documents(self, definitions: frozenset[str]) -> None:
        deadline = Deadline.after(IN_FLIGHT_S)
        documents = self._backend.documents
        for collection in (*_DATA_COLLECTIONS, *sorted(definitions)):
            while page := await documents.list_documents(
                collection, limit=COMMIT_WRITES_MAX, deadline=deadline
            ):
                deletes = [Delete(document.path) for document in page]
                await documents.commit(deletes, deadline=deadline)

    def _drop_messages(self) -> None:
        drop_messages(
            read_topology().subscriptions,
            emulator=str(self._settings.pubsub_emulator),
            project=self._settings.project,
        )


def _free_port() -> int:
    """Return a port that is free now: the subscriptions name it before the server takes it."""
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])
