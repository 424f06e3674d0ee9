"""The outbox: entries that one process at a time brings nearer to their end."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import msgspec

from tagstitch.core.callback import retry_delay_s
from tagstitch.core.errors import Conflict, InvalidInput, Unavailable
from tagstitch.pipeline.backend import Backend, Document, Patch, Write
from tagstitch.pipeline.dead_letter import Message, publish_dead_letter
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.idempotency import pending_shard
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.log_events import ActionLeftToSweep, LeaseWasTakenOver, log
from tagstitch.pipeline.publish_audit import AuditPublisher, publish_stored

ACTIONS_TOPIC: Final = "actions"

_LEASE_POLL_S: Final = (0.05, 0.5)
_MARK_RETRY_S: Final = 0.2

_EARLY_S_MAX: Final = 3.0
"""Seconds of waiting for an attempt's time that are worth less than another round of the queue:
Pub/Sub's shortest backoff is ten seconds, and not exact."""


def action_path(keyring: Keyring, profile_id: str, action_key: str, window: str) -> str:
    """Return the path of the one entry of a visitor, an action and its window (or its decision)."""
    return "outbox/" + keyring.derived_id("action", profile_id, action_key, window)


class Outbox:
    """Leases, marks and hands over entries; what is sent, and to whom, is not its business."""

    def __init__(
        self, backend: Backend, audit: AuditPublisher, *, retry_scale: float = 1.0
    ) -> None:
        self._backend = backend
        self._audit = audit
        self._retry_scale = retry_scale

    async def wait_for_owner(
        self, outbox_id: str, *, deadline: Deadline, loaded: Document | None = None
    ) -> Document | None:
        """Return the pending entry once nobody owns its attempt, None when it has ended.

        One that has ended and whose record may not be stored has it published again. `loaded` is
        the entry where it has just been read.
        """
        poll_s = _LEASE_POLL_S[0]
        path = f"outbox/{outbox_id}"
        while True:
            document = loaded or await self._backend.documents.get(path, deadline=deadline)
            loaded = None
            if document is None:
                return None
            if document.fields.get("status") != "pending":
                await publish_stored(self._audit, document, deadline=deadline)
                return None
            now = self._backend.clock()
            if document.fields.get("lease_until", now) <= now:
                return document
            if deadline.remaining_s < poll_s:
                raise Unavailable("outbox", "another process owns the attempt")
            await asyncio.sleep(poll_s)
            poll_s = min(poll_s * 2, _LEASE_POLL_S[1])

    async def wait_for_its_time(self, document: Document, *, deadline: Deadline) -> None:
        """Wait for the little that a queue may be early; raises Unavailable for longer."""
        now = self._backend.clock()
        early_s = (document.fields.get("not_before", now) - now).total_seconds()
        if early_s > min(_EARLY_S_MAX, deadline.remaining_s):
            raise Unavailable("outbox", "too early for another attempt")
        if early_s > 0:
            await asyncio.sleep(early_s)

    def lease(self, lease_s: float) -> dict[str, Any]:
        """Return the fields of a lease of this process."""
        lease_until = self._backend.clock() + timedelta(seconds=lease_s)
        return {"lease": secrets.token_hex(8), "lease_until": lease_until}

    async def take_lease(
        self, document: Document, lease_s: float, *, deadline: Deadline, also: Sequence[Write] = ()
    ) -> Mapping[str, Any] | None:
        """Return the entry's fields under our lease, or None when somebody else was faster.

        `also` is written in the same commit. Raises Unavailable when nobody knows whether it was
        made: a lease that nobody uses would look like an attempt.
        """
        lease = self.lease(lease_s)
        patch = Patch(document.path, lease, if_version=document.version)
        try:
            await self._backend.documents.commit([patch, *also], deadline=deadline)
        except Conflict:
            return None
        except Unavailable:
            outbox_id = document.path.partition("/")[2]
            if await self.still_ours(outbox_id, lease, deadline=deadline) is None:
                raise
        return dict(document.fields) | lease

    async def release(
        self,
        outbox_id: str,
        fields: Mapping[str, Any],
        wait_s: float | None,
        *,
        deadline: Deadline,
        was_attempt: bool = True,
        why: str | None = None,
        is_told: bool = True,
    ) -> None:
        """Give the lease back after an attempt that may work later, and say when and `why`.

        Again and again until the deadline: an entry whose lease ends by itself is one of which
        nobody knows what came of it. `wait_s` is what the endpoint, or the breaker in front of it,
        asks for. Unless it `is_told`, topic `actions` has no message that comes again for it.
        """
        now = self._backend.clock()
        attempts = fields["attempts"] + was_attempt
        delay_s = retry_delay_s(max(attempts, 1), wait_s, scale=self._retry_scale)
        released = {
            "attempts": attempts,
            "not_before": min(now + timedelta(seconds=delay_s), fields["useful_until"]),
            "pending_since": now,
            **({"told_at": now} if is_told else {}),
            **({"why": why} if why or "why" in fields else {}),
        }
        while True:
            try:
                await self._release(outbox_id, fields, released, deadline=deadline)
            except Conflict:
                continue  # somebody else wrote it: perhaps its lease is ours all the same
            except Unavailable:
                if deadline.remaining_s < _MARK_RETRY_S:
                    raise
                await asyncio.sleep(_MARK_RETRY_S)
            else:
                return

    async def _release(
        self,
        outbox_id: str,
        leased: Mapping[str, Any],
        released: Mapping[str, Any],
        *,
        deadline: Deadline,
    ) -> None:
        """Write it while the lease is ours: whoever took it over may have delivered since.

        Raises Conflict and Unavailable.
        """
        document = await self.still_ours(outbox_id, leased, deadline=deadline)
        if document is None:
            log(LeaseWasTakenOver(outbox_id=outbox_id))
            return
        pending = document.fields.get("pending", pending_shard())
        patch = Patch(
            document.path,
            {**released, "pending": pending},
            remove=("lease", "lease_until"),
            if_version=document.version,
        )
        await self._backend.documents.commit([patch], deadline=deadline)

    async def postpone(self, document: Document, wait_s: float, *, deadline: Deadline) -> None:
        """Say when an attempt may be made that was not; raises Conflict when the entry moved."""
        now = self._backend.clock()
        not_before = min(now + timedelta(seconds=wait_s), document.fields["useful_until"])
        postponed = {"not_before": not_before, "pending_since": now, "told_at": now}
        await self._backend.documents.commit(
            [Patch(document.path, postponed, if_version=document.version)], deadline=deadline
        )

    async def still_ours(
        self, outbox_id: str, fields: Mapping[str, Any], *, deadline: Deadline
    ) -> Document | None:
        """Return the entry while the lease is the one in `fields` and it has not ended."""
        document = await self._backend.documents.get(f"outbox/{outbox_id}", deadline=deadline)
        if document is None or document.fields.get("lease") != fields["lease"]:
            return None
        return document if document.fields.get("status") == "pending" else None

    async def mark(self, patch: Patch, *, deadline: Deadline) -> None:
        """Write the mark, again and again until the deadline: without it the attempt repeats.

        Raises Conflict when the patch says which version it is of, and that is no more.
        """
        while True:
            try:
                await self._backend.documents.commit([patch], deadline=deadline)
            except Unavailable:
                if deadline.remaining_s < _MARK_RETRY_S:
                    raise
                await asyncio.sleep(_MARK_RETRY_S)
            else:
                return

    async def publish_ended(
        self, outbox_id: str, rows: Sequence[bytes], *, deadline: Deadline
    ) -> None:
        """Publish the records of an entry that has just been marked."""
        await self._audit.publish_committed(rows, path=f"outbox/{outbox_id}", deadline=deadline)

    async def bury(
        self,
        outbox_id: str,
        fields: Mapping[str, Any],
        error: InvalidInput,
        *,
        deadline: Deadline,
        request_id: str | None = None,
    ) -> None:
        """Publish the dead letter of an entry; its id derives from the entry and its replays."""
        payload = {"v": 1, "outbox_id": outbox_id, "request_id": request_id}
        replays = fields.get("replays", 0)
        message_id = outbox_id + (f":{replays}" if replays else "")
        await publish_dead_letter(
            self._backend.publisher,
            Message(msgspec.json.encode(payload), message_id, ACTIONS_TOPIC, fields["created_at"]),
            error,
            processor="stitch_async",
            failed_at=self._backend.clock(),
            deadline=deadline,
        )

    async def publish_action(self, outbox_id: str, *, deadline: Deadline) -> None:
        """Tell topic `actions` of an entry."""
        message = msgspec.json.encode({"v": 1, "outbox_id": outbox_id})
        await self._backend.publisher.publish(ACTIONS_TOPIC, message, deadline=deadline)

    async def hand_over(self, paths: Sequence[str], *, deadline: Deadline) -> bool:
        """Tell topic `actions` of entries, all at once; return whether it has heard of every one.

        What fails is left to the sweep.
        """
        outbox_ids = [path.partition("/")[2] for path in paths]
        results = await asyncio.gather(
            *(self.publish_action(outbox_id, deadline=deadline) for outbox_id in outbox_ids),
            return_exceptions=True,
        )
        for outbox_id, result in zip(outbox_ids, results, strict=True):
            if isinstance(result, Unavailable):
                log(ActionLeftToSweep(outbox_id=outbox_id))
            elif isinstance(result, BaseException):
                raise result
        return not any(isinstance(result, Unavailable) for result in results)
