"""The checkout's own four functions on the local stack."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tagstitch.local_stack.server import StackOptions, local_stack_in_thread


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[httpx.Client]:
    options = StackOptions(data_dir=tmp_path, port=0, settings={"TAGSTITCH_RETRY_SCALE": "0.01"})
    with local_stack_in_thread(options) as url, httpx.Client(base_url=url, timeout=20) as client:
        yield client


def items(stack: httpx.Client, what: str, request_id: str) -> list[dict[str, Any]]:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        answer = stack.get(f"/_local/{what}", params={"request_id": request_id}).json()
        if answer["count"]:
            found: list[dict[str, Any]] = answer["items"]
            return found
        time.sleep(0.02)
    raise AssertionError(f"nothing came to {what}")


@pytest.mark.parametrize("function", ["stitch_sync", "decide", "stitch_async", "audit_sink"])
def test_each_function_is_there(stack: httpx.Client, function: str) -> None:
    answer = stack.get(f"/{function}/health")

    assert answer.status_code == 200
    assert answer.json()["function"] == function


def test_an_async_stitch_comes_back_signed_and_again_after_a_reset(stack: httpx.Client) -> None:
    body = {
        "identifiers": {"client_id": "129.174", "user_id": "u-1"},
        "mode": "async",
        "callback": "main",
        "request_id": "same-request",
    }
    for _ in range(2):
        assert stack.post("/stitch_sync", json=body).status_code == 202

        (callback,) = items(stack, "callbacks", "same-request")

        assert callback["signature_valid"] is True
        assert callback["body"]["data"]["found"] is True
        assert items(stack, "audit", "same-request")
        assert stack.post("/_local/reset").status_code == 204
        found = stack.post("/stitch_sync", json={"identifiers": {"client_id": "129.174"}}).json()
        assert found["reason"] == "UNKNOWN_PROFILE"


def test_a_callback_that_nobody_registered_is_refused(stack: httpx.Client) -> None:
    body = {"identifiers": {"client_id": "129.174"}, "mode": "async", "callback": "nobody"}

    answer = stack.post("/stitch_sync", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "unknown_callback"
