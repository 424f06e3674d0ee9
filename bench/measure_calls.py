"""Latency, rate and the client's own CPU time of an asynchronous call."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

HEADER = "| call | at once | p50 ms | p99 ms | calls/s | CPU us a call |\n|---|---|---|---|---|---|"


async def measure(
    label: str, call: Callable[[], Awaitable[object]], *, count: int, at_once: int
) -> None:
    """Print one row of the table, after a tenth of the calls to warm up."""
    for _ in range(max(count // 10, 1)):
        await call()
    latencies: list[float] = []
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            start = time.perf_counter()
            await call()
            latencies.append((time.perf_counter() - start) * 1e3)

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    p99 = statistics.quantiles(latencies, n=100)[98] if count > 1 else latencies[0]
    print(
        f"| {label} | {at_once} | {statistics.median(latencies):.2f} | {p99:.2f} "
        f"| {count / wall:.0f} | {cpu / count * 1e6:.0f} |",
        flush=True,
    )
