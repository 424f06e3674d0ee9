"""Runs commands for as long as the process that started it lives; standard library only.

    python watchdog.py '[{"command": ["…"], "log": "path", "folder": "path"}, …]'

The starter holds this process's standard input open. When that closes (the starter ended it, was
killed, or crashed) or when one command ends by itself, every command's whole process group is
stopped: a gcloud emulator is a script that starts a shell that starts Java.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_STOP_S = 2.0
"""Seconds that all groups together have to end before they are killed; none has state to save."""

_LOOK_S = 0.25
"""Seconds between two looks at the commands."""


def main(commands: Sequence[Mapping[str, Any]]) -> int:
    """Return 0 when the starter has gone, 1 when a command ended first."""
    processes: list[subprocess.Popen[bytes]] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        processes.extend(_start(command) for command in commands)
        while not select.select([sys.stdin], [], [], _LOOK_S)[0]:
            if any(process.poll() is not None for process in processes):
                return 1
        return 0
    finally:
        for process in processes:
            _signal(process, signal.SIGTERM)
        give_up = time.monotonic() + _STOP_S
        for process in processes:
            _end(process, max(give_up - time.monotonic(), 0.0))


def _start(command: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    with Path(command["log"]).open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - the commands are our own, from emulators.py
            command["command"],
            cwd=command["folder"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # so that its process id is its group's, too
        )


def _end(process: subprocess.Popen[bytes], patience_s: float) -> None:
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
    # The leader has gone; what it started may not have.
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):  # the latter is macOS's word for a zombie
        return  # the whole group has ended


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
