"""How long a rule book takes to load, and how much memory it holds.

    .venv/bin/python -m bench.rule_book_load [--rules 100000]

Each measurement runs in a process of its own: it reads a bundle's content, compiles it as decide
does, lets go of the content and compares its resident memory with that before.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.rule_engines.rule_set import MIXES, generate_rules
from tagstitch.core.rule_book import compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.core.rule_lines import content_of
from tagstitch.pipeline.compile_rules import compile_content

_WARM_UP_RULES = 50


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", type=int, default=100_000)
    parser.add_argument("--content", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.content is not None:
        print(json.dumps(measure(options.content)))
        return 0
    print("\n".join(report(options.rules)))
    return 0


def report(rules: int) -> list[str]:
    """Return a table of both mixes."""
    lines = [
        f"| {rules:,} rules | bundle MB | load s | µs a rule | memory MB | bytes a rule |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for mix in MIXES:
        content = content_of(RuleDefinitions(generate_rules(rules, mix)))
        found = _measure_apart(content)
        lines.append(
            f"| {mix} | {len(content) / 1e6:.1f} | {found['seconds']:.2f} "
            f"| {found['seconds'] / rules * 1e6:.1f} | {found['bytes'] / 1e6:.0f} "
            f"| {found['bytes'] / rules:,.0f} |"
        )
    return lines


def _measure_apart(content: bytes) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        run = subprocess.run(
            [sys.executable, "-m", "bench.rule_book_load", "--content", file.name],
            capture_output=True,
            text=True,
            check=True,
        )
    return dict(json.loads(run.stdout))


def measure(path: Path) -> dict[str, Any]:
    """Return the seconds of processor time of a load, and the bytes that it leaves behind."""
    compile_rule_book(RuleDefinitions(generate_rules(_WARM_UP_RULES, "broad")))
    gc.collect()
    before = _resident_bytes()
    content = path.read_bytes()
    started = time.process_time()
    book = asyncio.run(compile_content(content, None))
    seconds = time.process_time() - started
    del content
    left = _resident_bytes() - before
    if book.broken:
        raise ValueError(book.broken[0])
    return {"seconds": seconds, "bytes": left, "rules": book.count}


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main())
