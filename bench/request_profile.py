"""Where the Python time of one lookup goes, by package, on the Firestore emulator.

    .venv/bin/python -m bench.request_profile

In process, 32 requests at once, under cProfile: shares, not absolute times.
"""

from __future__ import annotations

import asyncio
import contextlib
import cProfile
import json
import os
import pstats
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import uvloop
from functions_framework.aio import create_asgi_app

from bench import http_throughput
from tagstitch.adapters.cloud import close_cloud_backend, open_cloud_backend
from tagstitch.adapters.settings import read_settings
from tagstitch.local_stack.emulators import run_emulators

ROOT = Path(__file__).resolve().parents[1]
REQUESTS = 3_000
AT_ONCE = 32


def _package(filename: str) -> str:
    for name in ("grpc", "functions_framework", "starlette", "httpx"):
        if f"/{name}/" in filename:
            return name
    if "/tagstitch/" in filename:
        return (
            "tagstitch/" + filename.rsplit("/tagstitch/", maxsplit=1)[-1].split("/", maxsplit=1)[0]
        )
    return "standard library and built-ins"


async def _profile() -> Counter[str]:
    settings = read_settings()
    backend = open_cloud_backend(settings)
    await http_throughput.fill(backend, settings, published=False)
    await close_cloud_backend(backend)
    source = str(ROOT / "functions" / "stitch_sync" / "main.py")
    app: Any = create_asgi_app("stitch_sync", source)  # type: ignore[no-untyped-call]
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://function")

    async def run() -> None:
        numbers = iter(range(REQUESTS))

        async def worker() -> None:
            for number in numbers:
                body = {"identifiers": {"client_id": http_throughput.client_id(number)}}
                await client.post(
                    "/", content=json.dumps(body), headers={"content-type": "application/json"}
                )

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))

    await run()
    profile = cProfile.Profile()
    profile.enable()
    await run()
    profile.disable()
    times: Counter[str] = Counter()
    for (filename, _, _), figures in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        times[_package(filename)] += figures[2]
    del times["httpx"]  # the client of this measurement
    return times


def run() -> list[str]:
    """Profile lookups; return the section of RESULTS.md."""
    with tempfile.TemporaryDirectory() as folder, run_emulators(ROOT, project="bench") as emulators:
        os.environ.update(emulators.environment())
        os.environ.update(TAGSTITCH_PROJECT="bench", TAGSTITCH_DATA_DIR=folder)
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            times = uvloop.run(_profile())  # its log lines go nowhere
    total = sum(times.values())
    lines = ["| package | share of the Python time |", "|---|---|"]
    lines += [f"| {name} | {time / total:.0%} |" for name, time in times.most_common()]
    return [*lines, ""]


if __name__ == "__main__":
    print("\n".join(run()))
