"""Versions, addresses and shares: operators on texts that mean more than their characters."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tagstitch.core.bucketing import bucket_of
from tagstitch.core.paths import Facts
from tests.core.conditions import compiled, holds, problems_of

PRECEDENCE = [
    "0", "0.9.9", "1.0.0-0", "1.0.0-1", "1.0.0-1.1", "1.0.0-2", "1.0.0-11", "1.0.0-alpha", "1.0.0-alpha.1",
    "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.0.1",
    "1.0.1", "1.2", "1.10", "2", "10", "120.0.6099.109",
]  # fmt: skip


@pytest.mark.parametrize(("low", "high"), list(pairwise(PRECEDENCE)))
def test_versions_are_ordered_as_semver_says(low: str, high: str) -> None:
    assert holds({"v": {"versionBelow": high}}, {"v": low})
    assert holds({"v": {"versionAtLeast": low}}, {"v": high})
    assert not holds({"v": {"versionAtLeast": high}}, {"v": low})
    assert not holds({"v": {"versionBelow": low}}, {"v": high})


@pytest.mark.parametrize("same", ["2.1.0", "v2.1", "V2.1.0", "2.1.0+build.7", "02.01"])
def test_versions_are_the_same_in_every_form(same: str) -> None:
    assert holds({"v": {"versionAtLeast": "2.1.0", "notVersionBelow": "2.1"}}, {"v": same})


@pytest.mark.parametrize(
    "value",
    [None, "", "v", "latest", "1.", ".1", "1..2", "1.2.3.4.5", "1.2-", "1.2-a..b", "1 .2", 2, 2.1, True,
     ["1"], "1" * 200, "\u0661"],
)  # fmt: skip
def test_what_is_no_version_compares_false(value: Any) -> None:
    assert not holds({"v": {"versionAtLeast": "0"}}, {"v": value})
    assert not holds({"v": {"versionBelow": "999"}}, {"v": value})
    assert holds({"v": {"not_version_below": "999"}}, {"v": value})


@pytest.mark.parametrize(
    ("operand", "hint"), [(2.1, "in quotes"), (2, "in quotes"), ("latest", "2.10.0"), (["1"], "2.10.0")]
)  # fmt: skip
def test_a_version_in_a_rule_is_text(operand: Any, hint: str) -> None:
    (problem,) = problems_of({"v": {"versionAtLeast": operand}})

    assert hint in (problem.hint or "")


@pytest.mark.parametrize(
    ("ranges", "address", "is_inside"),
    [
        ("10.0.0.0/8", "10.255.255.255", True),
        ("10.0.0.0/8", "11.0.0.0", False),
        ("10.0.0.0/8", "9.255.255.255", False),
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("0.0.0.0/0", "203.0.113.9", True),
        (["10.0.0.0/8", "192.168.0.0/16", "10.1.0.0/16"], "192.168.7.1", True),
        (["10.0.0.0/8", "192.168.0.0/16"], "172.16.0.1", False),
        ("2001:db8::/32", "2001:db8:ffff::1", True),
        ("2001:db8::/32", "2001:DB8::1", True),
        ("2001:db8::/32", "2001:db9::", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("10.0.0.0/8", "::ffff:a01:203", True),
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        ("::/0", "10.1.2.3", False),
        ("::/0", "::ffff:10.1.2.3", False),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("0.0.0.0/0", "10.0.0.1:443", False),
        ("0.0.0.0/0", "010.0.0.1", False),
        ("0.0.0.0/0", "10.0.0", False),
        ("0.0.0.0/0", " 10.0.0.1", False),
        ("0.0.0.0/0", "1" * 1000, False),
        ("0.0.0.0/0", 167_772_161, False),
        ("0.0.0.0/0", None, False),
        ("::/0", "::" + "0" * 1000, False),
    ],
)
def test_an_address_lies_in_a_range_or_not(ranges: Any, address: Any, *, is_inside: bool) -> None:
    assert is_inside == holds({"ip": {"cidr": ranges}}, {"ip": address})
    assert is_inside != holds({"ip": {"not_cidr": ranges}}, {"ip": address})


@pytest.mark.parametrize(
    "operand",
    [[], "", "10.0.0.0/33", "10.1.0.0/8", "10.0.0.0/255.0.0.0", "10.0.0.0/", "2001:db8::1/32", "fe80::1%eth0", "a.b",
     ["10.0.0.0/8", 5], 10, {}, ["10.0.0.1"] * 1001],
    ids=lambda operand: str(operand)[:20],
)  # fmt: skip
def test_what_is_no_range_is_refused(operand: Any) -> None:
    found = problems_of({"ip": {"cidr": operand}})

    assert [problem.path for problem in found] == ["conditions.ip.cidr"]


def test_a_share_of_visitors_is_the_buckets_within_its_bounds() -> None:
    split = compiled({"client_id": {"percent": [0, 10], "salt": "exp1"}})
    ids = [str(number) for number in range(2_000)]

    chosen = {one for one in ids if split.holds(Facts({"client_id": one}))}

    assert chosen == {one for one in ids if bucket_of(one, seed="exp1") < 0.1}
    assert 150 < len(chosen) < 250


def test_shares_that_adjoin_leave_nobody_out_and_nobody_twice() -> None:
    bounds = [0, 0.07, 0.29, 7, 29, 57.03, 100]
    shares = [{"id": {"percent": [low, high], "salt": "s"}} for low, high in pairwise(bounds)]

    for number in range(500):
        assert [holds(share, {"id": number}) for share in shares].count(True) == 1


def test_a_number_and_its_digits_are_one_visitor() -> None:
    for number in range(100):
        answers = {
            holds({"id": {"percent": [0, 50], "salt": "s"}}, {"id": value})
            for value in (number, str(number), float(number))
        }
        assert len(answers) == 1


@pytest.mark.parametrize("value", [None, "", True, 1.5, ["1"], {"a": 1}, "x" * 513])
def test_who_cannot_be_told_apart_is_in_no_share(value: Any) -> None:
    assert not holds({"id": {"percent": [0, 100], "salt": "s"}}, {"id": value})
    assert holds({"id": {"notPercent": [0, 100], "salt": "s"}}, {"id": value})


@pytest.mark.parametrize(
    ("comparison", "path", "hint"),
    [
        ({"percent": [0, 10]}, "id.percent", "independent"),
        ({"percent": [0, 10], "salt": ""}, "id.salt", ""),
        ({"percent": [0, 10], "salt": 5}, "id.salt", ""),
        ({"percent": [0, 10], "salt": "s" * 129}, "id.salt", ""),
        ({"percent": [10, 10], "salt": "s"}, "id.percent", ""),
        ({"percent": [-1, 10], "salt": "s"}, "id.percent", ""),
        ({"percent": [0, 101], "salt": "s"}, "id.percent", ""),
        ({"percent": [0, 0.001], "salt": "s"}, "id.percent", ""),
        ({"percent": ["0", 10], "salt": "s"}, "id.percent[0]", "without quotes"),
        ({"percent": 10, "salt": "s"}, "id.percent", "[0, 10]"),
        ({"equals": 1, "salt": "s"}, "id.salt", ""),
        ({"salt": "s"}, "id", "exists: true"),
    ],
)
def test_a_share_needs_its_salt_and_its_bounds(
    comparison: dict[str, Any], path: str, hint: str
) -> None:
    problem = problems_of({"id": comparison})[0]

    assert problem.path == f"conditions.{path}"
    assert hint in (problem.hint or "")


def test_an_explanation_shows_the_salt() -> None:
    (line,) = compiled({"id": {"percent": [0, 10], "salt": "s"}}).explain(Facts({}), frozenset())

    assert line["expected"] == {"percent": [0, 10], "salt": "s"}
