"""Measuring all candidates in turn on the same rules and events, and that they agree.

    .venv-bench/bin/python -m bench.rule_engines.comparison [--quick] [--output FILE]

The candidates take turns, so that a slow minute of the machine hits all of them.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.rule_engines import libraries, ours, published_loop
from bench.rule_engines.candidate import Answer, Body, Candidate
from bench.rule_engines.figures import (
    BASELINE,
    CHECKED_EVENTS,
    EVENT_S_MAX,
    Comparison,
    Description,
    Figures,
    Group,
)
from bench.rule_engines.rule_set import MIXES, Definition, Mix, generate_events, generate_rules
from tagstitch.adapters.garbage_collection import COLLECTION_THRESHOLD

SIZES: Final = (10, 100, 1_000, 10_000, 100_000)
EVENTS = 200
ROUNDS = 5
TURN_S = 0.1
"""How long one candidate's turn aims to take: the events come again until it is over."""
TURN_EVENTS_MIN = 5
"""Fewer would be too few of the event names; waived when one event takes half a second."""
TURN_STEP = 13
"""Events by which the rounds' turns are apart; coprime with their number, so that all come up."""
_PYTHONS_OWN: Final = gc.get_threshold()[0]
"""Everybody runs as they do where they run: ours with the threshold that our functions set."""

LIBRARIES: Final = (
    "zen-engine", "datalogic-py", "growthbook", "common-expression-language", "msgspec",
)  # fmt: skip


def all_candidates() -> list[Candidate]:
    """Return who is compared, in the order of the tables."""
    books = ours.RuleBooks()
    return [
        Candidate(BASELINE, "as published: json, deep copy, every rule in turn",
                  published_loop.load),
        Candidate("GrowthBook", "evalCondition of growthbook, rule by rule",
                  libraries.load_growthbook),
        Candidate("CEL", "compiled programs of common-expression-language, one context an event",
                  libraries.load_cel),
        Candidate("JSON-Logic", "datalogic-py, compiled rules, evaluate_many on a data handle",
                  libraries.load_json_logic),
        Candidate("ZEN", "zen-engine, a precompiled decision table, collect",
                  libraries.load_zen),
        Candidate("tagstitch, whole event", "`/make-event-decision`: the whole event comes back",
                  books.load_published_shape, is_ours=True),
        Candidate("tagstitch, /decide", "`/decide`: what changed comes back",
                  books.load_decide, "decide", is_ours=True),
    ]  # fmt: skip


class Disagreement(AssertionError):
    """Two candidates decided differently: their times say nothing."""


def compare(sizes: Sequence[int], *, rounds: int, console: Console) -> Comparison:
    """Measure every candidate; raises Disagreement."""
    candidates = all_candidates()
    events = generate_events(EVENTS)
    groups = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        steps = len(candidates) * (rounds + 1)
        task = progress.add_task("", total=len(MIXES) * len(sizes) * steps)
        for mix in MIXES:
            slow: set[str] = set()
            for size in sizes:
                progress.update(task, description=f"{mix}, {size:,} rules")
                group = _Group(generate_rules(size, mix), events)
                left = [candidate for candidate in candidates if candidate.name not in slow]
                progress.advance(task, (len(candidates) - len(left)) * (rounds + 1))
                for candidate in left:
                    if not group.load(candidate):
                        slow.add(candidate.name)
                        progress.advance(task, rounds)
                    progress.advance(task)
                group.check()
                for number in range(rounds):
                    progress.advance(task, group.measure(number))
                groups.append(group.result(mix, candidates))
                del group
                gc.unfreeze()
                gc.collect()
    described = [Description(c.name, c.how, c.is_ours) for c in candidates]
    return Comparison(rounds, {name: version(name) for name in LIBRARIES}, described, groups)


@dataclass(slots=True)
class _Loaded:
    candidate: Candidate
    answer: Answer
    load_s: float
    events_a_turn: int
    event_us: list[float]


class _Group:
    """All candidates with the same rules in memory."""

    def __init__(self, rules: Mapping[str, Definition], events: list[dict[str, Any]]) -> None:
        self._rules = rules
        self._events = events
        self._bodies: dict[Body, list[bytes]] = {
            "event": [json.dumps(event).encode() for event in events],
            "decide": [
                json.dumps({"event": event, "include": ["event"]}).encode() for event in events
            ],
        }
        self._loaded: list[_Loaded] = []
        self._matching = 0.0

    def load(self, candidate: Candidate) -> bool:
        """Load the rules; False when the candidate is too slow for so many."""
        gc.collect()
        gc.freeze()  # what the others hold must not cost this one a collection
        stopwatch = _Stopwatch()
        answer = candidate.load(self._rules)
        load_s = stopwatch.seconds()
        gc.collect()
        gc.freeze()
        bodies = self._bodies[candidate.body]
        event_s = min(_seconds(answer, bodies[:1]) for _ in range(3))
        if event_s > EVENT_S_MAX:
            return False
        least = TURN_EVENTS_MIN if event_s < 0.5 else 1
        count = max(least, round(TURN_S / event_s))
        self._loaded.append(_Loaded(candidate, answer, load_s, count, []))
        return True

    def check(self) -> None:
        """Let all candidates decide the same events; raises Disagreement."""
        expected: list[tuple[Any, list[str]]] | None = None
        for loaded in self._loaded:
            bodies = self._bodies[loaded.candidate.body][:CHECKED_EVENTS]
            decided = [
                _decided(json.loads(loaded.answer(body)), event)
                for body, event in zip(bodies, self._events, strict=False)
            ]
            expected = expected or decided
            if decided != expected:
                raise Disagreement(f"{loaded.candidate.name} decides otherwise")
        self._matching = statistics.mean(len(matched) for _, matched in expected or [])

    def measure(self, number: int) -> int:
        """Give every candidate a turn, in another order each time; return how many had one."""
        first = number % len(self._loaded)
        for loaded in self._loaded[first:] + self._loaded[:first]:
            bodies = self._bodies[loaded.candidate.body]
            start = number * TURN_STEP % EVENTS
            turn = list(islice(cycle(bodies[start:] + bodies[:start]), loaded.events_a_turn))
            gc.set_threshold(COLLECTION_THRESHOLD if loaded.candidate.is_ours else _PYTHONS_OWN)
            loaded.answer(bodies[start - 1])  # the rules of others have just been in the caches
            loaded.event_us.append(_seconds(loaded.answer, turn) / len(turn) * 1e6)
        return len(self._loaded)

    def result(self, mix: Mix, candidates: Iterable[Candidate]) -> Group:
        """Return the figures of all, the skipped ones included."""
        by_name = {loaded.candidate.name: loaded for loaded in self._loaded}
        figures = []
        for candidate in candidates:
            loaded = by_name.get(candidate.name)
            load_s, event_us = (loaded.load_s, loaded.event_us) if loaded else (0.0, [])
            figures.append(Figures(candidate.name, load_s, event_us))
        return Group(mix, len(self._rules), self._matching, figures)


def _seconds(answer: Answer, bodies: Iterable[bytes]) -> float:
    stopwatch = _Stopwatch()
    for body in bodies:
        answer(body)
    return stopwatch.seconds()


class _Stopwatch:
    """Measures the CPU time of all threads, or the time that passed when that is less.

    On a busy machine the time that passed is mostly other people's, the more so for an engine that
    passes work between threads; on a quiet one such an engine may gain by them.
    """

    def __init__(self) -> None:
        self._started, self._worked = time.perf_counter(), time.process_time()

    def seconds(self) -> float:
        """Return the time since it was made."""
        return min(time.perf_counter() - self._started, time.process_time() - self._worked)


def _decided(answer: dict[str, Any], event: dict[str, Any]) -> tuple[Any, list[str]]:
    """Return the event as it leaves and the rules that applied, whatever the answer's shape."""
    if "resolved_event_payload" in answer:
        payload, applied = answer["resolved_event_payload"], answer["applied_modifications"]
    else:
        decision = answer["event"]
        payload = {key: value for key, value in event.items() if key not in decision["unset"]}
        payload |= decision["set"]
        payload["event_name"] = decision["rename"] or event["event_name"]
        applied = decision["modifications"]
    return payload, [modification["rule_id"] for modification in applied]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rules and rounds, to try it")
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    sizes, rounds = (SIZES[:3], 2) if options.quick else (SIZES, ROUNDS)
    measured = compare(sizes, rounds=rounds, console=Console(file=sys.stderr))
    figures = msgspec.json.encode(measured)
    if options.output:
        options.output.write_bytes(figures)
    else:
        sys.stdout.buffer.write(figures + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
