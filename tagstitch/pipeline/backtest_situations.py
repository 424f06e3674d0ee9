"""Situations for a backtest: from recorded events, with the profiles of an export beside them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tagstitch.core.consent import ANALYTICS_STORAGE, resolve_consent
from tagstitch.core.event import identify_event, parse_event
from tagstitch.core.identifier import IdentitySettings
from tagstitch.core.profile import Profile
from tagstitch.core.situation import Situation
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.profile_line import ProfileLine, parse_profile_line


class SituationMaker:
    """Makes situations as decide would, of a caller who vouches for the event's identifiers."""

    def __init__(
        self, keyring: Keyring, settings: IdentitySettings, *, consent_default_granted: bool
    ) -> None:
        self._keyring = keyring
        self._settings = settings
        self._consent_default_granted = consent_default_granted
        self._profiles: dict[str, Profile] = {}

    def add_profile(self, raw: object) -> None:
        """Take one line of a profile export or import; raises InvalidInput."""
        line = parse_profile_line(raw, self._settings, self._keyring)
        profile = _profile_of(line)
        for key in line.identifier_keys:
            self._profiles.setdefault(key, profile)

    def situation(self, parameters: Mapping[str, Any], *, at: datetime) -> Situation:
        """Return the situation of an event at this moment; raises InvalidInput.

        State and caps are empty: an export has none.
        """
        event = parse_event(parameters)
        identifiers = identify_event(event, self._settings, asserted=True)
        keys = [self._keyring.identifier_key(identifier) for identifier in identifiers]
        profile = next((self._profiles[key] for key in keys if key in self._profiles), None)
        consent = resolve_consent(
            requested=None,
            event=event,
            profile=profile,
            default_granted=self._consent_default_granted,
        )
        if not consent.allows(ANALYTICS_STORAGE):
            profile, subject = None, None
        elif profile is not None:
            subject = profile.profile_id
        else:
            subject = self._keyring.profile_id(identifiers[0]) if identifiers else None
        return Situation(
            event=event,
            consent=consent,
            now=at.timestamp(),
            attributes=profile.attributes if profile is not None else {},
            subject=subject,
            has_identifier=bool(identifiers),
        )


def _profile_of(line: ProfileLine) -> Profile:
    consent = {purpose: {"granted": said.granted} for purpose, said in line.consent.items()}
    return Profile(line.profile_id, line.attributes, consent=consent)
