"""Splitting a profile: what two documents say after identifiers left it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from tagstitch.core.attribute_times import times_of
from tagstitch.core.contribution import Contributions, trait_fields
from tagstitch.core.identity_graph import new_profile_fields, touch_profile
from tagstitch.core.profile import Profile
from tagstitch.core.stored_values import stored_count, stored_map, stored_texts


class Merge(NamedTuple):
    """A merge to be undone, as the link log has it."""

    at: datetime
    gone_id: str
    gone: Mapping[str, Any]
    """The document of the merged profile as it was."""
    survivor: Mapping[str, Any]
    """That of the profile that it was merged into."""


class Split(NamedTuple):
    """The documents of both profiles."""

    stays: dict[str, Any]
    leaves: dict[str, Any]


def split_profile(
    together: Profile,
    keys: frozenset[str],
    *,
    merge: Merge | None,
    contributions: Contributions,
    now: datetime,
    salt: bytes,
) -> Split:
    """Return the documents after these identifiers left the profile, never to join it again.

    `merge` undoes one: what each profile brought goes back, unless it was set anew since; without
    it the attributes stay. Uses of caps stay with both: a split never grants once more what was
    granted once. So does consent. `contributions` are all of the profile's: each goes with its
    identifier, and traits are computed anew from them. `salt` is the one of the profile that
    leaves.
    """
    identifiers = dict(together.identifiers)
    moved = {key: identifiers.pop(key) for key in sorted(keys & identifiers.keys())}
    stays = {
        **together.fields,
        "identifiers": identifiers,
        "kept_apart": dict(together.kept_apart) | dict.fromkeys(moved, now),
    }
    leaves = {
        **new_profile_fields(now=now, salt=salt),
        "identifiers": moved,
        # Also those who were taken out before: it was them that they left.
        "kept_apart": dict(together.kept_apart) | dict.fromkeys(identifiers, now),
        "consent": dict(together.consent),
        "caps": dict(together.caps),
    }
    if contributions:
        stays |= trait_fields({k: each for k, each in contributions.items() if k not in moved})
        leaves |= trait_fields({k: each for k, each in contributions.items() if k in moved})
    if merge is not None:
        stays |= _without(together, merge)
        theirs = stored_count(merge.gone.get("merges"))
        stays["merges"] = max(0, together.merges - 1 - theirs)
        former = former_ids_of(together, merge)
        stays["former_ids"] = sorted({*together.former_ids} - {*former, merge.gone_id})
        back = (
            "attributes", "attribute_times", "state", "assignments", "created_at", "demoted",
            "merges",
        )  # fmt: skip
        leaves |= {name: merge.gone[name] for name in back if name in merge.gone}
        leaves["former_ids"] = former
    return Split(touch_profile(stays, now=now), touch_profile(leaves, now=now))


def former_ids_of(together: Profile, merge: Merge) -> list[str]:
    """Return the former ids that go back with the merged profile: those that are still there."""
    return sorted({*together.former_ids} & {*stored_texts(merge.gone.get("former_ids"))})


def _without(together: Profile, merge: Merge) -> dict[str, Any]:
    """Return attributes and assignments without what came by the merge."""
    attributes, times = (
        dict(together.imported),
        dict(stored_map(together.fields.get("attribute_times"))),
    )
    ours, our_times = (
        stored_map(merge.survivor.get("attributes")),
        stored_map(merge.survivor.get("attribute_times")),
    )
    then = (times_of(merge.gone), times_of(merge.survivor))
    for name in stored_map(merge.gone.get("attributes")).keys() & attributes.keys():
        set_at = times.get(name)
        is_of_then = set_at in (known.get(name) for known in then)
        if isinstance(set_at, datetime) and (set_at > merge.at or not is_of_then):
            continue  # somebody set it since, or another merge brought it
        del attributes[name]
        times.pop(name, None)
        if name in ours:
            attributes[name] = ours[name]
        if name in our_times:
            times[name] = our_times[name]
    theirs = stored_map(merge.gone.get("assignments")).keys()
    kept = {key: value for key, value in together.assignments.items() if key not in theirs}
    return {
        "attributes": attributes,
        "attribute_times": times,
        "assignments": {**kept, **stored_map(merge.survivor.get("assignments"))},
    }
