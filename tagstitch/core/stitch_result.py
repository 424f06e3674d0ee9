"""Stitch results: what one stitch request came to, for the callback and for the audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from tagstitch.core.audit import AuditRecord, RecordType
from tagstitch.core.consent import Consent
from tagstitch.core.identity_graph import Outcome, Resolution
from tagstitch.core.profile import Profile
from tagstitch.core.stitch_request import StitchRequest

StitchReason = Literal[
    "PROFILE_CREATED",
    "PROFILES_MERGED",
    "IDENTIFIER_LINKED",
    "KNOWN_PROFILE",
    "UNKNOWN_PROFILE",
    "CONSENT_DENIED",
    "BLOCKED_IDENTIFIER",
]

_OUTCOMES: dict[StitchReason, str] = {
    "PROFILE_CREATED": "created",
    "PROFILES_MERGED": "merged",
    "IDENTIFIER_LINKED": "linked",
    "KNOWN_PROFILE": "unchanged",
    "UNKNOWN_PROFILE": "unknown",
    "CONSENT_DENIED": "suppressed",
    "BLOCKED_IDENTIFIER": "blocked",
}


_REASONS: dict[Outcome, StitchReason] = {
    "created": "PROFILE_CREATED",
    "merged": "PROFILES_MERGED",
    "linked": "IDENTIFIER_LINKED",
    "unchanged": "KNOWN_PROFILE",
}


@dataclass(frozen=True, slots=True)
class StitchResult:
    """The resolution of a request with its reason."""

    reason: StitchReason
    resolution: Resolution
    person: Profile | None
    """The surviving profile with all that are merged into it; None when it is created."""
    blocked: Sequence[str]
    """The types of the request's identifiers that are blocked values."""
    is_erased: bool

    @property
    def may_link(self) -> bool:
        """Whether profile and links may be written."""
        return self.reason != "CONSENT_DENIED" and not self.is_erased

    @property
    def profile_id(self) -> str | None:
        """The profile that the caller may know of."""
        return self.resolution.profile_id if self.may_link else None

    def to_json(self) -> dict[str, Any]:
        """Return what the idempotency mark keeps."""
        return {"reason": self.reason, "profile_id": self.profile_id}

    def callback_data(
        self, request: StitchRequest, attributes: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return `data` of the callback, with the attributes that may leave to its endpoint."""
        return {
            "request_id": request.request_id,
            "found": self.profile_id is not None,
            "profile_id": self.profile_id,
            "attributes": dict(attributes),
            "reason": self.reason,
            "context": dict(request.context),
        }


def stitch_result(
    resolution: Resolution,
    person: Profile | None,
    *,
    consent_allows: bool,
    is_erased: bool,
    blocked: Sequence[str],
) -> StitchResult:
    """Return the result; the first reason that applies counts."""
    return StitchResult(
        _reason(resolution, consent_allows=consent_allows, is_erased=is_erased, blocked=blocked),
        resolution,
        person,
        blocked,
        is_erased,
    )


def _reason(
    resolution: Resolution, *, consent_allows: bool, is_erased: bool, blocked: Sequence[str]
) -> StitchReason:
    if not consent_allows:
        return "CONSENT_DENIED"
    if is_erased:
        return "UNKNOWN_PROFILE"
    if resolution.outcome == "unknown":
        is_blocked = blocked or resolution.held
        return "BLOCKED_IDENTIFIER" if is_blocked else "UNKNOWN_PROFILE"
    return _REASONS[resolution.outcome]


def stitch_record(
    result: StitchResult,
    request: StitchRequest,
    consent: Consent,
    *,
    record_id: str,
    subject: str | None,
    counted: Sequence[str] = (),
    degraded: Sequence[str] = (),
    is_updated: bool = False,
    now: datetime,
) -> AuditRecord:
    """Return the audit record of a stitch request; identifiers appear by their type only.

    `counted` are the traits that its event counts for; one that was delivered before has the same
    record again. `is_updated` says that the profile's document changes.
    """
    resolution = result.resolution
    outcome = _OUTCOMES[result.reason]
    record_type: RecordType = "identity_link"
    if result.reason == "BLOCKED_IDENTIFIER":
        record_type = "identity_blocked"
    elif result.reason == "CONSENT_DENIED":
        record_type = "profile_update"
    elif result.reason == "PROFILES_MERGED" and result.may_link:
        record_type = "identity_merge"
    elif outcome == "unchanged" and (counted or is_updated):
        record_type, outcome = "profile_update", "updated"
    return AuditRecord(
        record_id=record_id,
        record_type=record_type,
        occurred_at=now,
        event_at=request.occurred_at,
        outcome=outcome,
        request_id=request.request_id,
        subject=subject,
        event_name=request.event.name if request.event else None,
        consent=consent.to_record(),
        degraded=degraded,
        extra={
            "reason": result.reason,
            "linked": [node.identifier.type for node in resolution.linked],
            "demoted": [node.identifier.type for node in resolution.demoted],
            **_demoted_for(resolution),
            "merged": len(resolution.merged),
            "blocked": len(result.blocked),
            **({"blocked_types": list(result.blocked)} if result.blocked else {}),
            **({"held": [n.identifier.type for n in resolution.held]} if resolution.held else {}),
            **({"traits": list(counted)} if counted else {}),
        }
        if result.may_link
        else {"reason": result.reason},
    )


def _demoted_for(resolution: Resolution) -> dict[str, Any]:
    """Return why each identifier was kept apart; nothing where none was."""
    reasons = [
        {"type": node.identifier.type, "reason": node.demoted_for} for node in resolution.demoted
    ]
    return {"demoted_for": reasons} if reasons else {}
