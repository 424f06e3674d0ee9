"""The link log: what was linked, merged and split, and from it what the graph said at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, Literal

from tagstitch.core.attribute_times import times_of
from tagstitch.core.document_id import is_document_id
from tagstitch.core.identity_graph import Resolution
from tagstitch.core.limits import CLOCK_SKEW_S
from tagstitch.core.profile import Profile
from tagstitch.core.stored_values import stored_map, stored_text, stored_texts, stored_time

LinkKind = Literal["link", "merge", "split"]

_RESTORED: Final = (
    "identifiers", "attributes", "attribute_times", "state", "caps", "assignments", "consent",
    "demoted", "merges", "former_ids", "created_at",
)  # fmt: skip
"""What a split needs of a profile as it was."""

_NEEDED: Final[Mapping[str, Mapping[str, type]]] = {
    "link": {"linked": list},
    "merge": {"linked": list, "merged": Mapping, "survivor": Mapping},
    "split": {"moved": list, "other_id": str},
}
"""What an entry of each kind says."""

_VALUES: Final = ("attributes", "state", "assignments")
"""Fields of a profile whose values one profile brings to a merge, by name."""

_KEY_LISTS: Final = ("linked", "demoted", "moved")
"""Fields of an entry that list identifiers' keys."""

_MOMENT: Final = re.compile(r"[0-9]{17}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECONDS_MAX: Final = 200_000_000_000_000_000
"""Until the year 8307: an id that somebody wrote must not overflow."""


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
    demoted_for: Mapping[str, str] = field(default_factory=dict)
    """Identifier key -> why it was kept apart."""
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
            if key in stored_map(document.get("identifiers")):
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
        "demoted_for": {node.key: node.demoted_for for node in resolution.demoted},
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
    step = timedelta(microseconds=1)  # taken off first: somebody may have written the year 9999
    after = [min(at, latest - step) + step for at in written if isinstance(at, datetime)]
    return max([now, *after])


def home_of(entry_id: str) -> str | None:
    """Return the profile in whose log an entry stands, which its id says; None for a pointer."""
    home, *rest = entry_id.rsplit("~", 2)
    return home if len(rest) == 2 and _MOMENT.fullmatch(rest[0]) else None


def read_entry(entry_id: str, fields: Mapping[str, Any]) -> LinkEntry | None:
    """Return the entry of a stored document, or None for another kind of document.

    Of one that somebody edited or cut, the id still says whose it is and since when; what else it
    does not say any more counts as not said.
    """
    home = home_of(entry_id)
    if home is None:
        return None
    merged = merged_documents(fields)
    kind: LinkKind = "merge" if merged else "split" if fields.get("moved") else "link"
    if fields.get("kind") in ("link", "merge", "split"):
        kind = fields["kind"]
    other_id = stored_text(fields.get("other_id"))
    return LinkEntry(
        entry_id,
        kind,
        home,
        stored_time(fields.get("committed_at")) or moment_of(entry_id),
        record_id=stored_text(fields.get("record_id")),
        linked=stored_texts(fields.get("linked")),
        demoted_for={k: str(why) for k, why in stored_map(fields.get("demoted_for")).items()},
        merged=merged,
        survivor=stored_map(fields.get("survivor")),
        moved=stored_texts(fields.get("moved")),
        other_id=other_id if other_id is not None and is_document_id(other_id) else None,
        is_arrival=fields.get("is_arrival") is True,
    )


def is_damaged(entry_id: str, fields: Mapping[str, Any]) -> bool:
    """Return whether somebody edited or cut an entry, so that it does not say all that it said."""
    needed = _NEEDED.get(str(fields.get("kind")))
    return (
        needed is None
        or fields.get("profile_id") != home_of(entry_id)
        or not isinstance(fields.get("committed_at"), datetime)
        or not all(isinstance(fields.get(name), type_) for name, type_ in needed.items())
        or len(merged_documents(fields)) != len(stored_map(fields.get("merged")))
    )


def merged_documents(fields: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return what a stored entry says of merged profiles: id -> its document as it was."""
    merged = stored_map(fields.get("merged"))
    return {
        profile_id: document
        for profile_id, document in merged.items()
        if is_document_id(profile_id) and isinstance(document, Mapping)
    }


def forgotten(
    fields: Mapping[str, Any],
    *,
    profile_ids: AbstractSet[str],
    keys: AbstractSet[str],
    brought: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any] | None:
    """Return what changes in another profile's entry so that it says nothing of a person.

    `profile_ids` and `keys` are the person's, `brought` is what they brought to merges: it leaves
    the documents into which it was merged, too. Empty: the entry says nothing of the person. None:
    it has to go, since nothing else stands in it, or since somebody edited it so that nobody can
    say what does.
    """
    merged = fields.get("merged")
    if not (merged is None or isinstance(merged, Mapping)):
        return None
    if stored_text(fields.get("other_id")) in profile_ids:
        return None
    changed: dict[str, Any] = {}
    if merged:
        without = partial(_document_without, profile_ids=profile_ids, keys=keys, brought=brought)
        kept = {id_: without(each) for id_, each in merged.items() if id_ not in profile_ids}
        if not kept:
            return None
        changed = {"merged": kept, "survivor": without(fields.get("survivor"))}
        changed = {name: value for name, value in changed.items() if value != fields.get(name)}
    for name in _KEY_LISTS:
        listed = stored_texts(fields.get(name))
        if not keys.isdisjoint(listed):
            changed[name] = [key for key in listed if key not in keys]
    reasons = stored_map(fields.get("demoted_for"))
    if not keys.isdisjoint(reasons):
        changed["demoted_for"] = {key: why for key, why in reasons.items() if key not in keys}
    return changed


def brought_by(
    fields: Mapping[str, Any], *, profile_ids: AbstractSet[str], keys: AbstractSet[str]
) -> list[Mapping[str, Any]]:
    """Return what a person alone brought to the merge of an entry: documents of their profiles.

    Without what the survivor or another one had, too; and none that was others' as well.
    """
    documents = merged_documents(fields)
    others = [document for id_, document in documents.items() if id_ not in profile_ids]
    others.append(stored_map(fields.get("survivor")))
    return [
        {**document, **{kind: _not_of(document, kind, others) for kind in _VALUES}}
        for id_, document in documents.items()
        if id_ in profile_ids and stored_map(document.get("identifiers")).keys() <= keys
    ]


def _not_of(
    document: Mapping[str, Any], kind: str, others: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return those values of a document that came with none of the others."""
    return {
        name: value
        for name, value in stored_map(document.get(kind)).items()
        if not any(_is_of(name, value, kind, document, other) for other in others)
    }


def _document_without(
    document: object,
    *,
    profile_ids: AbstractSet[str],
    keys: AbstractSet[str],
    brought: Sequence[Mapping[str, Any]],
) -> object:
    """Return the document of a profile without a person who was part of it then."""
    if not isinstance(document, Mapping):
        return document
    identifiers = stored_map(document.get("identifiers"))
    former = stored_texts(document.get("former_ids"))
    demoted = stored_map(document.get("demoted"))
    was_part = not (keys.isdisjoint(identifiers) and profile_ids.isdisjoint(former))
    if not was_part and keys.isdisjoint(demoted):
        return document
    after = dict(document)
    for name, by_key in (("identifiers", identifiers), ("demoted", demoted)):
        if name in document:
            after[name] = {key: value for key, value in by_key.items() if key not in keys}
    if "former_ids" in document:
        after["former_ids"] = [id_ for id_ in former if id_ not in profile_ids]
    if not was_part:
        return after
    for name in _VALUES:
        if name in document:
            after[name] = _not_of(document, name, brought)
    if "attribute_times" in document:
        times = stored_map(document["attribute_times"])
        after["attribute_times"] = {
            each: at for each, at in times.items() if each in after.get("attributes", {})
        }
    return after


def _is_of(
    name: str, value: object, kind: str, document: Mapping[str, Any], other: Mapping[str, Any]
) -> bool:
    """Return whether a value of a document came with the other one: the same, set at the same time."""
    theirs = stored_map(other.get(kind))
    return (
        name in theirs
        and theirs[name] == value
        and (kind != "attributes" or times_of(document).get(name) == times_of(other).get(name))
    )


def moment_of(entry_id: str) -> datetime:
    """Return the time in the id of an entry."""
    microseconds = int(entry_id.rsplit("~", 2)[1])
    return _EPOCH + timedelta(microseconds=min(microseconds, _MICROSECONDS_MAX))


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
