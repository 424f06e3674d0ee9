"""Senders: each goes on with an operation until it is accepted, as its caller would."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from tagstitch.core.errors import Unavailable
from tests.soak.operator_desk import OperatorDesk
from tests.soak.traffic import Operation, sent

_ATTEMPTS_MAX: Final = 200
_PAUSE_S: Final = (0.02, 0.5)
_HARMLESS: Final = {"audit"}
"""What a decision may lack and still be all that its caller wants: its record is in the log."""

_PATHS: Final = {
    "lookup": "/stitch_sync", "stitch": "/stitch_sync", "malformed": "/stitch_sync",
    "decide": "/decide",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """The last answer to an operation."""

    status: int
    body: Mapping[str, Any]
    at: float
    """When its last attempt began."""


@dataclass
class Senders:
    """Sends operations to the stack; what it heard is in `answers`."""

    port: int
    desk: OperatorDesk
    answers: dict[str, Answer] = field(default_factory=dict)
    erased_at: dict[str, float] = field(default_factory=dict)
    """Name -> when the erasure of a person had ended."""
    statuses: Counter[str] = field(default_factory=Counter)
    unaccepted: list[str] = field(default_factory=list)
    """Request ids that nobody would take."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _local: threading.local = field(default_factory=threading.local)
    _connections: list[http.client.HTTPConnection] = field(default_factory=list)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def send(self, operation: Operation) -> None:
        """Send an operation, and again until it is accepted."""
        if operation.kind == "erase":
            assert operation.person is not None
            self.desk.erase(operation.person.identifiers[0])
            self.erased_at[operation.person.name] = time.time()
            return
        body = sent(operation, datetime.now(UTC))
        for _ in range(2 if operation.is_sent_twice else 1):
            if operation.kind in ("publish", "invalid"):
                self._until_accepted(operation, lambda: self._publish(body))
            else:
                self._until_accepted(operation, lambda: self._ask(operation, body))

    def _until_accepted(self, operation: Operation, attempt: Callable[[], bool]) -> None:
        pause_s = _PAUSE_S[0]
        for _ in range(_ATTEMPTS_MAX):
            if attempt():
                return
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, _PAUSE_S[1])
        with self._lock:
            self.unaccepted.append(operation.request_id)

    def _publish(self, body: bytes) -> bool:
        try:
            self.desk.publish("stitch-requests", body)
        except Unavailable:
            return False
        return True

    def _ask(self, operation: Operation, body: bytes) -> bool:
        started = time.time()
        status, answer = self._post(_PATHS[operation.kind], body)
        with self._lock:
            self.statuses[f"{operation.kind} {status}"] += 1
            self.answers[operation.request_id] = Answer(status, answer, started)
        if operation.kind == "stitch":
            return status == 202
        if operation.kind == "malformed":
            return status == 400
        return status == 200 and not set(answer["degraded"]) - _HARMLESS

    def _post(self, path: str, body: bytes) -> tuple[int, Mapping[str, Any]]:
        """Return status and body of the answer; 0 where there was none."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            self._local.connection = connection
            self._connections.append(connection)
        try:
            connection.request("POST", path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            self._local.connection = None
            return 0, {}
        return answer.status, json.loads(content) if content else {}
