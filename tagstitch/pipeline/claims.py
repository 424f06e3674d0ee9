"""Claims: stitch requests that a read gives rise to, at most once an hour and process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from tagstitch.core.event import Event
from tagstitch.core.identifier import Identifier
from tagstitch.core.limits import CALLBACK_EXPIRY_S
from tagstitch.core.stitch_request import StitchRequest
from tagstitch.pipeline.backend import Backend
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.keyring import Keyring

STITCH_TOPIC: Final = "stitch-requests"

_CLAIMS_MAX: Final = 10_000
"""Claims remembered by this process; a forgotten one folds by its request id."""


class ClaimPublisher:
    """Publishes stitch requests whose id is that of their content and the hour.

    A page view asks several times within a second; every repetition has the same request id, and
    most never leave this process.
    """

    def __init__(self, backend: Backend, keyring: Keyring) -> None:
        self._backend = backend
        self._keyring = keyring
        self._published: OrderedDict[str, None] = OrderedDict()

    async def publish(
        self,
        kind: str,
        identifiers: Sequence[Identifier],
        *,
        asserted: bool,
        deadline: Deadline,
        consent: Mapping[str, Any] | None = None,
        event: Event | None = None,
    ) -> None:
        """Publish the claim unless this process did so within the hour; may raise Unavailable."""
        now = self._backend.clock()
        request_id = self._request_id(kind, identifiers, consent, asserted=asserted, now=now)
        if request_id in self._published:
            return
        request = StitchRequest(
            request_id=request_id,
            identifiers=tuple(identifiers),
            bare_id=None,
            asserted=asserted,
            event=event,
            event_id=request_id,
            view="default",
            callback=None,
            context={},
            consent=consent,
            occurred_at=now,
            expires_at=now + timedelta(seconds=CALLBACK_EXPIRY_S),
            preview=None,
        )
        await self._backend.publisher.publish(
            STITCH_TOPIC, msgspec.json.encode(request.to_message()), deadline=deadline
        )
        self._published[request_id] = None
        if len(self._published) > _CLAIMS_MAX:
            self._published.popitem(last=False)

    def _request_id(
        self,
        kind: str,
        identifiers: Sequence[Identifier],
        consent: Mapping[str, Any] | None,
        *,
        asserted: bool,
        now: datetime,
    ) -> str:
        keys = (self._keyring.identifier_key(identifier) for identifier in identifiers)
        purposes = sorted(f"{purpose}={value}" for purpose, value in (consent or {}).items())
        hour = now.strftime("%Y-%m-%dT%H")
        return self._keyring.derived_id(kind, hour, str(asserted), *purposes, *keys)
