"""Callbacks: the stitched result to the registered sGTM endpoint, kept in the outbox until done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from tagstitch.core.callback import (
    ENDPOINT_LEFT_ALONE,
    NOT_ACKNOWLEDGED,
    CallbackEndpoint,
    CallbackVerdict,
    callback_body,
    is_acknowledged,
    judge_status,
    unknown_callback,
)
from tagstitch.core.callback_delivery import CallbackOutcome, callback_record
from tagstitch.core.errors import Conflict, InvalidInput, Unavailable
from tagstitch.core.hops import HOPS_HEADER
from tagstitch.core.limits import (
    CALLBACK_BODY_BYTES_MAX,
    CALLBACK_DEADLINE_S,
    DEAD_LETTER_EXPIRY_DAYS,
    OUTBOX_EXPIRY_DAYS,
)
from tagstitch.core.stitch_request import StitchRequest
from tagstitch.core.trace_context import TRACEPARENT
from tagstitch.pipeline.backend import Backend, Document, Patch, Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.endpoint_health import EndpointHealth, Watched
from tagstitch.pipeline.idempotency import pending_records
from tagstitch.pipeline.log_events import CallbackNotAcknowledged, LeaseWasTakenOver, log
from tagstitch.pipeline.outbox import Outbox
from tagstitch.pipeline.present_callback import PresentCallback, fields_to_look_again
from tagstitch.pipeline.publish_audit import AuditPublisher, encode_record
from tagstitch.pipeline.tracing import current_trace
from tagstitch.pipeline.webhook_signature import sign_callback

_LEASE_S: Final = CALLBACK_DEADLINE_S + 3.0
"""Seconds for which one process owns an attempt: its deadline and the mark behind it."""

_ENVELOPE_BYTES: Final = 256
"""Room for what stands around `data` in a body."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of one attempt."""

    verdict: CallbackVerdict
    wait_s: float | None = None
    """How long the endpoint, or the breaker in front of it, asks to be left alone."""
    why: str | None = None
    """Why it failed or was not made, where no status says so."""
    was_attempt: bool = True


@dataclass(frozen=True, slots=True)
class _Leased:
    """An entry under our lease, with what may be said now."""

    fields: Mapping[str, Any]
    unsendable: InvalidInput | None = None
    """Why no attempt may ever be made: its view is gone, or its body would be too large."""


class CallbackDelivery:
    """Posts callbacks: the first attempt at once, the others from the outbox."""

    def __init__(
        self,
        backend: Backend,
        endpoints: Mapping[str, CallbackEndpoint],
        *,
        audit: AuditPublisher,
        present: PresentCallback,
        health: EndpointHealth,
        retry_scale: float = 1.0,
    ) -> None:
        self._backend = backend
        self._endpoints = endpoints
        self._present = present
        self._outbox = Outbox(backend, audit, retry_scale=retry_scale)
        self._health = health

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

        It keeps no attributes: they are read again for any later attempt.
        """
        fields = {
            "kind": "callback",
            "status": "pending",
            "endpoint": endpoint.id,
            "request_id": request.request_id,
            "subject": subject,
            "event_name": request.event.name if request.event else None,
            "data": msgspec.json.encode({**data, "attributes": {}}),
            **fields_to_look_again(request),
            "preview": request.preview,
            "hops": request.hops,
            "useful_until": request.expires_at,
            "attempts": 0,
            **self._outbox.lease(_LEASE_S),
            "created_at": now,
            "expires_at": now + timedelta(days=OUTBOX_EXPIRY_DAYS),
        }
        return Put(f"outbox/{outbox_id}", fields | pending_records((), now=now), if_version="")

    async def deliver_first(
        self,
        outbox_id: str,
        fields: Mapping[str, Any],
        data: Mapping[str, Any],
        *,
        deadline: Deadline,
    ) -> None:
        """Make the first attempt of an entry that this process has just committed.

        `data` is what `entry` was given. An attempt that may work later goes on through topic
        `actions`: a dead endpoint never delays linking. If even that cannot be published the sweep
        does it later.
        """
        body = msgspec.json.encode(data)
        leased = _Leased({**fields, "data": body}, _too_large(body))
        await self._attempt(outbox_id, leased, hands_over=True, deadline=deadline)

    async def resume_first(self, outbox_id: str, *, deadline: Deadline) -> None:
        """Make sure that an entry of an earlier delivery of its request comes to its end.

        While another process owns the attempt this waits for it. When that process died before
        its first attempt ended, this makes that attempt; later ones are left to topic `actions`,
        which is told again: the message that should tell it may have been lost. Raises
        Unavailable when the owner does not end in time or the topic cannot be reached.
        """
        while True:
            document = await self._outbox.wait_for_owner(outbox_id, deadline=deadline)
            if document is None:
                return
            if document.fields["attempts"]:
                await self._outbox.publish_action(outbox_id, deadline=deadline)
                return
            leased = await self._lease_as_of_now(document, deadline=deadline)
            if leased is not None:
                await self._attempt(outbox_id, leased, hands_over=True, deadline=deadline)
                return

    async def resume(
        self, outbox_id: str, *, deadline: Deadline, loaded: Document | None = None
    ) -> None:
        """Bring an entry to its end, whoever began it; returns when nothing is left to do.

        While another process owns the attempt this waits for it, and takes over when its lease
        runs out. Raises Unavailable when the endpoint asks to try later, or asked before and that
        time has not come.
        """
        while True:
            document = await self._outbox.wait_for_owner(
                outbox_id, loaded=loaded, deadline=deadline
            )
            loaded = None
            if document is None:
                return
            await self._outbox.wait_for_its_time(document, deadline=deadline)
            leased = await self._lease_as_of_now(document, deadline=deadline)
            if leased is not None:
                break
        if not await self._attempt(outbox_id, leased, deadline=deadline):
            raise Unavailable("callback", "the endpoint asks to try later")

    async def _lease_as_of_now(self, document: Document, *, deadline: Deadline) -> _Leased | None:
        """Return the entry under our lease; None when somebody else has it."""
        fields = document.fields
        endpoint = self._endpoints.get(fields["endpoint"])
        present: dict[str, Any] = {}
        unsendable = None
        if endpoint is not None and fields["useful_until"] > self._backend.clock():
            try:
                present = await self._present.fill(fields, endpoint, deadline=deadline)
                unsendable = _too_large(present.get("data", b""))
            except InvalidInput as error:
                unsendable = error
        leased = await self._outbox.take_lease(document, _LEASE_S, deadline=deadline)
        if leased is None:
            return None
        # Whoever left its lease behind died, and may have sent before.
        attempts = fields["attempts"] + ("lease" in fields)
        return _Leased({**leased, "attempts": attempts, **present}, unsendable)

    async def _attempt(
        self,
        outbox_id: str,
        leased: _Leased,
        *,
        deadline: Deadline,
        hands_over: bool = False,
    ) -> bool:
        """Make one attempt under our lease, mark what came of it, return whether it has ended.

        `hands_over` leaves further attempts to topic `actions`, which hears of it before the lease
        is given back: a crash between the two leaves a message too many, never one too few.
        """
        now = self._backend.clock()
        fields = leased.fields
        endpoint = self._endpoints.get(fields["endpoint"])
        if fields["useful_until"] <= now:
            await self._finish(outbox_id, fields, "expired", was_attempt=False, deadline=deadline)
            return True
        answer = _Answer("rejected", was_attempt=False)
        if endpoint is not None and leased.unsendable is None:
            answer = await self._ask(endpoint, fields, now=now, deadline=deadline)
        if answer.verdict == "delivered":
            await self._finish(outbox_id, fields, "delivered", was_attempt=True, deadline=deadline)
        elif answer.verdict == "rejected":
            error = leased.unsendable or (_refused() if endpoint else unknown_callback())
            await self._reject(
                outbox_id, fields, error, was_attempt=answer.was_attempt, deadline=deadline
            )
        else:
            is_told = not hands_over or await self._outbox.hand_over(
                [f"outbox/{outbox_id}"], deadline=deadline
            )
            await self._outbox.release(
                outbox_id,
                fields,
                answer.wait_s,
                was_attempt=answer.was_attempt,
                why=answer.why,
                is_told=is_told,
                deadline=deadline,
            )
        return answer.verdict != "retry"

    async def _ask(
        self,
        endpoint: CallbackEndpoint,
        fields: Mapping[str, Any],
        *,
        now: datetime,
        deadline: Deadline,
    ) -> _Answer:
        """Make the attempt unless the endpoint is left alone; note what it says about it."""
        watched = Watched(f"callback:{endpoint.id}", endpoint.url)
        replays = fields.get("replays", 0)
        if await self._health.is_disabled(watched, replays=replays, deadline=deadline):
            return _Answer("rejected", was_attempt=False)
        if wait_s := self._health.wait_s(watched):
            why = fields.get("why") or ENDPOINT_LEFT_ALONE
            return _Answer("retry", wait_s, why, was_attempt=False)
        answer, status = await self._exchange(endpoint, fields, sent_at=now)
        await self._health.note(watched, answer.verdict, status=status, retry_after_s=answer.wait_s)
        if answer.why is not None:
            log(CallbackNotAcknowledged(endpoint=watched.key))
        return answer

    async def _exchange(
        self, endpoint: CallbackEndpoint, fields: Mapping[str, Any], *, sent_at: datetime
    ) -> tuple[_Answer, int | None]:
        """Return what the endpoint's answer means, and its status where there was one."""
        webhook_id = fields["request_id"]
        body = callback_body(msgspec.Raw(fields["data"]), sent_at=sent_at)
        headers = sign_callback(endpoint, webhook_id, body, sent_at=sent_at)
        headers["content-type"] = "application/json"
        headers[HOPS_HEADER] = str(fields["hops"] + 1)
        if fields.get("preview"):
            headers["x-gtm-server-preview"] = fields["preview"]
        trace = current_trace.get()
        if trace is not None:
            headers[TRACEPARENT] = trace.traceparent()
        try:
            answer = await self._backend.callbacks.post(
                endpoint.url,
                headers=headers,
                body=body,
                allow_private=endpoint.allow_private,
                deadline=Deadline.after(CALLBACK_DEADLINE_S),
            )
        except Unavailable:
            return _Answer("retry"), None
        except InvalidInput:  # nothing may be sent there
            return _Answer("rejected", was_attempt=False), None
        verdict = judge_status(answer.status)
        why = None
        must_name_it = verdict == "delivered" and endpoint.acknowledges
        if must_name_it and not is_acknowledged(answer.body, webhook_id):
            verdict, why = "retry", NOT_ACKNOWLEDGED
        return _Answer(verdict, answer.retry_after_s, why), answer.status

    async def _finish(
        self,
        outbox_id: str,
        fields: Mapping[str, Any],
        outcome: CallbackOutcome,
        *,
        was_attempt: bool,
        deadline: Deadline,
    ) -> None:
        """Mark the entry as ended, with its audit record; the mark is what stops a repetition.

        A rejected one keeps its data as long as its dead letter, which may be replayed; then it
        ends once more, with a record of its own.
        """
        now = self._backend.clock()
        reason = fields.get("why") if outcome == "expired" else fields.get("withheld")
        record = callback_record(
            outbox_id, fields, outcome, now=now, was_attempt=was_attempt, reason=reason
        )
        path = f"outbox/{outbox_id}"
        rows = [*fields.get("records", ()), encode_record(record)]
        ended = {"status": outcome, "ended_at": now}
        ended |= pending_records((), now=now) | {"records": rows}
        if outcome == "rejected":
            ended["expires_at"] = now + timedelta(days=DEAD_LETTER_EXPIRY_DAYS)
        remove = ("lease",) if outcome == "rejected" else ("lease", "data")
        try:
            await self._outbox.mark(Patch(path, ended, remove=remove), deadline=deadline)
        except Conflict:  # its person was erased meanwhile, which is its end and has a record
            log(LeaseWasTakenOver(outbox_id=outbox_id))
            return
        await self._outbox.publish_ended(outbox_id, rows, deadline=deadline)

    async def _reject(
        self,
        outbox_id: str,
        fields: Mapping[str, Any],
        error: InvalidInput,
        *,
        was_attempt: bool,
        deadline: Deadline,
    ) -> None:
        """End an entry that the endpoint will never take: first the dead letter, then the mark.

        Neither when another process took the entry over: it may have been delivered there.
        """
        if await self._outbox.still_ours(outbox_id, fields, deadline=deadline) is None:
            log(LeaseWasTakenOver(outbox_id=outbox_id))
            return
        await self._outbox.bury(
            outbox_id,
            fields,
            error,
            request_id=fields["request_id"],
            deadline=deadline,
        )
        await self._finish(
            outbox_id, fields, "rejected", was_attempt=was_attempt, deadline=deadline
        )


def _too_large(data: bytes) -> InvalidInput | None:
    """Return the error of a body that no endpoint is sent."""
    if len(data) <= CALLBACK_BODY_BYTES_MAX - _ENVELOPE_BYTES:
        return None
    return InvalidInput(
        "invalid_field", "the callback's body would be too large", "callback",
        "list fewer attributes for this endpoint in TAGSTITCH_CALLBACKS",
    )  # fmt: skip


def _refused() -> InvalidInput:
    return InvalidInput("unknown_callback", "the endpoint refused the callback for good")
