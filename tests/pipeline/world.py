"""A world for pipeline tests: real documents in SQLite, and everything outside written down.

Every effect goes through `World.effects`, one ordered list, and can be made to crash the process
before or behind it, as a `kill -9` would: `Crash` is no Exception, so nothing handles it.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from tagstitch.adapters.sqlite_audit import SqliteAuditTable
from tagstitch.adapters.sqlite_database import SqliteDatabase
from tagstitch.adapters.sqlite_documents import SqliteDocuments
from tagstitch.core.callback import CallbackEndpoint
from tagstitch.core.destination import Destination
from tagstitch.core.errors import NotSent, Unavailable
from tagstitch.core.identifier import Identifier, IdentitySettings
from tagstitch.core.profile_traits import TraitDefinitions, compile_traits
from tagstitch.core.rule_book import RuleBook, compile_rule_book
from tagstitch.core.rule_definitions import RawDefinitions, RuleDefinitions
from tagstitch.core.stitch_request import parse_stitch_request
from tagstitch.core.view import Views
from tagstitch.core.visitor_writes import VisitorWrites
from tagstitch.pipeline.act import ActionDelivery
from tagstitch.pipeline.backend import (
    Backend,
    CallbackAnswer,
    Document,
    DocumentStore,
    Put,
    RejectedRow,
    Write,
)
from tagstitch.pipeline.claims import ClaimPublisher
from tagstitch.pipeline.dead_letter import Message
from tagstitch.pipeline.deadline import AnswersUnderWay, Deadline
from tagstitch.pipeline.decide import Decider
from tagstitch.pipeline.decision import DecisionMaker
from tagstitch.pipeline.deliver import CallbackDelivery
from tagstitch.pipeline.disabled_endpoints import DisabledEndpoints
from tagstitch.pipeline.endpoint_health import EndpointHealth
from tagstitch.pipeline.erase_person import PersonEraser
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.load_graph import GraphLoader
from tagstitch.pipeline.look_up import ProfileLookup
from tagstitch.pipeline.outbox import Outbox
from tagstitch.pipeline.present_callback import PresentCallback
from tagstitch.pipeline.publish_audit import AuditPublisher
from tagstitch.pipeline.publish_event import EventPublisher
from tagstitch.pipeline.record_audit import record_audit
from tagstitch.pipeline.record_dead_letter import record_dead_letter
from tagstitch.pipeline.refreshed import Refreshed
from tagstitch.pipeline.resume_outbox import OutboxDelivery
from tagstitch.pipeline.stitch import Stitcher
from tagstitch.pipeline.stitch_plan import StitchPlanner
from tagstitch.pipeline.sweep import SweepResult, sweep
from tagstitch.pipeline.visitor import VisitorFinder

START = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes, ok").decode()

MAIN = CallbackEndpoint(
    id="main", url="https://sgtm.example.com/callback", secret=SECRET, attributes=frozenset({"*"})
)

KEYRING = Keyring(b"identity key of the tests", (("t1", b"pseudonym key of the tests"),), b"r" * 32)


class Crash(BaseException):
    """The process died here."""


@dataclass
class World:
    """The outside of the pipeline: a store that survives crashes, topics, an endpoint, a clock."""

    folder: Path
    now: datetime = START
    effects: list[str] = field(default_factory=list)
    published: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    callbacks: list[dict[str, Any]] = field(default_factory=list)
    answers: list[int | CallbackAnswer | Exception] = field(default_factory=list)
    """What the endpoint says next; 200 when the list is empty."""
    down: set[str] = field(default_factory=set)
    """Of "documents", "commit", "publisher", "audit_table": what does not answer."""
    reads: int = 0
    commits: int = 0
    crash_at: tuple[int, str] | None = None
    """(number of the effect, "before" or "behind")."""
    views: Views = field(default_factory=Views)
    traits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Definitions of computed traits."""
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    destinations: Sequence[Destination] = ()
    endpoints: Mapping[str, CallbackEndpoint] = field(default_factory=lambda: {"main": MAIN})
    visitor_writes: VisitorWrites | None = None
    """How often a visitor may make decide write; None takes the product's limit."""
    consent_default_granted: bool = True
    """What holds when an action is sent and nobody has said anything."""
    crashed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.database = SqliteDatabase(self.folder)
        self.store: DocumentStore = SqliteDocuments(self.database)
        self.audit_rows = SqliteAuditTable(self.database)
        self.backend = Backend(
            documents=_Documents(self),
            publisher=_Publisher(self),
            audit_table=_AuditTable(self),
            audit_queries=_NoQueries(),
            callbacks=_Endpoint(self),
            clock=lambda: self.now,
        )
        self.restart()

    def restart(self) -> None:
        """Start a new process: whatever was only in memory is gone."""
        self.crash_at = None
        self.graphs = GraphLoader(self.backend.documents, KEYRING)
        self.finder = VisitorFinder(self.backend.documents, KEYRING, self.identity)
        self.audit = AuditPublisher(self.backend.publisher)
        self.claims = ClaimPublisher(self.backend, KEYRING)
        health = self.endpoint_health()
        self.delivery = self.callback_delivery(health=health)
        self.actions = ActionDelivery(
            self.backend,
            KEYRING,
            self.destinations,
            outbox=Outbox(self.backend, self.audit),
            health=health,
            consent_default_granted=self.consent_default_granted,
        )

    def stitcher(self, *, consent_default_granted: bool = True) -> Stitcher:
        return Stitcher(
            self.backend,
            KEYRING,
            self.identity,
            graphs=self.graphs,
            audit=self.audit,
            delivery=self.delivery,
            planner=StitchPlanner(
                self.backend.documents,
                KEYRING,
                self.identity,
                finder=self.finder,
                graphs=self.graphs,
                views=self.refreshed(self.views),
                traits=self.refreshed(compile_traits(self.traits)),
                consent_default_granted=consent_default_granted,
            ),
        )

    def endpoint_health(self) -> EndpointHealth:
        """Return what a process that has just started knows of endpoints."""
        disabled = DisabledEndpoints(self.backend.documents, self.backend.clock)
        return EndpointHealth(self.backend.clock, disabled)

    def callback_delivery(self, **options: Any) -> CallbackDelivery:
        """Return the delivery of callbacks; its views are those of its first look."""

        async def views(_present: Any, _deadline: Deadline) -> Views:
            return self.views

        present = PresentCallback(
            self.backend,
            Refreshed(views, name="test", interval_s=3600, clock=self.backend.clock),
            consent_default_granted=self.consent_default_granted,
        )
        return CallbackDelivery(
            self.backend,
            self.endpoints,
            audit=self.audit,
            present=present,
            **{"health": self.endpoint_health(), **options},
        )

    def lookup(
        self, *, consent_default_granted: bool = True, under_way: AnswersUnderWay | None = None
    ) -> ProfileLookup:
        return ProfileLookup(
            self.backend,
            self.identity,
            finder=self.finder,
            views=self.refreshed(self.views),
            claims=self.claims,
            callback_ids=frozenset({"main"}),
            consent_default_granted=consent_default_granted,
            under_way=under_way,
        )

    def decider(
        self,
        event_rules: Mapping[str, Any] | None = None,
        personalization_rules: Mapping[str, Any] | None = None,
        *,
        consent_default_granted: bool = True,
        rule_book: Refreshed[RuleBook] | None = None,
        audit_parameters: Sequence[str] = ("value",),
        traits: RawDefinitions | Refreshed[TraitDefinitions] | None = None,
        **others: Any,
    ) -> Decider:
        """Return a decider; `others` are the rule book's experiments, audiences, protected."""
        book = compile_rule_book(
            RuleDefinitions(event_rules or {}, personalization_rules or {}, **others)
        )
        assert not book.broken, book.broken
        maker = DecisionMaker(
            self.finder,
            KEYRING,
            rule_book or self.refreshed(book),
            clock=self.backend.clock,
            consent_default_granted=consent_default_granted,
        )
        return Decider(
            self.backend,
            KEYRING,
            self.identity,
            maker=maker,
            audit=self.audit,
            views=self.refreshed(self.views),
            events=self.events(traits),
            audit_parameters=audit_parameters,
            visitor_writes=self.visitor_writes,
        )

    def events(
        self, traits: RawDefinitions | Refreshed[TraitDefinitions] | None = None
    ) -> EventPublisher:
        if not isinstance(traits, Refreshed):
            traits = self.refreshed(compile_traits(self.traits if traits is None else traits))
        return EventPublisher(self.backend, KEYRING, claims=self.claims, traits=traits)

    def refreshed(self, value: Any) -> Refreshed[Any]:
        """Return a holder whose value is there already."""

        async def load(_present: Any, _deadline: Deadline) -> Any:
            return value

        return Refreshed(load, name="test", interval_s=3600, clock=self.backend.clock)

    async def stitch(
        self,
        message: Mapping[str, Any],
        message_id: str = "m1",
        *,
        stitcher: Stitcher | None = None,
    ) -> None:
        """Deliver one stitch request, as the function does."""
        request = parse_stitch_request(
            message, self.identity, default_request_id=message_id, received_at=self.now
        )
        await (stitcher or self.stitcher()).process(request, deadline=Deadline.after(20))

    async def sweep(self) -> SweepResult:
        """Run the schedule once."""
        eraser = PersonEraser(self.backend, KEYRING, self.audit)
        return await sweep(self.backend, self.audit, eraser, deadline=Deadline.after(20))

    async def act(self, outbox_id: str | None = None) -> None:
        """Deliver a message of topic `actions`, the last one that was published."""
        action = {"outbox_id": outbox_id} if outbox_id else self.published["actions"][-1]
        message = Message(json.dumps(action).encode(), "x1", "actions", self.now)
        delivery = OutboxDelivery(self.backend, self.delivery, self.actions)
        await delivery.resume_message(message, deadline=Deadline.after(30))

    async def store_audit(self) -> list[str]:
        """Deliver everything on topic `audit` to the sink; return the record ids in the table."""
        for number, content in enumerate(self.published.pop("audit", [])):
            data = json.dumps(content).encode()
            message = Message(data, f"a{number}", "audit", self.now)
            await record_audit(self.backend, message, deadline=Deadline.after(5))
        return [row["record_id"] for row in await self.rows()]

    async def store_dead_letter(self) -> str:
        """Deliver the last dead letter to the sink; return its id."""
        letter = self.published["dead-letter"][-1]
        message = Message(json.dumps(letter).encode(), "d1", "dead-letter", self.now)
        await record_dead_letter(self.backend, KEYRING, message, deadline=Deadline.after(5))
        return str(letter["dead_letter_id"])

    async def rows(self) -> list[Mapping[str, Any]]:
        """Return the audit table, oldest first."""
        return list(
            await self.audit_rows.list_rows(request_id=None, limit=1000, deadline=Deadline.after(5))
        )

    async def put_profile(self, identifier: Identifier, **fields: Any) -> str:
        """Store a profile whose primary identifier this is."""
        profile_id = KEYRING.profile_id(identifier)
        seen = {"first_seen": START, "last_seen": START}
        document = {
            "identifiers": {KEYRING.identifier_key(identifier): seen},
            "attributes": {},
            "state": {},
            "consent": {},
            "created_at": START,
            "expires_at": START + timedelta(days=30),
        }
        await self.store.commit(
            [Put(f"profiles/{profile_id}", document | fields)], deadline=Deadline.after(5)
        )
        return profile_id

    async def document(self, path: str) -> dict[str, Any]:
        """Return a stored document's fields; empty when there is none."""
        found = await self.store.get(path, deadline=Deadline.after(5))
        return dict(found.fields) if found else {}

    async def paths(self, collection: str) -> list[str]:
        return list(await self.collection(collection))

    async def collection(self, name: str) -> dict[str, dict[str, Any]]:
        """Return path -> fields of every document."""
        found: dict[str, dict[str, Any]] = {}
        after = None
        while page := await self.store.list_documents(
            name, after=after, deadline=Deadline.after(20)
        ):
            found |= {document.path: dict(document.fields) for document in page}
            after = page[-1].path
        return found

    def crash(self) -> NoReturn:
        """Die: everything that is under way in this process ends here."""
        self.crashed.set()
        raise Crash

    async def run_until_crash(self, work: Coroutine[Any, Any, None]) -> None:
        """Run the work; when the process dies in it, or in a task behind it, all of it stops."""
        self.crashed.clear()
        task = asyncio.ensure_future(work)
        death = asyncio.ensure_future(self.crashed.wait())
        await asyncio.wait({task, death}, return_when=asyncio.FIRST_COMPLETED)
        if not self.crashed.is_set():
            await task
        for each in (task, death):
            each.cancel()
        await asyncio.gather(task, death, return_exceptions=True)
        assert self.crashed.is_set(), "the work ended before the crash"

    def happen(self, effect: str) -> _Effect:
        return _Effect(self, effect)


@dataclass
class _Effect:
    """One effect; a crash before it prevents it, a crash behind it leaves it done."""

    world: World
    name: str

    def __enter__(self) -> None:
        if self.world.crash_at == (len(self.world.effects), "before"):
            self.world.crash()
        self.world.effects.append(self.name)

    def __exit__(self, error: object, *_: object) -> None:
        if error is None and self.world.crash_at == (len(self.world.effects) - 1, "behind"):
            self.world.crash()


@dataclass
class _Documents:
    world: World

    async def get(self, path: str, *, deadline: Deadline) -> Document | None:
        self._read()
        return await self.world.store.get(path, deadline=deadline)

    async def get_many(self, paths: Sequence[str], *, deadline: Deadline) -> Mapping[str, Document]:
        self._read()
        return await self.world.store.get_many(paths, deadline=deadline)

    async def list_documents(self, collection: str, **options: Any) -> Sequence[Document]:
        self._read()
        if collection == "disabled_endpoints":
            self.world.reads -= 1  # a process holds them in memory, as it does definitions
        return await self.world.store.list_documents(collection, **options)

    async def commit(self, writes: Sequence[Write], *, deadline: Deadline) -> None:
        if self.world.down & {"documents", "commit"}:
            raise Unavailable("documents")
        collections = sorted({write.path.partition("/")[0] for write in writes})
        with self.world.happen("commit " + " ".join(collections)):
            await self.world.store.commit(writes, deadline=deadline)
            self.world.commits += 1

    def _read(self) -> None:
        if "documents" in self.world.down:
            raise Unavailable("documents")
        self.world.reads += 1


@dataclass
class _Publisher:
    world: World

    async def publish(
        self,
        topic: str,
        data: bytes,
        *,
        attributes: Mapping[str, str] | None = None,
        deadline: Deadline,
    ) -> str:
        del attributes, deadline
        if "publisher" in self.world.down:
            raise Unavailable("publisher")
        with self.world.happen(f"publish {topic}"):
            messages = self.world.published.setdefault(topic, [])
            messages.append(json.loads(data))
        return f"{topic}-{len(messages)}"


@dataclass
class _AuditTable:
    world: World

    async def append(
        self, rows: Sequence[Mapping[str, Any]], *, deadline: Deadline
    ) -> Sequence[RejectedRow]:
        if "audit_table" in self.world.down:
            raise Unavailable("audit_table")
        with self.world.happen("append"):
            return await self.world.audit_rows.append(rows, deadline=deadline)

    async def erase(self, subjects: Sequence[str], *, deadline: Deadline) -> int:
        if "audit_table" in self.world.down:
            raise Unavailable("audit_table")
        with self.world.happen("erase rows"):
            return await self.world.audit_rows.erase(subjects, deadline=deadline)


class _NoQueries:
    async def run(self, sql: str, *, deadline: Deadline) -> Sequence[Mapping[str, Any]]:
        del sql, deadline
        raise AssertionError("the pipeline asks no questions")


@dataclass
class _Endpoint:
    world: World

    async def post(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        allow_private: bool,
        deadline: Deadline,
        method: str = "POST",
    ) -> CallbackAnswer:
        del allow_private, deadline
        answer = self.world.answers.pop(0) if self.world.answers else 200
        if isinstance(answer, NotSent):
            raise answer
        with self.world.happen("post"):
            sent = {"method": method, "url": url, "headers": dict(headers), "raw": body}
            try:
                sent["body"] = json.loads(body)
            except ValueError:
                sent["body"] = body.decode()  # a form, for a token
            self.world.callbacks.append(sent)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, CallbackAnswer) else CallbackAnswer(answer)
