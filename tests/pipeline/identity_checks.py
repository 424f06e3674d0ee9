"""What must hold of the stored identity graph after every step, whatever happened."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tagstitch.core.attribute_times import times_of
from tagstitch.core.contribution import distant_contributors
from tagstitch.core.identifier import Identifier
from tagstitch.core.trait_state import stored_traits, trait_values
from tagstitch.pipeline.backend import Document, DocumentStore
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.keyring import own_profile_id
from tests.pipeline.identity_model import Model
from tests.pipeline.identity_people import Limits, Person
from tests.pipeline.world import KEYRING

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Stored:
    """Everything that the store holds about people."""

    profiles: Mapping[str, Fields]
    """Those that are no aliases."""
    aliases: Mapping[str, str]
    tombstones: Mapping[str, datetime]
    identifiers: Mapping[str, Fields]
    links: Mapping[str, Fields]
    processed: Mapping[str, Fields]
    contributions: Mapping[str, Fields]
    led: Sequence[tuple[str, Fields]]
    """The documents of aliases and links, each with the profile that it leads to."""

    def graph(self) -> tuple[Any, ...]:
        """Return what an audit record must tell of when it changes."""
        people = {
            profile_id: (sorted(fields["identifiers"]), fields.get("consent"))
            for profile_id, fields in self.profiles.items()
        }
        return (people, self.aliases)


async def read_stored(documents: DocumentStore) -> Stored:
    every = await _all(documents, "profiles")
    aliases = {name: str(f["merged_into"]) for name, f in every.items() if "merged_into" in f}
    tombstones = {name: f["erased_at"] for name, f in every.items() if "erased_at" in f}
    identifiers = await _all(documents, "identifiers")
    led = [(str(f["merged_into"]), f) for f in every.values() if "merged_into" in f]
    led += [(str(fields["profile_id"]), fields) for fields in identifiers.values()]
    return Stored(
        {n: fields for n, fields in every.items() if n not in aliases and n not in tombstones},
        aliases,
        tombstones,
        identifiers,
        await _all(documents, "links"),
        await _all(documents, "processed"),
        await _all(documents, "contributions"),
        led,
    )


async def _all(documents: DocumentStore, collection: str) -> dict[str, Fields]:
    found: dict[str, Fields] = {}
    after: str | None = None
    while True:
        page: list[Document] = list(
            await documents.list_documents(
                collection, after=after, limit=500, deadline=Deadline.after(20)
            )
        )
        found |= {document.path.partition("/")[2]: document.fields for document in page}
        if len(page) < 500:
            return found
        after = page[-1].path


def check_graph(stored: Stored, limits: Limits, *, exempt: Iterable[str]) -> None:
    """Check aliases, links and limits; an import may have brought the exempt beyond these."""
    for alias, target in stored.aliases.items():
        assert target in stored.profiles, f"alias of an alias, or of nobody: {alias} -> {target}"
    holders = Counter(key for fields in stored.profiles.values() for key in fields["identifiers"])
    assert all(count == 1 for count in holders.values()), "an identifier of two living profiles"
    for profile_id, fields in stored.profiles.items():
        for key in fields["identifiers"]:
            place = own_profile_id(key)
            leads_to = profile_id if place == profile_id else stored.aliases.get(place)
            assert leads_to == profile_id, f"{key} of {profile_id} leads to {leads_to}"
            pointer = stored.identifiers.get(key)
            assert place == profile_id or pointer is not None, f"no record of the link of {key}"
            if pointer is not None:
                assert pointer["profile_id"] == profile_id, f"{key} is recorded elsewhere"
        assert not fields["identifiers"].keys() & fields.get("kept_apart", {}).keys()
        types = Counter(key.partition(":")[0] for key in fields["identifiers"])
        assert types["user_id"] <= 1, "two user ids"
        if profile_id not in exempt:
            assert len(fields["identifiers"]) <= limits.identifiers_max
            assert fields.get("merges", 0) <= limits.merges_max
    own_places = {own_profile_id(key): key for key in holders}
    for place in own_places.keys() & stored.aliases.keys():
        linked = stored.profiles[stored.aliases[place]]["identifiers"]
        assert own_places[place] in linked, "an alias of a profile without the identifier"


def check_expiries(stored: Stored) -> None:
    """Check that what leads to somebody, or was counted for them, does not expire before them."""
    counted = [
        (profile_id, stored.contributions[key])
        for profile_id, fields in stored.profiles.items()
        for key in distant_contributors(fields)
    ]
    for profile_id, fields in (*stored.led, *counted):
        home = stored.profiles.get(profile_id)
        if home is not None and "blocked_at" not in fields:
            assert fields["expires_at"] >= home["expires_at"], f"outlived by {profile_id}"


def check_apart(stored: Stored, apart: Iterable[frozenset[Identifier]], keys: Keys) -> None:
    """Check that nobody who was taken apart is together again."""
    pairs = [frozenset(map(keys.of, pair)) for pair in apart]
    for fields in stored.profiles.values():
        linked = fields["identifiers"].keys()
        assert not any(pair <= linked for pair in pairs), "who was taken apart is together again"


def check_consent(before: Stored, after: Stored, granted_now: Iterable[str]) -> None:
    """Check that no denial became a grant but by a statement of this step."""
    for profile_id, fields in before.profiles.items():
        target = after.aliases.get(profile_id, profile_id)
        if target not in after.profiles:  # erased
            continue
        now = after.profiles[target].get("consent", {})
        for purpose, said in fields.get("consent", {}).items():
            if not said["granted"] and purpose not in granted_now:
                assert not now[purpose]["granted"], f"a denial of {purpose} became a grant"


class Keys:
    """The identifiers of a test by their keys."""

    def __init__(self, of: Mapping[str, Identifier]) -> None:
        self._identifiers = of
        self._keys = {identifier: key for key, identifier in of.items()}

    def of(self, identifier: Identifier) -> str:
        return self._keys[identifier]

    def person(self, profile_id: str, fields: Fields) -> Person:
        """Return a stored profile as the model has it."""
        times = times_of(fields)
        consent = fields.get("consent", {})
        return Person(
            profile_id,
            created_at=fields["created_at"],
            linked={self._identifiers[k]: s["first_seen"] for k, s in fields["identifiers"].items()},
            demoted={self._identifiers[key] for key in fields.get("demoted", {})},
            kept_apart={self._identifiers[key] for key in fields.get("kept_apart", {})},
            merges=fields.get("merges", 0),
            consent={purpose: (said["granted"], said["at"]) for purpose, said in consent.items()},
            attributes={name: (v, times[name]) for name, v in fields["attributes"].items()},
            state=dict(fields.get("state", {})),
            had_offer=any(fields.get("caps", {}).values()),
        )  # fmt: skip


def settle(model: Model, stored: Stored, keys: Keys, *, now: datetime) -> list[str]:
    """Take over the times that the store chose; return what differs otherwise."""
    found = {name: keys.person(name, fields) for name, fields in stored.profiles.items()}
    differences = list(_differences("people", set(model.people), set(found)))
    differences += _differences("aliases", model.aliases, stored.aliases)
    places = {name for name in stored.tombstones if KEYRING.own_place_of(name) == name}
    differences += _differences("tombstones", set(model.erased), places)
    model.erased = {
        place: stored.tombstones.get(place, since) for place, since in model.erased.items()
    }
    for profile_id in found.keys() & model.people.keys():
        mine, theirs = model.people[profile_id], found[profile_id]
        mine.created_at = mine.created_at or theirs.created_at
        for identifier, time in mine.linked.items():
            mine.linked[identifier] = time or theirs.linked.get(identifier)
        for name in _COMPARED:
            label = f"{name} of {profile_id}"
            differences += _differences(label, getattr(mine, name), getattr(theirs, name))
        traits = trait_values(stored_traits(stored.profiles[profile_id].get("traits")), now=now)
        differences += _differences(f"traits of {profile_id}", model.traits(mine, now), traits)
    return differences


_COMPARED = (
    "created_at", "linked", "demoted", "kept_apart", "merges", "consent", "attributes", "state",
    "had_offer",
)  # fmt: skip


def _differences(name: str, mine: object, theirs: object) -> Iterator[str]:
    if mine != theirs:
        yield f"{name}: expected {mine}, stored {theirs}"


def records_of(fields: Fields) -> list[dict[str, Any]]:
    """Return the audit records that a document holds."""
    return [json.loads(bytes(record)) for record in fields.get("records", ())]


def home_at(history: Iterable[tuple[datetime, Mapping[Identifier, str]]], at: datetime,
            identifier: Identifier) -> str | None:  # fmt: skip
    """Return where an identifier belonged at a time, by what was seen after each step."""
    home = None
    for seen_at, homes in history:
        if seen_at <= at:
            home = homes.get(identifier)
    return home
