"""How often one visitor may make a process write: a bot must not wear out its own document."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from tagstitch.core.token_bucket import RateLimit, TokenBucket

_LIMIT: Final = RateLimit(per_second=5.0, burst=200)
"""Commits for one visitor by one process: Firestore sustains about one write a second to a document
(https://cloud.google.com/firestore/docs/best-practices), and bursts. No person's browser asks for
more than some at once; two hundred leave room for events that are replayed."""

_VISITORS_MAX: Final = 10_000
"""Visitors whose writes a process counts, about 3 MB."""


@dataclass(slots=True)
class VisitorWrites:
    """A token bucket for each of the visitors that wrote last; who is forgotten has a full one."""

    limit: RateLimit = _LIMIT
    visitors_max: int = _VISITORS_MAX
    _buckets: OrderedDict[str, TokenBucket] = field(default_factory=OrderedDict)

    def allow(self, visitor: str, now: float) -> bool:
        """Return whether the visitor may write once more; `now` is a monotonic clock's reading."""
        bucket = self._buckets.pop(visitor, None) or TokenBucket(self.limit)
        self._buckets[visitor] = bucket
        if len(self._buckets) > self.visitors_max:
            self._buckets.popitem(last=False)
        return not bucket.wait_s(now)
