"""How long something took, and how long it may take on a machine that others use, too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

MARGIN_S = 2.0
"""Seconds beyond a deadline: what keeps none takes ten and more (`bench/lateness.py` has what a
quiet machine takes, in milliseconds)."""


@contextmanager
def within(seconds: float, *, at_least: float = 0.0) -> Iterator[None]:
    """Fail when the block takes longer than this and the margin, or less than `at_least`."""
    started = time.monotonic()
    yield
    took = time.monotonic() - started
    assert at_least <= took < seconds + MARGIN_S, f"{took:.2f} s"
