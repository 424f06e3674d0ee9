"""What one stitch request changes: the documents of profile, identifiers, contributions, log."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tagstitch.core.consent import CONSENT_MODE_PURPOSES, Consent
from tagstitch.core.contribution import (
    FAILED,
    UNCOUNTED,
    Contributions,
    CountedEvent,
    TraitEvent,
    count_event,
    distant_contributors,
    held_contributions,
    merge_contributors,
    read_contribution,
)
from tagstitch.core.identity_graph import SALT_BYTES, GraphNode, Resolution, profile_fields
from tagstitch.core.profile import Profile, is_grant, update_consent
from tagstitch.core.profile_traits import TraitDefinitions
from tagstitch.core.quarantine import Meeting
from tagstitch.core.stitch_request import StitchRequest
from tagstitch.core.stitch_result import StitchResult
from tagstitch.pipeline.backend import Put, Write
from tagstitch.pipeline.keyring import own_profile_id
from tagstitch.pipeline.link_log import log_writes
from tagstitch.pipeline.load_graph import LoadedGraph
from tagstitch.pipeline.log_events import TraitFoldFailed, log_crash
from tagstitch.pipeline.own_places import former_ids, lead_to, put_as_read, salts_in
from tagstitch.pipeline.quarantine import meeting_writes, met_links


@dataclass(frozen=True, slots=True)
class StitchSituation:
    """One stitch request and what was read for it."""

    request: StitchRequest
    loaded: LoadedGraph
    definitions: TraitDefinitions
    now: datetime
    met: Sequence[Meeting] = ()


@dataclass(frozen=True, slots=True)
class StitchChange:
    """What the request changes in the documents of one profile."""

    resolution: Resolution
    """What of the graph may change: nothing without consent."""
    fields: Mapping[str, Any] | None = None
    """The profile's whole document; None when it stays."""
    contributions: Contributions | None = None
    counted: CountedEvent = UNCOUNTED
    is_update: bool = False
    """Whether the graph or the consent changes, and not traits alone."""


def places_to_change(result: StitchResult) -> set[str]:
    """Return the documents that the changes overwrite or look at, besides the request's own."""
    resolution, person = result.resolution, result.person
    places = {
        f"profiles/{place}"
        for profile in resolution.merged
        for place in (*map(own_profile_id, profile.identifiers), *profile.former_ids)
    }
    strongest = resolution.strongest
    distant = distant_contributors(person.fields) if person is not None else ()
    if strongest is not None and strongest.key in distant:
        places.add(f"contributions/{strongest.key}")
    for node in resolution.held:
        if node.profile is not None and node.key in distant_contributors(node.profile.fields):
            places.add(f"contributions/{node.key}")
    return places


def change_of(situation: StitchSituation, result: StitchResult, consent: Consent) -> StitchChange:
    """Return what the request changes; a denial is recorded, and nothing else."""
    request, now = situation.request, situation.now
    resolution, person = result.resolution, result.person
    if result.is_erased:
        return StitchChange(resolution)
    if not result.may_link:
        person = resolution.before
        profile_id = person.profile_id if person is not None else None
        resolution = Resolution("unchanged", profile_id, person)
    consent_update = _consent_update(request, consent, person)
    is_update = consent_update is not None or resolution.changes_graph
    event = request.event if result.may_link else None
    if resolution.profile_id is None or not (is_update or event):
        return StitchChange(resolution)
    fields = profile_fields(
        resolution,
        person,
        consent=consent_update,
        seen_at=request.occurred_at,
        now=now,
        salt=os.urandom(SALT_BYTES),
    )
    fields["identifiers"] |= met_links(situation.met, resolution.profile_id)
    moved: Contributions = {}
    if resolution.merged and resolution.before is not None:
        people = (resolution.before, *resolution.merged)
        _, moved = merge_contributors(people, situation.definitions)
        if former := former_ids(resolution.before, resolution.merged):
            fields["former_ids"] = former
    counted = UNCOUNTED
    if event is not None:
        counting = TraitEvent(
            event, request.event_id, request.request_id, request.occurred_at, consent
        )
        counted = _count(situation, resolution, counting, person.fields if person else {}, moved)
    if not is_update and not counted.profile:
        return StitchChange(resolution, counted=counted)
    return StitchChange(
        resolution,
        {**fields, **counted.profile},
        {**moved, **counted.documents},
        counted,
        is_update,
    )


def _count(
    situation: StitchSituation,
    resolution: Resolution,
    counting: TraitEvent,
    fields: Mapping[str, Any],
    moved: Contributions,
) -> CountedEvent:
    """Count the event for the strongest identifier: a split takes it along with what it did.

    Not one that counted for a stronger identifier before that was held: a replay changes nothing.
    """
    if resolution.strongest is None or any(
        _has_counted(node, situation.loaded, counting) for node in resolution.held
    ):
        return UNCOUNTED
    key = resolution.strongest.key
    document = situation.loaded.documents.get(f"contributions/{key}")
    stored = {key: read_contribution(document.fields)} if document is not None else {}
    try:
        return count_event(situation.definitions, fields, key, {**stored, **moved}, counting)
    except Exception as error:  # noqa: BLE001 - links and consent must not wait for a broken state
        log_crash(TraitFoldFailed(why=type(error).__name__), error)
        return FAILED


def _has_counted(node: GraphNode, loaded: LoadedGraph, counting: TraitEvent) -> bool:
    """Return whether the event is among those that counted for an identifier."""
    if node.profile is None:
        return False
    contribution = held_contributions(node.profile.fields).get(node.key)
    document = loaded.documents.get(f"contributions/{node.key}")
    if contribution is None and document is not None:
        contribution = read_contribution(document.fields)
    return contribution is not None and contribution.counted_for(counting) != "nobody"


def change_writes(
    situation: StitchSituation, change: StitchChange, *, key: str, record_id: str
) -> list[Write]:
    """Return the writes of profile, identifiers, contributions and link log."""
    resolution, fields = change.resolution, change.fields
    profile_id = resolution.profile_id
    if fields is None or profile_id is None:
        return []
    loaded, at = situation.loaded, situation.request.occurred_at
    writes: list[Write] = [put_as_read(f"profiles/{profile_id}", fields, loaded.versions)]
    # Nobody changes contributions without the profile: its precondition holds for them too.
    writes += [
        Put(f"contributions/{each}", contribution.to_fields(fields))
        for each, contribution in (change.contributions or {}).items()
    ]
    writes += _link_writes(resolution, profile_id, fields["identifiers"], loaded)
    writes += meeting_writes(
        situation.met, loaded.graph, loaded.versions, survivor_id=profile_id, now=situation.now
    )
    if resolution.changes_graph:
        writes += log_writes(resolution, key=key, record_id=record_id, at=at, now=situation.now)
    return writes


def _link_writes(
    resolution: Resolution,
    profile_id: str,
    links: Mapping[str, Mapping[str, Any]],
    loaded: LoadedGraph,
) -> list[Write]:
    """Return the writes after which all that was linked or merged leads to the profile.

    What led to a merged profile leads to the survivor at once, so that aliases never form chains.
    """
    moved = [key for profile in resolution.merged for key in profile.identifiers]
    keys = dict.fromkeys((*(node.key for node in resolution.linked), *moved))
    merged = {*(profile.profile_id for profile in resolution.merged), *map(own_profile_id, moved)}
    merged.update(former for profile in resolution.merged for former in profile.former_ids)
    return lead_to(
        profile_id,
        {key: links[key] for key in keys},
        loaded.versions,
        salts=salts_in(merged, loaded.documents),
    )


def _consent_update(
    request: StitchRequest, consent: Consent, profile: Profile | None
) -> dict[str, Any] | None:
    """Return the profile's new consent map, or None when it stays.

    Denials are always recorded, of the purposes that the profile or the publisher names: a browser
    could fill a document with others. Grants are recorded only when the publisher vouches for the request, and never
    from an event's own signals, which a browser can forge.
    """
    stored = profile.consent if profile is not None else {}
    recordable = stored.keys() | set(CONSENT_MODE_PURPOSES)
    if request.asserted and request.consent:
        recordable |= request.consent.keys()
    changes = dict.fromkeys(consent.denied_by_request & recordable, False)
    if request.asserted and request.consent:
        granted = {p for p, value in request.consent.items() if is_grant(value)}
        changes |= dict.fromkeys(granted - changes.keys(), True)
    return update_consent(stored, changes, at=request.occurred_at, source="request")
