"""stitch_async: link, create and update profiles, answer on the callback, record everything."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from tagstitch.core.errors import Conflict, Unavailable
from tagstitch.core.event import UNASSERTED_TYPES
from tagstitch.core.identifier import Identifier, IdentitySettings
from tagstitch.core.json_input import decode_json
from tagstitch.core.link_log import time_of_change
from tagstitch.core.stitch_request import StitchRequest, parse_stitch_request
from tagstitch.pipeline.backend import Backend
from tagstitch.pipeline.claims import STITCH_TOPIC
from tagstitch.pipeline.dead_letter import Message
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.deliver import CallbackDelivery
from tagstitch.pipeline.idempotency import IdempotencyMark, is_live
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.load_graph import GraphLoader
from tagstitch.pipeline.own_places import put_as_read
from tagstitch.pipeline.publish_audit import AuditPublisher, encode_record, publish_stored
from tagstitch.pipeline.stitch_plan import StitchPlan, StitchPlanner

_ATTEMPTS_MAX: Final = 40
"""Loads and commits of one request; each lost race means that somebody else made progress."""

_PAUSE_S_MAX: Final = 0.5
"""Seconds to wait at the most behind a lost race. Fifty devices that log in as one user at once
all load before the first one commits; only chance takes them apart."""


class Stitcher:
    """Processes stitch requests: one load, one commit, publish last."""

    def __init__(
        self,
        backend: Backend,
        keyring: Keyring,
        identity: IdentitySettings,
        *,
        graphs: GraphLoader,
        audit: AuditPublisher,
        delivery: CallbackDelivery,
        planner: StitchPlanner,
    ) -> None:
        self._backend = backend
        self._keyring = keyring
        self._identity = identity
        self._graphs = graphs
        self._audit = audit
        self._delivery = delivery
        self._planner = planner

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
        origin = (STITCH_TOPIC,) if request.caller is None else (STITCH_TOPIC, request.caller)
        key = self._keyring.derived_id("stitch_async", *origin, request.request_id)
        mark = IdempotencyMark(key, request.fingerprint())
        for attempt in range(_ATTEMPTS_MAX):
            now = self._backend.clock()
            loaded = await self._graphs.load(
                self._selecting(request),
                at=request.occurred_at,
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
            known = [node.profile for node in loaded.graph.nodes if node.profile is not None]
            now = time_of_change(known, now=now)
            plan = await self._planner.plan(
                request, loaded, mark, endpoint, now=now, deadline=deadline
            )
            data = plan.result.callback_data(request, plan.attributes)
            entry = None
            if endpoint is not None:
                entry = self._delivery.entry(
                    key, request, endpoint, data, subject=plan.record.subject, now=now
                )
                entry = put_as_read(entry.path, entry.fields, loaded.versions)
            writes = [*plan.writes, *([entry] if entry else [])]
            if plan.needs_mark:
                answer = plan.result.to_json()
                writes.append(
                    mark.put([plan.record, *plan.held], answer, now=now, replaces=earlier)
                )
            try:
                if writes:
                    await self._backend.documents.commit(writes, deadline=deadline)
            except Conflict:  # somebody wrote first, perhaps this very request: look again
                await asyncio.sleep(random.uniform(0, min(0.01 * 2**attempt, _PAUSE_S_MAX)))
                continue
            await self._publish(plan, mark, deadline=deadline)
            if entry is not None:
                await self._delivery.deliver_first(key, entry.fields, data, deadline=deadline)
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

    async def _publish(
        self, plan: StitchPlan, mark: IdempotencyMark, *, deadline: Deadline
    ) -> None:
        """Publish the records; the mark forgets them then, and without one they are made once more."""
        records = [encode_record(record) for record in (plan.record, *plan.held)]
        if plan.needs_mark:
            await self._audit.publish_committed(records, path=mark.path, deadline=deadline)
        else:
            await self._audit.publish(records, deadline=deadline)
