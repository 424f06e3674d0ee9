"""A lookup by GET and the same one by POST are answered alike, field by field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.end_to_end.running_stack import RunningStack, until

LOOKUPS: dict[str, dict[str, str]] = {
    "a customer": {"user_id": "u-1001"},
    "an address": {"email_sha256": "Mara@example.com"},
    "a bare id": {"id": "loyalty-card-88"},
    "a bare id that is a user id": {"id": "u-1002"},
    "a browser": {"anonymous_id": "5f0c2a9e-3b1d-4c58-9a67-1e2d3c4b5a69"},
    "two identifiers of one person": {
        "user_id": "u-1001",
        "anonymous_id": "5f0c2a9e-3b1d-4c58-9a67-1e2d3c4b5a69",
    },
    "a view": {
        "anonymous_id": "5f0c2a9e-3b1d-4c58-9a67-1e2d3c4b5a69",
        "view": "features_by_anonymous_id",
    },
    "a view that this type may not ask for": {
        "user_id": "u-1001",
        "view": "features_by_anonymous_id",
    },
    "a view that nobody declared": {"user_id": "u-1001", "view": "x"},
    "nobody": {"client_id": "404.404"},
    "nobody, with the status for it": {"client_id": "404.404", "not_found": "404"},
    "a customer, with the status for nobody": {"user_id": "u-1001", "not_found": "404"},
    "a blocked value": {"client_id": "undefined"},
    "a request id": {"user_id": "u-1001", "request_id": "r-1"},
    "a request id of other characters": {"user_id": "u-1001", "request_id": "r.1"},
    "no identifier": {},
    "an empty id": {"id": ""},
    "an empty identifier": {"client_id": ""},
    "a control character": {"client_id": "a\nb"},
    "an identifier that is too long": {"client_id": "x" * 600},
    "an unknown mode": {"user_id": "u-1001", "mode": "later"},
    "accepted": {"client_id": "5.5", "mode": "async", "request_id": "accepted-1"},
    "an unregistered callback": {"client_id": "5.5", "mode": "async", "callback": "x"},
}


def as_body(query: dict[str, str]) -> dict[str, Any]:
    """Return the body that asks what the query does; `not_found` stays in the address."""
    own = ("id", "view", "mode", "callback", "request_id", "not_found")
    body: dict[str, Any] = {n: v for n, v in query.items() if n in own and n != "not_found"}
    return body | {"identifiers": {n: v for n, v in query.items() if n not in own}}


def answered(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """Ask until the store has answered in time; on an idle machine that is at once."""

    def in_time() -> httpx.Response | None:
        answer = ask()
        return None if answer.json().get("degraded") else answer

    return until(in_time, seconds=20, what="an answer that is not degraded")


def told(answer: httpx.Response, *, has_request_id: bool) -> tuple[Any, ...]:
    """Return all of an answer but what is new in each: times, ids that nobody sent."""
    body = answer.json()
    if "error" in body:
        assert len(body["error"].pop("error_id")) == 32
    elif not has_request_id:
        assert len(body.pop("request_id")) == 32
    changing = {"date", "server-timing", "content-length"}
    headers = {name: value for name, value in answer.headers.items() if name not in changing}
    return answer.status_code, body, headers


@pytest.mark.parametrize("query", LOOKUPS.values(), ids=LOOKUPS)
def test_both_are_answered_alike(stack: RunningStack, query: dict[str, str]) -> None:
    address = "/stitch_sync?not_found=404" if "not_found" in query else "/stitch_sync"
    with stack.client() as client:
        by_get = answered(lambda: client.get("/stitch_sync", params=query))
        by_post = answered(lambda: client.post(address, json=as_body(query)))

    has_request_id = "request_id" in query
    assert told(by_get, has_request_id=has_request_id) == told(
        by_post, has_request_id=has_request_id
    )


def test_only_a_post_asks_for_a_link(stack: RunningStack) -> None:
    query = {"user_id": "u-1003", "client_id": "616.1747154479"}
    with stack.client() as client:
        by_get = answered(lambda: client.get("/stitch_sync", params=query)).json()
        body = {"identifiers": query, "deadline_ms": 5000}
        by_post = client.post("/stitch_sync", json=body).json()

    assert (by_get["reason"], by_post["reason"]) == ("KNOWN_PROFILE", "MERGE_PENDING")
    assert by_get["attributes"] == by_post["attributes"]


def test_what_caches_add_to_an_address_changes_nothing(stack: RunningStack) -> None:
    with stack.client() as client:
        known = {"user_id": "u-1001"}
        plain = answered(lambda: client.get("/stitch_sync", params=known))
        more = answered(
            lambda: client.get("/stitch_sync", params={**known, "_": "1", "gclid": "x"})
        )

    assert told(plain, has_request_id=False) == told(more, has_request_id=False)
