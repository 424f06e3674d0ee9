"""The status of a lookup: 404 on request for nobody, and for nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.functions.conftest import Start


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({}, 404, "UNKNOWN_PROFILE"),
        ({"consent": {"analytics_storage": False}}, 200, "CONSENT_DENIED"),
        ({"identifiers": {"client_id": "undefined"}}, 200, "BLOCKED_IDENTIFIER"),
    ],
)
async def test_only_nobody_is_a_404_and_only_on_request(
    start: Start, body: dict[str, Any], status: int, reason: str
) -> None:
    client = await start("stitch_sync")
    body = {"identifiers": {"client_id": "1294673677.1747154479"}, **body}

    asked = await client.post("/?not_found=404", json=body)
    unasked = await client.post("/", json=body)

    assert (asked.status_code, asked.json()["reason"]) == (status, reason)
    assert (unasked.status_code, unasked.json()["reason"]) == (200, reason)


async def test_an_accepted_request_is_not_a_404(start: Start) -> None:
    client = await start("stitch_sync")
    body = {"identifiers": {"client_id": "1294673677.1747154479"}, "mode": "async"}

    assert (await client.post("/?not_found=404", json=body)).status_code == 202
