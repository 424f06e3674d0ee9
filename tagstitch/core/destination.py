"""Destinations: the services that actions of rules are sent to, as data of the settings."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import structs

from tagstitch.core.callback import is_strong_secret
from tagstitch.core.destination_presets import PRESETS, Preset
from tagstitch.core.destination_template import fields_of, fill_constants
from tagstitch.core.limits import ACTION_TIMEOUT_S_MAX, CALLBACK_DEADLINE_S
from tagstitch.core.outbox_entry import OutboxType
from tagstitch.core.problems import Problems

DestinationType = Literal["email", "crm", "webhook", "push"]
Method = Literal["POST", "PUT", "PATCH"]

TYPE_OF_ACTION: Final[Mapping[OutboxType, DestinationType]] = {
    "send_email": "email",
    "update_crm": "crm",
    "webhook": "webhook",
    "push_message": "push",
}

_COMMON: Final = (
    "idempotency_key", "rule_id", "decision_id", "event_name", "decided_at", "sent_at",
)  # fmt: skip

FIELDS: Final[Mapping[DestinationType, tuple[str, ...]]] = {
    "email": (*_COMMON, "template_id", "recipient", "data"),
    "crm": (*_COMMON, "object", "external_id", "fields"),
    "webhook": (*_COMMON, "endpoint", "body"),
    "push": (*_COMMON, "channel", "payload", "visitor"),
}
"""What the templates of a destination can take: values of the action, and what says who it is."""

_DEFAULT_BODY: Final[Mapping[DestinationType, tuple[str, ...]]] = {
    "email": ("template_id", "recipient", "data"),
    "crm": ("object", "external_id", "fields"),
    "webhook": ("body",),
    "push": ("channel", "payload", "visitor"),
}

_HEADER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]{0,1024}")
_OUR_HEADERS: Final = frozenset(
    {
        "accept-encoding", "authorization", "connection", "content-encoding", "content-length",
        "content-type", "cookie", "expect", "host", "keep-alive", "metadata-flavor", "te",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Headers that `auth` sets, that would make another request of it, or that open the metadata server
of a cloud (https://cloud.google.com/compute/docs/metadata/querying-metadata)."""


class BearerAuth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="bearer"):  # fmt: skip
    """`Authorization: Bearer` and a token that never changes, such as an API key."""

    token: str


class BasicAuth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="basic"):  # fmt: skip
    """`Authorization: Basic` (RFC 7617)."""

    username: str
    password: str


class HeaderAuth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="header"):  # fmt: skip
    """A header of its own, such as `X-Api-Key`."""

    name: str
    value: str


class OAuth2Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="oauth2"):  # fmt: skip
    """A token of an authorization server: client credentials, or a refresh token (RFC 6749)."""

    token_url: str
    client_id: str
    client_secret: str
    refresh_token: str | None = None
    scope: str | None = None


class SignatureAuth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="signature"):  # fmt: skip
    """Standard Webhooks: the receiver checks the signature, and tells repetitions by `webhook-id`."""

    secret: str
    """`whsec_` + base64; during a rotation two, separated by a space, the new one first."""


Auth = BearerAuth | BasicAuth | HeaderAuth | OAuth2Auth | SignatureAuth


class Destination(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One registered service; `complete_destination` fills in what its preset says."""

    id: str
    type: DestinationType
    preset: str | None = None
    url: str | None = None
    method: Method | None = None
    headers: dict[str, str] = {}
    auth: Auth | None = None
    body: Any = None
    """A JSON template; `${name}` stands for a value of `FIELDS`."""
    values: dict[str, str] = {}
    """Constants for the templates, such as a sender's address."""
    serves: frozenset[str] | None = None
    """The templates, objects or channels that it is for; None for all that no other one serves."""
    success: frozenset[int] | None = None
    """The statuses that say it has arrived; None for every 2xx."""
    idempotency_header: str | None = None
    """Where the provider takes an idempotency key."""
    repeatable: bool | None = None
    """Whether an action whose outcome is unknown may be sent again: the provider tells repetitions,
    or a second one changes nothing."""
    timeout_s: float = CALLBACK_DEADLINE_S
    allow_private: bool = False
    """Exempts this host and port from the address guard; for local work only."""

    def __hash__(self) -> int:
        """Return the id's hash: settings that hold destinations are the key of a backend."""
        return hash(self.id)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What signs its requests, the current one first; empty without a signature."""
        return tuple(self.auth.secret.split()) if isinstance(self.auth, SignatureAuth) else ()


def complete_destination(written: Destination, problems: Problems) -> Destination:
    """Return the destination as it is used; what is wrong with it is noted."""
    preset = _preset(written, problems)
    url = written.url or (preset.url if preset else "")
    body = written.body if written.body is not None else (preset.body if preset else None)
    constants = dict(written.values)
    if preset is not None:
        constants = {**preset.values, **constants}
    completed = structs.replace(
        written,
        url=fill_constants(url, constants),
        method=written.method or (preset.method if preset else "POST"),
        body=fill_constants(default_body(written.type) if body is None else body, constants),
        auth=_filled_auth(written.auth, constants),
        success=written.success or (preset.success if preset else None),
        repeatable=_is_repeatable(written, preset),
    )
    _check(completed, problems)
    return completed


def default_body(type_: DestinationType) -> dict[str, Any]:
    """Return the template of a destination that has none: the form of Standard Webhooks."""
    named = {name: "${" + name + "}" for name in ("rule_id", "event_name", *_DEFAULT_BODY[type_])}
    return {"type": f"action.{type_}", "timestamp": "${sent_at}", "data": named}


def _preset(written: Destination, problems: Problems) -> Preset | None:
    if written.preset is None:
        return None
    preset = PRESETS.get(written.preset)
    if preset is None:
        problems.add_unknown("preset", "preset", written.preset, PRESETS)
        return None
    if preset.type != written.type:
        problems.add("preset", f"is for destinations of type {preset.type}")
    return preset


def _filled_auth(auth: Auth | None, constants: Mapping[str, str]) -> Auth | None:
    if isinstance(auth, OAuth2Auth):
        return structs.replace(auth, token_url=fill_constants(auth.token_url, constants))
    return auth


def _is_repeatable(written: Destination, preset: Preset | None) -> bool:
    if written.repeatable is not None:
        return written.repeatable
    if preset is not None and preset.repeatable:
        return True
    is_told = written.idempotency_header is not None or isinstance(written.auth, SignatureAuth)
    return is_told or written.method == "PUT"


def _check(destination: Destination, problems: Problems) -> None:
    _check_url(destination.url or "", "url", destination, problems)
    _check_auth(destination, problems)
    _check_fields(destination, problems)
    for name, value in destination.headers.items():
        _check_header(name, value, "headers", problems)
    if destination.idempotency_header is not None:
        _check_header(destination.idempotency_header, "", "idempotency_header", problems)
    if not 0 < destination.timeout_s <= ACTION_TIMEOUT_S_MAX:
        problems.add("timeout_s", f"must be above 0 and at most {ACTION_TIMEOUT_S_MAX:g} seconds")
    if destination.serves is not None and destination.type == "webhook":
        problems.add("serves", "rules name a webhook by its id", "leave it out")


def _check_url(url: str, place: str, destination: Destination, problems: Problems) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        problems.add(place, "is no URL")
        return
    if any(fields_of(parts.scheme + parts.netloc)):
        hint = "values gives constants; a host that a rule or a profile names could be anybody's"
        problems.add(place, "its host must be known at the start", hint)
    elif parts.scheme != "https" and not (destination.allow_private and parts.scheme == "http"):
        problems.add(place, "must start with https://")
    elif not host or "@" in parts.netloc:
        problems.add(place, "needs a host, and no user in front of it", "auth holds credentials")


def _check_auth(destination: Destination, problems: Problems) -> None:
    auth = destination.auth
    if auth is None:
        if not destination.allow_private:
            hint = "bearer, basic, header, oauth2 or signature"
            problems.add("auth", "a destination needs one", hint)
        return
    if isinstance(auth, SignatureAuth):
        if not auth.secret.split() or not all(map(is_strong_secret, auth.secret.split())):
            problems.add("auth.secret", "must be whsec_ and the base64 of at least 24 random bytes")
        return
    if isinstance(auth, OAuth2Auth):
        _check_url(auth.token_url, "auth.token_url", destination, problems)
        if any(fields_of(auth.token_url)):
            problems.add("auth.token_url", "takes constants of values only")
    if isinstance(auth, HeaderAuth):
        _check_header(auth.name, auth.value, "auth", problems)
    for field in structs.fields(auth):
        value = getattr(auth, field.name)
        if value == "" or (value is not None and not _HEADER_VALUE.fullmatch(value)):
            problems.add(f"auth.{field.name}", "must be 1 to 1024 printable ASCII characters")


def _check_header(name: str, value: str, place: str, problems: Problems) -> None:
    if not _HEADER.fullmatch(name) or name.lower() in _OUR_HEADERS:
        problems.add(place, "names a header that cannot be set", "auth and body set their own")
    elif not _HEADER_VALUE.fullmatch(value):
        problems.add(place, "has a value that is not printable ASCII")


def _check_fields(destination: Destination, problems: Problems) -> None:
    known: Collection[str] = FIELDS[destination.type]
    for place, template in (("url", destination.url), ("body", destination.body)):
        for field in fields_of(template):
            if field not in known:
                problems.add(place, f"${{{field}}} has no value", f"values gives one, or: {', '.join(known)}")  # fmt: skip


def conflicts(destinations: Collection[Destination], problems: Problems) -> None:
    """Note two destinations of one id, and two that serve the same."""
    seen: set[tuple[str, str]] = set()
    for destination in destinations:
        names = [("id", destination.id)]
        if destination.type != "webhook":
            served = destination.serves if destination.serves is not None else {""}
            names += [(destination.type, name) for name in sorted(served)]
        for name in names:
            if name in seen:
                hint = "serves lists the templates, objects or channels of each"
                problems.add(destination.id, "another destination has its id or serves the same", hint)  # fmt: skip
            seen.add(name)


def choose_destination(
    destinations: Collection[Destination], action: OutboxType, fields: Mapping[str, Any]
) -> Destination | None:
    """Return the destination of an action: the one its rule names, or the one that serves it."""
    type_ = TYPE_OF_ACTION[action]
    candidates = [one for one in destinations if one.type == type_]
    if type_ == "webhook":
        return next((one for one in candidates if one.id == fields.get("endpoint")), None)
    named = fields.get({"email": "template_id", "crm": "object", "push": "channel"}[type_])
    for one in candidates:
        if one.serves is not None and named in one.serves:
            return one
    return next((one for one in candidates if one.serves is None), None)
