"""The visitor behind a profile's id, for what was decided earlier and is done now."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from tagstitch.core.erasure import is_tombstone
from tagstitch.core.profile import own_shape, parse_profile, survivor_id
from tagstitch.pipeline.backend import DocumentStore
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.visitor import NOBODY, Visitor

_READS_MAX: Final = 3
"""Aliases have depth 1, and a merge may happen between two reads."""


async def visitor_of_profile(
    documents: DocumentStore, profile_id: str, *, now: datetime, deadline: Deadline
) -> Visitor:
    """Return the visitor of a profile's id, or of the profile that it was merged into."""
    for _ in range(_READS_MAX):
        document = await documents.get(f"profiles/{profile_id}", deadline=deadline)
        if document is None:
            return NOBODY
        if is_tombstone(document.fields, now=now):
            return Visitor(None, document.version, is_erased=True)
        survivor = survivor_id(own_shape(document.fields))
        if survivor is None:
            profile = parse_profile(profile_id, document.fields, now=now)
            return Visitor(profile, document.version)
        profile_id = survivor
    return NOBODY
