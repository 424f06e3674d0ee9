from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagstitch.core.consent import (
    CONSENT_MODE_PURPOSES,
    Consent,
    decode_gcd,
    decode_gcs,
    resolve_consent,
)
from tagstitch.core.event import Event
from tagstitch.core.profile import Profile, update_consent

AT = datetime(2026, 11, 21, tzinfo=UTC)


def resolve(
    requested: dict[str, object] | None = None,
    event: dict[str, Any] | None = None,
    stored: dict[str, Any] | None = None,
    *,
    default_granted: bool = False,
) -> Consent:
    return resolve_consent(
        requested=requested,
        event=Event("page_view", event) if event is not None else None,
        profile=Profile("p_1", consent=stored) if stored is not None else None,
        default_granted=default_granted,
    )


def stored(granted: object) -> dict[str, Any]:
    return {"granted": granted, "at": AT, "source": "import"}


@pytest.mark.parametrize(
    ("letter", "granted"),
    [
        ("l", None), ("m", False), ("n", True),
        ("p", False), ("q", False), ("r", True),
        ("t", True), ("u", False), ("v", True),
    ],
)  # fmt: skip
def test_the_nine_known_gcd_letters_mean_default_and_update(
    letter: str, *, granted: bool | None
) -> None:
    said = decode_gcd("1" + f"3{letter}" * 4 + "5")

    wanted = {} if granted is None else dict.fromkeys(CONSENT_MODE_PURPOSES, granted)
    assert wanted == said


def test_gcd_letters_stand_in_the_order_of_the_purposes() -> None:
    assert decode_gcd("13v3q3l3r5") == {
        "ad_storage": True,
        "analytics_storage": False,
        "ad_personalization": True,
    }


def test_gcd_ignores_the_bits_above_the_state() -> None:
    assert decode_gcd("13l3l3R3l5l1") == decode_gcd("13l3l3l3l5l1") == {}


@pytest.mark.parametrize("gcd", ["", "1", "garbage!", 7, [], "13!3!3!3!5"])
def test_a_gcd_that_cannot_be_read_denies_everything(gcd: object) -> None:
    assert dict.fromkeys(CONSENT_MODE_PURPOSES, False) == decode_gcd(gcd)


def test_a_gcd_that_ends_early_denies_the_rest() -> None:
    assert decode_gcd("13v3v") == {
        "ad_storage": True,
        "analytics_storage": True,
        "ad_user_data": False,
        "ad_personalization": False,
    }


@pytest.mark.parametrize(
    ("gcs", "ads", "analytics"),
    [
        ("G111", True, True),
        ("G100", False, False),
        ("G101", False, True),
        ("G110", True, False),
        ("G1-1", None, True),
        ("G1x1", False, True),
    ],
)
def test_gcs_has_a_digit_for_ads_and_one_for_analytics(
    gcs: str, *, ads: bool | None, analytics: bool
) -> None:
    said = decode_gcs(gcs)

    assert (ads, analytics) == (said.get("ad_storage"), said.get("analytics_storage"))


@pytest.mark.parametrize("gcs", ["", "G1", "G1111", "H111", 111, None])
def test_a_gcs_that_cannot_be_read_is_a_denial(gcs: object) -> None:
    assert not any(decode_gcs(gcs).values())


@pytest.mark.parametrize(
    "event",
    [
        {"x-sst-system_properties": {"consent": {"consentGrantedState": {"ad_storage": True}}}},
        {"x-ga-gcd": "13r3l3l3l5"},
        {"x-ga-gcs": "G11-"},
        {"consent_state": {"ad_storage": "granted"}},
    ],
)
def test_every_signal_of_the_event_can_grant(event: dict[str, Any]) -> None:
    consent = resolve(event=event)

    assert consent.allows("ad_storage")
    assert not consent.allows("analytics_storage")
    assert consent.sources == {"ad_storage": "event"}


@pytest.mark.parametrize(
    "event",
    [
        {"x-sst-system_properties": {"consent": "yes"}},
        {"x-sst-system_properties": {"consent": {"consentGrantedState": [True]}}},
        {"consent_state": "granted"},
        {"consent_state": {"analytics_storage": 1}},
        {"x-ga-gcd": {}},
    ],
)
def test_a_malformed_signal_is_a_denial(event: dict[str, Any]) -> None:
    consent = resolve(event=event, default_granted=True)

    assert not consent.allows("analytics_storage")


@pytest.mark.parametrize("value", [False, "denied", "Granted", 1, None, [], {"granted": True}])
def test_anything_but_a_grant_in_the_request_is_a_denial(value: object) -> None:
    consent = resolve({"analytics_storage": value}, default_granted=True)

    assert not consent.allows("analytics_storage")
    assert frozenset(("analytics_storage",)) == consent.denied_by_request


def test_a_denial_by_the_event_wins_over_a_grant_by_the_request() -> None:
    consent = resolve({"analytics_storage": True}, {"x-ga-gcs": "G110"})

    assert not consent.allows("analytics_storage")
    assert consent.sources["analytics_storage"] == "event"
    assert frozenset(("analytics_storage",)) == consent.denied_by_request


def test_a_denial_by_the_request_wins_over_a_grant_by_the_event() -> None:
    consent = resolve({"analytics_storage": "denied"}, {"x-ga-gcs": "G111"})

    assert not consent.allows("analytics_storage")
    assert consent.sources["analytics_storage"] == "request"


def test_signals_of_one_event_that_disagree_deny() -> None:
    consent = resolve(event={"x-ga-gcs": "G111", "consent_state": {"ad_storage": False}})

    assert not consent.allows("ad_storage")
    assert consent.allows("analytics_storage")


def test_the_profile_decides_only_where_the_request_is_silent() -> None:
    profile = {"ad_storage": stored(granted=False), "analytics_storage": stored(granted=True)}

    consent = resolve({"ad_storage": True}, stored=profile)

    assert consent.allows("ad_storage")
    assert consent.allows("analytics_storage")
    assert consent.sources == {"ad_storage": "request", "analytics_storage": "profile"}
    assert frozenset() == consent.denied_by_request


@pytest.mark.parametrize("default", [True, False])
def test_the_default_decides_what_nobody_mentions(*, default: bool) -> None:
    assert default == resolve(default_granted=default).allows("anything")


def test_only_the_profile_records_a_grant() -> None:
    by_request = resolve({"email": True}, default_granted=True)
    by_profile = resolve(stored={"email": stored(granted=True)})

    assert by_request.allows("email")
    assert not by_request.has_recorded_grant("email")
    assert by_profile.has_recorded_grant("email")


@pytest.mark.parametrize(
    ("requested", "record"),
    [({"email": False}, True), (None, False), (None, "granted by mistake"), (None, None)],
)
def test_a_recorded_grant_does_not_survive_a_denial(
    requested: dict[str, object] | None, record: object
) -> None:
    consent = resolve(requested, stored={"email": stored(record)}, default_granted=True)

    assert not consent.has_recorded_grant("email")


def test_the_record_names_what_was_signalled_or_asked() -> None:
    consent = resolve(
        {"analytics_storage": True},
        stored={"email": stored(granted=True), "crm": stored(granted=True)},
    )

    assert consent.to_record("email", "ad_personalization") == {
        "analytics_storage": {"granted": True, "source": "request"},
        "email": {"granted": True, "source": "profile"},
        "ad_personalization": {"granted": False, "source": "default"},
    }


def test_a_flood_of_purposes_does_not_hide_the_known_ones() -> None:
    flood: dict[str, object] = {f"p{i}": True for i in range(10_000)}

    consent = resolve(event={"consent_state": {**flood, "analytics_storage": False}})

    assert not consent.allows("analytics_storage")
    assert len(consent.sources) < 50


class TestSignalsOfAnotherShape:
    """A signal that cannot be read is a denial; none at all is silence."""

    def test_a_consent_object_without_its_inner_name_is_read_as_it_is(self) -> None:
        event = {"x-sst-system_properties": {"consent": {"analytics_storage": False}}}

        assert not resolve(event=event, default_granted=True).allows("analytics_storage")

    def test_an_object_that_names_no_purpose_denies(self) -> None:
        event = {"x-sst-system_properties": {"consent": {"1": "yes", "": True}}}

        assert not resolve(event=event, default_granted=True).allows("analytics_storage")

    def test_an_empty_object_says_nothing(self) -> None:
        event: dict[str, Any] = {"x-sst-system_properties": {"consent": {}}}

        assert resolve(event=event, default_granted=True).allows("analytics_storage")


STATEMENTS = st.lists(
    st.tuples(st.sampled_from(["email", "crm"]), st.booleans(), st.integers(0, 3)), max_size=5
)
"""(purpose, granted, minutes after AT)."""


@given(STATEMENTS)
def test_in_whatever_order_statements_arrive_the_newest_holds_and_a_tie_is_a_denial(
    statements: list[tuple[str, bool, int]],
) -> None:
    newest: dict[str, tuple[int, bool]] = {}
    for purpose, granted, minute in statements:
        newest[purpose] = max(newest.get(purpose, (-1, False)), (minute, not granted))

    for order in itertools.permutations(statements):
        stored: dict[str, Any] = {}
        for purpose, granted, minute in order:
            at = AT + timedelta(minutes=minute)
            stored = update_consent(stored, {purpose: granted}, at=at, source="r") or stored
        held = {purpose: (said["granted"], said["at"]) for purpose, said in stored.items()}
        assert held == {
            purpose: (not denied, AT + timedelta(minutes=minute))
            for purpose, (minute, denied) in newest.items()
        }


@given(st.integers(0, 10), st.integers(0, 10))
def test_a_grant_of_an_older_event_never_overrides_a_denial(
    granted_at: int, denied_at: int
) -> None:
    denial = {"granted": False, "at": AT + timedelta(minutes=denied_at), "source": "r"}
    at = AT + timedelta(minutes=granted_at)

    updated = update_consent({"email": denial}, {"email": True}, at=at, source="r")

    assert (updated is None) == (granted_at <= denied_at)
