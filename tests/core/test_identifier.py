"""The normal form of identifiers, and what can be none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagstitch.core.errors import InvalidInput
from tagstitch.core.identifier import make_identifier
from tagstitch.core.limits import IDENTIFIER_VALUE_CHARS_MAX


def value_of(raw: object, type_: str = "user_id") -> str:
    return make_identifier(type_, raw, path="x").value


def test_letters_that_look_the_same_are_the_same() -> None:
    assert value_of(" Rene\u0301 ") == value_of("Ren\u00e9") == "Ren\u00e9"


@pytest.mark.parametrize(
    ("type_", "one", "other"),
    [
        ("user_id", "Ren\u00e9", "Rene\u0301"),
        ("user_id", "\u212bngstr\u00f6m", "A\u030angstro\u0308m"),
        ("user_id", "\ud55c", "\u1112\u1161\u11ab"),
        ("user_id", "u-1", "\u00a0u-1\u2003"),
        ("user_id", "17", 17),
        ("email_sha256", "ada@example.net", " Ada@Example.NET "),
        ("email_sha256", "ren\u00e9@example.net", "RENE\u0301@EXAMPLE.NET"),
        ("email_sha256", "i\u0307stanbul@example.net", "\u0130stanbul@example.net"),
        ("email_sha256", "ada.love.lace@gmail.com", "AdaLovelace@GMail.com"),
        ("email_sha256", "ada.lovelace@googlemail.com", "adalovelace@googlemail.com"),
        ("phone_sha256", "+49 (151) 123-45.67", "491511234567"),
    ],
    ids=range(11),
)  # fmt: skip
def test_two_spellings_of_one_value_are_one_identifier(
    type_: str, one: object, other: object
) -> None:
    assert value_of(one, type_) == value_of(other, type_)


@pytest.mark.parametrize(
    ("type_", "one", "other"),
    [
        ("user_id", "Ada", "ada"),
        ("user_id", "ada", "\u0430da"),
        ("user_id", "ada", "\uff41da"),
        ("user_id", "fin", "\ufb01n"),
        ("user_id", "0", "O"),
        ("user_id", "17", "17.0"),
        ("email_sha256", "istanbul@example.net", "\u0131stanbul@example.net"),
        ("email_sha256", "istanbul@example.net", "\u0130stanbul@example.net"),
        ("email_sha256", "strasse@example.net", "stra\u00dfe@example.net"),
        ("email_sha256", "ada.lovelace@example.net", "adalovelace@example.net"),
        ("email_sha256", "ada@gmail.com", "ada@googlemail.com"),
        ("email_sha256", "ada@gmail.com", "ada+shop@gmail.com"),
        ("email_sha256", "ada@example.net", "ad\u0430@example.net"),
    ],
    ids=range(13),
)  # fmt: skip
def test_letters_that_only_look_alike_are_two_identifiers(
    type_: str, one: object, other: object
) -> None:
    assert value_of(one, type_) != value_of(other, type_)


@given(raw=st.text(max_size=60), type_=st.sampled_from(["user_id", "email_sha256", "client_id"]))
def test_a_normal_form_is_its_own(raw: str, type_: str) -> None:
    try:
        once = value_of(raw, type_)
    except InvalidInput:
        return
    assert value_of(once, type_) == once


@pytest.mark.parametrize(
    "long",
    [
        "x" * (IDENTIFIER_VALUE_CHARS_MAX + 1),
        "e\u0301" * (IDENTIFIER_VALUE_CHARS_MAX // 2 + 1),
        "\u0958" * (IDENTIFIER_VALUE_CHARS_MAX // 2 + 1),
        "a" + "\u0315" * 150_000 + "\u0316" * 150_000,
    ],
    ids=["letters", "that composing shortens", "that composing lengthens", "marks to be sorted"],
)
def test_what_is_too_long_is_refused_before_it_costs_anything(long: str) -> None:
    with pytest.raises(InvalidInput, match="longer than"):
        value_of(long)
