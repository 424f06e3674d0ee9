"""Simulating stitch requests: what each one does to the graph, told step by step.

The requests go through the same `Stitcher` as every other one, on a backend that its caller throws
away. What is told comes from what was really committed and recorded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, Protocol

import msgspec

from tagstitch.core.event import UNASSERTED_TYPES
from tagstitch.core.identifier import Identifier, IdentitySettings
from tagstitch.core.identity_graph import GraphNode
from tagstitch.core.link_log import read_entry
from tagstitch.core.stitch_request import StitchRequest
from tagstitch.pipeline.backend import Document, DocumentStore, Write
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.load_graph import GraphLoader
from tagstitch.pipeline.visitor import VisitorFinder

Part = Literal["linked", "demoted", "apart", "known", "unknown", "held", "blocked", "unasserted"]
"""What became of one identifier. `demoted`: kept apart for the first time; `apart`: as before;
`held`: in quarantine, or blocked after a review."""

_CHANGES: Final = frozenset({"created", "linked", "merged"})
_REPEATED: Final = "repeated"
"""Instead of an outcome: its record was published again, and nothing was committed."""

_TIMEOUT_S: Final = 30.0
_RECORDS_MAX: Final = 100
"""More than one request has; whoever does not ask shall not fill the memory."""
_TICK: Final = timedelta(microseconds=1)


class Process(Protocol):
    """Processes one request, as `Stitcher.process` does."""

    async def __call__(self, request: StitchRequest, *, deadline: Deadline) -> None:
        """Process it to its end."""
        ...


@dataclass(frozen=True, slots=True)
class StepIdentifier:
    """One identifier of a request, as it was given."""

    type: str
    value: str
    part: Part
    profile_id: str | None
    """To whom it leads after the step."""
    demoted_for: str | None = None
    """Why it is kept apart, at the first time."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one request did."""

    outcome: str
    """As in the audit; `repeated` for a request that was there before."""
    reason: str | None
    profile_id: str | None
    identifiers: tuple[StepIdentifier, ...]
    merged: tuple[str, ...]
    """The profiles that became one with it."""
    recorded: Mapping[str, Any]
    """What else the audit record says."""


@dataclass
class SimulatedClock:
    """Stands at the time of the latest event, and never in the future: a year passes in a line."""

    now: datetime
    latest: datetime
    goes_back: bool = True
    """Whether the first event may set it back: not where profiles are there already."""

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now

    def pass_to(self, at: datetime) -> None:
        """Move on, at least a little: of two profiles the one that was first is the older one."""
        at = min(at, self.latest)
        self.now = at if self.goes_back else max(self.now + _TICK, at)
        self.goes_back = False


@dataclass
class ObservedDocuments:
    """Passes everything on and remembers the entry of the link log that was committed last."""

    documents: DocumentStore
    entry: Mapping[str, Any] | None = None

    async def get(self, path: str, *, deadline: Deadline) -> Document | None:
        """Return the document, or None."""
        return await self.documents.get(path, deadline=deadline)

    async def get_many(self, paths: Sequence[str], *, deadline: Deadline) -> Mapping[str, Document]:
        """Return the documents that exist, by path."""
        return await self.documents.get_many(paths, deadline=deadline)

    async def commit(self, writes: Sequence[Write], *, deadline: Deadline) -> None:
        """Apply all writes or none."""
        await self.documents.commit(writes, deadline=deadline)
        for write in writes:
            fields = getattr(write, "fields", {})
            if write.path.startswith("links/") and read_entry(write.path, fields) is not None:
                self.entry = fields

    async def list_documents(self, collection: str, **options: Any) -> Sequence[Document]:
        """Return documents of a collection in order of their path."""
        return await self.documents.list_documents(collection, **options)


@dataclass
class ObservedPublisher:
    """Stores nothing and remembers the last audit records since it was asked."""

    records: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=_RECORDS_MAX))

    async def publish(
        self,
        topic: str,
        data: bytes,
        *,
        attributes: Mapping[str, str] | None = None,
        deadline: Deadline,
    ) -> str:
        """Return a message id."""
        del attributes, deadline
        if topic == "audit":
            message = msgspec.json.decode(data)
            self.records.extend(message.get("records", [message]))
        return "simulated"

    def take(self) -> list[Mapping[str, Any]]:
        """Return the records and forget them."""
        taken = list(self.records)
        self.records.clear()
        return taken


class Simulation:
    """Processes requests one after the other and tells what each one did."""

    def __init__(
        self,
        process: Process,
        finder: VisitorFinder,
        graphs: GraphLoader,
        identity: IdentitySettings,
        *,
        documents: ObservedDocuments,
        publisher: ObservedPublisher,
        clock: SimulatedClock,
    ) -> None:
        self._process = process
        self._finder = finder
        self._graphs = graphs
        self._identity = identity
        self._documents = documents
        self._publisher = publisher
        self._clock = clock

    async def step(self, request: StitchRequest) -> Step:
        """Process one request; raises InvalidInput for what would be a dead letter."""
        self._clock.pass_to(request.occurred_at)
        self._documents.entry = None
        self._publisher.take()
        await self._process(request, deadline=Deadline.after(_TIMEOUT_S))
        record: Mapping[str, Any] = next(iter(self._publisher.take()), {})
        entry: Mapping[str, Any] = self._documents.entry or {}
        nodes = await self._nodes(request)
        profile_id = entry.get("profile_id") or await self._unchanged(request, nodes)
        identifiers = tuple(
            StepIdentifier(
                given.type,
                given.value,
                self._part(request, nodes.get(given), entry, profile_id),
                _home(nodes.get(given)),
                _demoted_for(nodes.get(given), entry),
            )
            for given in request.identifiers
        )
        extra = dict(record.get("extra") or {})
        outcome = str(record.get("outcome", _REPEATED))
        return Step(
            outcome=_REPEATED if outcome in _CHANGES and not entry else outcome,
            reason=extra.pop("reason", None),
            profile_id=profile_id,
            identifiers=identifiers,
            merged=tuple(entry.get("merged") or ()),
            recorded={"record_type": record.get("record_type"), **extra},
        )

    async def _nodes(self, request: StitchRequest) -> dict[Identifier, GraphNode]:
        """Return where the identifiers lead now; without those that are blocked."""
        usable = [i for i in request.identifiers if not self._identity.is_blocked(i)]
        loaded = await self._graphs.load(
            usable,
            at=request.occurred_at,
            now=self._clock(),
            deadline=Deadline.after(_TIMEOUT_S),
        )
        return {node.identifier: node for node in loaded.graph.nodes}

    async def _unchanged(
        self, request: StitchRequest, nodes: Mapping[Identifier, GraphNode]
    ) -> str | None:
        """Return whose profile it is when nothing changed: that of the strongest identifier."""
        counting = (_home(node) for node in nodes.values() if _counts(request, node.identifier))
        home = next((each for each in counting if each), None)
        if home is not None or request.bare_id is None:
            return home
        visitor = await self._finder.find_bare(
            request.bare_id,
            asserted=request.asserted,
            now=self._clock(),
            deadline=Deadline.after(_TIMEOUT_S),
        )
        return visitor.profile.profile_id if visitor.profile else None

    def _part(
        self,
        request: StitchRequest,
        node: GraphNode | None,
        entry: Mapping[str, Any],
        profile_id: str | None,
    ) -> Part:
        if node is None or not _counts(request, node.identifier):
            return "blocked" if node is None else "unasserted"
        if node.key in entry.get("linked", ()):
            return "linked"
        if node.is_held or node.key in entry.get("demoted", ()):
            return "held" if node.is_held else "demoted"
        home = _home(node)
        if home is None:
            return "unknown"
        return "known" if home == profile_id else "apart"


def _counts(request: StitchRequest, identifier: Identifier) -> bool:
    return request.asserted or identifier.type in UNASSERTED_TYPES


def _home(node: GraphNode | None) -> str | None:
    return node.profile.profile_id if node is not None and node.profile is not None else None


def _demoted_for(node: GraphNode | None, entry: Mapping[str, Any]) -> str | None:
    reasons: Mapping[str, str] = entry.get("demoted_for", {})
    return reasons.get(node.key) if node is not None else None
