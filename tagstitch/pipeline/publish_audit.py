"""Audit records on their way out: committed ones are republished, others fall back to the log."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from tagstitch.core.audit import AuditRecord
from tagstitch.core.errors import Unavailable
from tagstitch.core.limits import AUDIT_MESSAGE_BYTES_MAX, AUDIT_RECORDS_PER_MESSAGE_MAX
from tagstitch.core.trace_context import TraceContext
from tagstitch.pipeline.backend import Document, Publisher
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.log_events import AuditFallback, AuditLeftToSweep, log
from tagstitch.pipeline.tracing import current_trace, current_trace_id

AUDIT_TOPIC: Final = "audit"

_PUBLISH_TIMEOUT_S: Final = 5.0
"""Seconds for one batch; each caller waits for it only until its own deadline."""

_COMMITTED_WAIT_S: Final = 2.0
"""Seconds to wait for rows that a document holds anyway."""

_IN_FLIGHT_MAX: Final = 2
_SECOND_CALL_MIN: Final = 32
"""Publish calls at once, and how many requests must wait for the second one: records that arrive
during a call share the next message, which costs a seventh of the CPU of one each."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    records: Sequence[msgspec.Raw]
    pending: Sequence[str]
    bytes_: int
    refusal: asyncio.Future[tuple[str, str] | None]
    """What was unavailable, and why; None when the records were taken. An exception here would
    keep, by its traceback, the frames that hold this very object: garbage that only a collection
    finds, and in an outage each request would leave some (bench/lateness.py)."""
    trace: TraceContext | None


class AuditPublisher:
    """Publishes records to topic `audit`; under load many requests share one message.

    A request that comes alone is published at once. While calls are in flight, later records
    gather and leave together when one returns, so that nobody waits for a timer.
    """

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        # Its first and any other one leave in constant time; dict's first one does not.
        self._waiting: OrderedDict[_Waiting, None] = OrderedDict()
        self._in_flight: set[asyncio.Task[None]] = set()

    async def publish(
        self, rows: Sequence[bytes], *, pending: Sequence[str] = (), deadline: Deadline
    ) -> None:
        """Return once Pub/Sub has the rows (JSON, as `encode_record` gives them).

        `pending` names the documents that hold the rows until the sink has stored them. Raises
        Unavailable at the deadline; the rows may still arrive, and their ids make that harmless.
        """
        loop = asyncio.get_running_loop()
        refusal: asyncio.Future[tuple[str, str] | None] = loop.create_future()
        size = sum(map(len, rows))
        records = [msgspec.Raw(row) for row in rows]
        waiting = _Waiting(records, pending, size, refusal, current_trace.get())
        self._waiting[waiting] = None
        self._start_next()
        timer = loop.call_later(deadline.remaining_s, self._give_up, waiting)
        try:
            refused = await refusal
        finally:
            timer.cancel()
        if refused is not None:
            raise Unavailable(*refused)

    def _give_up(self, waiting: _Waiting) -> None:
        """End the wait at its deadline; the record leaves a queue that grows with an outage."""
        self._waiting.pop(waiting, None)
        if not waiting.refusal.done():
            why = "the audit record was not accepted in time"
            waiting.refusal.set_result(("pubsub", why))

    async def publish_committed(
        self, rows: Sequence[bytes], *, path: str, deadline: Deadline
    ) -> None:
        """Publish rows that the document at `path` holds; the sweep does it when this fails."""
        try:
            await self.publish(rows, pending=[path], deadline=deadline.at_most(_COMMITTED_WAIT_S))
        except Unavailable as error:
            log(AuditLeftToSweep(why=str(error)))

    def _start_next(self) -> None:
        while self._waiting and (
            not self._in_flight
            or (len(self._in_flight) < _IN_FLIGHT_MAX and len(self._waiting) >= _SECOND_CALL_MIN)
        ):
            batch = self._take_batch()
            task = asyncio.get_running_loop().create_task(self._send(batch))
            self._in_flight.add(task)
            task.add_done_callback(self._sent)

    def _take_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        records = bytes_ = 0
        while self._waiting:
            first = next(iter(self._waiting))
            records += len(first.records)
            bytes_ += first.bytes_
            is_full = records > AUDIT_RECORDS_PER_MESSAGE_MAX or bytes_ > AUDIT_MESSAGE_BYTES_MAX
            if batch and is_full:
                break
            batch.append(self._waiting.popitem(last=False)[0])
        return batch

    async def _send(self, batch: list[_Waiting]) -> None:
        message = {
            "v": 1,
            "records": [record for member in batch for record in member.records],
            "pending": [path for member in batch for path in member.pending],
        }
        current_trace.set(_common_trace(batch))  # of this task alone
        refused: tuple[str, str] | None = None
        try:
            await self._publisher.publish(
                AUDIT_TOPIC,
                msgspec.json.encode(message),
                deadline=Deadline.after(_PUBLISH_TIMEOUT_S),
            )
        except Unavailable as error:
            refused = error.what, error.detail
        except Exception as error:  # noqa: BLE001 - every waiter must hear of it, whatever it is
            for member in batch:
                if not member.refusal.done():
                    member.refusal.set_exception(error)
            return
        for member in batch:
            if not member.refusal.done():
                member.refusal.set_result(refused)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._start_next()


def _common_trace(batch: Sequence[_Waiting]) -> TraceContext | None:
    """Return the trace of a message, when all of its records belong to one; each names its own."""
    traces = {member.trace.trace_id if member.trace else None for member in batch}
    return batch[0].trace if len(traces) == 1 else None


def encode_record(record: AuditRecord) -> bytes:
    """Return the record as the JSON that travels and that `records` of a document holds."""
    trace_id = current_trace_id()
    if trace_id is not None:
        record = msgspec.structs.replace(record, trace_id=trace_id)
    return msgspec.json.encode(record)


def encode_records(records: Sequence[AuditRecord]) -> list[bytes]:
    """Return each record as JSON."""
    return [encode_record(record) for record in records]


async def publish_or_log(
    publisher: AuditPublisher, rows: Sequence[bytes], *, deadline: Deadline
) -> bool:
    """Publish records that no document holds; return False when they went to the log instead.

    The log line `AUDIT_FALLBACK` is a record too: `tagstitch audit load` reads it.
    """
    try:
        await publisher.publish(rows, deadline=deadline)
    except Unavailable:
        is_published = False
    else:
        is_published = True
    if not is_published:
        for row in rows:
            log(AuditFallback(record=msgspec.Raw(row)))
    return is_published


async def publish_stored(
    publisher: AuditPublisher, document: Document, *, deadline: Deadline
) -> None:
    """Publish the rows that a document still holds, as after a crash behind its commit.

    Without what somebody made of them that no message can hold. Raises Unavailable: whoever
    delivers the message again repeats it.
    """
    stored = document.fields.get("records")
    rows = [bytes(row) for row in stored if _is_json(row)] if isinstance(stored, list) else []
    if rows and "pending" in document.fields:
        await publisher.publish(rows, pending=[document.path], deadline=deadline)


def _is_json(row: object) -> bool:
    try:
        return isinstance(row, bytes) and bool(msgspec.json.decode(row, type=msgspec.Raw))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
