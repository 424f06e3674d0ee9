"""The state ledger: what one decision changes in its visitor's document, as its rules apply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from tagstitch.core.cap_uses import read_times
from tagstitch.core.frequency_cap import FrequencyCap, own_key
from tagstitch.core.limits import OUTBOX_ENTRIES_MAX
from tagstitch.core.outbox_entry import OutboxEntry
from tagstitch.core.situation import Situation
from tagstitch.core.values import same
from tagstitch.core.work import Work

_SENT_TIMES: Final = 2
"""Times kept of an action that is done once per window."""


@dataclass(frozen=True, slots=True)
class StateChanges:
    """What a decision wants stored, in one commit or not at all."""

    state: Mapping[str, Any] = field(default_factory=dict)
    caps: Mapping[str, Sequence[float]] = field(default_factory=dict)
    assignments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    outbox: tuple[OutboxEntry, ...] = ()

    def __bool__(self) -> bool:
        """Return whether there is anything to store."""
        return bool(self.state or self.caps or self.assignments or self.outbox)


NO_CHANGES: Final = StateChanges()


class StateLedger(msgspec.Struct, gc=False):
    """The visitor's state while rules apply: a later rule sees what an earlier one changed."""

    work: Work
    _now: float
    _can_commit: bool
    state: Mapping[str, Any]
    caps: Mapping[str, Sequence[float]]
    has_withheld: bool = False
    """Whether a rule did nothing because its change could not be stored."""
    _changed_state: dict[str, Any] = {}
    _changed_caps: dict[str, Sequence[float]] = {}
    _assignments: dict[str, Mapping[str, Any]] = {}
    _outbox: list[OutboxEntry] = []

    @property
    def _moment(self) -> datetime:
        return _moment(self._now)

    def allows(self, cap: FrequencyCap | None) -> bool:
        """Return whether a rule with this cap may apply once more."""
        return cap is None or cap.allows(self.caps, self._now)

    def changed(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return the part of the wanted state that is not so already."""
        return {key: value for key, value in wanted.items() if not same(self.state.get(key), value)}

    def may_commit(self) -> bool:
        """Return whether a change can be stored; what asks in vain counts as withheld."""
        self.has_withheld = self.has_withheld or not self._can_commit
        return self._can_commit

    def use(self, cap: FrequencyCap | None) -> None:
        """Count one use of a cap."""
        if cap is not None:
            self._note_uses(cap.record(self.caps, self._now))

    def _note_uses(self, used: Mapping[str, Sequence[float]]) -> None:
        if used:
            self._changed_caps |= used
            self.caps = {**self.caps, **used}

    def write(self, changes: Mapping[str, Any]) -> None:
        """Change the state."""
        if changes:
            self._changed_state |= changes
            self.state = {**self.state, **changes}

    def assign(self, experiment_id: str, assignment: Mapping[str, Any]) -> None:
        """Keep the variant of an experiment."""
        self._assignments[experiment_id] = assignment

    def was_sent(self, entry: OutboxEntry) -> bool:
        """Return whether the same was sent before in the entry's window."""
        window = entry.window(self._moment)
        if window is None:
            return False
        times = read_times(self.caps, sent_key(entry.action_key))
        # A list that nobody can read may hide that it was: better once too little.
        return times is None or any(entry.window(_moment(time)) == window for time in times)

    def may_send(self, entries: Sequence[OutboxEntry]) -> bool:
        """Return whether there is room for so much more; what asks in vain counts as withheld."""
        has_room = len(self._outbox) + len(entries) <= OUTBOX_ENTRIES_MAX
        self.has_withheld = self.has_withheld or not has_room
        return has_room

    def send(self, entries: Sequence[OutboxEntry]) -> None:
        """Let something be done outside, once the decision is stored."""
        self._outbox += entries
        for entry in entries:
            if entry.window(self._moment) is not None:
                key = sent_key(entry.action_key)
                # The one before stays: the next decision's clock may still be in its window.
                before = read_times(self.caps, key) or []
                self._note_uses({key: sorted([*before, self._now])[-_SENT_TIMES:]})

    def changes(self) -> StateChanges:
        """Return everything to store."""
        if not (self._changed_state or self._changed_caps or self._assignments or self._outbox):
            return NO_CHANGES
        return StateChanges(
            self._changed_state, self._changed_caps, self._assignments, tuple(self._outbox)
        )


def open_ledger(situation: Situation) -> StateLedger:
    """Return the ledger of one decision, with nothing changed yet."""
    return StateLedger(
        Work(situation.work_steps),
        situation.now,
        situation.can_commit,
        situation.state,
        situation.caps,
    )


def sent_key(action_key: str) -> str:
    """Return the cap under which the visitor's document keeps when an action was done."""
    return own_key(f"action:{action_key}")


def _moment(time: float) -> datetime:
    return datetime.fromtimestamp(time, UTC)
