"""What stitching hears of an event that decide was asked about: a denial, and what traits count."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import msgspec

from tagstitch.core.errors import Unavailable
from tagstitch.core.event import event_time
from tagstitch.core.limits import CALLBACK_EXPIRY_S, JSON_DEPTH_MAX
from tagstitch.core.profile import Profile
from tagstitch.core.profile_traits import TraitDefinitions
from tagstitch.core.stitch_request import StitchRequest
from tagstitch.core.values import is_deeper
from tagstitch.pipeline.backend import Backend
from tagstitch.pipeline.claims import STITCH_TOPIC, ClaimPublisher
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.decision import DecideCall, Loaded
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.log_events import EventNotPublished, log
from tagstitch.pipeline.refreshed import Refreshed


class EventPublisher:
    """Publishes events as stitch requests: traits are folded by stitch_async alone."""

    def __init__(
        self,
        backend: Backend,
        keyring: Keyring,
        *,
        claims: ClaimPublisher,
        traits: Refreshed[TraitDefinitions],
    ) -> None:
        self._backend = backend
        self._keyring = keyring
        self._claims = claims
        self._traits = traits

    def start(self) -> None:
        """Begin to look for newer definitions, if that is due, while the event is decided."""
        self._traits.start()

    async def counts(self, call: DecideCall, loaded: Loaded) -> bool | None:
        """Return whether a trait may be computed from the event; None when nobody can say.

        None is, where nobody is to be named: without consent, without an identifier, and of an
        erased visitor. Neither is one of an event that is too deep to be sent inside a message.
        """
        if not call.identifiers or not loaded.may_name_visitor:
            return False
        definitions = self._traits.value or await self._traits.get(call.stages.read)
        if definitions is None:
            return None
        event = call.request.event
        is_named = bool(definitions.of_event(event.name))
        return is_named and not is_deeper(event.parameters, JSON_DEPTH_MAX - 1)

    async def publish(self, call: DecideCall, *, deadline: Deadline) -> bool:
        """Publish the event with what it says about consent; return False when that failed.

        It goes as it arrived. Whoever repeats a request repeats its ids, so it is counted once.
        """
        now = self._backend.clock()
        request = StitchRequest(
            request_id=self._keyring.derived_id("traits", call.decision_id),
            identifiers=call.identifiers,
            bare_id=None,
            asserted=call.caller.may("assert"),
            event=call.request.event,
            event_id=call.request.request_id or call.decision_id,
            view="default",
            callback=None,
            context={},
            consent=call.request.consent,
            occurred_at=event_time(call.request.event, received_at=now),
            expires_at=now + timedelta(seconds=CALLBACK_EXPIRY_S),
            preview=None,
        )
        data = msgspec.json.encode(request.to_message())
        try:
            await self._backend.publisher.publish(STITCH_TOPIC, data, deadline=deadline)
        except Unavailable as error:
            log(EventNotPublished(why=str(error)))
            return False
        return True

    async def publish_denial(self, call: DecideCall, loaded: Loaded) -> bool:
        """Publish what the event denies and the profile grants; return False when that failed.

        Without consent the profile was not read: then the denial is published unseen.
        """
        denied = loaded.consent.denied_by_request
        profile = loaded.visitor.profile
        if profile is not None:
            denied = frozenset(p for p in denied if _grants(profile, p))
        if not denied or not call.identifiers or loaded.visitor.is_erased:
            return True
        commit = call.stages.commit
        try:
            await self._claims.publish(
                "denial",
                call.identifiers,
                asserted=call.caller.may("assert"),
                consent=dict.fromkeys(sorted(denied), "denied"),
                deadline=commit.at_most(commit.remaining_s / 2),  # the rest is the commit's own
            )
        except Unavailable:
            return False
        return True


def _grants(profile: Profile, purpose: str) -> bool:
    entry = profile.consent.get(purpose)
    return isinstance(entry, Mapping) and entry.get("granted") is True
