"""What a browser makes up, sent by a container whose key does not vouch for it.

Each hit goes to two services that differ in one thing: whether the victim is known. The answers
are the same bytes, and once everything behind them has been processed the victim's documents are
as they were and nobody is linked to anything of theirs.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from tagstitch.adapters.backend_factory import close_backend, open_backend
from tagstitch.adapters.in_process_pubsub import InProcessPubSub
from tagstitch.adapters.settings import Settings, read_settings
from tagstitch.adapters.wiring import make_keyring
from tagstitch.core.identifier import Identifier, IdentitySettings, hash_email, hash_phone
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.pipeline.backend import Backend, Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.profile_import import import_profiles, in_batches
from tagstitch.pipeline.profile_line import parse_profile_line
from tagstitch.pipeline.rule_publication import publish_rules
from tests.functions.conftest import Start

USER, ADDRESS, NUMBER = "u-1001", "mara@example.com", "+4915112345678"
COOKIE = "1294673677.1747154479"
THIEF = "thief/of-accounts=.1747154480"

VICTIM = {
    "identifiers": {
        "user_id": [USER],
        "email_sha256": [ADDRESS],
        "phone_sha256": [NUMBER],
        "client_id": [COOKIE],
    },
    "attributes": {"tier": "Gold"},
    "consent": {"newsletter": False},
}
SECRET, VOUCHING = "s" * 32, "v" * 32
ENVIRONMENT = {
    "TAGSTITCH_BACKEND": "local",
    "TAGSTITCH_AUTH": "key",
    "TAGSTITCH_KEYS": json.dumps(
        [
            {"id": "sgtm", "secret": SECRET, "scopes": ["lookup", "decide", "stitch", "explain"]},
            {"id": "crm", "secret": VOUCHING, "scopes": ["lookup", "decide", "assert"]},
        ]
    ),
    # The same in both services, so that derived ids do not tell them apart.
    "TAGSTITCH_IDENTITY_KEY": "i" * 32,
    "TAGSTITCH_PSEUDONYM_KEYS": "k1:" + "p" * 32,
    "TAGSTITCH_RECEIPT_KEY": "r" * 32,
}
RULES = RuleDefinitions(
    {
        "for_gold": {
            "target_event_name": "purchase",
            "conditions": {"profile.tier": "Gold"},
            "action_type": "modify_parameter",
            "action_details": {"parameter": "gold", "operator": "set", "operand": True},
        }
    },
    {
        "gold_offer": {
            "event_name_trigger": "purchase",
            "conditions": {"profile.tier": "Gold"},
            "action_type": "return_value",
            "action_details": {"key": "offer", "value": "ten"},
            "updates_user_state": {"seen": True},
        }
    },
)

FORGED_PARAMETERS: dict[str, dict[str, Any]] = {
    "user_id": {"user_id": USER},
    "user_id as a number in a text": {"user_id": f" {USER} "},
    "resolved user_id": {"_resolved": {"user_id": USER}},
    "resolved user_id, dotted": {"_resolved.user_id": USER},
    "resolved client_id": {"_resolved": {"client_id": COOKIE}},
    "resolved address": {"_resolved": {"email_sha256": ADDRESS}},
    "address": {"user_data": {"email": ADDRESS}},
    "hashed address": {"user_data": {"sha256_email_address": [hash_email(ADDRESS)]}},
    "address as a parameter": {"email_sha256": hash_email(ADDRESS)},
    "number": {"user_data": {"phone_number": NUMBER}},
    "hashed number": {"user_data": {"sha256_phone_number": hash_phone(NUMBER)}},
    "js client_id": {"x-ga-js_client_id": COOKIE},
    "metadata client_id beside its own": {"_event_metadata": {"client_id": COOKIE}},
    "everything": {
        "user_id": USER,
        "_resolved": {"user_id": USER},
        "user_data": {"email": ADDRESS, "phone_number": NUMBER},
        "x-ga-js_client_id": COOKIE,
    },
    "a grant": {"user_id": USER, "consent_state": {"newsletter": True, "ad_storage": True}},
    "a denial": {"user_id": USER, "consent_state": {"analytics_storage": False}},
    "a grant in consent mode": {"user_id": USER, "x-ga-gcs": "G111", "x-ga-gcd": "13t3t3t3t5l1"},
}

FORGED_IDENTIFIERS: dict[str, dict[str, Any]] = {
    "user_id": {"identifiers": {"user_id": USER}},
    "address": {"identifiers": {"email_sha256": ADDRESS}},
    "number": {"identifiers": {"phone_sha256": NUMBER}},
    "user_id beside the own cookie": {"identifiers": {"user_id": USER, "client_id": THIEF}},
    "address beside the own cookie": {"identifiers": {"email_sha256": ADDRESS, "client_id": THIEF}},
    "everything": {
        "identifiers": {
            "user_id": USER,
            "email_sha256": ADDRESS,
            "phone_sha256": NUMBER,
            "client_id": THIEF,
        }
    },
    "bare user_id": {"id": USER},
    "bare address": {"id": ADDRESS},
    "bare number": {"id": NUMBER},
    "asserted by the body": {
        "identifiers": {"user_id": USER, "client_id": THIEF},
        "asserted": True,
    },
    "with a grant": {
        "identifiers": {"user_id": USER, "client_id": THIEF},
        "consent": {"newsletter": True, "analytics_storage": True},
    },
    "bare with a denial": {"id": USER, "consent": {"ad_storage": False}},
}
FORGED_LOOKUPS = {
    **FORGED_IDENTIFIERS,
    "a view": {"identifiers": {"user_id": USER, "client_id": THIEF}, "view": "of_users"},
    "a view that nobody declared": {"id": USER, "view": "x"},
}
VIEWS = {
    "of_users": {"attributes": ["tier"], "identifier_types": ["user_id"]},
    "banner": {"attributes": ["tier"]},
}


@dataclass
class Service:
    """The functions on one data folder."""

    settings: Settings
    backend: Backend
    clients: Mapping[str, httpx.AsyncClient]

    async def post(
        self, function: str, path: str, body: Any, secret: str = SECRET
    ) -> httpx.Response:
        headers = {"X-Tagstitch-Key": secret, "Idempotency-Key": "forged-1"}
        return await self.clients[function].post(path, json=body, headers=headers)

    async def process_all(self) -> None:
        """Deliver everything that was published, until nothing is left."""
        queue = cast(InProcessPubSub, self.backend.publisher)

        async def push(function: str, path: str, body: bytes) -> int:
            if function == "audit_sink":
                return 204
            headers = {"content-type": "application/json"}
            answer = await self.clients[function].post(path, content=body, headers=headers)
            return answer.status_code

        delivering = asyncio.create_task(queue.run(push))
        await asyncio.sleep(0)  # `run` begins
        try:
            assert await queue.wait_idle(20)
        finally:
            queue.stop()
            await delivering

    async def documents(self) -> dict[str, Mapping[str, Any]]:
        found: dict[str, Mapping[str, Any]] = {}
        for collection in ("profiles", "identifiers", "contributions", "links", "outbox"):
            page = await self.backend.documents.list_documents(
                collection, deadline=Deadline.after(5)
            )
            found |= {document.path: document.fields for document in page}
        return found


@asynccontextmanager
async def service(start: Start, folder: Path, *, knows_victim: bool) -> AsyncIterator[Service]:
    environment = {**ENVIRONMENT, "TAGSTITCH_DATA_DIR": str(folder)}
    settings = read_settings(environment)
    backend, deadline = open_backend(settings), Deadline.after(10)
    await publish_rules(backend.documents, RULES, backend.clock(), deadline)
    views = [Put(f"views/{name}", view) for name, view in VIEWS.items()]
    await backend.documents.commit(views, deadline=deadline)
    people: list[dict[str, Any]] = [
        {"identifiers": {"client_id": [THIEF]}, "attributes": {"tier": "Tin"}}
    ]
    if knows_victim:
        people.append(VICTIM)
    lines = (
        (number, parse_profile_line(raw, IdentitySettings(), make_keyring(settings)))
        for number, raw in enumerate(people)
    )
    for batch in in_batches(lines):
        await import_profiles(
            backend.documents, batch, now=datetime(2026, 11, 1, tzinfo=UTC), deadline=deadline
        )
    clients = {
        function: await start(function, **environment)
        for function in ("decide", "stitch_sync", "stitch_async")
    }
    try:
        yield Service(settings, backend, clients)
    finally:
        await close_backend(settings)


_ERROR_ID = re.compile(rb'"error_id":"[0-9a-f]{32}"')


async def attack(start: Start, folder: Path, function: str, path: str, body: Any) -> bytes:
    """Send a forged request to both services; return the answer, which is the same."""
    answers: list[tuple[int, bytes, bytes]] = []
    for knows_victim in (True, False):
        place = folder / str(knows_victim)
        async with service(start, place, knows_victim=knows_victim) as running:
            before = await running.documents()
            answer = await running.post(function, path, body)
            again = await running.post(function, path, body)
            await running.process_all()
            first, second = (_ERROR_ID.sub(b"", each.content) for each in (answer, again))
            answers.append((answer.status_code, first, second))
            if knows_victim:
                check_untouched(running.settings, before, await running.documents())
    assert answers[0] == answers[1]
    return answers[0][1]


def check_untouched(
    settings: Settings, before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    """Nothing of the victim changed, and nobody has anything of theirs."""
    keyring = make_keyring(settings)
    thief = Identifier("client_id", THIEF)
    own = f"profiles/{keyring.profile_id(thief)}"
    assert {p: f for p, f in after.items() if p != own} == {
        p: f for p, f in before.items() if p != own
    }
    profile = after[own]
    assert list(profile["identifiers"]) == [keyring.identifier_key(thief)]
    assert profile["attributes"] == {"tier": "Tin"}
    assert not [p for p, said in (profile.get("consent") or {}).items() if said["granted"]]


@pytest.mark.parametrize("name", FORGED_PARAMETERS)
@pytest.mark.parametrize(
    "path", ["/decide", "/make-event-decision", "/make-personalization-decision"]
)
async def test_a_forged_event_decides_as_if_the_victim_were_nobody(
    start: Start, tmp_path: Path, path: str, name: str
) -> None:
    event = {"event_name": "purchase", "client_id": THIEF, **FORGED_PARAMETERS[name]}
    whole = {
        "event": event,
        "include": ["event", "personalization", "profile"],
        "explain": True,
        "deadline_ms": 3000,
    }

    answer = await attack(start, tmp_path, "decide", path, whole if path == "/decide" else event)

    assert b"Gold" not in answer.replace(b'"expected":"Gold"', b"")
    assert b'"offer"' not in answer


@pytest.mark.parametrize("name", FORGED_LOOKUPS)
@pytest.mark.parametrize("path", ["/", "/?not_found=404"])
async def test_a_forged_lookup_is_answered_as_if_the_victim_were_nobody(
    start: Start, tmp_path: Path, path: str, name: str
) -> None:
    body = {**FORGED_LOOKUPS[name], "request_id": "forged-1", "deadline_ms": 3000}

    answer = await attack(start, tmp_path, "stitch_sync", path, body)

    assert b"Gold" not in answer


@pytest.mark.parametrize("name", FORGED_IDENTIFIERS)
async def test_a_forged_request_for_later_links_and_grants_nothing(
    start: Start, tmp_path: Path, name: str
) -> None:
    body = {**FORGED_IDENTIFIERS[name], "mode": "async", "request_id": "forged-1"}

    await attack(start, tmp_path, "stitch_sync", "/", body)


@pytest.mark.parametrize("type_", ["user_id", "email_sha256", "phone_sha256"])
async def test_a_forged_activation_is_answered_as_if_the_victim_were_nobody(
    start: Start, tmp_path: Path, type_: str
) -> None:
    value = {"user_id": USER, "email_sha256": ADDRESS, "phone_sha256": NUMBER}[type_]
    body = {"entity": "user", "id": {"type": type_, "value": value}, "view": "banner"}
    body["request_id"] = "forged-1"

    await attack(start, tmp_path, "stitch_sync", "/activation", body)


async def test_two_cookies_in_one_request_are_not_one_person(start: Start, tmp_path: Path) -> None:
    """Whoever knows another's cookie can present it, but not tie it to their own."""
    named = [{"type": "client_id", "value": value} for value in (THIEF, COOKIE)]
    async with service(start, tmp_path, knows_victim=True) as running:
        before = await running.documents()
        for mode in ("sync", "async"):
            body = {"identifiers": named, "mode": mode, "request_id": f"forged-{mode}"}
            assert (await running.post("stitch_sync", "/", body)).status_code in (200, 202)
        await running.process_all()

        check_untouched(running.settings, before, await running.documents())


async def test_the_same_from_a_key_that_vouches_is_answered(start: Start, tmp_path: Path) -> None:
    event = {"event_name": "purchase", "client_id": THIEF, "user_id": USER}
    async with service(start, tmp_path, knows_victim=True) as running:
        shown = await running.post("stitch_sync", "/", {"id": USER}, VOUCHING)
        decided = await running.post("decide", "/decide", {"event": event}, VOUCHING)

    assert shown.json()["attributes"] == {"tier": "Gold"}
    assert decided.json()["event"]["set"] == {"gold": True}
