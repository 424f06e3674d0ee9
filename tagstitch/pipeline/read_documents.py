"""Reading documents by their paths, by the cheapest call."""

from __future__ import annotations

from collections.abc import Sequence

from tagstitch.pipeline.backend import Document, DocumentReader
from tagstitch.pipeline.deadline import Deadline


async def read_documents(
    documents: DocumentReader, paths: Sequence[str], *, deadline: Deadline
) -> dict[str, Document]:
    """Return the documents that exist, in one call; a single one comes by the cheaper one."""
    if len(paths) != 1:
        return dict(await documents.get_many(paths, deadline=deadline)) if paths else {}
    document = await documents.get(paths[0], deadline=deadline)
    return {} if document is None else {paths[0]: document}
