"""What Google bills for each kind of work, counted on the pipeline itself.

The functions' parts run in process on the local backend with every port counted as Firestore,
Pub/Sub and BigQuery bill it: a document that is not there costs a read too, a query one at least,
a message 1,000 bytes at least.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from tagstitch.adapters.local import close_local_backend, open_local_backend
from tagstitch.adapters.settings import read_settings
from tagstitch.adapters.wiring import Wiring
from tagstitch.core.caller import Caller
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.pipeline.backend import Backend, Delete, Document, Put, RejectedRow, Write
from tagstitch.pipeline.dead_letter import Message
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.rule_publication import publish_rules

MESSAGE_BYTES_MIN: Final = 1000
"""https://cloud.google.com/pubsub/pricing"""

EXPIRING: Final = ("processed/", "outbox/", "exposures/")
"""What is made anew each time and expires within days: Firestore bills that as a delete."""

RULES: Final = 20
"""Rules in the store while the sweep is counted; its reads grow with them one by one."""

OPERATOR: Final = Caller("bench", frozenset({"lookup", "decide", "stitch", "assert"}))

RENAME: Final = {
    "target_event_name": "purchase",
    "conditions": {"value": {"lessThan": 10}},
    "action_type": "rename_event",
    "action_details": {"new_event_name": "micro_purchase"},
}
OFFER: Final = {
    "event_name_trigger": "view_item",
    "conditions": {"user_state.offer_shown": {"notEquals": True}},
    "action_type": "set_client_cookie",
    "action_details": {"cookie_name": "offer", "cookie_value": "ten"},
    "updates_user_state": {"offer_shown": True},
}


@dataclass
class Usage:
    """What one piece of work costs, in the units of the price lists."""

    reads: float = 0
    writes: float = 0
    deletes: float = 0
    messages: float = 0
    message_bytes: float = 0
    """Billed twice: when published and when delivered."""
    rows: float = 0
    row_bytes: float = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __mul__(self, times: float) -> Usage:
        return Usage(*(getattr(self, f.name) * times for f in fields(self)))


@dataclass
class CountedDocuments:
    """Documents, counted as Firestore bills them."""

    port: Any
    usage: Usage

    async def get(self, path: str, *, deadline: Deadline) -> Document | None:
        self.usage.reads += 1
        found: Document | None = await self.port.get(path, deadline=deadline)
        return found

    async def get_many(self, paths: Sequence[str], *, deadline: Deadline) -> Mapping[str, Document]:
        self.usage.reads += len(set(paths))
        found: Mapping[str, Document] = await self.port.get_many(paths, deadline=deadline)
        return found

    async def commit(self, writes: Sequence[Write], *, deadline: Deadline) -> None:
        deleted = sum(isinstance(write, Delete) for write in writes)
        self.usage.deletes += deleted
        self.usage.writes += len(writes) - deleted
        self.usage.deletes += sum(
            isinstance(write, Put) and write.path.startswith(EXPIRING) for write in writes
        )
        await self.port.commit(writes, deadline=deadline)

    async def list_documents(self, collection: str, **options: Any) -> Sequence[Document]:
        found: Sequence[Document] = await self.port.list_documents(collection, **options)
        self.usage.reads += max(len(found), 1)
        return found


@dataclass
class _Publisher:
    port: Any
    usage: Usage
    last: dict[str, bytes]

    async def publish(self, topic: str, data: bytes, **options: Any) -> str:
        self.usage.messages += 1
        self.usage.message_bytes += max(len(data), MESSAGE_BYTES_MIN)
        self.last[topic] = data
        message_id: str = await self.port.publish(topic, data, **options)
        return message_id


@dataclass
class _AuditTable:
    port: Any
    usage: Usage

    async def append(
        self, rows: Sequence[Mapping[str, Any]], *, deadline: Deadline
    ) -> Sequence[RejectedRow]:
        self.usage.rows += len(rows)
        self.usage.row_bytes += sum(len(json.dumps(row, default=str)) for row in rows)
        rejected: Sequence[RejectedRow] = await self.port.append(rows, deadline=deadline)
        return rejected

    async def erase(self, subjects: Sequence[str], *, deadline: Deadline) -> int:
        erased: int = await self.port.erase(subjects, deadline=deadline)
        return erased


async def count_usage(data_dir: Path) -> dict[str, Usage]:
    """Return kind of work -> what one piece of it costs."""
    settings = read_settings({"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(data_dir)})
    real = open_local_backend(settings)
    usage = Usage()
    last: dict[str, bytes] = {}
    backend = Backend(
        documents=CountedDocuments(real.documents, usage),
        publisher=_Publisher(real.publisher, usage, last),
        audit_table=_AuditTable(real.audit_table, usage),
        audit_queries=real.audit_queries,
        callbacks=real.callbacks,
        clock=real.clock,
    )
    rules = RuleDefinitions(
        {f"rename-{n}": RENAME | {"priority": n} for n in range(RULES - 1)}, {"offer": OFFER}
    )
    await publish_rules(real.documents, rules, real.clock(), Deadline.after(10))
    wiring = Wiring(settings)
    vars(wiring)["backend"] = backend
    counted: dict[str, Usage] = {}

    async def count(kind: str, work: Awaitable[Any]) -> None:
        vars(usage).update(vars(Usage()))
        await work
        counted[kind] = usage * 1

    await wiring.rule_book.get(Deadline.after(10))  # the first time it reads the bundle too
    await count("look for new definitions", _refresh(wiring))
    await _count_requests(wiring, last, count)
    await count("sweep", wiring.sweep(deadline=Deadline.after(20)))
    close_local_backend(real)
    return counted


async def _refresh(wiring: Wiring) -> None:
    """Load what a process of decide looks at again every `TAGSTITCH_RULES_REFRESH_S` seconds."""
    wiring.rule_book._next_load_at = 0  # as if the interval were over
    await wiring.rule_book.get(Deadline.after(10))
    await wiring.views.get(Deadline.after(10))
    await wiring.traits.get(Deadline.after(10))


async def _count_requests(
    wiring: Wiring,
    last: dict[str, bytes],
    count: Callable[[str, Awaitable[Any]], Awaitable[None]],
) -> None:
    now = wiring.backend.clock()
    reader = Caller("reader", frozenset({"lookup"}))

    async def decide(name: str, client_id: str, **parameters: Any) -> None:
        event = {"event_name": name, "client_id": client_id, **parameters}
        body = {"event": event, "include": ["event", "personalization"], "deadline_ms": 5000}
        await wiring.decider.decide(body, OPERATOR)
        await record()

    async def stitch(request_id: str, **identifiers: str) -> None:
        body = {"request_id": request_id, "identifiers": identifiers}
        message = Message(json.dumps(body).encode(), request_id, "stitch-requests", now)
        await wiring.stitcher.process_message(message, deadline=Deadline.after(10))
        await record()

    async def record() -> None:
        message = Message(last.pop("audit"), "m", "audit", now)
        await wiring.record_audit(message, deadline=Deadline.after(10))

    known = "1.1763700000"
    await count("stitch: a new visitor", stitch("r1", client_id=known))
    await count("stitch: a link", stitch("r2", client_id=known, user_id="u-1"))
    await count("event: nothing is written", decide("purchase", known, value=4.0))
    await count("event: state changes", decide("view_item", known))
    await count(
        "lookup",
        wiring.lookup.answer({"identifiers": {"client_id": known}}, reader, request_id="r"),
    )
