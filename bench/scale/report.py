"""The scenarios of docs/scale.md and their tables."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from bench.cost import Volumes
from bench.cost_counts import Usage
from bench.scale.hot_visitor import hot_visitor
from bench.scale.instances import (
    Instances,
    Outcome,
    Scaling,
    Service,
    arrivals,
    constant,
    lognormal,
)

TITLE: Final = "At scale, simulated"

RATES: Final = (100, 1_000, 10_000, 100_000)
BURST: Final = 5
"""Times the usual rate, for `BURST_S` seconds, at once: a newsletter, a television spot."""
CALM_S: Final = 20.0
BURST_S: Final = 10.0
LATE_S: Final = 0.25
"""What decide promises to be done in, unless the request says otherwise."""
REQUESTS_MAX: Final = 250_000
"""Requests of one simulation. What is larger is simulated as one of so many equal parts."""

PROCESSOR_FACTOR: Final = 2.0
"""Assumed: a virtual processor of Cloud Run does half of what the measuring machine's does."""
START_FACTOR: Final = 3.0
"""Assumed: a start there takes three times as long."""

DECIDE_S: Final = 506e-6
"""Processor seconds of a decision (RESULTS.md, "decide on the Firestore emulator")."""
START_S: Final = 0.658
"""Seconds to the first real answer of decide (RESULTS.md, "Start-up")."""
SINK_S: Final = 1.2e-3
"""Of a message in audit_sink: an append (ADR 5), and about half as much for the rest."""
ROW_S: Final = 50e-6
"""Of each further record in a message: an append of 100 rows costs 27 µs a row (ADR 5), and its JSON."""
STITCH_S: Final = 0.7e-3
"""Of a stitch request: RESULTS.md, "The identity graph", and the framework's share."""

STORES: Final = lognormal(0.012, 0.06)
"""Assumed: one read and one publication, by median and 99th percentile."""
READ: Final = lognormal(0.006, 0.03)
COMMIT: Final = lognormal(0.012, 0.06)

PUBLISH_S: Final = 0.006
"""Assumed: one publication. What an instance decides meanwhile leaves in one message (ADR 7)."""

WORKERS_MOST: Final = 10
DEFAULT: Final = Scaling(least=1, most=20, start_s=START_S * START_FACTOR)
DECIDE: Final = Service(constant(DECIDE_S * PROCESSOR_FACTOR), STORES, places=80)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One rate with one setting, and what came of it."""

    rate: int
    setting: str
    scaling: Scaling
    parts: int
    outcome: Outcome

    @property
    def requests(self) -> int:
        """Those that were simulated."""
        return len(self.outcome.answers_s) + self.outcome.refused


def for_rate(rate: float) -> int:
    """Return the instances that hold their processors at 60 % under a steady rate."""
    return math.ceil(rate * DECIDE_S * PROCESSOR_FACTOR / DEFAULT.target)


def settings(rate: int) -> dict[str, Scaling]:
    """Return the defaults, what carries the usual rate, and what carries the burst without a start."""
    most = max(DEFAULT.most, math.ceil(1.2 * for_rate(BURST * rate)))
    return {
        "defaults": DEFAULT,
        "awake for the usual rate": replace(DEFAULT, least=for_rate(rate), most=most),
        "awake for the burst": replace(DEFAULT, least=for_rate(BURST * rate), most=most),
    }


def simulate(rate: int, setting: str, scaling: Scaling, *, seed: int) -> Scenario:
    """Simulate 20 s of the usual rate, a burst of 10 s, and 20 s more."""
    periods = [(CALM_S, rate), (BURST_S, rate * BURST), (CALM_S, rate)]
    total = sum(seconds * each for seconds, each in periods)
    parts = min(math.ceil(total / REQUESTS_MAX), scaling.most)
    random = Random(seed)
    times = arrivals([(seconds, each / parts) for seconds, each in periods], random)
    part = replace(
        scaling, least=max(scaling.least // parts, 1), most=max(scaling.most // parts, 1)
    )
    return Scenario(rate, setting, scaling, parts, Instances(DECIDE, part, random).run(times))


def simulate_all(seed: int, rates: Iterable[int] = RATES) -> list[Scenario]:
    """Simulate every rate with every setting; two settings that are the same only once."""
    scenarios = []
    for rate in rates:
        seen: list[Scaling] = []
        for setting, scaling in settings(rate).items():
            if scaling not in seen:
                seen.append(scaling)
                scenarios.append(simulate(rate, setting, scaling, seed=seed))
    return scenarios


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else math.nan


def scenario_table(scenarios: Sequence[Scenario]) -> list[str]:
    """Return what came of each scenario."""
    heading = (
        "| events/s, then in the burst | decide | instances | p50 ms | p99 ms"
        f" | over {LATE_S * 1000:.0f} ms | refused | started |"
    )
    lines = [
        heading,
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for scenario in scenarios:
        answers = scenario.outcome.answers_s
        late = sum(answer > LATE_S for answer in answers)
        lines.append(
            f"| {scenario.rate:,}, {scenario.rate * BURST:,} | {scenario.setting} |"
            f" {scenario.scaling.least} to {scenario.scaling.most} |"
            f" {percentile(answers, 0.5) * 1000:,.0f} | {percentile(answers, 0.99) * 1000:,.0f} |"
            f" {late / scenario.requests:.1%} | {scenario.outcome.refused / scenario.requests:.1%} |"
            f" {scenario.outcome.started * scenario.parts} |"
        )
    return lines


def hot_table(seed: int) -> list[str]:
    """Return how the events of one visitor end who sends many that change state."""
    lines = [
        "| events/s of one visitor | committed at once | at the second attempt | given up |",
        "|---:|---:|---:|---:|",
    ]
    for rate in (0.1, 1, 5, 10, 20, 50, 100):
        found = hot_visitor(
            rate, read_s=READ, commit_s=COMMIT, seconds=20_000 / rate, random=Random(seed)
        )
        shares = (found.at_once, found.second, found.given_up)
        cells = " | ".join(f"{number / found.events:.1%}" for number in shares)
        lines.append(f"| {rate:g} | {cells} |")
    return lines


def needs_table(counted: Mapping[str, Usage]) -> list[str]:
    """Return what each rate asks of every part, by what `bench.cost` counts and its shares."""
    shares, stitches = Volumes(), stitched_share()
    plain, state = counted["event: nothing is written"], counted["event: state changes"]
    stitched = counted["stitch: a new visitor"] * shares.new_share
    stitched += counted["stitch: a link"] * shares.link_share
    event = plain * (1 - shares.state_share) + state * shares.state_share + stitched

    rows: dict[str, list[str]] = {
        "documents read a second": [f"{event.reads * r:,.0f}" for r in RATES],
        "documents written a second": [f"{event.writes * r:,.0f}" for r in RATES],
        "messages to audit_sink a second": [f"{audit_messages(r):,.0f}" for r in RATES],
        "messages to stitch_async a second": [f"{stitches * r:,.0f}" for r in RATES],
        "MB published a second": [
            f"{(event.message_bytes + stitches * 1000) * r / 1e6:,.1f}" for r in RATES
        ],
        "MB appended to the audit a second": [f"{event.row_bytes * r / 1e6:,.1f}" for r in RATES],
        "instances of decide": [f"{for_rate(r):,}" for r in RATES],
        "instances of audit_sink": [f"{for_audit(r):,}" for r in RATES],
        "instances of stitch_async": [f"{for_stitching(r):,}" for r in RATES],
        "minutes of ramp to that many writes": [
            f"{ramp_minutes(event.writes * r):,.0f}" for r in RATES
        ],
        "million records waiting after an hour without BigQuery": [
            f"{event.rows * r * 3600 / 1e6:,.1f}" for r in RATES
        ],
    }
    return [
        "| events a second | " + " | ".join(f"{rate:,}" for rate in RATES) + " |",
        "|---|" + "---:|" * len(RATES),
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()),
    ]


def ramp_minutes(rate: float) -> float:
    """Return the minutes of 500/50/5: 500 a second at first, half as many more each 5 minutes."""
    return 5.0 * max(math.ceil(math.log(rate / 500, 1.5)), 0)


def stitched_share() -> float:
    """Return the stitch requests of an event."""
    return Volumes().new_share + Volumes().link_share


def audit_messages(rate: float) -> float:
    """Return the messages a second in which the records of this rate leave.

    An instance has one publication under way at a time: the next begins when it ends, or with the
    next event where none came meanwhile.
    """
    each = rate / for_rate(rate)
    decided = for_rate(rate) / (PUBLISH_S + math.exp(-each * PUBLISH_S) / each)
    return decided + stitched_share() * rate


def for_audit(rate: float) -> int:
    """Return the instances of audit_sink that hold their processors at 60 %."""
    messages, records = audit_messages(rate), (2 + stitched_share()) * rate
    busy = messages * SINK_S + (records - messages) * ROW_S
    return math.ceil(busy * PROCESSOR_FACTOR / DEFAULT.target)


def for_stitching(rate: float) -> int:
    """Return the same of stitch_async."""
    return math.ceil(stitched_share() * rate * STITCH_S * PROCESSOR_FACTOR / DEFAULT.target)


def carried(needed: Callable[[float], int], most: int) -> int:
    """Return the events a second, in hundreds, that so many instances carry."""
    return 100 * bisect.bisect_right(range(100, 1_000_000, 100), most, key=needed)


def report(scenarios: Sequence[Scenario], counted: Mapping[str, Usage], *, seed: int) -> list[str]:
    """Return the section of RESULTS.md."""
    assumed = (
        "Assumed: a virtual processor is half as fast as this machine's, a start takes three times"
        " as long, a read and a publication take 12 ms (p99 60 ms)."
    )
    defaults = (
        f"With its default most of instances at 60 %, decide carries {carried(for_rate, DEFAULT.most):,}"
        f" events a second, audit_sink those of {carried(for_audit, WORKERS_MOST):,},"
        f" stitch_async those of {carried(for_stitching, WORKERS_MOST):,}."
    )
    return [
        f"`.venv/bin/python -m bench.scale`, seed {seed}: a simulation, with figures of this page.",
        "`tests/bench/test_scale.py` holds it against Erlang C, and Pollaczek and Khinchine.",
        assumed,
        "",
        defaults,
        "",
        "### What each rate asks for",
        "",
        *needs_table(counted),
        "",
        f"### A burst of {BURST} times the usual rate",
        "",
        f"{CALM_S:.0f} s as usual, {BURST_S:.0f} s of burst, {CALM_S:.0f} s as usual.",
        "",
        *scenario_table(scenarios),
        "",
        "![Answers and instances during a burst](scale.svg)",
        "",
        "### A hot visitor",
        "",
        "Every event changes the state of the same visitor.",
        "",
        *hot_table(seed),
        "",
    ]
