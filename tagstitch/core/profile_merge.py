"""Merging profiles that turned out to be one person: what the one document says after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import reduce
from typing import Any, Final, NamedTuple

import msgspec

from tagstitch.core.assignment import merge_assignments, stored_assignments
from tagstitch.core.attribute_times import times_of
from tagstitch.core.cap_uses import merge_uses
from tagstitch.core.contribution import merge_contributors
from tagstitch.core.identifier import MergeStrategy
from tagstitch.core.identity_graph import Resolution, links_expiry, newest_demoted
from tagstitch.core.limits import INTEGER_ABS_MAX, MERGED_LIST_MAX
from tagstitch.core.profile import Profile, is_grant, typed_profile
from tagstitch.core.profile_traits import TraitDefinitions
from tagstitch.core.values import is_number, to_json_value

_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)

_EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})


class Said(NamedTuple):
    """What one profile says about an attribute."""

    value: Any
    at: datetime
    """When it was set."""


def merged_person(
    resolution: Resolution,
    strategies: Mapping[str, MergeStrategy],
    definitions: TraitDefinitions,
    *,
    now: datetime,
) -> Profile | None:
    """Return the surviving profile as it is with all that are merged into it.

    None when it is created. `definitions` are today's traits: states of others do not survive.
    """
    before = resolution.before
    if before is None or not resolution.merged:
        return before
    fields = merged_fields(
        before, resolution.merged, strategies=strategies, definitions=definitions, now=now
    )
    return typed_profile(before.profile_id, fields, now=now)


def merged_fields(
    survivor: Profile,
    others: Sequence[Profile],
    *,
    strategies: Mapping[str, MergeStrategy],
    definitions: TraitDefinitions,
    now: datetime,
) -> dict[str, Any]:
    """Return the survivor's document after the others became one with it.

    `others` are the oldest first; which one is merged first never shows. Consent takes the
    strictest, and what somebody did not say counts as not granted; uses of caps and assignments
    are united, so that a merge never grants once more what was granted once.
    """
    people = (survivor, *others)
    attributes, times = _attributes(people, strategies)
    traits, _ = merge_contributors(people, definitions)
    return {
        **survivor.fields,
        "identifiers": _identifiers(people),
        "attributes": attributes,
        "attribute_times": times,
        "state": _newest_state(people),
        "caps": reduce(merge_uses, (person.caps for person in people)),
        "assignments": _assignments(people),
        "consent": _strictest_consent(people),
        **traits,
        **_marks(people),
        "merges": sum(person.merges for person in people) + len(others),
        "updated_at": now,
    }


def _attributes(
    people: Sequence[Profile], strategies: Mapping[str, MergeStrategy]
) -> tuple[dict[str, Any], dict[str, datetime]]:
    said: dict[str, list[Said]] = {}
    for person in people:
        times = times_of(person.fields)
        for name, value in person.imported.items():
            said.setdefault(name, []).append(Said(value, times.get(name, _LONG_AGO)))
    decided = {
        name: _STRATEGIES[strategies.get(name, "newest")](found) for name, found in said.items()
    }
    values = {name: found.value for name, found in decided.items()}
    return values, {name: found.at for name, found in decided.items() if found.at > _LONG_AGO}


def _newest(said: Sequence[Said]) -> Said:
    return max(said, key=_rank)


def _oldest(said: Sequence[Said]) -> Said:
    return min(said, key=_rank)


def _first_non_empty(said: Sequence[Said]) -> Said:
    """Take the oldest that says something."""
    return _oldest([one for one in said if one.value not in _EMPTY] or said)


def _keep_target(said: Sequence[Said]) -> Said:
    return said[0]


def _of_numbers(combine: Callable[[Iterable[float]], float]) -> Callable[[Sequence[Said]], Said]:
    """Combine the numbers; what is none is left out, and without any the newest stays.

    A sum beyond 64 bits is not exact, and one that is not finite gives way to the newest: no
    document holds them, and the merge must not fail for it.
    """

    def decide(said: Sequence[Said]) -> Said:
        numbers = [one.value for one in said if is_number(one.value)]
        combined = combine(sorted(numbers)) if numbers else math.nan
        if abs(combined) > INTEGER_ABS_MAX:
            combined = float(combined)
        if not math.isfinite(combined):
            return _newest(said)
        return Said(combined, max(one.at for one in said))

    return decide


def _union(said: Sequence[Said]) -> Said:
    """Unite lists, and single values as lists of one, the newest first; the oldest drop out."""
    found: dict[bytes, Any] = {}
    for one in sorted(said, key=_rank, reverse=True):
        for value in one.value if isinstance(one.value, list) else [one.value]:
            found.setdefault(_content(value), value)
    return Said(list(found.values())[:MERGED_LIST_MAX], max(one.at for one in said))


_STRATEGIES: Final[Mapping[MergeStrategy, Callable[[Sequence[Said]], Said]]] = {
    "newest": _newest,
    "oldest": _oldest,
    "first_non_empty": _first_non_empty,
    "sum": _of_numbers(sum),
    "max": _of_numbers(max),
    "min": _of_numbers(min),
    "union": _union,
    "keep_target": _keep_target,
}


def _rank(said: Said) -> tuple[datetime, bytes]:
    """Sort by time; of one moment by content, so that the order of merges never shows."""
    return (said.at, _content(said.value))


def _content(value: Any) -> bytes:
    return msgspec.json.encode(to_json_value(value), order="sorted")


def _identifiers(people: Iterable[Profile]) -> dict[str, Any]:
    united: dict[str, Any] = {}
    for person in people:
        for key, link in person.identifiers.items():
            present = united.get(key)
            united[key] = dict(link) if present is None else _longest(present, link)
    return united


def _longest(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the link from when the identifier was first seen to when it was last seen."""
    both = {**other, **one}
    for name, choose in (("first_seen", min), ("last_seen", max)):
        times = [link[name] for link in (one, other) if isinstance(link.get(name), datetime)]
        if times:
            both[name] = choose(times)
    return both


def _newest_state(people: Sequence[Profile]) -> dict[str, Any]:
    """Return the state; of a key that several have, that of the document written last."""
    state: dict[str, Any] = {}
    for person in sorted(people, key=_written_at):
        state |= person.state
    return state


def _written_at(profile: Profile) -> tuple[datetime, str]:
    updated_at = profile.fields.get("updated_at")
    return (updated_at if isinstance(updated_at, datetime) else _LONG_AGO, profile.profile_id)


def _assignments(people: Iterable[Profile]) -> dict[str, Any]:
    merged = reduce(
        merge_assignments,
        (stored_assignments({"assignments": person.assignments}) for person in people),
    )
    return {experiment_id: found.to_fields() for experiment_id, found in merged.items()}


def _strictest_consent(people: Sequence[Profile]) -> dict[str, Any]:
    """Return the consent of all: denied where one denies, granted where every one grants.

    What one of them says nothing about is not granted.
    """
    purposes = dict.fromkeys(purpose for person in people for purpose in person.consent)
    strictest: dict[str, Any] = {}
    for purpose in purposes:
        said = [person.consent[purpose] for person in people if purpose in person.consent]
        denied = [one for one in said if not is_grant(one.get("granted"))]
        if denied or len(said) == len(people):
            strictest[purpose] = max(denied or said, key=_said_at)
    return strictest


def _said_at(statement: Mapping[str, Any]) -> datetime:
    at = statement.get("at")
    return at if isinstance(at, datetime) else _LONG_AGO


def _marks(people: Sequence[Profile]) -> dict[str, Any]:
    """Return what the graph and the expiry need."""
    united = {key for person in people for key in person.identifiers}
    demoted = {key: at for person in people for key, at in person.demoted.items()}
    apart = {key: at for person in people for key, at in person.kept_apart.items()}
    created = [person.created_at for person in people if person.created_at is not None]
    expiries = [person.expires_at for person in people if person.expires_at is not None]
    links = [links_expiry(person.fields) for person in people]
    return {
        "demoted": newest_demoted({k: at for k, at in demoted.items() if k not in united}),
        "kept_apart": apart,
        **({"created_at": min(created)} if created else {}),
        **({"expires_at": max(expiries)} if expiries else {}),
        # Contributions of the merged profile stay as they are: with what it says of them.
        "links_expire_at": None if None in links else min(filter(None, links)),
    }
