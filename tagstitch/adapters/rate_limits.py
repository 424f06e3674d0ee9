"""Rate limits: how often each key may ask, counted in this process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tagstitch.adapters.settings import Key, Settings
from tagstitch.core.caller import Caller
from tagstitch.core.errors import RateLimited
from tagstitch.core.token_bucket import RateLimit, TokenBucket, parse_rate

_PLATFORM_CALLERS: Final = "iam"
"""The id of all callers that the platform has let through: they share one bucket."""


class RateLimits:
    """One token bucket for each caller that the settings name, so never more than these.

    Whoever fails to authenticate has none: a flood of wrong keys must not use up a right one.
    """

    def __init__(self, settings: Settings) -> None:
        limits = _limits(settings)
        self._buckets = {caller_id: TokenBucket(limit) for caller_id, limit in limits}

    def check(self, caller: Caller, now: float) -> None:
        """Raise RateLimited when the caller has no token; `now` is a monotonic clock's reading."""
        bucket = self._buckets.get(caller.id)
        wait_s = bucket.wait_s(now) if bucket else 0.0
        if wait_s:
            raise RateLimited(
                "rate_limited",
                "this key asks more often than it may",
                hint="try again after the time in Retry-After",
                retry_after_s=wait_s,
            )


def _limits(settings: Settings) -> Iterable[tuple[str, RateLimit]]:
    """Yield the limit of each caller that has one; with `none` nobody is told from anybody."""
    keys: dict[str, tuple[Key, ...]] = {
        "key": settings.keys,
        "signature": settings.signing_secrets,
    }
    for key in keys.get(settings.auth, ()):
        limit = settings.rate_limit if key.rate is None else parse_rate(key.rate)
        if limit is not None:
            yield key.id, limit
    if settings.auth == "iam" and settings.rate_limit is not None:
        yield _PLATFORM_CALLERS, settings.rate_limit
