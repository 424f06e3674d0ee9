"""Loading the part of the identity graph that one stitch request touches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tagstitch.core.identifier import Identifier
from tagstitch.core.identity_graph import IdentityGraph
from tagstitch.core.limits import CLOCK_SKEW_S
from tagstitch.pipeline.backend import Document, DocumentStore
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.identifier_places import IdentifierPlaces
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.read_documents import read_documents


@dataclass(frozen=True, slots=True)
class LoadedGraph:
    """The identity graph of one request as it was read."""

    graph: IdentityGraph
    versions: Mapping[str, str]
    """Path -> version of every document read; what is missing does not exist."""
    is_erased: bool
    """Whether the request must change nothing: its strongest identifier has a tombstone, or a
    weaker one was erased after the event."""
    documents: Mapping[str, Document]

    def with_version(self, path: str, version: str) -> LoadedGraph:
        """Return the same with the version of one more document."""
        return replace(self, versions={**self.versions, path: version})


class GraphLoader:
    """Reads where the identifiers of a request lead, with the versions for its commit."""

    def __init__(self, documents: DocumentStore, keyring: Keyring) -> None:
        self._documents = documents
        self._places = IdentifierPlaces(keyring)

    async def load(
        self,
        identifiers: Sequence[Identifier],
        *,
        at: datetime,
        now: datetime,
        deadline: Deadline,
        riders: Sequence[str] = (),
    ) -> LoadedGraph:
        """Return every identifier with the profile it leads to, and the versions read.

        One read, a second when an identifier points elsewhere; more when it left from there
        between the two. `at` is when the event happened: whatever an erased person did before the
        erasure changes nothing. Behind it a tombstone of the strongest identifier does so, and a
        weaker one that has one counts as if it were not there: the browser that somebody erased
        has used is not lost to everybody else.
        """
        asked = set(map(self._places.place, identifiers))
        found = await read_documents(
            self._documents, [*map(self._places.place, identifiers), *riders], deadline=deadline
        )
        left: set[tuple[str, ...]] = set()
        while True:
            led_to = {path for i in identifiers for path in self._places.ways(i, found)} - asked
            again = {
                tuple(self._places.ways(i, found))
                for i in identifiers
                if self._places.has_left(i, found)
            } - left
            if not led_to | again:
                break
            asked |= led_to
            left |= again
            paths = led_to.union(*again)
            found.update(await read_documents(self._documents, sorted(paths), deadline=deadline))
        nodes = tuple(self._places.node(identifier, found, now) for identifier in identifiers)
        versions = {path: document.version for path, document in found.items()}
        erased = [self._places.erased_at(identifier, found, now) for identifier in identifiers]
        latest = max((time for time in erased if time is not None), default=None)
        is_erased = latest is not None and (
            erased[0] is not None or at <= latest + timedelta(seconds=CLOCK_SKEW_S)
        )
        return LoadedGraph(IdentityGraph(nodes), versions, is_erased, found)

    async def load_more(
        self, loaded: LoadedGraph, paths: Iterable[str], *, deadline: Deadline
    ) -> LoadedGraph:
        """Return the same with more documents, read at once where they were not read yet."""
        missing = sorted(set(paths) - loaded.documents.keys())
        found = await read_documents(self._documents, missing, deadline=deadline)
        versions = {path: document.version for path, document in found.items()}
        return replace(
            loaded,
            documents={**loaded.documents, **found},
            versions={**loaded.versions, **versions},
        )
