"""Actions in a world: a visitor with an address, destinations, and decisions that want something."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from tagstitch.core.caller import Caller
from tagstitch.core.destination import Destination, complete_destination
from tagstitch.core.identifier import Identifier
from tagstitch.core.problems import Problems
from tagstitch.pipeline.backend import Patch
from tagstitch.pipeline.deadline import Deadline
from tests.pipeline.world import SECRET, START, World

CLIENT = Identifier("client_id", "1294673677.1747154479")
SERVER = Caller("server", frozenset({"decide", "lookup", "stitch", "assert", "explain"}))
ADDRESS = "ada@example.net"

MAIL = {
    "type": "send_email", "template_id": "d-cart", "recipient": "profile.email",
    "data": {"value": {"from": "event.value"}},
}  # fmt: skip
CRM = {
    "type": "update_crm", "object": "Contact", "external_id": "profile.crm_id",
    "fields": {"Cart__c": {"from": "event.value"}},
}  # fmt: skip
HOOK = {"type": "webhook", "endpoint": "hook", "body": {"value": {"from": "event.value"}}}
PUSH = {"type": "push_message", "channel": "offers", "payload": {"value": {"from": "event.value"}}}

SENDGRID = {
    "id": "mail", "type": "email", "preset": "sendgrid",
    "auth": {"kind": "bearer", "token": "SG.key"}, "values": {"from": "shop@example.com"},
}  # fmt: skip
SALESFORCE = {
    "id": "sf", "type": "crm", "preset": "salesforce",
    "values": {"domain": "shop.my.salesforce.com", "external_id_field": "Customer_Id__c"},
    "auth": {
        "kind": "oauth2", "token_url": "https://${domain}/services/oauth2/token",
        "client_id": "consumer", "client_secret": "its secret",
    },
}  # fmt: skip
HUB = {
    "id": "hook", "type": "webhook", "url": "https://hub.example.com/in",
    "auth": {"kind": "signature", "secret": SECRET},
}  # fmt: skip

GRANTED = {
    purpose: {"granted": True, "at": START, "source": "import"} for purpose in ("email", "crm")
}


def destination(written: Mapping[str, Any], **changes: Any) -> Destination:
    problems = Problems()
    decoded = msgspec.convert({**written, **changes}, Destination)
    completed = complete_destination(decoded, problems)
    assert problems.found == []
    return completed


def register(world: World, *destinations: Destination) -> None:
    world.destinations = destinations
    world.restart()


async def decide(world: World, *actions: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """Have one rule with these actions decide about an event of the visitor."""
    request = fields.pop("request", {})
    rule = {
        "event_name_trigger": "add_to_cart", "match_all": True, "actions": list(actions), **fields,
    }  # fmt: skip
    event = {"event_name": "add_to_cart", "client_id": CLIENT.value, "value": 7.5}
    body = {"event": event, "deadline_ms": 5000, **request}
    decider = world.decider({}, {"r": rule}, consent_default_granted=world.consent_default_granted)
    answer = await decider.decide(body, SERVER)
    decoded: dict[str, Any] = json.loads(answer)
    return decoded


async def known_visitor(world: World, **attributes: Any) -> str:
    """Store the visitor, who granted e-mail and CRM."""
    attributes = {"email": ADDRESS, "crm_id": "C-17", **attributes}
    return await world.put_profile(CLIENT, attributes=attributes, consent=GRANTED)


async def patch_profile(world: World, profile_id: str, **fields: Any) -> None:
    """Change some fields of a stored profile."""
    await world.store.commit([Patch(f"profiles/{profile_id}", fields)], deadline=Deadline.after(5))


async def entry(world: World) -> dict[str, Any]:
    (path,) = await world.paths("outbox")
    return await world.document(path)


async def run_sweep(world: World) -> None:
    await world.sweep()


async def delivery_rows(world: World) -> list[Mapping[str, Any]]:
    """Return the audit records of how entries ended."""
    await world.store_audit()
    return [row for row in await world.rows() if row["record_type"] == "action_delivery"]


async def told(world: World) -> list[tuple[str, str]]:
    """Return outcome and reason of each."""
    return [(row["outcome"], row["extra"]["reason"]) for row in await delivery_rows(world)]
