"""Ten thousand asynchronous requests, a kill -9 in the middle, and a count of what became of them."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tagstitch.adapters.in_process_pubsub import _CONCURRENT_PUSHES_MAX
from tagstitch.adapters.local import close_local_backend, open_local_backend
from tagstitch.adapters.settings import read_settings
from tagstitch.pipeline.deadline import Deadline
from tests.end_to_end.running_stack import RunningStack, running_stack, until

REQUESTS = 10_000
VISITORS = 4_000
SENDERS = 16
REPEATED_EVERY = 20
"""Every so many requests one is sent twice, as by a sender that did not read the answer."""

INVALID = 200
SUBSCRIPTIONS_THAT_POST = 2
"""stitch-requests makes the first attempt, actions the others."""

FINISH_S = 240
"""Generous: about 30 s on an idle machine with two cores."""


def request_body(number: int) -> bytes:
    visitor = number % VISITORS
    body = {
        "mode": "async",
        "identifiers": {"client_id": f"{3_000_000 + visitor}.17", "user_id": f"user-{visitor}"},
        "callback": "main",
        "context": {"number": number},
        "request_id": f"bulk-{number}",
    }
    return json.dumps(body).encode()


def invalid_messages() -> Iterator[bytes]:
    """Yield what the queue may hold and stitch_async can never process."""
    for number in range(INVALID):
        wrong: list[Any] = [
            {"identifiers": []},
            {"identifiers": [{"type": "shoe_size", "value": "43"}]},
            {"identifiers": [{"type": "user_id", "value": "u"}], "callback": "nobody"},
            {"identifiers": [{"type": "user_id", "value": "u"}], "v": 7},
            {},
        ]
        yield json.dumps({**wrong[number % len(wrong)], "request_id": f"bad-{number}"}).encode()


@dataclass
class Senders:
    """Clients that go on sending a request until it is answered with 202."""

    port: int
    accepted: int = 0
    resent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    _local: threading.local = field(default_factory=threading.local)
    _connections: list[http.client.HTTPConnection] = field(default_factory=list)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def send(self, number: int) -> None:
        copies = 2 if number % REPEATED_EVERY == 0 else 1
        for _ in range(copies):
            while not self._is_accepted(request_body(number)):
                with self.lock:
                    self.resent += 1
                time.sleep(0.05)
        with self.lock:
            self.accepted += 1

    def _is_accepted(self, body: bytes) -> bool:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            self._local.connection = connection
            self._connections.append(connection)
        headers = {"content-type": "application/json"}
        try:
            connection.request("POST", "/stitch_sync", body, headers)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            self._local.connection = None
            return False
        return bool(answer.status == 202)


def publish_invalid(stack: RunningStack) -> None:
    """Publish into the queue from another process than the stack's, as any publisher may."""

    async def publish() -> None:
        settings = read_settings(
            {"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(stack.data_dir)}
        )
        backend = open_local_backend(settings)
        for message in invalid_messages():
            await backend.publisher.publish("stitch-requests", message, deadline=Deadline.after(30))
        close_local_backend(backend)

    asyncio.run(publish())


def test_every_accepted_request_ends_in_one_callback_or_one_dead_letter(tmp_path: Path) -> None:
    with running_stack(tmp_path, TAGSTITCH_RETRY_SCALE="0.01") as stack:
        started = time.monotonic()
        senders = Senders(port=urlsplit(stack.url).port or 0)
        with ThreadPoolExecutor(SENDERS) as threads:
            sending = [threads.submit(senders.send, number) for number in range(REQUESTS)]
            publish_invalid(stack)
            until(lambda: senders.accepted >= REQUESTS // 2, seconds=FINISH_S, what="half of them")
            stack.kill()
            accepted_at_kill = senders.accepted
            killed_at = time.monotonic()
            stack.start()
            down_s = time.monotonic() - killed_at
            for each in sending:
                each.result()
        senders.close()
        sent_s = time.monotonic() - started
        expected = 2 * REQUESTS + INVALID
        until(lambda: stack.count("audit") >= expected, seconds=FINISH_S, what="every record")
        finished_s = time.monotonic() - started
        with stack.client() as client:
            left_over = client.post("/stitch_async/sweep", json={}).json()
        callbacks, audit = stack.listed("callbacks"), stack.listed("audit")
        dead_letters = stack.listed("deadletters")
        assert stack.stop() == 0

    webhook_ids = Counter(callback["webhook_id"] for callback in callbacks)
    records = Counter((row["record_type"], row["request_id"]) for row in audit)
    failed_attempts = sum((row["extra"] or {}).get("attempts", 1) - 1 for row in audit)
    repeats = sum(webhook_ids.values()) - len(webhook_ids)
    print_table(
        {
            "requests accepted": f"{senders.accepted} ({senders.resent} asked again)",
            "invalid messages published": INVALID,
            "killed at, down for": f"{accepted_at_kill} accepted, {down_s:.1f} s",
            "distinct webhook-ids": len(webhook_ids),
            "repeated webhook-ids": f"{repeats} ({failed_attempts} attempts failed)",
            "dead letters": len(dead_letters),
            "audit records": len(audit),
            "accepted within": f"{sent_s:.1f} s",
            "finished within": f"{finished_s:.1f} s ({REQUESTS / finished_s:.0f} a second)",
        }
    )
    wanted = {f"bulk-{number}" for number in range(REQUESTS)}
    assert set(webhook_ids) == wanted
    assert all(callback["signature_valid"] for callback in callbacks)
    in_flight_max = SUBSCRIPTIONS_THAT_POST * _CONCURRENT_PUSHES_MAX
    assert repeats <= in_flight_max + failed_attempts
    assert [letter["source"]["topic"] for letter in dead_letters] == ["stitch-requests"] * INVALID
    bad = {f"bad-{number}" for number in range(INVALID)}
    assert {letter["request_id"] for letter in dead_letters} == bad
    assert records == Counter(
        [("identity_link", each) for each in wanted]
        + [("callback_delivery", each) for each in wanted]
        + [("dead_letter", each) for each in bad]
    )
    profiles = {callback["body"]["data"]["profile_id"] for callback in callbacks}
    assert len(profiles) == VISITORS
    assert (left_over["records"], left_over["actions"]) == (0, 0)


def print_table(rows: dict[str, Any]) -> None:
    print()
    for name, value in rows.items():
        print(f"  {name:<28} {value}")
