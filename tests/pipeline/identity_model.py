"""Identity in plain Python: what requests, decisions, splits and imports come to, one after another.

It knows nothing of documents, versions, aliases' places or attempts: people are sets of
identifiers. A time that is None is one that the store chooses; `settle` takes it over.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tagstitch.core.consent import CONSENT_MODE_PURPOSES, Consent
from tagstitch.core.identifier import Identifier, IdentitySettings
from tagstitch.core.limits import CLOCK_SKEW_S
from tagstitch.core.profile_traits import compile_traits
from tagstitch.core.stitch_request import StitchRequest
from tagstitch.core.trait_parsing import parse_trait
from tests.core.trait_naive import naive_value
from tests.pipeline.identity_people import (
    Counted,
    Decide,
    Import,
    Limits,
    Merge,
    Person,
    Refused,
    said_now,
    strictest,
    vouched_for,
)
from tests.pipeline.world import KEYRING

TRAIT_DEFINITIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "views": {"event": "view_item", "operation": "count"},
    "spent": {"event": "add_to_cart", "operation": "sum", "field": "value"},
    "last_page": {"event": "*", "operation": "last", "field": "page"},
    "pages": {"event": "*", "operation": "unique_list", "field": "page", "limit": 3},
    "visits": {"event": "*", "operation": "sessions"},
    "busy": {"event": "*", "operation": "count", "window": {"rolling": {"days": 7}}},
    "mail_views": {"event": "view_item", "operation": "count", "purposes": ["email"]},
}
TRAITS: Final = compile_traits(TRAIT_DEFINITIONS)
VISITS: Final = parse_trait(
    "visits", {"event": "*", "operation": "count_distinct", "field": "ga_session_id"}
)
"""Visits of events that all say which one they belong to."""


_LATER: Final = datetime(9998, 1, 1, tzinfo=UTC)


class Model:
    """Everybody, and where every identifier leads."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.people: dict[str, Person] = {}
        self.aliases: dict[str, str] = {}
        self.merges: list[Merge] = []
        self.processed: dict[str, str] = {}
        """Request id -> fingerprint, of stitch requests that changed something."""
        self.decided: dict[str, bool] = {}
        """Request id of a decision that changed something -> whether it gave the offer."""
        self.events: dict[tuple[Identifier, str], Counted] = {}
        """By the identifier for which each counts, and its id."""
        self.changed: set[str] = set()
        """The requests of this step that changed something."""
        self.apart: set[frozenset[Identifier]] = set()
        """Pairs that somebody took apart."""
        self.exempt: set[str] = set()
        """Profiles that an import may have brought beyond a limit."""
        self.erased: dict[str, datetime | None] = {}
        """The places in which nobody may be created again, and since when."""
        self.effects: dict[str, str] = {}
        """Request id -> what the audit says of it, of stitch requests that changed something."""
        self.unlogged: dict[Identifier, str] = {}
        """The profile to which an identifier came without an entry of the link log."""

    def copy(self) -> Model:
        return copy.deepcopy(self)

    def home(self, identifier: Identifier) -> Person | None:
        place = KEYRING.profile_id(identifier)
        person = self.people.get(self.aliases.get(place, place))
        return person if person is not None and identifier in person.linked else None

    def is_erased(self, identifier: Identifier) -> bool:
        return KEYRING.profile_id(identifier) in self.erased

    def known(self, identifiers: Sequence[Identifier], now: datetime) -> Person | None:
        """Return whom the first identifier leads to that leads anywhere; nobody who was erased.

        Not one who would be kept apart from a stronger identifier, which nobody knows.
        """
        for n, identifier in enumerate(identifiers):
            if self.is_erased(identifier):
                return None
            home = self.home(identifier)
            if home is not None and home in self._join(identifiers[: n + 1], now)[1]:
                return home
        return None

    def settings(self) -> IdentitySettings:
        return self.limits.settings

    def forget(self, expired: Iterable[str]) -> None:
        """Forget requests whose marks have expired."""
        for request_id in expired:
            self.processed.pop(request_id, None)
            self.decided.pop(request_id, None)

    def stitch(self, request: StitchRequest) -> Refused | None:
        earlier = self.processed.get(request.request_id)
        if earlier is not None:
            same = earlier == request.fingerprint()
            return None if same else Refused("idempotency_conflict")
        usable = vouched_for(request.identifiers, self.settings(), asserted=request.asserted)
        usable = usable if request.asserted else usable[:1]
        is_erased = self._is_of_the_erased(usable, request.occurred_at)
        erased = [i for i in usable if self.is_erased(i)]
        usable = tuple(i for i in usable if i not in erased)
        now = said_now(request)
        led_to = [person for i in usable if (person := self.home(i)) is not None]
        joined, people, apart, together = self._together(usable, request)
        says_nothing = "analytics_storage" not in now
        if says_nothing and len(people) > 1 and not _allows(together) and _grants(led_to[0]):
            willing = [i for i in usable if _allows(self.home(i)) or self.home(i) is led_to[0]]
            joined, people, apart, together = self._together(willing, request)
        apart += erased  # they count as if they were not there, and are remembered
        if not now.get("analytics_storage", _allows(together)):
            changed = not is_erased and self._deny(people, led_to, request)
            effect = "suppressed"
        elif is_erased:
            changed, effect = False, "unknown"
        else:
            effect = self._effect(joined, people)
            counts = bool(joined) and self._count(request, joined[0], together)
            if effect == "unknown" and any(map(self.settings().is_blocked, request.identifiers)):
                effect = "blocked"
            changed = self._become(joined, people, apart, together, request)
            effect = "updated" if effect == "unchanged" and (changed or counts) else effect
        if changed or request.callback is not None:
            self.processed[request.request_id] = request.fingerprint()
            self.changed.add(request.request_id)
            self.effects[request.request_id] = effect
        return None

    def _together(
        self, usable: Sequence[Identifier], request: StitchRequest
    ) -> tuple[list[Identifier], list[Person], list[Identifier], Person | None]:
        """Return who is one, the oldest first, who stays apart, and the one that they become."""
        joined, people, apart = self._join(usable, request.occurred_at)
        people.sort(key=Person.seniority)
        return joined, people, apart, self._merged(people) if people else None

    def _deny(
        self, people: Sequence[Person], led_to: Iterable[Person], request: StitchRequest
    ) -> bool:
        """Record a denial with everybody; return whether that changes anything.

        With another user of the same browser only what a browser says.
        """
        changed = bool(people) and self._say(people[0], request)
        for person in {person.profile_id: person for person in (*people, *led_to)}.values():
            if not people or person is not people[0]:
                is_one = any(person is one for one in people)
                changed |= self._say(person, request, denials="all" if is_one else "of a browser")
        return changed

    def _count(self, request: StitchRequest, strongest: Identifier, person: Person | None) -> bool:
        """Count the request's event, once; return whether it counts for any trait."""
        event = request.event
        stored = person.consent if person is not None else {}
        said = {purpose: granted for purpose, (granted, _) in stored.items()} | said_now(request)
        consent = Consent(said, {}, default_granted=True)
        if event is None:
            return False
        counts = any(one.is_allowed(consent) for one in TRAITS.of_event(event.name))
        if counts:
            counted = Counted(event, request.occurred_at, consent)
            self.events.setdefault((strongest, request.event_id), counted)
        return counts

    def traits(self, person: Person, now: datetime) -> dict[str, Any]:
        """Return what the events of the person's identifiers come to."""
        found = {}
        for name, definition in TRAITS.by_name.items():
            events = [
                (counted.at, counted.event)
                for (identifier, _), counted in self.events.items()
                if identifier in person.linked
                and definition in TRAITS.of_event(counted.event.name)
                and definition.is_allowed(counted.consent)
            ]
            value = naive_value(VISITS if name == "visits" else definition, events, now)
            if value is not None:
                found[name] = value
        return found

    def _is_of_the_erased(self, identifiers: Sequence[Identifier], at: datetime) -> bool:
        """Return whether a request is of somebody erased: by its strongest, or from before it."""
        places = [KEYRING.profile_id(i) for i in identifiers if self.is_erased(i)]
        if not places:
            return False
        latest = max(self.erased[place] or _LATER for place in places)
        return self.is_erased(identifiers[0]) or at <= latest + timedelta(seconds=CLOCK_SKEW_S)

    def _effect(self, joined: Sequence[Identifier], people: Sequence[Person]) -> str:
        if not joined:
            return "unknown"
        if not people:
            return "created"
        if len(people) > 1:
            return "merged"
        return "linked" if any(self.home(i) is None for i in joined) else "unchanged"

    def _become(
        self,
        joined: list[Identifier],
        people: list[Person],
        apart: list[Identifier],
        together: Person | None,
        request: StitchRequest,
    ) -> bool:
        if not joined:
            return False
        new = [i for i in joined if self.home(i) is None]
        if together is None:
            together = Person(KEYRING.profile_id(joined[0]))
        known = {*people[0].demoted, *people[0].linked} if people else set()
        demoted = {i for i in apart if i not in known}
        changed = bool(not people or new or demoted or len(people) > 1)
        if len(people) > 1:
            gone = {person.profile_id: person for person in people[1:]}
            self.merges.append(Merge(people[0], gone))
            for profile_id, person in gone.items():
                del self.people[profile_id]
                for former in (profile_id, *person.former_ids):
                    self.aliases[former] = together.profile_id
        changed |= self._say(together, request)
        together.demoted |= demoted
        together.linked |= dict.fromkeys(new, request.occurred_at)
        if changed:
            self._settle_in(together)
        return changed

    def _settle_in(self, person: Person) -> None:
        self.people[person.profile_id] = person
        for identifier in person.linked:
            place = KEYRING.profile_id(identifier)
            if place == person.profile_id:
                self.aliases.pop(place, None)
            else:
                self.aliases[place] = person.profile_id
        self.aliases.pop(person.profile_id, None)

    def _join(
        self, identifiers: Sequence[Identifier], at: datetime
    ) -> tuple[list[Identifier], list[Person], list[Identifier]]:
        """Return who is one, the profiles that they bring, and who stays apart."""
        joined: list[Identifier] = []
        people: list[Person] = []
        apart: list[Identifier] = []
        for identifier in identifiers:
            person = self.home(identifier)
            if person is not None and any(person is other for other in people):
                joined.append(identifier)
            elif joined and not self._may_join(identifier, person, joined, people, at):
                apart.append(identifier)
            else:
                joined.append(identifier)
                people += [person] if person is not None else []
        return joined, people, apart

    def _may_join(
        self,
        identifier: Identifier,
        person: Person | None,
        joined: Sequence[Identifier],
        people: Sequence[Person],
        at: datetime,
    ) -> bool:
        before = {i: t for other in people for i, t in other.linked.items()}
        before |= {i: at for i in joined if i not in before}
        after = before | (person.linked if person is not None else {identifier: at})
        if len(after) > max(len(before), self.limits.identifiers_max):
            return False
        everybody = [*people, *([person] if person is not None else [])]
        if person is not None and people:
            merges = sum(other.merges for other in everybody) + len(people)
            if merges > self.limits.merges_max:
                return False
        if any(other.kept_apart & after.keys() for other in everybody):
            return False
        types = {i.type for i in after if i not in before}
        return all(self._keeps_limit(after, type_, at) for type_ in types)

    def _keeps_limit(
        self, linked: Mapping[Identifier, datetime | None], type_: str, at: datetime
    ) -> bool:
        limit = self.settings().limit(type_)
        if limit is None:
            return True
        since = at - (limit.within or timedelta(days=100_000))
        times = [time for identifier, time in linked.items() if identifier.type == type_]
        return sum(time is None or time > since for time in times) <= limit.values_max

    def _merged(self, people: Sequence[Person]) -> Person:
        """Return one person made of several, the oldest first; they stay as they are."""
        together = copy.deepcopy(people[0])
        if len(people) == 1:
            return together
        for person in people[1:]:
            together.linked |= person.linked
            together.demoted |= person.demoted
            together.kept_apart |= person.kept_apart
            together.former_ids |= person.former_ids
            together.had_offer |= person.had_offer
            together.state |= person.state
            for name, said in person.attributes.items():
                present = together.attributes.get(name)
                if present is None or (said[1], said[0]) > (present[1], present[0]):
                    together.attributes[name] = said
            if not any(KEYRING.profile_id(i) == person.profile_id for i in person.linked):
                together.former_ids.add(person.profile_id)
        together.demoted -= together.linked.keys()
        together.merges = sum(person.merges for person in people) + len(people) - 1
        together.consent = strictest([person.consent for person in people])
        if any(person.profile_id in self.exempt for person in people):
            self.exempt.add(together.profile_id)
        return together

    def _say(self, person: Person, request: StitchRequest, *, denials: str = "") -> bool:
        """Record what the request says about consent; return whether that changes anything.

        With `denials` nothing else, and of them "all" or those "of a browser".
        """
        now = said_now(request)
        vouched = dict(request.consent or {}) if request.asserted else {}
        recordable = {*person.consent, *CONSENT_MODE_PURPOSES, *vouched}
        if denials == "of a browser":
            recordable = set(CONSENT_MODE_PURPOSES)
        news = {p: False for p, granted in now.items() if not granted and p in recordable}
        if not denials:
            news |= {p: True for p, granted in vouched.items() if granted is True and p not in news}
        before = dict(person.consent)
        for purpose, granted in news.items():
            at = request.occurred_at
            known = person.consent.get(purpose)
            if known is None or known[1] < at or (known[1] == at and not granted):
                person.consent[purpose] = (granted, at)
        return person.consent != before

    def decide(self, job: Decide, now: datetime) -> bool:
        """Return whether the decision gives the once-only offer."""
        if job.request_id in self.decided:
            return self.decided[job.request_id]
        person = None
        if "analytics_storage" not in job.denied:
            person = self.known(job.identifiers, now)
            if person is None and any(map(self.is_erased, job.identifiers)):
                return False
        consent = person.consent if person is not None else {}
        needed = ("analytics_storage", "ad_personalization")
        refuses = any(not consent.get(p, (True,))[0] or p in job.denied for p in needed)
        if refuses or not job.identifiers:
            return False
        had = person is not None and (
            person.had_offer if job.event == "view_item" else "cart" in person.state
        )
        if had:
            return False
        if person is None:
            primary = job.identifiers[0]
            person = Person(KEYRING.profile_id(primary), linked={primary: None})
            self.unlogged[primary] = person.profile_id
            self._settle_in(person)
        if job.event == "view_item":
            person.had_offer = True
        else:
            person.state["cart"] = True
        gives = job.event == "view_item"
        self.decided[job.request_id] = gives
        return gives

    def take_out(self, identifier: Identifier) -> Refused | None:
        person, place = self.home(identifier), KEYRING.profile_id(identifier)
        if person is None or person.profile_id == place:
            return Refused("invalid_field")
        self._split(person, {identifier}, place, None)
        return None

    def undo(self, merge: Merge, gone_id: str) -> Refused | None:
        if gone_id in merge.undone:
            return Refused("invalid_field")
        gone = merge.gone[gone_id]
        person = self.people[self.aliases[gone_id]]
        self._split(person, set(gone.linked) & person.linked.keys(), gone_id, (merge, gone))
        return None

    def _split(
        self,
        person: Person,
        moved: set[Identifier],
        target: str,
        merge: tuple[Merge, Person] | None,
    ) -> None:
        gone = merge[1] if merge is not None else Person(target)
        leaves = Person(
            target,
            created_at=gone.created_at,
            linked={i: person.linked[i] for i in moved},
            demoted=set(gone.demoted),
            kept_apart={*person.linked, *person.kept_apart} - moved,
            merges=gone.merges,
            consent=dict(person.consent),
            attributes=dict(gone.attributes),
            state=dict(gone.state),
            had_offer=person.had_offer,
            former_ids=gone.former_ids & person.former_ids,
        )
        self.apart |= {frozenset((i, j)) for i in moved for j in person.linked if j not in moved}
        for identifier in moved:
            del person.linked[identifier]
        person.kept_apart |= moved
        person.former_ids -= {target, *leaves.former_ids}
        if merge is not None:
            person.merges = max(0, person.merges - 1 - gone.merges)
            self._give_back(person, *merge)
        for former in leaves.former_ids:
            self.aliases[former] = target
        self._settle_in(leaves)
        self._settle_in(person)
        if person.profile_id in self.exempt:
            self.exempt.add(target)
        for each in self.merges:
            each.undone |= {target} & each.gone.keys()

    def _give_back(self, person: Person, merge: Merge, gone: Person) -> None:
        for name, said in gone.attributes.items():
            if person.attributes.get(name) == said:
                del person.attributes[name]
                if name in merge.survivor.attributes:
                    person.attributes[name] = merge.survivor.attributes[name]

    def erase(self, identifier: Identifier) -> None:
        ids, gone = {KEYRING.profile_id(identifier)}, {identifier}
        person = self.home(identifier)
        if person is not None:
            gone |= person.linked.keys()
            ids |= {person.profile_id, *map(KEYRING.profile_id, gone), *person.former_ids}
            del self.people[person.profile_id]
        for profile_id in ids:
            self.aliases.pop(profile_id, None)
        for place in map(KEYRING.own_place_of, ids):
            self.erased.setdefault(place, None)
        self.events = {key: event for key, event in self.events.items() if key[0] not in gone}
        for merge in self.merges:
            merge.undone |= merge.gone.keys() & ids
            if merge.survivor.profile_id in ids:
                merge.undone |= merge.gone.keys()

    def imports(self, line: Import) -> None:
        profile_id = line.profile_id or KEYRING.profile_id(line.identifiers[0])
        if KEYRING.own_place_of(profile_id) in self.erased or any(
            map(self.is_erased, line.identifiers)
        ):
            return
        profile_id = self.aliases.get(profile_id, profile_id)
        person = self.people.get(profile_id) or Person(profile_id)
        for identifier in line.identifiers:
            home = self.home(identifier)
            if home is None:
                person.linked[identifier] = None
                self.unlogged[identifier] = profile_id
        for name, value in line.attributes.items():
            known = person.attributes.get(name)
            if known is None or known[1] <= line.at:
                person.attributes[name] = (value, line.at)
        self.exempt.add(profile_id)
        self._settle_in(person)


def _allows(person: Person | None) -> bool:
    return person is None or person.consent.get("analytics_storage", (True,))[0]


def _grants(person: Person) -> bool:
    return person.consent.get("analytics_storage", (False,))[0]
