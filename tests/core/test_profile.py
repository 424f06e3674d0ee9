"""A stored document as a profile: ours, or one that somebody wrote by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tagstitch.core.profile import Profile, is_erased, parse_profile, survivor_id

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)


def parse(fields: dict[str, Any]) -> Profile:
    profile = parse_profile("p_1", fields, now=NOW)
    assert profile is not None
    return profile


def test_in_a_document_of_ours_every_field_has_its_meaning() -> None:
    fields = {
        "identifiers": {"client_id:K": {}},
        "attributes": {"tier": "Gold"},
        "state": {"seen": True},
        "consent": {"email": {"granted": False, "at": NOW}, "crm": "granted"},
        "created_at": NOW,
        "later": "a field that a newer release may write",
    }

    profile = parse(fields)

    assert profile.attributes == {"tier": "Gold"}
    assert profile.state == {"seen": True}
    assert profile.consent["email"] == {"granted": False, "at": NOW}
    assert profile.consent["crm"] == {"granted": True}
    assert profile.fields is fields


@pytest.mark.parametrize(
    "odd",
    [
        {"attributes": {"a": 1}},
        {"identifiers": {"a": 1}},
        {"attributes": [], "identifiers": {}},
        {"created_at": NOW, "state": {"a": 1}, "caps": 3},
        {"expires_at": "soon", "erased_at": False, "merged_into": 7},
    ],
)
def test_in_any_other_document_every_field_is_an_attribute(odd: dict[str, Any]) -> None:
    profile = parse({"tier": "Gold", **odd})

    assert profile.attributes == {"tier": "Gold", **odd}
    assert (profile.state, profile.identifiers, profile.merged_into) == ({}, {}, None)
    assert profile.fields == {"attributes": profile.attributes, "identifiers": {}}


@pytest.mark.parametrize("link", [True, None, "since 2024", []])
def test_a_link_that_says_nothing_is_one_without_times(link: Any) -> None:
    fields = {"attributes": {}, "identifiers": {"client_id:K": link, "user_id:L": {"met": {}}}}

    profile = parse(fields)

    assert profile.identifiers == {"client_id:K": {}, "user_id:L": {"met": {}}}
    assert profile.fields["identifiers"] == profile.identifiers


def test_marks_of_the_right_type_hold_in_every_document() -> None:
    expires_at = NOW + timedelta(days=1)

    profile = parse({"tier": "Gold", "expires_at": expires_at, "merged_into": "p_2"})

    assert (profile.attributes, profile.expires_at) == ({"tier": "Gold"}, expires_at)
    assert profile.merged_into == survivor_id({"merged_into": "p_2"}) == "p_2"
    assert is_erased({"tier": "Gold", "erased_at": NOW})
    assert parse_profile("p_1", {"erased_at": NOW}, now=NOW) is None
    assert parse_profile("p_1", {"expires_at": NOW}, now=NOW) is None


def test_a_salt_is_no_attribute_even_where_the_maps_are_gone() -> None:
    profile = parse({"tier": "Gold", "salt": b"s"})

    assert profile.attributes == {"tier": "Gold"}
    assert profile.fields["salt"] == b"s"
