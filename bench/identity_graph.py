"""The identity graph at scale: as many links as a shop has, held against a union-find.

    .venv/bin/python -m bench.identity_graph [--edges 400000]

Every edge is one stitch request with two identifiers through the real `Stitcher`, one after the
other, on a SQLite file that is thrown away. The limits of types are off; those of a profile (50
identifiers, 100 merges) hold, so the components that are drawn stay within 50 identifiers. At the
end each identifier is looked up: who shares a profile must be who shares a component, and no alias
may lead to an alias. Otherwise the exit code is 1.

A second part times links and merges by the size of the profile, in the same process; wanted: a
link to a profile of 50 costs at most twice what one to a profile of 2 does.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.results import RESULTS, replace_section
from tagstitch.adapters.throw_away import ThrownAway, throw_away
from tagstitch.core.identifier import Identifier, IdentitySettings
from tagstitch.core.identity_graph import GraphNode, IdentityGraph, profile_fields, resolve
from tagstitch.core.limits import IDENTIFIERS_PER_PROFILE_MAX
from tagstitch.core.profile import typed_profile
from tagstitch.core.stitch_request import StitchRequest, parse_stitch_request
from tagstitch.pipeline.deadline import Deadline

TITLE: Final = "The identity graph"
CHART: Final = RESULTS.with_name("identity_graph.png")
RATIO_WANTED: Final = 2.0

WITHOUT_LIMITS: Final = IdentitySettings(limits={}, default_limit=None, quarantine=None)
SIZES: Final = (2, 5, 10, 20, 30, 40, 49)
"""Identifiers of the profile before the link."""

_AT: Final = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
_TIMEOUT_S: Final = 30.0
_PAGE: Final = 1_000

Edge = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Graph:
    """What was stitched and what came of it."""

    edges: int
    identifiers: int
    components: int
    largest: int
    seconds: float
    outcomes: Mapping[str, int]
    differences: int
    chains: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edges", type=int, default=400_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--links", type=int, default=400, help="links timed for each size")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    options = parser.parse_args()
    graph = asyncio.run(stitch_graph(options.edges, options.seed))
    costs = asyncio.run(cost_by_size(options.links))
    lines = report(graph, costs)
    print("\n".join(lines))
    if options.write:
        draw(costs, CHART)
        replace_section(TITLE, lines)
    is_wrong = graph.differences or graph.chains
    return 1 if is_wrong else 0


def run(*, quick: bool) -> list[str]:
    """Measure everything; return the section of RESULTS.md."""
    graph = asyncio.run(stitch_graph(4_000 if quick else 400_000, 7))
    if graph.differences or graph.chains:
        raise ValueError("the graph is not what a union-find says")
    costs = asyncio.run(cost_by_size(50 if quick else 400))
    draw(costs, CHART)
    return report(graph, costs)


def random_edges(count: int, generator: random.Random) -> Iterator[Edge]:
    """Yield edges in random order whose components have at most 50 nodes.

    Components of 2 to 50, small ones more often, each connected by a random tree; one edge in five
    says what others say already.
    """
    edges: list[Edge] = []
    nodes = 0
    while len(edges) < count:
        size = min(2 + int(generator.expovariate(0.12)), IDENTIFIERS_PER_PROFILE_MAX)
        tree = [(nodes + n, nodes + generator.randrange(n)) for n in range(1, size)]
        again = [
            (nodes + generator.randrange(size), nodes + generator.randrange(size))
            for _ in range(size // 5)
        ]
        edges += [*tree, *(edge for edge in again if edge[0] != edge[1])]
        nodes += size
    del edges[count:]
    generator.shuffle(edges)
    yield from edges


def components_of(edges: Sequence[Edge]) -> dict[int, int]:
    """Return node -> the root of its component, by union-find."""
    parent: dict[int, int] = {}

    def root(node: int) -> int:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for one, other in edges:
        parent[root(one)] = root(other)
    return {node: root(node) for node in parent}


async def stitch_graph(count: int, seed: int) -> Graph:
    """Stitch the edges and compare with the union-find."""
    edges = list(random_edges(count, random.Random(seed)))
    with throw_away(identity=WITHOUT_LIMITS) as thrown_away:
        process = thrown_away.wiring.stitcher.process
        started = time.perf_counter()
        for number, (one, other) in enumerate(edges):
            thrown_away.clock.pass_to(thrown_away.clock())
            await process(_request(f"e{number}", one, other), deadline=Deadline.after(_TIMEOUT_S))
            if sys.stderr.isatty() and number % 5_000 == 0:
                rate = number / (time.perf_counter() - started)
                print(f"\r{number:,} of {count:,}, {rate:,.0f}/s ", end="", file=sys.stderr)
        seconds = time.perf_counter() - started
        roots = components_of(edges)
        homes = await _homes(thrown_away, roots)
        outcomes = await _outcomes(thrown_away)
        chains = await _chains(thrown_away)
    sizes = Counter(roots.values())
    return Graph(
        edges=len(edges),
        identifiers=len(roots),
        components=len(sizes),
        largest=max(sizes.values()),
        seconds=seconds,
        outcomes=outcomes,
        differences=_differences(roots, homes),
        chains=chains,
    )


def _request(request_id: str, *nodes: int) -> StitchRequest:
    return parse_stitch_request(
        {
            "request_id": request_id,
            "identifiers": [{"type": "client_id", "value": _value(node)} for node in nodes],
        },
        WITHOUT_LIMITS,
        default_request_id=request_id,
        received_at=_AT,
    )


def _value(node: int) -> str:
    return f"{node + 10_000_000}.1747154479"


async def _homes(thrown_away: ThrownAway, nodes: Mapping[int, int]) -> dict[int, str | None]:
    """Return where each identifier leads, as a process that knows nothing yet finds it."""
    finder = thrown_away.wiring.finder
    finder.forget()
    now, homes = thrown_away.clock(), {}
    for node in nodes:
        visitor = await finder.find(
            [Identifier("client_id", _value(node))], now=now, deadline=Deadline.after(_TIMEOUT_S)
        )
        homes[node] = visitor.profile.profile_id if visitor.profile else None
    return homes


def _differences(roots: Mapping[int, int], homes: Mapping[int, str | None]) -> int:
    """Return how many nodes are not where their component is, or share a profile with another."""
    home_of_root: dict[int, str | None] = {}
    wrong = 0
    for node, root in roots.items():
        wrong += home_of_root.setdefault(root, homes[node]) != homes[node] or homes[node] is None
    shared = Counter(home_of_root.values())
    return wrong + sum(count - 1 for count in shared.values())


async def _outcomes(thrown_away: ThrownAway) -> dict[str, int]:
    """Return kind of entry in the link log -> how many."""
    counts: Counter[str] = Counter()
    after = None
    while page := await thrown_away.scratch.list_documents(
        "links", after=after, limit=_PAGE, deadline=Deadline.after(_TIMEOUT_S)
    ):
        counts.update(str(each.fields["kind"]) for each in page if "kind" in each.fields)
        after = page[-1].path
    return dict(counts)


async def _chains(thrown_away: ThrownAway) -> int:
    """Return how many aliases lead to an alias or to nothing."""
    targets: list[str] = []
    living: set[str] = set()
    after = None
    while page := await thrown_away.scratch.list_documents(
        "profiles", after=after, limit=_PAGE, deadline=Deadline.after(_TIMEOUT_S)
    ):
        for document in page:
            if "merged_into" in document.fields:
                targets.append(document.fields["merged_into"])
            else:
                living.add(document.path.partition("/")[2])
        after = page[-1].path
    return sum(target not in living for target in targets)


@dataclass(frozen=True, slots=True)
class Cost:
    """Median microseconds of processor time by the number of identifiers that the profile has.

    The store is in the process, and another process's work is nobody's cost here.
    """

    name: str
    microseconds: Mapping[int, float]

    @property
    def ratio(self) -> float:
        """The largest to the smallest size."""
        return self.microseconds[max(self.microseconds)] / self.microseconds[min(self.microseconds)]


async def cost_by_size(links: int) -> list[Cost]:
    """Return what a link, an event without news and the pure core cost by size.

    The sizes take turns, so that a slower moment of the machine is nobody's own.
    """
    linking: dict[int, list[float]] = {size: [] for size in SIZES}
    again: dict[int, list[float]] = {size: [] for size in SIZES}
    with throw_away(identity=WITHOUT_LIMITS) as thrown_away:
        process = thrown_away.wiring.stitcher.process

        async def timed(request: StitchRequest) -> float:
            thrown_away.clock.pass_to(thrown_away.clock())
            started = time.process_time()
            await process(request, deadline=Deadline.after(_TIMEOUT_S))
            return (time.process_time() - started) * 1e6

        first = 0
        for round_ in range(links):
            for size in SIZES:
                grown = _request_of(f"g{round_}-{size}", range(first, first + size))
                for number, request in enumerate(grown):
                    await process(replace(request, request_id=f"{request.request_id}-{number}"),
                                  deadline=Deadline.after(_TIMEOUT_S))  # fmt: skip
                new = _request(f"l{round_}-{size}", first, first + size)
                linking[size].append(await timed(new))
                again[size].append(await timed(replace(new, request_id=f"a{round_}-{size}")))
                first += size + 1
    return [
        Cost("a link", {size: statistics.median(found) for size, found in linking.items()}),
        Cost("nothing new", {size: statistics.median(found) for size, found in again.items()}),
        Cost("the core alone", {size: _core_microseconds(size) for size in SIZES}),
    ]


def _request_of(request_id: str, nodes: range) -> Iterator[StitchRequest]:
    """Yield requests after which the nodes are one profile: ten identifiers at a time."""
    for start in range(nodes.start, nodes.stop, 9):
        yield _request(
            request_id, nodes.start, *range(max(start, nodes.start + 1), min(start + 9, nodes.stop))
        )


def _core_microseconds(size: int) -> float:
    """Return what it takes to resolve one link in memory and to make the new document."""
    keys = [f"client_id:{n:026d}" for n in range(size + 1)]
    fields = {
        "identifiers": {key: {"first_seen": _AT, "last_seen": _AT} for key in keys[:size]},
        "attributes": {},
        "created_at": _AT,
        "expires_at": _AT,
    }

    def link() -> None:
        profile = typed_profile("p_x", fields)
        nodes = (
            GraphNode(Identifier("client_id", "a"), keys[0], "p_x", profile),
            GraphNode(Identifier("client_id", "b"), keys[size], "p_y", None),
        )
        resolution = resolve(IdentityGraph(nodes), WITHOUT_LIMITS, at=_AT)
        profile_fields(resolution, profile, consent=None, seen_at=_AT, now=_AT, salt=b"")

    rounds = []
    for _ in range(7):
        started = time.process_time()
        for _ in range(500):
            link()
        rounds.append((time.process_time() - started) / 500 * 1e6)
    return min(rounds)


def report(graph: Graph, costs: Sequence[Cost]) -> list[str]:
    """Return the section."""
    kinds = ", ".join(f"{count:,} {kind}s" for kind, count in sorted(graph.outcomes.items()))
    is_equal = graph.differences == 0 and graph.chains == 0
    verdict = "yes" if is_equal else f"NO: {graph.differences} nodes, {graph.chains} aliases"
    figures = (
        f"{graph.edges:,}", f"{graph.identifiers:,}", f"{graph.components:,}", f"{graph.largest}",
        kinds, verdict, f"{graph.seconds:,.0f}", f"{graph.edges / graph.seconds:,.0f}",
        f"{graph.seconds / graph.edges * 1e6:,.0f}",
    )  # fmt: skip
    rows = (
        (cost.name, *(f"{cost.microseconds[size]:,.0f}" for size in SIZES), f"{cost.ratio:.2f}")
        for cost in costs
    )
    return [
        "`.venv/bin/python -m bench.identity_graph`: each edge is one stitch request of two identifiers through the whole stitching on a throw-away SQLite file, one after the other.",
        "Limits of types and quarantine are off; a profile has at most 50 identifiers, and so have the components.",
        "",
        "| edges | identifiers | components | largest | log | as a union-find says | seconds | edges/s | µs an edge |",
        "|---:|---:|---:|---:|---|---|---:|---:|---:|",
        f"| {' | '.join(figures)} |",
        "",
        f"Median microseconds of processor time by the identifiers that the profile has; wanted: at most {RATIO_WANTED:g} times for a link.",
        "",
        f"| | {' | '.join(map(str, SIZES))} | times |",
        "|---" + "|---:" * (len(SIZES) + 1) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        "![Microseconds by the size of the profile](identity_graph.png)",
        "",
    ]


def draw(costs: Sequence[Cost], target: Path) -> None:
    """Draw the time by size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.6))
    for cost, colour in zip(costs, ("#1f6feb", "#79b8ff", "#9aa5b1"), strict=True):
        axis.plot(
            list(cost.microseconds), list(cost.microseconds.values()),
            label=cost.name, color=colour, marker="o", markersize=4,
        )  # fmt: skip
    axis.set(xlabel="identifiers of the profile", ylabel="microseconds")
    axis.set_ylim(bottom=0)
    axis.grid(visible=True, color="#e4e7eb", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(target, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
