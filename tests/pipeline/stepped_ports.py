"""Ports whose calls happen one at a time, in an order that a test chooses, and that can fail.

A `Stepper` runs coroutines side by side on a world. At every call of a port a coroutine waits until
it is let go on, so that a list of numbers is a whole interleaving, and the same one every time.
Pauses take no time.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from tagstitch.core.errors import Unavailable
from tagstitch.pipeline.backend import CallbackAnswer, Document, Write
from tagstitch.pipeline.deadline import Deadline
from tests.pipeline.world import Crash, World

T = TypeVar("T")

_LANE: contextvars.ContextVar[int | None] = contextvars.ContextVar("lane", default=None)
"""Which of the coroutines a port call belongs to; calls of a test itself belong to none."""

_IS_SENT: contextvars.ContextVar[bool] = contextvars.ContextVar("is_sent", default=False)
"""Whether this belongs to a call that has left the process."""

_LAST_CALLS_S = 30.0
"""Seconds for calls that had been sent when their process died: above every time-out of a port."""

_TIMEOUT_S_MIN = 2.5
"""Seconds from which a pause is a time-out, which nobody waits for while there is work."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong at one port call of a run."""

    at: int
    kind: Literal["unavailable", "crash"]
    is_behind: bool
    """Whether what was asked for has happened all the same."""


@dataclass(slots=True)
class _Gate:
    """Where port calls wait until it is their turn."""

    turns: Iterator[int] = field(default_factory=lambda: iter(()))
    waiting: list[tuple[int, asyncio.Future[None]]] = field(default_factory=list)

    async def wait(self, lane: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self.waiting.append((lane, turn))
        await turn

    def open(self, *, pause_s: float) -> bool:
        """Let one call go on; return False when nobody waits, or the pause is to pass instead."""
        self.waiting = [(lane, turn) for lane, turn in self.waiting if not turn.done()]
        self.waiting.sort(key=lambda entry: entry[0])
        if not self.waiting:
            return False
        may_pass = pause_s < _TIMEOUT_S_MIN
        chosen = next(self.turns, 0) % (len(self.waiting) + may_pass)
        if chosen == len(self.waiting):
            return False
        self.waiting.pop(chosen)[1].set_result(None)
        return True


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that skips pauses, and opens the gate whenever nothing else can go on."""

    def __init__(self, gate: _Gate) -> None:
        self.gate = gate
        self.skipped_s = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return super().time() + self.skipped_s


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: _Loop) -> None:
        super().__init__()
        self._of = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        pause_s = math.inf if timeout is None else timeout
        if pause_s > 0 and not self._of.gate.open(pause_s=pause_s):
            assert pause_s < math.inf, "everybody waits, and for nothing"
            self._of.skipped_s += pause_s
        return super().select(0)


class Stepper:
    """Runs coroutines on a world, call by call; without `in_turns` as they come.

    A store behind a network answers when it likes: nobody can tell there that all of them wait.
    """

    def __init__(self, world: World, *, in_turns: bool = True) -> None:
        self._world = world
        self._gate = _Gate()
        self.in_turns = in_turns
        self._loop = _Loop(self._gate) if in_turns else asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda _loop, _context: None)  # tasks that a crash ended
        self._loop.set_task_factory(self._task)
        self._fault: Fault | None = None
        self._calls = 0
        self._under_way: set[asyncio.Future[Any]] = set()
        self._crashed = asyncio.Event()
        backend = world.backend
        world.backend = replace(
            backend,
            documents=_Documents(self, backend.documents),
            publisher=_Publisher(self, backend.publisher),
            callbacks=_Callbacks(self, backend.callbacks),
        )
        world.restart()

    def close(self) -> None:
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something of the test itself."""
        return self._loop.run_until_complete(work)

    def together(
        self,
        *works: Coroutine[Any, Any, Any],
        turns: Sequence[int] = (),
        fault: Fault | None = None,
    ) -> list[Any]:
        """Run them side by side; return what each returned, or its exception.

        A crash ends all of them with CancelledError, and the process is a new one.
        """
        self._gate.turns, self._fault, self._calls = iter(turns), fault, 0
        self._crashed.clear()
        outcomes = self._loop.run_until_complete(self._together(works))
        if self._crashed.is_set():
            self._world.restart()
        return outcomes

    async def _together(self, works: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        loop = asyncio.get_running_loop()
        lanes = []
        for lane, work in enumerate(works):
            context = contextvars.copy_context()
            context.run(_LANE.set, lane)
            lanes.append(loop.create_task(work, context=context))
        death = loop.create_task(self._crashed.wait())
        others = asyncio.all_tasks() - {asyncio.current_task(), death}
        while others and not self._crashed.is_set():
            await asyncio.wait({*others, death}, return_when=asyncio.FIRST_COMPLETED)
            others = asyncio.all_tasks() - {asyncio.current_task(), death}
        for task in (*(others - self._under_way), death):
            task.cancel()
        # What a process had sent when it died still happens, and not behind whoever looks next.
        _, endless = await asyncio.wait({*others, death}, timeout=_LAST_CALLS_S)
        assert not endless, "a call that was sent has no end"
        return list(await asyncio.gather(*lanes, return_exceptions=True))

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Make one port call when its turn has come."""
        lane = _LANE.get()
        if lane is None:
            return await work()
        if self.in_turns:
            await self._gate.wait(lane)
        number, self._calls = self._calls, self._calls + 1
        fault = self._fault if self._fault is not None and self._fault.at == number else None
        if fault is not None and not fault.is_behind:
            self._fail(fault)
        result = await (work() if self.in_turns else self._sent(work))
        if fault is not None:
            self._fail(fault)
        return result

    async def _sent(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what a call gives that reaches its store even when nobody waits for it."""
        context = contextvars.copy_context()
        context.run(_IS_SENT.set, True)
        call = context.run(asyncio.ensure_future, work())
        return await asyncio.shield(call)

    def _task(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        **options: Any,
    ) -> asyncio.Task[Any]:
        """Return a new task; those of a call that was sent, the client library's too, are kept."""
        task = asyncio.Task(work, loop=loop, **options)
        if _IS_SENT.get():
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        return task

    def _fail(self, fault: Fault) -> None:
        if fault.kind == "unavailable":
            raise Unavailable("store", "it did not answer")
        self._crashed.set()
        raise Crash


@dataclass(frozen=True, slots=True)
class _Documents:
    stepper: Stepper
    inner: Any

    async def get(self, path: str, *, deadline: Deadline) -> Document | None:
        found: Document | None = await self.stepper.call(
            lambda: self.inner.get(path, deadline=deadline)
        )
        return found

    async def get_many(self, paths: Sequence[str], *, deadline: Deadline) -> Mapping[str, Document]:
        found: Mapping[str, Document] = await self.stepper.call(
            lambda: self.inner.get_many(paths, deadline=deadline)
        )
        return found

    async def commit(self, writes: Sequence[Write], *, deadline: Deadline) -> None:
        await self.stepper.call(lambda: self.inner.commit(writes, deadline=deadline))

    async def list_documents(self, collection: str, **options: Any) -> Sequence[Document]:
        found: Sequence[Document] = await self.stepper.call(
            lambda: self.inner.list_documents(collection, **options)
        )
        return found


@dataclass(frozen=True, slots=True)
class _Publisher:
    stepper: Stepper
    inner: Any

    async def publish(
        self,
        topic: str,
        data: bytes,
        *,
        attributes: Mapping[str, str] | None = None,
        deadline: Deadline,
    ) -> str:
        return str(
            await self.stepper.call(
                lambda: self.inner.publish(topic, data, attributes=attributes, deadline=deadline)
            )
        )


@dataclass(frozen=True, slots=True)
class _Callbacks:
    stepper: Stepper
    inner: Any

    async def post(self, url: str, **options: Any) -> CallbackAnswer:
        answer: CallbackAnswer = await self.stepper.call(lambda: self.inner.post(url, **options))
        return answer
