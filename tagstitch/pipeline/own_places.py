"""Own places: the documents by which identifiers lead to a profile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from tagstitch.core.identity_graph import alias_fields, identifier_fields
from tagstitch.core.profile import Profile
from tagstitch.pipeline.backend import Document, Put, Write
from tagstitch.pipeline.keyring import own_profile_id


def lead_to(
    profile_id: str,
    links: Mapping[str, Mapping[str, Any]],
    versions: Mapping[str, str],
    *,
    salts: Mapping[str, object],
    expires_at: datetime | None,
) -> list[Write]:
    """Return the writes after which identifiers, and the ids of other profiles, lead to a profile.

    `links` are identifier keys with when they were seen. `salts` are the places that were a
    profile, or led to one, with the salt that their alias keeps. Everything holds only while the
    places are as they were read, and until `expires_at`.
    """
    blocked = {own_profile_id(key): link.get("blocked_at") for key, link in links.items()}
    writes: list[Write] = [
        put_as_read(
            f"profiles/{place}",
            alias_fields(
                profile_id,
                expires_at=expires_at,
                salt=salts.get(place),
                blocked_at=blocked.get(place),
            ),
            versions,
        )
        for place in sorted({*salts, *blocked} - {profile_id})
    ]
    # Each of these has its alias, or the profile that was there, as its precondition.
    writes += [
        Put(f"identifiers/{key}", identifier_fields(key, profile_id, link, expires_at=expires_at))
        for key, link in links.items()
        if own_profile_id(key) != profile_id
    ]
    return writes


def salts_in(places: Iterable[str], found: Mapping[str, Document]) -> dict[str, object]:
    """Return the salt that lies in each of these places, None where there is none."""
    documents = {place: found.get(f"profiles/{place}") for place in places}
    return {
        place: document.fields.get("salt") if document is not None else None
        for place, document in documents.items()
    }


def former_ids(survivor: Profile, merged: Iterable[Profile]) -> list[str]:
    """Return the ids that lead to several profiles besides the places of their identifiers.

    An id that an import chose is the place of no identifier: without a list nobody would find its
    alias when the survivor is merged in its turn, or erased.
    """
    found = set(survivor.former_ids)
    for profile in merged:
        found.update(profile.former_ids)
        if profile.profile_id not in map(own_profile_id, profile.identifiers):
            found.add(profile.profile_id)
    return sorted(found)


def still_leads(place: str, alias: Mapping[str, Any], home: Profile) -> bool:
    """Return whether an alias leads to this profile, and not to an earlier one of the same id.

    An alias outlives its profile by some weeks, and the id is somebody's again when its identifier
    comes back: a profile knows what leads to it. One without an expiry was written by hand, unless
    it is that of a blocked identifier.
    """
    if "expires_at" not in alias and "blocked_at" not in alias:
        return True
    return place in map(own_profile_id, home.identifiers) or place in home.former_ids


def put_as_read(path: str, fields: Mapping[str, Any], versions: Mapping[str, str]) -> Put:
    """Return the write that holds only while the document is as it was read, or still missing."""
    return Put(path, fields, if_version=versions.get(path, ""))
