"""The local stack on Google's emulators: the cloud backend's own code, on one machine."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tagstitch.adapters.backend_factory import open_backend
from tagstitch.adapters.settings import Settings
from tagstitch.adapters.topology import TOPOLOGY_FILE
from tagstitch.core.limits import COMMIT_WRITES_MAX
from tagstitch.local_stack.app import StackBackend
from tagstitch.local_stack.bigquery_setup import create_audit_dataset
from tagstitch.local_stack.emulators import run_emulators
from tagstitch.local_stack.inspection import DEFINITION_COLLECTIONS, Listing
from tagstitch.local_stack.pubsub_topology import create_topology, one_server
from tagstitch.local_stack.server import HOST, StackOptions
from tagstitch.pipeline.backend import Backend, Delete
from tagstitch.pipeline.deadline import Deadline

PROJECT: Final = "tagstitch-local"
DATASET: Final = "tagstitch"
REPOSITORY: Final = Path(__file__).resolve().parents[2]

_CLEAR_S: Final = 30.0
_DATA_COLLECTIONS: Final = (
    "profiles", "identifiers", "links", "contributions", "processed", "outbox", "quarantine",
    "dead_letters", "dead_letter_parts", "exposures",
)  # fmt: skip


@contextmanager
def emulator_stack(*, port: int, data_dir: Path) -> Iterator[StackOptions]:
    """Run empty emulators with the topics, subscriptions and tables of the project.

    Yields how to run the stack on them. Raises EmulatorError when something is missing. The data
    folder keeps the secrets and the received callbacks only.
    """
    port = port or _free_port()
    with run_emulators(REPOSITORY, project=PROJECT) as emulators:
        create_audit_dataset(DATASET, emulator=emulators.bigquery, project=PROJECT)
        create_topology(
            json.loads(TOPOLOGY_FILE.read_bytes()),
            emulator=emulators.pubsub,
            project=PROJECT,
            push_url=one_server(f"http://{HOST}:{port}"),
        )
        settings = {
            "TAGSTITCH_BACKEND": "cloud",
            "TAGSTITCH_PROJECT": PROJECT,
            "TAGSTITCH_DATASET": DATASET,
            "TAGSTITCH_DATA_DIR": str(data_dir),
            **emulators.environment(),
        }
        yield StackOptions(
            data_dir=data_dir,
            port=port,
            settings=settings,
            open_stack_backend=open_emulator_stack_backend,
        )


async def open_emulator_stack_backend(settings: Settings) -> StackBackend:
    """Return the cloud backend; the Pub/Sub emulator pushes to this server by itself."""
    backend = open_backend(settings)
    return StackBackend(backend, EmulatorInspection(backend), dispatcher=None)


class EmulatorInspection:
    """Inspection of the cloud backend on emulators."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def list_audit(
        self, *, request_id: str | None, limit: int | None, deadline: Deadline
    ) -> Listing:
        """Return rows of the audit table."""
        # A JSON text is a BigQuery string literal too.
        where = "" if request_id is None else f"WHERE request_id = {json.dumps(request_id)}"
        sql = f"SELECT * FROM audit {where} ORDER BY recorded_at"  # noqa: S608 - quoted above
        rows = await self._backend.audit_queries.run(sql, deadline=deadline)
        return len(rows), rows[:limit]

    async def clear(self, *, keep_definitions: bool) -> None:
        """Clear the documents; queue and audit stay, since running emulators cannot lose them."""
        deadline = Deadline.after(_CLEAR_S)
        definitions = () if keep_definitions else sorted(DEFINITION_COLLECTIONS)
        for collection in (*_DATA_COLLECTIONS, *definitions):
            while page := await self._backend.documents.list_documents(
                collection, limit=COMMIT_WRITES_MAX, deadline=deadline
            ):
                deletes = [Delete(document.path) for document in page]
                await self._backend.documents.commit(deletes, deadline=deadline)


def _free_port() -> int:
    """Return a port that is free now: the subscriptions name it before the server takes it."""
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])
