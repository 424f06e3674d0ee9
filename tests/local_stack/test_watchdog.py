"""Nothing that the watchdog started outlives the process that started the watchdog."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tagstitch.local_stack import watchdog

# A shell with a child of its own that ignores the polite signal, as Java under gcloud may be slow.
SCRIPT = "trap '' TERM; sleep 600 & echo $! $$ > {pids}; wait"


def command(folder: Path, name: str, script: str = SCRIPT) -> dict[str, object]:
    return {
        "command": ["sh", "-c", script.format(pids=folder / f"{name}.pids")],
        "log": str(folder / f"{name}.log"),
        "folder": str(folder),
    }


def pids_of(path: Path) -> list[int]:
    give_up = time.monotonic() + 20
    while time.monotonic() < give_up:
        if path.exists() and len(pids := path.read_text().split()) == 2:
            return [int(pid) for pid in pids]
        time.sleep(0.02)
    raise AssertionError("the command did not start")


def is_alive(pid: int) -> bool:
    """Tell whether the process runs; one that has ended and waits for its parent does not."""
    run = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return run.returncode == 0 and not run.stdout.startswith("Z")


def wait_until_ended(pids: list[int]) -> None:
    give_up = time.monotonic() + 20
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < give_up, "a process outlived the watchdog"
        time.sleep(0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for path in tmp_path.glob("*.pids"):  # whatever a failed test has left behind
        for pid in map(int, path.read_text().split()):
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)


def start(commands: list[dict[str, object]]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", watchdog.__file__, json.dumps(commands)], stdin=subprocess.PIPE
    )


def test_when_its_input_closes_it_ends_whole_process_groups(folder: Path) -> None:
    process = start([command(folder, "a"), command(folder, "b")])
    pids = pids_of(folder / "a.pids") + pids_of(folder / "b.pids")

    process.communicate(timeout=30)

    assert process.returncode == 0
    wait_until_ended(pids)


def test_when_one_command_ends_the_others_end_too(folder: Path) -> None:
    process = start([command(folder, "a"), command(folder, "b", "echo why; exit 3")])
    pids = pids_of(folder / "a.pids")

    assert process.wait(30) == 1

    wait_until_ended(pids)
    assert (folder / "b.log").read_text() == "why\n"
    process.communicate()


def test_when_it_is_terminated_it_ends_the_commands_first(folder: Path) -> None:
    process = start([command(folder, "a")])
    pids = pids_of(folder / "a.pids")

    process.terminate()
    process.communicate(timeout=30)

    wait_until_ended(pids)


def test_when_its_starter_is_killed_the_commands_end(folder: Path) -> None:
    program = (
        "import json, subprocess, sys, time;"
        "subprocess.Popen([sys.executable, '-I', sys.argv[1], sys.argv[2]],"
        " stdin=subprocess.PIPE, start_new_session=True);"
        "time.sleep(600)"
    )
    commands = json.dumps([command(folder, "a")])
    with subprocess.Popen([sys.executable, "-c", program, watchdog.__file__, commands]) as starter:
        pids = pids_of(folder / "a.pids")
        starter.kill()

    wait_until_ended(pids)
