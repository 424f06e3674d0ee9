"""Finding the visitor: identifiers to the one profile document, in as few reads as possible."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from tagstitch.core.document_id import is_document_id
from tagstitch.core.erasure import is_tombstone
from tagstitch.core.event import ANONYMOUS_TYPES
from tagstitch.core.identifier import Identifier, IdentitySettings, bare_identifiers
from tagstitch.core.identity_graph import GraphNode, IdentityGraph, resolve
from tagstitch.core.limits import PROFILE_HINTS_MAX
from tagstitch.core.profile import Profile, parse_profile
from tagstitch.core.quarantine import is_held
from tagstitch.pipeline.backend import Document, DocumentReader
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.identifier_places import (
    IdentifierPlaces,
    is_blocked,
    living_profile,
    profile_id_of,
)
from tagstitch.pipeline.keyring import Keyring, own_profile_id
from tagstitch.pipeline.own_places import still_leads
from tagstitch.pipeline.read_documents import read_documents

_FIRST_CANDIDATES: Final = 2
"""Identifiers whose documents the first read asks for: stronger ones are rarely unknown, and
each costs two document reads."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """What the store says about some identifiers."""

    profile: Profile | None
    version: str
    """Version of the profile's document; "" when there is none. Without a profile: of the expired
    document in the place where a new one would go."""
    is_erased: bool = False
    """Whether the identifiers lead to a tombstone: nobody may be created or remembered."""
    is_held: bool = False
    """Whether the first identifier recognises nobody, and no other one does: who it is cannot be
    told, and nobody may be created in its place."""
    matched: Identifier | None = None
    """The identifier that led to the profile; None when a document id did, or nothing."""
    riders: Mapping[str, Document] = field(default_factory=dict)
    """Other documents that were asked for in the same read, those that exist."""

    @property
    def is_nobody(self) -> bool:
        """Whether nothing is known, not even that somebody was erased."""
        return self.profile is None and not self.is_erased

    def knows_all(self, keys: Iterable[str]) -> bool:
        """Return whether every key is linked to this profile, or recorded as kept apart from it."""
        profile = self.profile
        if profile is None:
            return False
        return all(
            key in profile.identifiers or key in profile.demoted or key in profile.kept_apart
            for key in keys
        )


NOBODY: Final = Visitor(None, "")
HELD: Final = Visitor(None, "", is_held=True)


class VisitorFinder:
    """Finds profiles by identifier; remembers in this process where it found them."""

    def __init__(
        self, documents: DocumentReader, keyring: Keyring, settings: IdentitySettings
    ) -> None:
        self._documents = documents
        self._keyring = keyring
        self._places = IdentifierPlaces(keyring)
        self._settings = settings
        self._hints: OrderedDict[str, str] = OrderedDict()

    async def find(
        self,
        identifiers: Sequence[Identifier],
        *,
        now: datetime,
        deadline: Deadline,
        riders: Sequence[str] = (),
    ) -> Visitor:
        """Return the visitor of the first identifier that is known, in the order given.

        Not of one that stitching would keep apart from a stronger one, which nobody knows yet:
        whoever logs in for the first time is not the one who was there before. One read for a
        profile's primary identifier, two when an alias leads to another document, one when this
        process has followed it before. Documents at `riders` come with it.
        """
        if not identifiers:
            return await self._ride_alone(riders, deadline)
        hinted = await self._by_hint(identifiers[0], now=now, deadline=deadline, riders=riders)
        if hinted is not None:
            return hinted
        first, rest = identifiers[:_FIRST_CANDIDATES], identifiers[_FIRST_CANDIDATES:]
        places = dict.fromkeys((*self._places_of(first), *self._hinted(first)))
        found = await read_documents(self._documents, [*places, *riders], deadline=deadline)
        visitor = await self._first_known(first, found, now=now, deadline=deadline)
        starts_held = visitor.is_held
        if visitor.is_nobody and rest:
            more = await read_documents(self._documents, self._places_of(rest), deadline=deadline)
            visitor = await self._first_known(
                rest, {**found, **more}, stronger=first, now=now, deadline=deadline
            )
        if visitor.is_nobody:
            visitor = HELD if starts_held else self._vacancy(identifiers[0], found)
        if not riders:
            return visitor
        return replace(visitor, riders={path: found[path] for path in riders if path in found})

    async def find_bare(
        self, bare_id: str, *, asserted: bool, now: datetime, deadline: Deadline
    ) -> Visitor:
        """Return the visitor of an id of unknown type: a document id, else each declared type.

        Nobody for a blocked one. When nobody vouches for it, of the types that need nobody.
        """
        candidates = bare_identifiers(bare_id, self._settings)
        if not candidates:
            return NOBODY
        if not asserted:
            candidates = tuple(i for i in candidates if i.type in ANONYMOUS_TYPES)
        own_path = f"profiles/{bare_id}" if is_document_id(bare_id) else ""
        first, rest = candidates[:_FIRST_CANDIDATES], candidates[_FIRST_CANDIDATES:]
        paths = self._places_of(first)
        found = await read_documents(
            self._documents, [own_path, *paths] if own_path else paths, deadline=deadline
        )
        if own_path in found:
            visitor = await self._follow(found[own_path], now=now, deadline=deadline)
            if not visitor.is_nobody:
                return visitor
        for candidates in (first, rest):  # each stands for itself: they are one value
            if candidates is rest and candidates:
                found = await read_documents(
                    self._documents, self._places_of(rest), deadline=deadline
                )
            for candidate in candidates:
                visitor = await self._first_known([candidate], found, now=now, deadline=deadline)
                if not visitor.is_nobody:
                    return visitor
        return NOBODY

    def forget(self) -> None:
        """Forget where anybody was found, as a new process would."""
        self._hints.clear()

    def keys(self, identifiers: Iterable[Identifier]) -> list[str]:
        """Return the identifier keys, in the order given."""
        return [self._keyring.identifier_key(identifier) for identifier in identifiers]

    async def _ride_alone(self, riders: Sequence[str], deadline: Deadline) -> Visitor:
        if not riders:
            return NOBODY
        return Visitor(
            None, "", riders=await read_documents(self._documents, riders, deadline=deadline)
        )

    async def _by_hint(
        self,
        identifier: Identifier,
        *,
        now: datetime,
        deadline: Deadline,
        riders: Sequence[str],
    ) -> Visitor | None:
        """Return the visitor at the remembered profile, or None when that no longer holds."""
        key = self._keyring.identifier_key(identifier)
        profile_id = self._hints.get(key)
        if profile_id is None:
            return None
        path = f"profiles/{profile_id}"
        found = await read_documents(self._documents, [path, *riders], deadline=deadline)
        document = found.get(path)
        profile = parse_profile(profile_id, document.fields, now=now) if document else None
        if (
            profile is None
            or profile.merged_into
            or key not in profile.identifiers
            or is_held(profile, key, now=now)
        ):
            self._hints.pop(key, None)  # another request may have noticed it meanwhile
            return None
        assert document is not None  # noqa: S101 - a profile came from it
        present = {path: found[path] for path in riders if path in found}
        return Visitor(profile, document.version, riders=present, matched=identifier)

    async def _first_known(
        self,
        identifiers: Sequence[Identifier],
        found: dict[str, Document],
        *,
        stronger: Sequence[Identifier] = (),
        now: datetime,
        deadline: Deadline,
    ) -> Visitor:
        """Return the visitor of the first identifier that leads to a profile or to a tombstone.

        What is known of weaker ones is not asked for then: whoever was erased stays unknown.
        `stronger` are those that were asked before; `found` holds what was read for them, and gets
        what is read here.
        """
        place = found.get(self._places.place(identifiers[0]))
        profile = living_profile(place, now=now) if not stronger else None
        key = self._keyring.identifier_key(identifiers[0])
        if place is not None and profile is not None and not is_held(profile, key, now=now):
            return Visitor(profile, place.version, matched=identifiers[0])  # almost everybody
        documents, asked = found, {*found, *self._places_of(identifiers)}
        nodes = [self._places.node(identifier, documents, now) for identifier in stronger]
        for identifier in identifiers:
            tombstone = await self._follow_ways(
                identifier, documents, asked, now=now, deadline=deadline
            )
            if tombstone is not None:
                return Visitor(None, tombstone.version, is_erased=True)
            node = self._places.node(identifier, documents, now)
            nodes.append(node)
            if node.profile is None or node.is_held:
                continue
            self._remember(node.key, node.profile)
            if self._may_be_one(nodes, now):
                version = documents[f"profiles/{node.profile.profile_id}"].version
                return Visitor(node.profile, version, matched=identifier)
        return HELD if nodes[len(stronger)].is_held else NOBODY

    async def _follow_ways(
        self,
        identifier: Identifier,
        documents: dict[str, Document],
        asked: set[str],
        *,
        now: datetime,
        deadline: Deadline,
    ) -> Document | None:
        """Read on until the identifier leads to a living profile, or nowhere.

        Returns the tombstone that it leads to instead. What is read is added to `documents`; what
        is among `asked` is not read again.
        """
        if is_blocked(documents.get(self._places.place(identifier))):
            return None
        tried: set[str] = set()
        while untried := [p for p in self._places.ways(identifier, documents) if p not in tried]:
            path = untried[0]
            tried.add(path)
            if path not in asked:
                asked.add(path)
                document = await self._documents.get(path, deadline=deadline)
                if document is not None:
                    documents[path] = document
            present = documents.get(path)
            if present is not None and is_tombstone(present.fields, now=now):
                return present
            if living_profile(present, now=now) is not None:
                break
        if self._places.has_left(identifier, documents):
            ways = self._places.ways(identifier, documents)
            again = await read_documents(self._documents, ways, deadline=deadline)
            if any(each.version != documents[path].version for path, each in again.items()):
                documents |= again
                return await self._follow_ways(
                    identifier, documents, asked, now=now, deadline=deadline
                )
        return None

    def _may_be_one(self, nodes: Sequence[GraphNode], now: datetime) -> bool:
        """Return whether stitching would let the last identifier join the ones before it."""
        if len(nodes) == 1:
            return True
        resolution = resolve(IdentityGraph(tuple(nodes)), self._settings, at=now)
        return nodes[-1].profile in (resolution.before, *resolution.merged)

    async def _follow(self, document: Document, *, now: datetime, deadline: Deadline) -> Visitor:
        """Return the profile of a document, or the survivor that it was merged into."""
        profile = parse_profile(profile_id_of(document), document.fields, now=now)
        if profile is None:
            return Visitor(None, "", is_erased=is_tombstone(document.fields, now=now))
        if profile.merged_into is None:
            return Visitor(profile, document.version)
        survivor = await self._documents.get(f"profiles/{profile.merged_into}", deadline=deadline)
        if survivor is None:
            return NOBODY
        profile = parse_profile(profile_id_of(survivor), survivor.fields, now=now)
        if profile is not None and not still_leads(
            profile_id_of(document), document.fields, profile
        ):
            return NOBODY
        is_erased = profile is None and is_tombstone(survivor.fields, now=now)
        return Visitor(profile, survivor.version, is_erased)

    def _vacancy(self, primary: Identifier, found: Mapping[str, Document]) -> Visitor:
        """Return nobody, with what lies where the profile of this identifier would go."""
        place = found.get(self._places.place(primary))
        return NOBODY if place is None else Visitor(None, place.version)

    def _hinted(self, identifiers: Sequence[Identifier]) -> set[str]:
        """Return the paths where the weaker ones of these were found last."""
        keys = self.keys(identifiers[1:])
        return {f"profiles/{self._hints[key]}" for key in keys if key in self._hints}

    def _places_of(self, identifiers: Sequence[Identifier]) -> list[str]:
        return [self._places.place(identifier) for identifier in identifiers]

    def _remember(self, key: str, profile: Profile) -> None:
        if key not in profile.identifiers or profile.profile_id == own_profile_id(key):
            return  # in its own place it is found by one read anyway
        self._hints[key] = profile.profile_id
        self._hints.move_to_end(key)
        if len(self._hints) > PROFILE_HINTS_MAX:
            self._hints.popitem(last=False)
