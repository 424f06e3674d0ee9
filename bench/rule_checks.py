"""How long the static checks of many rules take, and what memory they need.

    .venv/bin/python -m bench.rule_checks [--rules 1000 10000 100000]

Random rules over ten event names: a tenth of them drop events, a fifth rename them, the others set
parameters. Twice as many rules should take about twice as long. To compile them comes before, as in
`tagstitch rules validate`.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tagstitch.core.finding import CheckReport
from tagstitch.core.rule_book import compile_rule_book
from tagstitch.core.rule_checks import check_rules
from tagstitch.core.rule_definitions import RuleDefinitions

_SEED = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    for count in parser.parse_args().rules:
        measured = measure(count)
        print(
            f"{count:,} rules: {measured.seconds:.1f} s besides {measured.compile_seconds:.1f} s of "
            f"compiling, {measured.memory_mb:.0f} MB beyond the definitions"
        )
        findings = Counter(finding.code for finding in measured.report.findings)
        for code, found in findings.most_common():
            print(f"    {code}: {found:,}")
        for note in measured.report.notes:
            print(f"    {note}")


@dataclass(frozen=True, slots=True)
class Measured:
    """The checks of one set of rules."""

    rules: int
    compile_seconds: float
    seconds: float
    memory_mb: float
    report: CheckReport


def measure(count: int) -> Measured:
    """Compile and check so many rules."""
    definitions = RuleDefinitions(random_rules(count, random.Random(_SEED)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    book = compile_rule_book(definitions)
    compiled = time.perf_counter()
    report = check_rules(definitions, book=book)
    checked = time.perf_counter()
    memory_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return Measured(count, compiled - start, checked - compiled, memory_mb, report)


def run(*, quick: bool = False) -> list[str]:
    """Check sets of several sizes; return the section of RESULTS.md."""
    lines = ["| random rules | to compile | to check | findings |", "|---|---|---|---|"]
    for count in (1_000, 10_000) if quick else (1_000, 10_000, 100_000):
        measured = measure(count)
        lines.append(
            f"| {count:,} | {measured.compile_seconds:.1f} s | {measured.seconds:.1f} s "
            f"| {len(measured.report.findings):,} |"
        )
    return [*lines, ""]


def random_rules(count: int, draw: random.Random) -> dict[str, dict[str, Any]]:
    return {f"rule_{index}": _random_rule(draw) for index in range(count)}


def _random_rule(draw: random.Random) -> dict[str, Any]:
    conditions: dict[str, Any] = {}
    for _ in range(draw.randint(1, 3)):
        conditions |= _random_entry(draw)
    return {
        "target_event_name": f"event_{draw.randrange(10)}",
        "conditions": conditions,
        "priority": draw.randint(0, 100),
        **_random_action(draw),
    }


def _random_entry(draw: random.Random) -> dict[str, Any]:
    kind = draw.random()
    if kind < 0.3:
        word = draw.choice(["lessThan", "atMost", "greaterThan", "atLeast"])
        return {"value": {word: draw.randint(0, 1000)}}
    if kind < 0.6:
        return {f"parameter_{draw.randrange(20)}": f"text {draw.randrange(500)}"}
    if kind < 0.8:
        letters = "ABCDEFGH"
        return {"country": [draw.choice(letters) + draw.choice(letters) for _ in range(3)]}
    if kind < 0.9:
        return {"profile.tier": {"notEquals": draw.choice(["Gold", "Silver"])}}
    return {"any": [{"coupon": {"exists": True}}, {"quantity": draw.randrange(9)}]}


def _random_action(draw: random.Random) -> dict[str, Any]:
    kind = draw.random()
    if kind < 0.1:
        return {"action_type": "drop_event"}
    if kind < 0.3:
        details: dict[str, Any] = {"new_event_name": f"name_{draw.randrange(2_000)}"}
        return {"action_type": "rename_event", "action_details": details}
    details = {"parameter": f"parameter_{draw.randrange(50)}", "operator": "set"}
    details["operand"] = draw.randrange(9)
    return {"action_type": "modify_parameter", "action_details": details}


if __name__ == "__main__":
    main()
