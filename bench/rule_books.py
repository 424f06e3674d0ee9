"""Rule books of 100,000 rules: load, memory, refresh, and what a receipt costs.

    .venv/bin/python -m bench.rule_books

Writes this section of bench/RESULTS.md alone. `bench.rule_book_load`, `bench.rule_refresh` and
`bench.receipts` print their parts; `bench.rule_checks` times the static checks.
"""

from __future__ import annotations

import argparse
import sys

import uvloop

from bench import receipts, rule_book_load, rule_refresh
from bench.results import replace_section

TITLE = "Rule books"

_RULES = 100_000
_RULES_QUICK = 5_000


def run(*, quick: bool) -> list[str]:
    """Measure; return the section's lines."""
    rules = _RULES_QUICK if quick else _RULES
    return [
        f"{rules:,} rules over 10 event names, those of the comparison with other engines.",
        "",
        "### Loading a published bundle",
        "",
        (
            "`.venv/bin/python -m bench.rule_book_load`: a process of its own for each; memory beyond"
            " the bundle's content. Wanted: 5 s and 250 MB."
        ),
        "",
        *rule_book_load.report(rules),
        "",
        "### A refresh while events are decided",
        "",
        (
            "`.venv/bin/python -m bench.rule_refresh`: one process decides events one after the other"
            " and refreshes in between. Wanted: p99 at most doubled by 1 % changed rules."
        ),
        "",
        *rule_refresh.report(uvloop.run(rule_refresh.measure(rules))),
        "",
        "### Receipts",
        "",
        "`.venv/bin/python -m bench.receipts`: one purchase with 45 parameters, 102 rules.",
        "",
        *receipts.report(),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rules; writes nothing")
    options = parser.parse_args()
    lines = run(quick=options.quick)
    if not options.quick:
        replace_section(TITLE, lines)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
