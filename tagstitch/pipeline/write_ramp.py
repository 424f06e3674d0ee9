"""How fast a large import may write into collections that were quiet or empty before.

Firestore splits its key ranges as traffic grows, and errs or slows down where it grows faster:
"a maximum of 500 operations per second to a new collection", then 50 % more each 5 minutes
(https://cloud.google.com/firestore/docs/best-practices#ramping_up_traffic).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from tagstitch.pipeline.backend import Document, DocumentStore, Write
from tagstitch.pipeline.deadline import Deadline

_FIRST_WRITES_PER_S: Final = 500.0
_GROWTH: Final = 1.5
_STEP_S: Final = 300.0
_STEPS_MAX: Final = 20
"""Steps that grow: after 100 minutes 1.6 million a second, more than one process can write."""


def writes_per_s(elapsed_s: float) -> float:
    """Return the limit so many seconds after the first write."""
    steps = min(int(max(elapsed_s, 0.0) // _STEP_S), _STEPS_MAX)
    return float(_FIRST_WRITES_PER_S * _GROWTH**steps)


class WriteRamp:
    """Spaces commits so that their writes keep to the limit; a pause earns no burst."""

    def __init__(self, *, started_s: float) -> None:
        """Begin at this moment of any clock; the same clock gives `now_s` later."""
        self._started_s = started_s
        self._free_s = started_s

    def limit(self, *, now_s: float) -> float:
        """Return the writes a second that are allowed now."""
        return writes_per_s(now_s - self._started_s)

    def wait_s(self, writes: int, *, now_s: float) -> float:
        """Return for how long a commit of so many writes must wait, and count it as made then."""
        begins_s = max(self._free_s, now_s)
        self._free_s = begins_s + writes / self.limit(now_s=begins_s)
        return begins_s - now_s


class RampedDocuments:
    """A DocumentStore whose commits wait for their turn on the ramp."""

    def __init__(
        self,
        documents: DocumentStore,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._documents = documents
        self._clock = clock
        self._sleep = sleep
        self._ramp = WriteRamp(started_s=clock())

    @property
    def limit(self) -> float:
        """The writes a second that are allowed now."""
        return self._ramp.limit(now_s=self._clock())

    async def get(self, path: str, *, deadline: Deadline) -> Document | None:
        """Return the document, or None."""
        return await self._documents.get(path, deadline=deadline)

    async def get_many(self, paths: Sequence[str], *, deadline: Deadline) -> Mapping[str, Document]:
        """Return the documents that exist, by path."""
        return await self._documents.get_many(paths, deadline=deadline)

    async def commit(self, writes: Sequence[Write], *, deadline: Deadline) -> None:
        """Apply all writes or none, when it is their turn."""
        wait_s = self._ramp.wait_s(len(writes), now_s=self._clock())
        if wait_s > 0:
            await self._sleep(wait_s)
        await self._documents.commit(writes, deadline=deadline)

    async def list_documents(self, collection: str, **options: Any) -> Sequence[Document]:
        """Return documents of a collection in order of their path."""
        return await self._documents.list_documents(collection, **options)
