"""Where in which trace this is: known everywhere, carried into messages, callbacks and records."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextvars import ContextVar, Token
from typing import Final, Literal, Protocol, Self

from tagstitch.core.trace_context import TraceContext

SpanKind = Literal["server", "consumer", "producer", "client"]

current_trace: ContextVar[TraceContext | None] = ContextVar("current_trace", default=None)
"""The place of the request or message that is being worked on; None outside of one."""


def current_trace_id() -> str | None:
    """Return the trace of what is being worked on."""
    trace = current_trace.get()
    return None if trace is None else trace.trace_id


def next_place(parent: TraceContext | None) -> TraceContext:
    """Return a new place in the parent's trace, or in a new one."""
    span_id = "%016x" % (random.getrandbits(64) or 1)  # ids of zeros are not valid
    if parent is None:
        return TraceContext("%032x" % (random.getrandbits(128) or 1), span_id, is_sampled=False)
    return TraceContext(parent.trace_id, span_id, parent.is_sampled)


class Span(Protocol):
    """A stretch of work; `current_trace` is its place for as long as it lasts."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End; an exception's class is told, its text is not."""
        ...

    def note(self, name: str, value: str | float) -> None:
        """Add an attribute: a name or number of our own, never what was sent."""
        ...


class Tracer(Protocol):
    """Begins spans."""

    def span(
        self,
        name: str,
        kind: SpanKind,
        *,
        parent: TraceContext | None,
        attributes: Mapping[str, str] | None = None,
    ) -> Span:
        """Return a span that has not begun; without a parent it begins a trace."""
        ...


class UnrecordedSpan:
    """A place in a trace, and nothing else."""

    __slots__ = ("_parent", "_token")

    _token: Token[TraceContext | None]

    def __init__(self, parent: TraceContext | None) -> None:
        self._parent = parent

    def __enter__(self) -> Self:
        self._token = current_trace.set(next_place(self._parent))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        current_trace.reset(self._token)

    def note(self, name: str, value: str | float) -> None:
        """Record nothing."""


class UnrecordedTracer:
    """Carries traces on and records no spans: what a process does that exports none."""

    def span(
        self,
        name: str,
        kind: SpanKind,
        *,
        parent: TraceContext | None,
        attributes: Mapping[str, str] | None = None,
    ) -> UnrecordedSpan:
        """Return a place in the parent's trace."""
        del name, kind, attributes
        return UnrecordedSpan(parent)


UNRECORDED: Final = UnrecordedTracer()
