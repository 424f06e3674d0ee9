"""`make soak`: mixed requests under random faults, and a table of what held.

    python -m tests.soak [--seed N] [--requests N] [--emulator-requests M]

Ends with 1 when something did not hold. The seed gives the traffic and the order of the faults;
which of them meets which request is the machine's timing, too.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tagstitch.local_stack.emulators import Emulators, missing_parts, run_emulators
from tests.emulators import REPOSITORY
from tests.soak.checks import first_of
from tests.soak.run import Soaked, soak

REQUESTS = 50_000
EMULATOR_REQUESTS = 5_000


def main() -> int:
    """Soak both stacks and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--requests", type=int, default=REQUESTS, help="on the local stack")
    parser.add_argument("--emulator-requests", type=int, default=EMULATOR_REQUESTS)
    options = parser.parse_args()
    console = Console()
    console.print(f"seed {options.seed}")
    ended = []
    if options.requests:
        ended.append(_soak(console, "local stack", options.seed, options.requests))
    if options.emulator_requests:
        if missing := missing_parts(REPOSITORY):
            console.print("skipped: the emulators need " + "; ".join(missing), style="yellow")
        else:
            with run_emulators(REPOSITORY, project="soak") as emulators:
                count = options.emulator_requests
                ended.append(_soak(console, "emulators", options.seed, count, emulators))
    return 1 if any(soaked.violations for soaked in ended) else 0


def _soak(
    console: Console, where: str, seed: int, count: int, emulators: Emulators | None = None
) -> Soaked:
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, Progress(console=console) as bar:
        task = bar.add_task(where, total=count)
        soaked = soak(
            Path(folder),
            seed=seed,
            count=count,
            emulators=emulators,
            progress=lambda done: bar.advance(task, done),
        )
    _show(console, where, soaked, count)
    return soaked


def _show(console: Console, where: str, soaked: Soaked, count: int) -> None:
    table = Table("what must hold", "looked at", "violations", title=f"{where}, {count} operations")
    for check in soaked.checks:
        style = "red" if check.violations else None
        table.add_row(check.name, str(check.looked_at), str(len(check.violations)), style=style)
    console.print(table)
    faults = ", ".join(f"{count} {kind}" for kind, count in sorted(soaked.faults.items()))
    console.print(f"faults: {faults}, {soaked.kills} kills of the whole process")
    console.print(f"sent within {soaked.took_s:.0f} s, settled {soaked.settled_s:.0f} s later")
    if soaked.forgotten:
        console.print(f"{soaked.forgotten} messages were delivered for the emulator of Pub/Sub")
    for text in first_of(soaked.violations):
        console.print(text, style="red", markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
