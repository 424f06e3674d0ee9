"""What happens in the stack, while it happens: a line each, without personal data."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import msgspec

_WAITING_MAX: Final = 1_000
"""Lines that wait for one listener; a terminal that is stopped must not fill the memory."""

_USUAL_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_UNUSUAL: Final = "(another name)"


class FeedLine(msgspec.Struct, frozen=True):
    """One thing that happened."""

    at: datetime
    kind: str
    name: str
    detail: str


class LiveFeed:
    """Passes lines on to whoever listens now, and keeps none."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[FeedLine | None]] = set()

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens: what nobody hears need not be worked out."""
        return bool(self._listeners)

    def add(self, kind: str, name: str, detail: str = "") -> None:
        """Tell every listener."""
        line = FeedLine(datetime.now(UTC), kind, name, detail)
        for waiting in self._listeners:
            if waiting.qsize() < _WAITING_MAX:  # the last place is for the end
                waiting.put_nowait(line)

    @contextmanager
    def listening(self) -> Iterator[AsyncIterator[FeedLine]]:
        """Yield what happens from now on, until the feed is closed."""
        waiting: asyncio.Queue[FeedLine | None] = asyncio.Queue(_WAITING_MAX + 1)
        self._listeners.add(waiting)
        try:
            yield _lines(waiting)
        finally:
            self._listeners.discard(waiting)

    def close(self) -> None:
        """End every listener: an open line would keep the server from stopping."""
        for waiting in self._listeners:
            if not waiting.full():
                waiting.put_nowait(None)


async def _lines(waiting: asyncio.Queue[FeedLine | None]) -> AsyncIterator[FeedLine]:
    while (line := await waiting.get()) is not None:
        yield line


def shown_name(name: object) -> str:
    """Return the name of an event, or a word in its place where a browser chose an unusual one.

    Whatever a hit says stands in an event's name, an e-mail address for one.
    """
    return name if isinstance(name, str) and _USUAL_NAME.fullmatch(name) else _UNUSUAL
