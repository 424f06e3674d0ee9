"""What a project declares about its identifiers, read from one JSON object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar, get_args

from tagstitch.core.blocked_values import bare_value
from tagstitch.core.definition import Definition
from tagstitch.core.errors import InvalidInput
from tagstitch.core.identifier import (
    IDENTIFIER_LIMITS,
    IDENTIFIER_TYPES,
    TYPE_PATTERN,
    IdentifierLimit,
    IdentitySettings,
    MergeStrategy,
    QuarantineLimit,
    make_identifier,
)
from tagstitch.core.identity_limits import (
    BLOCKED_PATTERNS_MAX,
    BLOCKED_VALUES_MAX,
    IDENTIFIER_LIMIT_DAYS_MAX,
    IDENTIFIER_TYPES_MAX,
    LINK_LOG_DAYS_MAX,
    LINK_LOG_DAYS_MIN,
    QUARANTINE_HOURS_MAX,
    QUARANTINE_PROFILES_MAX,
    QUARANTINE_PROFILES_MIN,
)
from tagstitch.core.limits import (
    CONDITION_REGEX_CHARS_MAX,
    FIELD_NAME_BYTES_MAX,
    IDENTIFIER_VALUE_CHARS_MAX,
    IDENTIFIERS_PER_PROFILE_MAX,
)
from tagstitch.core.lookup import QUERY_FIELDS
from tagstitch.core.patterns import PatternSet, compile_pattern
from tagstitch.core.problems import Problems

MERGE_STRATEGIES: Final = get_args(MergeStrategy)

_FORMS: Final = ("user_id", "email_sha256", "phone_sha256")
"""Types whose normal forms a value can have: its own, and two hashes."""

_TYPE_HINT: Final = "lower-case letters, digits and underscores, such as loyalty_id"
_LIMIT_HINT: Final = 'such as {"values": 5, "days": 7}, or null for no limit'
_PATTERN_HINT: Final = "RE2 syntax; no backreferences and no lookaround"

T = TypeVar("T")


def parse_identity_settings(raw: object, problems: Problems) -> IdentitySettings:
    """Return the settings; what is wrong is noted, and then the result is of no use."""
    if not isinstance(raw, Mapping):
        problems.add("", "must be an object", 'such as {"types": ["user_id", "loyalty_id"]}')
        return IdentitySettings()
    definition = Definition(raw, "", problems)
    default = IdentitySettings()
    types = definition.take_with(_types, "types", default.types)
    settings = IdentitySettings(
        types=types,
        limits=definition.take_with(partial(_limits, types), "limits", default.limits),
        default_limit=_nullable(raw, definition, "default_limit", _limit, default.default_limit),
        blocked_values=definition.take_with(_blocked_values, "blocked_values", frozenset()),
        blocked_patterns=definition.take_with(_blocked_patterns, "blocked_patterns", None),
        merge_strategies=definition.take_with(_strategies, "merge_strategies", {}),
        quarantine=_nullable(raw, definition, "quarantine", _quarantine, default.quarantine),
        link_log_days=definition.take_with(
            _whole(LINK_LOG_DAYS_MIN, LINK_LOG_DAYS_MAX), "link_log_days", default.link_log_days
        ),
    )
    definition.refuse_rest()
    return settings


def _nullable(
    raw: Mapping[Any, Any],
    definition: Definition,
    key: str,
    check: Callable[[Any, str, Problems], T | None],
    default: T | None,
) -> T | None:
    """Return the value, None where null switches it off, the default where it is absent."""
    is_off = key in raw and raw[key] is None
    return definition.take_with(check, key, None if is_off else default)


def _types(raw: Any, where: str, problems: Problems) -> tuple[str, ...]:
    """Return the types in their order; the usual ones that are not named follow in theirs."""
    named: list[str] = []
    for place, name in _texts(raw, where, problems, entries_max=IDENTIFIER_TYPES_MAX):
        if not TYPE_PATTERN.fullmatch(name):
            problems.add(place, "not an identifier type", _TYPE_HINT)
        elif name in QUERY_FIELDS:
            problems.add(place, "means something else in a lookup", "another name, such as my_id")
        elif name in named:
            problems.add(place, "stands there twice")
        named.append(name)
    return tuple(dict.fromkeys((*named, *IDENTIFIER_TYPES)))


def _limits(
    types: tuple[str, ...], raw: Any, where: str, problems: Problems
) -> Mapping[str, IdentifierLimit | None]:
    if not isinstance(raw, Mapping):
        problems.add(where, "must be an object", "a type and its limit: " + _LIMIT_HINT)
        return IDENTIFIER_LIMITS
    found: dict[str, IdentifierLimit | None] = dict(IDENTIFIER_LIMITS)
    for type_, limit in raw.items():
        if type_ not in types:
            problems.add_unknown(where, "identifier type", type_, types)
        else:
            place = f"{where}.{type_}"
            found[type_] = None if limit is None else _limit(limit, place, problems)
    return found


def _limit(raw: Any, where: str, problems: Problems) -> IdentifierLimit | None:
    if not isinstance(raw, Mapping):
        problems.add(where, "must be an object", _LIMIT_HINT)
        return None
    definition = Definition(raw, where, problems)
    values = definition.require_with(_whole(1, IDENTIFIERS_PER_PROFILE_MAX), "values", 1)
    days = definition.take_with(_whole(1, IDENTIFIER_LIMIT_DAYS_MAX), "days", 0)
    definition.refuse_rest()
    return IdentifierLimit(values, timedelta(days=days) if days else None)


def _quarantine(raw: Any, where: str, problems: Problems) -> QuarantineLimit | None:
    if not isinstance(raw, Mapping):
        hint = 'such as {"profiles": 10, "within_hours": 24}, or null to hold nothing'
        problems.add(where, "must be an object", hint)
        return None
    definition = Definition(raw, where, problems)
    count = _whole(QUARANTINE_PROFILES_MIN, QUARANTINE_PROFILES_MAX)
    profiles = definition.require_with(count, "profiles", QUARANTINE_PROFILES_MAX)
    hours = definition.require_with(_whole(1, QUARANTINE_HOURS_MAX), "within_hours", 1)
    definition.refuse_rest()
    return QuarantineLimit(profiles, timedelta(hours=hours))


def _blocked_values(raw: Any, where: str, problems: Problems) -> frozenset[str]:
    """Return the values as they are compared, addresses and numbers by their hashes besides."""
    found: set[str] = set()
    chars_max = IDENTIFIER_VALUE_CHARS_MAX
    entries = _texts(raw, where, problems, entries_max=BLOCKED_VALUES_MAX, chars_max=chars_max)
    for place, value in entries:
        try:
            forms = [make_identifier(type_, value, path=place).value for type_ in _FORMS]
        except InvalidInput as error:
            problems.add(place, error.message)
        else:
            found.update(map(bare_value, forms))
    return frozenset(found)


def _blocked_patterns(raw: Any, where: str, problems: Problems) -> PatternSet | None:
    usable = []
    chars_max = CONDITION_REGEX_CHARS_MAX
    entries = _texts(raw, where, problems, entries_max=BLOCKED_PATTERNS_MAX, chars_max=chars_max)
    for place, expression in entries:
        pattern = compile_pattern(expression)
        if pattern is None:
            problems.add(place, "not a regular expression that can be run", _PATTERN_HINT)
        elif pattern.search(""):
            problems.add(place, "found in an empty text", "it would block everybody")
        else:
            usable.append(expression)
    return PatternSet(usable) if usable else None


def _strategies(raw: Any, where: str, problems: Problems) -> Mapping[str, MergeStrategy]:
    if not isinstance(raw, Mapping):
        problems.add(where, "must be an object", 'such as {"lifetime_value": "sum"}')
        return {}
    found: dict[str, MergeStrategy] = {}
    for attribute, strategy in raw.items():
        if not attribute or len(attribute.encode()) > FIELD_NAME_BYTES_MAX:
            problems.add(where, "a name that no attribute can have")
        elif strategy not in MERGE_STRATEGIES:
            problems.add_unknown(where, "merge strategy", strategy, MERGE_STRATEGIES)
        else:
            found[attribute] = strategy
    return found


def _texts(
    raw: Any, where: str, problems: Problems, *, entries_max: int, chars_max: int | None = None
) -> Iterator[tuple[str, str]]:
    """Yield the texts of a list with their places; what is none is noted."""
    if not isinstance(raw, list):
        problems.add(where, "must be a list")
        return
    if len(raw) > entries_max:
        problems.add(where, f"more than {entries_max} entries")
        return
    for index, entry in enumerate(raw):
        place = f"{where}[{index}]"
        if not isinstance(entry, str) or not entry:
            problems.add(place, "must be text")
        elif chars_max is not None and len(entry) > chars_max:
            problems.add(place, f"longer than {chars_max} characters")
        else:
            yield place, entry


def _whole(low: int, high: int) -> Callable[[Any, str, Problems], int]:
    def check(raw: Any, where: str, problems: Problems) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int) or not low <= raw <= high:
            problems.add(where, f"must be a whole number from {low} to {high}")
            return low
        return raw

    return check
