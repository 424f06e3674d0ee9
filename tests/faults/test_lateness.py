"""Answers are there by their deadline, whatever hangs; bench/lateness.py measures by how much."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from tests.faults.conftest import Start
from tests.faults.stub_google import FIRESTORE, Fault, StubGoogle, silent, slow
from tests.faults.timing import MARGIN_S

LATE_S = 0.02
"""What the typical answer may take beyond its deadline. It has no need of it on a quiet machine:
calls end 10 to 40 ms before."""

FAULTS: dict[str, tuple[Fault, Sequence[str]]] = {
    "Firestore never answers": (silent, FIRESTORE),
    "Firestore answers behind the deadline": (slow(2), FIRESTORE),
    "Firestore commits nothing": (silent, ["Commit"]),
    "Pub/Sub never answers": (silent, ["Publish"]),
    "nothing is committed or published": (silent, ["Commit", "Publish"]),
    "nobody answers": (silent, [*FIRESTORE, "Publish"]),
}

_visitors = itertools.count(1_000_000_000)


def question(kind: str) -> dict[str, Any]:
    client_id = f"{next(_visitors)}.1747154479"
    if kind == "activation":
        identifier = {"type": "anonymous_id", "value": f"visitor-{client_id}"}
        return {"entity": "user", "id": identifier, "view": "features_by_anonymous_id"}
    if kind == "stitch_sync":
        return {"identifiers": {"user_id": "u-1001", "client_id": client_id}}
    return {"event": {"event_name": kind, "client_id": client_id, "value": 7.5}}


@pytest.mark.parametrize("deadline_ms", [60, 250])
@pytest.mark.parametrize("kind", ["purchase", "view_promotion", "stitch_sync", "activation"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_an_answer_is_there_by_its_deadline(
    google: StubGoogle, start: Start, fault: str, kind: str, deadline_ms: int
) -> None:
    client = await start("decide" if kind in ("purchase", "view_promotion") else "stitch_sync")
    google.fail(FAULTS[fault][0], *FAULTS[fault][1])

    late = [await lateness(client, kind, deadline_ms) for _ in range(5)]

    assert statistics.median(late) < LATE_S, late
    assert max(late) < LATE_S + MARGIN_S, late


async def test_thirty_answers_that_are_due_at_once_are_there_by_their_deadline(
    google: StubGoogle, start: Start
) -> None:
    client = await start("decide")
    google.fail(silent, "Publish")

    late = await asyncio.gather(*(lateness(client, "purchase", 1000) for _ in range(30)))

    assert statistics.median(late) < LATE_S + 0.1, late
    assert max(late) < LATE_S + MARGIN_S, late


async def lateness(client: httpx.AsyncClient, kind: str, deadline_ms: int) -> float:
    """The seconds by which the answer came after its deadline."""
    body = {**question(kind), "deadline_ms": deadline_ms}
    started = time.monotonic()
    answer = await client.post("/activation" if kind == "activation" else "/", json=body)
    took = time.monotonic() - started
    assert answer.status_code == 200
    return took - deadline_ms / 1000
