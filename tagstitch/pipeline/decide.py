"""decide: the event decision, the personalization and the profile, in one round trip."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import msgspec

from tagstitch.core.audit import AuditRecord
from tagstitch.core.caller import Caller
from tagstitch.core.consent import Consent, resolve_consent
from tagstitch.core.decide_answer import DecideAnswer
from tagstitch.core.decide_request import DecideRequest
from tagstitch.core.decision_record import (
    DecisionContext,
    event_decision_record,
    personalization_record,
)
from tagstitch.core.errors import Conflict, Unavailable
from tagstitch.core.event import EventIdentifiers, event_time, identify_event
from tagstitch.core.event_decision import EventDecision, decide_event
from tagstitch.core.identifier import IdentitySettings
from tagstitch.core.identity_graph import SALT_BYTES, new_profile_fields, touch_profile
from tagstitch.core.personalization import PersonalizationDecision, decide_personalization
from tagstitch.core.profile import Profile
from tagstitch.core.rule_book import EMPTY_RULE_BOOK, RuleBook
from tagstitch.core.view import Views, visible_attributes
from tagstitch.pipeline.backend import Backend, Document, Put
from tagstitch.pipeline.claims import ClaimPublisher
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.idempotency import IdempotencyMark, is_live
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.publish_audit import (
    AuditPublisher,
    encode_records,
    publish_or_log,
    publish_stored,
)
from tagstitch.pipeline.refreshed import Refreshed
from tagstitch.pipeline.visitor import NOBODY, Visitor, VisitorFinder

_READ_SHARE: Final = 0.5
"""Part of the deadline that loading may take; what comes late is missing in the answer."""
_COMMIT_SHARE: Final = 0.8
"""Part of the deadline by which state must be committed."""
_AUDIT_SHARE: Final = 0.95
"""Part of the deadline by which the audit record must be published; then it goes to the log."""

_DECISIONS_MAX: Final = 2
"""Decisions of one request: after a second lost race the state's actions are left out."""

logger = logging.getLogger("tagstitch")


Shape = Callable[[DecideAnswer], Mapping[str, Any]]
"""Which of the three bodies the caller asked for."""


@dataclass(frozen=True, slots=True)
class _Stages:
    """The stages of one request's deadline."""

    read: Deadline
    commit: Deadline
    audit: Deadline

    @classmethod
    def of(cls, seconds: float) -> _Stages:
        return cls(
            Deadline.after(seconds * _READ_SHARE),
            Deadline.after(seconds * _COMMIT_SHARE),
            Deadline.after(seconds * _AUDIT_SHARE),
        )


@dataclass(frozen=True, slots=True)
class _Call:
    """What does not change over the attempts at one decision."""

    request: DecideRequest
    caller: Caller
    identifiers: EventIdentifiers
    mark: IdempotencyMark
    is_idempotent: bool
    """Whether the caller gave a request id, so that an earlier decision may be stored."""
    shape: Shape
    stages: _Stages
    started: float


@dataclass(frozen=True, slots=True)
class _Decision:
    """One decision as the core made it; nothing is written yet."""

    visitor: Visitor
    consent: Consent
    event_decision: EventDecision | None
    personalization: PersonalizationDecision | None
    rules_version: str | None
    degraded: tuple[str, ...]

    @property
    def state_changes(self) -> Mapping[str, Any]:
        return self.personalization.state_changes if self.personalization else {}

    def without_state(self) -> _Decision:
        """Return the decision without the actions whose state could not be committed."""
        if self.personalization is None:
            return self
        return replace(
            self,
            personalization=self.personalization.without_state_actions(),
            degraded=(*self.degraded, "state"),
        )

    def also_degraded(self, *missing: str) -> _Decision:
        return replace(self, degraded=(*self.degraded, *missing))


class Decider:
    """Decides events: loads once, asks the core, commits only what changed, publishes last."""

    def __init__(
        self,
        backend: Backend,
        keyring: Keyring,
        identity: IdentitySettings,
        *,
        finder: VisitorFinder,
        audit: AuditPublisher,
        rule_book: Refreshed[RuleBook],
        views: Refreshed[Views],
        claims: ClaimPublisher,
        audit_parameters: Sequence[str],
        consent_default_granted: bool,
    ) -> None:
        self._backend = backend
        self._keyring = keyring
        self._identity = identity
        self._finder = finder
        self._audit = audit
        self._rule_book = rule_book
        self._views = views
        self._claims = claims
        self._audit_parameters = frozenset(audit_parameters)
        self._consent_default_granted = consent_default_granted

    async def decide(self, request: DecideRequest, caller: Caller, shape: Shape) -> bytes:
        """Return the JSON body within the request's deadline, whatever fails behind it.

        Raises InvalidInput only: for a request id that was used for another event, and for parts
        of the answer that the caller may not have.
        """
        _check_scopes(request, caller)
        call = _Call(
            request=request,
            caller=caller,
            identifiers=identify_event(
                request.event, self._identity, asserted=caller.may("assert")
            ),
            mark=self._mark(request, caller, shape),
            is_idempotent=request.request_id is not None,
            shape=shape,
            stages=_Stages.of(request.deadline_ms / 1000),
            started=time.perf_counter(),
        )
        for _ in range(_DECISIONS_MAX):
            decision = await self._decide(call)
            stored = decision.visitor.riders.get(call.mark.path)
            if stored is not None and is_live(stored, now=self._backend.clock()):
                return await self._repeat(call, stored)
            if not decision.state_changes:
                return await self._answer(call, decision)
            try:
                return await self._commit_and_answer(call, decision)
            except Conflict:
                continue  # another request of this visitor was first: decide again on its state
            except Unavailable:
                break
        return await self._answer(call, decision.without_state())

    async def _decide(self, call: _Call) -> _Decision:
        """Load the visitor once and ask the core."""
        request = call.request
        book, visitor, consent, degraded = await self._load(call)
        unavailable = frozenset({"profile", "state"}) if "profile" in degraded else frozenset()
        profile = visitor.profile if consent.allows("analytics_storage") else None
        event_decision = personalization = None
        if "event" in request.include:
            event_decision = decide_event(
                request.event, book, profile, unavailable=unavailable, explain=request.explain
            )
        if "personalization" in request.include:
            personalization = decide_personalization(
                request.event,
                book,
                profile,
                consent=consent,
                unavailable=unavailable,
                has_identifier=bool(call.identifiers.selecting),
                explain=request.explain,
            )
        decision = _Decision(
            visitor,
            consent,
            event_decision,
            personalization,
            None if book is EMPTY_RULE_BOOK else book.version,
            degraded,
        )
        if decision.state_changes and not self._may_write(call, decision):
            return decision.without_state()
        return decision

    async def _load(self, call: _Call) -> tuple[RuleBook, Visitor, Consent, tuple[str, ...]]:
        """Return rule book, visitor and consent, with the names of what could not be had."""
        request, stages = call.request, call.stages
        degraded: list[str] = []
        book = await self._rule_book.get(stages.read)
        if "profile" in request.include:
            await self._views.get(stages.read)
        if book is None:
            degraded.append("rules")
        consent = self._consent(request, None)
        visitor = NOBODY
        riders = [call.mark.path] if call.is_idempotent else []
        may_look_up = "analytics_storage" not in consent.denied_by_request
        try:
            visitor = await self._finder.find(
                call.identifiers.selecting if may_look_up else (),
                now=self._backend.clock(),
                deadline=stages.read,
                riders=riders,
            )
        except Unavailable:
            degraded.append("profile")
        if visitor.profile is not None:
            consent = self._consent(request, visitor.profile)
        return book or EMPTY_RULE_BOOK, visitor, consent, tuple(degraded)

    def _consent(self, request: DecideRequest, profile: Profile | None) -> Consent:
        return resolve_consent(
            requested=request.consent,
            event=request.event,
            profile=profile,
            default_granted=self._consent_default_granted,
        )

    def _may_write(self, call: _Call, decision: _Decision) -> bool:
        """Return whether state may be written for this visitor at all."""
        return (
            bool(call.identifiers.selecting)
            and decision.consent.allows("analytics_storage")
            and not decision.visitor.is_erased
            and "profile" not in decision.degraded
        )

    async def _commit_and_answer(self, call: _Call, decision: _Decision) -> bytes:
        """Commit state, idempotency mark and audit records at once, then publish and answer.

        Raises Conflict when somebody else wrote the visitor's document first.
        """
        now = self._backend.clock()
        records = self._records(call, decision)
        body = self._body(call, decision)
        mark = call.mark.put(records, {"body": body}, now=now)
        await self._backend.documents.commit(
            [self._state_write(call, decision, now=now), mark], deadline=call.stages.commit
        )
        await self._audit.publish_committed(
            encode_records(records), path=mark.path, deadline=call.stages.audit
        )
        return body

    def _state_write(self, call: _Call, decision: _Decision, *, now: datetime) -> Put:
        """Return the write of the visitor's document, on condition that nobody else wrote it."""
        visitor = decision.visitor
        if visitor.profile is not None:
            profile_id = visitor.profile.profile_id
            fields = dict(visitor.profile.fields)
        else:
            primary = call.identifiers.selecting[0]
            profile_id = self._keyring.profile_id(primary)
            fields = new_profile_fields(now=now, salt=os.urandom(SALT_BYTES))
            seen = {"first_seen": now, "last_seen": now}
            fields["identifiers"] = {self._keyring.identifier_key(primary): seen}
        fields["state"] = {**(fields.get("state") or {}), **decision.state_changes}
        return Put(
            f"profiles/{profile_id}", touch_profile(fields, now=now), if_version=visitor.version
        )

    async def _answer(self, call: _Call, decision: _Decision) -> bytes:
        """Publish the records of a decision that changed nothing, and answer."""
        if not await self._publish_denial(call, decision):
            decision = decision.also_degraded("stitch")
        records = encode_records(self._records(call, decision))
        if records and not await publish_or_log(self._audit, records, deadline=call.stages.audit):
            decision = decision.also_degraded("audit")
        return self._body(call, decision)

    async def _publish_denial(self, call: _Call, decision: _Decision) -> bool:
        """Publish what the event denies and the profile grants; return False when that failed.

        Without consent the profile was not read: then the denial is published unseen.
        """
        denied = decision.consent.denied_by_request
        profile = decision.visitor.profile
        if profile is not None:
            denied = frozenset(p for p in denied if _grants(profile, p))
        if not denied or not call.identifiers.selecting:
            return True
        try:
            await self._claims.publish(
                "denial",
                call.identifiers.selecting,
                asserted=call.caller.may("assert"),
                consent=dict.fromkeys(sorted(denied), "denied"),
                deadline=call.stages.commit,
            )
        except Unavailable:
            return False
        return True

    async def _repeat(self, call: _Call, stored: Document) -> bytes:
        """Return the stored answer of the same request, publishing its records if need be."""
        call.mark.check(stored)
        try:
            await publish_stored(self._audit, stored, deadline=call.stages.audit)
        except Unavailable:
            logger.warning("audit_left_to_sweep")
        return bytes(stored.fields["answer"]["body"])

    def _records(self, call: _Call, decision: _Decision) -> list[AuditRecord]:
        request = call.request
        now = self._backend.clock()
        context = DecisionContext(
            decision_id=call.mark.key,
            request_id=request.request_id,
            event=request.event,
            event_at=event_time(request.event, received_at=now),
            occurred_at=now,
            subject=self._subject(call, decision),
            consent=decision.consent,
            rules_version=decision.rules_version,
            degraded=decision.degraded,
            latency_ms=round((time.perf_counter() - call.started) * 1000, 3),
            audit_parameters=self._audit_parameters,
        )
        records = []
        if decision.event_decision is not None:
            records.append(event_decision_record(decision.event_decision, context))
        if decision.personalization is not None:
            records.append(personalization_record(decision.personalization, context))
        return records

    def _subject(self, call: _Call, decision: _Decision) -> str | None:
        if not decision.consent.allows("analytics_storage"):
            return None
        if decision.visitor.profile is not None:
            return self._keyring.pseudonym(decision.visitor.profile.profile_id)
        if call.identifiers.selecting:
            return self._keyring.pseudonym(self._keyring.profile_id(call.identifiers.selecting[0]))
        return None

    def _body(self, call: _Call, decision: _Decision) -> bytes:
        request = call.request
        answer = DecideAnswer(
            decision_id=call.mark.key,
            rules_version=decision.rules_version,
            degraded=tuple(sorted(set(decision.degraded))),
            event=request.event,
            event_decision=decision.event_decision,
            personalization=decision.personalization,
            profile=self._profile_part(call, decision) if "profile" in request.include else None,
            explain=request.explain,
        )
        return msgspec.json.encode(call.shape(answer))

    def _profile_part(self, call: _Call, decision: _Decision) -> dict[str, Any]:
        profile = decision.visitor.profile
        views = self._views.value
        if profile is None or views is None or not decision.consent.allows("analytics_storage"):
            return {"found": False, "profile_id": None, "attributes": {}}
        attributes = visible_attributes(
            profile,
            views,
            view=call.request.view,
            fields=call.request.fields,
            sees_concealed=call.caller.may("concealed"),
        )
        return {"found": True, "profile_id": profile.profile_id, "attributes": attributes}

    def _mark(self, request: DecideRequest, caller: Caller, shape: Shape) -> IdempotencyMark:
        """Return the idempotency mark; its key is the decision's id."""
        request_id = request.request_id or uuid.uuid4().hex
        key = self._keyring.derived_id("decide", caller.id, request_id)
        if request.request_id is None:
            return IdempotencyMark(key, "")
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


def _grants(profile: Profile, purpose: str) -> bool:
    entry = profile.consent.get(purpose)
    return isinstance(entry, Mapping) and entry.get("granted") is True
