"""A server under load: its processes, pinned to one core, and the CPU time that they used."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVER_CORE = "0"
LOAD_CORE = "1"
"""wrk and the emulators share the other core."""

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    process: subprocess.Popen[bytes]

    def cpu_s(self) -> float:
        """Return user and system time of the whole process tree, in seconds."""
        return sum(_process_cpu_s(pid) for pid in _tree(self.process.pid))

    def rss_mb(self) -> float:
        return sum(_process_rss_mb(pid) for pid in _tree(self.process.pid))


@contextmanager
def running_server(
    command: Sequence[str], environment: Mapping[str, str], *, cwd: Path, path: str
) -> Iterator[Server]:
    """Start a server on a free port (`{port}` in the command), end its whole process group."""
    port = free_port()
    process = subprocess.Popen(
        ["taskset", "-c", SERVER_CORE, *(part.format(port=port) for part in command)],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(port, path, process)
        yield Server(port, process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(
    port: int, path: str, process: subprocess.Popen[bytes], *, timeout_s: float = 60
) -> None:
    """Return when the path answers; raises when the process ends or the time is over."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with code {process.returncode}")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", path)
            connection.getresponse().read()
        except OSError:
            time.sleep(0.002)
        else:
            return
    raise TimeoutError(f"nothing answers on port {port}")


@dataclass(frozen=True)
class Load:
    """What wrk measured."""

    rate: float
    p50_ms: float
    p99_ms: float
    requests: int
    errors: int
    cpu_us: float


def run_wrk(
    server: Server, script: Path, *, connections: int, seconds: int, warm_up_s: int = 2
) -> Load:
    """Load the server and return rate, latency and its CPU time a request."""
    _wrk(server.port, script, connections, warm_up_s)
    before = server.cpu_s()
    output = _wrk(server.port, script, connections, seconds)
    cpu_s = server.cpu_s() - before
    requests = int(_field(r"(\d+) requests in", output))
    errors = int(_field(r"Non-2xx or 3xx responses: (\d+)", output, default="0"))
    return Load(
        rate=float(_field(r"Requests/sec:\s+([\d.]+)", output)),
        p50_ms=_milliseconds(_field(r"50%\s+([\d.]+\w+)", output)),
        p99_ms=_milliseconds(_field(r"99%\s+([\d.]+\w+)", output)),
        requests=requests,
        errors=errors,
        cpu_us=cpu_s / requests * 1e6,
    )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def pin_tree(pid: int, core: str) -> None:
    """Move a process, its children and their threads to one core."""
    for member in _tree(pid):
        subprocess.run(
            ["taskset", "-a", "-cp", core, str(member)], check=False, capture_output=True
        )


def _wrk(port: int, script: Path, connections: int, seconds: int) -> str:
    command = [
        "taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency",
        "-s", str(script), f"http://127.0.0.1:{port}",
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout


def _field(pattern: str, text: str, default: str | None = None) -> str:
    found = re.search(pattern, text)
    if found is None:
        if default is None:
            raise ValueError(f"wrk printed no {pattern}: {text}")
        return default
    return found[1]


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}[unit]


def _tree(pid: int) -> list[int]:
    found = [pid]
    for member in found:
        children = Path(f"/proc/{member}/task/{member}/children")
        if children.exists():
            found += map(int, children.read_text().split())
    return found


def _process_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _process_rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
