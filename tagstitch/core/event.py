"""Events as sGTM's getAllEventData() gives them; the only place where raw events become typed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from tagstitch.core.errors import InvalidInput
from tagstitch.core.identifier import (
    Identifier,
    IdentitySettings,
    in_priority_order,
    make_identifier,
)
from tagstitch.core.limits import (
    CLOCK_SKEW_S,
    EVENT_PARAMETERS_MAX,
    IDENTIFIERS_PER_REQUEST_MAX,
)
from tagstitch.core.values import is_object

EVENT_NAME_CHARS_MAX = 256

UNASSERTED_TYPES: Final = frozenset({"client_id"})
"""What a browser's hit may select and link by without anybody vouching for it."""

ANONYMOUS_TYPES: Final = frozenset({"client_id", "device_id", "session_id", "anonymous_id"})
"""What a lookup may select by without anybody vouching for it: ids that browsers and devices draw
at random. A user id, an address or a number can be guessed, and would show somebody else."""

_VALUES_PER_FIELD_MAX: Final = 5
"""Addresses or numbers of one event that count: each is hashed and costs document reads."""

_HASHED_EMAIL_FIELDS = ("sha256_email_address", "email", "email_address")
_HASHED_PHONE_FIELDS = ("sha256_phone_number", "phone_number", "phone")


class Event(msgspec.Struct, frozen=True):
    """One event; its parameters stay a mapping, because they are the user's own words."""

    name: str
    parameters: Mapping[str, Any]
    """Everything that arrived, `event_name` included. Never changed in place."""


def parse_event(raw: object, *, path: str = "") -> Event:
    """Return the typed event; raises InvalidInput when it has no usable `event_name`."""
    if not is_object(raw):
        raise InvalidInput(
            "invalid_field", "an event must be an object", path or None,
            'send {"event_name": "purchase", …}',
        )  # fmt: skip
    name = raw.get("event_name")
    if not isinstance(name, str) or not 0 < len(name) <= EVENT_NAME_CHARS_MAX:
        where = f"{path}.event_name" if path else "event_name"
        if name is None:
            raise InvalidInput("missing_field", "an event needs its name", where)
        raise InvalidInput(
            "invalid_field", f"must be text of 1 to {EVENT_NAME_CHARS_MAX} characters", where
        )
    if len(raw) > EVENT_PARAMETERS_MAX:
        raise InvalidInput(
            "invalid_field", f"more than {EVENT_PARAMETERS_MAX} parameters", path or None
        )
    return Event(name, raw)


class EventIdentity(NamedTuple):
    """Who an event says that its visitor is."""

    usable: tuple[Identifier, ...]
    """What may select, link and merge a profile, in priority order."""
    blocked_types: tuple[str, ...]
    """The types of what many visitors share, in the same order."""


def event_identity(event: Event, settings: IdentitySettings, *, asserted: bool) -> EventIdentity:
    """Return the identifiers of an event that may count.

    Anybody can forge what a browser sends: only a caller with the scope `assert` vouches for
    user_id, e-mail, phone, `_resolved.*` and `x-ga-js_client_id`; without it the `client_id` alone
    counts. Values that cannot be identifiers (wrong type, too long) are left out: an event must
    not fail for them.
    """
    found = _named(event, settings, asserted=asserted)
    blocked = {identifier for identifier in found if settings.is_blocked(identifier)}
    usable = in_priority_order(found - blocked, settings)[:IDENTIFIERS_PER_REQUEST_MAX]
    return EventIdentity(
        usable,
        tuple(identifier.type for identifier in in_priority_order(blocked, settings))
        if blocked
        else (),
    )


def identify_event(
    event: Event, settings: IdentitySettings, *, asserted: bool
) -> tuple[Identifier, ...]:
    """Return the identifiers that may select, link and merge a profile, in priority order."""
    return event_identity(event, settings, asserted=asserted).usable


def named_identifiers(event: Event, settings: IdentitySettings) -> tuple[Identifier, ...]:
    """Return whatever an event that somebody vouches for names, also what is blocked."""
    found = _named(event, settings, asserted=True)
    return in_priority_order(found, settings)[:IDENTIFIERS_PER_REQUEST_MAX]


def _named(event: Event, settings: IdentitySettings, *, asserted: bool) -> set[Identifier]:
    found = set(_client_ids(event.parameters))
    if asserted:
        found.update(_other_ids(event.parameters, settings))
    return found


def event_time(event: Event, *, received_at: datetime) -> datetime:
    """Return when the event happened; a future time is cut to receipt plus five minutes."""
    system = event.parameters.get("x-sst-system_properties")
    candidates = (
        event.parameters.get("event_timestamp_ms"),
        system.get("request_start_time_ms") if isinstance(system, Mapping) else None,
    )
    for milliseconds in candidates:
        if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
            continue
        if 0 < milliseconds < 1e14:
            happened = datetime.fromtimestamp(milliseconds / 1000, UTC)
            return min(happened, received_at + timedelta(seconds=CLOCK_SKEW_S))
    return received_at


def _client_ids(parameters: Mapping[str, Any]) -> Iterator[Identifier]:
    metadata = parameters.get("_event_metadata")
    value = parameters.get("client_id")
    if value is None and isinstance(metadata, Mapping):
        value = metadata.get("client_id")
    yield from _usable("client_id", value)


def _other_ids(parameters: Mapping[str, Any], settings: IdentitySettings) -> Iterator[Identifier]:
    resolved = parameters.get("_resolved")
    resolved = resolved if isinstance(resolved, Mapping) else {}
    for type_ in settings.types:
        if type_ == "client_id":
            yield from _usable(type_, parameters.get("x-ga-js_client_id"))
        else:
            yield from _usable(type_, parameters.get(type_))
        yield from _usable(type_, resolved.get(type_, parameters.get(f"_resolved.{type_}")))
    user_data = parameters.get("user_data")
    if isinstance(user_data, Mapping):
        for value in _leaves(user_data, _HASHED_EMAIL_FIELDS):
            yield from _usable("email_sha256", value)
        for value in _leaves(user_data, _HASHED_PHONE_FIELDS):
            yield from _usable("phone_sha256", value)


def _leaves(user_data: Mapping[str, Any], fields: tuple[str, ...]) -> Iterator[Any]:
    """Yield the values of the first filled field: a string, a list of them, or an object."""
    for field in fields:
        value = user_data.get(field)
        if isinstance(value, Mapping):
            value = list(value.values())
        values = value if isinstance(value, list) else [value]
        filled = (v for v in values if isinstance(v, str) and v.strip())
        if few := list(islice(filled, _VALUES_PER_FIELD_MAX)):
            yield from few
            return


def _usable(type_: str, value: object) -> Iterator[Identifier]:
    if value is None or isinstance(value, bool) or not isinstance(value, str | int):
        return
    try:
        yield make_identifier(type_, value, path=type_)
    except InvalidInput:
        return  # the event still passes; it is only not recognised by this value
