"""The identity graph: the part that one request touches, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, Final, Literal

from tagstitch.core.identifier import Identifier, IdentitySettings
from tagstitch.core.identity_limits import LINKS_MARGIN_DAYS
from tagstitch.core.limits import (
    DEMOTED_PER_PROFILE_MAX,
    IDENTIFIERS_PER_PROFILE_MAX,
    MERGES_PER_PROFILE_MAX,
    PROFILE_EXPIRY_DAYS,
)
from tagstitch.core.profile import Profile

Outcome = Literal["created", "linked", "merged", "unchanged", "unknown"]

DemotionReason = Literal[
    "HELD", "TAKEN_APART", "USER_SWITCH", "TYPE_LIMIT", "IDENTIFIER_LIMIT", "MERGE_LIMIT",
    "SIZE_LIMIT",
]  # fmt: skip
"""Why an identifier stays apart; the first that applies."""

SALT_BYTES: Final = 16
"""Bytes of the salt from which a visitor's own keys derive; destroying it ends them."""

_LINKS_MARGIN = timedelta(days=LINKS_MARGIN_DAYS)

_LATEST = datetime.max.replace(tzinfo=UTC)
"""What somebody writes by hand who wants a profile to stay for ever."""

_LAST_SEEN_STEP = timedelta(days=1)
"""How far `last_seen` and `expires_at` must move to be worth writing."""


@dataclass(frozen=True, slots=True)
class GraphNode:
    """One identifier of the request and where it leads today."""

    identifier: Identifier
    key: str
    """The identifier's document id."""
    own_profile_id: str
    """The id of the profile that this identifier, as the primary one, would create."""
    profile: Profile | None
    """The profile that it resolves to, aliases followed."""
    is_held: bool = False
    """Whether it recognises nobody: it is in quarantine, or blocked after a review."""
    demoted_for: DemotionReason | None = None
    """Why it stays apart from the others of the request; None while nobody asked."""


@dataclass(frozen=True, slots=True)
class IdentityGraph:
    """The identifiers of one request that may select and link, the strongest first."""

    nodes: tuple[GraphNode, ...]


@dataclass(frozen=True, slots=True)
class Resolution:
    """What one request means for the graph; a value, nothing is written yet."""

    outcome: Outcome
    profile_id: str | None
    before: Profile | None
    """The surviving profile as it was; None when it is created."""
    linked: tuple[GraphNode, ...] = ()
    """The identifiers without a profile that this request links to the survivor."""
    demoted: tuple[GraphNode, ...] = ()
    """The identifiers that this request keeps apart for the first time, each with its reason."""
    merged: tuple[Profile, ...] = ()
    """The profiles that become one with the survivor, the oldest first."""
    is_new: bool = False
    strongest: GraphNode | None = None
    """The identifier for which the request's event counts."""
    held: tuple[GraphNode, ...] = ()
    """The identifiers that counted as if the request did not have them."""

    @property
    def changes_graph(self) -> bool:
        """Whether there is anything to write about identifiers."""
        return bool(self.is_new or self.linked or self.demoted or self.merged)


NOBODY: Final = Resolution("unknown", None, None)


def resolve(
    graph: IdentityGraph, settings: IdentitySettings, *, at: datetime, may_merge: bool = True
) -> Resolution:
    """Return which profile the request belongs to, what it links and which profiles it merges.

    The identifiers join one after the other, the strongest first. One that would bring a profile
    beyond a limit, such as a second user id, is kept apart with whatever it leads to, and the
    weaker ones are asked all the same. `at` is when the event happened: limits count from there.
    Without `may_merge`, because they are too large together, every other profile is kept apart.
    One that is held counts for nothing.
    """
    held = tuple(node for node in graph.nodes if node.is_held)
    if len(held) == len(graph.nodes):
        return replace(NOBODY, held=held)
    person = _Person(settings, at, may_merge=may_merge)
    asked = [(node, person.join(node)) for node in graph.nodes]
    apart = [replace(node, demoted_for=reason) for node, reason in asked if reason is not None]
    profiles = person.oldest_first()
    survivor, merged = (profiles[0], profiles[1:]) if profiles else (None, [])
    known = survivor.demoted.keys() | survivor.identifiers.keys() if survivor and apart else ()
    demoted = tuple(node for node in apart if node.key not in known)
    linked = tuple(node for node in person.nodes if node.profile is None)
    if survivor is None:
        primary = person.nodes[0].own_profile_id
        return Resolution(
            "created",
            primary,
            None,
            linked,
            demoted,
            is_new=True,
            strongest=person.nodes[0],
            held=held,
        )
    outcome: Outcome = "merged" if merged else "linked" if linked else "unchanged"
    return Resolution(
        outcome,
        survivor.profile_id,
        survivor,
        linked,
        demoted,
        tuple(merged),
        strongest=person.nodes[0],
        held=held,
    )


class _Person:
    """What is one person so far, as the identifiers of a request join."""

    def __init__(self, settings: IdentitySettings, at: datetime, *, may_merge: bool) -> None:
        self._settings = settings
        self._at = at
        self._may_merge = may_merge
        self.nodes: list[GraphNode] = []
        self._profiles: dict[str, Profile] = {}
        self._linked_at: dict[str, datetime | None] = {}
        """Identifier key -> when it was linked."""
        self._merges = 0

    def join(self, node: GraphNode) -> DemotionReason | None:
        """Let an identifier join, with its profile; return why it must stay apart, if it must."""
        if node.is_held:
            return "HELD"
        profile = node.profile
        if profile is not None and profile.profile_id in self._profiles:
            self.nodes.append(node)
            return None
        linked_at = dict(self._linked_at)
        if profile is None:
            linked_at[node.key] = self._at
        else:
            linked_at |= {key: _time_of(link) for key, link in profile.identifiers.items()}
            linked_at.setdefault(node.key, None)
        if self.nodes and (reason := self._obstacle(linked_at, node)):
            return reason
        self._linked_at = linked_at
        self.nodes.append(node)
        if profile is not None:
            self._profiles[profile.profile_id] = profile
            self._merges += profile.merges
        return None

    def oldest_first(self) -> list[Profile]:
        """Return the profiles that are one; one written by hand, without a time, was there first."""
        return sorted(self._profiles.values(), key=_seniority)

    def _obstacle(
        self, linked_at: Mapping[str, datetime | None], node: GraphNode
    ) -> DemotionReason | None:
        """Return why these must not be one; what says most about the two comes first."""
        if self._was_taken_apart(node, linked_at):
            return "TAKEN_APART"
        types = set(map(type_of, linked_at.keys() - self._linked_at.keys()))
        broken = {type_ for type_ in types if not self._keeps_limit(linked_at, type_)}
        if broken:
            return "USER_SWITCH" if "user_id" in broken else "TYPE_LIMIT"
        if len(linked_at) > max(IDENTIFIERS_PER_PROFILE_MAX, len(self._linked_at)):
            return "IDENTIFIER_LIMIT"
        if node.profile is None or not self._profiles:
            return None
        if not self._may_merge:
            return "SIZE_LIMIT"
        merges = self._merges + node.profile.merges + len(self._profiles)
        return "MERGE_LIMIT" if merges > MERGES_PER_PROFILE_MAX else None

    def _keeps_limit(self, linked_at: Mapping[str, datetime | None], type_: str) -> bool:
        limit = self._settings.limit(type_)
        if limit is None:
            return True
        within = limit.within
        counted = sum(
            # A difference never overflows: publishers send times of the year 1.
            type_of(key) == type_ and (within is None or time is None or self._at - time < within)
            for key, time in linked_at.items()
        )
        return counted <= limit.values_max

    def _was_taken_apart(self, node: GraphNode, linked_at: Mapping[str, Any]) -> bool:
        """Return whether somebody took the two apart for good."""
        theirs = node.profile.kept_apart if node.profile is not None else {}
        ours = (profile.kept_apart for profile in self._profiles.values())
        return not theirs.keys().isdisjoint(self._linked_at) or any(
            not apart.keys().isdisjoint(linked_at) for apart in ours
        )


def type_of(key: str) -> str:
    """Return the type of the identifier that a key stands for."""
    return key.partition(":")[0]


def _time_of(link: object) -> datetime | None:
    first_seen = link.get("first_seen") if isinstance(link, Mapping) else None
    return first_seen if isinstance(first_seen, datetime) else None


def _seniority(profile: Profile) -> tuple[bool, datetime | None, str]:
    created_at = profile.created_at
    return (created_at is not None, created_at, profile.profile_id)


def profile_fields(
    resolution: Resolution,
    person: Profile | None,
    *,
    consent: Mapping[str, Any] | None,
    seen_at: datetime,
    now: datetime,
    salt: bytes,
) -> dict[str, Any]:
    """Return the whole document of the surviving profile after the request.

    `person` is what `Resolution.person` returned. `consent` is the profile's new consent map, None
    when it stays. `seen_at` is when the event happened. `salt` is used for a new profile only.
    """
    fields = dict(person.fields) if person else new_profile_fields(now=now, salt=salt)
    identifiers = dict(fields.get("identifiers") or {})
    for node in resolution.linked:
        identifiers[node.key] = {"first_seen": seen_at, "last_seen": seen_at}
    fields["identifiers"] = identifiers
    if resolution.demoted:
        demoted = dict(person.demoted) if person else {}
        demoted |= {node.key: now for node in resolution.demoted}
        fields["demoted"] = newest_demoted(demoted)
    if consent is not None:
        fields["consent"] = dict(consent)
    return touch_profile(fields, now=now)


def newest_demoted(demoted: Mapping[str, datetime]) -> dict[str, datetime]:
    """Return those that a profile remembers."""
    return dict(sorted(demoted.items(), key=itemgetter(1))[-DEMOTED_PER_PROFILE_MAX:])


def new_profile_fields(*, now: datetime, salt: bytes) -> dict[str, Any]:
    """Return the document of a profile that nothing is known of yet."""
    return {
        "identifiers": {},
        "attributes": {},
        "state": {},
        "consent": {},
        "salt": salt,
        "created_at": now,
        "updated_at": now,
        "expires_at": now + timedelta(days=PROFILE_EXPIRY_DAYS),
    }


def touch_profile(fields: dict[str, Any], *, now: datetime) -> dict[str, Any]:
    """Return the document with its times moved, in a commit that happens anyway."""
    fields["updated_at"] = now
    expires_at = now + timedelta(days=PROFILE_EXPIRY_DAYS)
    stored = fields.get("expires_at")
    if not isinstance(stored, datetime) or expires_at - stored >= _LAST_SEEN_STEP:
        fields["expires_at"] = expires_at
    links_until, until = links_expiry(fields), fields["expires_at"]
    if links_until is None or links_until < until:
        fields["links_expire_at"] = min(until, _LATEST - _LINKS_MARGIN) + _LINKS_MARGIN
    return fields


def links_expiry(fields: Mapping[str, Any]) -> datetime | None:
    """Return when what leads to a profile expires: aliases, records of links, contributions.

    Never before the profile, whose expiry moves with every commit: a link that was gone earlier
    would lose a visitor who is still there. None where nothing of that was written yet.
    """
    until = fields.get("links_expire_at")
    return until if isinstance(until, datetime) else None


def identifier_fields(
    key: str, profile_id: str, link: Mapping[str, Any], *, expires_at: datetime | None
) -> dict[str, Any]:
    """Return the document `identifiers/{key}` of a link."""
    return {
        "profile_id": profile_id,
        "type": type_of(key),
        "first_seen": link.get("first_seen"),
        "last_seen": link.get("last_seen"),
        **_expiry(expires_at),
    }


def alias_fields(
    profile_id: str,
    *,
    expires_at: datetime | None,
    salt: object = None,
    blocked_at: object = None,
) -> dict[str, Any]:
    """Return the document in a linked identifier's own place: an alias of its profile.

    Whoever would create a profile there at the same moment meets this document and looks again.
    The alias of a merged profile keeps its `salt`: receipts of its time open with nothing else.
    With `blocked_at` it leads nobody anywhere, and holds even when the profile is gone: it never
    expires.
    """
    is_blocked = isinstance(blocked_at, datetime)
    return {
        "merged_into": profile_id,
        **({"salt": salt} if isinstance(salt, bytes) else {}),
        **({"blocked_at": blocked_at} if is_blocked else _expiry(expires_at)),
    }


def _expiry(expires_at: datetime | None) -> dict[str, datetime]:
    return {} if expires_at is None else {"expires_at": expires_at}
