"""The setting of a project's identifiers: what it says, and what is wrong with it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tagstitch.core.identifier import (
    BROWSER_LIMIT,
    IDENTIFIER_TYPES,
    IdentifierLimit,
    IdentitySettings,
    QuarantineLimit,
)
from tagstitch.core.identity_settings import parse_identity_settings
from tagstitch.core.problems import Problems


def parsed(raw: Any) -> IdentitySettings:
    problems = Problems()
    settings = parse_identity_settings(raw, problems)
    assert problems.found == []
    return settings


def test_nothing_said_is_the_default() -> None:
    assert parsed({}) == IdentitySettings()


def test_settings_that_say_the_same_are_equal_and_have_one_hash() -> None:
    raw = {
        "blocked_patterns": ["^bot"],
        "limits": {"user_id": None},
        "merge_strategies": {"a": "max"},
    }

    assert parsed(raw) == parsed(raw)
    assert hash(parsed(raw)) == hash(parsed(raw))
    assert parsed(raw) != parsed(raw | {"blocked_patterns": ["^test"]})


def test_usual_types_that_are_not_named_follow_in_their_order() -> None:
    settings = parsed({"types": ["user_id", "loyalty_id", "client_id"]})

    assert settings.types == (
        "user_id", "loyalty_id", "client_id", "email_sha256", "phone_sha256", "device_id",
        "session_id", "anonymous_id",
    )  # fmt: skip
    assert set(IDENTIFIER_TYPES) < set(settings.types)


def test_a_limit_replaces_that_of_its_type_alone() -> None:
    settings = parsed({"limits": {"user_id": None, "client_id": {"values": 20, "days": 30}}})

    assert settings.limit("user_id") is None
    assert settings.limit("client_id") == IdentifierLimit(20, timedelta(days=30))
    assert settings.limit("email_sha256") == IdentitySettings().limit("email_sha256")
    assert settings.limit("device_id") == BROWSER_LIMIT


@pytest.mark.parametrize(
    ("raw", "limit"),
    [(None, None), ({"values": 3}, IdentifierLimit(3)), ({"values": 3, "days": None}, IdentifierLimit(3))],
)  # fmt: skip
def test_the_default_limit_can_be_changed_and_switched_off(
    raw: Any, limit: IdentifierLimit | None
) -> None:
    settings = parsed({"types": ["loyalty_id"], "default_limit": raw})

    assert settings.limit("loyalty_id") == limit


def test_the_quarantine_can_be_changed_and_switched_off() -> None:
    changed = parsed({"quarantine": {"profiles": 3, "within_hours": 2}})

    assert changed.quarantine == QuarantineLimit(3, timedelta(hours=2))
    assert parsed({"quarantine": None}).quarantine is None


@pytest.mark.parametrize(
    ("raw", "path", "hint"),
    [
        ({"typs": []}, "typs", "did you mean types?"),
        ({"types": ["UserID"]}, "types[0]", "lower-case letters, digits and underscores, such as loyalty_id"),
        ({"limits": {"clientid": None}}, "limits", "did you mean client_id?"),
        ({"limits": {"client_id": {"values": 5, "day": 7}}}, "limits.client_id.day", "did you mean days?"),
        ({"limits": {"client_id": 5}}, "limits.client_id", 'such as {"values": 5, "days": 7}, or null for no limit'),
        ({"default_limit": {"values": 99}}, "default_limit.values", None),
        ({"blocked_values": ["ok", ""]}, "blocked_values[1]", None),
        ({"blocked_values": [7, "a\u0007b"]}, "blocked_values[1]", None),
        ({"blocked_patterns": ["x", "(?=x)"]}, "blocked_patterns[1]", "RE2 syntax; no backreferences and no lookaround"),
        ({"blocked_patterns": ["(a|b)*"]}, "blocked_patterns[0]", "it would block everybody"),
        ({"merge_strategies": {"x": "sums"}}, "merge_strategies", "did you mean sum?"),
        ({"quarantine": {"profiles": 10}}, "quarantine.within_hours", None),
    ],
)  # fmt: skip
def test_what_is_wrong_has_its_place_and_a_hint(raw: Any, path: str, hint: str | None) -> None:
    problems = Problems()

    parse_identity_settings(raw, problems)

    assert (path, hint) in {(problem.path, problem.hint) for problem in problems.found}
    assert "a\u0007b" not in str(problems.found)
