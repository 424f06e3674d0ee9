"""Compare, and write this section of bench/RESULTS.md alone: `python -m bench.rule_engines`."""

from __future__ import annotations

import argparse
import sys

from bench.results import replace_section
from bench.rule_engines import report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rules; writes nothing")
    options = parser.parse_args()
    lines = report.run(quick=options.quick)
    if not options.quick:
        replace_section(report.TITLE, lines)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
