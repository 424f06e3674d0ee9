"""Gates: what keeps a rule from applying, whatever its conditions say."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, Protocol

from tagstitch.core.consent import Consent, Purpose
from tagstitch.core.declarations import Declarations
from tagstitch.core.definition import Definition
from tagstitch.core.frequency_cap import FrequencyCap, parse_frequency_cap
from tagstitch.core.outbox_action import OutboxAction
from tagstitch.core.paths import Facts, Lookup, Path
from tagstitch.core.rollout import Rollout, parse_rollout
from tagstitch.core.schedule import Schedule, parse_schedule
from tagstitch.core.situation import Situation
from tagstitch.core.state_ledger import StateLedger
from tagstitch.core.targeting import take_purposes

GateReason = Literal[
    "NO_IDENTIFIER",
    "CONSENT_DENIED",
    "OUT_OF_SCHEDULE",
    "NOT_IN_ROLLOUT",
    "CAPPED",
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
        return () if self.rollout is None or self.rollout.by is None else (self.rollout.by,)

    @property
    def read_paths(self) -> tuple[Path, ...]:
        """Every path that the gates look at."""
        return tuple(path for path, _ in self.lookups)

    @property
    def cap_keys(self) -> tuple[str, ...]:
        """Under which names the uses stand that the cap counts."""
        cap = self.frequency_cap
        return () if cap is None else tuple(limit.key for limit in cap.limits)

    def closed(self, situation: Situation) -> GateReason | None:
        """Return the first closed gate of those that cost less than conditions."""
        if not all(map(situation.consent.allows, self.purposes)):
            return "CONSENT_DENIED"
        if self.schedule is not None and not self.schedule.is_open(situation.now):
            return "OUT_OF_SCHEDULE"
        return situation.obstacle if self.frequency_cap is not None else None

    def refused(self, situation: Situation, facts: Facts, ledger: StateLedger) -> GateReason | None:
        """Return the first closed gate of those that are asked once the conditions hold."""
        if self.rollout is not None:
            if self.rollout.by is None and situation.unavailable:
                return "UNAVAILABLE"
            if not self.rollout.includes(situation.subject, facts):
                return "NOT_IN_ROLLOUT"
        return None if ledger.allows(self.frequency_cap) else "CAPPED"


OPEN_GATES: Final = Gates()


class Purposeful(Protocol):
    """An action with purposes of its own."""

    @property
    def purposes(self) -> tuple[Purpose, ...]:
        """The purposes that the visitor must allow, all of them."""


def missing_purposes(action: Purposeful, consent: Consent) -> tuple[Purpose, ...]:
    """Return the purposes that keep an action from being done; some need a grant on record."""
    has = consent.allows
    if isinstance(action, OutboxAction) and action.needs_recorded_grant:
        has = consent.has_recorded_grant
    return tuple(purpose for purpose in action.purposes if not has(purpose))


_FIELDS: Final = ("schedule", "rollout", "frequency_cap", "purposes", "consent")


@cache
def _gates_of(purposes: tuple[Purpose, ...]) -> Gates:
    """Return the gates that ask for consent alone; all such rules share them."""
    return Gates(purposes) if purposes else OPEN_GATES


def parse_gates(
    fields: Definition,
    *,
    rule_id: str,
    rule_key: str,
    purposes_default: tuple[Purpose, ...],
    declared: Declarations,
) -> Gates:
    """Return the gates that a definition sets up; problems are noted.

    `rule_key` tells the rule from all others, also from those of the other kind.
    """
    if not fields.has_any(_FIELDS):  # nearly every rule
        return _gates_of(purposes_default)
    problems = fields.problems
    schedule = rollout = cap = None
    if (raw := fields.take("schedule")) is not None:
        schedule = parse_schedule(raw, fields.place("schedule"), problems)
    if (raw := fields.take("rollout")) is not None:
        place = fields.place("rollout")
        rollout = parse_rollout(raw, place, problems, rule_id=rule_id, declared=declared)
    if (raw := fields.take("frequency_cap")) is not None:
        place = fields.place("frequency_cap")
        cap = parse_frequency_cap(raw, place, problems, rule_key=rule_key)
    gates = Gates(take_purposes(fields, default=purposes_default), schedule, rollout, cap)
    return OPEN_GATES if gates == OPEN_GATES else gates
