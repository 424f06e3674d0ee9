"""One function as it runs in production: its own server process, started by the framework."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.emulators import REPOSITORY

START_S = 60.0
"""Seconds to answer /health; measured 2 s on an idle machine."""

LOADING_S = 3.0
"""Seconds for the imports behind the first /health; half a second on an idle machine."""

FRAMEWORK = Path(sys.executable).with_name("functions-framework")


class FunctionProcess:
    """A function's gunicorn master and worker, in a process group of their own."""

    def __init__(
        self,
        name: str,
        environment: Mapping[str, str],
        folder: Path,
        *,
        source: Path | None = None,
        port: int | None = None,
        framework: Sequence[str] = (str(FRAMEWORK),),
    ) -> None:
        self.name = name
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_file = folder / f"{name}-{self.port}.log"
        self._source = source or REPOSITORY / "functions" / name / "main.py"
        self._framework = framework
        self.environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to start; `wait_until_ready` ends it. Several start at once this way."""
        command = [*self._framework, "--target", self.name, "--source", str(self._source)]
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("TAGSTITCH_")
        }
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(self.port)],
                cwd=self._source.parent,
                env=inherited | {"PYTHONPATH": str(REPOSITORY)} | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Wait for /health, and until the libraries are imported; a rule book may be missing."""
        end = time.monotonic() + START_S
        loading_end = None
        while True:
            try:
                health = httpx.get(f"{self.url}/health", timeout=5).raise_for_status().json()
            except httpx.HTTPError:
                assert self.is_running, self.log
                assert time.monotonic() < end, self.log
            else:
                loading_end = loading_end or time.monotonic() + LOADING_S
                if health["status"] != "loading" or time.monotonic() > loading_end:
                    return
            time.sleep(0.05)

    def wait_until_listening(self) -> None:
        """Wait for the port alone: nothing has been asked of the function then."""
        end = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
            except OSError:
                assert self.is_running, self.log
                assert time.monotonic() < end, self.log
                time.sleep(0.05)
            else:
                return

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait_until_dead(self) -> None:
        """Wait for a process that ends itself."""
        assert self._process is not None
        self._process.wait(timeout=60)

    def stop(self) -> None:
        """End the whole group, as the platform does: SIGTERM, and SIGKILL for what is left."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def log_lines(self, message: str) -> list[dict[str, Any]]:
        """The structured log lines of this name."""
        lines = (line for line in self.log.splitlines() if line.startswith("{"))
        return [entry for line in lines if (entry := json.loads(line))["message"] == message]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
