"""Actions: what rules decided is sent from the outbox, to the visitor as known at that moment."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from tagstitch.core.action_delivery import ActionReason, Ending, action_record, denied_purposes
from tagstitch.core.consent import ANALYTICS_STORAGE, resolve_consent
from tagstitch.core.destination import Destination, choose_destination
from tagstitch.core.destination_request import (
    DestinationRequest,
    look_up,
    make_request,
    template_values,
)
from tagstitch.core.destination_template import UnusableValue
from tagstitch.core.errors import Conflict, InvalidInput, Unavailable
from tagstitch.core.limits import DEAD_LETTER_EXPIRY_DAYS, OUTBOX_EXPIRY_DAYS
from tagstitch.core.profile import Profile
from tagstitch.pipeline.backend import Backend, Document, Patch, Put, Write
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.endpoint_health import EndpointHealth
from tagstitch.pipeline.idempotency import pending_records
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.outbox import Outbox, action_path
from tagstitch.pipeline.publish_audit import encode_record
from tagstitch.pipeline.push_inbox import PushMessage, inbox_path, inbox_with
from tagstitch.pipeline.send_action import ActionSender, watched
from tagstitch.pipeline.visitor_of_profile import visitor_of_profile

_MARK_S: Final = 5.0
"""Seconds for the mark behind an attempt, in the lease and in the message's deadline."""
_READ_RETRY_S: Final = 0.2


_UNDONE: Final = frozenset({"suppressed", "expired", "rejected"})
"""How an entry ends that nothing came of."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What is to be sent, and what must be written before, in the same commit as the lease."""

    sent: DestinationRequest | PushMessage
    claim: Sequence[Write]


class ActionDelivery:
    """Brings outbox entries of actions to their end."""

    def __init__(
        self,
        backend: Backend,
        keyring: Keyring,
        destinations: Sequence[Destination],
        *,
        outbox: Outbox,
        health: EndpointHealth,
        consent_default_granted: bool,
    ) -> None:
        self._backend = backend
        self._keyring = keyring
        self._destinations = tuple(destinations)
        self._outbox = outbox
        self._sender = ActionSender(backend, health)
        self._health = health
        self._consent_default_granted = consent_default_granted

    async def resume(
        self, outbox_id: str, *, deadline: Deadline, loaded: Document | None = None
    ) -> None:
        """Bring an entry to its end; returns when nothing is left to do.

        Raises Unavailable when it must be tried later. An attempt whose outcome nobody knows (its
        process died, or no answer came) is repeated only where the destination tells repetitions;
        elsewhere the entry ends as a dead letter, for a person to decide.
        """
        while True:
            document = await self._outbox.wait_for_owner(
                outbox_id, loaded=loaded, deadline=deadline
            )
            loaded = None
            if document is None:
                return
            await self._outbox.wait_for_its_time(document, deadline=deadline)
            try:
                await self._step(outbox_id, document, deadline=deadline)
            except Conflict:
                continue  # another delivery of its message was faster
            return

    async def _step(self, outbox_id: str, document: Document, *, deadline: Deadline) -> None:
        """Make one attempt, or end the entry without; raises Conflict when it moved meanwhile."""
        fields, now = document.fields, self._backend.clock()
        action = fields["action"]
        destination = choose_destination(self._destinations, action["type"], _sent(fields))
        is_unknown = "lease" in fields and destination is not None and not destination.repeatable
        if is_unknown:
            ending = Ending("dead_letter", "OUTCOME_UNKNOWN", _id(destination), is_attempt=True)
        elif fields["useful_until"] <= now:
            ending = Ending("expired", "TOO_LATE", _id(destination))
        else:
            prepared = await self._prepare(outbox_id, fields, destination, now, deadline=deadline)
            if isinstance(prepared, _Prepared):
                await self._do(document, destination, prepared, deadline=deadline)
                return
            ending = prepared
        await self._end(document, ending, deadline=deadline)

    async def _do(
        self,
        document: Document,
        destination: Destination | None,
        prepared: _Prepared,
        *,
        deadline: Deadline,
    ) -> None:
        sent, claim = prepared.sent, prepared.claim
        if isinstance(sent, PushMessage):
            await self._put_into_inbox(document, sent, claim, deadline=deadline)
        else:
            assert destination is not None  # noqa: S101 - only an inbox needs none
            await self._attempt(document, destination, sent, claim, deadline=deadline)

    async def _prepare(
        self,
        outbox_id: str,
        fields: Mapping[str, Any],
        destination: Destination | None,
        now: datetime,
        *,
        deadline: Deadline,
    ) -> _Prepared | Ending:
        """Return what is to be sent to the visitor as known now, or why nothing is."""
        action = fields["action"]
        visitor = await visitor_of_profile(
            self._backend.documents, fields["profile_id"], now=now, deadline=deadline
        )
        if visitor.profile is None:
            gone: ActionReason = "ERASED" if visitor.is_erased else "NO_PROFILE"
            return Ending("suppressed", gone, _id(destination))
        consent = resolve_consent(
            requested=None,
            event=None,
            profile=visitor.profile,
            default_granted=self._consent_default_granted,
        )
        asked = (*action["purposes"], *fields["rule_purposes"])
        if denied := denied_purposes(fields, visitor.profile, consent):
            said = consent.to_record(*asked, *denied)
            return Ending("suppressed", "CONSENT_DENIED", _id(destination), consent=said)
        replays = fields.get("replays", 0)
        if destination is not None and await self._health.is_disabled(
            watched(destination), replays=replays, deadline=deadline
        ):
            return Ending("dead_letter", "DISABLED", destination.id)
        claim = await self._claim(outbox_id, fields, visitor.profile, now, deadline=deadline)
        if claim is None:
            return Ending("suppressed", "DUPLICATE", _id(destination))
        sent = self._what(outbox_id, fields, destination, visitor.profile, now)
        return sent if isinstance(sent, Ending) else _Prepared(sent, claim)

    async def _claim(
        self,
        outbox_id: str,
        fields: Mapping[str, Any],
        profile: Profile,
        now: datetime,
        *,
        deadline: Deadline,
    ) -> Sequence[Write] | None:
        """Return what keeps others from doing it, too, for a visitor who was merged meanwhile.

        None when it is done, or will be, for the survivor or for another of the merged profiles.
        """
        window = fields["window"]
        if window is None or profile.profile_id == fields["profile_id"]:
            return ()
        key = fields["action"]["action_key"]
        path = action_path(self._keyring, profile.profile_id, key, window)
        held = await self._backend.documents.get(path, deadline=deadline)
        if held is not None and held.fields.get("of") == outbox_id:
            return ()
        if held is not None:
            is_free = "of" not in held.fields and held.fields.get("status") in _UNDONE
            taken = Patch(path, {"of": outbox_id}, if_version=held.version)
            return (taken,) if is_free else None
        claim = {
            "kind": "claim",
            "status": "claimed",
            "of": outbox_id,
            "subject": self._keyring.pseudonym(profile.profile_id),
            "created_at": now,
            "expires_at": now + timedelta(days=OUTBOX_EXPIRY_DAYS),
        }
        return (Put(path, claim, if_version=""),)

    def _what(
        self,
        outbox_id: str,
        fields: Mapping[str, Any],
        destination: Destination | None,
        profile: Profile,
        now: datetime,
    ) -> DestinationRequest | PushMessage | Ending:
        if destination is None:
            action = fields["action"]
            if action["type"] != "push_message":
                return Ending("dead_letter", "NO_DESTINATION")
            sent = _sent(fields)
            purposes = (ANALYTICS_STORAGE, *action["purposes"], *fields["rule_purposes"])
            return PushMessage(
                outbox_id, sent["channel"], sent["payload"], fields["useful_until"],
                profile.profile_id, purposes=purposes, decided_at=fields["created_at"],
            )  # fmt: skip
        return self._request(outbox_id, fields, destination, profile, now)

    def _request(
        self,
        outbox_id: str,
        fields: Mapping[str, Any],
        destination: Destination,
        profile: Profile,
        now: datetime,
    ) -> DestinationRequest | Ending:
        action = fields["action"]
        found, missing = look_up(_sent(fields), profile.attributes)
        if missing is not None:
            lacks: ActionReason = "NO_RECIPIENT" if missing == "recipient" else "NO_EXTERNAL_ID"
            return Ending("rejected", lacks, destination.id)
        values = template_values(
            action,
            found,
            sent_at=now,
            idempotency_key=outbox_id,
            decision_id=fields["decision_id"],
            event_name=fields["event_name"],
            decided_at=fields["created_at"].isoformat(),
            visitor=self._keyring.derived_id("push", profile.profile_id),
        )
        try:
            return make_request(destination, values, idempotency_key=outbox_id)
        except UnusableValue:
            return Ending("rejected", "UNUSABLE_VALUE", destination.id)

    async def _attempt(
        self,
        document: Document,
        destination: Destination,
        request: DestinationRequest,
        claim: Sequence[Write],
        *,
        deadline: Deadline,
    ) -> None:
        """Send under a lease and mark what came of it; raises Unavailable for another time."""
        outbox_id = _outbox_id(document)
        attempt_s = self._sender.attempt_s(destination)
        if deadline.remaining_s < attempt_s + _MARK_S:
            raise Unavailable("outbox", "too little time is left for an attempt")
        if wait_s := self._health.wait_s(watched(destination)):
            await self._outbox.postpone(document, wait_s, deadline=deadline)
            raise Unavailable("destination", "left alone after failures")
        leased = await self._outbox.take_lease(
            document, attempt_s + _MARK_S, also=claim, deadline=deadline
        )
        if leased is None:
            raise Conflict
        sent = await self._sender.send(destination, request, outbox_id)
        if sent.verdict == "retry" or (sent.verdict == "unknown" and destination.repeatable):
            await self._outbox.release(outbox_id, leased, sent.wait_s, deadline=deadline)
            raise Unavailable("destination", "asks to try later")
        ending = Ending("delivered", "SENT", destination.id, sent.status, is_attempt=True)
        if sent.verdict != "delivered":
            reason: ActionReason = "OUTCOME_UNKNOWN" if sent.verdict == "unknown" else "REFUSED"
            ending = replace(ending, outcome="dead_letter", reason=reason)
        ours = await self._still_ours(outbox_id, leased, deadline=deadline)
        if ours is None:
            return
        try:
            await self._end(ours, ending, deadline=deadline)
        except Unavailable:
            if sent.verdict == "rejected":  # it did nothing: to be refused once more does no harm
                await self._outbox.release(outbox_id, leased, None, deadline=deadline)
            raise

    async def _still_ours(
        self, outbox_id: str, leased: Mapping[str, Any], *, deadline: Deadline
    ) -> Document | None:
        """Return the entry under our lease, or None when another process took it over."""
        while True:
            try:
                return await self._outbox.still_ours(outbox_id, leased, deadline=deadline)
            except Unavailable:
                if deadline.remaining_s < _READ_RETRY_S:
                    raise
                await asyncio.sleep(_READ_RETRY_S)

    async def _end(
        self,
        document: Document,
        ending: Ending,
        *,
        deadline: Deadline,
        also: Sequence[Write] = (),
    ) -> None:
        """Mark the entry as ended, with its audit record; a dead letter is published before.

        Raises Conflict when the entry is not as it was read. What it would have sent stays only
        for a dead letter, which may be replayed.
        """
        outbox_id, fields, now = _outbox_id(document), document.fields, self._backend.clock()
        record = action_record(outbox_id, fields, ending, now=now)
        rows = [*fields.get("records", ()), encode_record(record)]
        ended: dict[str, Any] = {"status": ending.outcome, "reason": ending.reason, "ended_at": now}
        ended |= pending_records((), now=now) | {"records": rows}
        if ending.outcome == "dead_letter":
            await self._outbox.bury(outbox_id, fields, _dead(ending), deadline=deadline)
            ended["expires_at"] = now + timedelta(days=DEAD_LETTER_EXPIRY_DAYS)
        else:
            action = {name: v for name, v in fields["action"].items() if name != "fields"}
            ended["action"] = action
        patch = Patch(
            document.path, ended, remove=("lease", "lease_until"), if_version=document.version
        )
        if also:
            await self._backend.documents.commit([patch, *also], deadline=deadline)
        else:
            await self._outbox.mark(patch, deadline=deadline)
        await self._outbox.publish_ended(outbox_id, rows, deadline=deadline)

    async def _put_into_inbox(
        self,
        document: Document,
        message: PushMessage,
        claim: Sequence[Write],
        *,
        deadline: Deadline,
    ) -> None:
        """Let a message wait for the visitor's browser: one commit, so there is no repetition."""
        path = inbox_path(self._keyring, message.profile_id)
        inbox = await self._backend.documents.get(path, deadline=deadline)
        subject = self._keyring.pseudonym(message.profile_id)
        put = inbox_with(inbox, path, message, subject=subject, now=self._backend.clock())
        await self._end(
            document, Ending("delivered", "INBOX"), also=[put, *claim], deadline=deadline
        )


def _sent(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the rule wants sent; decide stored it as JSON."""
    return msgspec.json.decode(bytes(fields["action"]["fields"]), type=dict[str, Any])


def _id(destination: Destination | None) -> str | None:
    return None if destination is None else destination.id


def _outbox_id(document: Document) -> str:
    return document.path.partition("/")[2]


def _dead(ending: Ending) -> InvalidInput:
    """Return the reason of a dead letter, in the words that an operator needs."""
    if ending.reason == "NO_DESTINATION":
        return InvalidInput("unknown_callback", "no destination is registered for the action")
    if ending.reason == "DISABLED":
        return InvalidInput("unknown_callback", "the destination answered 410: it is disabled")
    if ending.reason == "OUTCOME_UNKNOWN":
        return InvalidInput(
            "unknown_callback",
            "nobody knows whether it was done, and the destination would do it twice",
        )
    return InvalidInput("unknown_callback", "the destination refused the action for good")
