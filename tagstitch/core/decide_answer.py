"""Decide answers: one decision in the three shapes that callers can ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tagstitch.core.event import Event
from tagstitch.core.event_decision import EventDecision
from tagstitch.core.personalization import PersonalizationDecision


class DecideAnswer(msgspec.Struct, frozen=True):  # a frozen dataclass takes five times as long
    """Everything that one call decided; parts that were not asked for are None."""

    decision_id: str
    rules_version: str | None
    degraded: tuple[str, ...]
    event: Event
    event_decision: EventDecision | None
    personalization: PersonalizationDecision | None
    profile: Mapping[str, Any] | None
    trace: Mapping[str, Any] | None = None
    """None unless it was asked for."""

    def to_json(self) -> dict[str, Any]:
        """Return the body of `POST /decide`."""
        body: dict[str, Any] = {
            "decision_id": self.decision_id,
            "rules_version": self.rules_version,
            "degraded": list(self.degraded),
        }
        decision = self.event_decision
        if decision is not None:
            body["event"] = decision.to_json()
        personalization = self.personalization
        if personalization is not None:
            body["personalization"] = personalization.to_json()
        if self.profile is not None:
            body["profile"] = dict(self.profile)
        if self.trace is not None:
            body["trace"] = dict(self.trace)
        return body

    def to_event_json(self) -> dict[str, Any]:
        """Return the body of `POST /make-event-decision`."""
        event, decision = self.event, self.event_decision
        payload = event.parameters if decision is None else decision.apply_to(event)
        return {
            "status": self._status,
            "original_event_name": event.name,
            "resolved_event_payload": payload,
            "applied_modifications": decision.modifications if decision else (),
            "drop_event": decision.drop if decision else False,
            **self._identity,
        }

    def to_personalization_json(self) -> dict[str, Any]:
        """Return the body of `POST /make-personalization-decision`."""
        personalization = self.personalization
        user_id = self.event.parameters.get("user_id")
        return {
            "status": self._status,
            "user_id": user_id if isinstance(user_id, str) else None,
            "triggered_actions": list(personalization.actions) if personalization else [],
            "reason": personalization.reason if personalization else "NO_MATCH",
            **self._identity,
        }

    @property
    def _status(self) -> str:
        return "degraded" if self.degraded else "success"

    @property
    def _identity(self) -> dict[str, Any]:
        return {
            "decision_id": self.decision_id,
            "rules_version": self.rules_version,
            "degraded": list(self.degraded),
        }


def also_degraded(body: bytes, missing: str) -> bytes:
    """Return an answer, in whichever shape, that says what could not be had besides."""
    answer = msgspec.json.decode(body)
    answer["degraded"] = sorted({*answer["degraded"], missing})
    if "status" in answer:
        answer["status"] = "degraded"
    return msgspec.json.encode(answer)
