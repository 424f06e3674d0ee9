"""Renewing links: what leads to a profile must not expire before it.

A profile's expiry moves with every commit; those of its aliases, records of links and
contributions follow about once a month, when the profile's own would pass them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tagstitch.core.contribution import distant_contributors
from tagstitch.core.identity_graph import links_expiry
from tagstitch.core.profile import typed_profile
from tagstitch.pipeline.backend import Document, DocumentStore, Patch, Write
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.keyring import own_profile_id
from tagstitch.pipeline.read_documents import read_documents


async def renewed_links(
    documents: DocumentStore,
    profile_id: str,
    before: Mapping[str, Any] | None,
    fields: Mapping[str, Any],
    *,
    written: Iterable[str] = (),
    deadline: Deadline,
) -> list[Write]:
    """Return the writes after which all that leads to a profile expires when its document says.

    `before` and `fields` are the profile's document as it was and as it will be; nearly always
    nothing has to be renewed, and nothing is read. `written` are the paths that the same commit
    writes anyway. Each write holds only while its document is as it was read.
    """
    until, stood = links_expiry(fields), links_expiry(before or {})
    if before is None or until is None or (stood is not None and until <= stood):
        return []
    paths = sorted({*_leading(profile_id, fields)} - {*written})
    found = await read_documents(documents, paths, deadline=deadline)
    return [
        # Contributions may be large, and fifty of them larger than one commit.
        Patch(path, {"expires_at": until}, if_version=document.version)
        for path, document in found.items()
        if _leads_to(profile_id, document)
    ]


def _leading(profile_id: str, fields: Mapping[str, Any]) -> Iterable[str]:
    """Return the paths of all that leads to a profile, and of what it holds elsewhere."""
    profile = typed_profile(profile_id, fields)
    linked = [key for key in profile.identifiers if own_profile_id(key) != profile_id]
    yield from (
        f"profiles/{place}" for place in (*map(own_profile_id, linked), *profile.former_ids)
    )
    yield from (f"identifiers/{key}" for key in linked)
    yield from (f"contributions/{key}" for key in distant_contributors(fields))


def _leads_to(profile_id: str, document: Document) -> bool:
    """Return whether it is still the profile's; a blocked identifier's alias never expires."""
    collection, fields = document.path.partition("/")[0], document.fields
    if collection == "profiles":
        return fields.get("merged_into") == profile_id and "blocked_at" not in fields
    return collection == "contributions" or fields.get("profile_id") == profile_id
