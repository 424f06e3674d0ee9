"""How late decide and stitch_sync answer while what they need misbehaves.

    .venv/bin/python -m bench.lateness [--quick] [--write]

Two function processes on one core, their services in this process on the other: Firestore and
Pub/Sub of tests/faults/stub_google.py, and ports that are closed or swallow everything. Callers
ask one after the other or 16 at once, and measure from their first byte to the answer's last.
Its own garbage collections, which take up to 90 ms, fall between two rows.
Where others use the machine, too, `chrt -r 1` before it keeps their work out of the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.results import replace_section
from bench.server_process import SERVER_CORE
from tests.end_to_end.function_process import FRAMEWORK, FunctionProcess
from tests.faults.bad_ports import black_hole, closed, say_nothing, serving
from tests.faults.deployed import environment_of, load_definitions
from tests.faults.stub_google import (
    FIRESTORE,
    READS,
    Fault,
    StubGoogle,
    run_stub_google,
    silent,
    slow,
)

TITLE: Final = "Lateness"
WANTED_MS: Final = 20
DEADLINES_MS: Final = (50, 250)
AT_ONCE: Final = (1, 16)
ALL_METHODS: Final = (*FIRESTORE, "Publish")

_SETTLING_S: Final = 3.0
"""Seconds after a fault in which connections come back, before the next begins."""


@dataclass(frozen=True)
class Question:
    """What is asked of a function; every request is of another visitor, so none is remembered."""

    label: str
    function: str
    template: str

    def body(self, number: int, deadline_ms: int) -> bytes:
        text = self.template.replace("@", f"{number}.1763700000")
        return json.dumps({**json.loads(text), "deadline_ms": deadline_ms}).encode()


def _question(label: str, function: str, body: dict[str, Any]) -> Question:
    return Question(label, function, json.dumps(body))


PURCHASE = _question(
    "decide", "decide", {"event": {"event_name": "purchase", "client_id": "@", "value": 7.5}}
)
STATE = _question(
    "decide, a rule with state",
    "decide",
    {"event": {"event_name": "view_promotion", "client_id": "@"}},
)
LOOKUP = _question(
    "stitch_sync, a new link",
    "stitch_sync",
    {"identifiers": {"user_id": "u-1002", "client_id": "@"}},
)
ALL = (PURCHASE, STATE, LOOKUP)

FAULTS: Final[tuple[tuple[str, Fault, Sequence[str], Sequence[Question]], ...]] = (
    ("Firestore never answers", silent, FIRESTORE, ALL),
    ("Firestore answers after 3 s", slow(3), FIRESTORE, ALL),
    ("Firestore commits nothing", silent, ["Commit"], [STATE]),
    ("Pub/Sub never answers", silent, ["Publish"], ALL),
    ("Firestore commits nothing, Pub/Sub never answers", silent, ["Commit", "Publish"], ALL),
    ("nobody answers", silent, ALL_METHODS, ALL),
    ("all is well, 5 ms for each read", slow(0.005), READS, ALL),
)


@dataclass(frozen=True)
class Row:
    """Milliseconds beyond the deadline; below 0 the answer was early."""

    fault: str
    question: str
    deadline_ms: int
    at_once: int
    late_ms: Sequence[float]

    def cells(self) -> str:
        p99 = statistics.quantiles(self.late_ms, n=100, method="inclusive")[98]
        late = (statistics.median(self.late_ms), p99, max(self.late_ms))
        figures = " | ".join(f"{figure:.0f}" for figure in late)
        return (
            f"| {self.fault} | {self.question} | {self.deadline_ms} | {self.at_once} | {figures} |"
        )


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
) -> tuple[int, float]:
    """Return the status and the seconds until the whole answer was there."""
    head = (
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    start = time.perf_counter()
    writer.write(head.encode() + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in answer.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    )
    await reader.readexactly(length)
    return int(answer.split(b" ", 2)[1]), time.perf_counter() - start


async def measure(
    port: int,
    question: Question,
    deadline_ms: int,
    *,
    at_once: int,
    count: int,
    numbers: Iterator[int],
) -> list[float]:
    """Return the lateness of each answer in milliseconds; every caller has its connection."""

    async def caller() -> list[float]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        late = []
        try:
            for _ in range(max(count // at_once, 2)):
                body = question.body(next(numbers), deadline_ms)
                status, seconds = await _ask(reader, writer, body)
                assert status == 200, status
                late.append(seconds * 1000 - deadline_ms)
        finally:
            writer.close()
        return late

    lists = await asyncio.gather(*(caller() for _ in range(at_once)))
    return list(itertools.chain.from_iterable(lists))


@asynccontextmanager
async def _processes(environment: dict[str, str], folder: Path) -> AsyncIterator[dict[str, int]]:
    """Start both functions; give their ports."""
    pinned = ("taskset", "-c", SERVER_CORE, str(FRAMEWORK))
    started = [
        FunctionProcess(name, environment, folder, framework=pinned)
        for name in ("decide", "stitch_sync")
    ]
    try:
        for process in started:
            process.start()
        for process in started:
            await asyncio.to_thread(process.wait_until_ready)
        yield {process.name: process.port for process in started}
    finally:
        for process in started:
            await asyncio.to_thread(process.stop)


async def _measure_methods(stub: StubGoogle, folder: Path, *, count: int) -> AsyncIterator[Row]:
    """Give a row for each fault of the services' methods."""
    numbers = itertools.count(1)
    environment = environment_of(stub.address, stub.address, folder)
    await load_definitions(environment)
    async with _processes(environment, folder) as ports:
        for label, fault, methods, questions in FAULTS:
            for question in ALL:  # until connections are back, and nothing is left alone
                port = ports[question.function]
                await measure(port, question, 5000, at_once=1, count=20, numbers=numbers)
            stub.fail(fault, *methods)
            for question, deadline_ms, at_once in itertools.product(
                questions, DEADLINES_MS, AT_ONCE
            ):
                port = ports[question.function]
                late = await measure(
                    port,
                    question,
                    deadline_ms,
                    at_once=at_once,
                    count=count if at_once == 1 else count * at_once // 4,
                    numbers=numbers,
                )
                yield Row(label, question.label, deadline_ms, at_once, late)
            stub.heal()
            await asyncio.sleep(_SETTLING_S)


async def _measure_ports(folder: Path, *, count: int) -> AsyncIterator[Row]:
    """Give a row for each kind of port that was never a service: an instance that just started."""
    kinds: dict[str, Callable[[], AbstractAsyncContextManager[int]]] = {
        "a closed port": closed,
        "a port that swallows everything": partial(serving, say_nothing),
        "a black hole": black_hole,
    }
    numbers = itertools.count(1)
    for label, kind in kinds.items():
        async with kind() as bad:
            environment = environment_of(f"127.0.0.1:{bad}", f"127.0.0.1:{bad}", folder)
            async with _processes(environment, folder) as ports:
                for question, deadline_ms in itertools.product((PURCHASE, LOOKUP), DEADLINES_MS):
                    port = ports[question.function]
                    late = await measure(
                        port, question, deadline_ms, at_once=1, count=count, numbers=numbers
                    )
                    yield Row(f"both at {label}", question.label, deadline_ms, 1, late)


def run(*, quick: bool) -> list[str]:
    """Return the lines of the table."""
    return asyncio.run(_run(quick=quick))


async def _run(*, quick: bool) -> list[str]:
    count = 5 if quick else 20
    rows: list[Row] = []
    gc.disable()
    with tempfile.TemporaryDirectory() as name:
        async with run_stub_google() as stub:
            rows += [
                await _told(row) async for row in _measure_methods(stub, Path(name), count=count)
            ]
        rows += [await _told(row) async for row in _measure_ports(Path(name), count=count)]
    worst = max(max(row.late_ms) for row in rows)
    answers = sum(len(row.late_ms) for row in rows)
    return [
        "`.venv/bin/python -m bench.lateness`: from a request's first byte to its answer's last.",
        "Milliseconds beyond the deadline; below 0 is early.",
        f"Wanted: never more than {WANTED_MS}. Worst of {answers:,} answers: {worst:.0f}.",
        "",
        "| fault | asked | deadline ms | at once | p50 ms late | p99 | worst |",
        "|---|---|---:|---:|---:|---:|---:|",
        *(row.cells() for row in rows),
        "",
    ]


async def _told(row: Row) -> Row:
    print(row.cells(), flush=True)
    gc.collect()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few requests, to try the program")
    parser.add_argument(
        "--write", action="store_true", help="write the section of bench/RESULTS.md"
    )
    options = parser.parse_args()
    lines = run(quick=options.quick)
    print("\n".join(lines))
    if options.write:
        replace_section(TITLE, lines)


if __name__ == "__main__":
    main()
