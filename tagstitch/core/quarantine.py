"""Quarantine: an identifier that meets too many profiles is held until somebody looks at it.

An identifier *meets* a profile when an event brings the two together: they are merged, or it is
kept apart from it for the first time. Its link in its own profile remembers whom it met. Held, it
recognises nobody: an event counts as if it did not have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

from tagstitch.core.identifier import QuarantineLimit
from tagstitch.core.identity_graph import IdentityGraph, Resolution
from tagstitch.core.identity_limits import QUARANTINE_DAYS, RELEASED_PROFILES_MAX
from tagstitch.core.profile import Profile
from tagstitch.core.stored_values import stored_texts, stored_times

Link = Mapping[str, Any]
"""What a profile says about one of its identifiers: when it was seen, whom it met."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """What one request adds to the link of one identifier."""

    key: str
    home: str
    """The profile that the identifier belongs to, after the request."""
    link: Link
    """The whole link as it is now."""
    held_from: tuple[str, ...] = ()
    """The profiles that it met, hashed, its own one first, when it is held from now on."""


def is_held(profile: Profile, key: str, *, now: datetime) -> bool:
    """Return whether this identifier of the profile recognises nobody: held, or blocked."""
    link = profile.identifiers.get(key)
    if not link:
        return False
    held_until = link.get("held_until")
    return "blocked_at" in link or (isinstance(held_until, datetime) and held_until > now)


def was_held(profile: Profile, key: str) -> bool:
    """Return whether this identifier of the profile was ever in quarantine, or released."""
    link = profile.identifiers.get(key) or {}
    return "cleared" in link or "held_until" in link


def meetings(
    graph: IdentityGraph,
    resolution: Resolution,
    person: Profile | None,
    limit: QuarantineLimit | None,
    *,
    hashed: Callable[[str], str],
    at: datetime,
    now: datetime,
) -> tuple[Meeting, ...]:
    """Return what the request adds to the links of its identifiers; most requests add nothing.

    `person` is the surviving profile with all that are merged into it. `hashed` gives what others
    may remember of a profile's id, which people may have chosen. `at` is when the event happened:
    meetings count by that time, in whatever order they arrive, and a profile counts once.
    """
    if limit is None or not (resolution.merged or resolution.demoted):
        return ()
    joined = {str(resolution.profile_id), *(profile.profile_id for profile in resolution.merged)}
    apart = (node.profile for node in resolution.demoted if not node.is_held)
    together = joined | {profile.profile_id for profile in apart if profile is not None}
    if len(together) < 2:
        return ()
    met = {hashed(profile_id) for profile_id in together}
    found = []
    for node in graph.nodes:
        own = node.profile.profile_id if node.profile is not None else None
        is_linked = node in resolution.linked
        if node.is_held or not (is_linked or own in together):
            continue
        holder = person if is_linked or own in joined else node.profile
        link = holder.identifiers.get(node.key) if holder is not None else None
        if link is None and not is_linked:
            continue  # written by hand: nothing says that it belongs there
        home = str(resolution.profile_id) if is_linked or own in joined else str(own)
        link = link or {"first_seen": at, "last_seen": at}
        changed, held_from = _met(link, hashed(home), met, limit=limit, at=at, now=now)
        found += [Meeting(node.key, home, changed, held_from)] if changed != link else []
    return tuple(found)


def released_link(link: Link, profiles: Sequence[str]) -> dict[str, Any]:
    """Return the link of an identifier that recognises again, never held for these profiles."""
    cleared = dict.fromkeys((*stored_texts(link.get("cleared")), *profiles))
    return _bare_link(link) | {"cleared": list(cleared)[-RELEASED_PROFILES_MAX:]}


def blocked_link(link: Link, profiles: Sequence[str], *, now: datetime) -> dict[str, Any]:
    """Return the link of an identifier that recognises nobody until it is released."""
    return released_link(link, profiles) | {"blocked_at": now}


def told_link(link: Link) -> dict[str, Any]:
    """Return what an export of a person tells of a link: of other people their number alone."""
    people = ("met", "cleared")
    met = {name: value for name, value in link.items() if name in people}
    return {
        **link,
        **{name: len(v) if isinstance(v, Mapping | list) else 0 for name, v in met.items()},
    }


def quarantine_fields(meeting: Meeting, *, type_: str, now: datetime) -> dict[str, Any]:
    """Return the document `quarantine/{key}` of an identifier that is held from now on."""
    return {
        "type": type_,
        "held_at": now,
        "profiles": list(meeting.held_from),
        "expires_at": now + timedelta(days=QUARANTINE_DAYS),
    }


def _met(
    link: Link,
    home: str,
    together: set[str],
    *,
    limit: QuarantineLimit,
    at: datetime,
    now: datetime,
) -> tuple[Link, tuple[str, ...]]:
    """Return the link with whom it meets, and all of them when it is held from now on."""
    stored = stored_times(link.get("met"))
    met = {other: time for other, time in stored.items() if other != home}
    for other in together.difference((home, *stored_texts(link.get("cleared")))):
        met[other] = max(at, met.get(other, at))
    # The newest stay, in whatever order they came.
    met = dict(sorted(met.items(), key=itemgetter(1, 0))[-limit.profiles_max :])
    if met == stored:
        return link, ()
    times = met.values()
    if len(met) < limit.profiles_max or max(times) - min(times) > limit.within:
        return {**link, "met": met}, ()
    held_until = now + timedelta(days=QUARANTINE_DAYS)
    return _bare_link(link) | {"held_until": held_until}, (home, *met)


def _bare_link(link: Link) -> dict[str, Any]:
    """Return the link without whom it met and what followed from that."""
    marks = ("met", "held_until", "blocked_at")
    return {name: value for name, value in link.items() if name not in marks}
