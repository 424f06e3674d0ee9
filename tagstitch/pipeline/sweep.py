"""The sweep: what was committed and never published is published again, on a schedule."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec

from tagstitch.core.limits import PENDING_AGE_S, PENDING_SHARDS
from tagstitch.pipeline.backend import Backend, Document
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.deliver import ACTIONS_TOPIC
from tagstitch.pipeline.publish_audit import AuditPublisher, publish_stored

_PAGE: Final = 100
_QUERIES_AT_ONCE: Final = 8

logger = logging.getLogger("tagstitch")


@dataclass(frozen=True, slots=True)
class SweepResult:
    """How much one sweep published again."""

    records: int
    actions: int

    def to_json(self) -> dict[str, int]:
        """Return the body of the answer."""
        return {"records": self.records, "actions": self.actions}


async def sweep(backend: Backend, audit: AuditPublisher, *, deadline: Deadline) -> SweepResult:
    """Publish again what has waited too long, shard by shard; what fails is left to the next one.

    Raises Unavailable when the store or the topic cannot be reached.
    """
    now = backend.clock()
    slots = asyncio.Semaphore(_QUERIES_AT_ONCE)

    async def one(collection: str, shard: int) -> SweepResult:
        async with slots:
            return await _sweep_shard(backend, audit, collection, shard, now=now, deadline=deadline)

    results = await asyncio.gather(
        *(
            one(collection, s)
            for collection in ("processed", "outbox")
            for s in range(PENDING_SHARDS)
        )
    )
    total = SweepResult(sum(r.records for r in results), sum(r.actions for r in results))
    if total.records or total.actions:
        logger.warning("swept", extra={"fields": total.to_json()})
    return total


async def _sweep_shard(
    backend: Backend,
    audit: AuditPublisher,
    collection: str,
    shard: int,
    *,
    now: datetime,
    deadline: Deadline,
) -> SweepResult:
    records = actions = 0
    after = None
    while True:
        page = await backend.documents.list_documents(
            collection, pending=shard, after=after, limit=_PAGE, deadline=deadline
        )
        for document in page:
            if not _is_forgotten(document, now=now):
                continue
            if document.fields.get("status") == "pending":
                outbox_id = document.path.partition("/")[2]
                message = msgspec.json.encode({"v": 1, "outbox_id": outbox_id})
                await backend.publisher.publish(ACTIONS_TOPIC, message, deadline=deadline)
                actions += 1
            else:
                await publish_stored(audit, document, deadline=deadline)
                records += 1
        if len(page) < _PAGE:
            return SweepResult(records, actions)
        after = page[-1].path


def _is_forgotten(document: Document, *, now: datetime) -> bool:
    """Return whether what should have happened is over two minutes late.

    An entry that was attempted has a time for the next attempt; until then its message waits.
    """
    due_at = document.fields.get("pending_since")
    if document.fields.get("status") == "pending":
        due_at = document.fields.get("not_before", due_at)
    return isinstance(due_at, datetime) and now - due_at >= timedelta(seconds=PENDING_AGE_S)
