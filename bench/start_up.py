"""From the start of a function's process to its first answers, beside an empty function.

    .venv/bin/python -m bench.start_up [--rounds 9]

Each function is staged as for deployment and started by the functions framework as in the cloud
(gunicorn, one uvicorn worker). Measured: the first `/health` that answers 200, and the first real
answer of a process of its own that nobody asked for `/health` before. On the Firestore and Pub/Sub
emulators, so that the vendors' libraries count. The variants import them lazily (as delivered) and
at start.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from bench.http_throughput import create_topics
from bench.server_process import running_server
from tagstitch.local_stack.emulators import run_emulators

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
PROJECT = "bench"

REAL_REQUESTS: Mapping[str, bytes] = {
    "stitch_sync": b'{"identifiers": {"client_id": "1294673677.1747154479"}}',
    "decide": b'{"event": {"event_name": "page_view", "client_id": "1.2"}, "deadline_ms": 2000}',
    "stitch_async": b'{"message": {"messageId": "1", "data": "eyJpZGVudGlmaWVycyI6IHsiY2xpZW50X2lkIjogImEuYiJ9fQ=="}}',
    "audit_sink": b'{"message": {"messageId": "1", "data": "e30="}}',
}

EAGER = """
from tagstitch.adapters.settings import read_settings as _read_settings
from tagstitch.adapters.wiring import import_parts as _import_parts
_import_parts({name!r}, _read_settings())
"""


def measure(
    target: str, folder: Path, environment: Mapping[str, str], body: bytes | None
) -> tuple[float, float | None]:
    """Return seconds to the first answer of `/health`, and of a real request to a new process."""
    command = (
        str(BIN / "functions-framework"), "--target", target, "--source", str(folder / "main.py"),
        "--host", "127.0.0.1", "--port", "{port}",
    )  # fmt: skip
    started = time.perf_counter()
    with running_server(command, environment, cwd=folder, path="/health"):
        healthy = time.perf_counter() - started
    if body is None:
        return healthy, None
    started = time.perf_counter()
    with running_server(command, environment, cwd=folder, path="/robots.txt") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("POST", "/", body, {"Content-Type": "application/json"})
        connection.getresponse().read()
        return healthy, time.perf_counter() - started


def stage_all(folder: Path) -> dict[str, Path]:
    """Return label -> staged folder: the empty function, ours, and ours with eager imports."""
    names = list(REAL_REQUESTS)
    staged = {"empty": ROOT / "bench" / "empty_function"}
    for variant in ("lazy", "eager"):
        target = folder / variant
        subprocess.run(
            [sys.executable, str(ROOT / "infra" / "package.py"), str(target), *names],
            check=True, capture_output=True,
        )  # fmt: skip
        for name in names:
            main = target / name / "main.py"
            if variant == "eager":
                main.write_text(main.read_text() + EAGER.format(name=name))
            staged[name if variant == "lazy" else f"{name}, imports at start"] = target / name
    for path in staged.values():
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(path)], check=True)
    return staged


def run(*, rounds: int = 9) -> list[str]:
    """Measure everything; return the section of RESULTS.md."""
    times: dict[str, list[tuple[float, float | None]]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="tagstitch-bench-") as name,
        run_emulators(ROOT, project=PROJECT) as emulators,
    ):
        folder = Path(name)
        create_topics(emulators.pubsub, PROJECT)
        environment = {
            "TAGSTITCH_BACKEND": "cloud",
            "TAGSTITCH_PROJECT": PROJECT,
            "TAGSTITCH_DATA_DIR": str(folder / "data"),
            "PYTHONPATH": "",
            **emulators.environment(),
        }
        staged = stage_all(folder)
        for number in range(rounds + 1):
            for label, path in staged.items():
                target = label.partition(",")[0]
                taken = measure(target, path, environment, REAL_REQUESTS.get(target))
                if number:  # the first round fills the file cache
                    times.setdefault(label, []).append(taken)
            print(f"  start-up round {number}/{rounds}", file=sys.stderr, flush=True)
    return _table(times, rounds)


def _table(times: Mapping[str, list[tuple[float, float | None]]], rounds: int) -> list[str]:
    base = statistics.median(health for health, _ in times["empty"])
    lines = [
        f"Medians of {rounds} rounds, milliseconds.",
        "",
        "| function | first /health | to the empty function | first real answer |",
        "|---|---|---|---|",
    ]
    for label, taken in times.items():
        health = statistics.median(first for first, _ in taken)
        real = [second for _, second in taken if second is not None]
        shown = f"{statistics.median(real) * 1000:,.0f}" if real else ""
        lines.append(f"| {label} | {health * 1000:,.0f} | {health / base:.2f} | {shown} |")
    return [*lines, ""]


def import_times(*, rounds: int = 5) -> list[str]:
    """Return the CPU time of importing each function's main.py, and of all its parts."""
    lines = [
        "| function | framework alone | with main.py | with all parts and libraries |",
        "|---|---|---|---|",
    ]
    for name in REAL_REQUESTS:
        steps = (
            "import functions_framework.aio, starlette.requests, starlette.responses",
            "import main",
            (
                "from tagstitch.adapters.wiring import import_parts\n"
                "from tagstitch.adapters.settings import read_settings\n"
                f"import_parts({name!r}, read_settings())"
            ),
        )
        figures = []
        for count in range(1, len(steps) + 1):
            program = "\n".join(steps[:count]) + "\nimport time; print(time.process_time())"
            figures.append(statistics.median(_cpu_s(program, name) for _ in range(rounds)))
        lines.append(f"| {name} | " + " | ".join(f"{f * 1000:,.0f}" for f in figures) + " |")
    return ["CPU milliseconds of a whole Python process, medians.", "", *lines, ""]


def _cpu_s(program: str, function: str) -> float:
    environment = {
        **os.environ,
        "TAGSTITCH_BACKEND": "cloud",
        "TAGSTITCH_PROJECT": PROJECT,
        "FIRESTORE_EMULATOR_HOST": "127.0.0.1:1",
        "TAGSTITCH_DATA_DIR": str(Path(tempfile.gettempdir()) / "tagstitch-bench-imports"),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT / "functions" / function,
        env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    print("\n".join([*run(rounds=options.rounds), *import_times()]))


if __name__ == "__main__":
    main()
