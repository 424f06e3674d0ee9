"""What the simulated container logs, as lines of the live feed: names, never values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tagstitch.local_stack.live_feed import LiveFeed, shown_name

_MARK = "x-tagstitch"


def tell(feed: LiveFeed, line: bytes) -> None:
    """Add one line of the container's log to the feed, where there is something to see."""
    if not feed.is_heard:
        return
    try:
        entry = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return
    if not isinstance(entry, Mapping):
        return
    match entry.get("kind"):
        case "event" if not _is_decided(entry):
            feed.add("hit", shown_name(entry["event"].get("event_name")), f"by {entry['client']}")
        case "tag" if entry.get("status") != "success":
            feed.add("tag", str(entry.get("name")), str(entry.get("status")))
        case "response":
            cookies = ", ".join(entry.get("cookies", ()))
            feed.add(
                "answer", str(entry.get("status")), f"sets {cookies}" if cookies else "no cookie"
            )
        case "unclaimed":
            feed.add("unclaimed", "no client took a request")
        case "too_late":
            feed.add("too late", f"the answer had left: {entry.get('what')}")
        case "error":
            feed.add("fault", str(entry.get("name")), str(entry.get("message")))


def _is_decided(entry: Mapping[str, Any]) -> bool:
    """Return whether this is the container's second run; what a browser sends is no object."""
    return isinstance(entry["event"].get(_MARK), Mapping)
