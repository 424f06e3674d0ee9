"""Pub/Sub hangs, drips, refuses or is not there: what is answered, and where records go then."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest

from tagstitch.adapters.pubsub_publisher import PubsubPublisher
from tagstitch.core.errors import Unavailable
from tagstitch.pipeline.deadline import Deadline
from tests.faults.bad_ports import PORTS
from tests.faults.conftest import Start
from tests.faults.stub_google import Fault, StubGoogle, refusing, silent, slow
from tests.faults.timing import within

FAULTS: dict[str, Fault] = {
    "never answers": silent,
    "answers in 30 s": slow(30),
    "is exhausted": refusing(grpc.StatusCode.RESOURCE_EXHAUSTED),
    "is unavailable": refusing(grpc.StatusCode.UNAVAILABLE),
    "has an error": refusing(grpc.StatusCode.INTERNAL),
    "knows no such topic": refusing(grpc.StatusCode.NOT_FOUND),
}

DEADLINE_MS = 800
ACCEPTING_S = 2.0
"""Seconds in which an asynchronous request must reach Pub/Sub."""

_visitors = itertools.count(1_000_000_000)


def purchase() -> dict[str, Any]:
    """An event that a trait counts, of a visitor whom nobody knows."""
    return {
        "event_name": "purchase",
        "client_id": f"{next(_visitors)}.1747154479",
        "value": 7.5,
    }


async def decide(client: httpx.AsyncClient, event: dict[str, Any]) -> dict[str, Any]:
    with within(DEADLINE_MS / 1000):
        answer = await client.post("/", json={"event": event, "deadline_ms": DEADLINE_MS})
    assert answer.status_code == 200
    return dict(answer.json())


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The names of the log's lines."""
    names: list[str] = []

    class Names(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            names.append(record.getMessage())

    handler = Names()
    logging.getLogger("tagstitch").addHandler(handler)
    yield names
    logging.getLogger("tagstitch").removeHandler(handler)


class TestCalls:
    @pytest.mark.parametrize("port", PORTS)
    async def test_a_port_behind_which_nothing_is_right_is_unavailable_in_time(
        self, port: str
    ) -> None:
        async with PORTS[port]() as number:
            publisher = PubsubPublisher("project", emulator=f"127.0.0.1:{number}")
            try:
                with within(0.3), pytest.raises(Unavailable):
                    await publisher.publish("audit", b"x", deadline=Deadline.after(0.3))
            finally:
                await publisher.close()

    @pytest.mark.parametrize(
        "fault", [f for f in FAULTS if f not in ("never answers", "answers in 30 s")]
    )
    async def test_an_error_is_unavailable_at_once_without_another_try(
        self, google: StubGoogle, fault: str
    ) -> None:
        google.fail(FAULTS[fault], "Publish")
        publisher = PubsubPublisher("project", emulator=google.address)
        try:
            with within(0), pytest.raises(Unavailable) as raised:
                await publisher.publish("audit", b"x", deadline=Deadline.after(20))
        finally:
            await publisher.close()

        assert google.calls["Publish"] == 1
        assert "somebody" not in str(raised.value)


class TestAnswers:
    @pytest.mark.parametrize("fault", FAULTS)
    async def test_a_decision_is_whole_and_its_record_leaves_as_a_line_of_the_log(
        self, google: StubGoogle, start: Start, lines: list[str], fault: str
    ) -> None:
        client = await start("decide")
        google.fail(FAULTS[fault], "Publish")

        answer = await decide(client, purchase())

        assert answer["event"]["rename"] == "micro_purchase"
        assert answer["degraded"] == ["audit", "stitch"]
        assert lines.count("AUDIT_FALLBACK") == 2, "one for the event, one for the personalization"

    @pytest.mark.parametrize(
        ("topic", "missing"), [("audit", "audit"), ("stitch-requests", "stitch")]
    )
    async def test_one_topic_that_hangs_holds_up_no_other(
        self, google: StubGoogle, start: Start, topic: str, missing: str
    ) -> None:
        client = await start("decide")
        google.messages.clear()
        google.fail(silent, f"Publish {topic}")

        answer = await decide(client, purchase())

        assert answer["degraded"] == [missing]
        assert {name for name, _ in google.messages} == {"audit", "stitch-requests"} - {topic}

    @pytest.mark.parametrize("fault", ["never answers", "is unavailable"])
    async def test_state_that_was_committed_counts_and_its_record_waits_in_its_document(
        self, google: StubGoogle, start: Start, fault: str
    ) -> None:
        client = await start("decide")
        google.fail(FAULTS[fault], "Publish")
        event = {"event_name": "view_promotion", "client_id": purchase()["client_id"]}

        answer = await decide(client, event)

        assert answer["degraded"] == ["stitch"], "a trait counts the event"
        assert [action["name"] for action in answer["personalization"]["actions"]] == ["offer"]
        marks = [name for name in google.documents if "/processed/" in name]
        assert len(marks) == 1
        assert "pending" in google.documents[marks[0]].fields

    @pytest.mark.parametrize("fault", FAULTS)
    async def test_a_lookup_answers_what_is_known_and_says_that_no_link_was_asked_for(
        self, google: StubGoogle, start: Start, fault: str
    ) -> None:
        client = await start("stitch_sync")
        google.fail(FAULTS[fault], "Publish")
        identifiers = {"user_id": "u-1001", "client_id": purchase()["client_id"]}
        body = {"identifiers": identifiers, "deadline_ms": DEADLINE_MS}

        with within(DEADLINE_MS / 1000):
            answer = (await client.post("/", json=body)).json()

        assert (answer["found"], answer["reason"]) == (True, "KNOWN_PROFILE")
        assert answer["degraded"] == ["stitch"]

    @pytest.mark.parametrize("fault", FAULTS)
    async def test_an_asynchronous_request_is_refused_and_never_accepted_for_nothing(
        self, google: StubGoogle, start: Start, fault: str
    ) -> None:
        client = await start("stitch_sync")
        google.fail(FAULTS[fault], "Publish")
        body = {"mode": "async", "identifiers": {"client_id": purchase()["client_id"]}}

        with within(ACCEPTING_S):
            answer = await client.post("/", json=body)

        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["error"]["code"] == "unavailable"
