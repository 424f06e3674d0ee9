"""Run the benchmarks and write bench/RESULTS.md: `.venv/bin/python -m bench [--quick]`.

About half an hour; wants a quiet machine with two cores, the Google emulators and wrk.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
from datetime import UTC, datetime
from importlib.metadata import version

from bench import (
    call_counts,
    concurrent_merges,
    http_throughput,
    identity_graph,
    lateness,
    request_profile,
    rule_books,
    rule_checks,
    start_up,
)
from bench.chart import draw_throughput
from bench.results import RESULTS
from bench.rule_engines import report as rule_engines
from bench.scale import report as scale
from bench.scale.__main__ import run as run_scale

LIBRARIES = (
    "functions-framework",
    "uvicorn",
    "uvloop",
    "google-cloud-firestore",
    "grpcio",
    "flask",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, to try the program")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is missing: apt-get install wrk", file=sys.stderr)
        return 1
    seconds, rounds = (3, 1) if options.quick else (8, 4)
    measured = http_throughput.run(seconds=seconds, rounds=rounds)
    draw_throughput(measured, RESULTS.with_name("throughput.png"))
    lines = [
        "# Results",
        "",
        "Made by `make bench`; `bench/*.py` say what each part does and how to run it alone.",
        "Absolute figures are this machine's; compare the ratios.",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
        + ".",
        "",
        "## Requests over HTTP",
        "",
        *http_throughput.report(measured),
        "![Requests a second of both sides](throughput.png)",
        "",
        f"## {rule_engines.TITLE}",
        "",
        *rule_engines.run(quick=options.quick),
        f"## {rule_books.TITLE}",
        "",
        *rule_books.run(quick=options.quick),
        "## Static checks of rules",
        "",
        *rule_checks.run(quick=options.quick),
        "## Where the time of a lookup goes",
        "",
        "`.venv/bin/python -m bench.request_profile`, under cProfile: shares, not absolute times.",
        "",
        *request_profile.run(),
        "## Calls to the stores",
        "",
        *call_counts.run(),
        f"## {identity_graph.TITLE}",
        "",
        *identity_graph.run(quick=options.quick),
        f"## {concurrent_merges.TITLE}",
        "",
        *concurrent_merges.run(rounds=2 if options.quick else 7),
        f"## {scale.TITLE}",
        "",
        *run_scale(),
        f"## {lateness.TITLE}",
        "",
        *lateness.run(quick=options.quick),
        "## Start-up",
        "",
        *start_up.run(rounds=2 if options.quick else 7),
        "## Imports",
        "",
        *start_up.import_times(),
    ]
    RESULTS.write_text("\n".join(lines))
    print(RESULTS.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
