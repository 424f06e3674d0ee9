"""When each attribute was set: what is older never overwrites what is newer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tagstitch.core.values import same


@dataclass(frozen=True, slots=True)
class AttributeStatement:
    """What somebody says about a profile's attributes."""

    values: Mapping[str, Any]
    at: datetime | None = None
    """When they were set; None says that they hold now."""
    times: Mapping[str, datetime] = field(default_factory=dict)
    """Attribute -> when it was set, where that differs from `at`."""

    def time_of(self, name: str, *, now: datetime) -> datetime | None:
        """Return when the attribute was set, never a time to come: it would win for ever."""
        at = self.times.get(name, self.at)
        return None if at is None else min(at, now)


@dataclass(frozen=True, slots=True)
class MergedAttributes:
    """A profile's attributes after a statement."""

    values: dict[str, Any]
    times: dict[str, datetime]
    """As stored in `attribute_times`: an attribute without an entry was set at `created_at`."""
    older: int
    """Values that were not taken, or not removed, because the stored ones are newer."""


def merge_attributes(
    stored: Mapping[str, Any], said: AttributeStatement, *, now: datetime, replace: bool = False
) -> MergedAttributes:
    """Return the attributes of the profile document `stored` after the statement.

    Of two values the one that was set later stays; of the same time, the statement's. A dated
    statement of the stored value moves its time, or an older value that arrives late would win.
    `replace` also removes what the statement does not name.
    """
    values = dict(stored.get("attributes") or {})
    times = _known_times(stored)
    set_at = times_of(stored)
    older = 0
    for name, value in said.values.items():
        at, before = said.time_of(name, now=now), set_at.get(name)
        is_same = name in values and same(values[name], value)
        if is_same and (at is None or (before is not None and at <= before)):
            continue
        if at is not None and before is not None and at < before:
            older += 1
            continue
        values[name] = value
        times[name] = at or max(now, before or now)
    if replace:
        until = None if said.at is None else min(said.at, now)
        for name in values.keys() - said.values.keys():
            before = set_at.get(name)
            if until is not None and before is not None and until < before:
                older += 1
            else:
                del values[name]
    return MergedAttributes(values, _worth_storing(times, values, stored), older)


def times_of(stored: Mapping[str, Any]) -> dict[str, datetime]:
    """Return attribute -> when it was set, for all whose time is known."""
    created_at = stored.get("created_at")
    known = dict.fromkeys(stored.get("attributes") or {}, created_at)
    known |= _known_times(stored)
    return {name: at for name, at in known.items() if isinstance(at, datetime)}


def _known_times(stored: Mapping[str, Any]) -> dict[str, datetime]:
    times = stored.get("attribute_times")
    entries = times.items() if isinstance(times, Mapping) else ()
    attributes = stored.get("attributes") or {}
    return {n: at for n, at in entries if isinstance(at, datetime) and n in attributes}


def _worth_storing(
    times: Mapping[str, datetime], values: Mapping[str, Any], stored: Mapping[str, Any]
) -> dict[str, datetime]:
    """Return the times of the attributes that are left, but for those that `created_at` says."""
    created_at = stored.get("created_at")
    return {name: at for name, at in times.items() if name in values and at != created_at}
