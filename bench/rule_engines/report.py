"""The section of bench/RESULTS.md about rule engines, and its picture."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from bench.results import RESULTS
from bench.rule_engines.figures import (
    BASELINE,
    CHECKED_EVENTS,
    EVENT_S_MAX,
    Comparison,
    Figures,
    Group,
)
from bench.rule_engines.rule_set import EVENT_NAMES, ITEMS, PARAMETERS

TITLE: Final = "Beside other rule engines"
PICTURE: Final = RESULTS.with_name("rule_engines.png")

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-bench" / "bin" / "python"


def run(*, quick: bool = False) -> list[str]:
    """Compare in the virtual environment that has the other engines; return the section."""
    from bench.chart import draw_rule_engines

    if not PYTHON.exists():
        sys.exit(f"{PYTHON.relative_to(ROOT)} is missing: make bench-engines")
    with tempfile.TemporaryDirectory(prefix="tagstitch-bench-") as folder:
        figures = Path(folder) / "figures.json"
        command = [str(PYTHON), "-m", "bench.rule_engines.comparison", "--output", str(figures)]
        subprocess.run(command + ["--quick"] * quick, cwd=ROOT, check=True)
        measured = msgspec.json.decode(figures.read_bytes(), type=Comparison)
    if not quick:
        draw_rule_engines(measured, PICTURE)
    return section(measured)


def section(measured: Comparison) -> list[str]:
    """Return the lines below the heading."""
    versions = ", ".join(f"{name} {number}" for name, number in measured.versions.items())
    lines = [
        (
            f"From a request's bytes to its answer's bytes in one process; {measured.rounds} rounds "
            "in turn, medians."
        ),
        (
            f"Events of {PARAMETERS} parameters and {ITEMS} items, rules over {len(EVENT_NAMES)} "
            f"event names; on {CHECKED_EVENTS} events of every set all must decide the same."
        ),
        (
            "A figure is the CPU time of all threads, or the time that passed where that is less "
            "(ZEN works in two threads)."
        ),
        "In brackets: how many times as fast as the plain loop.",
        f"skipped: one event took more than {EVENT_S_MAX:g} s.",
        "",
        versions + ".",
        "",
        "| candidate | how it was used |",
        "|---|---|",
        *(f"| {candidate.name} | {candidate.how} |" for candidate in measured.candidates),
        "",
        "The loop holds an event against every rule of every name, as published.",
        "All others have their rules grouped by event name and compiled once.",
        (
            "The libraries' JSON is read, checked and written as ours is; those that convert an "
            "event get only what the conditions read."
        ),
        "",
    ]
    for mix in dict.fromkeys(group.mix for group in measured.groups):
        groups = [group for group in measured.groups if group.mix == mix]
        lines += [f"### {_title(groups)}", "", *_table(measured, groups), ""]
    largest = max(group.rules for group in measured.groups)
    lines += [f"### Loading {largest:,} rules", "", *_load_table(measured, largest), ""]
    return [*lines, f"![Time per event against the number of rules]({PICTURE.name})", ""]


def _title(groups: list[Group]) -> str:
    largest = groups[-1]
    share = largest.matching / (largest.rules / len(EVENT_NAMES))
    return f"Microseconds an event, {groups[0].mix} rules ({share:.2%} of an event's rules match)"


def _table(measured: Comparison, groups: list[Group]) -> list[str]:
    lines = [
        "| candidate | " + " | ".join(f"{group.rules:,} rules" for group in groups) + " |",
        "|---|" + "---|" * len(groups),
    ]
    for candidate in measured.candidates:
        cells = [_cell(group.of(candidate.name), group.of(BASELINE)) for group in groups]
        lines.append(f"| {candidate.name} | " + " | ".join(cells) + " |")
    return lines


def _cell(figures: Figures | None, baseline: Figures | None) -> str:
    if figures is None:
        return "skipped"
    text = f"{figures.median_us:,.0f}"
    if baseline is None or figures is baseline:
        return text
    return f"{text} ({baseline.median_us / figures.median_us:,.1f})"


def _load_table(measured: Comparison, size: int) -> list[str]:
    lines = ["| candidate | seconds |", "|---|---|"]
    group = next(group for group in measured.groups if group.rules == size)
    shared = [candidate.name for candidate in measured.candidates if candidate.is_ours][1:]
    for candidate in measured.candidates:
        figures = group.of(candidate.name)
        if candidate.name not in shared:  # both shapes answer from one rule book
            lines.append(f"| {candidate.name} | {f'{figures.load_s:.1f}' if figures else ''} |")
    return lines
