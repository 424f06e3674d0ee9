"""stitch_async: link, create and update profiles, answer on the callback, record everything."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tagstitch.core.audit import AuditRecord
from tagstitch.core.callback import CallbackEndpoint
from tagstitch.core.consent import CONSENT_MODE_PURPOSES, Consent, resolve_consent
from tagstitch.core.errors import Conflict, Unavailable
from tagstitch.core.event import UNASSERTED_TYPES
from tagstitch.core.identifier import Identifier, IdentitySettings
from tagstitch.core.identity_graph import (
    SALT_BYTES,
    Resolution,
    profile_fields,
    resolve,
)
from tagstitch.core.json_input import decode_json
from tagstitch.core.profile import Profile, is_grant, update_consent
from tagstitch.core.stitch_request import StitchRequest, parse_stitch_request
from tagstitch.core.stitch_result import StitchResult, stitch_record, stitch_result
from tagstitch.core.view import Views, visible_attributes
from tagstitch.pipeline.backend import Backend, Put, Write
from tagstitch.pipeline.claims import STITCH_TOPIC
from tagstitch.pipeline.dead_letter import Message
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.deliver import CallbackDelivery
from tagstitch.pipeline.idempotency import IdempotencyMark, is_live
from tagstitch.pipeline.keyring import Keyring, own_profile_id
from tagstitch.pipeline.link_log import log_writes
from tagstitch.pipeline.own_places import lead_to, put_as_read, salts_in
from tagstitch.pipeline.publish_audit import AuditPublisher, encode_record, publish_stored
from tagstitch.pipeline.refreshed import Refreshed
from tagstitch.pipeline.visitor import LoadedGraph, VisitorFinder

_ATTEMPTS_MAX: Final = 40
"""Loads and commits of one request; each lost race means that somebody else made progress."""

_PAUSE_S_MAX: Final = 0.5
"""Seconds to wait at the most behind a lost race. Fifty devices that log in as one user at once
all load before the first one commits; only chance takes them apart."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one request means, before anything is written."""

    result: StitchResult
    record: AuditRecord
    writes: Sequence[Write]
    attributes: Mapping[str, Any]
    """What may leave on the callback."""


class Stitcher:
    """Processes stitch requests: one load, one commit, publish last."""

    def __init__(
        self,
        backend: Backend,
        keyring: Keyring,
        identity: IdentitySettings,
        *,
        finder: VisitorFinder,
        audit: AuditPublisher,
        delivery: CallbackDelivery,
        views: Refreshed[Views],
        consent_default_granted: bool,
    ) -> None:
        self._backend = backend
        self._keyring = keyring
        self._identity = identity
        self._finder = finder
        self._audit = audit
        self._delivery = delivery
        self._views = views
        self._consent_default_granted = consent_default_granted

    async def process_message(self, message: Message, *, deadline: Deadline) -> None:
        """Process one message of topic `stitch-requests`; raises as `process`."""
        request = parse_stitch_request(
            decode_json(message.data),
            self._identity,
            default_request_id=message.message_id,
            received_at=message.published_at,
        )
        await self.process(request, deadline=deadline)

    async def process(self, request: StitchRequest, *, deadline: Deadline) -> None:
        """Process one request to its end; when it returns the message may be acknowledged.

        Raises InvalidInput for what must become a dead letter, Unavailable for what must be
        delivered again. Repeating it at any point, also at the same time, has one effect.
        """
        endpoint = self._delivery.endpoint(request.callback)
        key = self._keyring.derived_id("stitch_async", STITCH_TOPIC, request.request_id)
        mark = IdempotencyMark(key, request.fingerprint())
        for attempt in range(_ATTEMPTS_MAX):
            now = self._backend.clock()
            loaded = await self._finder.load_graph(
                self._selecting(request),
                now=now,
                deadline=deadline,
                riders=[mark.path, f"outbox/{key}"] if endpoint else [mark.path],
            )
            earlier = loaded.documents.get(mark.path)
            if earlier is not None and is_live(earlier, now=now):
                mark.check(earlier)
                await publish_stored(self._audit, earlier, deadline=deadline)
                if endpoint is not None:
                    await self._delivery.resume_first(key, deadline=deadline)
                return
            plan = await self._plan(request, loaded, mark, now=now, deadline=deadline)
            if not plan.writes and endpoint is None:
                await self._audit.publish([encode_record(plan.record)], deadline=deadline)
                return
            entry = self._callback_entry(request, plan, mark, endpoint, loaded, now=now)
            answer = plan.result.to_json()
            writes = [*plan.writes, mark.put([plan.record], answer, now=now, replaces=earlier)]
            try:
                await self._backend.documents.commit(
                    [*writes, entry] if entry else writes, deadline=deadline
                )
            except Conflict:  # somebody wrote first, perhaps this very request: look again
                await asyncio.sleep(random.uniform(0, min(0.01 * 2**attempt, _PAUSE_S_MAX)))
                continue
            await self._audit.publish_committed(
                [encode_record(plan.record)], path=mark.path, deadline=deadline
            )
            if entry is not None:
                await self._delivery.deliver_first(key, entry.fields, deadline=deadline)
            return
        raise Unavailable("firestore", "too many concurrent changes of one visitor")

    def _selecting(self, request: StitchRequest) -> tuple[Identifier, ...]:
        """Return the identifiers that may select and link: unblocked, and vouched for.

        When nobody vouches, one alone: a second client_id may be a stranger's.
        """
        usable = tuple(i for i in request.identifiers if not self._identity.is_blocked(i))
        if request.asserted:
            return usable
        return tuple(i for i in usable if i.type in UNASSERTED_TYPES)[:1]

    async def _plan(
        self,
        request: StitchRequest,
        loaded: LoadedGraph,
        mark: IdempotencyMark,
        *,
        now: datetime,
        deadline: Deadline,
    ) -> _Plan:
        resolution = resolve(loaded.graph, self._identity, at=request.occurred_at)
        before = resolution.before
        if request.bare_id is not None and not loaded.graph.nodes:
            visitor = await self._finder.find_bare(
                request.bare_id, asserted=request.asserted, now=now, deadline=deadline
            )
            before = visitor.profile
            if before is not None:
                loaded = loaded.with_version(f"profiles/{before.profile_id}", visitor.version)
            resolution = Resolution(
                "unchanged" if before else "unknown", before.profile_id if before else None, before
            )
        person = resolution.person(self._identity.merge_strategies, now=now)
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
            blocked=sum(map(self._identity.is_blocked, request.identifiers)),
        )
        if result.may_link and resolution.merged:
            places = {
                f"profiles/{own_profile_id(key)}"
                for profile in resolution.merged
                for key in profile.identifiers
            }
            loaded = await self._finder.load_more(loaded, places, deadline=deadline)
        # With the body's hash: a request that changes nothing leaves no mark, and another body
        # under the same id is another record.
        record_id = f"stitch_{mark.key}_{mark.fingerprint[:12]}"
        writes = self._writes(
            request, result, consent, loaded, key=mark.key, record_id=record_id, now=now
        )
        subject = None
        if result.profile_id is not None:
            subject = self._keyring.pseudonym(result.profile_id)
        record = stitch_record(
            result,
            request,
            consent,
            record_id=record_id,
            subject=subject,
            now=now,
        )
        attributes = await self._attributes(request, result, deadline=deadline)
        return _Plan(result, record, writes, attributes)

    async def _attributes(
        self, request: StitchRequest, result: StitchResult, *, deadline: Deadline
    ) -> dict[str, Any]:
        """Return the profile's attributes that the view shows and the endpoint is allowed.

        Concealed ones leave only to an endpoint whose allow-list names them. Raises InvalidInput
        for a view that nobody declared.
        """
        endpoint = self._delivery.endpoint(request.callback)
        if endpoint is None:
            return {}
        views = await self._views.get(deadline)
        if views is None:
            raise Unavailable("firestore", "the views could not be loaded")
        views.get(request.view)
        profile = result.person if result.profile_id is not None else None
        if profile is None:
            return {}
        shown = visible_attributes(
            profile, views, view=request.view, fields=None, sees_concealed=True
        )
        return endpoint.allowed(shown, concealed=views.concealed)

    def _writes(
        self,
        request: StitchRequest,
        result: StitchResult,
        consent: Consent,
        loaded: LoadedGraph,
        *,
        key: str,
        record_id: str,
        now: datetime,
    ) -> list[Write]:
        """Return the writes of profile, identifiers and link log; none when nothing changes."""
        resolution = result.resolution
        if result.is_erased:
            return []
        person = result.person
        if not result.may_link:  # a denial is recorded, and nothing else
            person = resolution.before
            profile_id = person.profile_id if person is not None else None
            resolution = Resolution("unchanged", profile_id, person)
        consent_update = _consent_update(request, consent, person)
        if consent_update is None and not resolution.changes_graph:
            return []
        profile_id = resolution.profile_id
        if profile_id is None:
            return []
        fields = profile_fields(
            resolution,
            person,
            consent=consent_update,
            seen_at=request.occurred_at,
            now=now,
            salt=os.urandom(SALT_BYTES),
        )
        writes: list[Write] = [put_as_read(f"profiles/{profile_id}", fields, loaded.versions)]
        writes += _link_writes(resolution, profile_id, fields["identifiers"], loaded)
        if resolution.changes_graph:
            writes += log_writes(
                resolution, key=key, record_id=record_id, at=request.occurred_at, now=now
            )
        return writes

    def _callback_entry(
        self,
        request: StitchRequest,
        plan: _Plan,
        mark: IdempotencyMark,
        endpoint: CallbackEndpoint | None,
        loaded: LoadedGraph,
        *,
        now: datetime,
    ) -> Put | None:
        if endpoint is None:
            return None
        data = plan.result.callback_data(request, plan.attributes)
        entry = self._delivery.entry(
            mark.key, request, endpoint, data, subject=plan.record.subject, now=now
        )
        return put_as_read(entry.path, entry.fields, loaded.versions)


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
