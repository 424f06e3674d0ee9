"""The steps of the demo: requests with the answers that they must get."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

_WAIT_S = 15.0
"""Seconds for what arrives through the queue."""

_POLL_S = 0.05

CLIENT_ID = "5551234567.1763700000"
"""The browser that the demo introduces."""

CALLBACK_REQUEST_ID = "demo-stitch-1"


@dataclass(frozen=True, slots=True)
class Step:
    """One request, its answer, and what must be in it."""

    title: str
    request: str
    sent: Any
    answer: Any
    expected: Mapping[str, Any]

    @property
    def problems(self) -> list[str]:
        """What is wrong with the answer; empty when it is right."""
        found = []
        for path, wanted in self.expected.items():
            value = value_at(self.answer, path)
            if value != wanted:
                found.append(f"{path} is {value!r}, not {wanted!r}")
        return found


def value_at(answer: Any, path: str) -> Any:
    """Return what lies at a path such as `event.modifications.0.type`; None when nothing does."""
    for name in path.split("."):
        if isinstance(answer, Mapping):
            answer = answer.get(name)
        elif isinstance(answer, list) and name.isdigit() and int(name) < len(answer):
            answer = answer[int(name)]
        else:
            return None
    return answer


async def known_visitor(client: httpx.AsyncClient) -> Step:
    """Look up a customer of the samples."""
    answer = await client.get("/stitch_sync", params={"user_id": "u-1001"})
    return Step(
        "sync stitch: a customer we know",
        "GET /stitch_sync?user_id=u-1001",
        None,
        answer.json(),
        {"found": True, "reason": "KNOWN_PROFILE", "attributes.user_loyalty_tier": "Gold"},
    )


async def unknown_visitor(client: httpx.AsyncClient) -> Step:
    """Look up a browser that was never seen: an answer, not an error."""
    answer = await client.get("/stitch_sync", params={"client_id": CLIENT_ID})
    return Step(
        "sync stitch: a browser we have never seen",
        f"GET /stitch_sync?client_id={CLIENT_ID}",
        None,
        answer.json(),
        {"found": False, "reason": "UNKNOWN_PROFILE", "attributes": {}},
    )


async def accepted_request(client: httpx.AsyncClient) -> Step:
    """Hand over browser and customer together; the answer comes before the work."""
    body = {
        "mode": "async",
        "identifiers": {"client_id": CLIENT_ID, "user_id": "u-1001"},
        "request_id": CALLBACK_REQUEST_ID,
        "callback": "main",
        "context": {"page": "/checkout"},
    }
    answer = await client.post("/stitch_sync", json=body)
    return Step(
        "async stitch: the browser logs in as that customer",
        "POST /stitch_sync",
        body,
        answer.json(),
        {"request_id": CALLBACK_REQUEST_ID, "status": "accepted"},
    )


async def signed_callback(client: httpx.AsyncClient) -> Step:
    """Wait for the result at the stand-in for the sGTM endpoint."""
    path = f"/_local/callbacks?request_id={CALLBACK_REQUEST_ID}"
    answer = await _wait_for(client, path, count=1)
    return Step(
        "async stitch: the signed callback arrives",
        f"GET {path}",
        None,
        value_at(answer, "items.0") or answer,
        {
            "signature_valid": True,
            "webhook_id": CALLBACK_REQUEST_ID,
            "body.type": "visitor.stitched",
            "body.data.found": True,
            "body.data.attributes.user_loyalty_tier": "Gold",
            "body.data.context.page": "/checkout",
        },
    )


async def linked_visitor(client: httpx.AsyncClient) -> Step:
    """Look the browser up again: now it is the customer's."""
    answer = await client.get("/stitch_sync", params={"client_id": CLIENT_ID})
    return Step(
        "sync stitch: the browser is now known",
        f"GET /stitch_sync?client_id={CLIENT_ID}",
        None,
        answer.json(),
        {"found": True, "attributes.user_loyalty_tier": "Gold"},
    )


async def event_decisions(client: httpx.AsyncClient) -> list[Step]:
    """Ask for the four things that can happen to an event."""
    lamp = {"item_id": "LAMP-01", "stock_status": "in_stock", "price": 39.0}
    chair = {"item_id": "CHAIR-06", "stock_status": "out_of_stock", "price": 129.0}
    cases: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        (
            "event decision: a small purchase is renamed",
            {"event_name": "purchase", "client_id": "1.1763700001", "value": 7.5},
            {
                "event.drop": False,
                "event.rename": "micro_purchase",
                "event.set._original_event_name": "purchase",
                "event.modifications.0.rule_id": "rename_micro_purchase",
            },
        ),
        (
            "event decision: the value of a churn-risk customer is changed",
            {"event_name": "purchase", "user_id": "u-1002", "value": 100.0, "currency": "EUR"},
            {
                "event.drop": False,
                "event.rename": None,
                "event.set.value": 50.0,
                "event.modifications.0.rule_id": "adjust_churn_risk_value",
            },
        ),
        (
            "event decision: an item that is out of stock is filtered",
            {"event_name": "add_to_cart", "client_id": "1.1763700002", "items": [lamp, chair]},
            {"event.drop": False, "event.set.items": [lamp]},
        ),
        (
            "event decision: a view of a maintenance product is dropped",
            {
                "event_name": "view_item",
                "client_id": "1.1763700003",
                "items": [{"item_id": "PROD_MAINT_001"}],
            },
            {"event.drop": True},
        ),
    ]
    steps = []
    for title, event, expected in cases:
        body = {"event": event, "include": ["event"]}
        answer = await client.post("/decide", json=body)
        nothing_missing: dict[str, Any] = {"degraded": []}
        steps.append(Step(title, "POST /decide", body, answer.json(), expected | nothing_missing))
    return steps


async def personalization_decision(client: httpx.AsyncClient) -> Step:
    """Ask what a gold customer sees beside electronics."""
    event = {
        "event_name": "view_item",
        "client_id": CLIENT_ID,
        "items": [{"item_id": "PHONE-04", "item_category": "Electronics", "price": 449.0}],
    }
    answer = await client.post("/decide/make-personalization-decision", json=event)
    return Step(
        "personalization decision: the stitched browser gets the gold customer's banner",
        "POST /decide/make-personalization-decision",
        event,
        answer.json(),
        {
            "status": "success",
            "reason": "MATCHED",
            "triggered_actions.0.type": "set_cookie",
            "triggered_actions.0.name": "show_discount_banner",
            "triggered_actions.0.value": "electronics_10off",
            "triggered_actions.0.expiry_minutes": 60,
        },
    )


async def computed_traits(client: httpx.AsyncClient) -> Step:
    """Wait until what decide heard of the customer shows in the profile."""
    path = f"/stitch_sync?client_id={CLIENT_ID}"
    expected = {
        "attributes.items_viewed": 1,
        "attributes.favourite_category": "Electronics",
        "attributes.user_loyalty_tier": "Gold",
    }
    give_up_at = time.monotonic() + _WAIT_S
    while True:
        answer = (await client.get(path)).json()
        step = Step(
            "computed traits: the view has been counted for the customer",
            f"GET {path}",
            None,
            answer,
            expected,
        )
        if not step.problems or time.monotonic() > give_up_at:
            return step
        await asyncio.sleep(_POLL_S)


async def audit_has(client: httpx.AsyncClient, count: int) -> None:
    """Wait until the audit table holds so many records, or until the time is up."""
    await _wait_for(client, "/_local/audit", count=count)


async def _wait_for(client: httpx.AsyncClient, path: str, *, count: int) -> Any:
    give_up_at = time.monotonic() + _WAIT_S
    while True:
        answer = (await client.get(path)).json()
        if answer.get("count", 0) >= count or time.monotonic() > give_up_at:
            return answer
        await asyncio.sleep(_POLL_S)
