"""Documents that are copied from another store when they are first asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tagstitch.pipeline.backend import Document, DocumentStore, Put, Write
from tagstitch.pipeline.deadline import Deadline

_COPIED: Final = frozenset({"profiles", "identifiers", "contributions", "quarantine"})
"""What tells who somebody is. Not what was processed: a simulation processes it again."""

_DEFINITIONS: Final = frozenset({"traits", "views"})


class CopiedDocuments:
    """A DocumentStore that begins with another one's documents and never writes to that one."""

    def __init__(self, documents: DocumentStore, source: DocumentStore) -> None:
        self._documents = documents
        self._source = source
        self._asked: set[str] = set()

    async def get(self, path: str, *, deadline: Deadline) -> Document | None:
        """Return the document, or None."""
        return (await self.get_many([path], deadline=deadline)).get(path)

    async def get_many(self, paths: Sequence[str], *, deadline: Deadline) -> Mapping[str, Document]:
        """Return the documents that exist, by path."""
        new = [p for p in paths if p.partition("/")[0] in _COPIED and p not in self._asked]
        if new:
            found = await self._source.get_many(new, deadline=deadline)
            copies = [Put(path, document.fields) for path, document in found.items()]
            if copies:
                await self._documents.commit(copies, deadline=deadline)
            self._asked.update(new)
        return await self._documents.get_many(paths, deadline=deadline)

    async def commit(self, writes: Sequence[Write], *, deadline: Deadline) -> None:
        """Apply all writes or none."""
        self._asked.update(write.path for write in writes)
        await self._documents.commit(writes, deadline=deadline)

    async def list_documents(
        self, collection: str, *, deadline: Deadline, **options: Any
    ) -> Sequence[Document]:
        """Return documents of a collection in order of their path; definitions from the source."""
        store = self._source if collection in _DEFINITIONS else self._documents
        return await store.list_documents(collection, deadline=deadline, **options)
