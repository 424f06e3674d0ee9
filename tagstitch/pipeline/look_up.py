"""stitch_sync: identifiers to the profile as known now; writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from tagstitch.core.callback import unknown_callback
from tagstitch.core.caller import Caller
from tagstitch.core.consent import Consent, resolve_consent
from tagstitch.core.errors import InvalidInput, Unavailable
from tagstitch.core.event import ANONYMOUS_TYPES
from tagstitch.core.fields import object_of
from tagstitch.core.identifier import Identifier, IdentitySettings, bare_identifiers
from tagstitch.core.lookup import (
    AcceptedLookup,
    Lookup,
    LookupAnswer,
    lookup_body,
    parse_lookup,
)
from tagstitch.core.profile import Profile
from tagstitch.core.stitch_request import parse_accepted_request
from tagstitch.core.view import Views, may_ask, visible_attributes
from tagstitch.pipeline.backend import Backend
from tagstitch.pipeline.claims import STITCH_TOPIC, ClaimPublisher
from tagstitch.pipeline.deadline import AnswersUnderWay, Deadline
from tagstitch.pipeline.refreshed import Refreshed
from tagstitch.pipeline.stage_times import timed
from tagstitch.pipeline.visitor import NOBODY, Visitor, VisitorFinder

_READ_SHARE: Final = 0.7
"""Part of the deadline that reading the profile may take; the rest is for publishing a link."""

_PUBLISH_TIMEOUT_S: Final = 2.0
"""Seconds in which an asynchronous request must reach Pub/Sub."""


class ProfileLookup:
    """Answers lookups, and publishes the links that they claim."""

    def __init__(
        self,
        backend: Backend,
        identity: IdentitySettings,
        *,
        finder: VisitorFinder,
        views: Refreshed[Views],
        claims: ClaimPublisher,
        callback_ids: frozenset[str],
        consent_default_granted: bool,
        under_way: AnswersUnderWay | None = None,
    ) -> None:
        self._backend = backend
        self._identity = identity
        self._finder = finder
        self._views = views
        self._claims = claims
        self._callback_ids = callback_ids
        self._consent_default_granted = consent_default_granted
        self._under_way = under_way or AnswersUnderWay()

    async def answer_query(
        self, query: Mapping[str, str], caller: Caller, *, request_id: str
    ) -> AcceptedLookup | LookupAnswer:
        """Answer a GET: its parameters stand for a body, and it sets off no claim."""
        body = lookup_body(query, self._identity)
        return await self.answer(body, caller, request_id=request_id, may_publish=False)

    async def answer(
        self, body: object, caller: Caller, *, request_id: str, may_publish: bool = True
    ) -> AcceptedLookup | LookupAnswer:
        """Answer a request body; `request_id` is the one of the answer when the body has none.

        Raises InvalidInput for a body that cannot be used, Unavailable when an asynchronous
        request could not be accepted.
        """
        lookup = parse_lookup(body, self._identity)
        if lookup.mode == "async":
            return await self._accept(object_of(body, ""), caller, default_request_id=request_id)
        with self._under_way.one_more() as others:
            deadline = Deadline.of_calls(lookup.deadline_ms / 1000, others=others)
            answer = await self.look_up(lookup, caller, deadline=deadline, may_publish=may_publish)
        return replace(answer, request_id=request_id)

    async def look_up(
        self, lookup: Lookup, caller: Caller, *, deadline: Deadline, may_publish: bool
    ) -> LookupAnswer:
        """Return the visitor as known now; the answer has no request id.

        Never raises for a store that does not answer: the answer says ERROR and what is missing.
        `may_publish` is False for what must have no effects: a GET, an activation.
        """
        caller.require_view(lookup.view)
        if lookup.consent and "analytics_storage" in self._consent(lookup).denied_by_request:
            return LookupAnswer(found=False, reason="CONSENT_DENIED", view=lookup.view)
        asserted = caller.may("assert")
        usable = [i for i in lookup.identifiers if not self._identity.is_blocked(i)]
        if not usable and not bare_identifiers(lookup.bare_id or "", self._identity):
            return LookupAnswer(found=False, reason="BLOCKED_IDENTIFIER", view=lookup.view)
        read_deadline = deadline.at_most(deadline.remaining_s * _READ_SHARE)
        silent = LookupAnswer(found=False, reason="ERROR", view=lookup.view, degraded=("profile",))
        try:
            with timed("read"):
                views = await self._views.get(read_deadline)
                if views is None:  # nobody can say what may be shown
                    return silent
                visitor = await self._find(
                    lookup, usable, asserted=asserted, deadline=read_deadline
                )
        except Unavailable:
            return silent
        answer = self._answer(lookup, visitor, views, caller)
        claims_link = (
            may_publish
            and caller.may("stitch")
            and asserted  # what nobody vouches for would be claimed and never linked
            and len(usable) > 1
            and answer.reason != "CONSENT_DENIED"
            and not visitor.is_erased
            and not visitor.knows_all(self._finder.keys(usable))
        )
        if not claims_link:
            return answer
        return await self._claim(lookup, usable, answer, deadline=deadline)

    async def _accept(
        self, body: Mapping[str, Any], caller: Caller, *, default_request_id: str
    ) -> AcceptedLookup:
        """Publish an asynchronous request; return once Pub/Sub has it, never before.

        Raises Unavailable otherwise: the caller must hear a 503, never a false 202.
        """
        request = parse_accepted_request(
            body,
            caller,
            self._identity,
            default_request_id=default_request_id,
            received_at=self._backend.clock(),
        )
        caller.require_view(request.view)
        deadline = Deadline.after(_PUBLISH_TIMEOUT_S)
        with timed("read"):
            views = await self._views.get(deadline)
        if views is not None:  # else stitch_async looks: the request must not be lost for it
            views.get(request.view)
        if request.callback is not None and request.callback not in self._callback_ids:
            raise unknown_callback()
        message = msgspec.json.encode(request.to_message())
        with timed("stitch"):
            await self._backend.publisher.publish(STITCH_TOPIC, message, deadline=deadline)
        return AcceptedLookup(request.request_id)

    async def _find(
        self,
        lookup: Lookup,
        usable: Sequence[Identifier],
        *,
        asserted: bool,
        deadline: Deadline,
    ) -> Visitor:
        """Return the visitor; a user id or an address selects only when the caller vouches."""
        now = self._backend.clock()
        selecting = [i for i in usable if asserted or i.type in ANONYMOUS_TYPES]
        visitor = NOBODY
        if selecting:
            visitor = await self._finder.find(selecting, now=now, deadline=deadline)
        if visitor.profile is None and lookup.bare_id is not None:
            visitor = await self._finder.find_bare(
                lookup.bare_id, asserted=asserted, now=now, deadline=deadline
            )
        return visitor

    def _consent(self, lookup: Lookup, profile: Profile | None = None) -> Consent:
        return resolve_consent(
            requested=lookup.consent,
            event=None,
            profile=profile,
            default_granted=self._consent_default_granted,
        )

    def _answer(
        self, lookup: Lookup, visitor: Visitor, views: Views, caller: Caller
    ) -> LookupAnswer:
        view = views.get(lookup.view)
        if lookup.bare_id is None and not any(may_ask(view, i) for i in lookup.identifiers):
            raise InvalidInput(
                "invalid_field", "no identifier of a type that may ask for this view", "identifiers"
            )
        profile = visitor.profile
        if profile is None:
            return LookupAnswer(found=False, reason="UNKNOWN_PROFILE", view=lookup.view)
        if not self._consent(lookup, profile).allows("analytics_storage"):
            return LookupAnswer(found=False, reason="CONSENT_DENIED", view=lookup.view)
        if not any(may_ask(view, i) for i in self._proven(lookup, visitor)):
            return LookupAnswer(found=False, reason="UNKNOWN_PROFILE", view=lookup.view)
        attributes = visible_attributes(
            profile,
            views,
            view=lookup.view,
            fields=lookup.fields,
            sees_concealed=caller.may("concealed"),
        )
        return LookupAnswer(
            found=True,
            reason="STALE" if self._views.is_stale else "KNOWN_PROFILE",
            view=lookup.view,
            profile_id=profile.profile_id,
            attributes=attributes,
        )

    def _proven(self, lookup: Lookup, visitor: Visitor) -> Sequence[Identifier | None]:
        """Return what led to the profile, and what else the request names that it already has."""
        if visitor.profile is None:
            return [visitor.matched]
        known = visitor.profile.identifiers
        keyed = zip(lookup.identifiers, self._finder.keys(lookup.identifiers), strict=True)
        return [visitor.matched, *(identifier for identifier, key in keyed if key in known)]

    async def _claim(
        self,
        lookup: Lookup,
        usable: Sequence[Identifier],
        answer: LookupAnswer,
        *,
        deadline: Deadline,
    ) -> LookupAnswer:
        """Publish the link that the request claims; the answer is the best known now.

        It says MERGE_PENDING only once the claim is with Pub/Sub, now or within the hour before.
        """
        try:
            with timed("stitch"):
                await self._claims.publish(
                    "claim", usable, asserted=True, consent=lookup.consent, deadline=deadline
                )
        except Unavailable:
            return replace(answer, degraded=("stitch",))
        return replace(answer, reason="MERGE_PENDING") if answer.found else answer
