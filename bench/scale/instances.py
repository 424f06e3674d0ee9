"""Instances of one service under the rules of Cloud Run's autoscaler, event by event.

A request waits for a free place in an instance, then for its processor, then for the stores. See
https://cloud.google.com/run/docs/about-instance-autoscaling for what adds instances: the processor's
and the places' use over a minute, held at 60 %, and requests for which there is no place.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

Draw = Callable[[Random], float]
"""Returns seconds."""


@dataclass(frozen=True, slots=True)
class Service:
    """What one request needs of an instance."""

    processor_s: Draw
    stores_s: Draw
    """Waiting for documents and messages, which costs a place and no processor."""
    places: int
    """Requests at once in an instance (`concurrency`)."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """How many instances there are."""

    least: int
    most: int
    start_s: float
    target: float = 0.6
    window_s: float = 60.0
    look_s: float = 5.0
    pending_s: float = 10.0
    """Seconds after which a request without a place is refused (429)."""


@dataclass(slots=True)
class Outcome:
    """What became of the requests."""

    answers_s: list[float] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    """Seconds until the processor, or an idle server, took the request."""
    refused: int = 0
    started: int = 0
    most: int = 0
    growth: list[tuple[float, int]] = field(default_factory=list)
    """(second, instances that answer)."""


@dataclass(slots=True)
class _Instance:
    places: int
    busy_until: float = 0.0
    working: int = 0


def constant(seconds: float) -> Draw:
    """Return the same time each time."""
    return lambda _: seconds


def exponential(mean_s: float) -> Draw:
    """Return times without memory."""
    return lambda random: random.expovariate(1 / mean_s)


def lognormal(median_s: float, p99_s: float) -> Draw:
    """Return times with a long tail, by their median and the 99th percentile."""
    sigma = math.log(p99_s / median_s) / 2.3263
    return lambda random: random.lognormvariate(math.log(median_s), sigma)


def arrivals(rates: Iterable[tuple[float, float]], random: Random) -> Iterator[float]:
    """Yield times of a Poisson process; `rates` are (seconds, arrivals a second), one by one."""
    begins = 0.0
    for seconds, rate in rates:
        now = begins + random.expovariate(rate)
        while now < begins + seconds:
            yield now
            now += random.expovariate(rate)
        begins += seconds


class Instances:
    """One run of the simulation."""

    def __init__(self, service: Service, scaling: Scaling, random: Random) -> None:
        self._service = service
        self._scaling = scaling
        self._random = random
        self._ready = [_Instance(service.places) for _ in range(scaling.least)]
        self._starting = 0
        self._working = 0
        self._pending: deque[float] = deque()
        self._events: list[tuple[float, int, _Instance | None]] = []
        self._count = 0
        self._processor_s = 0.0
        self._looks: deque[tuple[float, float]] = deque()
        self.outcome = Outcome(most=scaling.least, growth=[(0.0, scaling.least)])

    def run(self, times: Iterable[float]) -> Outcome:
        """Return what became of requests that arrive at these times."""
        next_look = self._scaling.look_s
        for now in times:
            while next_look <= now:
                self._settle(next_look)
                self._look(next_look)
                next_look += self._scaling.look_s
            self._settle(now)
            if not self._pending and self._take(now, now):
                continue
            self._pending.append(now)
            self._start_for_pending(now)
        while self._events:
            self._settle(self._events[0][0])
        self.outcome.refused += len(self._pending)
        return self.outcome

    def _settle(self, now: float) -> None:
        """Do what was due until now: ends of requests, and instances that are ready."""
        while self._events and self._events[0][0] <= now:
            at, _, instance = heapq.heappop(self._events)
            if instance is None:
                self._starting -= 1
                self._ready.append(_Instance(self._service.places))
                self.outcome.most = max(self.outcome.most, len(self._ready))
                self.outcome.growth.append((at, len(self._ready)))
            else:
                instance.working -= 1
                self._working -= 1
            self._give_places(at)

    def _give_places(self, now: float) -> None:
        while self._pending:
            if now - self._pending[0] > self._scaling.pending_s:
                self._pending.popleft()
                self.outcome.refused += 1
            elif self._take(self._pending[0], now):
                self._pending.popleft()
            else:
                return

    def _take(self, arrived: float, now: float) -> bool:
        """Give a request a place, in the emptier one of two instances; False when there is none."""
        if self._working >= len(self._ready) * self._service.places:
            return False
        one, other = self._random.choice(self._ready), self._random.choice(self._ready)
        instance = one if one.working <= other.working else other
        if instance.working >= instance.places:
            instance = min(self._ready, key=lambda each: each.working)
        processor_s = self._service.processor_s(self._random)
        begins = max(now, instance.busy_until)
        instance.busy_until = begins + processor_s
        instance.working += 1
        self._working += 1
        self._processor_s += processor_s
        ends = instance.busy_until + self._service.stores_s(self._random)
        self._at(ends, instance)
        self.outcome.waits_s.append(begins - arrived)
        self.outcome.answers_s.append(ends - arrived)
        return True

    def _start_for_pending(self, now: float) -> None:
        wanted = math.ceil(len(self._pending) / self._service.places)
        self._start(wanted - self._starting, now)

    def _look(self, now: float) -> None:
        """Start what the use of the last minute asks for."""
        self._looks.append((self._processor_s, self._working))
        self._processor_s = 0.0
        while len(self._looks) * self._scaling.look_s > self._scaling.window_s:
            self._looks.popleft()
        seconds = len(self._looks) * self._scaling.look_s
        by_processor = sum(used for used, _ in self._looks) / seconds / self._scaling.target
        by_places = (
            sum(working for _, working in self._looks)
            / len(self._looks)
            / (self._scaling.target * self._service.places)
        )
        wanted = math.ceil(max(by_processor, by_places))
        self._start(wanted - len(self._ready) - self._starting, now)

    def _start(self, number: int, now: float) -> None:
        room = self._scaling.most - len(self._ready) - self._starting
        for _ in range(min(number, room)):
            self._starting += 1
            self.outcome.started += 1
            self._at(now + self._scaling.start_s, None)

    def _at(self, time: float, instance: _Instance | None) -> None:
        self._count += 1
        heapq.heappush(self._events, (time, self._count, instance))
