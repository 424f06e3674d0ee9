"""A stack with one endpoint that never answers and one that does."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.running_stack import RunningStack, running_stack
from tests.end_to_end.stub_sgtm import StubSgtm

REQUESTS = 12
OF_USE_S = 12
"""Seconds for which a result for the dead endpoint is of use: two attempts of five seconds."""


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """An endpoint that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield listener


def endpoints(alive: StubSgtm, dead: socket.socket) -> str:
    """Return the setting that registers both."""
    [living] = json.loads(alive.setting)
    url = f"http://127.0.0.1:{dead.getsockname()[1]}/callback"
    return json.dumps([living | {"id": "alive"}, living | {"id": "dead", "url": url}])


def ask(stack: RunningStack, endpoint: str, number: int) -> str:
    """Have a visitor stitched; return the request's id."""
    request_id = f"{endpoint}-{number}"
    body: dict[str, Any] = {
        "mode": "async",
        "identifiers": {"client_id": f"{number}.{ord(endpoint[0])}"},
        "callback": endpoint,
        "request_id": request_id,
    }
    if endpoint == "dead":
        body["expires_at"] = (datetime.now(UTC) + timedelta(seconds=OF_USE_S)).isoformat()
    with stack.client() as client:
        assert client.post("/stitch_sync", json=body).status_code == 202
    return request_id


def delivery(stack: RunningStack, request_id: str) -> tuple[str, int]:
    """Return how a callback ended, and after how many attempts."""
    rows = stack.audit_of(request_id, 2)
    [row] = [row for row in rows if row["record_type"] == "callback_delivery"]
    extra = row["extra"] if isinstance(row["extra"], dict) else json.loads(row["extra"])
    return row["outcome"], extra["attempts"]


def test_the_living_endpoint_hears_everything_at_the_first_attempt(
    tmp_path: Path, silent: socket.socket
) -> None:
    with (
        StubSgtm() as alive,
        running_stack(
            tmp_path,
            TAGSTITCH_CALLBACKS=endpoints(alive, silent),
            TAGSTITCH_RETRY_SCALE="0.05",
        ) as stack,
    ):
        asked = {
            name: [ask(stack, name, number) for number in range(REQUESTS)]
            for name in ("dead", "alive")
        }
        for request_id in asked["alive"]:
            assert alive.wait_for(request_id).is_signed

        assert {delivery(stack, each) for each in asked["alive"]} == {("delivered", 1)}
        assert {delivery(stack, each)[0] for each in asked["dead"]} == {"expired"}
        assert len(alive.callbacks) == REQUESTS
        with stack.client() as client:
            for number in range(REQUESTS):
                answer = client.get("/stitch_sync", params={"client_id": f"{number}.{ord('d')}"})
                assert answer.json()["found"] is True
