"""A person in the store: every id and key that stands for them, found from one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from tagstitch.core.contribution import contributors
from tagstitch.core.errors import InvalidInput
from tagstitch.core.identifier import Identifier
from tagstitch.core.link_log import LinkEntry
from tagstitch.core.profile import Profile, is_erased, parse_profile, survivor_id, typed_profile
from tagstitch.core.quarantine import is_held
from tagstitch.pipeline.backend import Document, DocumentStore
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.keyring import Keyring, own_profile_id
from tagstitch.pipeline.link_log import entries_of
from tagstitch.pipeline.own_places import still_leads

_STEPS_MAX: Final = 5
"""Aliases that are followed behind each other; one, unless somebody wrote them by hand."""

_AT_ONCE: Final = 8
"""Logs that are read at once."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Who is meant: whoever this document is of, or leads to."""

    profile_id: str
    keys: tuple[str, ...] = ()
    """The key of the identifier that was named, if it was one."""

    @classmethod
    def by_identifier(cls, identifier: Identifier, keyring: Keyring) -> Asked:
        """Return the person of an identifier."""
        key = keyring.identifier_key(identifier)
        return cls(own_profile_id(key), (key,))


@dataclass(frozen=True, slots=True)
class Person:
    """Everything that stands for one person today."""

    profile: Profile | None
    """None when nobody is known."""
    profile_ids: tuple[str, ...]
    """The profile's id, those that lead to it, and those that its identifiers could have."""
    keys: tuple[str, ...]
    """The keys of all identifiers."""
    entries: tuple[LinkEntry, ...] = ()
    """The link log, oldest first."""
    found: Mapping[str, Document] = field(default_factory=dict)
    """Path -> the documents of `profile_ids` as they were read, those that exist."""


async def find_person(
    documents: DocumentStore, asked: Asked, *, now: datetime, deadline: Deadline
) -> Person:
    """Return whom the document leads to, also one who has expired; nobody behind a tombstone."""
    found: dict[str, Document] = {}
    chain = await _follow(documents, asked.profile_id, found, deadline)
    home = chain[-1]
    document = found.get(f"profiles/{home}")
    profile = None
    if document is not None and not is_erased(document.fields):
        profile = typed_profile(home, document.fields, now=now)
        profile = profile if profile.merged_into is None else None
    keys = tuple(dict.fromkeys((*asked.keys, *_keys_of(profile))))
    logs: dict[str, list[LinkEntry]] = {}
    unread = set(chain)
    former = profile.former_ids if profile is not None else ()
    more = {*map(own_profile_id, keys), *former} - unread
    while unread or more:
        unread |= await _leading(documents, more, home, found, now=now, deadline=deadline)
        read = await _logs(documents, unread, deadline)
        logs |= read
        merged = {id_ for log in read.values() for entry in log for id_ in entry.merged}
        unread, more = set(), merged - logs.keys()
    entries = [entry for log in logs.values() for entry in log]
    return Person(
        profile,
        (home, *sorted(logs.keys() - {home})),
        keys,
        tuple(sorted(entries, key=lambda entry: (entry.committed_at, entry.entry_id))),
        found,
    )


async def refuse_held(
    documents: DocumentStore, asked: Asked, *, now: datetime, deadline: Deadline
) -> None:
    """Raise InvalidInput where the identifier that was named recognises nobody today.

    The profile that a kiosk's id is linked to is that of whoever was there first, and not of
    whoever asks for their data.
    """
    found: dict[str, Document] = {}
    home = (await _follow(documents, asked.profile_id, found, deadline))[-1]
    document = found.get(f"profiles/{home}")
    profile = typed_profile(home, document.fields) if document is not None else None
    if profile is not None and any(is_held(profile, key, now=now) for key in asked.keys):
        raise InvalidInput(
            "invalid_field", "held or blocked: whose it is cannot be told", "identifier",
            "another identifier of the person, or `tagstitch identity review release` first",
        )  # fmt: skip


async def _follow(
    documents: DocumentStore, profile_id: str, found: dict[str, Document], deadline: Deadline
) -> list[str]:
    """Return the ids on the way to the profile; add what was read to `found`."""
    chain = [profile_id]
    while len(chain) <= _STEPS_MAX:
        document = await documents.get(f"profiles/{chain[-1]}", deadline=deadline)
        if document is None:
            break
        if len(chain) > 1 and _is_another_life(document, chain, found):
            chain.pop()
            break
        found[document.path] = document
        survivor = survivor_id(document.fields)
        if survivor is None or survivor in chain:
            break
        chain.append(survivor)
    return chain


def _is_another_life(home: Document, chain: Sequence[str], found: Mapping[str, Document]) -> bool:
    """Return whether the last of these ids is that of a profile younger than what leads there."""
    if survivor_id(home.fields) is not None or is_erased(home.fields):
        return False
    place, home_id = chain[-2:]
    alias = found[f"profiles/{place}"].fields
    return not still_leads(place, alias, typed_profile(home_id, home.fields))


def _keys_of(profile: Profile | None) -> list[str]:
    return [] if profile is None else [*profile.identifiers, *contributors(profile.fields)]


async def _leading(
    documents: DocumentStore,
    profile_ids: Collection[str],
    home: str,
    found: dict[str, Document],
    *,
    now: datetime,
    deadline: Deadline,
) -> set[str]:
    """Return those ids that lead to this profile, or to nobody: others' places are theirs."""
    read = await documents.get_many(profile_paths(sorted(profile_ids)), deadline=deadline)

    def leads(profile_id: str) -> bool:
        document = read.get(f"profiles/{profile_id}")
        if document is None:
            return True
        survivor = survivor_id(document.fields)
        if survivor is not None:
            return survivor == home
        return parse_profile(profile_id, document.fields, now=now) is None

    leading = {profile_id for profile_id in profile_ids if leads(profile_id)}
    found |= {path: read[path] for path in profile_paths(leading) if path in read}
    return leading


async def find_relatives(
    documents: DocumentStore, person: Person, *, deadline: Deadline
) -> tuple[str, ...]:
    """Return the other profiles that were ever one with the person's, or with such a one, sorted.

    Whoever left a profile may have come to it with one that was merged into it, and identifiers
    that stay may be those of one that left: each of their logs tells of what it was.
    """
    own = set(person.profile_ids)
    relatives: set[str] = set()
    unread = _named(person.entries) - own
    while unread:
        relatives |= unread
        read = await _logs(documents, unread, deadline)
        unread = {id_ for log in read.values() for id_ in _named(log)} - relatives - own
    return tuple(sorted(relatives))


def _named(entries: Iterable[LinkEntry]) -> set[str]:
    """Return the profiles that these entries name beside the one whose log they stand in."""
    merged = {id_ for entry in entries for id_ in entry.merged}
    return merged | {entry.other_id for entry in entries if entry.other_id is not None}


async def _logs(
    documents: DocumentStore, profile_ids: Collection[str], deadline: Deadline
) -> Mapping[str, list[LinkEntry]]:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(profile_id: str) -> list[LinkEntry]:
        async with slots:
            return await entries_of(documents, profile_id, deadline=deadline)

    ordered = sorted(profile_ids)
    logs = await asyncio.gather(*map(one, ordered))
    return dict(zip(ordered, logs, strict=True))


def profile_paths(profile_ids: Iterable[str]) -> list[str]:
    """Return the paths of profiles' documents."""
    return [f"profiles/{profile_id}" for profile_id in profile_ids]
