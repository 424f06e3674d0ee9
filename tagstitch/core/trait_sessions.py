"""How many sessions: different session ids, and gaps of silence where events have none.

Without ids a part keeps in which ten minutes of which day somebody was there. A session begins
where nobody was there for half an hour before, whatever order the events come in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tagstitch.core.limits import TRAIT_SESSION_DAYS_MAX
from tagstitch.core.trait_distinct import (
    distinct_bytes,
    keep_hash,
    read_distinct,
    unite_hashes,
)
from tagstitch.core.trait_terms import Reading, Terms

Part = Mapping[str, Any]
"""`ids`: packed hashes of session ids; `days`: day -> a bit for each ten minutes."""

_SLOT_US: Final = 10 * 60 * 1_000_000
_SLOTS_PER_DAY: Final = 24 * 6
_SLOTS_OF_SILENCE: Final = 3
"""Empty slots between two sessions: 30 minutes for certain. Silences of 30 to 40 minutes may pass
for none."""

_DAYS_MAX: Final = 366_000
"""Days between two events, a thousand years: an edited day must not fill the memory."""

_DAY_BYTES: Final = 8 + _SLOTS_PER_DAY // 8


def keep_session(value: str | None, at: int, ordinal: int) -> Part:
    """Return the part of one event, which has a session id or None."""
    if value is not None:
        return {"ids": keep_hash(value, at, ordinal), "days": {}}
    day, slot = divmod(at // _SLOT_US, _SLOTS_PER_DAY)
    return {"ids": b"", "days": {str(day): _packed(1 << slot)}}


def unite_sessions(one: Part, other: Part, terms: Terms) -> Part:
    """Return both together; days long before the newest one are dropped."""
    days = dict(one["days"])
    for day, slots in other["days"].items():
        days[day] = _packed(_bits(slots) | _bits(days.get(day, b"")))
    if days:  # also where there are few: what is kept must not depend on the order of merges
        oldest = max(map(int, days)) - TRAIT_SESSION_DAYS_MAX
        days = {day: slots for day, slots in days.items() if int(day) > oldest}
    return {"ids": unite_hashes(one["ids"], other["ids"], terms), "days": days}


def read_sessions(parts: Sequence[Part], reading: Reading) -> int:
    """Return how many sessions there are in all parts together."""
    ids = read_distinct([part["ids"] for part in parts], reading)
    days: dict[int, int] = {}
    for part in parts:
        for day, slots in part["days"].items():
            days[int(day)] = days.get(int(day), 0) | _bits(slots)
    return ids + _starts(days)


def sessions_bytes(terms: Terms) -> int:
    """Return the most bytes of a part."""
    days = TRAIT_SESSION_DAYS_MAX
    if terms.window.bucket_s:
        days = min(days, terms.window.bucket_s // 86_400 + 2)
    return 16 + distinct_bytes(terms) + days * _DAY_BYTES


def _starts(days: Mapping[int, int]) -> int:
    """Return how many slots follow a silence."""
    if not days:
        return 0
    first = min(days)
    if max(days) - first > _DAYS_MAX:
        raise ValueError("days that no events can be apart")
    active = 0
    for day, bits in days.items():
        active |= bits << ((day - first) * _SLOTS_PER_DAY)
    recent = 0
    for slots in range(1, _SLOTS_OF_SILENCE + 1):
        recent |= active << slots
    return (active & ~recent).bit_count()


def _bits(packed: bytes) -> int:
    return int.from_bytes(packed, "little")


def _packed(bits: int) -> bytes:
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")
