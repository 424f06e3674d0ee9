"""Loading the views that operators declare."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from tagstitch.core.view import Views, parse_views
from tagstitch.pipeline.backend import DocumentStore
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.list_all import list_all

_TIMEOUT_S: Final = 2.0
"""Seconds for the queries that every refresh makes, mostly one: what takes longer is tried anew."""


def load_views(documents: DocumentStore) -> Callable[[Views | None, Deadline], Awaitable[Views]]:
    """Return the loader of the collection `views`."""

    async def load(_present: Views | None, deadline: Deadline) -> Views:
        found = await list_all(documents, "views", deadline=deadline.at_most(_TIMEOUT_S))
        return parse_views({document.path.partition("/")[2]: document.fields for document in found})

    return load
