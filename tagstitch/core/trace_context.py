"""Trace context: the ids by which one request is followed through every function.

https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

TRACEPARENT: Final = "traceparent"
"""The header of requests and callbacks, and the attribute of messages.

`tracestate` and `baggage` are dropped: both hold whatever a caller likes, of any length, and
nothing here reads them.
"""

CLIENT_LIBRARY_TRACEPARENT: Final = "googclient_traceparent"
"""The attribute that Google's Pub/Sub client writes when it traces; read, where ours is missing."""

_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_LENGTH_MAX: Final = 256
"""Characters; version 00 has 55, and a later one may have more."""

_SAMPLED: Final = 0x01


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One place in a trace: what is sent from here names it as its parent."""

    trace_id: str
    """32 hexadecimal digits, the same in every function."""
    span_id: str
    """16 hexadecimal digits."""
    is_sampled: bool

    def traceparent(self) -> str:
        """Return the header that tells the next one."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.is_sampled else '00'}"


def parse_traceparent(text: str | None) -> TraceContext | None:
    """Return what the header says, or None for one that cannot be used.

    It is never refused: whoever receives None begins a trace of its own, as the standard says.
    """
    if text is None or len(text) > _LENGTH_MAX:
        return None
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest is not None):
        return None
    if trace_id.strip("0") == "" or span_id.strip("0") == "":
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))
