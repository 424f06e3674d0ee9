"""The local stack as a process of its own, for tests that kill it and start it again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx

ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = Path(__file__).with_name("crashing_stack.py")

_START_S = 60.0
_STOP_S = 30.0
_POLL_S = 0.02
_ARRIVAL_S = 20.0
"""Generous for what goes through the queue: milliseconds on an idle machine."""

T = TypeVar("T")


def checkout_environment(**settings: str) -> dict[str, str]:
    """Return an environment in which a process imports this checkout and nobody's settings."""
    foreign = ("TAGSTITCH_", "FIRESTORE_", "PUBSUB_", "BIGQUERY_", "GOOGLE_", "K_", "FUNCTION_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "PYTHONPATH": str(ROOT), **settings}


def until(condition: Callable[[], T | None], *, seconds: float, what: str) -> T:
    """Return the first true result of the condition."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(_POLL_S)
    return result


class RunningStack:
    """One data folder, and the process that serves it at the moment.

    The program gets the data folder, the port and the arguments.

    `output` and `errors` are the files that hold what all its processes wrote.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str],
        *,
        program: Path = _PROGRAM,
        arguments: Sequence[str] = (),
        url: str = "",
    ) -> None:
        self.data_dir = folder / "data"
        self.output = folder / "stdout"
        self.errors = folder / "stderr"
        self.url = url
        self.settings = settings
        self._program = program
        self._arguments = arguments
        self._environment = checkout_environment(**settings)
        self._process: subprocess.Popen[bytes] | None = None
        self.data_dir.mkdir(parents=True, exist_ok=True)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that was started last."""
        assert self._process is not None, "start it first"
        return self._process

    def start(self) -> None:
        """Start a process, on the same port as the one before it, and wait until it answers."""
        port = self.url.rpartition(":")[2] or "0"
        offset = self.output.stat().st_size if self.output.exists() else 0
        command = [sys.executable, str(self._program), str(self.data_dir), port]
        command += self._arguments
        with self.output.open("ab") as output, self.errors.open("ab") as errors:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self._environment, stdout=output, stderr=errors
            )
        url = until(
            lambda: self._announced_url(offset), seconds=_START_S, what="the local stack's start"
        )
        assert url is not None
        self.url = url

    def kill(self) -> None:
        """Kill the process as an out-of-memory or a power cut of its container would."""
        self.process.kill()
        self.process.wait(_STOP_S)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Stop the process by a signal and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(_STOP_S)

    def wait_for_death(self, seconds: float) -> int:
        """Return the exit code of the process once it has ended by itself."""
        return self.process.wait(seconds)

    def close(self) -> None:
        """End whatever still runs."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def client(self) -> httpx.Client:
        """Return a client for the stack's URLs."""
        return httpx.Client(base_url=self.url, timeout=60.0, trust_env=False)

    def listed(self, what: str, **parameters: str | int) -> list[dict[str, Any]]:
        """Return the items of `/_local/<what>`."""
        with self.client() as client:
            answer = client.get(f"/_local/{what}", params=parameters)
        answer.raise_for_status()
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    def one_item(self, what: str, request_id: str) -> dict[str, Any]:
        """Return the one item of a request, once it is there."""
        items = until(
            lambda: self.listed(what, request_id=request_id),
            seconds=_ARRIVAL_S,
            what=f"{what} of {request_id}",
        )
        assert len(items) == 1
        return items[0]

    def audit_of(self, request_id: str, count: int) -> list[dict[str, Any]]:
        """Return the audit records of a request, once there are so many."""

        def records() -> list[dict[str, Any]]:
            found = self.listed("audit", request_id=request_id)
            return found if len(found) >= count else []

        return until(records, seconds=_ARRIVAL_S, what=f"audit of {request_id}")

    def count(self, what: str) -> int:
        """Return how many items `/_local/<what>` has."""
        with self.client() as client:
            number: int = client.get(f"/_local/{what}", params={"limit": 0}).json()["count"]
        return number

    def log_lines(self) -> list[dict[str, Any]]:
        """Return every line of stdout; fails when one is not a JSON object.

        A line that a kill cut off is not complete, and not counted.
        """
        lines = self.output.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines]

    def _announced_url(self, offset: int) -> str | None:
        status = self.process.poll()
        assert status is None, f"exit code {status}: {self.errors.read_text()}"
        for line in self.output.read_bytes()[offset:].splitlines(keepends=True):
            if line.endswith(b"\n") and b'"ready"' in line:
                url: str = json.loads(line)["url"]
                return url
        return None


@contextlib.contextmanager
def running_stack(
    folder: Path, *, point: str | None = None, **settings: str
) -> Iterator[RunningStack]:
    """Yield a started stack; its process ends with the block."""
    stack = RunningStack(folder, settings, arguments=[point] if point else [])
    try:
        stack.start()
        yield stack
    finally:
        stack.close()
