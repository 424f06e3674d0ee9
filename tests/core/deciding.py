"""Deciding in tests: a situation from an event and a profile, and the core's decision."""

from __future__ import annotations

from typing import Any, Final

from msgspec import structs

from tagstitch.core.consent import Consent, resolve_consent
from tagstitch.core.decision import Decision, decide
from tagstitch.core.event import Event
from tagstitch.core.event_decision import EventDecision
from tagstitch.core.personalization import PersonalizationDecision
from tagstitch.core.profile import Profile
from tagstitch.core.rule_book import RuleBook
from tagstitch.core.situation import Situation

GRANTED: Final = resolve_consent(requested=None, event=None, profile=None, default_granted=True)

NOON: Final = 1_795_348_800.0
"""2026-11-22 12:00:00 UTC, a Sunday, in seconds since 1970."""


def situation_of(
    event: Event, profile: Profile | None = None, *, consent: Consent = GRANTED, **fields: Any
) -> Situation:
    """Return the situation of this event; without consent the profile stays out of it."""
    if profile is None or not consent.allows("analytics_storage"):
        profile = Profile("p_new")
    subject = profile.profile_id if consent.allows("analytics_storage") else None
    return Situation(
        event=event,
        consent=consent,
        **{
            "now": NOON,
            "attributes": profile.attributes,
            "state": profile.state,
            "caps": profile.caps,
            "assignments": profile.assignments,
            "subject": subject,
            **fields,
        },
    )


def decide_both(
    event: Event,
    book: RuleBook,
    profile: Profile | None = None,
    *,
    explain: bool = False,
    **fields: Any,
) -> Decision:
    """Return the whole decision; `fields` are those of the situation."""
    return decide(situation_of(event, profile, **fields), book, explain=explain)


def outcome(decision: Decision) -> Decision:
    """Return what was decided, without the actions that did it: each rule book has its own."""
    event = decision.event
    return structs.replace(
        decision, event=event and structs.replace(event, effects=(), imagined=())
    )


def decide_event(*arguments: Any, **fields: Any) -> EventDecision:
    """Return the event's part of the decision."""
    decision = decide_both(*arguments, **fields).event
    assert decision is not None
    return decision


def decide_personalization(*arguments: Any, **fields: Any) -> PersonalizationDecision:
    """Return the visitor's part of the decision."""
    decision = decide_both(*arguments, **fields).personalization
    assert decision is not None
    return decision
