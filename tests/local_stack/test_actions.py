"""Actions on the local stack with the checkout's own functions: a decision, and what comes of it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tagstitch.adapters.backend_factory import close_backend, open_backend
from tagstitch.adapters.settings import environment_with, read_settings
from tagstitch.adapters.wiring import make_keyring
from tagstitch.core.identifier import Identifier
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.local_stack.server import StackOptions, local_stack_in_thread
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.rule_publication import publish_rules
from tests.contract.stub_endpoint import StubEndpoint, say

CLIENT = Identifier("client_id", "1294673677.1747154479")
RULES = {
    "token": {
        "event_name_trigger": "page_view", "match_all": True, "action_type": "return_value",
        "action_details": {"key": "push_token", "value": True},
    },
    "cart": {
        "event_name_trigger": "add_to_cart", "match_all": True,
        "actions": [
            {"type": "send_email", "template_id": "d-cart", "recipient": "profile.email",
             "data": {"value": {"from": "event.value"}}, "once_per": "day"},
            {"type": "push_message", "channel": "offers",
             "payload": {"text": "${event.value} in the cart"}, "once_per": "day"},
        ],
    },
}  # fmt: skip


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + 20
    while not (result := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return result


async def _prepare(data_dir: Path) -> None:
    local = {"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(data_dir)}
    settings = read_settings(environment_with(overrides=local))
    backend = open_backend(settings)
    keyring, now = make_keyring(settings), datetime.now(UTC)
    profile = {
        "identifiers": {keyring.identifier_key(CLIENT): {"first_seen": now, "last_seen": now}},
        "attributes": {"email": "ada@example.net"},
        "consent": {"email": {"granted": True, "at": now, "source": "import"}},
        "created_at": now,
        "expires_at": now + timedelta(days=30),
    }
    soon = Deadline.after(10)
    put = Put(f"profiles/{keyring.profile_id(CLIENT)}", profile)
    await backend.documents.commit([put], deadline=soon)
    await publish_rules(backend.documents, RuleDefinitions({}, RULES), now, soon)
    await close_backend(settings)


@pytest.fixture
def provider() -> Iterator[StubEndpoint]:
    with StubEndpoint(say("202 Accepted")) as provider:
        yield provider


@pytest.fixture
def stack(tmp_path: Path, provider: StubEndpoint) -> Iterator[httpx.Client]:
    asyncio.run(_prepare(tmp_path))
    mail = {
        "id": "mail", "type": "email", "preset": "sendgrid", "url": provider.url,
        "auth": {"kind": "bearer", "token": "k"}, "values": {"from": "shop@example.com"},
        "allow_private": True,
    }  # fmt: skip
    settings = {
        "TAGSTITCH_RETRY_SCALE": "0.01",
        "TAGSTITCH_RULES_REFRESH_S": "0.2",
        "TAGSTITCH_DESTINATIONS": json.dumps([mail]),
    }
    options = StackOptions(data_dir=tmp_path, port=0, settings=settings)
    with local_stack_in_thread(options) as url, httpx.Client(base_url=url, timeout=20) as client:
        until(lambda: client.get("/decide/health").json()["status"] == "ok")
        yield client


def decide(stack: httpx.Client, name: str) -> list[dict[str, Any]]:
    event = {"event_name": name, "client_id": CLIENT.value, "value": 7.5}
    answer = stack.post("/decide", json={"event": event, "deadline_ms": 5000}).json()
    assert answer["degraded"] == []
    actions: list[dict[str, Any]] = answer["personalization"]["actions"]
    return actions


class Browser:
    """Listens in a thread, as a page does; `lines` is what it heard."""

    def __init__(self, stack: httpx.Client, token: str, **parameters: str) -> None:
        self.lines: list[str] = []
        self._stream = stack.stream("GET", "/_local/push", params={"token": token, **parameters})
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with self._stream as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                self.lines.append(line)
                if line.startswith("data:"):
                    return


def test_a_decision_sends_one_mail_and_one_message_however_often_it_is_made(
    stack: httpx.Client, provider: StubEndpoint
) -> None:
    [action] = decide(stack, "page_view")
    browser = Browser(stack, action["value"])
    until(lambda: browser.lines)

    for _ in range(3):
        decide(stack, "add_to_cart")

    until(lambda: any(line.startswith("data:") for line in browser.lines))
    data = next(line for line in browser.lines if line.startswith("data:"))
    assert json.loads(data.removeprefix("data: ")) == {
        "channel": "offers",
        "payload": {"text": "7.5 in the cart"},
    }
    ended = until(
        lambda: (
            [
                item
                for item in stack.get("/_local/audit").json()["items"]
                if item["record_type"] == "action_delivery"
            ][1:]
            and stack.get("/_local/audit").json()["items"]
        )
    )
    outcomes = sorted(
        (item["extra"]["type"], item["outcome"])
        for item in ended
        if item["record_type"] == "action_delivery"
    )
    assert outcomes == [("push_message", "delivered"), ("send_email", "delivered")]
    assert len(provider.requests) == 1
    assert b'"email":"ada@example.net"' in provider.requests[0]


@pytest.mark.parametrize("token", ["", "made-up"])
def test_without_a_token_there_is_nothing_to_hear(stack: httpx.Client, token: str) -> None:
    answer = stack.get("/_local/push", params={"token": token})

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "unauthorized"
