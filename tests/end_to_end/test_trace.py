"""One request is followed by its trace through every function, however often an endpoint fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.contract.stub_endpoint import StubEndpoint, say
from tests.end_to_end.running_stack import RunningStack, running_stack, until
from tests.end_to_end.stub_sgtm import SECRET

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = f"00-{TRACE}-00f067aa0ba902b7-01"
STITCH = {
    "request_id": "followed", "mode": "async", "callback": "main",
    "identifiers": {"client_id": "7.8", "user_id": "u-7"},
}  # fmt: skip


def functions_of(stack: RunningStack) -> set[str]:
    """Return the functions that wrote a line in the trace."""
    name = "logging.googleapis.com/trace"
    wanted = f"projects/local/traces/{TRACE}"
    return {line["function"] for line in stack.log_lines() if line.get(name) == wanted}


def has_ended(stack: RunningStack) -> bool:
    rows = stack.listed("audit", request_id="followed")
    return "callback_delivery" in {row["record_type"] for row in rows}


def traceparents(received: list[bytes]) -> list[str]:
    heads = [request.partition(b"\r\n\r\n")[0].decode().lower() for request in received]
    pairs = [line.partition(": ") for head in heads for line in head.splitlines()]
    return [value for name, _, value in pairs if name == "traceparent"]


def test_a_request_is_followed_to_its_callback_and_its_rows(tmp_path: Path) -> None:
    answers = [say("503 Busy"), say("503 Busy"), say("200 OK")]

    def behave(endpoint: StubEndpoint, connection: Any) -> None:
        answers[min(len(endpoint.requests), len(answers)) - 1](endpoint, connection)

    with StubEndpoint(behave) as sgtm:
        callback = {
            "id": "main",
            "url": sgtm.url,
            "secret": SECRET,
            "attributes": ["*"],
            "allow_private": True,
        }
        settings = {
            "TAGSTITCH_CALLBACKS": json.dumps([callback]), "TAGSTITCH_RETRY_SCALE": "0.01",
        }  # fmt: skip
        with running_stack(tmp_path, **settings) as stack:
            with stack.client() as client:
                headers = {"traceparent": SAMPLED}
                accepted = client.post("/stitch_sync", json=STITCH, headers=headers)
            until(lambda: has_ended(stack), seconds=60, what="the callback's record")
            rows = stack.listed("audit", request_id="followed")
            assert stack.stop() == 0
            functions = functions_of(stack)

    told = traceparents(sgtm.requests)
    assert accepted.status_code == 202
    assert len(told) == len(sgtm.requests) == 3
    assert {text.split("-")[1] for text in told} == {TRACE}
    assert {text[-3:] for text in told} == {"-01"}
    assert functions == {"stitch_sync", "stitch_async", "audit_sink"}
    assert {row["trace_id"] for row in rows} == {TRACE}
    assert {row["record_type"] for row in rows} == {"identity_link", "callback_delivery"}
