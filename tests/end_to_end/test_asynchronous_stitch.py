"""The asynchronous half over real HTTP: the signed callback, the audit, repetitions."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tagstitch.adapters.local_secrets import read_local_secrets
from tagstitch.pipeline.webhook_signature import verify_signature
from tests.end_to_end.running_stack import RunningStack
from tests.end_to_end.samples import push_body


class TestAsynchronousStitch:
    def test_the_result_comes_back_signed(self, stack: RunningStack, client: httpx.Client) -> None:
        body = {
            "mode": "async",
            "identifiers": {"client_id": "882001.17", "user_id": "u-1001"},
            "callback": "main",
            "request_id": "async-1",
            "context": {"page": "/checkout"},
        }

        answer = client.post("/stitch_sync", json=body)

        assert answer.status_code == 202
        assert answer.json() == {"request_id": "async-1", "status": "accepted"}
        callback = stack.one_item("callbacks", "async-1")
        assert callback["webhook_id"] == callback["headers"]["webhook-id"] == "async-1"
        assert callback["signature_valid"] is True
        assert callback["path"] == "/_local/sgtm/callback"
        assert callback["body"]["type"] == "visitor.stitched"
        data = callback["body"]["data"]
        assert data.pop("profile_id").startswith("p_")
        assert data.pop("attributes")["user_loyalty_tier"] == "Gold"
        assert data == {
            "request_id": "async-1",
            "found": True,
            "reason": "IDENTIFIER_LINKED",
            "context": {"page": "/checkout"},
        }
        kinds = Counter(row["record_type"] for row in stack.audit_of("async-1", 2))
        assert kinds == {"identity_link": 1, "callback_delivery": 1}

    def test_the_signature_is_the_one_of_the_specification(
        self, stack: RunningStack, client: httpx.Client
    ) -> None:
        secret = read_local_secrets(stack.data_dir)["LOCAL_CALLBACK_SECRET"]
        body = {
            "mode": "async",
            "identifiers": {"client_id": "882002.17"},
            "callback": "main",
            "request_id": "async-2",
        }
        client.post("/stitch_sync", json=body)

        callback = stack.one_item("callbacks", "async-2")

        sent = json.dumps(callback["body"], separators=(",", ":")).encode()
        assert verify_signature(callback["headers"], sent, [secret]) == 0
        assert verify_signature(callback["headers"], sent + b" ", [secret]) is None

    def test_a_get_may_ask_for_it_too(self, stack: RunningStack, client: httpx.Client) -> None:
        parameters = {"client_id": "882003.17", "mode": "async", "callback": "main"}

        answer = client.get("/stitch_sync", params={**parameters, "request_id": "async-3"})

        assert answer.status_code == 202
        assert stack.one_item("callbacks", "async-3")["body"]["data"]["reason"] == (
            "PROFILE_CREATED"
        )

    def test_the_same_request_again_changes_nothing(
        self, stack: RunningStack, client: httpx.Client
    ) -> None:
        body = {
            "mode": "async",
            "identifiers": {"client_id": "882004.17", "user_id": "again-1"},
            "callback": "main",
            "request_id": "async-4",
        }
        for _ in range(5):
            assert client.post("/stitch_sync", json=body).status_code == 202

        wait_until_idle(stack, client)

        assert len(stack.listed("callbacks", request_id="async-4")) == 1
        assert len(stack.listed("audit", request_id="async-4")) == 2

    @pytest.mark.parametrize("copies_at_once", [1, 5])
    def test_a_message_delivered_five_times_has_one_effect(
        self, stack: RunningStack, client: httpx.Client, copies_at_once: int
    ) -> None:
        request_ids = [f"pushed-{copies_at_once}-{number}" for number in range(10)]
        for request_id in request_ids:
            message = {
                "request_id": request_id,
                "identifiers": [
                    {"type": "client_id", "value": f"{request_id}.17"},
                    {"type": "user_id", "value": f"user-{request_id}"},
                ],
                "callback": "main",
            }
            body = push_body(json.dumps(message).encode(), f"m-{request_id}")
            for _ in range(5 // copies_at_once):
                assert post_at_once(stack, body, copies_at_once) == [204] * copies_at_once

        wait_until_idle(stack, client)

        for request_id in request_ids:
            assert len(stack.listed("callbacks", request_id=request_id)) == 1
            rows = stack.listed("audit", request_id=request_id)
            kinds = Counter(row["record_type"] for row in rows)
            assert kinds == {"identity_link": 1, "callback_delivery": 1}

    def test_an_invalid_message_is_acknowledged_and_kept(
        self, stack: RunningStack, client: httpx.Client
    ) -> None:
        message = {"request_id": "invalid-1", "identifiers": [{"type": "shoe_size", "value": "43"}]}
        body = push_body(json.dumps(message).encode(), "m-invalid-1")

        for _ in range(2):
            assert client.post("/stitch_async", json=body).status_code == 204

        letter = stack.one_item("deadletters", "invalid-1")
        assert letter["reason"]["code"] == "invalid_field"
        assert letter["source"]["topic"] == "stitch-requests"
        assert letter["source"]["message_id"] == "m-invalid-1"
        assert "sealed" not in letter
        (record,) = stack.audit_of("invalid-1", 1)
        assert (record["record_type"], record["outcome"]) == ("dead_letter", "rejected")

    def test_the_same_id_with_another_body_is_a_dead_letter(
        self, stack: RunningStack, client: httpx.Client
    ) -> None:
        body = {"mode": "async", "request_id": "conflict-1", "callback": "main"}
        first = {**body, "identifiers": {"client_id": "884001.17"}}
        second = {**body, "identifiers": {"client_id": "884002.17"}}
        client.post("/stitch_sync", json=first)
        stack.one_item("callbacks", "conflict-1")

        assert client.post("/stitch_sync", json=second).status_code == 202

        letter = stack.one_item("deadletters", "conflict-1")
        assert letter["reason"]["code"] == "idempotency_conflict"
        assert len(stack.listed("callbacks", request_id="conflict-1")) == 1


def post_at_once(stack: RunningStack, body: dict[str, Any], copies: int) -> list[int]:
    """Return the statuses of copies of a push that reach the server in one moment."""
    address = urlsplit(stack.url)
    connections = [
        http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
        for _ in range(copies)
    ]
    content = json.dumps(body).encode()
    for connection in connections:
        connection.connect()
    for connection in connections:
        connection.request("POST", "/stitch_async/", content, {"content-type": "application/json"})
    statuses = [connection.getresponse().status for connection in connections]
    for connection in connections:
        connection.close()
    return statuses


def wait_until_idle(stack: RunningStack, client: httpx.Client) -> None:
    """Wait until a request that comes behind all others has gone the whole way."""
    request_id = f"last-{stack.count('audit')}"
    body = {
        "mode": "async",
        "identifiers": {"client_id": f"{request_id}.17"},
        "callback": "main",
        "request_id": request_id,
    }
    client.post("/stitch_sync", json=body)
    stack.audit_of(request_id, 2)
