"""What a callback that waited may still say: its visitor is looked up again before each attempt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tagstitch.core.callback import CallbackEndpoint
from tagstitch.core.consent import ANALYTICS_STORAGE, resolve_consent, was_denied
from tagstitch.core.errors import Unavailable
from tagstitch.core.profile import Profile
from tagstitch.core.stitch_request import StitchRequest
from tagstitch.core.stitch_result import StitchReason
from tagstitch.core.view import Views, visible_attributes
from tagstitch.pipeline.backend import Backend
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.refreshed import Refreshed
from tagstitch.pipeline.visitor_of_profile import visitor_of_profile


def fields_to_look_again(request: StitchRequest) -> dict[str, Any]:
    """Return what an entry keeps so that its visitor can be looked up again."""
    said = resolve_consent(
        requested=request.consent, event=request.event, profile=None, default_granted=False
    )
    return {
        "view": request.view,
        "granted_at": request.occurred_at if said.allows(ANALYTICS_STORAGE) else None,
    }


class PresentCallback:
    """Fills a callback with the attributes that its visitor has, and allows, at this moment."""

    def __init__(
        self, backend: Backend, views: Refreshed[Views], *, consent_default_granted: bool
    ) -> None:
        self._backend = backend
        self._views = views
        self._consent_default_granted = consent_default_granted

    async def fill(
        self, fields: Mapping[str, Any], endpoint: CallbackEndpoint, *, deadline: Deadline
    ) -> dict[str, Any]:
        """Return the fields of the entry that differ from what is stored.

        One read of the profile. Raises Unavailable when it or the views cannot be read, and
        InvalidInput for a view that nobody declares any more.
        """
        data = msgspec.json.decode(bytes(fields["data"]), type=dict[str, Any])
        if data.get("profile_id") is None:
            return {}
        now = self._backend.clock()
        visitor = await visitor_of_profile(
            self._backend.documents, data["profile_id"], now=now, deadline=deadline
        )
        if visitor.profile is None:
            return _withheld(data, "UNKNOWN_PROFILE")
        if self._denies(visitor.profile, fields):
            return _withheld(data, "CONSENT_DENIED")
        views = await self._views.get(deadline)
        if views is None:
            raise Unavailable("firestore", "the views could not be loaded")
        shown = visible_attributes(
            visitor.profile, views, view=fields["view"], fields=None, sees_concealed=True
        )
        data["profile_id"] = visitor.profile.profile_id
        data["attributes"] = endpoint.allowed(shown, concealed=views.concealed)
        return {"data": msgspec.json.encode(data)}

    def _denies(self, profile: Profile, fields: Mapping[str, Any]) -> bool:
        """Return whether the visitor may not be looked up now.

        What the request granted stands unless it was denied since: such grants are not recorded.
        """
        granted_at = fields["granted_at"]
        if granted_at is not None:
            return was_denied(profile, ANALYTICS_STORAGE, since=granted_at)
        consent = resolve_consent(
            requested=None,
            event=None,
            profile=profile,
            default_granted=self._consent_default_granted,
        )
        return not consent.allows(ANALYTICS_STORAGE)


def _withheld(data: Mapping[str, Any], reason: StitchReason) -> dict[str, Any]:
    """Return what is left to say of a visitor of whom nothing may be said."""
    said = {**data, "found": False, "profile_id": None, "attributes": {}, "reason": reason}
    return {"data": msgspec.json.encode(said), "subject": None, "withheld": reason}
