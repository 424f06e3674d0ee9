"""What one stitch request changes: the documents of profile, identifiers, contributions, log."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    unmergeable_traits,
)
from tagstitch.core.graph_consent import profiles_led_to
from tagstitch.core.identity_graph import (
    SALT_BYTES,
    GraphNode,
    IdentityGraph,
    Resolution,
    links_expiry,
    profile_fields,
)
from tagstitch.core.identity_limits import LINK_LOG_DAYS
from tagstitch.core.profile import Profile, is_grant, update_consent
from tagstitch.core.profile_traits import TraitDefinitions
from tagstitch.core.quarantine import Meeting, was_held
from tagstitch.core.stitch_request import StitchRequest
from tagstitch.core.stitch_result import StitchResult
from tagstitch.pipeline.backend import Patch, Put, Write
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
    log_days: int = LINK_LOG_DAYS


@dataclass(frozen=True, slots=True)
class StitchChange:
    """What the request changes in the documents of one profile."""

    resolution: Resolution
    """What of the graph may change: nothing without consent."""
    fields: Mapping[str, Any] | None = None
    """The profile's whole document; None when it stays."""
    contributions: Contributions | None = None
    counted: CountedEvent = UNCOUNTED
    left_out: tuple[str, ...] = ()
    """Traits of merged profiles that could not be merged."""
    is_update: bool = False
    """Whether the graph or the consent changes, and not traits alone."""
    denials: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Profile id -> consent, of the other profiles that the request leads to and that hear of its
    denial."""


def places_to_change(result: StitchResult, graph: IdentityGraph) -> set[str]:
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
    for node in _may_have_counted(resolution, graph):
        if node.profile is not None and node.key in distant_contributors(node.profile.fields):
            places.add(f"contributions/{node.key}")
    return places


def _may_have_counted(resolution: Resolution, graph: IdentityGraph) -> Sequence[GraphNode]:
    """Return for whom else the event may have counted when it was delivered before.

    For a stronger identifier that is held now; for a weaker one while the strongest was held.
    """
    strongest = resolution.strongest
    if strongest is None or strongest.profile is None:
        return resolution.held
    if not was_held(strongest.profile, strongest.key):
        return resolution.held
    return [node for node in graph.nodes if node.key != strongest.key]


def change_of(situation: StitchSituation, result: StitchResult, consent: Consent) -> StitchChange:
    """Return what the request changes; a denial is recorded, and nothing else."""
    request, now = situation.request, situation.now
    resolution, person = result.resolution, result.person
    if result.is_erased:
        return StitchChange(resolution)
    denials: Mapping[str, Mapping[str, Any]] = {}
    if not result.may_link:
        denials = _denials(situation, resolution, consent)
        person = resolution.before
        profile_id = person.profile_id if person is not None else None
        resolution = Resolution("unchanged", profile_id, person)
    consent_update = _consent_update(request, consent, person)
    is_update = consent_update is not None or bool(denials) or resolution.changes_graph
    event = request.event if result.may_link else None
    if resolution.profile_id is None or not (is_update or event):
        return StitchChange(resolution, is_update=bool(denials), denials=denials)
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
    left_out: tuple[str, ...] = ()
    if resolution.merged and resolution.before is not None:
        people = (resolution.before, *resolution.merged)
        left_out = unmergeable_traits(read_contribution(each.fields) for each in people)
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
        left_out,
        is_update,
        denials,
    )


def _count(
    situation: StitchSituation,
    resolution: Resolution,
    counting: TraitEvent,
    fields: Mapping[str, Any],
    moved: Contributions,
) -> CountedEvent:
    """Count the event for the strongest identifier: a split takes it along with what it did.

    Not one that counted for another identifier before: a replay changes nothing, though one of
    them was held or released meanwhile.
    """
    others = _may_have_counted(resolution, situation.loaded.graph)
    if resolution.strongest is None or any(
        _has_counted(node, situation.loaded, counting) for node in others
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
    loaded, at = situation.loaded, situation.request.occurred_at
    writes: list[Write] = [
        Patch(f"profiles/{each}", {"consent": said}, if_version=loaded.versions[f"profiles/{each}"])
        for each, said in change.denials.items()
    ]
    if fields is None or profile_id is None:
        return writes
    writes.append(put_as_read(f"profiles/{profile_id}", fields, loaded.versions))
    # Nobody changes contributions without the profile: its precondition holds for them too.
    writes += [
        Put(f"contributions/{each}", contribution.to_fields(fields))
        for each, contribution in (change.contributions or {}).items()
    ]
    writes += _link_writes(resolution, profile_id, fields, loaded)
    writes += meeting_writes(
        situation.met, loaded.graph, loaded.versions, survivor_id=profile_id, now=situation.now
    )
    if resolution.changes_graph:
        writes += log_writes(
            resolution,
            key=key,
            record_id=record_id,
            at=at,
            now=situation.now,
            days=situation.log_days,
        )
    return writes


def _link_writes(
    resolution: Resolution,
    profile_id: str,
    fields: Mapping[str, Any],
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
        {key: fields["identifiers"][key] for key in keys},
        loaded.versions,
        salts=salts_in(merged, loaded.documents),
        expires_at=links_expiry(fields),
    )


def _denials(
    situation: StitchSituation, resolution: Resolution, consent: Consent
) -> dict[str, Mapping[str, Any]]:
    """Return what the denial of a request means for the profiles that it leads to besides the first.

    What a browser denies holds for everybody who used it; what else a person denies does not hold
    for another user of that browser.
    """
    request = situation.request
    one, apart = profiles_led_to(situation.loaded.graph, resolution)
    recordable = [
        *((each, _recordable(request, each)) for each in one),
        *((each, frozenset(CONSENT_MODE_PURPOSES)) for each in apart),
    ]
    updates = {
        profile.profile_id: update_consent(
            profile.consent,
            dict.fromkeys(consent.denied_by_request & purposes, False),
            at=request.occurred_at,
            source="request",
        )
        for profile, purposes in recordable
    }
    return {each: update for each, update in updates.items() if update is not None}


def _recordable(request: StitchRequest, profile: Profile | None) -> frozenset[str]:
    """Return the purposes that the profile or the publisher names.

    A browser could fill a document with others.
    """
    named = {*CONSENT_MODE_PURPOSES, *(profile.consent if profile is not None else ())}
    if request.asserted and request.consent:
        named |= request.consent.keys()
    return frozenset(named)


def _consent_update(
    request: StitchRequest, consent: Consent, profile: Profile | None
) -> dict[str, Any] | None:
    """Return the profile's new consent map, or None when it stays.

    Denials are always recorded. Grants are recorded only when the publisher vouches for the request, and never
    from an event's own signals, which a browser can forge.
    """
    stored = profile.consent if profile is not None else {}
    recordable = _recordable(request, profile)
    changes = dict.fromkeys(consent.denied_by_request & recordable, False)
    if request.asserted and request.consent:
        granted = {p for p, value in request.consent.items() if is_grant(value)}
        changes |= dict.fromkeys(granted - changes.keys(), True)
    return update_consent(stored, changes, at=request.occurred_at, source="request")
