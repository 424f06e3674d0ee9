"""Faults by chance, from one seed: around each delivery to a function, and around each port call.

A delivery may come twice at once, come later, or end in a crash before or behind any of its
effects; a call may be slow, or answered later than anybody waits for. Stores and topics are down
now and then. Every fault that happens is a line in a file, with what the delivery had sent so far.
"""

from __future__ import annotations

import asyncio
import base64
import contextvars
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tagstitch.core.errors import Unavailable
from tagstitch.pipeline.backend import Backend, CallbackAnswer, Document, RejectedRow, Write
from tagstitch.pipeline.deadline import Deadline

T = TypeVar("T")

LOG: Final = "faults.jsonl"
MESSAGES: Final = "messages.jsonl"
"""Every message that was published, and the id of each that was acknowledged."""
CALM: Final = "calm"
"""A file in the data folder: while it is there nothing fails."""
CLOCK: Final = "clock_offset_s"
"""A file with the seconds by which the stack's clock is ahead."""

RATE: Final = 0.05
"""Share of deliveries that come twice, later, crash or are slow, and of time that a port is down."""

_EFFECTS: Final = {0: 8, 1: 4, 2: 3, 3: 1, 4: 1}
"""Number of an effect -> how often a crash or a slow call is drawn for it: most deliveries have one
or two, a stitch request with a callback has three, with a dead letter four."""
_DOWN_S: Final = 0.25
_SLOW_S: Final = (0.02, 0.6)
_LATER_S: Final = 0.3
_LOOK_EVERY_S: Final = 0.05

PUSHED: Final = frozenset({"stitch_async", "audit_sink"})
"""Functions whose caller repeats what was not acknowledged."""


class Crash(BaseException):
    """The instance that worked on a delivery died here; no Exception, so nothing handles it."""


@dataclass(slots=True)
class Run:
    """One delivery to a function, and what is to happen to it."""

    function: str
    path: str
    crash_at: int | None = None
    is_crash_behind: bool = False
    slow_at: int | None = None
    slow_s: float = 0.0
    is_answer_lost: bool = False
    effects: int = 0
    is_dead: bool = False
    sent: list[str] = field(default_factory=list)
    """Keys of the callbacks and actions that it began to send."""
    about: set[str] = field(default_factory=set)
    """Ids of the outbox entries that it read or wrote."""

    def names(self, paths: Iterable[str]) -> None:
        """Note the outbox entries among these documents."""
        self.about |= {path.partition("/")[2] for path in paths if path.startswith("outbox/")}


_RUN: contextvars.ContextVar[Run | None] = contextvars.ContextVar("run", default=None)


class Faults:
    """Draws faults and writes down those that happen."""

    def __init__(self, seed: int, folder: Path) -> None:
        log = folder / LOG
        starts = log.read_text().count('"start"') if log.exists() else 0
        self._seed = f"{seed} {starts}"  # a process that was killed is not followed by its twin
        self._random = random.Random(self._seed)
        self._folder = folder
        self._log = log.open("a", buffering=1)
        self._messages = (folder / MESSAGES).open("a", buffering=1)
        self._started = time.monotonic()
        self._looked_at = -1.0
        self._is_calm = False
        self._ahead = timedelta()
        self.note("start", "the stack", None)

    def now(self) -> datetime:
        """Return the stack's time."""
        self._look()
        return datetime.now(UTC) + self._ahead

    @property
    def is_calm(self) -> bool:
        self._look()
        return self._is_calm

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = now
        self._is_calm = (self._folder / CALM).exists()
        clock = self._folder / CLOCK
        self._ahead = timedelta(seconds=float(clock.read_text())) if clock.exists() else timedelta()

    def strikes(self) -> bool:
        """Return whether one of the faults of a delivery happens."""
        return not self.is_calm and self._random.random() < RATE

    def later_s(self) -> float:
        return self._random.uniform(0, _LATER_S)

    def run(self, function: str, path: str) -> Run:
        """Return a delivery with its faults."""
        run = Run(function, path)
        if self.strikes():
            run.crash_at = self._effect()
            run.is_crash_behind = self._random.random() < 0.5
        if self.strikes():
            run.slow_at = self._effect()
            run.slow_s = self._random.uniform(*_SLOW_S)
            run.is_answer_lost = self._random.random() < 0.5
        return run

    def _effect(self) -> int:
        return self._random.choices(list(_EFFECTS), list(_EFFECTS.values()))[0]

    def is_down(self, port: str) -> bool:
        """Return whether a store or topic is unavailable at this moment."""
        slot = int((time.monotonic() - self._started) / _DOWN_S)
        drawn = random.Random(f"{self._seed} {port} {slot}").random()
        return drawn < RATE and not self.is_calm

    def note(self, kind: str, what: str, run: Run | None) -> None:
        """Write down a fault that happened."""
        line = {"at": time.time(), "kind": kind, "what": what}
        if run is not None:
            line |= {"function": run.function, "path": run.path, "sent": run.sent}
            line["about"] = sorted(run.about)
        self._log.write(json.dumps(line) + "\n")

    def published(self, message_id: str, topic: str, data: bytes) -> None:
        """Keep a message, for a queue that forgets it."""
        encoded = base64.b64encode(data).decode()
        line = json.dumps({"id": message_id, "topic": topic, "data": encoded})
        self._messages.write(line + "\n")

    def acknowledged(self, message_id: str) -> None:
        self._messages.write(json.dumps({"acknowledged": message_id}) + "\n")

    async def effect(
        self, port: str, what: str, deadline: Deadline, work: Callable[[], Awaitable[T]]
    ) -> T:
        """Have an effect outside the process, or fail before or behind it."""
        run = _RUN.get()
        # Many requests share one message of records: a crash of one must not end the others'.
        if what == "publish audit":
            run = None
        if run is None:
            return await self._possible(port, what, run, work)
        if run.is_dead:
            raise Crash
        number, run.effects = run.effects, run.effects + 1
        if number == run.crash_at and not run.is_crash_behind:
            self._crash(what, run)
        is_slow = number == run.slow_at and not self.is_calm
        if is_slow and not run.is_answer_lost:
            self.note("slow", what, run)
            await asyncio.sleep(min(run.slow_s, deadline.remaining_s))
        result = await self._possible(port, what, run, work)
        if number == run.crash_at and run.is_crash_behind:
            self._crash(what, run)
        if is_slow and run.is_answer_lost:
            self.note("answer lost", what, run)
            raise Unavailable(port, "it answered too late")
        return result

    async def read(self, port: str, work: Callable[[], Awaitable[T]]) -> T:
        """Read, unless the store is down."""
        return await self._possible(port, "read", _RUN.get(), work)

    async def _possible(
        self, port: str, what: str, run: Run | None, work: Callable[[], Awaitable[T]]
    ) -> T:
        if self.is_down(port):
            self.note("down", what, run)
            raise Unavailable(port, "it is down")
        try:
            return await work()
        except Unavailable:
            self.note("unavailable by itself", what, run)
            raise

    def _crash(self, what: str, run: Run) -> None:
        self.note("crash behind" if run.is_crash_behind else "crash before", what, run)
        run.is_dead = True
        raise Crash


@dataclass(frozen=True, slots=True)
class FaultyFunction:
    """A function whose deliveries come as they do on a bad day."""

    name: str
    app: ASGIApp
    faults: Faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/health":
            await self.app(scope, receive, send)
            return
        body = await _body(receive)
        path = scope["path"]
        if self.faults.strikes():
            self.faults.note("later", f"{self.name}{path}", None)
            if self.name in PUSHED:
                await _answer(send, 503)
                return
            await asyncio.sleep(self.faults.later_s())
        copies = 2 if self.faults.strikes() else 1
        if copies > 1:
            self.faults.note("twice at once", f"{self.name}{path}", None)
        runs = [self.faults.run(self.name, path) for _ in range(copies)]
        answers = await asyncio.gather(*(self._once(scope, body, run) for run in runs))
        if answers[0] is None:
            await _answer(send, 500)
            return
        if self.name in PUSHED and answers[0][0]["status"] == 204:
            self.faults.acknowledged(_message_id(body))
        for message in answers[0]:
            await send(message)

    async def _once(self, scope: Scope, body: bytes, run: Run) -> list[Message] | None:
        """Return the answer; None when the instance died."""
        _RUN.set(run)  # `gather` made a task of this, with a context of its own
        answer: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body}

        async def send(message: Message) -> None:
            answer.append(message)

        try:
            await self.app(dict(scope), receive, send)
        except Crash:
            return None
        return None if run.is_dead else answer


def _message_id(body: bytes) -> str:
    """Return the id of a pushed message."""
    return str(json.loads(body)["message"]["messageId"])


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


async def _answer(send: Send, status: int) -> None:
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def faulty_backend(backend: Backend, faults: Faults) -> Backend:
    """Return the ports with faults around each call."""
    return replace(
        backend,
        documents=_Documents(backend.documents, faults),
        publisher=_Publisher(backend.publisher, faults),
        audit_table=_AuditTable(backend.audit_table, faults),
        callbacks=_Callbacks(backend.callbacks, faults),
        clock=faults.now,
    )


def _note(paths: Iterable[str]) -> None:
    """Note the outbox entries among these documents as what the delivery is about."""
    run = _RUN.get()
    if run is not None:
        run.names(paths)


@dataclass(frozen=True, slots=True)
class _Documents:
    inner: Any
    faults: Faults

    async def get(self, path: str, *, deadline: Deadline) -> Document | None:
        _note([path])
        found: Document | None = await self.faults.read(
            "documents", lambda: self.inner.get(path, deadline=deadline)
        )
        return found

    async def get_many(self, paths: Sequence[str], *, deadline: Deadline) -> Mapping[str, Document]:
        _note(paths)
        found: Mapping[str, Document] = await self.faults.read(
            "documents", lambda: self.inner.get_many(paths, deadline=deadline)
        )
        return found

    async def list_documents(self, collection: str, **options: Any) -> Sequence[Document]:
        found: Sequence[Document] = await self.faults.read(
            "documents", lambda: self.inner.list_documents(collection, **options)
        )
        return found

    async def commit(self, writes: Sequence[Write], *, deadline: Deadline) -> None:
        _note(write.path for write in writes)
        collections = sorted({write.path.partition("/")[0] for write in writes})
        await self.faults.effect(
            "documents",
            "commit " + " ".join(collections),
            deadline,
            lambda: self.inner.commit(writes, deadline=deadline),
        )


@dataclass(frozen=True, slots=True)
class _Publisher:
    inner: Any
    faults: Faults

    async def publish(
        self,
        topic: str,
        data: bytes,
        *,
        attributes: Mapping[str, str] | None = None,
        deadline: Deadline,
    ) -> str:
        async def publish() -> str:
            message_id: str = await self.inner.publish(
                topic, data, attributes=attributes, deadline=deadline
            )
            self.faults.published(message_id, topic, data)
            return message_id

        return await self.faults.effect(f"topic {topic}", f"publish {topic}", deadline, publish)


@dataclass(frozen=True, slots=True)
class _AuditTable:
    inner: Any
    faults: Faults

    async def append(
        self, rows: Sequence[Mapping[str, Any]], *, deadline: Deadline
    ) -> Sequence[RejectedRow]:
        refused: Sequence[RejectedRow] = await self.faults.effect(
            "audit table", "append", deadline, lambda: self.inner.append(rows, deadline=deadline)
        )
        return refused

    async def erase(self, subjects: Sequence[str], *, deadline: Deadline) -> int:
        erased: int = await self.faults.effect(
            "audit table", "erase", deadline, lambda: self.inner.erase(subjects, deadline=deadline)
        )
        return erased


@dataclass(frozen=True, slots=True)
class _Callbacks:
    inner: Any
    faults: Faults

    async def post(
        self, url: str, *, headers: Mapping[str, str], deadline: Deadline, **options: Any
    ) -> CallbackAnswer:
        run = _RUN.get()

        async def send() -> CallbackAnswer:
            if run is not None:
                run.sent.append(headers["webhook-id"])
            answer: CallbackAnswer = await self.inner.post(
                url, headers=headers, deadline=deadline, **options
            )
            return answer

        return await self.faults.effect("endpoints", "post", deadline, send)
