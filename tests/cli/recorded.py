"""A data folder in which decisions were made and recorded, as the functions do it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tagstitch.cli.opened_backend import Opened, opened_backend
from tagstitch.core.identifier import Identifier, IdentitySettings
from tagstitch.core.identity_graph import new_profile_fields
from tagstitch.core.rule_book import RuleBook
from tagstitch.core.view import Views
from tagstitch.pipeline.backend import Backend, Put
from tagstitch.pipeline.claims import ClaimPublisher
from tagstitch.pipeline.dead_letter import Message
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.decide import Decider
from tagstitch.pipeline.decision import DecisionMaker
from tagstitch.pipeline.load_rules import load_rule_book
from tagstitch.pipeline.load_traits import load_traits
from tagstitch.pipeline.publish_audit import AuditPublisher
from tagstitch.pipeline.publish_event import EventPublisher
from tagstitch.pipeline.record_audit import record_audit
from tagstitch.pipeline.refreshed import Refreshed
from tagstitch.pipeline.visitor import VisitorFinder
from tests.pipeline.test_decide import SERVER


class AuditSink:
    """Takes messages of topic `audit` to the table at once."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def publish(
        self,
        topic: str,
        data: bytes,
        *,
        attributes: Mapping[str, str] | None = None,
        deadline: Deadline,
    ) -> str:
        del attributes
        assert topic == "audit"
        message = Message(data, "m", topic, self._backend.clock())
        await record_audit(self._backend, message, deadline=deadline)
        return "m"


def record_decisions(
    events: Sequence[Mapping[str, Any]], profiles: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Decide events by the published rules; `profiles`: client id -> attributes. Return the ids."""

    async def work() -> list[str]:
        async with opened_backend() as opened:
            await _put_profiles(opened, profiles)
            decider = await _decider(opened)
            body = {"include": ["event", "personalization"], "deadline_ms": 10_000}
            answers = [await decider.decide({"event": dict(e), **body}, SERVER) for e in events]
        return [json.loads(answer)["decision_id"] for answer in answers]

    return asyncio.run(work())


def erase(client_id: str) -> None:
    """Put a tombstone in the place of a profile."""

    async def work() -> None:
        async with opened_backend() as opened:
            profile_id = opened.keyring.profile_id(Identifier("client_id", client_id))
            now = opened.backend.clock()
            await opened.backend.documents.commit(
                [Put(f"profiles/{profile_id}", {"erased_at": now})], deadline=Deadline.after(5)
            )

    asyncio.run(work())


async def _put_profiles(opened: Opened, profiles: Mapping[str, Mapping[str, Any]]) -> None:
    now: datetime = opened.backend.clock()
    for client_id, attributes in profiles.items():
        identifier = Identifier("client_id", client_id)
        fields = new_profile_fields(now=now, salt=client_id.encode().rjust(16))
        fields |= {"attributes": dict(attributes)}
        fields["identifiers"] = {opened.keyring.identifier_key(identifier): {}}
        path = f"profiles/{opened.keyring.profile_id(identifier)}"
        await opened.backend.documents.commit([Put(path, fields)], deadline=Deadline.after(5))


async def _decider(opened: Opened) -> Decider:
    backend, keyring = opened.backend, opened.keyring
    rule_book: Refreshed[RuleBook] = Refreshed(
        load_rule_book(backend.documents), name="rules", interval_s=3600, clock=backend.clock
    )

    async def no_views(_present: Any, _deadline: Deadline) -> Views:
        return Views()

    traits = Refreshed(
        load_traits(backend.documents), name="traits", interval_s=3600, clock=backend.clock
    )
    maker = DecisionMaker(
        VisitorFinder(backend.documents, keyring, IdentitySettings()),
        keyring,
        rule_book,
        clock=backend.clock,
        consent_default_granted=True,
    )
    return Decider(
        backend,
        keyring,
        IdentitySettings(),
        maker=maker,
        audit=AuditPublisher(AuditSink(backend)),
        views=Refreshed(no_views, name="views", interval_s=3600, clock=backend.clock),
        events=EventPublisher(
            backend, keyring, claims=ClaimPublisher(backend, keyring), traits=traits
        ),
        audit_parameters=("value",),
    )
