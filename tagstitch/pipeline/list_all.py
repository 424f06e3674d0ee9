"""Listing a whole collection, page by page."""

from __future__ import annotations

from typing import Final

from tagstitch.pipeline.backend import Document, DocumentStore
from tagstitch.pipeline.deadline import Deadline

PAGE_DOCUMENTS: Final = 500


async def list_all(
    documents: DocumentStore, collection: str, *, deadline: Deadline
) -> list[Document]:
    """Return every document of a collection, in order of its path.

    For collections that fit into memory: definitions, and what expires within days.
    """
    found: list[Document] = []
    while True:
        page = await documents.list_documents(
            collection,
            after=found[-1].path if found else None,
            limit=PAGE_DOCUMENTS,
            deadline=deadline,
        )
        found += page
        if len(page) < PAGE_DOCUMENTS:
            return found
