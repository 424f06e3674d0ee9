"""The benchmark of the identity graph: the same check on fewer links, and that it would notice."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from bench import identity_graph
from bench.identity_graph import components_of, random_edges, stitch_graph


@pytest.mark.parametrize("seed", range(3))
async def test_stitching_gives_the_components_of_a_union_find(seed: int) -> None:
    graph = await stitch_graph(700, seed)

    assert (graph.differences, graph.chains) == (0, 0)
    assert graph.components > 20
    assert graph.outcomes["merge"] > 50


def test_the_components_that_are_drawn_fit_into_profiles() -> None:
    edges = list(random_edges(20_000, random.Random(1)))
    sizes = Counter(components_of(edges).values())

    assert len(edges) == 20_000
    assert max(sizes.values()) == 50
    assert min(sizes.values()) >= 2


@pytest.mark.parametrize(
    ("homes", "differences"),
    [
        ({1: "a", 2: "a", 3: "b", 4: "b"}, 0),
        ({1: "a", 2: "b", 3: "c", 4: "c"}, 1),
        ({1: "a", 2: "a", 3: "a", 4: "a"}, 1),
        ({1: "a", 2: "a", 3: None, 4: None}, 2),
        ({1: "a", 2: "a", 3: "b", 4: "a"}, 1),
    ],
)
def test_a_difference_is_counted(homes: dict[int, str | None], differences: int) -> None:
    roots = {1: 1, 2: 1, 3: 3, 4: 3}

    assert identity_graph._differences(roots, homes) == differences
