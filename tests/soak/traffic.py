"""What is sent during a soak, all of it from one seed."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from tagstitch.core.identifier import Identifier
from tagstitch.core.rule_definitions import RuleDefinitions

Kind = Literal["lookup", "stitch", "publish", "decide", "malformed", "invalid", "erase"]

CAP: Final = 3
"""Uses of the offer by one visitor, for ever: nothing depends on the hour of the run."""

RULES: Final = RuleDefinitions(
    event_rules={
        "micro": {
            "target_event_name": "purchase",
            "conditions": {"value": {"lessThan": 10}},
            "action_type": "rename_event",
            "action_details": {"new_event_name": "micro_purchase"},
        }
    },
    personalization_rules={
        "offer": {
            "event_name_trigger": "select_promotion",
            "match_all": True,
            "action_type": "return_value",
            "action_details": {"key": "offer", "value": "ten"},
            "frequency_cap": {"max": CAP},
        },
        "thanks": {
            "event_name_trigger": "purchase",
            "match_all": True,
            "action_type": "return_value",
            "action_details": {"key": "thanks", "value": True},
            "updates_user_state": {"has_bought": True},
        },
        "cart": {
            "event_name_trigger": "add_to_cart",
            "match_all": True,
            "actions": [
                {"type": "webhook", "endpoint": "warehouse",
                 "body": {"value": {"from": "event.value"}}, "once_per": "visitor"}
            ],
        },
    },
    traits={
        "orders": {"event": "purchase", "operation": "count"},
        "revenue": {"event": "purchase", "operation": "sum", "field": "value"},
        "largest": {"event": "purchase", "operation": "max", "field": "value"},
        "first_page": {"event": "purchase", "operation": "first", "field": "page"},
    },
)  # fmt: skip

_MEMBERS_PART: Final = 40
_SHOPPERS_PART: Final = 80
_LEAVERS_PART: Final = 400
"""Operations for each person of a kind."""

_PAST: Final = timedelta(hours=12)

_REFUSED_USE_S: Final = 120.0
"""Seconds for which a callback to the endpoint that refuses everything is of use. Twenty refusals
leave it alone but for a probe now and then, so the others would wait for their ten minutes."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody, and the identifiers that are nobody else's."""

    name: str
    kind: Literal["member", "shopper", "leaver"]
    user_id: str | None
    devices: tuple[str, ...]

    @property
    def identifiers(self) -> tuple[Identifier, ...]:
        user = (Identifier("user_id", self.user_id),) if self.user_id else ()
        return (*user, *(Identifier("client_id", device) for device in self.devices))


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that somebody asks for."""

    kind: Kind
    request_id: str
    person: Person | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    is_sent_twice: bool = False
    """Whether its sender repeats it though it was accepted, as one that did not read the answer."""

    @property
    def event(self) -> Mapping[str, Any] | None:
        event: Mapping[str, Any] | None = self.body.get("event")
        return event

    @property
    def callback(self) -> str | None:
        name: str | None = self.body.get("callback")
        return name


@dataclass(frozen=True, slots=True)
class Traffic:
    """Everybody, and everything they ask for, in its order."""

    people: Sequence[Person]
    operations: Sequence[Operation]


def make_traffic(seed: int, count: int, *, now: datetime | None = None) -> Traffic:
    """Return so many operations, the same ones for the same seed and time."""
    maker = _Maker(random.Random(seed), now or datetime.now(UTC), count)
    operations = [maker.operation(number) for number in range(count)]
    middle = count // 2
    erasures = [Operation("erase", f"erase-{p.name}", p) for p in maker.leavers]
    operations[middle:middle] = erasures
    return Traffic(maker.people, [*operations, *maker.last_links()])


class _Maker:
    def __init__(self, chance: random.Random, now: datetime, count: int) -> None:
        self._chance = chance
        self._now = now
        self.members = [self._person("member", n) for n in range(max(8, count // _MEMBERS_PART))]
        self.shoppers = [self._person("shopper", n) for n in range(max(6, count // _SHOPPERS_PART))]
        self.leavers = [self._person("leaver", n) for n in range(max(3, count // _LEAVERS_PART))]
        self._makers = {
            self.lookup: 15,
            self.stitch: 20,
            self.purchase_told: 10,
            self.purchase_published: 10,
            self.purchase_decided: 15,
            self.offer: 10,
            self.cart: 8,
            self.of_a_leaver: 6,
            self.malformed: 3,
            self.invalid: 3,
        }

    @property
    def people(self) -> list[Person]:
        return [*self.members, *self.shoppers, *self.leavers]

    def operation(self, number: int) -> Operation:
        make = self._chance.choices(list(self._makers), list(self._makers.values()))[0]
        return make(f"soak-{number}")

    def last_links(self) -> list[Operation]:
        """Return what makes one person of all identifiers of each member."""
        return [
            Operation("stitch", f"last-{p.name}-{number}", p, self._both(p, device))
            for p in self.members
            for number, device in enumerate(p.devices)
        ]

    def lookup(self, request_id: str) -> Operation:
        person = self._chance.choice(self.members)
        body = self._both(person) if self._chance.random() < 0.5 else self._one(person)
        return Operation("lookup", request_id, person, body)

    def stitch(self, request_id: str) -> Operation:
        person = self._chance.choice(self.members)
        names = [None, "main", "main", "main", "flaky", "strict"]
        body = self._both(person) | {"context": {"of": request_id}}
        if callback := self._chance.choices(names, [6, 4, 4, 4, 4, 1])[0]:
            body["callback"] = callback
        return self._operation("stitch", request_id, person, body)

    def purchase_told(self, request_id: str) -> Operation:
        person = self._chance.choice(self.members)
        return self._operation("stitch", request_id, person, self._with_purchase(person))

    def purchase_published(self, request_id: str) -> Operation:
        person = self._chance.choice(self.members)
        body = self._with_purchase(person)
        named = body["identifiers"].items()
        body["identifiers"] = [{"type": type_, "value": value} for type_, value in named]
        return self._operation("publish", request_id, person, body)

    def purchase_decided(self, request_id: str) -> Operation:
        person = self._chance.choice([*self.members, *self.shoppers])
        identifiers = self._one(person)["identifiers"]
        event = identifiers | {"event_name": "purchase", "value": self._value(), "page": "/none"}
        return self._operation("decide", request_id, person, {"event": event})

    def offer(self, request_id: str) -> Operation:
        return self._decided(request_id, "select_promotion")

    def cart(self, request_id: str) -> Operation:
        return self._decided(request_id, "add_to_cart")

    def of_a_leaver(self, request_id: str) -> Operation:
        person = self._chance.choice(self.leavers)
        body = self._both(person)
        if self._chance.random() < 0.3:
            return Operation("lookup", request_id, person, body)
        if self._chance.random() < 0.5:
            body["callback"] = "main"
        return self._operation("stitch", request_id, person, body)

    def malformed(self, request_id: str) -> Operation:
        bodies: list[Mapping[str, Any]] = [
            {"identifiers": {"shoe_size": "43"}, "mode": "async"},
            {"identifiers": {}, "mode": "async"},
            {"identifiers": {"user_id": "u"}, "mode": "async", "callback": "nobody"},
        ]
        return Operation("malformed", request_id, None, self._chance.choice(bodies))

    def invalid(self, request_id: str) -> Operation:
        bodies: list[Mapping[str, Any]] = [
            {"identifiers": []},
            {"identifiers": [{"type": "shoe_size", "value": "43"}]},
            {"identifiers": [{"type": "user_id", "value": "u"}], "callback": "nobody"},
            {"identifiers": [{"type": "user_id", "value": "u"}], "v": 7},
        ]
        return Operation("invalid", request_id, None, self._chance.choice(bodies))

    def _operation(
        self, kind: Kind, request_id: str, person: Person, body: Mapping[str, Any]
    ) -> Operation:
        return Operation(kind, request_id, person, body, self._chance.random() < 0.05)

    def _decided(self, request_id: str, name: str) -> Operation:
        person = self._chance.choice(self.shoppers)
        event = self._one(person)["identifiers"] | {"event_name": name, "value": self._value()}
        return self._operation("decide", request_id, person, {"event": event})

    def _both(self, person: Person, device: str | None = None) -> dict[str, Any]:
        """Return a body with the login and a device."""
        device = device or self._chance.choice(person.devices)
        return {"identifiers": {"user_id": person.user_id, "client_id": device}}

    def _one(self, person: Person) -> dict[str, Any]:
        identifier = self._chance.choice(person.identifiers)
        return {"identifiers": {identifier.type: identifier.value}}

    def _with_purchase(self, person: Person) -> dict[str, Any]:
        at = self._now - timedelta(seconds=self._chance.uniform(0, _PAST.total_seconds()))
        event = {"event_name": "purchase", "value": self._value(), "page": at.isoformat()}
        body = self._both(person) if self._chance.random() < 0.5 else self._one(person)
        return body | {"event": event, "occurred_at": at.isoformat()}

    def _value(self) -> float:
        return self._chance.randrange(1, 400) / 4  # its sums are exact

    def _person(self, kind: Literal["member", "shopper", "leaver"], number: int) -> Person:
        count = {"member": self._chance.randint(1, 3), "shopper": 1, "leaver": 2}[kind]
        devices = tuple(
            f"{self._chance.randrange(10**9, 10**10)}.{number + 1}" for _ in range(count)
        )
        user_id = None if kind == "shopper" else f"{kind}-{number}"
        return Person(f"{kind}-{number}", kind, user_id, devices)


def sent(operation: Operation, now: datetime) -> bytes:
    """Return the body as it goes out at a time."""
    body = {**operation.body, "request_id": operation.request_id}
    if operation.callback == "strict":
        body["expires_at"] = (now + timedelta(seconds=_REFUSED_USE_S)).isoformat()
    if operation.kind == "stitch":
        body["mode"] = "async"
    if operation.kind in ("publish", "invalid"):
        body.setdefault("v", 1)
    if operation.kind == "lookup":
        body["deadline_ms"] = 1000
    if operation.kind == "decide":
        body["deadline_ms"] = 1000
    return json.dumps(body).encode()
