"""Consent: which purposes a visitor allows, and which source said so."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, Literal

from tagstitch.core.errors import InvalidInput
from tagstitch.core.event import Event
from tagstitch.core.fields import optional_object
from tagstitch.core.limits import CONSENT_PURPOSES_MAX
from tagstitch.core.profile import Profile, is_grant

Purpose = str
"""One of Google's consent types, or a name that the project chose for its own purpose."""

AD_STORAGE: Final = "ad_storage"
ANALYTICS_STORAGE: Final = "analytics_storage"
"""Looking up and writing a profile needs it."""
AD_USER_DATA: Final = "ad_user_data"
AD_PERSONALIZATION: Final = "ad_personalization"
"""Personalization needs it, unless the rule names purposes of its own."""

CONSENT_MODE_PURPOSES: Final = (AD_STORAGE, ANALYTICS_STORAGE, AD_USER_DATA, AD_PERSONALIZATION)
"""In the order of the pairs in `x-ga-gcd`."""

ConsentSource = Literal["request", "event", "profile", "default"]

_PURPOSE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")

# https://github.com/analytics-debugger/gtm-template-server-side-google-consent-parser
_GCD_ALPHABET: Final = string.digits + string.ascii_lowercase + string.ascii_uppercase + "-_"
_GCD: Final = re.compile(r"1[0-9a-zA-Z_-]*")
_GCD_DENIED: Final = "m"
_GCD_STATES: Final[Mapping[int, bool | None]] = {1: None, 2: False, 3: True}

_ALL_DENIED: Final = MappingProxyType(dict.fromkeys(CONSENT_MODE_PURPOSES, False))


@dataclass(frozen=True, slots=True)
class Consent:
    """What one visitor allows at this moment."""

    decided: Mapping[Purpose, bool]
    """What the request, the event or the profile says; other purposes follow the default."""
    sources: Mapping[Purpose, ConsentSource]
    """Which of them said it; the same keys as `decided`."""
    default_granted: bool
    recorded_grants: frozenset[Purpose] = frozenset()
    """Granted in the profile and not denied by the current request."""

    def allows(self, purpose: Purpose) -> bool:
        """Return whether something may be done for this purpose."""
        return self.decided.get(purpose, self.default_granted)

    def has_recorded_grant(self, purpose: Purpose) -> bool:
        """Return whether the profile itself holds a grant that still stands.

        E-mail and CRM need this one: neither the default nor a signal of the event is enough.
        """
        return purpose in self.recorded_grants

    @property
    def denied_by_request(self) -> frozenset[Purpose]:
        """The purposes that the current request or its event denies; to be recorded."""
        return frozenset(
            purpose
            for purpose, granted in self.decided.items()
            if not granted and self.sources[purpose] in ("request", "event")
        )

    def to_record(self, *asked: Purpose) -> dict[str, dict[str, Any]]:
        """Return purpose -> {granted, source} for the audit column `consent`.

        It holds what the current request signalled and the purposes `asked` for.
        """
        signalled = (p for p, source in self.sources.items() if source in ("request", "event"))
        return {
            purpose: {
                "granted": self.allows(purpose),
                "source": self.sources.get(purpose, "default"),
            }
            for purpose in sorted({*signalled, *asked})
        }


def resolve_consent(
    *,
    requested: Mapping[str, object] | None,
    event: Event | None,
    profile: Profile | None,
    default_granted: bool,
) -> Consent:
    """Return the consent that holds for one request.

    The first source that says anything about a purpose decides: the request's own object, the
    event's signals, the profile, the default. A denial anywhere in the current request wins over
    a grant in it. A signal that cannot be read is a denial.
    """
    decided: dict[str, bool] = {}
    sources: dict[str, ConsentSource] = {}
    if requested:
        _take(decided, sources, _explicit(requested), "request")
    if event is not None:
        for signal in _event_signals(event.parameters):
            _take(decided, sources, signal, "event")
    denied_now = {purpose for purpose, granted in decided.items() if not granted}
    stored = _stored(profile) if profile is not None else {}
    for purpose, granted in stored.items():
        if purpose not in decided:
            decided[purpose], sources[purpose] = granted, "profile"
    recorded = frozenset(p for p, granted in stored.items() if granted and p not in denied_now)
    return Consent(decided, sources, default_granted, recorded)


def was_denied(profile: Profile, purpose: Purpose, *, since: datetime) -> bool:
    """Return whether the profile holds a denial of that time or later; a tie is one.

    What an event granted is not recorded and stands until then.
    """
    said = profile.consent.get(purpose)
    if said is None or is_grant(said.get("granted")):
        return False
    at = said.get("at")
    return not isinstance(at, datetime) or at >= since


def is_purpose(name: object) -> bool:
    """Return whether this can be the name of a purpose."""
    return isinstance(name, str) and _PURPOSE.fullmatch(name) is not None


def decode_gcd(gcd: object) -> Mapping[Purpose, bool]:
    """Return what `x-ga-gcd` says; purposes that it leaves unset are missing.

    After the first character come pairs, one a purpose, whose second character carries two bits
    of default and two bits of update: 1 unset, 2 denied, 3 granted. An update decides over the
    default. What is too short or unreadable is a denial.
    """
    if not isinstance(gcd, str) or not _GCD.fullmatch(gcd):
        return _ALL_DENIED
    explicit = gcd[2::2].ljust(len(CONSENT_MODE_PURPOSES), _GCD_DENIED)
    said = {}
    for purpose, letter in zip(CONSENT_MODE_PURPOSES, explicit, strict=False):
        bits = _GCD_ALPHABET.index(letter)
        default = _GCD_STATES.get((bits >> 2) & 3, False)
        update = _GCD_STATES.get(bits & 3, False)
        granted = default if update is None else update
        if granted is not None:
            said[purpose] = granted
    return said


def decode_gcs(gcs: object) -> Mapping[Purpose, bool]:
    """Return what `x-ga-gcs` says: `G1`, then a digit for ads and one for analytics.

    A hyphen in place of a digit means that the purpose was never set.
    """
    if not isinstance(gcs, str) or len(gcs) != 4 or not gcs.startswith("G1"):
        return _ALL_DENIED
    states = zip((AD_STORAGE, ANALYTICS_STORAGE), gcs[2:], strict=True)
    return {purpose: digit == "1" for purpose, digit in states if digit != "-"}


def _event_signals(parameters: Mapping[str, Any]) -> Iterator[Mapping[Purpose, bool]]:
    system = parameters.get("x-sst-system_properties")
    consent = system.get("consent") if isinstance(system, Mapping) else None
    if isinstance(consent, Mapping):
        consent = consent.get("consentGrantedState", consent)
    for state in (consent, parameters.get("consent_state")):
        if state is not None:
            yield _explicit(state)
    gcd = parameters.get("x-ga-gcd")
    if gcd is not None:
        yield decode_gcd(gcd)
    gcs = parameters.get("x-ga-gcs")
    if gcs is not None:
        yield decode_gcs(gcs)


def _explicit(state: object) -> Mapping[Purpose, bool]:
    """Return what an object purpose -> state says; of unknown purposes only the first few."""
    if not isinstance(state, Mapping):
        return _ALL_DENIED
    said = {p: is_grant(state[p]) for p in CONSENT_MODE_PURPOSES if p in state}
    if state and not any(is_purpose(purpose) for purpose in islice(state, CONSENT_PURPOSES_MAX)):
        return _ALL_DENIED  # a signal that names no purpose cannot be read
    for purpose, value in islice(state.items(), CONSENT_PURPOSES_MAX):
        if is_purpose(purpose):
            said[purpose] = is_grant(value)
    return said


def parse_consent(raw: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the field `consent` of a request, or None when it has none.

    Raises InvalidInput for a name that cannot be a purpose and for more purposes than a profile
    holds: what a caller says about consent is never half understood.
    """
    consent = optional_object(raw, "consent")
    if consent is None:
        return None
    if len(consent) > CONSENT_PURPOSES_MAX or not all(map(is_purpose, consent)):
        raise InvalidInput(
            "invalid_field", f"must name at most {CONSENT_PURPOSES_MAX} purposes", "consent",
            'for example {"analytics_storage": true}',
        )  # fmt: skip
    return consent


def _stored(profile: Profile) -> Mapping[Purpose, bool]:
    return {
        purpose: is_grant(value.get("granted") if isinstance(value, Mapping) else value)
        for purpose, value in profile.consent.items()
    }


def _take(
    decided: dict[str, bool],
    sources: dict[str, ConsentSource],
    said: Mapping[Purpose, bool],
    source: ConsentSource,
) -> None:
    for purpose, granted in said.items():
        if purpose not in decided or (decided[purpose] and not granted):
            decided[purpose], sources[purpose] = granted, source
