"""The simulated sGTM container beside the stack, where there is Node."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from tagstitch.local_stack.container_log import tell
from tagstitch.local_stack.live_feed import LiveFeed

SGTM_DIR: Final = Path(__file__).resolve().parents[2] / "sgtm"
CALLBACK_PATH: Final = "/stitched"

_NODE_MAJOR_MIN: Final = 20
_START_S: Final = 20.0
_TIMEOUT_MS: Final = "4000"
"""For each question to the stack, whose first answers take long; live servers have 500."""
_STOP_S: Final = 5.0
_LINE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Longest line of its log: a hit of the largest size, whole."""
_SAID_CHARS: Final = 500


class SimulatedContainer:
    """A process of `sgtm/simulator`; `url` is None where it does not run, and `absence` says why."""

    def __init__(self, port: int, *, sgtm_dir: Path = SGTM_DIR) -> None:
        self._port = port
        self._sgtm_dir = sgtm_dir
        self.url: str | None = None
        self.absence: str | None = None

    @contextlib.asynccontextmanager
    async def running(
        self, *, stack_url: str, ga4_url: str, callback_secret: str, data_dir: Path, feed: LiveFeed
    ) -> AsyncIterator[None]:
        """Serve the shipped container, wired to the stack, for the length of a `with` block."""
        self.url, self.absence = None, await self._missing()
        if self.absence is not None:
            yield
            return
        credentials = _write_credentials(data_dir, callback_secret)
        process = await self._start(stack_url, ga4_url, credentials)
        try:
            await self._wait_until_ready(process)
            reading = asyncio.create_task(_read_on(process, feed))
            yield
            await _stop(process)
            await reading
        finally:
            await _stop(process)
            credentials.unlink(missing_ok=True)

    async def _missing(self) -> str | None:
        """Return what has to be there and is not."""
        if not (self._sgtm_dir / "container.json").exists():
            return "its files are not there: run it from a checkout"
        node = shutil.which("node")
        if node is None:
            return f"it needs Node {_NODE_MAJOR_MIN}, which is not there"
        asked = await asyncio.create_subprocess_exec(node, "--version", stdout=PIPE)
        version = (await asked.communicate())[0].decode().strip()
        if int(version.lstrip("v").partition(".")[0] or 0) < _NODE_MAJOR_MIN:
            return f"it needs Node {_NODE_MAJOR_MIN}, and this is {version}"
        if not (self._sgtm_dir / "node_modules" / "acorn").exists():
            return "its two packages are not installed: npm ci --omit=dev --prefix sgtm"
        return None

    async def _start(self, stack_url: str, ga4_url: str, credentials: Path) -> Process:
        constants = {
            "Tagstitch - Decide URL": f"{stack_url}/decide/decide",
            "Tagstitch - Stitch URL": f"{stack_url}/stitch_sync",
            "Tagstitch - Key": "none: the local stack asks for none",
            "Tagstitch - Browser key": "none: the local stack asks for none",
            "Tagstitch - Guard secret": secrets.token_urlsafe(32),
            "GA4 - Measurement ID": "G-LOCAL",
        }
        words = [
            "node", "simulator/cli.js", "serve", "container.json", "--port", str(self._port),
            "--ga4", ga4_url, "--credentials", str(credentials), "--timeout", _TIMEOUT_MS,
            "--until-stdin-ends",
        ]  # fmt: skip
        for name, value in constants.items():
            words += ["--set", f"{name}={value}"]
        return await asyncio.create_subprocess_exec(
            *words,
            cwd=self._sgtm_dir,
            stdin=PIPE,
            stdout=PIPE,
            stderr=STDOUT,
            limit=_LINE_BYTES_MAX,
            start_new_session=True,  # a Ctrl-C is for the stack, which stops the container itself
        )

    async def _wait_until_ready(self, process: Process) -> None:
        """Read the log until it names the URL; where it ends before, say why."""
        printed = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_S):
                while line := await _line_of(process):
                    printed += line
                    self.url = _ready_url(line)
                    if self.url is not None:
                        return
        if b"EADDRINUSE" in printed:
            self.absence = f"port {self._port} is taken: choose another by --container-port"
        else:
            self.absence = (
                "it did not start: " + printed.decode(errors="replace").strip()[-_SAID_CHARS:]
            )


async def _read_on(process: Process, feed: LiveFeed) -> None:
    """Tell the feed of the log until the process ends."""
    while line := await _line_of(process):
        tell(feed, line)
    feed.add("fault", "the simulated container", "ended")


async def _line_of(process: Process) -> bytes:
    """Return the next line of the log, nothing at its end; a line beyond the limit is left out."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    while True:
        with contextlib.suppress(ValueError):
            return await process.stdout.readline()


def _ready_url(line: bytes) -> str | None:
    try:
        entry = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return None
    is_ready = isinstance(entry, Mapping) and entry.get("kind") == "ready"
    return str(entry["url"]) if is_ready else None


async def _stop(process: Process) -> None:
    """End the process: the end of its input is the end of the stack, however that came."""
    if process.returncode is not None:
        return
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), _STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _write_credentials(data_dir: Path, callback_secret: str) -> Path:
    """Write the key file that a tagging server gets as SGTM_CREDENTIALS, for its owner alone."""
    path = data_dir.resolve() / "container_credentials.json"
    key = callback_secret.removeprefix("whsec_")
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.encode({"keys": {"tagstitch_callback": key}}))
    return path
