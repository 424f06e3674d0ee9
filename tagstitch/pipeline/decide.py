"""decide: commit what a decision changes, record it, and answer, within the deadline."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from tagstitch.core.audit import AuditRecord
from tagstitch.core.caller import Caller
from tagstitch.core.decide_answer import DecideAnswer, also_degraded
from tagstitch.core.decide_request import (
    DecideRequest,
    parse_decide_request,
    published_request,
)
from tagstitch.core.decision_record import (
    DecisionContext,
    event_decision_record,
    personalization_record,
)
from tagstitch.core.errors import Conflict, InvalidInput, Unavailable
from tagstitch.core.event import event_identity, event_time
from tagstitch.core.identifier import IdentitySettings
from tagstitch.core.personalization import PersonalizationDecision
from tagstitch.core.receipt import make_receipt
from tagstitch.core.view import ALL_CONCEALED, Views, may_ask, visible_attributes
from tagstitch.core.visitor_writes import VisitorWrites
from tagstitch.pipeline.backend import Backend, Document, Put
from tagstitch.pipeline.deadline import AnswersUnderWay, Deadline
from tagstitch.pipeline.decision import (
    CallDecision,
    DecideCall,
    DecisionMaker,
    Loaded,
    Shape,
    Stages,
)
from tagstitch.pipeline.decision_writes import decision_writes, outbox_paths
from tagstitch.pipeline.idempotency import IdempotencyMark, is_live, was_committed
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.log_events import (
    AuditLeftToSweep,
    StateTooLarge,
    VisitorWritesTooOften,
    log,
)
from tagstitch.pipeline.outbox import Outbox
from tagstitch.pipeline.publish_audit import (
    AuditPublisher,
    encode_records,
    publish_or_log,
    publish_stored,
)
from tagstitch.pipeline.publish_event import EventPublisher
from tagstitch.pipeline.push_token import PushTokens
from tagstitch.pipeline.refreshed import Refreshed
from tagstitch.pipeline.renew_links import renewed_links
from tagstitch.pipeline.sealed_receipt import WITHOUT_VALUES, seal_receipt
from tagstitch.pipeline.stage_times import timed

_DECISIONS_MAX: Final = 2
"""Decisions of one request: after a second lost race the state's actions are left out."""

_LOOK_SHARE: Final = 0.5
"""Part of what is left for publishing in which a look tells whether a failed commit was made."""


class Decider:
    """Decides events: loads once, asks the core, commits only what changed, publishes last."""

    def __init__(
        self,
        backend: Backend,
        keyring: Keyring,
        identity: IdentitySettings,
        *,
        maker: DecisionMaker,
        audit: AuditPublisher,
        views: Refreshed[Views],
        events: EventPublisher,
        audit_parameters: Sequence[str],
        visitor_writes: VisitorWrites | None = None,
    ) -> None:
        self._backend = backend
        self._keyring = keyring
        self._identity = identity
        self._maker = maker
        self._audit = audit
        self._views = views
        self._outbox = Outbox(backend, audit)
        self._push_tokens = PushTokens(keyring, backend.clock)
        self._events = events
        self._audit_parameters = frozenset(audit_parameters)
        self._visitor_writes = visitor_writes or VisitorWrites()
        self._under_way = AnswersUnderWay()

    async def decide(
        self, body: object, caller: Caller, header_request_id: str | None = None
    ) -> bytes:
        """Return the JSON answer to `POST /decide`, within its deadline, whatever fails behind it.

        Raises InvalidInput only: for a body that cannot be used, a request id that was used for
        another one, and parts of the answer that the caller may not have.
        """
        request = parse_decide_request(body, header_request_id=header_request_id)
        return await self._run(request, caller, DecideAnswer.to_json)

    async def make_event_decision(
        self, body: object, caller: Caller, header_request_id: str | None = None
    ) -> bytes:
        """Return the answer to `POST /make-event-decision`; otherwise as `decide`."""
        request = published_request(body, "event", header_request_id=header_request_id)
        return await self._run(request, caller, DecideAnswer.to_event_json)

    async def make_personalization_decision(
        self, body: object, caller: Caller, header_request_id: str | None = None
    ) -> bytes:
        """Return the answer to `POST /make-personalization-decision`; otherwise as `decide`."""
        request = published_request(body, "personalization", header_request_id=header_request_id)
        return await self._run(request, caller, DecideAnswer.to_personalization_json)

    async def _run(self, request: DecideRequest, caller: Caller, shape: Shape) -> bytes:
        _check_scopes(request, caller)
        with self._under_way.one_more() as others:
            stages = Stages.of(request.deadline_ms / 1000, others=others)
            return await self._run_call(self._call(request, caller, shape, stages))

    def _call(
        self, request: DecideRequest, caller: Caller, shape: Shape, stages: Stages
    ) -> DecideCall:
        mark = self._mark(request, caller, shape)
        found = event_identity(request.event, self._identity, asserted=caller.may("assert"))
        return DecideCall(
            request=request,
            caller=caller,
            identifiers=found.usable,
            blocked_types=found.blocked_types,
            mark=mark,
            # With the body's hash: a decision that changes nothing leaves no mark, and another
            # body under the same request id is another decision, with records of its own.
            decision_id=self._keyring.derived_id("decision", mark.key, mark.fingerprint)
            if request.request_id
            else mark.key,
            is_idempotent=request.request_id is not None,
            shape=shape,
            stages=stages,
            started=time.perf_counter(),
        )

    async def _run_call(self, call: DecideCall) -> bytes:
        request, caller = call.request, call.caller
        self._events.start()
        if "profile" in request.include:
            with timed("read"):
                views = await self._views.get(call.stages.read)
            if views is not None:
                views.get(request.view)  # an undeclared one is refused before anything is written
        if request.explain and not caller.may("concealed"):
            with timed("read"):
                views = await self._views.get(call.stages.read)
            call = replace(call, hides=(views or ALL_CONCEALED).conceals)
        for _ in range(_DECISIONS_MAX):
            with timed("read"):
                loaded = await self._maker.load(call)
            stored = loaded.visitor.riders.get(call.mark.path)
            if stored is not None and is_live(stored, now=self._backend.clock()):
                return await self._repeat(call, loaded, stored)
            decided = self._maker.decide(call, loaded)
            if not decided.decision.changes:
                return await self._answer(call, decided)
            try:
                return await self._commit_and_answer(call, decided)
            except Conflict:
                # Another request of this visitor was first: decide again on its state.
                paths = outbox_paths(call, decided, self._keyring)
                call = replace(call, outbox_paths=tuple(paths))
            except Unavailable:
                break
        return await self._answer(call, self._maker.decide(call, loaded, can_commit=False))

    async def _commit_and_answer(self, call: DecideCall, decided: CallDecision) -> bytes:
        """Commit state, idempotency mark and audit records at once, then publish and answer.

        Raises Conflict when somebody else wrote the visitor's document first, and Unavailable when
        the state cannot be stored; also when no document can hold it, or this visitor writes too
        often.
        """
        if not self._visitor_writes.allow(decided.situation.subject or "", time.monotonic()):
            log(VisitorWritesTooOften())
            raise Unavailable("state", "this visitor's was written too often")
        decided, is_counted = await self._tell_denial(call, decided)
        now = self._backend.clock()
        writes = decision_writes(call, decided, self._keyring, now=now)
        visitor = writes[0]
        records = self._records(call, decided, profile=visitor.fields)
        body = self._body(call, decided)
        mark = call.mark.put(
            records,
            {"body": body} if call.is_idempotent else {},
            now=now,
            replaces=decided.loaded.visitor.riders.get(call.mark.path),
        )
        try:
            with timed("commit"):
                renewed = await renewed_links(
                    self._backend.documents,
                    visitor.path.partition("/")[2],
                    _stored_fields(decided) or None,
                    visitor.fields,
                    deadline=call.stages.commit,
                )
                await self._backend.documents.commit(
                    [*writes, *renewed, mark], deadline=call.stages.commit
                )
        except InvalidInput as error:  # not the caller's fault: the event can be decided
            log(StateTooLarge(code=error.code))
            raise Unavailable("state", "no document can hold it") from None
        except Unavailable:
            if not await self._was_committed(call, mark):
                raise
        until = call.stages.audit
        recorded = self._audit.publish_committed(
            encode_records(records), path=mark.path, deadline=until
        )
        entries = [write.path for write in writes if write.path.startswith("outbox/")]
        if entries:
            recorded = self._record_and_hand_over(recorded, entries, deadline=until)
        with timed("audit"):
            if not is_counted:
                await recorded
                return body
            _, is_told = await asyncio.gather(recorded, self._events.publish(call, deadline=until))
        return body if is_told else also_degraded(body, "stitch")

    async def _was_committed(self, call: DecideCall, mark: Put) -> bool:
        deadline = call.stages.audit.at_most(call.stages.audit.remaining_s * _LOOK_SHARE)
        with timed("commit"):
            return await was_committed(
                self._backend.documents, mark, now=self._backend.clock(), deadline=deadline
            )

    async def _record_and_hand_over(
        self, recorded: Coroutine[Any, Any, None], entries: Sequence[str], *, deadline: Deadline
    ) -> None:
        await asyncio.gather(recorded, self._outbox.hand_over(entries, deadline=deadline))

    async def _answer(self, call: DecideCall, decided: CallDecision) -> bytes:
        """Publish the records of a decision that changed nothing, and answer."""
        decided, is_counted = await self._tell_denial(call, decided)
        records = encode_records(self._records(call, decided, profile=_stored_fields(decided)))
        with timed("audit"):
            is_recorded, is_told = await self._publish(call, records, is_counted=is_counted)
        if not is_recorded:
            decided = decided.also_degraded("audit")
        if not is_told:
            decided = decided.also_degraded("stitch")
        return self._body(call, decided)

    async def _publish(
        self, call: DecideCall, records: Sequence[bytes], *, is_counted: bool
    ) -> tuple[bool, bool]:
        """Publish records and event at once; return for each whether it did not fail."""
        until = call.stages.audit
        if not is_counted:
            return not records or await publish_or_log(self._audit, records, deadline=until), True
        if not records:
            return True, await self._events.publish(call, deadline=until)
        return await asyncio.gather(
            publish_or_log(self._audit, records, deadline=until),
            self._events.publish(call, deadline=until),
        )

    async def _tell_denial(
        self, call: DecideCall, decided: CallDecision
    ) -> tuple[CallDecision, bool]:
        """Publish a denial, and return whether the event itself has to be published, too.

        An event that does tells the denial itself. It must not be published before the commit:
        stitching would write the same profile at the same time.
        """
        with timed("stitch"):
            counts = await self._events.counts(call, decided.loaded)
            is_told = bool(counts) or await self._events.publish_denial(call, decided.loaded)
        if counts is None or not is_told:
            decided = decided.also_degraded("stitch")
        return decided, bool(counts)

    async def _repeat(self, call: DecideCall, loaded: Loaded, stored: Document) -> bytes:
        """Return the stored answer of the same request, publishing what a crash may have lost.

        Nothing tells whether the event was published: it is once more, and counted once.
        """
        call.mark.check(stored)
        body = bytes(stored.fields["answer"]["body"])
        counts = await self._events.counts(call, loaded)
        try:
            with timed("audit"):
                await publish_stored(self._audit, stored, deadline=call.stages.audit)
        except Unavailable:
            log(AuditLeftToSweep())
        is_told = counts is not None and (
            not counts or await self._events.publish(call, deadline=call.stages.audit)
        )
        return body if is_told else also_degraded(body, "stitch")

    def _records(
        self, call: DecideCall, decided: CallDecision, *, profile: Mapping[str, Any]
    ) -> list[AuditRecord]:
        """Return the records of the parts that were asked for; the first has the receipt.

        `profile` is the visitor's document as it will be stored.
        """
        request = call.request
        now = self._backend.clock()
        receipt = self._receipt(call, decided, profile)
        context = DecisionContext(
            decision_id=call.decision_id,
            request_id=request.request_id,
            event=request.event,
            event_at=event_time(request.event, received_at=now),
            occurred_at=now,
            subject=self._subject(call, decided),
            consent=decided.loaded.consent,
            rules_version=decided.loaded.rules_version,
            degraded=decided.degraded,
            latency_ms=round((time.perf_counter() - call.started) * 1000, 3),
            audit_parameters=self._audit_parameters,
            receipt=receipt,
            blocked_types=call.blocked_types,
            held_types=[call.identifiers[0].type] if decided.loaded.visitor.is_held else (),
            is_uncommitted=not decided.situation.can_commit,
            is_replayable=receipt != WITHOUT_VALUES,
        )
        records = []
        decision = decided.decision
        if decision.event is not None:
            exposures = decision.exposures if decision.personalization is None else ()
            records.append(event_decision_record(decision.event, context, exposures))
        if decision.personalization is not None:
            exposures = decision.exposures
            if records:
                # One of each is enough for both parts.
                context = replace(context, receipt=None, blocked_types=(), held_types=())
            records.append(personalization_record(decision.personalization, exposures, context))
        return records

    def _receipt(
        self, call: DecideCall, decided: CallDecision, profile: Mapping[str, Any]
    ) -> bytes:
        if decided.loaded.rules_version is None:
            return WITHOUT_VALUES
        situation, book = decided.situation, decided.loaded.book
        return seal_receipt(
            lambda: make_receipt(situation, book, decided.decision, call.request.include),
            subject=situation.subject,
            keyring=self._keyring,
            profile=profile,
            decision_id=call.decision_id,
        )

    def _subject(self, call: DecideCall, decided: CallDecision) -> str | None:
        if not decided.loaded.may_name_visitor:
            return None
        if decided.loaded.visitor.profile is not None:
            return self._keyring.pseudonym(decided.loaded.visitor.profile.profile_id)
        if call.identifiers:
            return self._keyring.pseudonym(self._keyring.profile_id(call.identifiers[0]))
        return None

    def _body(self, call: DecideCall, decided: CallDecision) -> bytes:
        request = call.request
        degraded = set(decided.degraded)
        if "profile" in request.include and self._views.value is None:
            degraded.add("profile")
        answer = DecideAnswer(
            decision_id=call.decision_id,
            rules_version=decided.loaded.rules_version,
            degraded=tuple(sorted(degraded)),
            event=request.event,
            event_decision=decided.decision.event,
            personalization=self._with_token(decided),
            profile=self._profile_part(call, decided) if "profile" in request.include else None,
            trace=decided.decision.trace if request.explain else None,
        )
        return msgspec.json.encode(call.shape(answer))

    def _with_token(self, decided: CallDecision) -> PersonalizationDecision | None:
        part = decided.decision.personalization
        return part and self._push_tokens.fill_in(part, decided.situation.subject)

    def _profile_part(self, call: DecideCall, decided: CallDecision) -> dict[str, Any]:
        nobody: dict[str, Any] = {"found": False, "profile_id": None, "attributes": {}}
        profile = decided.loaded.visitor.profile
        views = self._views.value
        is_allowed = decided.loaded.consent.allows("analytics_storage")
        if profile is None or views is None or not is_allowed:
            return nobody
        if not may_ask(views.get(call.request.view), decided.loaded.visitor.matched):
            return nobody
        attributes = visible_attributes(
            profile,
            views,
            view=call.request.view,
            fields=call.request.fields,
            sees_concealed=call.caller.may("concealed"),
        )
        return {"found": True, "profile_id": profile.profile_id, "attributes": attributes}

    def _mark(self, request: DecideRequest, caller: Caller, shape: Shape) -> IdempotencyMark:
        """Return the idempotency mark of the request, a random one when it has no id."""
        if request.request_id is None:
            return IdempotencyMark(uuid.uuid4().hex, "")
        key = self._keyring.derived_id("decide", caller.id, request.request_id)
        content = [
            shape.__name__,
            request.event.parameters,
            sorted(request.include),
            request.view,
            request.fields,
            request.consent,
        ]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return IdempotencyMark(key, hashlib.sha256(text.encode()).hexdigest())


def _check_scopes(request: DecideRequest, caller: Caller) -> None:
    if "profile" in request.include:
        caller.require("lookup")
        caller.require_view(request.view)
    if request.explain:
        caller.require("explain")


def _stored_fields(decided: CallDecision) -> Mapping[str, Any]:
    profile = decided.loaded.profile
    return {} if profile is None else profile.fields
