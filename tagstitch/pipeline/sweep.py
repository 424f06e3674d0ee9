"""The sweep: what was committed and never published is published again, on a schedule.

So are the rules that people edited in the store. Erasures that are due are gone through again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from tagstitch.core.callback import BACKOFF_S
from tagstitch.core.errors import Conflict, TagstitchError
from tagstitch.core.limits import PENDING_AGE_S, PENDING_SHARDS
from tagstitch.core.stored_values import stored_time
from tagstitch.pipeline.backend import Backend, Document, Patch
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.erase_person import PersonEraser
from tagstitch.pipeline.erasure_journal import pending_erasures, read_journal
from tagstitch.pipeline.log_events import (
    ErasureByAnotherProcess,
    ErasureCrashed,
    ErasureLeftToNextSweep,
    ErasuresNotLookedFor,
    RulesCrashed,
    RulesNotPublished,
    RulesPublished,
    RulesRefused,
    Swept,
    SweptNotNoted,
    log,
    log_crash,
)
from tagstitch.pipeline.outbox import ACTIONS_TOPIC
from tagstitch.pipeline.publish_audit import AuditPublisher, publish_stored
from tagstitch.pipeline.rule_publication import (
    Publication,
    UnexpectedlyFew,
    publish_edited_rules,
)

_PAGE: Final = 100
_QUERIES_AT_ONCE: Final = 8

_RULES_TIMEOUT_S: Final = 20.0
"""Seconds for the rules: they must leave the sweep's deadline something to answer in."""

_ERASURES_TIMEOUT_S: Final = 25.0
"""Seconds for erasures, for the same reason; what is left waits for the next sweep."""

_BROKEN_TOLD_MAX: Final = 20
"""Broken rules that one log line names; `tagstitch rules status` names them all."""

RulesOutcome = Literal["none", "unchanged", "published", "refused", "conflict", "failed"]
"""What became of the rules in the store, in the words of docs/reasons.md."""


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What one sweep published."""

    records: int
    actions: int
    rules: RulesOutcome = "none"
    erasures: int = 0
    """Erasures that were gone through again."""

    def to_json(self) -> dict[str, Any]:
        """Return the body of the answer."""
        return {
            "records": self.records,
            "actions": self.actions,
            "rules": self.rules,
            "erasures": self.erasures,
        }


async def sweep(
    backend: Backend, audit: AuditPublisher, eraser: PersonEraser, *, deadline: Deadline
) -> SweepResult:
    """Publish again what has waited too long, and rules that were edited.

    What fails is left to the next one. Raises Unavailable when the store or the topic cannot be
    reached; neither rules nor erasures ever fail a sweep.
    """
    now = backend.clock()
    swept, rules, erasures = await asyncio.gather(
        _sweep_pending(backend, audit, now=now, deadline=deadline),
        _publish_rules(backend, now=now, deadline=deadline),
        _repeat_erasures(backend, eraser, now=now, deadline=deadline),
        return_exceptions=True,  # each goes on to its end, whatever became of the other
    )
    if isinstance(swept, BaseException):
        raise swept
    if isinstance(rules, BaseException):
        raise rules
    if isinstance(erasures, BaseException):
        raise erasures
    total = replace(swept, rules=rules, erasures=erasures)
    if total.records or total.actions or total.erasures:
        log(Swept(**total.to_json()))
    return total


async def _sweep_pending(
    backend: Backend, audit: AuditPublisher, *, now: datetime, deadline: Deadline
) -> SweepResult:
    slots = asyncio.Semaphore(_QUERIES_AT_ONCE)
    results = await asyncio.gather(
        *(
            _sweep_collection(backend, audit, collection, slots, now=now, deadline=deadline)
            for collection in ("processed", "outbox")
        )
    )
    return _sum(results)


async def _sweep_collection(
    backend: Backend,
    audit: AuditPublisher,
    collection: str,
    slots: asyncio.Semaphore,
    *,
    now: datetime,
    deadline: Deadline,
) -> SweepResult:
    """Sweep what is pending: by one query where that is little, shard by shard where it is much."""

    async def one(shard: int) -> SweepResult:
        async with slots:
            return await _sweep_shard(backend, audit, collection, shard, now=now, deadline=deadline)

    async with slots:
        some = await backend.documents.list_documents(
            collection, pending="any", limit=_PAGE, deadline=deadline
        )
    if len(some) < _PAGE:
        return await _publish_forgotten(backend, audit, some, now=now, deadline=deadline)
    return _sum(await asyncio.gather(*(one(shard) for shard in range(PENDING_SHARDS))))


def _sum(results: Sequence[SweepResult]) -> SweepResult:
    return SweepResult(sum(r.records for r in results), sum(r.actions for r in results))


async def _repeat_erasures(
    backend: Backend, eraser: PersonEraser, *, now: datetime, deadline: Deadline
) -> int:
    """Go through the erasures that are due, and return how many came to an end."""
    deadline = deadline.at_most(_ERASURES_TIMEOUT_S)
    try:
        pending = await pending_erasures(backend.documents, deadline=deadline)
    except TagstitchError as error:
        log(ErasuresNotLookedFor(why=str(error)))
        return 0
    ended = 0
    for document in pending:
        if deadline.is_over:
            break
        try:
            journal = read_journal(document)
            if journal.is_due(now):
                await eraser.resume(journal, deadline=deadline)
                ended += 1
        except Conflict:
            log(ErasureByAnotherProcess())
        except TagstitchError as error:
            log(ErasureLeftToNextSweep(why=str(error)))
        except Exception as error:  # noqa: BLE001 - a bug in one's way must not end the sweep, nor the others
            log_crash(ErasureCrashed(why=type(error).__name__), error)
    return ended


async def _publish_rules(backend: Backend, *, now: datetime, deadline: Deadline) -> RulesOutcome:
    """Publish the rules as they stand in the store; whatever goes wrong is logged."""
    try:
        publication = await publish_edited_rules(
            backend.documents, now, deadline.at_most(_RULES_TIMEOUT_S)
        )
    except UnexpectedlyFew as error:
        log(RulesRefused(why=error.message))
        return "refused"
    except Conflict:
        return "conflict"  # somebody published meanwhile: the next sweep looks again
    except TagstitchError as error:
        log(RulesNotPublished(why=str(error)))
        return "failed"
    except Exception as error:  # noqa: BLE001 - a bug in a rule's way must not end the sweep of records
        log_crash(RulesCrashed(why=type(error).__name__), error)
        return "failed"
    if publication is None:
        return "none"
    if publication.is_new:
        log(_told(publication))
    return "published" if publication.is_new else "unchanged"


def _told(publication: Publication) -> RulesPublished:
    return RulesPublished(
        version=publication.pointer.version,
        counts=dict(publication.pointer.counts),
        broken=[rule.rule_id for rule in publication.broken[:_BROKEN_TOLD_MAX]],
    )


async def _sweep_shard(
    backend: Backend,
    audit: AuditPublisher,
    collection: str,
    shard: int,
    *,
    now: datetime,
    deadline: Deadline,
) -> SweepResult:
    results: list[SweepResult] = []
    after = None
    while True:
        page = await backend.documents.list_documents(
            collection, pending=shard, after=after, limit=_PAGE, deadline=deadline
        )
        results.append(await _publish_forgotten(backend, audit, page, now=now, deadline=deadline))
        if len(page) < _PAGE:
            return _sum(results)
        after = page[-1].path


async def _publish_forgotten(
    backend: Backend,
    audit: AuditPublisher,
    documents: Sequence[Document],
    *,
    now: datetime,
    deadline: Deadline,
) -> SweepResult:
    forgotten = [document for document in documents if _is_forgotten(document, now=now)]
    results = await asyncio.gather(
        *(_publish(backend, audit, document, deadline=deadline) for document in forgotten),
        return_exceptions=True,
    )
    told = [d for d, result in zip(forgotten, results, strict=True) if result is None]
    await _note_told(backend, told, now=now, deadline=deadline)
    failed = next((result for result in results if result is not None), None)
    if failed is not None:
        raise failed
    actions = sum(map(_waits_for_action, told))
    return SweepResult(len(told) - actions, actions)


async def _publish(
    backend: Backend, audit: AuditPublisher, document: Document, *, deadline: Deadline
) -> None:
    if not _waits_for_action(document):
        await publish_stored(audit, document, deadline=deadline)
        return
    outbox_id = document.path.partition("/")[2]
    message = msgspec.json.encode({"v": 1, "outbox_id": outbox_id})
    await backend.publisher.publish(ACTIONS_TOPIC, message, deadline=deadline)


async def _note_told(
    backend: Backend, told: Sequence[Document], *, now: datetime, deadline: Deadline
) -> None:
    """Say of the documents that a message for them is under way.

    Without it each sweep would publish again what waits for a subscriber that is down or behind,
    and an outage of hours would end in a flood. Whoever is not noted is only told once more.
    """
    patches = [Patch(d.path, {"told_at": now}, if_version=d.version) for d in told]
    try:
        if patches:
            await backend.documents.commit(patches, deadline=deadline)
    except TagstitchError:  # somebody has gone on with one of them, or it has no room
        noted = await asyncio.gather(
            *(backend.documents.commit([patch], deadline=deadline) for patch in patches),
            return_exceptions=True,
        )
        failed = [error for error in noted if error is not None]
        for error in failed:
            if not isinstance(error, TagstitchError):
                raise error from None
        why = {type(error).__name__ for error in failed if not isinstance(error, Conflict)}
        if why:
            log(SweptNotNoted(why=", ".join(sorted(why))))


def _waits_for_action(document: Document) -> bool:
    return document.fields.get("status") == "pending"


def _is_forgotten(document: Document, *, now: datetime) -> bool:
    """Return whether what should have happened is over two minutes late.

    An entry that was attempted has a time for the next attempt, and one that is under a lease an
    owner. Where a message is known to wait (`told_at`), its next delivery is waited for too, unless
    that may come when the entry is of no more use.
    """
    fields = document.fields
    since = stored_time(fields.get("pending_since")) or stored_time(fields.get("not_before"))
    if since is None:
        return False
    due_at, wait_s = since, PENDING_AGE_S
    if _waits_for_action(document):
        next_at, lease_until = fields.get("not_before"), fields.get("lease_until")
        due_at = max(since, stored_time(next_at) or since, stored_time(lease_until) or since)
    told_at = stored_time(fields.get("told_at"))
    if told_at is not None and told_at >= since:
        due_at = max(due_at, told_at)
        redelivered_s = PENDING_AGE_S + BACKOFF_S[1]
        useful_until = stored_time(fields.get("useful_until"))
        may_be_late = (
            _waits_for_action(document)
            and useful_until is not None
            and now < useful_until <= now + timedelta(seconds=redelivered_s)
        )
        wait_s = PENDING_AGE_S if may_be_late else redelivered_s
    return now - due_at >= timedelta(seconds=wait_s)
