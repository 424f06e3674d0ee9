"""Firestore hangs, drips, refuses or is not there: what decide and stitch_sync answer, and when."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import httpx
import pytest

from tagstitch.adapters.firestore_documents import FirestoreDocuments
from tagstitch.core.errors import Conflict, Unavailable
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tests.faults.bad_ports import PORTS
from tests.faults.conftest import Start
from tests.faults.stub_google import FIRESTORE, READS, Fault, StubGoogle, refusing, silent, slow
from tests.faults.timing import MARGIN_S, within

Call = Callable[[FirestoreDocuments, Deadline], Awaitable[object]]
Port = Callable[[], AbstractAsyncContextManager[int]]

CALLS: dict[str, Call] = {
    "GetDocument": lambda documents, deadline: documents.get("c/a", deadline=deadline),
    "BatchGetDocuments": lambda documents, deadline: documents.get_many(
        ["c/a", "c/b"], deadline=deadline
    ),
    "RunQuery": lambda documents, deadline: documents.list_documents("c", deadline=deadline),
    "Commit": lambda documents, deadline: documents.commit([Put("c/a", {})], deadline=deadline),
}

CODES = [
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
]

DEADLINE_MS = 800
PURCHASE = {"event_name": "purchase", "client_id": "5.5", "value": 7.5}
OFFER = {"event_name": "view_promotion", "client_id": "5.5"}


async def decide(client: httpx.AsyncClient, event: dict[str, Any], **body: Any) -> dict[str, Any]:
    with within(DEADLINE_MS / 1000):
        answer = await client.post("/", json={"event": event, "deadline_ms": DEADLINE_MS, **body})
    assert answer.status_code == 200
    return dict(answer.json())


async def look_up(client: httpx.AsyncClient) -> dict[str, Any]:
    body = {"identifiers": {"user_id": "u-1001"}, "deadline_ms": DEADLINE_MS}
    with within(DEADLINE_MS / 1000):
        answer = await client.post("/", json=body)
    assert answer.status_code == 200
    return dict(answer.json())


class TestCalls:
    """One call of the adapter."""

    @pytest.mark.parametrize("port", PORTS)
    @pytest.mark.parametrize("call", CALLS)
    async def test_a_port_behind_which_nothing_is_right_is_unavailable_in_time(
        self, port: str, call: str
    ) -> None:
        async with PORTS[port]() as number:
            documents = FirestoreDocuments("project", emulator=f"127.0.0.1:{number}")
            try:
                with within(0.3), pytest.raises(Unavailable):
                    await CALLS[call](documents, Deadline.after(0.3))
            finally:
                await documents.close()

    @pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
    @pytest.mark.parametrize("call", CALLS)
    async def test_an_error_is_unavailable_at_once_without_another_try_and_quotes_nothing(
        self, google: StubGoogle, call: str, code: grpc.StatusCode
    ) -> None:
        google.fail(refusing(code), call)
        documents = FirestoreDocuments("project", emulator=google.address)
        try:
            with within(0), pytest.raises(Unavailable) as raised:
                await CALLS[call](documents, Deadline.after(20))
        finally:
            await documents.close()

        assert google.calls[call] == 1
        assert str(raised.value) == f"firestore is unavailable: {code.name}"

    async def test_contention_is_a_conflict(self, google: StubGoogle) -> None:
        google.fail(refusing(grpc.StatusCode.ABORTED), "Commit")
        documents = FirestoreDocuments("project", emulator=google.address)
        try:
            with within(0), pytest.raises(Conflict):
                await CALLS["Commit"](documents, Deadline.after(20))
        finally:
            await documents.close()

    @pytest.mark.parametrize("call", CALLS)
    async def test_an_answer_that_comes_too_late_is_none(
        self, google: StubGoogle, call: str
    ) -> None:
        google.fail(slow(30), call)
        documents = FirestoreDocuments("project", emulator=google.address)
        try:
            with within(0.2, at_least=0.15), pytest.raises(Unavailable):
                await CALLS[call](documents, Deadline.after(0.2))
        finally:
            await documents.close()


READ_FAULTS: dict[str, Fault] = {
    "never answers": silent,
    "answers in 30 s": slow(30),
    "is exhausted": refusing(grpc.StatusCode.RESOURCE_EXHAUSTED),
    "is unavailable": refusing(grpc.StatusCode.UNAVAILABLE),
    "has an error": refusing(grpc.StatusCode.INTERNAL),
    "denies": refusing(grpc.StatusCode.PERMISSION_DENIED),
}
COMMIT_FAULTS: dict[str, Fault] = {
    **READ_FAULTS,
    "says that others are first": refusing(grpc.StatusCode.ABORTED),
}


class TestAnswers:
    """What a caller hears, within its deadline."""

    @pytest.mark.parametrize("fault", READ_FAULTS)
    async def test_decide_applies_the_rules_that_need_no_profile(
        self, google: StubGoogle, start: Start, fault: str
    ) -> None:
        client = await start("decide")
        google.fail(READ_FAULTS[fault], *FIRESTORE)

        answer = await decide(client, PURCHASE)

        assert answer["degraded"] == ["profile"]
        assert answer["event"]["drop"] is False
        assert answer["event"]["rename"] == "micro_purchase"

    @pytest.mark.parametrize("fault", READ_FAULTS)
    async def test_stitch_sync_says_that_it_cannot_tell(
        self, google: StubGoogle, start: Start, fault: str
    ) -> None:
        client = await start("stitch_sync")
        google.fail(READ_FAULTS[fault], *FIRESTORE)

        answer = await look_up(client)

        assert answer["found"] is False
        assert (answer["reason"], answer["degraded"]) == ("ERROR", ["profile"])

    @pytest.mark.parametrize("fault", COMMIT_FAULTS)
    async def test_what_cannot_be_committed_is_not_given(
        self, google: StubGoogle, start: Start, fault: str
    ) -> None:
        client = await start("decide")
        google.fail(COMMIT_FAULTS[fault], "Commit")

        answer = await decide(client, OFFER)

        assert answer["degraded"] == ["state"]
        assert answer["personalization"]["actions"] == []
        google.heal()
        again = await decide(client, OFFER)
        assert [action["name"] for action in again["personalization"]["actions"]] == ["offer"]

    @pytest.mark.parametrize("port", PORTS)
    async def test_an_instance_that_starts_at_a_bad_port_lets_events_pass(
        self, start: Start, port: str
    ) -> None:
        async with PORTS[port]() as number:
            address = f"127.0.0.1:{number}"
            client = await start("decide", is_ready=False, FIRESTORE_EMULATOR_HOST=address)
            await client.get("/health")
            with within(20):  # imports, which take place before a deadline begins
                await client.post("/", json={"event": PURCHASE})
            answer = await decide(client, PURCHASE)

        assert answer["event"]["drop"] is False
        assert answer["event"]["modifications"] == []
        assert answer["degraded"] == ["profile", "rules", "stitch"]


class TestBeingLeftAlone:
    """A circuit breaker: nobody waits for a Firestore that has not answered for a second."""

    @pytest.mark.parametrize("function", ["decide", "stitch_sync"])
    async def test_after_a_second_of_silence_answers_come_at_once(
        self, google: StubGoogle, start: Start, function: str
    ) -> None:
        client = await start(function)
        numbers = itertools.count()

        async def ask() -> dict[str, Any]:
            visitor = f"{next(numbers)}.7"
            event = {"event_name": "purchase", "client_id": visitor, "value": 7.5}
            body = (
                {"event": event}
                if function == "decide"
                else {"identifiers": {"client_id": visitor}}
            )
            answer = await client.post("/", json={**body, "deadline_ms": 1000})
            return dict(answer.json())

        google.fail(silent, *FIRESTORE)
        await asyncio.gather(*(ask() for _ in range(5)))
        await asyncio.gather(*(ask() for _ in range(5)))
        await asyncio.gather(*(ask() for _ in range(5)))
        before, started = google.asked.total(), time.monotonic()
        answers = [await ask() for _ in range(40)]
        took = time.monotonic() - started

        # Without a breaker: 40 times half a second or more.
        assert took < 40 * 0.5 / 2
        assert google.asked.total() - before < 20
        assert {tuple(answer["degraded"]) for answer in answers} == {("profile",)}

        google.heal()
        end = time.monotonic() + 8 + MARGIN_S
        while (await ask())["degraded"]:
            assert time.monotonic() < end, "what is back must be used again"


class TestRules:
    """The rules in memory."""

    async def test_rules_that_cannot_be_refreshed_count_on_and_health_says_stale(
        self, google: StubGoogle, start: Start
    ) -> None:
        client = await start("decide", TAGSTITCH_RULES_REFRESH_S="0.1")
        before = (await client.get("/health")).json()

        async def health_after(status: str) -> dict[str, Any]:
            async with asyncio.timeout(20):
                while (health := (await client.get("/health")).json())["status"] != status:
                    await decide(client, PURCHASE)
            return dict(health)

        google.fail(refusing(grpc.StatusCode.UNAVAILABLE), *FIRESTORE)
        stale = await health_after("stale")
        answer = await decide(client, PURCHASE)
        google.heal()
        fresh = await health_after("ok")

        assert answer["event"]["rename"] == "micro_purchase"
        assert answer["rules_version"] == before["rules"]["version"]
        assert stale["rules"]["count"] == before["rules"]["count"]
        assert before["rules"]["loaded_at"] <= stale["rules"]["loaded_at"]
        assert stale["rules"]["loaded_at"] < fresh["rules"]["loaded_at"]

    async def test_fifty_first_requests_share_one_load(
        self, google: StubGoogle, start: Start
    ) -> None:
        google.fail(slow(0.2), *READS)
        client = await start("decide", is_ready=False)
        google.asked.clear()
        body = {"event": PURCHASE, "deadline_ms": 5000}

        answers = await asyncio.gather(*(client.post("/", json=body) for _ in range(50)))

        assert {answer.json()["event"]["rename"] for answer in answers} == {"micro_purchase"}
        assert {tuple(answer.json()["degraded"]) for answer in answers} == {()}
        loads = {path: n for path, n in google.asked.items() if path.startswith("rule_")}
        assert loads
        assert set(loads.values()) == {1}
