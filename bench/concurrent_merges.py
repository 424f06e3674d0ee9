"""Fifty events at once that join the same two profiles, on the Firestore emulator.

    .venv/bin/python -m bench.concurrent_merges [--rounds 7] [--write]

Each round makes two profiles and gives the events to five wirings, as to five instances, each with
connections and a memory of its own. All must end without an error and in one merge, else the exit
code is 1; wanted: within 5 s.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.results import replace_section
from tagstitch.adapters.backend_factory import close_backend
from tagstitch.adapters.settings import Settings, read_settings
from tagstitch.adapters.topology import TOPOLOGY_FILE
from tagstitch.adapters.wiring import Wiring
from tagstitch.core.identifier import Identifier
from tagstitch.core.stitch_request import parse_stitch_request
from tagstitch.local_stack.emulators import Emulators, run_emulators
from tagstitch.local_stack.pubsub_topology import create_topology
from tagstitch.pipeline.deadline import Deadline

TITLE: Final = "Fifty events join the same two profiles"
SECONDS_WANTED: Final = 5.0

_EVENTS: Final = 50
_INSTANCES: Final = 5
_TIMEOUT_S: Final = 30.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    options = parser.parse_args()
    lines = run(rounds=options.rounds)
    print("\n".join(lines))
    if options.write:
        replace_section(TITLE, lines)
    return 0


def run(*, rounds: int) -> list[str]:
    """Measure; return the section. Raises when a round does not end in one merge."""
    with (
        tempfile.TemporaryDirectory(prefix="tagstitch-bench-") as folder,
        run_emulators(Path.cwd(), project="bench-merges") as emulators,
    ):
        settings = _settings(emulators, Path(folder))
        topology = json.loads(TOPOLOGY_FILE.read_text(encoding="utf-8"))
        create_topology(
            topology | {"subscriptions": {}},
            emulator=emulators.pubsub,
            project=settings.project,
            push_url=lambda function, path: function + path,
        )
        seconds = asyncio.run(_rounds(settings, rounds))
    return report(seconds)


def report(seconds: Sequence[float]) -> list[str]:
    """Return the section."""
    return [
        "`.venv/bin/python -m bench.concurrent_merges`: the Firestore emulator, five instances in one process; one merge and no error in every round.",
        "",
        "| rounds | median s | worst s | wanted s |",
        "|---:|---:|---:|---:|",
        f"| {len(seconds)} | {statistics.median(seconds):.2f} | {max(seconds):.2f} | {SECONDS_WANTED:g} |",
        "",
    ]


def _settings(emulators: Emulators, folder: Path) -> Settings:
    return read_settings(
        {
            **emulators.environment(),
            "TAGSTITCH_BACKEND": "cloud",
            "TAGSTITCH_PROJECT": "bench-" + secrets.token_hex(4),
            "TAGSTITCH_DATA_DIR": str(folder),
        }
    )


async def _rounds(settings: Settings, rounds: int) -> list[float]:
    """Return the seconds of each round; the first one, which connects, does not count."""
    # Another data folder is another backend, with connections of its own.
    every = [replace(settings, data_dir=settings.data_dir / str(n)) for n in range(_INSTANCES)]
    instances = [Wiring(each) for each in every]
    try:
        found = [await _round(instances, str(number)) for number in range(rounds + 1)]
    finally:
        for each in every:
            await close_backend(each)
    return found[1:]


async def _round(instances: Sequence[Wiring], name: str) -> float:
    user, client = Identifier("user_id", f"u-{name}"), Identifier("client_id", f"c-{name}-1747")
    for each in (user, client):
        await _stitch(instances[0], f"first-{each.type}-{name}", each)
    started = time.perf_counter()
    await asyncio.gather(
        *(
            _stitch(instances[n % len(instances)], f"join-{name}-{n}", user, client)
            for n in range(_EVENTS)
        )
    )
    seconds = time.perf_counter() - started
    await _check(instances[0], user, client)
    return seconds


async def _stitch(wiring: Wiring, request_id: str, *identifiers: Identifier) -> None:
    named = [{"type": i.type, "value": i.value} for i in identifiers]
    request = parse_stitch_request(
        {"request_id": request_id, "identifiers": named},
        wiring.identity,
        default_request_id=request_id,
        received_at=wiring.backend.clock(),
    )
    await wiring.stitcher.process(request, deadline=Deadline.after(_TIMEOUT_S))


async def _check(wiring: Wiring, user: Identifier, client: Identifier) -> None:
    """Raise unless the two are one profile after one merge."""
    paths = [f"profiles/{wiring.keyring.profile_id(each)}" for each in (user, client)]
    found = await wiring.backend.documents.get_many(paths, deadline=Deadline.after(_TIMEOUT_S))
    survivor, alias = found[paths[0]].fields, found[paths[1]].fields
    if survivor.get("merges") != 1 or f"profiles/{alias.get('merged_into')}" != paths[0]:
        raise ValueError("the two profiles did not become one by one merge")


if __name__ == "__main__":
    sys.exit(main())
