"""Server-Timing tells what a request spent its time on, and nothing else."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from tagstitch.adapters.backend_factory import open_backend
from tagstitch.adapters.settings import read_settings
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.rule_publication import publish_rules
from tests.functions.conftest import Start

CLIENT = "1294673677.1747154479"
LOOKUP = {"identifiers": {"client_id": CLIENT}}
ACTIVATION = {"entity": "user", "id": {"type": "client_id", "value": CLIENT}, "view": "banner"}
EVENT = {"event_name": "purchase", "client_id": CLIENT}

_FORM = re.compile(r"[a-z]+;dur=[0-9]+\.[0-9]{2}(, [a-z]+;dur=[0-9]+\.[0-9]{2})*")


def stages_of(answer: httpx.Response) -> dict[str, float]:
    header = answer.headers["server-timing"]
    assert _FORM.fullmatch(header)
    pairs = [part.split(";dur=") for part in header.split(", ")]
    assert len({name for name, _ in pairs}) == len(pairs)
    return {name: float(duration) for name, duration in pairs}


@pytest.mark.parametrize(
    ("route", "body", "stages"),
    [
        ("stitch_sync/", LOOKUP, {"auth", "read"}),
        ("stitch_sync/", {**LOOKUP, "mode": "async"}, {"auth", "read", "stitch"}),
        ("stitch_sync/activation", ACTIVATION, {"auth", "read"}),
        ("decide/decide", {"event": EVENT}, {"auth", "read", "decide", "stitch", "audit"}),
        ("decide/make-event-decision", EVENT, {"auth", "read", "decide", "stitch", "audit"}),
    ],
)
async def test_an_answer_names_the_stages_that_it_went_through(
    start: Start, route: str, body: dict[str, Any], stages: set[str]
) -> None:
    function, _, path = route.partition("/")
    client = await start(function)
    backend = open_backend(read_settings())
    view = Put("views/banner", {"attributes": ["tier"]})
    await backend.documents.commit([view], deadline=Deadline.after(10))

    answer = await client.post(f"/{path}", json=body)

    assert answer.is_success
    found = stages_of(answer)
    total = found.pop("total")
    assert found.keys() == stages
    assert sum(found.values()) <= total + 0.01 * len(found)


async def test_a_decision_that_changes_something_tells_of_its_commit(start: Start) -> None:
    client = await start("decide")
    backend = open_backend(read_settings())
    remembered = {
        "event_name_trigger": "purchase",
        "match_all": True,
        "actions": [{"type": "set_state", "updates_user_state": {"bought": True}}],
    }
    rules = RuleDefinitions({}, {"remembered": remembered})
    await publish_rules(backend.documents, rules, backend.clock(), deadline=Deadline.after(10))

    answer = await client.post("/decide", json={"event": EVENT, "deadline_ms": 5000})

    assert list(stages_of(answer)) == [
        "auth",
        "read",
        "decide",
        "stitch",
        "commit",
        "audit",
        "total",
    ]


@pytest.mark.parametrize(
    ("route", "content", "status", "stages"),
    [
        ("POST /", b"{", 400, {"auth", "total"}),
        ("POST /", b"{}", 400, {"auth", "total"}),
        ("GET /nowhere", b"", 404, {"total"}),
        ("PUT /", b"", 405, {"total"}),
        ("POST /", b" " * 300_000, 413, {"total"}),
        ("GET /health", b"", 200, {"total"}),
    ],
)
async def test_so_does_an_error_as_far_as_it_came(
    start: Start, route: str, content: bytes, status: int, stages: set[str]
) -> None:
    client = await start("stitch_sync")
    headers = {"content-type": "application/json"}

    answer = await client.request(*route.split(), content=content, headers=headers)

    assert answer.status_code == status
    assert stages_of(answer).keys() == stages


async def test_whoever_fails_to_authenticate_is_told_nothing_of_how(start: Start) -> None:
    keys = json.dumps([{"id": "one", "secret": "o" * 32, "scopes": ["lookup"]}])
    client = await start("stitch_sync", TAGSTITCH_AUTH="key", TAGSTITCH_KEYS=keys)

    answer = await client.post("/", json=LOOKUP)

    assert answer.status_code == 401
    assert stages_of(answer).keys() == {"total"}


async def test_each_request_has_its_own_times(start: Start) -> None:
    client = await start("stitch_sync")

    first = stages_of(await client.post("/", json={**LOOKUP, "mode": "async"}))
    second = stages_of(await client.post("/", json=LOOKUP))

    assert "stitch" in first
    assert "stitch" not in second
