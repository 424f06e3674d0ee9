"""The quarantine in the store: what is written and recorded when identifiers meet profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tagstitch.core.audit import AuditRecord
from tagstitch.core.identity_graph import IdentityGraph, type_of
from tagstitch.core.quarantine import Meeting, quarantine_fields
from tagstitch.core.stitch_request import StitchRequest
from tagstitch.pipeline.backend import Patch, Put, Write
from tagstitch.pipeline.keyring import Keyring


def met_links(met: Sequence[Meeting], profile_id: str) -> dict[str, Any]:
    """Return the links of one profile's identifiers that change."""
    return {meeting.key: dict(meeting.link) for meeting in met if meeting.home == profile_id}


def meeting_writes(
    met: Sequence[Meeting],
    graph: IdentityGraph,
    versions: Mapping[str, str],
    *,
    survivor_id: str,
    now: datetime,
) -> list[Write]:
    """Return the writes besides that of the surviving profile, which has its own links already.

    A profile from which an identifier is kept apart keeps everything else: nobody was there.
    """
    writes: list[Write] = []
    others = {node.profile.profile_id: node.profile for node in graph.nodes if node.profile}
    for home in dict.fromkeys(meeting.home for meeting in met if meeting.home != survivor_id):
        path = f"profiles/{home}"
        links = {**others[home].identifiers, **met_links(met, home)}
        writes.append(Patch(path, {"identifiers": links}, if_version=versions[path]))
    for meeting in met:
        if meeting.held_from:
            fields = quarantine_fields(meeting, type_=type_of(meeting.key), now=now)
            writes.append(Put(f"quarantine/{meeting.key}", fields))
    return writes


def held_records(
    met: Sequence[Meeting],
    request: StitchRequest,
    keyring: Keyring,
    mark_key: str,
    *,
    now: datetime,
) -> tuple[AuditRecord, ...]:
    """Return a record of each identifier that is held from now on."""
    return tuple(
        AuditRecord(
            record_id=f"held_{keyring.derived_id('held', meeting.key, mark_key)}",
            record_type="identity_blocked",
            occurred_at=now,
            event_at=request.occurred_at,
            outcome="held",
            request_id=request.request_id,
            subject=keyring.pseudonym(meeting.home),
            extra={
                "reason": "QUARANTINED",
                "type": type_of(meeting.key),
                "profiles": len(meeting.held_from),
            },
        )
        for meeting in met
        if meeting.held_from
    )
