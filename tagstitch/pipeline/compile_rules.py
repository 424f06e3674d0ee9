"""Compiling a rule book while requests are answered: a little work, then a turn for the others.

Python runs one thing at a time, in threads as well: a computation of seconds in a thread holds a
request up for five milliseconds again and again. Half a millisecond between two turns of the
event loop is what a request may notice here.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar, cast

from tagstitch.core.rule import Rule
from tagstitch.core.rule_book import RuleBook, compile_in_steps
from tagstitch.core.rule_bucket import RuleBucket
from tagstitch.core.steps import Steps

T = TypeVar("T")

_SLICE_S: Final = 0.000_5
_PAUSE_S: Final = 0.001
"""Seconds of work, and seconds for requests in between: a third of the processor for a refresh."""

_FIRST_SLICE_S: Final = 0.005
"""Seconds of work at a time while there is no rule book: every request waits for it."""

_MANY_BYTES: Final = 300_000
"""Bytes of a content, about 1,000 rules, from which garbage collection is worth a thought."""

_NEVER: Final = 1_000_000_000
"""A threshold that a load does not reach."""

_RELEASED_PER_STEP: Final = 50

_releases: set[asyncio.Task[None]] = set()


async def compile_content(content: bytes, present: RuleBook | None) -> RuleBook:
    """Return the book of a content; rules that have not changed are taken from the present one."""
    steps = compile_in_steps(_lines(content), present)
    if len(content) < _MANY_BYTES:
        return await _run(steps, is_first=present is None)
    with _no_full_collection():
        if present is None:  # nobody is served meanwhile
            return await _run(steps, is_first=True)
        gc.collect()  # what is garbage now would stay for good; what earlier loads made is left out
        return await _run(steps, is_first=False, between=_collect_young)


def release(book: RuleBook) -> None:
    """Let go of a book that was replaced, piece by piece: all at once takes 100 milliseconds.

    To be called when the next book is about to take its place in the same turn of the event loop.
    """
    task = asyncio.get_running_loop().create_task(_run(_release_in_steps(book), is_first=False))
    _releases.add(task)  # the event loop itself keeps no task alive
    task.add_done_callback(_releases.discard)


async def _run(
    steps: Steps[T], *, is_first: bool, between: Callable[[], object] = lambda: None
) -> T:
    slice_s, pause_s = (_FIRST_SLICE_S, 0.0) if is_first else (_SLICE_S, _PAUSE_S)
    while True:
        ends_at = time.monotonic() + slice_s
        try:
            while time.monotonic() < ends_at:
                next(steps)
        except StopIteration as stop:
            return cast(T, stop.value)
        between()
        await asyncio.sleep(pause_s)


def _lines(content: bytes) -> Iterator[bytes]:
    """Yield the lines one by one: splitting 30 MB at once takes 20 milliseconds."""
    start = 0
    while (end := content.find(b"\n", start)) >= 0:
        yield content[start:end]
        start = end + 1


@contextmanager
def _no_full_collection() -> Iterator[None]:
    """Spare requests the full collection, 500 milliseconds, that so many new objects set off.

    What a load made is left out of all later ones. It holds no cycles, so it goes as soon as
    nobody refers to it.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(_NEVER, _NEVER, _NEVER)
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(*thresholds)


def _collect_young() -> None:
    """Collect what requests left since the last time.

    What a load has made moves out of the way while it is small: to go through a table of 100,000
    rules takes 20 milliseconds.
    """
    gc.collect(1)


def _release_in_steps(book: RuleBook) -> Steps[None]:
    """Take a book apart; whoever still decides by it keeps the buckets that it holds."""
    buckets: list[RuleBucket[Any]] = []
    buckets += book.event_buckets.values()
    buckets += book.personalization_buckets.values()
    tables = (book.compiled.event_rules, book.compiled.personalization_rules)
    del book
    yield
    for table in tables:
        if isinstance(table, dict):  # nobody looks anything up in it any more
            while table:
                for _ in range(min(_RELEASED_PER_STEP, len(table))):
                    table.popitem()
                yield
    while buckets:
        yield from _release_rules(buckets.pop())


def _release_rules(bucket: RuleBucket[Any]) -> Steps[None]:
    """Hold the rules while the bucket goes, then let them go a few at a time."""
    rules: list[Rule] = []
    for start in range(0, len(bucket.own_rules), _RELEASED_PER_STEP):
        rules += bucket.own_rules[start : start + _RELEASED_PER_STEP]
        yield
    del bucket
    while rules:
        yield
        del rules[-_RELEASED_PER_STEP:]
