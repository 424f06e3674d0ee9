"""The stack on the emulators: the same functions and endpoints, pushed to by Pub/Sub itself."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tagstitch.core.limits import DEADLINE_MS_MAX
from tagstitch.local_stack.emulator_stack import stack_on_emulators
from tagstitch.local_stack.emulators import Emulators
from tagstitch.local_stack.server import local_stack_in_thread
from tests.emulators import REPOSITORY
from tests.end_to_end.deployment import patient_lookup

pytestmark = pytest.mark.emulators


@pytest.fixture(scope="module")
def stack(emulators: Emulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    project = "stack-" + secrets.token_hex(4)
    options = stack_on_emulators(
        emulators, project, port=0, data_dir=tmp_path_factory.mktemp("stack")
    )
    with local_stack_in_thread(options) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def until(condition: Callable[[], Any], seconds: float = 40) -> Any:
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return result


def items(stack: httpx.Client, what: str, **parameters: str) -> list[dict[str, Any]]:
    answer = stack.get(f"/_local/{what}", params=parameters).json()
    found: list[dict[str, Any]] = answer["items"]
    assert answer["count"] == len(found)
    return found


def accept(stack: httpx.Client) -> str:
    request_id = "r-" + secrets.token_hex(5)
    body = {
        "mode": "async",
        "identifiers": {"client_id": request_id, "user_id": "u-of-" + request_id},
        "request_id": request_id,
        "callback": "main",
    }
    assert stack.post("/stitch_sync", json=body).status_code == 202
    return request_id


def test_a_request_goes_through_pubsub_to_the_stand_in_and_the_audit(stack: httpx.Client) -> None:
    request_id = accept(stack)

    callbacks = until(lambda: items(stack, "callbacks", request_id=request_id))
    until(lambda: len(items(stack, "audit", request_id=request_id)) >= 2)
    rows = items(stack, "audit", request_id=request_id)
    limited = stack.get("/_local/audit", params={"request_id": request_id, "limit": "1"}).json()

    assert [callback["signature_valid"] for callback in callbacks] == [True]
    assert callbacks[0]["webhook_id"] == request_id
    assert {row["record_type"] for row in rows} == {"identity_link", "callback_delivery"}
    assert (limited["count"], len(limited["items"])) == (len(rows), 1)


def test_a_decision_answers_and_is_recorded(stack: httpx.Client) -> None:
    request_id = "r-" + secrets.token_hex(5)
    event = {"event_name": "purchase", "client_id": "7.1763700000", "value": 7.5}
    body = {"event": event, "request_id": request_id, "deadline_ms": DEADLINE_MS_MAX}

    answer = stack.post("/decide", json=body).json()

    assert answer["degraded"] == []
    assert until(lambda: items(stack, "audit", request_id=request_id))


def test_a_reset_leaves_nothing_behind(stack: httpx.Client) -> None:
    request_id = accept(stack)
    until(lambda: items(stack, "callbacks", request_id=request_id))
    accept(stack)  # may still be in the queue

    answer = stack.post("/_local/reset")

    assert answer.status_code == 204
    assert [items(stack, what) for what in ("audit", "callbacks", "deadletters")] == [[], [], []]
    found = stack.post("/stitch_sync", json=patient_lookup(user_id="u-of-" + request_id)).json()
    assert found["reason"] == "UNKNOWN_PROFILE"
    second = accept(stack)  # and it works on
    assert until(lambda: items(stack, "callbacks", request_id=second))


@pytest.mark.usefixtures("installed_emulators")
def test_the_command_brings_everything_up_and_ends_all_of_it(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tagstitch.cli",
        "up",
        "--backend",
        "emulators",
        "--no-container",
        "--json",
    ]
    log = tmp_path / "log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [*command, "--port", "0", "--data-dir", str(tmp_path / "data")],
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=tmp_path,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline() or log.read_bytes())
            url = ready["url"] + "/stitch_sync"
            found = httpx.post(url, json=patient_lookup(user_id="u-1001"), timeout=20).json()
            children = processes_below(process.pid)
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(timeout=60)

    assert found["attributes"]["user_loyalty_tier"] == "Gold"
    assert code == 0, log.read_text()
    assert len(children) >= 4
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))


def processes_below(parent: int) -> set[int]:
    """Every process that descends from it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        parents[int(stat.parent.name)] = int(fields[1])
    found = {parent}
    while more := {pid for pid, above in parents.items() if above in found} - found:
        found |= more
    return found - {parent}
