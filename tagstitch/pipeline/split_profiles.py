"""Splitting profiles: undoing a merge, or taking one identifier out, in one commit."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from tagstitch.core.audit import AuditRecord
from tagstitch.core.contribution import (
    Contributions,
    distant_contributors,
    held_contributions,
    read_contribution,
    unmergeable_traits,
)
from tagstitch.core.errors import Conflict, InvalidInput, Unavailable
from tagstitch.core.identity_graph import SALT_BYTES, links_expiry
from tagstitch.core.identity_limits import LINK_LOG_DAYS
from tagstitch.core.link_log import LinkEntry, entry_id, pointer_id, read_entry, time_of_change
from tagstitch.core.profile import Profile, parse_profile
from tagstitch.core.profile_split import Merge, Split, former_ids_of, split_profile
from tagstitch.core.profile_traits import TraitDefinitions
from tagstitch.pipeline.backend import Backend, Delete, Document, Put, Write
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.idempotency import IdempotencyMark
from tagstitch.pipeline.keyring import Keyring, own_profile_id
from tagstitch.pipeline.link_log import entries_of
from tagstitch.pipeline.own_places import lead_to, put_as_read, salts_in
from tagstitch.pipeline.publish_audit import AuditPublisher, encode_record
from tagstitch.pipeline.renew_links import renewed_links

_ATTEMPTS_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class SplitResult:
    """What a split did."""

    stays: str
    """The id of the profile that the identifiers left."""
    leaves: str
    """The id of the profile that they have now."""
    moved: tuple[str, ...]
    record_id: str
    left_out: tuple[str, ...] = ()
    """Traits whose stored states somebody edited: they could not be computed anew, as far as
    several identifiers contributed to them."""

    def to_json(self) -> dict[str, Any]:
        """Return it as the command prints it."""
        return {
            "stays": self.stays,
            "leaves": self.leaves,
            "moved": list(self.moved),
            "record_id": self.record_id,
            **({"left_out": list(self.left_out)} if self.left_out else {}),
        }


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which identifiers are to leave which profile, and where they go."""

    together: Profile
    keys: frozenset[str]
    target: str
    merge: Merge | None
    found: Mapping[str, Document]


class ProfileSplitter:
    """Takes profiles apart, and records it."""

    def __init__(
        self,
        backend: Backend,
        keyring: Keyring,
        *,
        audit: AuditPublisher,
        definitions: TraitDefinitions,
        log_days: int = LINK_LOG_DAYS,
    ) -> None:
        self._backend = backend
        self._keyring = keyring
        self._audit = audit
        self._definitions = definitions
        self._log_days = log_days

    async def undo_merge(
        self, record_id: str, *, merged_id: str | None = None, deadline: Deadline
    ) -> SplitResult:
        """Undo the merge of an audit record; raises InvalidInput when there is none to undo.

        `merged_id` says which profile leaves where one event merged several.
        """
        entry = await self._merge_entry(record_id, deadline=deadline)
        gone = merged_id or next(iter(entry.merged))
        if gone not in entry.merged or (merged_id is None and len(entry.merged) > 1):
            raise InvalidInput(
                "invalid_field", "this event merged several profiles: say which one leaves",
                "merged_id", "one of: " + ", ".join(entry.merged),
            )  # fmt: skip
        merge = Merge(entry.committed_at, gone, entry.merged[gone], entry.survivor)
        keys = frozenset(merge.gone.get("identifiers") or ())

        async def want() -> _Wanted:
            found = await self._read(f"profiles/{gone}", deadline)
            alias = found.get(f"profiles/{gone}")
            survivor_id = alias.fields.get("merged_into") if alias is not None else None
            lived_since = await self._has_lived_since(gone, merge.at, deadline=deadline)
            if not isinstance(survivor_id, str) or lived_since:
                raise InvalidInput("invalid_field", "this merge was undone already", "record_id")
            together, more = await self._together(survivor_id, keys, deadline, merge)
            both = _as_one_read(found, more)
            if not keys & together.identifiers.keys() and gone not in together.former_ids:
                raise InvalidInput("invalid_field", "nobody is known there any more", "record_id")
            return _Wanted(together, keys, gone, merge, both)

        return await self._split(want, deadline)

    async def take_out(self, key: str, *, deadline: Deadline) -> SplitResult:
        """Give one identifier a profile of its own; raises InvalidInput when it cannot leave."""
        place = own_profile_id(key)

        async def want() -> _Wanted:
            found = await self._read(f"profiles/{place}", deadline)
            alias = found.get(f"profiles/{place}")
            survivor_id = alias.fields.get("merged_into") if alias is not None else None
            if not isinstance(survivor_id, str):
                raise InvalidInput(
                    "invalid_field", "this identifier shares nobody's profile", "identifier",
                    "the identifier that a profile was created for stays: take out the others",
                )  # fmt: skip
            keys = frozenset((key,))
            together, more = await self._together(survivor_id, keys, deadline)
            if key not in together.identifiers:
                raise InvalidInput("invalid_field", "it is not linked there any more", "identifier")
            return _Wanted(together, keys, place, None, _as_one_read(found, more))

        return await self._split(want, deadline)

    async def _split(
        self, want: Callable[[], Awaitable[_Wanted]], deadline: Deadline
    ) -> SplitResult:
        for _ in range(_ATTEMPTS_MAX):
            try:
                return await self._commit(await want(), deadline=deadline)
            except Conflict:
                continue
        raise Unavailable("firestore", "too many concurrent changes of one visitor")

    async def _commit(self, wanted: _Wanted, *, deadline: Deadline) -> SplitResult:
        together, target = wanted.together, wanted.target
        now = time_of_change((together,), now=self._backend.clock())
        salt = salts_in((target,), wanted.found)[target]
        contributions = self._contributions(wanted)
        left_out = unmergeable_traits(contributions.values())
        split = split_profile(
            together,
            wanted.keys,
            merge=wanted.merge,
            contributions=contributions,
            now=now,
            salt=salt if isinstance(salt, bytes) else os.urandom(SALT_BYTES),
        )
        links = split.leaves["identifiers"]
        moved = tuple(links)
        led = {*map(own_profile_id, links), *split.leaves.get("former_ids", ())}
        versions = {path: document.version for path, document in wanted.found.items()}
        writes: list[Write] = [
            put_as_read(f"profiles/{together.profile_id}", split.stays, versions),
            put_as_read(f"profiles/{target}", split.leaves, versions),
            *lead_to(
                target,
                links,
                versions,
                salts=salts_in(led, wanted.found),
                expires_at=links_expiry(split.leaves),
            ),
            # Whose own place is the profile needs no record of the link, and the old one misleads.
            *(Delete(f"identifiers/{key}") for key in links if own_profile_id(key) == target),
        ]
        writes += _contribution_writes(contributions, split)
        writes += await renewed_links(
            self._backend.documents,
            together.profile_id,
            together.fields,
            split.stays,
            written=[write.path for write in writes],
            deadline=deadline,
        )
        key = self._keyring.derived_id("split", together.profile_id, target, now.isoformat())
        record_id = f"split_{key}"
        for home, other, arrives in (
            (together.profile_id, target, False),
            (target, together.profile_id, True),
        ):
            fields = _log(home, other, moved, record_id=record_id, is_arrival=arrives, now=now)
            fields["expires_at"] = now + timedelta(days=self._log_days)
            writes.append(Put(f"links/{entry_id(home, now, key)}", fields, ""))
        record = AuditRecord(
            record_id=record_id,
            record_type="identity_split",
            occurred_at=now,
            outcome="split",
            subject=self._keyring.pseudonym(together.profile_id),
            degraded=("traits",) if left_out else (),
            extra={
                "reason": "MERGE_UNDONE" if wanted.merge else "IDENTIFIER_TAKEN_OUT",
                "moved": [moved_key.partition(":")[0] for moved_key in moved],
            },
        )
        mark = IdempotencyMark(key, record_id)
        result = SplitResult(together.profile_id, target, moved, record_id, left_out)
        writes.append(mark.put([record], result.to_json(), now=now, replaces=None))
        await self._backend.documents.commit(writes, deadline=deadline)
        await self._audit.publish_committed(
            [encode_record(record)], path=mark.path, deadline=deadline
        )
        return result

    def _contributions(self, wanted: _Wanted) -> Contributions:
        """Return every contribution to the profile's traits, as today's definitions have it."""
        held = held_contributions(wanted.together.fields)
        documents = {
            key: wanted.found.get(f"contributions/{key}")
            for key in distant_contributors(wanted.together.fields)
        }
        distant = {
            key: read_contribution(document.fields if document is not None else {})
            for key, document in documents.items()
        }
        both = {**held, **distant}
        return {key: each.current(self._definitions) for key, each in both.items()}

    async def _merge_entry(self, record_id: str, *, deadline: Deadline) -> LinkEntry:
        documents = self._backend.documents
        pointer = await documents.get(f"links/{pointer_id(record_id)}", deadline=deadline)
        path = f"links/{pointer.fields.get('entry')}" if pointer is not None else None
        stored = await documents.get(path, deadline=deadline) if path is not None else None
        entry = read_entry(stored.path.partition("/")[2], stored.fields) if stored else None
        if entry is None or entry.kind != "merge":
            raise InvalidInput(
                "invalid_field", "no merge is known by this record", "record_id",
                "the audit's record_id of a row of type identity_merge",
            )  # fmt: skip
        return entry

    async def _has_lived_since(self, gone: str, at: datetime, *, deadline: Deadline) -> bool:
        """Return whether a merged profile was on its own again: an alias has no entries.

        Merged into somebody else since, it would get from there what it never brought.
        """
        entries = await entries_of(self._backend.documents, gone, deadline=deadline)
        return any((entry.committed_at, entry.is_arrival) > (at, False) for entry in entries)

    async def _together(
        self,
        survivor_id: str,
        keys: frozenset[str],
        deadline: Deadline,
        merge: Merge | None = None,
    ) -> tuple[Profile, Mapping[str, Document]]:
        """Return the profile that they are in, with what leads to those that leave."""
        path = f"profiles/{survivor_id}"
        places = {f"profiles/{own_profile_id(key)}" for key in keys} - {path}
        found = await self._backend.documents.get_many([path, *sorted(places)], deadline=deadline)
        document = found.get(path)
        fields = document.fields if document is not None else {}
        profile = parse_profile(survivor_id, fields, now=self._backend.clock()) if fields else None
        if profile is None or profile.merged_into is not None:
            raise InvalidInput("invalid_field", "nobody is known there any more", "record_id")
        further = [f"contributions/{key}" for key in distant_contributors(profile.fields)]
        if merge is not None:
            further += [f"profiles/{former}" for former in former_ids_of(profile, merge)]
        if further:
            more = await self._backend.documents.get_many(further, deadline=deadline)
            found = {**found, **more}
        return profile, found

    async def _read(self, path: str, deadline: Deadline) -> dict[str, Document]:
        document = await self._backend.documents.get(path, deadline=deadline)
        return {} if document is None else {path: document}


def _as_one_read(
    first: Mapping[str, Document], second: Mapping[str, Document]
) -> dict[str, Document]:
    """Return the documents of both reads; raises Conflict when one changed between the two.

    The commit would hold for what was read last, and say what was read first.
    """
    for path in first.keys() & second.keys():
        if first[path].version != second[path].version:
            raise Conflict("the profile was changed between two reads")
    return {**first, **second}


def _contribution_writes(contributions: Contributions, split: Split) -> list[Write]:
    """Return the writes after which each contribution lies where its profile looks for it.

    Nobody changes contributions without the profile: its precondition holds for them too.
    """
    if len(contributions) <= 1:
        return []
    writes: list[Write] = []
    for fields in (split.stays, split.leaves):
        distant = distant_contributors(fields)
        writes += [
            Put(f"contributions/{key}", contributions[key].to_fields(fields)) for key in distant
        ]
        writes += [Delete(f"contributions/{key}") for key in held_contributions(fields)]
    return writes


def _log(
    home: str, other: str, moved: Sequence[str], *, record_id: str, is_arrival: bool, now: datetime
) -> dict[str, Any]:
    return {
        "kind": "split",
        "profile_id": home,
        "record_id": record_id,
        "moved": list(moved),
        "other_id": other,
        "is_arrival": is_arrival,
        "occurred_at": now,
        "committed_at": now,
    }
