"""What a request notices while the rule book is refreshed.

    .venv/bin/python -m bench.rule_refresh [--rules 100000]

Events arrive at a steady rate, whether or not earlier ones are answered; the latency of one is
counted from the moment when it was due. Meanwhile nothing happens, or a hundredth of the rules
changes, or all of them are read anew. Everything runs in one process without a network, so that
nothing hides what the refresh adds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import msgspec
import uvloop

from bench.rule_engines.rule_set import Definition, generate_events, generate_rules
from tagstitch.core.consent import resolve_consent
from tagstitch.core.decision import decide
from tagstitch.core.event import Event
from tagstitch.core.json_input import decode_json
from tagstitch.core.rule_book import RuleBook
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.core.rule_lines import content_of
from tagstitch.core.situation import Situation
from tagstitch.pipeline.compile_rules import compile_content, release

_TIMER_S = 0.001
"""uvloop's timers have whole milliseconds: the rest of the time until an event is due is asked for
again and again, as a server asks its sockets."""

_EVENTS_PER_S = 100
_CHANGED_SHARE = 100
_CONSENT = resolve_consent(requested=None, event=None, profile=None, default_granted=True)


@dataclass
class Phase:
    """What happened, and how long events took meanwhile."""

    name: str
    seconds: float
    latencies_us: list[float]

    def percentile_us(self, percent: float) -> float:
        ordered = sorted(self.latencies_us)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class Server:
    """A rule book and those who ask it."""

    def __init__(self, book: RuleBook) -> None:
        self.book = book
        self._bodies = cycle([json.dumps(event).encode() for event in generate_events(500)])

    def answer(self) -> bytes:
        parameters = decode_json(next(self._bodies))
        event = Event(parameters["event_name"], parameters)
        decision = decide(Situation(event, _CONSENT, time.time()), self.book)
        return msgspec.json.encode(decision.to_json())

    async def serve(self, latencies_us: list[float]) -> None:
        """Answer events as they become due, until cancelled."""
        due_at = time.perf_counter()
        while True:
            due_at += 1 / _EVENTS_PER_S
            await asyncio.sleep(max(0.0, due_at - time.perf_counter() - _TIMER_S))
            while time.perf_counter() < due_at:  # noqa: ASYNC110 - nobody sets an event
                await asyncio.sleep(0)
            self.answer()
            latencies_us.append((time.perf_counter() - due_at) * 1e6)

    async def refresh(self, content: bytes, present: RuleBook | None) -> None:
        """Compile a content beside the present book and put it in its place."""
        book = await compile_content(content, present)
        release(self.book)
        self.book = book


async def measure(rules: int) -> list[Phase]:
    definitions = generate_rules(rules, "selective")
    changed = content_of(RuleDefinitions(_with_changes(definitions)))
    every = content_of(RuleDefinitions(definitions, protected=("nothing_else_changes",)))
    server = Server(await compile_content(content_of(RuleDefinitions(definitions)), None))
    del definitions
    gc.collect()
    gc.freeze()
    for _ in range(1_000):
        server.answer()
    return [
        await _during(server, "nothing", lambda: asyncio.sleep(10)),
        await _during(server, "1 % changed", lambda: server.refresh(changed, server.book)),
        await _during(server, "all read anew", lambda: server.refresh(every, server.book)),
    ]


def _with_changes(rules: Mapping[str, Definition]) -> dict[str, Definition]:
    return {
        rule_id: {**rule, "priority": 1_000} if number % _CHANGED_SHARE == 0 else rule
        for number, (rule_id, rule) in enumerate(rules.items())
    }


async def _during(server: Server, name: str, work: Callable[[], Awaitable[Any]]) -> Phase:
    latencies_us: list[float] = []
    serving = asyncio.ensure_future(server.serve(latencies_us))
    started = time.perf_counter()
    await work()
    seconds = time.perf_counter() - started
    await asyncio.sleep(1)  # the old book goes
    serving.cancel()
    return Phase(name, seconds, latencies_us)


def report(phases: list[Phase]) -> list[str]:
    """Return a table with the ratios to the first phase."""
    first = phases[0]
    lines = [
        "| meanwhile | took s | events | p50 µs | p99 µs | worst µs | p99, times |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for phase in phases:
        p50, p99, worst = (phase.percentile_us(percent) for percent in (50, 99, 100))
        ratio = p99 / first.percentile_us(99)
        lines.append(
            f"| {phase.name} | {phase.seconds:.1f} | {len(phase.latencies_us)} "
            f"| {p50:.0f} | {p99:.0f} | {worst:.0f} | {ratio:.1f} |"
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", type=int, default=100_000)
    options = parser.parse_args()
    print("\n".join(report(uvloop.run(measure(options.rules)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
