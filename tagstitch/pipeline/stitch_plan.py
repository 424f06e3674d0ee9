"""What one stitch request means: who it is, what changes, what is recorded. Nothing is written."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tagstitch.core.audit import AuditRecord
from tagstitch.core.callback import CallbackEndpoint
from tagstitch.core.consent import CONSENT_MODE_PURPOSES, Consent, resolve_consent
from tagstitch.core.contribution import (
    FAILED,
    UNCOUNTED,
    Contributions,
    CountedEvent,
    TraitEvent,
    count_event,
    distant_contributors,
    merge_contributors,
    read_contribution,
)
from tagstitch.core.document_size import document_bytes
from tagstitch.core.errors import Unavailable
from tagstitch.core.identifier import IdentitySettings
from tagstitch.core.identity_graph import SALT_BYTES, Resolution, profile_fields, resolve
from tagstitch.core.limits import MERGED_BYTES_MAX, PROFILE_BYTES_MAX
from tagstitch.core.link_log import snapshot
from tagstitch.core.profile import Profile, is_grant, typed_profile, update_consent
from tagstitch.core.profile_merge import merged_person
from tagstitch.core.profile_traits import TraitDefinitions
from tagstitch.core.quarantine import Meeting, meetings
from tagstitch.core.stitch_request import StitchRequest
from tagstitch.core.stitch_result import StitchResult, stitch_record, stitch_result
from tagstitch.core.view import Views, visible_attributes
from tagstitch.pipeline.backend import Put, Write
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.idempotency import IdempotencyMark
from tagstitch.pipeline.keyring import Keyring, own_profile_id
from tagstitch.pipeline.link_log import log_writes
from tagstitch.pipeline.load_graph import GraphLoader, LoadedGraph
from tagstitch.pipeline.own_places import former_ids, lead_to, put_as_read, salts_in
from tagstitch.pipeline.quarantine import held_records, meeting_writes, met_links
from tagstitch.pipeline.refreshed import Refreshed
from tagstitch.pipeline.visitor import VisitorFinder

logger = logging.getLogger("tagstitch")


@dataclass(frozen=True, slots=True)
class StitchPlan:
    """What one request means, before anything is written."""

    result: StitchResult
    record: AuditRecord
    writes: Sequence[Write]
    attributes: Mapping[str, Any]
    """What may leave on the callback."""
    held: Sequence[AuditRecord]
    """Of identifiers that are held from now on."""
    needs_mark: bool
    """Whether an idempotency mark must go with the writes. Where an event was counted and nothing
    else changed, its id in the contribution is enough."""


@dataclass(frozen=True, slots=True)
class _Situation:
    """One request and what was read for it."""

    request: StitchRequest
    loaded: LoadedGraph
    definitions: TraitDefinitions
    now: datetime
    met: Sequence[Meeting] = ()


@dataclass(frozen=True, slots=True)
class _Change:
    """What the request changes in the documents of one profile."""

    resolution: Resolution
    """What of the graph may change: nothing without consent."""
    fields: Mapping[str, Any] | None = None
    """The profile's whole document; None when it stays."""
    contributions: Contributions | None = None
    counted: CountedEvent = UNCOUNTED
    is_update: bool = False
    """Whether the graph or the consent changes, and not traits alone."""


class StitchPlanner:
    """Says what stitch requests mean for the graph as it was loaded."""

    def __init__(
        self,
        keyring: Keyring,
        identity: IdentitySettings,
        *,
        finder: VisitorFinder,
        graphs: GraphLoader,
        views: Refreshed[Views],
        traits: Refreshed[TraitDefinitions],
        consent_default_granted: bool,
    ) -> None:
        self._keyring = keyring
        self._identity = identity
        self._finder = finder
        self._graphs = graphs
        self._views = views
        self._traits = traits
        self._consent_default_granted = consent_default_granted

    async def plan(
        self,
        request: StitchRequest,
        loaded: LoadedGraph,
        mark: IdempotencyMark,
        endpoint: CallbackEndpoint | None,
        *,
        now: datetime,
        deadline: Deadline,
    ) -> StitchPlan:
        """Return what the request means.

        Raises Unavailable when definitions or further documents cannot be read, and InvalidInput
        for a view that nobody declared.
        """
        definitions = await self._traits.get(deadline)
        if definitions is None:
            raise Unavailable("firestore", "the definitions of traits could not be loaded")
        loaded, resolution = await self._resolve(
            request, loaded, definitions, now=now, deadline=deadline
        )
        strategies = self._identity.merge_strategies
        person = merged_person(resolution, strategies, definitions, now=now)
        consent = resolve_consent(
            requested=request.consent,
            event=request.event,
            profile=person,
            default_granted=self._consent_default_granted,
        )
        result = stitch_result(
            resolution,
            person,
            consent_allows=consent.allows("analytics_storage"),
            is_erased=loaded.is_erased,
            blocked=[i.type for i in request.identifiers if self._identity.is_blocked(i)],
        )
        if result.may_link:
            loaded = await self._graphs.load_more(
                loaded, _places_to_change(result), deadline=deadline
            )
        met = self._met(request, loaded, result, now=now)
        situation = _Situation(request, loaded, definitions, now, met)
        change = _change(situation, result, consent)
        # With the body's hash: a request that changes nothing leaves no mark, and another body
        # under the same id is another record.
        record_id = f"stitch_{mark.key}_{mark.fingerprint[:12]}"
        writes = _writes(situation, change, key=mark.key, record_id=record_id)
        subject = None
        if result.profile_id is not None:
            subject = self._keyring.pseudonym(result.profile_id)
        needs_mark = change.is_update or endpoint is not None
        record = stitch_record(
            result,
            request,
            consent,
            # Delivered again, what left no mark may change something: the table must not take the
            # record of that for one that it has.
            record_id=record_id if needs_mark else f"{record_id}_unmarked",
            subject=subject,
            counted=change.counted.counted,
            degraded=("traits",) if change.counted is FAILED else (),
            is_updated=change.fields is not None,
            now=now,
        )
        if result.profile_id is not None and change.fields is not None:
            person = typed_profile(result.profile_id, change.fields, now=now)
        attributes = await self._attributes(request, result, person, endpoint, deadline=deadline)
        held = held_records(met, request, self._keyring, mark.key, now=now)
        return StitchPlan(result, record, writes, attributes, held, needs_mark)

    async def _resolve(
        self,
        request: StitchRequest,
        loaded: LoadedGraph,
        definitions: TraitDefinitions,
        *,
        now: datetime,
        deadline: Deadline,
    ) -> tuple[LoadedGraph, Resolution]:
        """Return what the request means for the graph, with what more was read for that."""
        if request.bare_id is not None and not loaded.graph.nodes:
            visitor = await self._finder.find_bare(
                request.bare_id, asserted=request.asserted, now=now, deadline=deadline
            )
            found = visitor.profile
            if found is None:
                return loaded, Resolution("unknown", None, None)
            loaded = loaded.with_version(f"profiles/{found.profile_id}", visitor.version)
            return loaded, Resolution("unchanged", found.profile_id, found)
        at = request.occurred_at
        resolution = resolve(loaded.graph, self._identity, at=at)
        if resolution.merged:
            strategies = self._identity.merge_strategies
            person = merged_person(resolution, strategies, definitions, now=now)
            if _is_too_large(resolution, person):
                resolution = resolve(loaded.graph, self._identity, at=at, may_merge=False)
        return loaded, resolution

    def _met(
        self, request: StitchRequest, loaded: LoadedGraph, result: StitchResult, *, now: datetime
    ) -> tuple[Meeting, ...]:
        """Return what the request adds to the links of its identifiers."""
        if not result.may_link:
            return ()
        return meetings(
            loaded.graph,
            result.resolution,
            result.person,
            self._identity.quarantine,
            hashed=self._keyring.own_place_of,
            at=request.occurred_at,
            now=now,
        )

    async def _attributes(
        self,
        request: StitchRequest,
        result: StitchResult,
        person: Profile | None,
        endpoint: CallbackEndpoint | None,
        *,
        deadline: Deadline,
    ) -> dict[str, Any]:
        """Return the profile's attributes that the view shows and the endpoint is allowed.

        Concealed ones leave only to an endpoint whose allow-list names them. Raises InvalidInput
        for a view that nobody declared.
        """
        if endpoint is None:
            return {}
        views = await self._views.get(deadline)
        if views is None:
            raise Unavailable("firestore", "the views could not be loaded")
        views.get(request.view)
        if person is None or result.profile_id is None:
            return {}
        shown = visible_attributes(
            person, views, view=request.view, fields=None, sees_concealed=True
        )
        return endpoint.allowed(shown, concealed=views.concealed)


def _is_too_large(resolution: Resolution, person: Profile | None) -> bool:
    """Return whether the profiles are too large to be one document, or one entry of the log."""
    if person is None or document_bytes(person.fields) > PROFILE_BYTES_MAX:
        return True
    people = (*resolution.merged, *((resolution.before,) if resolution.before else ()))
    return sum(document_bytes(snapshot(each)) for each in people) > MERGED_BYTES_MAX


def _places_to_change(result: StitchResult) -> set[str]:
    """Return the documents that the changes overwrite, besides those of the request itself."""
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
    return places


def _change(situation: _Situation, result: StitchResult, consent: Consent) -> _Change:
    """Return what the request changes; a denial is recorded, and nothing else."""
    request, now = situation.request, situation.now
    resolution, person = result.resolution, result.person
    if result.is_erased:
        return _Change(resolution)
    if not result.may_link:
        person = resolution.before
        profile_id = person.profile_id if person is not None else None
        resolution = Resolution("unchanged", profile_id, person)
    consent_update = _consent_update(request, consent, person)
    is_update = consent_update is not None or resolution.changes_graph
    event = request.event if result.may_link else None
    if resolution.profile_id is None or not (is_update or event):
        return _Change(resolution)
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
        counted = _count(situation, resolution, counting, fields, moved)
    if not is_update and not counted.profile:
        return _Change(resolution, counted=counted)
    return _Change(
        resolution,
        {**fields, **counted.profile},
        {**moved, **counted.documents},
        counted,
        is_update,
    )


def _count(
    situation: _Situation,
    resolution: Resolution,
    counting: TraitEvent,
    fields: Mapping[str, Any],
    moved: Contributions,
) -> CountedEvent:
    """Count the event for the strongest identifier: a split takes it along with what it did."""
    if resolution.strongest is None:
        return UNCOUNTED
    key = resolution.strongest.key
    document = situation.loaded.documents.get(f"contributions/{key}")
    stored = {key: read_contribution(document.fields)} if document is not None else {}
    try:
        return count_event(situation.definitions, fields, key, {**stored, **moved}, counting)
    except Exception as error:  # links and consent must not wait for a broken state
        logger.exception("trait_fold_failed", extra={"fields": {"why": type(error).__name__}})
        return FAILED


def _writes(situation: _Situation, change: _Change, *, key: str, record_id: str) -> list[Write]:
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
