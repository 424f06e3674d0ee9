"""The link log: what was linked, merged and split, and from it what the graph said at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from tagstitch.core.identity_graph import Resolution
from tagstitch.core.limits import CLOCK_SKEW_S
from tagstitch.core.profile import Profile

LinkKind = Literal["link", "merge", "split"]

_RESTORED: Final = (
    "identifiers", "attributes", "attribute_times", "state", "caps", "assignments", "consent",
    "demoted", "merges", "former_ids", "created_at",
)  # fmt: skip
"""What a split needs of a profile as it was."""


@dataclass(frozen=True, slots=True)
class LinkEntry:
    """One change of the graph; it belongs to the log of one profile."""

    entry_id: str
    kind: LinkKind
    profile_id: str
    committed_at: datetime
    record_id: str | None = None
    """The audit record that tells of it."""
    linked: tuple[str, ...] = ()
    """Identifier keys that joined without a profile."""
    merged: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Id of each profile that was merged into this one -> its document as it was."""
    survivor: Mapping[str, Any] = field(default_factory=dict)
    """This profile's document as it was before the merge."""
    moved: tuple[str, ...] = ()
    """Identifier keys that a split moved."""
    other_id: str | None = None
    """The other profile of a split: where they went, or where they came from."""
    is_arrival: bool = False
    """Whether a split brought them here."""

    def brought(self, key: str) -> bool:
        """Return whether the identifier came to this profile by it."""
        return (
            key in self.linked
            or (self.is_arrival and key in self.moved)
            or self.origin(key) is not None
        )

    def origin(self, key: str) -> str | None:
        """Return the profile from which it brought the identifier; None when that had none."""
        if self.kind == "split":
            return self.other_id if self.is_arrival and key in self.moved else None
        for profile_id, document in self.merged.items():
            if key in (document.get("identifiers") or {}):
                return profile_id
        return None


def log_prefix(profile_id: str) -> str:
    """Return how the ids of a profile's entries begin; in their order they are ascending in time."""
    return f"{profile_id}~"


def entry_id(profile_id: str, at: datetime, key: str) -> str:
    """Return the id of an entry; `key` tells entries of one moment apart."""
    return f"{log_prefix(profile_id)}{int(at.timestamp() * 1e6):017d}~{key}"


def pointer_id(record_id: str) -> str:
    """Return the id of the document that leads from an audit record to its entry."""
    return f"record~{record_id}"


def change_fields(
    resolution: Resolution, *, record_id: str, occurred_at: datetime, now: datetime, days: int
) -> dict[str, Any]:
    """Return the entry of what one request changed; a merge holds what an undo needs."""
    merged = {profile.profile_id: snapshot(profile) for profile in resolution.merged}
    before = resolution.before
    return {
        "kind": "merge" if merged else "link",
        "profile_id": resolution.profile_id,
        "record_id": record_id,
        "created": resolution.is_new,
        "linked": [node.key for node in resolution.linked],
        "demoted": [node.key for node in resolution.demoted],
        "occurred_at": occurred_at,
        "committed_at": now,
        "expires_at": now + timedelta(days=days),
        **({"merged": merged, "survivor": snapshot(before)} if merged and before else {}),
    }


def snapshot(profile: Profile) -> dict[str, Any]:
    """Return what a split needs of a profile; never its salt."""
    return {name: profile.fields[name] for name in _RESTORED if name in profile.fields}


def time_of_change(profiles: Iterable[Profile], *, now: datetime) -> datetime:
    """Return when a change of these profiles counts as made: after whatever was written of them.

    `now` was read before them, or by another clock than the one that they were written by. A log
    out of order would tell of a past that never was.
    """
    latest = now + timedelta(seconds=CLOCK_SKEW_S)
    written = (profile.fields.get("updated_at") for profile in profiles)
    after = [
        min(at + timedelta(microseconds=1), latest) for at in written if isinstance(at, datetime)
    ]
    return max([now, *after])


def read_entry(entry_id: str, fields: Mapping[str, Any]) -> LinkEntry | None:
    """Return the entry of a stored document, or None for another kind of document."""
    kind, at = fields.get("kind"), fields.get("committed_at")
    if kind not in ("link", "merge", "split") or not isinstance(at, datetime):
        return None
    return LinkEntry(
        entry_id,
        kind,
        str(fields.get("profile_id")),
        at,
        record_id=fields.get("record_id"),
        linked=tuple(fields.get("linked") or ()),
        merged=fields.get("merged") or {},
        survivor=fields.get("survivor") or {},
        moved=tuple(fields.get("moved") or ()),
        other_id=fields.get("other_id"),
        is_arrival=fields.get("is_arrival") is True,
    )


def arrival(entries: Iterable[LinkEntry], key: str, *, before: datetime | None) -> LinkEntry | None:
    """Return the last entry that brought an identifier to the profile whose log this is.

    `before` leaves out what came at that time or later.
    """
    found: Sequence[LinkEntry] = [
        entry
        for entry in entries
        if entry.brought(key) and (before is None or entry.committed_at < before)
    ]
    return max(found, key=lambda entry: (entry.committed_at, entry.entry_id), default=None)
