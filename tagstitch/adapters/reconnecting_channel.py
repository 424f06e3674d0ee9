"""The channel to one service, replaced when nothing is heard on it any more."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, TypeVar

import grpc
import grpc.aio

Stubs = TypeVar("Stubs")

_SILENCE_S: Final = 2.0
"""Seconds without any answer after which a call that timed out has its channel replaced."""

_LEFT_S: Final = 60.0
"""Seconds for the calls under way on a replaced channel: above every deadline that they have."""

_LOCAL: Final = frozenset(
    {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
)
"""Statuses that gRPC gives by itself, without a word from the other side."""


class ReconnectingChannel(Generic[Stubs]):
    """Opens a channel on first use, in the running event loop, and a new one after silence.

    gRPC dials again when a connection breaks. One that takes bytes and never answers (the other
    end was frozen, or a router between forgot the connection) it keeps, and one that is never
    greeted it waits for 20 s: every call would time out long after the service is back.
    """

    def __init__(self, open_channel: Callable[[], Any], make_stubs: Callable[[Any], Stubs]) -> None:
        self._open_channel = open_channel
        self._make_stubs = make_stubs
        self._open: tuple[Any, Stubs] | None = None
        self._heard_at = 0.0
        self._leaving: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def calling(self) -> Iterator[Stubs]:
        """Give the stubs for one call, and learn from how it ends; every error passes through."""
        if self._open is None:
            channel = self._open_channel()
            self._open = channel, self._make_stubs(channel)
            self._heard_at = time.monotonic()
        used = self._open
        try:
            yield used[1]
        except grpc.aio.AioRpcError as error:
            if error.code() not in _LOCAL:
                self._heard_at = time.monotonic()
            elif error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                self._doubt(used)
            raise
        except TimeoutError:
            self._doubt(used)
            raise
        self._heard_at = time.monotonic()

    async def close(self) -> None:
        """Close the channel and those that were replaced; a later call opens a new one."""
        used, self._open = self._open, None
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        if used is not None:
            await used[0].close()

    def _doubt(self, used: tuple[Any, Stubs]) -> None:
        """Leave the channel to the calls under way on it when it has been silent for long."""
        if self._open is used and time.monotonic() - self._heard_at > _SILENCE_S:
            self._open = None
            task = asyncio.get_running_loop().create_task(_close_later(used[0]))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)


async def _close_later(channel: Any) -> None:
    """Close once the calls under way have ended; being cancelled closes at once."""
    try:
        await channel.close(_LEFT_S)
    except asyncio.CancelledError:
        await channel.close()
        raise
