"""Who an event says it is from, within bounds."""

from __future__ import annotations

from typing import Any

import pytest

from tagstitch.core.event import identify_event, parse_event
from tagstitch.core.identifier import IdentitySettings
from tagstitch.core.limits import IDENTIFIERS_PER_REQUEST_MAX

SETTINGS = IdentitySettings()


def identify(parameters: dict[str, Any], *, asserted: bool = True) -> list[tuple[str, str]]:
    event = parse_event({"event_name": "page_view", **parameters})
    return [(i.type, i.value) for i in identify_event(event, SETTINGS, asserted=asserted)]


def test_without_an_assertion_the_client_id_alone_counts() -> None:
    parameters = {
        "client_id": "1.1747154479",
        "user_id": "u-1",
        "user_data": {"email": "a@example.net"},
        "x-ga-js_client_id": "2.1747154479",
        "_resolved": {"user_id": "u-2"},
    }

    found = identify(parameters, asserted=False)

    assert found == [("client_id", "1.1747154479")]


def test_with_an_assertion_every_identifier_counts_the_strongest_first() -> None:
    parameters = {
        "client_id": "1.1747154479",
        "user_id": "u-1",
        "user_data": {"email": ["A@Example.net "], "phone_number": "+49 171 1234567"},
        "x-ga-js_client_id": "2.1747154479",
    }

    found = identify(parameters)

    assert [type_ for type_, _ in found] == [
        "user_id",
        "email_sha256",
        "phone_sha256",
        "client_id",
        "client_id",
    ]


@pytest.mark.parametrize("value", [5000, 20])
def test_a_long_list_of_addresses_is_cut(value: int) -> None:
    addresses = [f"visitor{n}@example.net" for n in range(value)]

    found = identify({"client_id": "1.1747154479", "user_data": {"email": addresses}})

    assert len(found) <= min(6, IDENTIFIERS_PER_REQUEST_MAX)


@pytest.mark.parametrize("junk", [True, {}, [], 1.5, "x" * 600, "a\x00b", "undefined", "null"])
def test_what_cannot_be_an_identifier_is_left_out(junk: object) -> None:
    assert identify({"client_id": junk, "user_id": "u-1"}) == [("user_id", "u-1")]


@pytest.mark.parametrize("number", ["0000000000", "+0000000000", "111111111"])
def test_a_number_that_nobody_has_is_blocked_before_it_is_hashed(number: str) -> None:
    assert identify({"user_data": {"phone_number": number}}) == []
