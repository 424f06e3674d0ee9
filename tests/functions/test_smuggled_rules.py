"""Rules, conditions and expressions in a request are data like any other, and nothing obeys them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tagstitch.adapters.backend_factory import open_backend
from tagstitch.adapters.settings import read_settings
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.rule_publication import publish_rules
from tests.functions.conftest import Start
from tests.functions.test_staged import push_body

DROP = {"target_event_name": "purchase", "conditions": {}, "action_type": "drop_event"}
OFFER = {
    "event_name_trigger": "purchase",
    "conditions": {},
    "action_type": "return_value",
    "action_details": {"key": "offer", "value": "free"},
}
SMUGGLED: dict[str, Any] = {
    "rules": {"event_rules": {"drop": DROP}, "personalization_rules": {"offer": OFFER}},
    "event_rules": {"drop": DROP},
    "personalization_rules": {"offer": OFFER},
    "conditions": {"value": {"greaterThan": 0}},
    "action_type": "drop_event",
    "actions": [{"type": "drop_event"}],
    "rules_version": "sha256:0",
    "experiments": {"test": {"variants": {"a": 1}}},
    "traits": {"spent": {"sum": "value"}},
    "views": {"default": {"attributes": ["email"]}},
    "user_state": {"shown": True},
    "profile": {"tier": "Gold"},
    "attributes": {"tier": "Gold"},
    "scopes": ["explain", "concealed", "assert"],
    "drop": True,
}
EXPRESSIONS = [
    "${profile.tier}",
    "{{7*7}}",
    "#{7*7}",
    "<%= 7*7 %>",
    'script::Runtime r = Runtime.getRuntime(); r.exec("id");',
    "__import__('os').system('id')",
]
EVENT = {"event_name": "purchase", "client_id": "90.1747154479", "value": 10}
OWN = RuleDefinitions(
    {
        "double": {
            "target_event_name": "purchase",
            "conditions": {"value": {"greaterThan": 5}},
            "action_type": "modify_parameter",
            "action_details": {"parameter": "value", "operator": "multiply", "operand": 2},
        }
    },
    {},
)


@pytest.fixture
async def decide(start: Start, tmp_path: Path) -> httpx.AsyncClient:
    settings = read_settings({"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(tmp_path)})
    backend = open_backend(settings)
    await publish_rules(backend.documents, OWN, backend.clock(), deadline=Deadline.after(10))
    client = await start("decide")
    await client.post("/decide", json={"event": EVENT, "deadline_ms": 5000})  # rules are loaded
    return client


def told(answer: httpx.Response) -> dict[str, Any]:
    """Return what was decided: neither its id, nor whether the visitor was read in time."""
    body: dict[str, Any] = answer.json()
    assert answer.status_code == 200, body
    return {n: v for n, v in body.items() if n not in ("decision_id", "degraded", "status")}


async def test_beside_the_event_they_change_nothing(decide: httpx.AsyncClient) -> None:
    patient = {"event": EVENT, "deadline_ms": 5000}
    plain = told(await decide.post("/decide", json=patient))

    for name, value in SMUGGLED.items():
        assert told(await decide.post("/decide", json={**patient, name: value})) == plain, name
    assert told(await decide.post("/decide", json={**SMUGGLED, **patient})) == plain

    assert plain["event"]["set"] == {"value": 20}
    assert plain["personalization"]["actions"] == []


@pytest.mark.parametrize("path", ["/make-event-decision", "/make-personalization-decision"])
async def test_in_the_event_they_are_parameters(decide: httpx.AsyncClient, path: str) -> None:
    plain = told(await decide.post(path, json=EVENT))

    answer = told(await decide.post(path, json={**EVENT, **SMUGGLED}))

    if path == "/make-event-decision":
        assert answer["resolved_event_payload"] == {**EVENT, **SMUGGLED, "value": 20}
        del answer["resolved_event_payload"], plain["resolved_event_payload"]
    assert answer == plain


@pytest.mark.parametrize("expression", EXPRESSIONS)
async def test_an_expression_is_text(decide: httpx.AsyncClient, expression: str) -> None:
    event = {**EVENT, "note": expression, expression: 1, "items": [{"item_id": expression}]}

    answer = told(await decide.post("/make-event-decision", json=event))

    assert answer["resolved_event_payload"] == {**event, "value": 20}


async def test_stitching_stores_nothing_of_them(start: Start, decide: httpx.AsyncClient) -> None:
    stitch_async, stitch_sync = await start("stitch_async"), await start("stitch_sync")
    before = (await decide.get("/health")).json()["rules"]
    identifiers = {"client_id": "91.1747154479"}

    pushed = await stitch_async.post(
        "/", json=push_body({**SMUGGLED, "identifiers": identifiers}, "m1")
    )
    found = await stitch_sync.post("/", json={**SMUGGLED, "identifiers": identifiers})
    swept = await stitch_async.post("/sweep")

    assert pushed.status_code == 204
    assert (found.json()["found"], found.json()["attributes"]) == (True, {})
    assert swept.json()["rules"] in ("none", "unchanged")
    assert (before["count"], (await decide.get("/health")).json()["rules"]) == (1, before)
    assert "Gold" not in json.dumps(found.json())
