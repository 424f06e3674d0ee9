"""The normal form of identifiers, and what can be none."""

from __future__ import annotations

import pytest

from tagstitch.core.errors import InvalidInput
from tagstitch.core.identifier import make_identifier
from tagstitch.core.limits import IDENTIFIER_VALUE_CHARS_MAX


def value_of(raw: object, type_: str = "user_id") -> str:
    return make_identifier(type_, raw, path="x").value


def test_letters_that_look_the_same_are_the_same() -> None:
    assert value_of(" Rene\u0301 ") == value_of("Ren\u00e9") == "Ren\u00e9"


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
