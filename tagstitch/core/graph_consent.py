"""Consent where one request leads to several profiles: who may become one, who hears a denial."""

from __future__ import annotations

from collections.abc import Sequence

from tagstitch.core.consent import ANALYTICS_STORAGE, resolve_consent
from tagstitch.core.identity_graph import IdentityGraph, Resolution
from tagstitch.core.profile import Profile


def consenting_graph(graph: IdentityGraph, *, default_granted: bool) -> IdentityGraph | None:
    """Return the graph of a silent request without the profiles that refuse to be looked up.

    None when the profile of the strongest identifier that has one holds no grant of its own: what
    another one denied says more of this person than a default does.
    """
    people = [node.profile for node in graph.nodes if node.profile is not None and not node.is_held]
    if not people or not _allows(people[0], default_granted=False):
        return None
    refusing = {
        profile.profile_id
        for profile in people[1:]
        if not _allows(profile, default_granted=default_granted)
    }
    return IdentityGraph(
        tuple(
            node
            for node in graph.nodes
            if node.profile is None or node.profile.profile_id not in refusing
        )
    )


def profiles_led_to(
    graph: IdentityGraph, resolution: Resolution
) -> tuple[Sequence[Profile], Sequence[Profile]]:
    """Return the profiles besides `resolution.before`: those that are one with it, and the others.

    The others are people of their own, such as another user of the same browser.
    """
    one = {profile.profile_id: profile for profile in resolution.merged}
    known = {*one, resolution.profile_id}
    apart = {
        node.profile.profile_id: node.profile
        for node in graph.nodes
        if node.profile is not None and not node.is_held and node.profile.profile_id not in known
    }
    return tuple(one.values()), tuple(apart.values())


def _allows(profile: Profile, *, default_granted: bool) -> bool:
    consent = resolve_consent(
        requested=None, event=None, profile=profile, default_granted=default_granted
    )
    return consent.allows(ANALYTICS_STORAGE)
