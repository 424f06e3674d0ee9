"""A local stack of our own: the real `tagstitch up` in another process, on a free port."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from tagstitch.adapters.settings import environment_with
from tagstitch.cli.output import CommandFailed

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_LOG_CHARS = 4_000
_PACKAGE_PARENT = Path(__file__).parents[2]


class _Ready(msgspec.Struct):
    url: str


@asynccontextmanager
async def started_stack(
    *, data_dir: Path, log: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """Yield the URL of a running stack; it is stopped, cleanly if it can be, on leaving.

    Its log goes to the file `log`. Raises CommandFailed with the log's end when it does not come
    up, as when another stack runs on the data folder.
    """
    command = [
        sys.executable, "-m", "tagstitch.cli", "up",
        "--port", "0", "--data-dir", str(data_dir), "--no-container", "--json",
    ]  # fmt: skip
    overrides = {"PYTHONPATH": str(_PACKAGE_PARENT)} | dict(environment or {})
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=PIPE, stderr=errors, env=environment_with(overrides=overrides)
        )
    try:
        url = await _url_of(process, log)
        reading = asyncio.create_task(_read_on(process))
        yield url
        reading.cancel()
    finally:
        await _stop(process)


async def _url_of(process: Process, log: Path) -> str:
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    try:
        line = await asyncio.wait_for(process.stdout.readline(), _START_TIMEOUT_S)
        return msgspec.json.decode(line, type=_Ready).url
    except (TimeoutError, msgspec.MsgspecError) as error:
        raise CommandFailed(f"the local stack did not start: {log_end(log)}") from error


def log_end(log: Path) -> str:
    """Return the end of a log."""
    return log.read_text(encoding="utf-8", errors="replace")[-_LOG_CHARS:].strip()


async def _read_on(process: Process) -> None:
    """Read what the stack still prints, so that its pipe never fills."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    while await process.stdout.read(65_536):
        continue


async def _stop(process: Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
