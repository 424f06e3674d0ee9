"""Identifier places: where identifiers lead, in documents that were read already."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tagstitch.core.erasure import is_tombstone
from tagstitch.core.identifier import Identifier
from tagstitch.core.identity_graph import GraphNode
from tagstitch.core.profile import Profile, own_shape, parse_profile, survivor_id, typed_profile
from tagstitch.core.quarantine import is_held
from tagstitch.pipeline.backend import Document
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.own_places import still_leads


class IdentifierPlaces:
    """Tells from documents where identifiers lead; reads nothing itself."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def ways(self, identifier: Identifier, found: Mapping[str, Document]) -> list[str]:
        """Return the paths of the profiles that an identifier leads to, the first living counts.

        Its own place comes first: a profile lies there, or an alias of the one that it was linked
        to. Paths that were not read yet are among them.
        """
        ways = [self.place(identifier)]
        document = found.get(ways[0])
        survivor = survivor_id(document.fields) if document else None
        if survivor is not None:
            ways.append(f"profiles/{survivor}")
        return ways

    def has_left(self, identifier: Identifier, found: Mapping[str, Document]) -> bool:
        """Return whether the profile that its alias leads to does not have the identifier.

        It left between the two reads, or the alias is older than the profile.
        """
        ways = self.ways(identifier, found)
        home = found.get(ways[-1]) if len(ways) > 1 else None
        if home is None:
            return False
        if self._keyring.identifier_key(identifier) in own_shape(home.fields)["identifiers"]:
            return False  # almost everybody
        profile = typed_profile(profile_id_of(home), home.fields)
        return not still_leads(profile_id_of(found[ways[0]]), found[ways[0]].fields, profile)

    def place(self, identifier: Identifier) -> str:
        """Return the path of the document that tells where an identifier's profile is."""
        return f"profiles/{self._keyring.profile_id(identifier)}"

    def node(
        self, identifier: Identifier, found: Mapping[str, Document], now: datetime
    ) -> GraphNode:
        """Return the identifier with the living profile that it leads to."""
        key = self._keyring.identifier_key(identifier)
        ways = self.ways(identifier, found)
        profile = living_profile(found.get(ways[-1]), now=now)
        if len(ways) > 1 and self.has_left(identifier, found):
            profile = None
        held = (
            is_blocked(found.get(ways[0]))
            or self.erased_at(identifier, found, now) is not None
            or (profile is not None and is_held(profile, key, now=now))
        )
        return GraphNode(identifier, key, self._keyring.profile_id(identifier), profile, held)

    def erased_at(
        self, identifier: Identifier, found: Mapping[str, Document], now: datetime
    ) -> datetime | None:
        """Return when the person of an identifier was erased, or None."""
        led_to = (found.get(path) for path in self.ways(identifier, found))
        for document in led_to:
            if document is not None and is_tombstone(document.fields, now=now):
                erased_at = document.fields["erased_at"]
                return erased_at if isinstance(erased_at, datetime) else now
        return None


def living_profile(document: Document | None, *, now: datetime) -> Profile | None:
    """Return the profile of a document, unless it has expired, is an alias or was erased."""
    if document is None:
        return None
    profile = parse_profile(profile_id_of(document), document.fields, now=now)
    return None if profile is None or profile.merged_into else profile


def is_blocked(place: Document | None) -> bool:
    """Return whether a review blocked the identifier whose own place this is."""
    return place is not None and "blocked_at" in place.fields and "merged_into" in place.fields


def profile_id_of(document: Document) -> str:
    """Return the id of the profile that a document is, or stands for."""
    return document.path.partition("/")[2]
