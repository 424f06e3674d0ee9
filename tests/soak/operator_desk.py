"""What an operator does beside a running stack: publish, erase, look into the stores."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Self, TypeVar

from tagstitch.adapters.backend_factory import close_backend, open_backend
from tagstitch.adapters.settings import Settings
from tagstitch.adapters.wiring import make_keyring
from tagstitch.cli.rules import push_rules
from tagstitch.core.errors import Conflict, Unavailable
from tagstitch.core.identifier import Identifier
from tagstitch.core.limits import PENDING_SHARDS
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.pipeline.backend import Backend
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.erase_person import PersonEraser
from tagstitch.pipeline.list_all import list_all
from tagstitch.pipeline.person import Asked
from tagstitch.pipeline.profile_import import import_profiles
from tagstitch.pipeline.profile_line import parse_profile_line
from tagstitch.pipeline.publish_audit import AuditPublisher
from tagstitch.pipeline.replay_dead_letter import replay_dead_letter
from tests.soak.local_audit import with_local_audit

T = TypeVar("T")

_PATIENCE_S = 120.0


class OperatorDesk:
    """The backend of a stack, opened in a thread of its own; every method may come from any."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keyring = make_keyring(settings)
        self.published: list[tuple[str, str, bytes]] = []
        """Id, topic and content of each message."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._do(close_backend(self.settings))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def publish(self, topic: str, data: bytes) -> None:
        async def work(backend: Backend, deadline: Deadline) -> None:
            message_id = await backend.publisher.publish(topic, data, deadline=deadline)
            self.published.append((message_id, topic, data))

        self._with_backend(work)

    def push_rules(self, rules: RuleDefinitions) -> None:
        async def work(backend: Backend, _: Deadline) -> None:
            await push_rules(backend, rules)

        self._with_backend(work)

    def import_profiles(self, lines: Sequence[Mapping[str, Any]]) -> None:
        async def work(backend: Backend, deadline: Deadline) -> None:
            parsed = [
                (number, parse_profile_line(dict(line), self.settings.identity, self.keyring))
                for number, line in enumerate(lines, start=1)
            ]
            for start in range(0, len(parsed), 100):
                batch = parsed[start : start + 100]
                now = backend.clock()
                await import_profiles(backend.documents, batch, now=now, deadline=deadline)

        self._with_backend(work)

    def erase(self, identifier: Identifier) -> None:
        """Erase a person, as often as it takes beside others who write the same profile."""

        async def work(backend: Backend, deadline: Deadline) -> None:
            eraser = PersonEraser(backend, self.keyring, AuditPublisher(backend.publisher))
            asked = Asked.by_identifier(identifier, self.keyring)
            while True:
                try:
                    await eraser.erase(asked, deadline=deadline)
                except (Conflict, Unavailable):
                    if deadline.is_over:
                        raise
                else:
                    return

        self._with_backend(work)

    def replay(self, letter_id: str) -> str:
        """Replay a dead letter and return its topic."""

        async def work(backend: Backend, deadline: Deadline) -> str:
            return await replay_dead_letter(backend, self.keyring, letter_id, deadline=deadline)

        return self._with_backend(work)

    def documents(self, collection: str) -> dict[str, Mapping[str, Any]]:
        """Return id -> fields of a whole collection."""

        async def work(backend: Backend, deadline: Deadline) -> dict[str, Mapping[str, Any]]:
            found = await list_all(backend.documents, collection, deadline=deadline)
            return {document.path.partition("/")[2]: document.fields for document in found}

        return self._with_backend(work)

    def waiting(self) -> list[str]:
        """Return the paths of documents that hold records, or entries, on their way."""

        async def work(backend: Backend, deadline: Deadline) -> list[str]:
            pages = [
                await backend.documents.list_documents(collection, pending=shard, deadline=deadline)
                for collection in ("processed", "outbox")
                for shard in range(PENDING_SHARDS)
            ]
            return [document.path for page in pages for document in page]

        return self._with_backend(work)

    def query(self, sql: str) -> list[Mapping[str, Any]]:
        async def work(backend: Backend, deadline: Deadline) -> list[Mapping[str, Any]]:
            return list(await backend.audit_queries.run(sql, deadline=deadline))

        return self._with_backend(work)

    def _with_backend(self, work: Callable[[Backend, Deadline], Awaitable[T]]) -> T:
        async def run() -> T:
            backend = with_local_audit(open_backend(self.settings), self.settings)
            return await work(backend, Deadline.after(_PATIENCE_S))

        return self._do(run())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
