"""Gates: what keeps a rule from applying, whatever its conditions say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from tagstitch.core.consent import Purpose, is_purpose
from tagstitch.core.definition import Definition
from tagstitch.core.frequency_cap import FrequencyCap, parse_frequency_cap
from tagstitch.core.limits import CONSENT_PURPOSES_MAX
from tagstitch.core.paths import Facts, Lookup, Path
from tagstitch.core.rollout import Rollout, parse_rollout
from tagstitch.core.schedule import Schedule, parse_schedule
from tagstitch.core.situation import Situation

GateReason = Literal[
    "NO_IDENTIFIER",
    "CONSENT_DENIED",
    "OUT_OF_SCHEDULE",
    "NOT_IN_ROLLOUT",
    "UNAVAILABLE",
]
"""Which gate is closed."""


@dataclass(frozen=True, slots=True)
class Gates:
    """The gates of one rule."""

    purposes: tuple[Purpose, ...] = ()
    """The purposes that the visitor must allow, all of them."""
    schedule: Schedule | None = None
    rollout: Rollout | None = None
    frequency_cap: FrequencyCap | None = None

    @property
    def lookups(self) -> tuple[tuple[Path, Lookup], ...]:
        """What the gates look at."""
        return self.rollout.lookups if self.rollout is not None else ()

    def closed(self, situation: Situation, facts: Facts) -> GateReason | None:
        """Return the first gate that is closed; the cap is asked last, when the conditions hold."""
        if not all(map(situation.consent.allows, self.purposes)):
            return "CONSENT_DENIED"
        if self.schedule is not None and not self.schedule.is_open(situation.now):
            return "OUT_OF_SCHEDULE"
        if self.rollout is not None:
            if situation.unavailable:
                return "UNAVAILABLE"
            if not self.rollout.includes(situation.subject, facts):
                return "NOT_IN_ROLLOUT"
        return situation.obstacle if self.frequency_cap is not None else None


OPEN_GATES: Final = Gates()


def parse_gates(
    fields: Definition, *, rule_key: str, purposes_default: tuple[Purpose, ...]
) -> Gates:
    """Return the gates that a definition sets up; problems are noted."""
    schedule = rollout = cap = None
    if (raw := fields.take("schedule")) is not None:
        schedule = parse_schedule(raw, fields.place("schedule"), fields.problems)
    if (raw := fields.take("rollout")) is not None:
        rollout = parse_rollout(raw, fields.place("rollout"), fields.problems, salt=rule_key)
    if (raw := fields.take("frequency_cap")) is not None:
        place = fields.place("frequency_cap")
        cap = parse_frequency_cap(raw, place, fields.problems, rule_key=rule_key)
    gates = Gates(parse_purposes(fields, purposes_default), schedule, rollout, cap)
    return OPEN_GATES if gates == OPEN_GATES else gates


def parse_purposes(fields: Definition, default: tuple[Purpose, ...]) -> tuple[Purpose, ...]:
    """Return what `purposes: [a, b]` or `consent: {purpose: a}` say, or the default."""
    raw = fields.take("purposes")
    consent = fields.take("consent")
    if consent is not None:
        if raw is not None:
            fields.problems.add(fields.place("consent"), "either purposes or consent")
        if not isinstance(consent, Mapping):
            hint = "consent: {purpose: a_purpose}"
            fields.problems.add(fields.place("consent"), "must be an object", hint)
            return ()
        raw = _consented(consent, fields)
    elif raw is None:
        return default
    purposes = [raw] if isinstance(raw, str) else raw
    is_list = isinstance(purposes, list) and 0 < len(purposes) <= CONSENT_PURPOSES_MAX
    if is_list and all(map(is_purpose, purposes)):
        return tuple(purposes)
    fields.problems.add(
        fields.place("purposes"), "needs the name of a purpose, or a list of names"
    )
    return ()


def _consented(consent: Mapping[Any, Any], fields: Definition) -> Any:
    inner = Definition(consent, fields.place("consent"), fields.problems)
    purposes = inner.require("purpose", "purposes")
    inner.refuse_rest()
    return purposes
