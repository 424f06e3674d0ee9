"""Callbacks: the stitched result to the registered sGTM endpoint, kept in the outbox until done."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from tagstitch.core.audit import AuditRecord
from tagstitch.core.callback import (
    CallbackEndpoint,
    CallbackVerdict,
    callback_body,
    judge_status,
    parse_action,
    unknown_callback,
)
from tagstitch.core.errors import Conflict, InvalidInput, Unavailable
from tagstitch.core.json_input import decode_json
from tagstitch.core.limits import (
    CALLBACK_BODY_BYTES_MAX,
    CALLBACK_DEADLINE_S,
    OUTBOX_EXPIRY_DAYS,
)
from tagstitch.core.stitch_request import StitchRequest
from tagstitch.pipeline.backend import Backend, Document, Patch, Put
from tagstitch.pipeline.dead_letter import Message, publish_dead_letter
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.idempotency import pending_records
from tagstitch.pipeline.publish_audit import AuditPublisher, encode_record, publish_stored
from tagstitch.pipeline.webhook_signature import sign_callback

ACTIONS_TOPIC: Final = "actions"

_LEASE_S: Final = CALLBACK_DEADLINE_S + 3.0
"""Seconds for which one process owns an attempt: its deadline and the mark behind it."""

_LEASE_POLL_S: Final = (0.05, 0.5)
_MARK_RETRY_S: Final = 0.2

logger = logging.getLogger("tagstitch")


class CallbackDelivery:
    """Posts callbacks: the first attempt at once, the others from the outbox."""

    def __init__(
        self,
        backend: Backend,
        endpoints: Mapping[str, CallbackEndpoint],
        *,
        audit: AuditPublisher,
    ) -> None:
        self._backend = backend
        self._endpoints = endpoints
        self._audit = audit

    def endpoint(self, name: str | None) -> CallbackEndpoint | None:
        """Return the registered endpoint; raises InvalidInput for a name nobody registered."""
        if name is None:
            return None
        try:
            return self._endpoints[name]
        except KeyError:
            raise unknown_callback() from None

    def entry(
        self,
        outbox_id: str,
        request: StitchRequest,
        endpoint: CallbackEndpoint,
        data: Mapping[str, Any],
        *,
        subject: str | None,
        now: datetime,
    ) -> Put:
        """Return the outbox entry, leased to this process for the first attempt.

        Raises InvalidInput when the body would be larger than an endpoint is sent.
        """
        encoded = msgspec.json.encode(data)
        if len(encoded) > CALLBACK_BODY_BYTES_MAX - 256:
            raise InvalidInput(
                "invalid_field", "the callback's body would be too large", "callback",
                "list fewer attributes for this endpoint in TAGSTITCH_CALLBACKS",
            )  # fmt: skip
        fields = {
            "kind": "callback",
            "status": "pending",
            "endpoint": endpoint.id,
            "request_id": request.request_id,
            "subject": subject,
            "event_name": request.event.name if request.event else None,
            "data": encoded,
            "preview": request.preview,
            "useful_until": request.expires_at,
            "attempts": 0,
            "lease": secrets.token_hex(8),
            "lease_until": now + timedelta(seconds=_LEASE_S),
            "created_at": now,
            "expires_at": now + timedelta(days=OUTBOX_EXPIRY_DAYS),
        }
        return Put(f"outbox/{outbox_id}", fields | pending_records((), now=now), if_version="")

    async def deliver_first(
        self, outbox_id: str, fields: Mapping[str, Any], *, deadline: Deadline
    ) -> None:
        """Make the first attempt of an entry that this process has just committed.

        An attempt that failed for now goes on through topic `actions`: a dead endpoint never
        delays linking. If even that cannot be published the sweep does it later.
        """
        if not await self._attempt(outbox_id, fields, deadline=deadline):
            message = msgspec.json.encode({"v": 1, "outbox_id": outbox_id})
            try:
                await self._backend.publisher.publish(ACTIONS_TOPIC, message, deadline=deadline)
            except Unavailable:
                logger.warning("action_left_to_sweep", extra={"fields": {"outbox_id": outbox_id}})

    async def resume_action(self, message: Message, *, deadline: Deadline) -> None:
        """Process one message of topic `actions`; raises as `resume`, and InvalidInput."""
        await self.resume(parse_action(decode_json(message.data)), deadline=deadline)

    async def resume(self, outbox_id: str, *, deadline: Deadline) -> None:
        """Bring an entry to its end, whoever began it; returns when nothing is left to do.

        While another process owns the attempt this waits for it, and takes over when its lease
        runs out. Raises Unavailable when the endpoint asks to try later.
        """
        poll_s = _LEASE_POLL_S[0]
        while True:
            document = await self._backend.documents.get(f"outbox/{outbox_id}", deadline=deadline)
            if document is None:
                return
            if document.fields.get("status") != "pending":
                await publish_stored(self._audit, document, deadline=deadline)
                return
            if document.fields["lease_until"] <= self._backend.clock():
                leased = await self._take_lease(document, deadline=deadline)
                if leased is not None:
                    break
            elif deadline.remaining_s < poll_s:
                raise Unavailable("callback", "another process owns the attempt")
            await asyncio.sleep(poll_s)
            poll_s = min(poll_s * 2, _LEASE_POLL_S[1])
        if not await self._attempt(outbox_id, leased, deadline=deadline):
            raise Unavailable("callback", "the endpoint asks to try later")

    async def _take_lease(
        self, document: Document, *, deadline: Deadline
    ) -> Mapping[str, Any] | None:
        """Return the entry's fields under our lease, or None when somebody else was faster."""
        lease_until = self._backend.clock() + timedelta(seconds=_LEASE_S)
        lease = {"lease": secrets.token_hex(8), "lease_until": lease_until}
        try:
            await self._backend.documents.commit(
                [Patch(document.path, lease, if_version=document.version)], deadline=deadline
            )
        except Conflict:
            return None
        return dict(document.fields) | lease

    async def _attempt(
        self, outbox_id: str, fields: Mapping[str, Any], *, deadline: Deadline
    ) -> bool:
        """Make one attempt under our lease, mark what came of it, return whether it has ended."""
        now = self._backend.clock()
        endpoint = self._endpoints.get(fields["endpoint"])
        if fields["useful_until"] <= now:
            await self._finish(outbox_id, fields, "expired", deadline=deadline)
            return True
        if endpoint is None:
            verdict: CallbackVerdict = "rejected"
        else:
            verdict = await self._post(endpoint, fields, sent_at=now)
        if verdict == "delivered":
            await self._finish(outbox_id, fields, "delivered", deadline=deadline)
        elif verdict == "rejected":
            await self._reject(outbox_id, fields, deadline=deadline)
        else:
            await self._release(outbox_id, fields, deadline=deadline)
        return verdict != "retry"

    async def _post(
        self, endpoint: CallbackEndpoint, fields: Mapping[str, Any], *, sent_at: datetime
    ) -> CallbackVerdict:
        body = callback_body(msgspec.Raw(fields["data"]), sent_at=sent_at)
        headers = sign_callback(endpoint, fields["request_id"], body, sent_at=sent_at)
        headers["content-type"] = "application/json"
        if fields.get("preview"):
            headers["x-gtm-server-preview"] = fields["preview"]
        try:
            answer = await self._backend.callbacks.post(
                endpoint.url,
                headers=headers,
                body=body,
                allow_private=endpoint.allow_private,
                deadline=Deadline.after(CALLBACK_DEADLINE_S),
            )
        except Unavailable:
            return "retry"
        except InvalidInput:
            return "rejected"
        return judge_status(answer.status)

    async def _finish(
        self, outbox_id: str, fields: Mapping[str, Any], outcome: str, *, deadline: Deadline
    ) -> None:
        """Mark the entry as ended, with its audit record; the mark is what stops a repetition."""
        now = self._backend.clock()
        record = AuditRecord(
            record_id=f"callback_{outbox_id}",
            record_type="callback_delivery",
            occurred_at=now,
            outcome=outcome,
            request_id=fields["request_id"],
            subject=fields.get("subject"),
            event_name=fields.get("event_name"),
            latency_ms=(now - fields["created_at"]).total_seconds() * 1000,
            extra={"callback": fields["endpoint"], "attempts": fields["attempts"] + 1},
        )
        path = f"outbox/{outbox_id}"
        ended = {"status": outcome, "ended_at": now} | pending_records([record], now=now)
        await self._mark(Patch(path, ended, remove=("data", "lease")), deadline=deadline)
        await self._audit.publish_committed([encode_record(record)], path=path, deadline=deadline)

    async def _mark(self, patch: Patch, *, deadline: Deadline) -> None:
        """Write the mark, again and again until the deadline: without it the POST repeats."""
        while True:
            try:
                await self._backend.documents.commit([patch], deadline=deadline)
            except Unavailable:
                if deadline.remaining_s < _MARK_RETRY_S:
                    raise
                await asyncio.sleep(_MARK_RETRY_S)
            else:
                return

    async def _reject(
        self, outbox_id: str, fields: Mapping[str, Any], *, deadline: Deadline
    ) -> None:
        """End an entry that the endpoint will never take: first the dead letter, then the mark."""
        now = self._backend.clock()
        payload = {"v": 1, "outbox_id": outbox_id, "request_id": fields["request_id"]}
        await publish_dead_letter(
            self._backend.publisher,
            Message(msgspec.json.encode(payload), outbox_id, ACTIONS_TOPIC, fields["created_at"]),
            InvalidInput("unknown_callback", "the endpoint refused the callback for good"),
            processor="stitch_async",
            failed_at=now,
            deadline=deadline,
        )
        await self._finish(outbox_id, fields, "rejected", deadline=deadline)

    async def _release(
        self, outbox_id: str, fields: Mapping[str, Any], *, deadline: Deadline
    ) -> None:
        """Give the lease back after an attempt that may work later.

        Only while it is still ours: whoever took it over may have delivered meanwhile.
        """
        path = f"outbox/{outbox_id}"
        document = await self._backend.documents.get(path, deadline=deadline)
        if document is None or document.fields.get("lease") != fields["lease"]:
            return
        now = self._backend.clock()
        released = {
            "lease_until": now,
            "attempts": fields["attempts"] + 1,
            "pending_since": now,
        }
        try:
            await self._backend.documents.commit(
                [Patch(path, released, if_version=document.version)], deadline=deadline
            )
        except Conflict:
            logger.info("lease_was_taken_over", extra={"fields": {"outbox_id": outbox_id}})
