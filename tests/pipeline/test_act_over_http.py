"""Actions over real HTTP: servers that answer well, drip, break off, or are not there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tagstitch.adapters.requests_callbacks import RequestsCallbackSender
from tagstitch.core.errors import Unavailable
from tests.contract.stub_endpoint import StubEndpoint, close_at_once, drip, never, say
from tests.pipeline.acting import (
    CRM,
    HOOK,
    HUB,
    MAIL,
    SALESFORCE,
    SENDGRID,
    decide,
    destination,
    entry,
    known_visitor,
    register,
    told,
)
from tests.pipeline.world import World

RELAY: dict[str, Any] = {**SENDGRID, "allow_private": True, "timeout_s": 3}


@pytest.fixture
def world(world: World) -> Iterator[World]:
    sender = RequestsCallbackSender()
    world.backend = replace(world.backend, callbacks=sender)
    yield world
    sender.close()


def body_of(request: bytes) -> Any:
    return msgspec.json.decode(request.partition(b"\r\n\r\n")[2])


async def test_a_mail_arrives_as_the_provider_wants_it(world: World) -> None:
    with StubEndpoint(say("202 Accepted")) as provider:
        register(world, destination(RELAY, url=f"{provider.url}/v3/mail/send"))
        await known_visitor(world)
        await decide(world, MAIL)
        await world.act()

    [request] = provider.requests
    head = request.partition(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"post /v3/mail/send http/1.1")
    assert b"authorization: bearer sg.key" in head
    assert body_of(request)["personalizations"][0]["to"] == [{"email": "ada@example.net"}]
    assert await told(world) == [("delivered", "SENT")]


async def test_a_record_is_upserted_with_a_token_of_the_same_house(world: World) -> None:
    class House:
        def __call__(self, endpoint: StubEndpoint, connection: Any) -> None:
            is_token = endpoint.requests[-1].startswith(b"POST /services/oauth2/token")
            token = b'{"access_token": "00D", "instance_url": "https://elsewhere.example"}'
            answer = say("200 OK", body=token) if is_token else say("201 Created")
            answer(endpoint, connection)

    with StubEndpoint(House()) as house:
        auth = {**SALESFORCE["auth"], "token_url": f"{house.url}/services/oauth2/token"}  # type: ignore[dict-item]
        url = f"{house.url}/services/data/v62.0/sobjects/${{object}}/Id__c/${{external_id}}"
        crm = destination(SALESFORCE, auth=auth, url=url, allow_private=True)
        register(world, crm)
        await known_visitor(world)
        await decide(world, CRM)
        await world.act()

    token, upsert = house.requests
    assert b"grant_type=client_credentials" in token
    assert upsert.startswith(b"PATCH /services/data/v62.0/sobjects/Contact/Id__c/C-17 HTTP")
    assert b"authorization: bearer 00d" in upsert.lower()
    assert body_of(upsert) == {"Cart__c": 7.5}
    assert await told(world) == [("delivered", "SENT")]


@pytest.mark.parametrize(
    "behaviour",
    [
        never(),
        drip(b"HTTP/1.1 202 Accepted\r\nX-Slow: " + b"x" * 1000, every_s=0.05),
        close_at_once(),
        close_at_once(reset=True),
        say("not a status line at all"),
        say("502 Bad Gateway"),
    ],
    ids=["never answers", "drips", "closes", "resets", "speaks no HTTP", "502"],
)
async def test_an_answer_that_is_lost_is_not_asked_for_twice(
    world: World, behaviour: object
) -> None:
    with StubEndpoint(behaviour) as provider:
        register(world, destination(RELAY, url=provider.url))
        await known_visitor(world)
        await decide(world, MAIL)
        for _ in range(3):
            await world.act()

    assert len(provider.requests) == 1
    assert await told(world) == [("dead_letter", "OUTCOME_UNKNOWN")]


async def test_a_provider_that_is_not_there_is_asked_again(world: World) -> None:
    with StubEndpoint(say("202 Accepted")) as provider:
        url = provider.url
    register(world, destination(RELAY, url=url))
    await known_visitor(world)
    await decide(world, MAIL)

    with pytest.raises(Unavailable):
        await world.act()

    assert (await entry(world))["status"] == "pending"


async def test_a_redirect_is_a_refusal_and_leads_nowhere(world: World) -> None:
    with StubEndpoint(say("202 Accepted")) as target:
        moved = say("307 Temporary Redirect", f"Location: {target.url}/")
        with StubEndpoint(moved) as provider:
            register(world, destination(RELAY, url=provider.url))
            await known_visitor(world)
            await decide(world, MAIL)
            await world.act()

    assert target.requests == []
    assert await told(world) == [("dead_letter", "REFUSED")]


async def test_a_private_address_is_refused_without_a_connection(world: World) -> None:
    with StubEndpoint(say("200 OK")) as inside:
        hub = destination(HUB, url=f"https://127.0.0.1:{inside.port}/")
        register(world, hub)
        await decide(world, HOOK)
        await world.act()

    assert inside.requests == []
    assert await told(world) == [("dead_letter", "REFUSED")]


async def test_many_deliveries_of_many_entries_at_once_send_each_once(world: World) -> None:
    with StubEndpoint(say("202 Accepted")) as provider:
        register(world, destination({**RELAY, "timeout_s": 10}, url=provider.url))
        await known_visitor(world)
        for _ in range(10):
            await decide(world, MAIL)
        ids = [message["outbox_id"] for message in world.published["actions"]]
        await asyncio.gather(*(world.act(outbox_id) for outbox_id in ids * 3))

    keys = [body_of(r)["personalizations"][0]["custom_args"] for r in provider.requests]
    assert len(keys) == 10
    assert {key["tagstitch_key"] for key in keys} == set(ids)
    assert await told(world) == [("delivered", "SENT")] * 10
