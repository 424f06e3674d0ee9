"""Where a path looks: whole keys, dots, brackets, indices, and the four roots."""

from __future__ import annotations

from typing import Any

import pytest

from tagstitch.core.paths import Facts
from tests.core.conditions import compiled, problems_of

EVENT: dict[str, Any] = {
    "a.b": "whole",
    "a": {"b": "dotted", "c": "only dotted", "d.e": "literal"},
    "profile.tier": "forged",
    "user_state.seen": True,
    "event.x": 1,
    "list": [{"x.y": 1, "x": {"y": 2}}, {"x": {"y": 3}}, 7],
    "my.items": [{"x": 1}],
    "none.b": None,
    "none": {"b": "behind a null"},
    "0": "a key of digits",
    "ten": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": {"j": 1}}}}}}}}},
}
PROFILE: dict[str, Any] = {
    "p.q": "whole", "p": {"q": "dotted", "r": [5]}, "a": {"z": 1}, "nothing": None,
}  # fmt: skip

FOUND: list[tuple[str, Any]] = [
    ("a.b", "whole"), ('a["b"]', "dotted"), ("a.c", "only dotted"), ('a["d.e"]', "literal"), ("a['d.e']", "literal"),
    ('["a.b"]', "whole"), ("event.a.b", "whole"), ('event["a.b"]', "whole"), ('event["profile.tier"]', "forged"),
    ("event.profile.tier", "forged"), ("profile.tier", None), ("user_state.seen", None), ("event.x", None),
    ("event.event.x", 1), ("none.b", "behind a null"), ("list[0].x.y", 2), ('list[0]["x.y"]', 1), ("list.1.x.y", 3), ("list[2]", 7),
    ("list[3]", None), ("list.-1", None), ("list.x", None), ("0", "a key of digits"), ("p.q", "whole"), ("profile.p.q", "whole"),
    ('profile["p.q"]', "whole"), ('profile.p["q"]', "dotted"), ("profile.p.r[0]", 5), ("profile.nothing", None),
    ("a.z", 1), ("event.a.z", None), ("ten.b.c.d.e.f.g.h.i.j", 1), ("a.b.c", None), ("event.p", None),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), FOUND)
def test_a_path_finds_its_value(path: str, value: Any) -> None:
    (line,) = compiled({path: {"exists": True}}).explain(Facts(EVENT, PROFILE), frozenset())

    assert line["actual"] == value


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("list.$any.x.y", [1, 3, None]),
        ('list.$any["x"].y', [2, 3, None]),
        ("my.items.$any.x", [1]),
        ('["my.items"].$any.x', [1]),
        ("profile.p.r.$any", [5]),
        ("list.$count", 3),
    ],
)
def test_elements_are_found_the_same_way(path: str, values: Any) -> None:
    (line,) = compiled({path: {"exists": True}}).explain(Facts(EVENT, PROFILE), frozenset())

    assert line["actual"] == values


@pytest.mark.parametrize(
    "path",
    ["a..b", "a.", ".a", "a[", "a[]", "a[x]", 'a["b]', "a]b", 'a[""]', "a.[0", "event.", "profile.", "a" * 513, "\x00["],
)  # fmt: skip
def test_what_is_no_path_is_refused(path: str) -> None:
    assert len(problems_of({path: 1})) == 1
