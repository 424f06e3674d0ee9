"""How long the stages of one request took: what the header `Server-Timing` tells its caller."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Literal

Stage = Literal["auth", "read", "decide", "commit", "audit", "stitch"]
"""`stitch`: what a lookup or a denial publishes; `audit`: the audit record and what goes with it."""

stage_times: ContextVar[dict[str, float] | None] = ContextVar("stage_times", default=None)
"""Seconds of each stage of the present request; None outside of one."""


class timed:  # noqa: N801 - a statement's word, as `suppress` is
    """Adds what a `with` block takes to the stage's time; a stage may come more than once."""

    __slots__ = ("_stage", "_started")

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        times = stage_times.get()
        if times is not None:
            took = time.perf_counter() - self._started
            times[self._stage] = times.get(self._stage, 0.0) + took
