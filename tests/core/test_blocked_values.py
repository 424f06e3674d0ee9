"""Values that many visitors share: whatever they are wrapped in, they recognise nobody."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest

from tagstitch.core.blocked_values import bare_value
from tagstitch.core.identifier import Identifier, IdentitySettings, make_identifier
from tagstitch.core.identity_settings import parse_identity_settings
from tagstitch.core.problems import Problems

WORDS = (
    "", "null", "none", "nil", "undefined", "nan", "true", "false", "anonymous", "guest", "id",
    "distinct_id", "not_authenticated", "email", "[object Object]", "(not set)", "(none)", "-1",
    "0", "000000", "0000-0000", "00000000-0000-0000-0000-000000000000", "-", "--", "0.0",
    "aaaaaa", "abababab", "111112", "AaAaAa",
    "{{client_id}}", "{{ User ID }}", "${user_id}", "<user_id>", "%USER_ID%", "{user_id}",
    "[CLIENT_ID]", "%%user_id%%", "id={{x}}",
)  # fmt: skip

WRAPPINGS = (
    "{}", " {} ", '"{}"', "'{}'", "\t{}\u00a0", '" {} "', "' \"{}\" '", '\\"{}\\"', "“{}”",
    "\ufeff{}", "\u200b{}\u200b",
)  # fmt: skip

EVERYBODYS_CLIENT_IDS = (
    "0.0", "GA1.1.0.0", "GA1.2.1.1", "ga1.1.555", "555", "555.1", "XXXXXXXXXX.YYYYYYYYYY",
    "GA1.1.XXXXXXXXXX.YYYYYYYYYY", "35009a79-1a05-49d7-b876-2b884d0f825b",
)  # fmt: skip

PEOPLE = (
    "1294673677.1747154479", "u-1001", "R210319-1", "nullius", "guest42", "00123", "10", "anna",
    "{3F2504E0-4F89-11D3-9A0C-0305E82C3301}", "0.1234567", "id-7", "100.200", "no one", "-12", "7",
)  # fmt: skip


def is_blocked(type_: str, value: str, settings: IdentitySettings | None = None) -> bool:
    return (settings or IdentitySettings()).is_blocked(make_identifier(type_, value, path="x"))


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_a_word_is_blocked_in_any_case_and_any_wrapping(word: str, wrapping: str) -> None:
    settings = IdentitySettings()

    for form in (word, word.upper(), word.capitalize()):
        wrapped = Identifier("user_id", wrapping.format(form))
        assert settings.is_blocked(wrapped), wrapped


@pytest.mark.parametrize("number", ["(000) 000-0000", "+1 (111) 111-1111", "+000 / 00.00"])
def test_a_number_of_zeros_or_ones_is_blocked_however_it_is_written(number: str) -> None:
    assert is_blocked("phone_sha256", number)
    assert not is_blocked("phone_sha256", number + "23")


@pytest.mark.parametrize("type_", ["user_id", "email_sha256", "phone_sha256", "loyalty_id"])
@pytest.mark.parametrize("word", WORDS)
def test_a_word_is_blocked_whatever_the_type(word: str, type_: str) -> None:
    assert is_blocked(type_, word)


@pytest.mark.parametrize("word", ["", "undefined", "null", "NaN", "None", "[object Object]"])
def test_the_hash_of_a_word_is_blocked(word: str) -> None:
    """Sites hash whatever is in the variable."""
    digest = hashlib.sha256(word.encode()).hexdigest()

    assert is_blocked("email_sha256", digest)
    assert is_blocked("email_sha256", digest.upper())


NO_ADDRESSES = (
    "@", "@@", "x@", "@example.com", "anna@", "anna@localhost", "anna@example.", "anna@.com",
    "undefined@undefined", "null@null", "Undefined@Undefined", "None@None", "nan@nan.nan",
    "undefined@undefined.undefined", "{{email}}@", ' "@" ', '"undefined@undefined"',
)  # fmt: skip


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_what_is_no_address_is_blocked_where_an_address_is_given(text: str) -> None:
    assert is_blocked("email_sha256", text)
    assert not is_blocked("user_id", "x@y")


@pytest.mark.parametrize("text", ["@", "undefined@", "undefined@undefined", "None@None", "@null"])
def test_the_hash_of_two_words_is_blocked(text: str) -> None:
    assert is_blocked("email_sha256", hashlib.sha256(text.encode()).hexdigest())


@pytest.mark.parametrize(
    "text",
    [
        "anna@example.com", "guest@hotel.example", "id@firm.example", "0@qq.com", "a@b.c",
        '"anna b"@example.com', "null@null.example", "anna@sub.example.co.uk", "anna@xn--bcher-kva.ch",
    ],
)  # fmt: skip
def test_an_address_somebody_may_have_is_hashed(text: str) -> None:
    made = make_identifier("email_sha256", text, path="x")

    assert re.fullmatch("[0-9a-f]{64}", made.value)
    assert not IdentitySettings().is_blocked(made)


@pytest.mark.parametrize("value", EVERYBODYS_CLIENT_IDS)
def test_what_googles_tags_give_everybody_is_no_client_id(value: str) -> None:
    assert is_blocked("client_id", value)
    assert is_blocked("client_id", f' "{value}" ')


@pytest.mark.parametrize("value", PEOPLE)
@pytest.mark.parametrize("type_", ["user_id", "client_id"])
def test_what_somebody_may_have_is_not_blocked(value: str, type_: str) -> None:
    assert not is_blocked(type_, value)


def settings_of(**raw: Any) -> IdentitySettings:
    problems = Problems()
    settings = parse_identity_settings(raw, problems)
    assert problems.found == []
    return settings


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("user_id", "test-user"),
        ("user_id", " 'TEST-User' "),
        ("device_id", "test-user"),
        ("email_sha256", "Info@Shop.example"),
        ("email_sha256", hashlib.sha256(b"info@shop.example").hexdigest()),
        ("phone_sha256", "+49 30 1234567"),
    ],
)
def test_a_value_of_the_project_is_blocked(type_: str, value: str) -> None:
    """An address or a number is listed as it is, and blocked as the hash that is stored."""
    settings = settings_of(blocked_values=["Test-User", "info@shop.example", "+49301234567"])

    assert is_blocked(type_, value, settings)
    assert not is_blocked(type_, "9" + value, settings)


@pytest.mark.parametrize(
    ("value", "blocked"),
    [
        ("bot-17", True),
        ("robot-17", False),
        ("internal", True),
        ("an INTERNAL one", True),
        ("u-1", False),
    ],
)
def test_a_pattern_blocks_what_it_is_found_in(value: str, blocked: bool) -> None:  # noqa: FBT001
    settings = settings_of(blocked_patterns=["^bot-", "(?i)internal"])

    assert is_blocked("user_id", value, settings) is blocked


def test_a_bare_value_has_no_wrapping_and_no_capitals() -> None:
    assert bare_value(" \"'Straße 1 ' ") == "straße 1"
