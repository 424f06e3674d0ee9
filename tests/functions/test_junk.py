"""Junk identifiers over HTTP: a thousand visitors with the same one are never one profile."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tagstitch.adapters.backend_factory import open_backend
from tagstitch.adapters.settings import read_settings
from tagstitch.adapters.wiring import make_keyring
from tagstitch.core.identifier import Identifier
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.list_all import list_all
from tests.functions.conftest import Start
from tests.functions.test_staged import push_body

VISITORS = 1000


async def test_a_thousand_visitors_with_an_undefined_id_are_never_one(
    start: Start, tmp_path: Path
) -> None:
    stitch_async, stitch_sync = await start("stitch_async"), await start("stitch_sync")
    junk = {"type": "client_id", "value": ' "Undefined" '}

    for first in range(0, VISITORS, 20):
        numbers = range(first, first + 20)
        pushes = [
            {"identifiers": [{"type": "user_id", "value": f"customer-{n}"}, junk]}
            if n % 2
            else {"identifiers": [junk]}
            for n in numbers
        ]
        answers = await asyncio.gather(
            *(
                stitch_async.post("/", json=push_body(message, f"m{n}"))
                for n, message in zip(numbers, pushes, strict=True)
            )
        )
        assert {answer.status_code for answer in answers} <= {200, 204}

    settings = read_settings({"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(tmp_path)})
    documents = open_backend(settings).documents
    profiles = await list_all(documents, "profiles", deadline=Deadline.after(20))
    keyring = make_keyring(settings)
    customers = [Identifier("user_id", f"customer-{n}") for n in range(1, VISITORS, 2)]
    assert {profile.path for profile in profiles} == {
        f"profiles/{keyring.profile_id(customer)}" for customer in customers
    }
    answer = await stitch_sync.post("/", json={"identifiers": {"client_id": "undefined"}})
    assert answer.json()["reason"] == "BLOCKED_IDENTIFIER"


async def test_the_setting_of_a_project_reaches_its_functions(start: Start) -> None:
    identity = '{"types": ["loyalty_id"], "blocked_patterns": ["^test-"]}'
    stitch_async = await start("stitch_async", TAGSTITCH_IDENTITY=identity)
    stitch_sync = await start("stitch_sync", TAGSTITCH_IDENTITY=identity)

    message = {"identifiers": {"loyalty_id": "card-7", "client_id": "test-browser"}}
    pushed = await stitch_async.post("/", json=push_body(message, "m1"))
    card = await stitch_sync.post("/", json={"identifiers": {"loyalty_id": "card-7"}})
    browser = await stitch_sync.post("/", json={"identifiers": {"client_id": "test-browser"}})

    assert pushed.status_code in (200, 204)
    assert card.json()["reason"] == "KNOWN_PROFILE"
    assert browser.json()["reason"] == "BLOCKED_IDENTIFIER"
