"""The export's rows become the events that sGTM would have shown."""

from __future__ import annotations

import gzip
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from tagstitch.adapters.ga4_export import (
    convert_row,
    event_id_of_row,
    is_export_row,
    row_from_text,
)
from tagstitch.core.errors import InvalidInput
from tagstitch.core.event import event_time, identify_event, parse_event
from tagstitch.core.identifier import Identifier, IdentitySettings


def text(key: str, value: str | None) -> dict[str, Any]:
    return {"key": key, "value": {"string_value": value, "int_value": None, "double_value": None}}


def number(key: str, value: int | str) -> dict[str, Any]:
    return {"key": key, "value": {"int_value": value}}


def row(**columns: Any) -> dict[str, Any]:
    return {
        "event_date": "20261121",
        "event_timestamp": 1795291200123456,
        "event_name": "page_view",
        "event_params": [],
        "event_bundle_sequence_id": 7,
        "user_id": None,
        "user_pseudo_id": "100.200",
        "privacy_info": {"analytics_storage": None, "ads_storage": None},
        "user_properties": [],
        "user_ltv": {"revenue": 0.0, "currency": "EUR"},
        "device": {"category": "desktop", "language": "de-de", "web_info": {"browser": "Firefox"}},
        "geo": {"country": "Austria", "region": "(not set)"},
        "stream_id": 42,
        "ecommerce": None,
        "items": [],
        **columns,
    }


def test_parameters_are_flattened_by_their_one_value() -> None:
    params = [
        text("page_location", "https://shop.example.com/"),
        number("engagement_time_msec", 1200),
        number("ga_session_number", 3),
        {"key": "score", "value": {"double_value": 0.5}},
    ]

    event = convert_row(row(event_params=params))

    assert event["page_location"] == "https://shop.example.com/"
    assert event["engagement_time_msec"] == 1200
    assert event["ga_session_number"] == 3
    assert event["score"] == 0.5


@pytest.mark.parametrize(
    "param",
    [text("dclid", None), {"key": "dclid", "value": None}, {"key": "dclid", "value": {}}, None],
)
def test_a_parameter_without_a_value_is_left_out(param: object) -> None:
    assert "dclid" not in convert_row(row(event_params=[param]))


def test_the_session_id_is_text_as_in_a_container() -> None:
    event = convert_row(row(event_params=[number("ga_session_id", 1747422523)]))

    assert event["ga_session_id"] == "1747422523"


def test_numbers_that_an_extract_wrote_as_text_are_numbers_again() -> None:
    event = convert_row(
        row(event_timestamp="1795291200123456", event_params=[number("percent_scrolled", "90")])
    )

    assert event["percent_scrolled"] == 90
    assert event["x-sst-system_properties"]["request_start_time_ms"] == 1795291200123


def test_the_visitor_is_found_by_client_and_user_id() -> None:
    event = parse_event(convert_row(row(user_id="u-1001")))

    found = identify_event(event, IdentitySettings(), asserted=True)

    assert found == (Identifier("user_id", "u-1001"), Identifier("client_id", "100.200"))


def test_the_time_survives_to_the_millisecond() -> None:
    from datetime import UTC, datetime

    happened = event_time(
        parse_event(convert_row(row())), received_at=datetime(2027, 1, 1, tzinfo=UTC)
    )

    assert happened == datetime(2026, 11, 21, 20, 0, 0, 123000, UTC)


def test_items_keep_what_is_set() -> None:
    item = {
        "item_id": "SKU_1", "item_name": "Lamp", "item_brand": "(not set)", "coupon": None,
        "price": "19.5", "price_in_usd": 21.0, "quantity": 2, "item_list_index": "3",
        "item_params": [text("stock_status", "out_of_stock")],
    }  # fmt: skip

    event = convert_row(row(items=[item, {"item_id": "(not set)"}]))

    assert event["items"] == [
        {
            "item_id": "SKU_1", "item_name": "Lamp", "price": 19.5, "quantity": 2, "index": 3,
            "stock_status": "out_of_stock",
        }
    ]  # fmt: skip


def test_a_purchase_carries_its_figures() -> None:
    ecommerce = {
        "transaction_id": "T-1", "purchase_revenue": 42.5, "purchase_revenue_in_usd": 45.0,
        "tax_value": 7.0, "shipping_value": None,
    }  # fmt: skip

    event = convert_row(row(event_name="purchase", ecommerce=ecommerce))

    assert (event["transaction_id"], event["value"], event["tax"]) == ("T-1", 42.5, 7.0)
    assert "shipping" not in event
    assert event["currency"] == "EUR"


def test_the_pages_own_value_and_currency_win_over_the_derived_ones() -> None:
    params = [{"key": "value", "value": {"double_value": 9.5}}, text("currency", "USD")]

    event = convert_row(row(event_params=params, ecommerce={"purchase_revenue": 10.0}))

    assert (event["value"], event["currency"]) == (9.5, "USD")


def test_an_event_without_commerce_gets_no_currency() -> None:
    assert "currency" not in convert_row(row())


@pytest.mark.parametrize(
    ("privacy", "granted"),
    [
        ({"analytics_storage": "Yes", "ads_storage": "No"},
         {"analytics_storage": True, "ad_storage": False}),
        ({"analytics_storage": "No", "ads_storage": None}, {"analytics_storage": False}),
    ],
)  # fmt: skip
def test_known_consent_becomes_a_signal(privacy: dict[str, Any], granted: dict[str, bool]) -> None:
    system = convert_row(row(privacy_info=privacy))["x-sst-system_properties"]

    assert system["consent"] == {"consentGrantedState": granted}


@pytest.mark.parametrize(
    "privacy", [None, {}, {"analytics_storage": None}, {"ads_storage": "Unset"}]
)
def test_unknown_consent_stays_unsaid(privacy: object) -> None:
    assert "consent" not in convert_row(row(privacy_info=privacy))["x-sst-system_properties"]


def test_place_and_language_are_kept_and_unset_ones_left_out() -> None:
    event = convert_row(row())

    assert event["language"] == "de-de"
    assert event["event_location"] == {"country": "Austria"}


def test_user_properties_go_where_a_container_has_them() -> None:
    event = convert_row(row(user_properties=[text("membership", "gold")]))

    assert event["x-ga-mp2-user_properties"] == {"membership": "gold"}


def test_the_same_row_gives_the_same_id_and_twins_give_different_ones() -> None:
    first = event_id_of_row(row())

    assert event_id_of_row(row()) == first
    assert event_id_of_row(row(), ordinal=1) != first
    assert event_id_of_row(row(event_timestamp=1795291200123457)) != first
    assert event_id_of_row(row(event_timestamp="1795291200123456")) == first


def test_a_row_is_told_from_event_data() -> None:
    assert is_export_row(row())
    assert not is_export_row({"event_name": "page_view", "client_id": "100.200"})
    assert not is_export_row({"event_name": "x", "event_timestamp_ms": 1, "event_params": "y"})


def test_a_row_from_a_data_frame_has_null_for_nan() -> None:
    text = json.dumps(row(user_first_touch_timestamp=math.nan))

    read = row_from_text(text)

    assert read == row(user_first_touch_timestamp=None)


@pytest.mark.parametrize("text", ["{", "[]", '{"event_name": "x", "value": NaN}', "[" * 100_000])
def test_nothing_else_may_hold_nan(text: str) -> None:
    assert row_from_text(text) is None


def test_a_row_without_a_name_is_refused() -> None:
    with pytest.raises(InvalidInput, match="missing_field"):
        convert_row(row(event_name=None))


@pytest.mark.skipif(
    "TAGSTITCH_GA4_EXPORT" not in os.environ,
    reason="TAGSTITCH_GA4_EXPORT names no file of export rows (JSON Lines, gzip)",
)
def test_every_row_of_a_real_export_converts() -> None:
    with gzip.open(Path(os.environ["TAGSTITCH_GA4_EXPORT"]), "rt", encoding="utf-8") as file:
        rows = [json.loads(line, parse_constant=lambda _: None) for line in file]

    events = [convert_row(r) for r in rows]

    assert all(is_export_row(r) for r in rows)
    assert len({event_id_of_row(r) for r in rows}) == len(rows)
    for original, event in zip(rows, events, strict=True):
        assert parse_event(event).name == original["event_name"]
        assert not [v for v in event.values() if v is None or v == "(not set)"]
        assert not [v for v in event.values() if isinstance(v, float) and not math.isfinite(v)]
