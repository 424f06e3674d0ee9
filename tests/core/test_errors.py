"""The path of an error names the place and repeats nothing that may be a value."""

from __future__ import annotations

import pytest

from tagstitch.core.errors import json_path


@pytest.mark.parametrize(
    ("steps", "path"),
    [
        (("items", 3, "price"), "items[3].price"),
        (("identifiers", "anna@example.com"), "identifiers.*"),
        (("identifiers", "+49 170 123"), "identifiers.*"),
        (("identifiers", "x" * 500_000), "identifiers.*"),
        (("", "a"), "*.a"),
    ],
)
def test_a_name_that_may_be_a_value_is_a_star(steps: tuple[str | int, ...], path: str) -> None:
    assert json_path(*steps) == path


def test_a_long_path_is_cut() -> None:
    path = json_path(*["level_of_nesting"] * 20)

    assert len(path) == 100
    assert path.startswith("level_of_nesting.level")
    assert path.endswith("…")
