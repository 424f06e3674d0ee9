"""Definitions held in memory: loaded on first use, refreshed each interval, served stale."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, Generic, TypeVar

from tagstitch.core.errors import TagstitchError
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.log_events import RefreshCrashed, RefreshFailed, log, log_crash

T = TypeVar("T")

_LOAD_TIMEOUT_S: Final = 30.0
"""Seconds for a load in the background; 100,000 rules come in several documents."""

_REFRESH_WAIT_S: Final = 0.05
"""Seconds that the request which starts a refresh waits for it: a pointer read takes one or two
milliseconds, and on request-based CPU little runs after the answer. Nor does anybody wait longer
for a first load that another request began after an earlier one had failed."""

_RETRY_S: Final = 1.0
"""Seconds until a failed load is tried again, when the interval is longer."""


class Refreshed(Generic[T]):
    """A value that one load makes and that requests share.

    `load` gets the present value (None before the first success) and a deadline, and returns the
    new one, or the same when nothing moved. One load runs at a time; a failed one leaves the
    present value in place.
    """

    def __init__(
        self,
        load: Callable[[T | None, Deadline], Awaitable[T]],
        *,
        name: str,
        interval_s: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._load = load
        self._name = name
        self._interval_s = interval_s
        self._clock = clock
        self._loading: asyncio.Task[None] | None = None
        self._next_load_at = 0.0
        self.value: T | None = None
        self.loaded_at: datetime | None = None
        """When the present value was last confirmed."""
        self.is_stale = False
        """Whether the last refresh failed."""

    async def get(self, deadline: Deadline) -> T | None:
        """Return the value; None only while nothing could be loaded yet.

        Waits for the first load until the deadline, for a refresh a few milliseconds. Once the
        first load has failed, only the request that starts another one waits for longer.
        """
        if self.value is not None and time.monotonic() < self._next_load_at:
            return self.value
        if self._loading is None and time.monotonic() >= self._next_load_at:
            self._loading = asyncio.get_running_loop().create_task(self._run())
            wait_s = deadline.remaining_s
            if self.value is not None:
                wait_s = min(wait_s, _REFRESH_WAIT_S)
            await asyncio.wait({self._loading}, timeout=wait_s)
        elif self._loading is not None and self.value is None:
            wait_s = deadline.remaining_s
            if self.is_stale:
                wait_s = min(wait_s, _REFRESH_WAIT_S)
            await asyncio.wait({self._loading}, timeout=wait_s)
        return self.value

    def start(self) -> None:
        """Begin the first load, or a refresh that is due, without waiting for it."""
        if self._loading is None and time.monotonic() >= self._next_load_at:
            self._loading = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            self.value = await self._load(self.value, Deadline.after(_LOAD_TIMEOUT_S))
            self.loaded_at = self._clock()
            self.is_stale = False
            self._next_load_at = time.monotonic() + self._interval_s
        except TagstitchError as error:
            self.is_stale = True
            self._next_load_at = time.monotonic() + min(self._interval_s, _RETRY_S)
            log(RefreshFailed(of=self._name, why=str(error)))
        except Exception as error:  # noqa: BLE001 - a bug must not end the refreshing for good
            self.is_stale = True
            self._next_load_at = time.monotonic() + min(self._interval_s, _RETRY_S)
            log_crash(RefreshCrashed(of=self._name, why=type(error).__name__), error)
        finally:
            self._loading = None
