"""The identity graph: the part that one request touches, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from tagstitch.core.identifier import Identifier
from tagstitch.core.limits import IDENTIFIERS_PER_PROFILE_MAX, PROFILE_EXPIRY_DAYS
from tagstitch.core.profile import Profile

Outcome = Literal["created", "linked", "unchanged", "unknown"]

SALT_BYTES: Final = 16
"""Bytes of the salt from which a visitor's own keys derive; destroying it ends them."""

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
    """The selected profile as it was; None when it is created."""
    linked: tuple[GraphNode, ...] = ()
    """The identifiers that this request links to the profile."""
    demoted: tuple[GraphNode, ...] = ()
    """The identifiers that stay with another profile, because the user switched or a cap."""
    unmerged: tuple[str, ...] = ()
    """Other known profiles that these identifiers lead to."""
    is_new: bool = field(default=False)

    @property
    def changes_graph(self) -> bool:
        """Whether there is anything to write about identifiers."""
        return bool(self.is_new or self.linked or self.demoted)


def resolve(graph: IdentityGraph) -> Resolution:
    """Return which profile the request belongs to and what it links.

    The strongest known identifier selects. A user id that nobody knows opens a profile of its own
    when the browser's profile already has another user's.
    """
    known = [node for node in graph.nodes if node.profile is not None]
    if not graph.nodes:
        return Resolution("unknown", None, None)
    selected = known[0].profile if known else None
    strongest = graph.nodes[0]
    if selected is not None and _switches_user(strongest, selected):
        selected = None
    if selected is None:
        linked = tuple(
            node
            for node in graph.nodes
            if node.profile is None and not _is_second_user(node, strongest.key)
        )
        demoted = tuple(node for node in graph.nodes if node not in linked)
        return Resolution(
            "created", strongest.own_profile_id, None, linked, demoted, (), is_new=True
        )
    return _join(selected, graph.nodes)


def _is_second_user(node: GraphNode, user_key: str) -> bool:
    """Return whether this is a user id other than the one that a profile has for ever."""
    return node.identifier.type == "user_id" and node.key != user_key


def _switches_user(strongest: GraphNode, selected: Profile) -> bool:
    """Return whether an unknown user id meets a profile that has another user's."""
    return (
        strongest.identifier.type == "user_id"
        and strongest.profile is None
        and selected.has_identifier_type("user_id")
    )


def _join(selected: Profile, nodes: Sequence[GraphNode]) -> Resolution:
    room = IDENTIFIERS_PER_PROFILE_MAX - len(selected.identifiers)
    own_user = next((key for key in selected.identifiers if key.startswith("user_id:")), None)
    user_key = own_user or nodes[0].key
    linked: list[GraphNode] = []
    demoted: list[GraphNode] = []
    unmerged: set[str] = set()
    for node in nodes:
        if node.profile is not None and node.profile.profile_id != selected.profile_id:
            if _is_other_user(node.profile, selected):
                demoted.append(node)
            else:
                unmerged.add(node.profile.profile_id)
        elif node.key in selected.identifiers:
            continue
        elif _is_second_user(node, user_key):
            demoted.append(node)
        elif len(linked) < room:
            linked.append(node)
        else:
            demoted.append(node)
    fresh = tuple(node for node in demoted if node.key not in selected.demoted)
    return Resolution(
        "linked" if linked else "unchanged",
        selected.profile_id,
        selected,
        tuple(linked),
        fresh,
        tuple(sorted(unmerged)),
    )


def _is_other_user(profile: Profile, selected: Profile) -> bool:
    return profile.has_identifier_type("user_id") and selected.has_identifier_type("user_id")


def profile_fields(
    resolution: Resolution,
    *,
    consent: Mapping[str, Any] | None,
    seen_at: datetime,
    now: datetime,
    salt: bytes,
) -> dict[str, Any]:
    """Return the whole document of the selected profile after the request.

    `consent` is the profile's new consent map, None when it stays. `seen_at` is when the event
    happened; an older event never moves `last_seen` back. `salt` is used for a new profile only.
    """
    if resolution.before is None:
        fields = new_profile_fields(now=now, salt=salt)
    else:
        fields = dict(resolution.before.fields)
    identifiers = dict(fields.get("identifiers") or {})
    for node in resolution.linked:
        identifiers[node.key] = {"first_seen": seen_at, "last_seen": seen_at}
    fields["identifiers"] = identifiers
    if resolution.demoted:
        demoted = dict(fields.get("demoted") or {})
        fields["demoted"] = demoted | {node.key: now for node in resolution.demoted}
    if consent is not None:
        fields["consent"] = dict(consent)
    return touch_profile(fields, now=now)


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
    return fields


def identifier_fields(node: GraphNode, profile_id: str, *, seen_at: datetime) -> dict[str, Any]:
    """Return the document `identifiers/{key}` of a link.

    It has no expiry of its own: a profile's expiry moves with every commit, and a link that
    expired before its profile would lose a visitor who is still there. Once the profile is gone,
    the link counts as absent and the next one overwrites it.
    """
    return {
        "profile_id": profile_id,
        "type": node.identifier.type,
        "first_seen": seen_at,
        "last_seen": seen_at,
    }


def alias_fields(profile_id: str) -> dict[str, Any]:
    """Return the document in a linked identifier's own place: an alias of its profile.

    Whoever would create a profile there at the same moment meets this document and looks again.
    """
    return {"merged_into": profile_id}
