"""Down, silent and slow services behind the function processes: what a caller hears, and when."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from tagstitch.local_stack.emulators import Emulators
from tests.end_to_end.deployment import KEY, Deployment, deploy, push_body
from tests.end_to_end.fault_proxy import FaultProxy, Mode
from tests.end_to_end.function_process import FunctionProcess

pytestmark = pytest.mark.emulators

Service = Literal["firestore", "pubsub", "bigquery"]

FAULTS: list[Mode] = ["closed", "silent", "slow"]
DOWN: list[Mode] = ["closed", "silent"]

DEADLINE_MS = 250
LATE_S = 0.1
"""Seconds beyond its deadline that the typical answer may take."""
SCHEDULING_S = 1.0
"""More seconds that any single answer may take: other work shares the test machine's cores."""

MESSAGE_S = 30.0
"""Seconds that a pushed message has (adapters/http_function.py)."""

RECOVERY_S = 15.0
"""Seconds in which everything is right again after a service is back."""


@dataclass(frozen=True)
class Faulty:
    """A deployment whose functions reach each service through a proxy."""

    deployment: Deployment
    proxies: dict[Service, FaultProxy]
    client: httpx.Client
    folder: Path

    @contextmanager
    def failing(self, mode: Mode, *services: Service) -> Iterator[None]:
        for service in services:
            self.proxies[service].become(mode)
        try:
            yield
        finally:
            for service in services:
                self.proxies[service].become("open")

    def post(self, function: str | FunctionProcess, path: str, body: Any) -> tuple[Any, float]:
        """The answer and the seconds it took."""
        process = self.deployment.functions[function] if isinstance(function, str) else function
        start = time.monotonic()
        answer = self.client.post(process.url + path, json=body)
        return answer, time.monotonic() - start

    def look_up(self) -> tuple[Any, float]:
        body = {"identifiers": {"user_id": "u-1001"}, "deadline_ms": DEADLINE_MS}
        return self.post("stitch_sync", "/", body)

    def decide(
        self,
        request_id: str | None = None,
        process: FunctionProcess | None = None,
        deadline_ms: int = DEADLINE_MS,
    ) -> tuple[Any, float]:
        event = {"event_name": "purchase", "user_id": "u-1002", "value": 7.5}
        body: dict[str, Any] = {"event": event, "deadline_ms": deadline_ms}
        if request_id is not None:
            body["request_id"] = request_id
        return self.post(process or "decide", "/", body)


@pytest.fixture(scope="module")
def faulty(emulators: Emulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    folder = tmp_path_factory.mktemp("faulty")
    with ExitStack() as stack:
        proxies: dict[Service, FaultProxy] = {
            "firestore": stack.enter_context(FaultProxy(emulators.firestore)),
            "pubsub": stack.enter_context(FaultProxy(emulators.pubsub)),
            "bigquery": stack.enter_context(FaultProxy(emulators.bigquery_storage)),
        }
        environment = {
            "FIRESTORE_EMULATOR_HOST": proxies["firestore"].address,
            "PUBSUB_EMULATOR_HOST": proxies["pubsub"].address,
            "BIGQUERY_STORAGE_EMULATOR_HOST": proxies["bigquery"].address,
        }
        deployment = stack.enter_context(deploy(emulators, folder, environment=environment))
        client = stack.enter_context(httpx.Client(headers={"x-tagstitch-key": KEY}, timeout=60))
        running = Faulty(deployment, proxies, client, folder)
        yield running


Check = Callable[[Faulty], bool]


@contextmanager
def outage(
    faulty: Faulty, mode: Mode, services: Sequence[Service], *checks: Check
) -> Iterator[None]:
    """An outage between two times at which all is right.

    The way back is part of every test: no connection stays bad when its service is back.
    """
    wait_until_right(faulty, checks)
    with faulty.failing(mode, *services):
        yield
    wait_until_right(faulty, checks)


def wait_until_right(faulty: Faulty, checks: Sequence[Check]) -> None:
    """Check all at once, each until it is right."""
    end = time.monotonic() + RECOVERY_S

    def wait(check: Check) -> None:
        while not check(faulty):
            assert time.monotonic() < end, check.__name__
            time.sleep(0.1)

    with ThreadPoolExecutor(len(checks)) as pool:
        list(pool.map(wait, checks))


def lookup_is_right(faulty: Faulty) -> bool:
    answer, _ = faulty.look_up()
    return bool(answer.status_code == 200 and answer.json()["reason"] == "KNOWN_PROFILE")


def decision_is_right(faulty: Faulty) -> bool:
    answer, _ = faulty.decide()
    return bool(answer.status_code == 200 and answer.json()["degraded"] == [])


def accepting_is_right(faulty: Faulty) -> bool:
    answer, _ = faulty.post("stitch_sync", "/", accepted_request())
    return bool(answer.status_code == 202)


def stitching_is_right(faulty: Faulty) -> bool:
    answer, _ = faulty.post("stitch_async", "/", push_body(stitch_request(), new_id()))
    return bool(answer.status_code == 204)


def sink_is_right(faulty: Faulty) -> bool:
    answer, _ = faulty.post("audit_sink", "/", push_body(audit_record(), new_id()))
    return bool(answer.status_code == 204)


def new_id() -> str:
    return secrets.token_hex(8)


def stitch_request() -> dict[str, Any]:
    return {"identifiers": [{"type": "client_id", "value": "1.1763700000"}]}


def accepted_request() -> dict[str, Any]:
    return {"mode": "async", "identifiers": {"client_id": "1.1763700000"}}


def audit_record() -> dict[str, Any]:
    return {
        "record_id": new_id(),
        "record_type": "event_decision",
        "occurred_at": "2026-11-21T20:00:00Z",
        "outcome": "unchanged",
    }


def assert_in_time(seconds: list[float], limit_s: float) -> None:
    assert statistics.median(seconds) < limit_s + LATE_S, seconds
    assert max(seconds) < limit_s + LATE_S + SCHEDULING_S, seconds


@pytest.mark.parametrize("mode", FAULTS)
def test_without_firestore_lookups_and_decisions_answer_in_time_what_they_can(
    faulty: Faulty, mode: Mode
) -> None:
    with outage(faulty, mode, ["firestore"], lookup_is_right, decision_is_right):
        lookups = [faulty.look_up() for _ in range(5)]
        decisions = [faulty.decide() for _ in range(5)]

    for answer, _ in lookups:
        assert answer.status_code == 200
        assert answer.json()["found"] is False
        assert answer.json()["reason"] == "ERROR"
        assert answer.json()["degraded"] == ["profile"]
    for answer, _ in decisions:
        assert answer.status_code == 200
        assert answer.json()["degraded"] == ["profile"]
        assert answer.json()["event"]["rename"] == "micro_purchase"
        assert "value" not in answer.json()["event"]["set"]
    assert_in_time([seconds for _, seconds in lookups], DEADLINE_MS / 1000)
    assert_in_time([seconds for _, seconds in decisions], DEADLINE_MS / 1000)


@pytest.mark.parametrize("mode", FAULTS)
def test_without_pubsub_an_asynchronous_request_is_refused_and_never_accepted(
    faulty: Faulty, mode: Mode
) -> None:
    with outage(faulty, mode, ["pubsub"], accepting_is_right):
        answer, seconds = faulty.post("stitch_sync", "/", accepted_request())

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["error"]["code"] == "unavailable"
    assert seconds < 2.5 + SCHEDULING_S


@pytest.mark.parametrize("mode", FAULTS)
def test_without_pubsub_a_decision_is_recorded_in_the_log(faulty: Faulty, mode: Mode) -> None:
    ids = [new_id() for _ in range(5)]

    with outage(faulty, mode, ["pubsub"], decision_is_right):
        answers = [faulty.decide(request_id) for request_id in ids]

    for answer, _ in answers:
        assert answer.status_code == 200
        assert answer.json()["degraded"] == ["audit", "stitch"]
        assert answer.json()["event"]["rename"] == "micro_purchase"
    assert_in_time([seconds for _, seconds in answers], DEADLINE_MS / 1000)
    lines = faulty.deployment.functions["decide"].log_lines("AUDIT_FALLBACK")
    logged = [line["record"] for line in lines if line["record"]["request_id"] in ids]
    assert [record["request_id"] for record in logged] == [
        request_id for request_id in ids for _ in ("event", "personalization")
    ]
    assert "u-1002" not in str(logged)


@pytest.mark.parametrize("mode", FAULTS)
def test_a_decision_answers_in_time_with_everything_gone(faulty: Faulty, mode: Mode) -> None:
    with outage(faulty, mode, ["firestore", "pubsub", "bigquery"], decision_is_right):
        answers = [faulty.decide() for _ in range(5)]

    for answer, _ in answers:
        assert answer.status_code == 200
        assert answer.json()["degraded"] == ["audit", "profile", "stitch"]
        assert answer.json()["event"]["rename"] == "micro_purchase"
    assert_in_time([seconds for _, seconds in answers], DEADLINE_MS / 1000)


@pytest.mark.parametrize("mode", DOWN)
def test_a_new_instance_without_firestore_lets_events_pass_and_learns_the_rules_later(
    faulty: Faulty, mode: Mode
) -> None:
    running = faulty.deployment.functions["decide"]
    process = FunctionProcess("decide", running.environment, faulty.folder)

    def knows_the_rules(faulty: Faulty) -> bool:
        answer, _ = faulty.decide(process=process)
        return bool(answer.json()["degraded"] == [])

    try:
        with faulty.failing(mode, "firestore"):
            process.start()
            process.wait_until_ready()
            # With time to publish the record behind the reads, on a machine that is busy, too.
            answers = [faulty.decide(process=process, deadline_ms=1000) for _ in range(3)]
        wait_until_right(faulty, [knows_the_rules])
        restored, _ = faulty.decide(process=process)
    finally:
        process.stop()

    for answer, _ in answers:
        assert answer.status_code == 200
        assert answer.json()["degraded"] == ["profile", "rules", "stitch"]
        assert answer.json()["event"]["modifications"] == []
    # The first one waits for the imports of the new process, before its deadline begins.
    assert_in_time([seconds for _, seconds in answers[1:]], 1.0)
    assert restored.json()["event"]["rename"] == "micro_purchase"


def test_the_first_request_of_a_new_instance_is_answered_in_full(faulty: Faulty) -> None:
    running = faulty.deployment.functions["stitch_sync"]
    process = FunctionProcess("stitch_sync", running.environment, faulty.folder)
    try:
        process.start()
        process.wait_until_listening()
        body = {"identifiers": {"user_id": "u-1001"}, "deadline_ms": 1000}
        answer, _ = faulty.post(process, "/", body)
    finally:
        process.stop()

    assert answer.json()["reason"] == "KNOWN_PROFILE"


@pytest.mark.parametrize("mode", DOWN)
def test_messages_that_cannot_be_stored_are_refused_within_their_deadline(
    faulty: Faulty, mode: Mode
) -> None:
    def stitch() -> tuple[Any, float]:
        return faulty.post("stitch_async", "/", push_body(stitch_request(), new_id()))

    def record() -> tuple[Any, float]:
        return faulty.post("audit_sink", "/", push_body(audit_record(), new_id()))

    with (
        outage(faulty, mode, ["firestore", "bigquery"], stitching_is_right, sink_is_right),
        ThreadPoolExecutor(2) as pool,
    ):
        answers = list(pool.map(lambda ask: ask(), [stitch, record]))

    assert [answer.status_code for answer, _ in answers] == [503, 503]
    assert max(seconds for _, seconds in answers) < MESSAGE_S + SCHEDULING_S
