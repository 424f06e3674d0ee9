"""What breaks first at 100 to 100,000 events a second: `.venv/bin/python -m bench.scale [--write]`.

Prints the tables; with `--write` draws the picture and writes the section of RESULTS.md. Nothing is
measured here: docs/scale.md says what the figures rest on.
"""

from __future__ import annotations

import argparse
import sys
from typing import Final

from bench.cost import count
from bench.results import RESULTS, replace_section
from bench.scale.chart import draw
from bench.scale.report import TITLE, report, simulate_all

CHART: Final = RESULTS.with_name("scale.svg")
DRAWN: Final = 10_000


def run(seed: int = 7) -> list[str]:
    """Simulate everything and draw the picture; return the section of RESULTS.md."""
    scenarios = simulate_all(seed)
    draw(scenarios, DRAWN, CHART)
    return report(scenarios, count(), seed=seed)


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    options = parser.parse_args()
    if options.write:
        lines = run(options.seed)
        replace_section(TITLE, lines)
    else:
        lines = report(simulate_all(options.seed), count(), seed=options.seed)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
