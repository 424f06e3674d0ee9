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
    retry_delay_s,
    unknown_callback,
)
from tagstitch.core.errors import Conflict, InvalidInput, Unavailable
from tagstitch.core.json_input import decode_json
from tagstitch.core.limits import (
    CALLBACK_BODY_BYTES_MAX,
    CALLBACK_DEADLINE_S,
    DEAD_LETTER_EXPIRY_DAYS,
    OUTBOX_EXPIRY_DAYS,
)
from tagstitch.core.stitch_request import StitchRequest
from tagstitch.pipeline.backend import Backend, Document, Patch, Put
from tagstitch.pipeline.dead_letter import Message, publish_dead_letter
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.idempotency import pending_records, pending_shard
from tagstitch.pipeline.publish_audit import AuditPublisher, encode_record, publish_stored
from tagstitch.pipeline.webhook_signature import sign_callback

ACTIONS_TOPIC: Final = "actions"

_LEASE_S: Final = CALLBACK_DEADLINE_S + 3.0
"""Seconds for which one process owns an attempt: its deadline and the mark behind it."""

_LEASE_POLL_S: Final = (0.05, 0.5)
_MARK_RETRY_S: Final = 0.2

_EARLY_S_MAX: Final = 3.0
"""Seconds of waiting for an attempt's time that are worth less than another round of the queue:
Pub/Sub's shortest backoff is ten seconds, and not exact."""

logger = logging.getLogger("tagstitch")


class CallbackDelivery:
    """Posts callbacks: the first attempt at once, the others from the outbox."""

    def __init__(
        self,
        backend: Backend,
        endpoints: Mapping[str, CallbackEndpoint],
        *,
        audit: AuditPublisher,
        retry_scale: float = 1.0,
    ) -> None:
        self._backend = backend
        self._endpoints = endpoints
        self._audit = audit
        self._retry_scale = retry_scale

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

        An attempt that may work later goes on through topic `actions`: a dead endpoint never
        delays linking. If even that cannot be published the sweep does it later.
        """
        await self._attempt(outbox_id, fields, hands_over=True, deadline=deadline)

    async def resume_first(self, outbox_id: str, *, deadline: Deadline) -> None:
        """Make sure that an entry of an earlier delivery of its request comes to its end.

        While another process owns the attempt this waits for it. When that process died before
        its first attempt ended, this makes that attempt; later ones are left to topic `actions`,
        which is told again: the message that should tell it may have been lost. Raises
        Unavailable when the owner does not end in time or the topic cannot be reached.
        """
        while True:
            document = await self._wait_for_owner(outbox_id, deadline=deadline)
            if document is None:
                return
            if document.fields["attempts"]:
                await self._publish_action(outbox_id, deadline=deadline)
                return
            leased = await self._take_lease(document, deadline=deadline)
            if leased is not None:
                await self.deliver_first(outbox_id, leased, deadline=deadline)
                return

    async def resume_action(self, message: Message, *, deadline: Deadline) -> None:
        """Process one message of topic `actions`; raises as `resume`, and InvalidInput."""
        await self.resume(parse_action(decode_json(message.data)), deadline=deadline)

    async def resume(self, outbox_id: str, *, deadline: Deadline) -> None:
        """Bring an entry to its end, whoever began it; returns when nothing is left to do.

        While another process owns the attempt this waits for it, and takes over when its lease
        runs out. Raises Unavailable when the endpoint asks to try later, or asked before and that
        time has not come.
        """
        while True:
            document = await self._wait_for_owner(outbox_id, deadline=deadline)
            if document is None:
                return
            await self._wait_for_its_time(document, deadline=deadline)
            leased = await self._take_lease(document, deadline=deadline)
            if leased is not None:
                break
        if not await self._attempt(outbox_id, leased, deadline=deadline):
            raise Unavailable("callback", "the endpoint asks to try later")

    async def _wait_for_owner(self, outbox_id: str, *, deadline: Deadline) -> Document | None:
        """Return the pending entry once nobody owns its attempt, None when it has ended."""
        poll_s = _LEASE_POLL_S[0]
        while True:
            document = await self._backend.documents.get(f"outbox/{outbox_id}", deadline=deadline)
            if document is None:
                return None
            if document.fields.get("status") != "pending":
                await publish_stored(self._audit, document, deadline=deadline)
                return None
            if document.fields["lease_until"] <= self._backend.clock():
                return document
            if deadline.remaining_s < poll_s:
                raise Unavailable("callback", "another process owns the attempt")
            await asyncio.sleep(poll_s)
            poll_s = min(poll_s * 2, _LEASE_POLL_S[1])

    async def _wait_for_its_time(self, document: Document, *, deadline: Deadline) -> None:
        """Wait for the little that a queue may be early; raises Unavailable for longer."""
        now = self._backend.clock()
        early_s = (document.fields.get("not_before", now) - now).total_seconds()
        if early_s > min(_EARLY_S_MAX, deadline.remaining_s):
            raise Unavailable("callback", "too early for another attempt")
        if early_s > 0:
            await asyncio.sleep(early_s)

    async def _publish_action(self, outbox_id: str, *, deadline: Deadline) -> None:
        message = msgspec.json.encode({"v": 1, "outbox_id": outbox_id})
        await self._backend.publisher.publish(ACTIONS_TOPIC, message, deadline=deadline)

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
        self,
        outbox_id: str,
        fields: Mapping[str, Any],
        *,
        deadline: Deadline,
        hands_over: bool = False,
    ) -> bool:
        """Make one attempt under our lease, mark what came of it, return whether it has ended.

        `hands_over` leaves further attempts to topic `actions`, which hears of it before the lease
        is given back: a crash between the two leaves a message too many, never one too few.
        """
        now = self._backend.clock()
        endpoint = self._endpoints.get(fields["endpoint"])
        if fields["useful_until"] <= now:
            await self._finish(outbox_id, fields, "expired", deadline=deadline)
            return True
        verdict: CallbackVerdict = "rejected"
        retry_after_s = None
        if endpoint is not None:
            verdict, retry_after_s = await self._post(endpoint, fields, sent_at=now)
        if verdict == "delivered":
            await self._finish(outbox_id, fields, "delivered", deadline=deadline)
        elif verdict == "rejected":
            await self._reject(outbox_id, fields, deadline=deadline)
        else:
            if hands_over:
                await self._hand_over(outbox_id, deadline=deadline)
            await self._release(outbox_id, fields, retry_after_s, deadline=deadline)
        return verdict != "retry"

    async def _hand_over(self, outbox_id: str, *, deadline: Deadline) -> None:
        try:
            await self._publish_action(outbox_id, deadline=deadline)
        except Unavailable:
            logger.warning("action_left_to_sweep", extra={"fields": {"outbox_id": outbox_id}})

    async def _post(
        self, endpoint: CallbackEndpoint, fields: Mapping[str, Any], *, sent_at: datetime
    ) -> tuple[CallbackVerdict, float | None]:
        """Return what the endpoint's answer means, and its Retry-After in seconds."""
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
            return "retry", None
        except InvalidInput:
            return "rejected", None
        return judge_status(answer.status), answer.retry_after_s

    async def _finish(
        self, outbox_id: str, fields: Mapping[str, Any], outcome: str, *, deadline: Deadline
    ) -> None:
        """Mark the entry as ended, with its audit record; the mark is what stops a repetition.

        A rejected one keeps its data as long as its dead letter, which may be replayed; then it
        ends once more, with a record of its own.
        """
        now = self._backend.clock()
        replays = fields.get("replays", 0)
        record = AuditRecord(
            # A request id may come back after its seven days, and a rejected one be replayed.
            record_id=f"callback_{outbox_id}_{int(fields['created_at'].timestamp())}"
            + (f":{replays}" if replays else ""),
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
        rows = [*fields.get("records", ()), encode_record(record)]
        ended = {"status": outcome, "ended_at": now}
        ended |= pending_records((), now=now) | {"records": rows}
        if outcome == "rejected":
            ended["expires_at"] = now + timedelta(days=DEAD_LETTER_EXPIRY_DAYS)
        remove = ("lease",) if outcome == "rejected" else ("lease", "data")
        await self._mark(Patch(path, ended, remove=remove), deadline=deadline)
        await self._audit.publish_committed(rows, path=path, deadline=deadline)

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
        replays = fields.get("replays", 0)
        message_id = outbox_id + (f":{replays}" if replays else "")
        await publish_dead_letter(
            self._backend.publisher,
            Message(msgspec.json.encode(payload), message_id, ACTIONS_TOPIC, fields["created_at"]),
            InvalidInput("unknown_callback", "the endpoint refused the callback for good"),
            processor="stitch_async",
            failed_at=now,
            deadline=deadline,
        )
        await self._finish(outbox_id, fields, "rejected", deadline=deadline)

    async def _release(
        self,
        outbox_id: str,
        fields: Mapping[str, Any],
        retry_after_s: float | None,
        *,
        deadline: Deadline,
    ) -> None:
        """Give the lease back after an attempt that may work later, and say when.

        Only while it is still ours: whoever took it over may have delivered meanwhile.
        """
        path = f"outbox/{outbox_id}"
        document = await self._backend.documents.get(path, deadline=deadline)
        if document is None or document.fields.get("lease") != fields["lease"]:
            return
        now = self._backend.clock()
        attempts = fields["attempts"] + 1
        delay_s = retry_delay_s(attempts, retry_after_s, scale=self._retry_scale)
        released = {
            "lease_until": now,
            "attempts": attempts,
            "not_before": min(now + timedelta(seconds=delay_s), fields["useful_until"]),
            "pending": document.fields.get("pending", pending_shard()),
            "pending_since": now,
        }
        try:
            await self._backend.documents.commit(
                [Patch(path, released, if_version=document.version)], deadline=deadline
            )
        except Conflict:
            logger.info("lease_was_taken_over", extra={"fields": {"outbox_id": outbox_id}})
