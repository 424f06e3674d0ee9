"""Long computations in small pieces, so that a process can answer requests in between."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from heapq import merge
from itertools import islice
from typing import Any, Final, TypeVar

T = TypeVar("T")

Steps = Generator[None, None, T]
"""Computes a T, with a pause between small pieces of work."""


_SORTED_PER_STEP: Final = 500


def sorted_in_steps(items: Iterable[T], key: Callable[[T], Any]) -> Steps[list[T]]:
    """Return the items in order; 10,000 at once take longer than a request should wait."""
    remaining = iter(items)
    runs: list[list[T]] = []
    while run := sorted(islice(remaining, _SORTED_PER_STEP), key=key):
        runs.append(run)
        yield
    if len(runs) < 2:
        return runs[0] if runs else []
    merged = merge(*runs, key=key)
    ordered: list[T] = []
    while piece := list(islice(merged, _SORTED_PER_STEP)):
        ordered += piece
        yield
    return ordered


def finished(steps: Steps[T]) -> T:
    """Return the result of all steps, without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
