"""Identifiers: (type, value) pairs that recognise a visitor, their normal form and their order."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from tagstitch.core.blocked_values import (
    bare_value,
    is_address,
    is_placeholder_client_id,
    is_shared,
)
from tagstitch.core.errors import InvalidInput, json_path
from tagstitch.core.identity_limits import LINK_LOG_DAYS
from tagstitch.core.limits import IDENTIFIER_VALUE_CHARS_MAX, IDENTIFIERS_PER_REQUEST_MAX

if TYPE_CHECKING:
    from tagstitch.core.patterns import PatternSet

IDENTIFIER_TYPES: Final = (
    "user_id",
    "email_sha256",
    "phone_sha256",
    "client_id",
    "device_id",
    "session_id",
    "anonymous_id",
)
"""The declared types in priority order, the strongest first."""

TYPE_PATTERN: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_CONTROL_CHARACTER: Final = re.compile(r"[\x00-\x1f\x7f]")
_NO_DIGIT: Final = re.compile(r"\D")
_SHA256_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")

MergeStrategy = Literal[
    "newest", "oldest", "first_non_empty", "sum", "max", "min", "union", "keep_target"
]
"""How an attribute that several profiles have is decided when they are merged."""


@dataclass(frozen=True, slots=True, order=True)
class Identifier:
    """One (type, value) pair in its normal form; equal values of two types are two identifiers."""

    type: str
    value: str


@dataclass(frozen=True, slots=True)
class IdentifierLimit:
    """How many values of one type a profile may have."""

    values_max: int
    within: timedelta | None = None
    """Only values that were linked within so long of the event count; None counts all."""


_PER_YEAR: Final = IdentifierLimit(5, timedelta(days=365))
_PER_WEEK: Final = IdentifierLimit(5, timedelta(days=7))

IDENTIFIER_LIMITS: Final[Mapping[str, IdentifierLimit]] = MappingProxyType(
    {
        "user_id": IdentifierLimit(1),
        "email_sha256": _PER_YEAR,
        "phone_sha256": _PER_YEAR,
    }
)
"""Beyond these a profile is more likely several people than one."""

BROWSER_LIMIT: Final = _PER_WEEK
"""Of every other type: browsers forget their ids, some every week, and people have several."""


@dataclass(frozen=True, slots=True)
class QuarantineLimit:
    """How many profiles one identifier may lead to before it is held."""

    profiles_max: int
    within: timedelta
    """Only meetings of events that lie so close together count."""


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """What a project declares about its identifiers."""

    types: tuple[str, ...] = IDENTIFIER_TYPES
    """Declared types in priority order, the strongest first."""
    blocked_values: frozenset[str] = frozenset()
    """Values, besides the built-in ones, that never recognise anybody, as `bare_value` has them."""
    blocked_patterns: PatternSet | None = None
    """Expressions; a value in which one of them is found never recognises anybody."""
    limits: Mapping[str, IdentifierLimit | None] = field(
        default_factory=lambda: IDENTIFIER_LIMITS, hash=False
    )
    """Type -> how many values of it a profile may have; None for no limit."""
    default_limit: IdentifierLimit | None = BROWSER_LIMIT
    """Of the types that `limits` does not name."""

    merge_strategies: Mapping[str, MergeStrategy] = field(default_factory=dict, hash=False)
    """Attribute -> how a merge decides it; the newest otherwise."""
    quarantine: QuarantineLimit | None = QuarantineLimit(10, timedelta(days=1))
    """What no identifier may exceed without being held; None holds none."""
    link_log_days: int = LINK_LOG_DAYS
    """For how long a merge can be undone, and told of."""

    def limit(self, type_: str) -> IdentifierLimit | None:
        """Return how many values of a type a profile may have, or None."""
        return self.limits.get(type_, self.default_limit)

    def priority(self, identifier: Identifier) -> tuple[int, str]:
        """Return a sort key: declared order of the type, then the value so that it is total."""
        try:
            return (self.types.index(identifier.type), identifier.value)
        except ValueError:
            return (len(self.types), identifier.value)

    def is_blocked(self, identifier: Identifier) -> bool:
        """Return whether the value is one that many visitors share by accident.

        Such values come from unset variables and failed templates, or the project names them.
        """
        value = identifier.value
        if is_shared(value) or (identifier.type == "client_id" and is_placeholder_client_id(value)):
            return True
        if identifier.type == "email_sha256" and "@" in value and not is_address(value):
            return True
        if self.blocked_values and bare_value(value) in self.blocked_values:
            return True
        return self.blocked_patterns is not None and self.blocked_patterns.matches(value)


def make_identifier(type_: str, value: object, *, path: str) -> Identifier:
    """Return the identifier in its normal form.

    Raises InvalidInput for a malformed type, a value that is neither text nor an integer,
    one that is too long, or one with control characters.
    """
    if not TYPE_PATTERN.fullmatch(type_):
        raise InvalidInput(
            "invalid_field", "not an identifier type", "identifiers",
            "a type is lower-case letters, digits and underscores, such as client_id",
        )  # fmt: skip
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidInput("invalid_field", "an identifier's value must be text", path)
    text = _composed(str(value).strip(), path)
    if _CONTROL_CHARACTER.search(text):
        raise InvalidInput("invalid_unicode", "control characters in an identifier", path)
    if is_shared(text):
        return Identifier(type_, text)  # its hash would hide from is_blocked what it is
    if type_ == "email_sha256" and (is_address(text) or _is_hash(text)):
        text = hash_email(text)
    elif type_ == "phone_sha256" and sum(map(str.isdigit, text)) >= 6:
        digits = _NO_DIGIT.sub("", text)  # (000) 000-0000 does not look like zeros as it is sent
        text = digits if is_shared(digits) and not _is_hash(text) else hash_phone(text)
    return Identifier(type_, text)  # neither an address nor a hash: left for is_blocked to see


def parse_identifiers(raw: object, settings: IdentitySettings) -> tuple[Identifier, ...]:
    """Return the identifiers of a `{type: value}` mapping or a `[{type, value}]` list.

    The result has no duplicates and is in priority order. Types that are not declared raise.
    """
    found = []
    for type_, value, path in _identifier_entries(raw):
        if type_ not in settings.types:
            raise InvalidInput(
                "invalid_field", "an identifier type that is not declared", path,
                "declared types: " + ", ".join(settings.types),
            )  # fmt: skip
        found.append(make_identifier(type_, value, path=path))
    if len(found) > IDENTIFIERS_PER_REQUEST_MAX:
        raise InvalidInput(
            "invalid_field", f"more than {IDENTIFIERS_PER_REQUEST_MAX} identifiers", "identifiers"
        )
    return in_priority_order(found, settings)


def bare_identifiers(bare_id: str, settings: IdentitySettings) -> tuple[Identifier, ...]:
    """Return what an id of unknown type may be: one identifier a type, each in its normal form.

    None of them means that the value is blocked: many visitors share it, whatever its type.
    """
    found = []
    for type_ in settings.types:
        if settings.is_blocked(Identifier(type_, bare_id)):
            continue  # looked at as it was sent: a hash of zeros does not look like zeros
        try:
            identifier = make_identifier(type_, bare_id, path="id")
        except InvalidInput:
            continue
        if not settings.is_blocked(identifier):
            found.append(identifier)
    return tuple(found)


def in_priority_order(
    identifiers: Iterable[Identifier], settings: IdentitySettings
) -> tuple[Identifier, ...]:
    """Return the identifiers without duplicates, the strongest type first."""
    return tuple(sorted(set(identifiers), key=settings.priority))


def hash_email(address_or_hash: str) -> str:
    """Return the SHA-256 (lower-case hex) of a normalised e-mail address; keep a ready hash.

    Dots before the @ do not count at gmail.com and googlemail.com
    (https://developers.google.com/analytics/devguides/collection/ga4/uid-data).
    """
    text = address_or_hash.strip().lower()
    if _is_hash(text):
        return text
    name, at, domain = text.partition("@")
    if at and domain in ("gmail.com", "googlemail.com"):
        text = name.replace(".", "") + "@" + domain
    return hashlib.sha256(text.encode()).hexdigest()


def hash_phone(number_or_hash: str) -> str:
    """Return the SHA-256 (lower-case hex) of a number as E.164 (digits, leading +)."""
    text = number_or_hash.strip()
    if _is_hash(text):
        return text.lower()
    return hashlib.sha256(("+" + _NO_DIGIT.sub("", text)).encode()).hexdigest()


def _is_hash(text: str) -> bool:
    return _SHA256_HEX.fullmatch(text) is not None


def _composed(text: str, path: str) -> str:
    """Return the NFC; raises InvalidInput for text that is too long, as it is sent or composed.

    Long text is refused first: Python sorts a run of combining marks in quadratic time, and one
    value of 100 kB from a browser would stop a process for minutes.
    """
    if len(text) <= IDENTIFIER_VALUE_CHARS_MAX:
        text = unicodedata.normalize("NFC", text)  # may be longer: some letters come apart
    if len(text) > IDENTIFIER_VALUE_CHARS_MAX:
        raise InvalidInput(
            "invalid_field", f"longer than {IDENTIFIER_VALUE_CHARS_MAX} characters", path
        )
    return text


def _identifier_entries(raw: object) -> Iterable[tuple[str, Any, str]]:
    if isinstance(raw, Mapping):
        for type_, value in raw.items():
            yield str(type_), value, json_path("identifiers", str(type_))
    elif isinstance(raw, list):
        for index, entry in enumerate(raw):
            path = f"identifiers[{index}]"
            if not isinstance(entry, Mapping) or not isinstance(entry.get("type"), str):
                raise InvalidInput("invalid_field", "an identifier needs a type and a value", path)
            yield entry["type"], entry.get("value"), f"{path}.value"
    else:
        raise InvalidInput(
            "invalid_field", "identifiers must be an object or a list", "identifiers",
            'for example {"client_id": "…"}',
        )  # fmt: skip
