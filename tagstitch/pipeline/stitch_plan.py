"""What one stitch request means: who it is, what changes, what is recorded. Nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tagstitch.core.audit import AuditRecord
from tagstitch.core.callback import CallbackEndpoint
from tagstitch.core.consent import ANALYTICS_STORAGE, Consent, resolve_consent
from tagstitch.core.contribution import FAILED
from tagstitch.core.document_size import document_bytes
from tagstitch.core.errors import Unavailable
from tagstitch.core.graph_consent import consenting_graph
from tagstitch.core.identifier import IdentitySettings
from tagstitch.core.identity_graph import IdentityGraph, Resolution, resolve
from tagstitch.core.limits import MERGED_BYTES_MAX, PROFILE_BYTES_MAX
from tagstitch.core.link_log import snapshot
from tagstitch.core.profile import Profile, typed_profile
from tagstitch.core.profile_merge import merged_person
from tagstitch.core.profile_traits import TraitDefinitions
from tagstitch.core.quarantine import Meeting, meetings
from tagstitch.core.stitch_request import StitchRequest
from tagstitch.core.stitch_result import StitchResult, stitch_record, stitch_result
from tagstitch.core.view import Views, visible_attributes
from tagstitch.pipeline.backend import DocumentStore, Write
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.idempotency import IdempotencyMark
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.load_graph import GraphLoader, LoadedGraph
from tagstitch.pipeline.quarantine import held_records
from tagstitch.pipeline.refreshed import Refreshed
from tagstitch.pipeline.renew_links import renewed_links
from tagstitch.pipeline.stitch_change import (
    StitchChange,
    StitchSituation,
    change_of,
    change_writes,
    places_to_change,
)
from tagstitch.pipeline.visitor import VisitorFinder


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


class StitchPlanner:
    """Says what stitch requests mean for the graph as it was loaded."""

    def __init__(
        self,
        documents: DocumentStore,
        keyring: Keyring,
        identity: IdentitySettings,
        *,
        finder: VisitorFinder,
        graphs: GraphLoader,
        views: Refreshed[Views],
        traits: Refreshed[TraitDefinitions],
        consent_default_granted: bool,
    ) -> None:
        self._documents = documents
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
        definitions = replace(definitions, as_of=self._traits.loaded_at)
        loaded, resolution, person = await self._resolve(
            request, loaded, definitions, now=now, deadline=deadline
        )
        consent = self._consent(request, person)
        result = stitch_result(
            resolution,
            person,
            consent_allows=consent.allows(ANALYTICS_STORAGE),
            is_erased=loaded.is_erased,
            blocked=[i.type for i in request.identifiers if self._identity.is_blocked(i)],
        )
        if result.may_link:
            places = places_to_change(result, loaded.graph)
            loaded = await self._graphs.load_more(loaded, places, deadline=deadline)
        met = self._met(request, loaded, result, now=now)
        situation = StitchSituation(
            request, loaded, definitions, now, met, self._identity.link_log_days
        )
        change = change_of(situation, result, consent)
        # With the body's hash: a request that changes nothing leaves no mark, and another body
        # under the same id is another record.
        record_id = f"stitch_{mark.key}_{mark.fingerprint[:12]}"
        writes = await self._writes(
            situation, change, result.person, key=mark.key, record_id=record_id, deadline=deadline
        )
        needs_mark = change.is_update or endpoint is not None
        record = stitch_record(
            result,
            request,
            consent,
            # Delivered again, what left no mark may change something: the table must not take the
            # record of that for one that it has.
            record_id=record_id if needs_mark else f"{record_id}_unmarked",
            subject=result.profile_id and self._keyring.pseudonym(result.profile_id),
            counted=change.counted.counted,
            degraded=("traits",) if change.counted is FAILED or change.left_out else (),
            is_updated=change.fields is not None or bool(change.denials),
            now=now,
        )
        attributes: dict[str, Any] = {}
        if endpoint is not None:
            attributes = await self._attributes(
                situation, result, change.fields, endpoint, deadline=deadline
            )
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
    ) -> tuple[LoadedGraph, Resolution, Profile | None]:
        """Return what the request means for the graph, with what more was read for that.

        The profile is the surviving one with all that are merged into it; None when it is created.
        """
        if request.bare_id is not None and not loaded.graph.nodes:
            visitor = await self._finder.find_bare(
                request.bare_id, asserted=request.asserted, now=now, deadline=deadline
            )
            found = visitor.profile
            if found is None:
                return loaded, Resolution("unknown", None, None), None
            loaded = loaded.with_version(f"profiles/{found.profile_id}", visitor.version)
            return loaded, Resolution("unchanged", found.profile_id, found), found
        resolution, person = self._together(loaded.graph, request, definitions, now=now)
        if resolution.merged and self._refuses_silently(request, person):
            graph = consenting_graph(loaded.graph, default_granted=self._consent_default_granted)
            if graph is not None:
                resolution, person = self._together(graph, request, definitions, now=now)
        return loaded, resolution, person

    def _together(
        self,
        graph: IdentityGraph,
        request: StitchRequest,
        definitions: TraitDefinitions,
        *,
        now: datetime,
    ) -> tuple[Resolution, Profile | None]:
        at, strategies = request.occurred_at, self._identity.merge_strategies
        resolution = resolve(graph, self._identity, at=at)
        person = merged_person(resolution, strategies, definitions, now=now)
        if resolution.merged and _is_too_large(resolution, person):
            resolution = resolve(graph, self._identity, at=at, may_merge=False)
            person = resolution.before
        return resolution, person

    def _refuses_silently(self, request: StitchRequest, person: Profile | None) -> bool:
        """Return whether the person may not be looked up though the request does not say so."""
        consent = self._consent(request, person)
        is_denied = ANALYTICS_STORAGE in consent.denied_by_request
        return not is_denied and not consent.allows(ANALYTICS_STORAGE)

    def _consent(self, request: StitchRequest, profile: Profile | None) -> Consent:
        return resolve_consent(
            requested=request.consent,
            event=request.event,
            profile=profile,
            default_granted=self._consent_default_granted,
        )

    async def _writes(
        self,
        situation: StitchSituation,
        change: StitchChange,
        person: Profile | None,
        *,
        key: str,
        record_id: str,
        deadline: Deadline,
    ) -> list[Write]:
        """Return the writes of the change, and those that keep what leads to the profile alive."""
        writes = change_writes(situation, change, key=key, record_id=record_id)
        profile_id = change.resolution.profile_id
        # Of those that become one, what expires first says when all of it has to be renewed.
        before = person if change.resolution.merged else change.resolution.before
        if change.fields is None or profile_id is None:
            return writes
        written = [write.path for write in writes]
        return writes + await renewed_links(
            self._documents,
            profile_id,
            before.fields if before is not None else None,
            change.fields,
            written=written,
            deadline=deadline,
        )

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
        situation: StitchSituation,
        result: StitchResult,
        changed: Mapping[str, Any] | None,
        endpoint: CallbackEndpoint,
        *,
        deadline: Deadline,
    ) -> dict[str, Any]:
        """Return the profile's attributes that the view shows and the endpoint is allowed.

        `changed` is the profile's document after the request, None when it stays. Concealed
        attributes leave only to an endpoint whose allow-list names them. Raises InvalidInput for a
        view that nobody declared.
        """
        views = await self._views.get(deadline)
        if views is None:
            raise Unavailable("firestore", "the views could not be loaded")
        view = situation.request.view
        views.get(view)
        if result.profile_id is None:
            return {}
        person = result.person
        if changed is not None:
            person = typed_profile(result.profile_id, changed, now=situation.now)
        if person is None:
            return {}
        shown = visible_attributes(person, views, view=view, fields=None, sees_concealed=True)
        return endpoint.allowed(shown, concealed=views.concealed)


def _is_too_large(resolution: Resolution, person: Profile | None) -> bool:
    """Return whether the profiles are too large to be one document, or one entry of the log."""
    if person is None or document_bytes(person.fields) > PROFILE_BYTES_MAX:
        return True
    people = (*resolution.merged, *((resolution.before,) if resolution.before else ()))
    return sum(document_bytes(snapshot(each)) for each in people) > MERGED_BYTES_MAX
