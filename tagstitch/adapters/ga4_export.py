"""Rows of the GA4 BigQuery export as sGTM event data. Pure: a row in, an event out.

Column reference: https://support.google.com/analytics/answer/7029846
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tagstitch.core.errors import InvalidInput

_VALUE_KINDS: Final = ("string_value", "int_value", "double_value", "float_value")

_ROW_KEY: Final = (
    "stream_id", "user_pseudo_id", "event_timestamp", "event_name", "event_bundle_sequence_id",
    "batch_page_id", "batch_ordering_id", "batch_event_index",
)  # fmt: skip
"""What tells two rows apart; the batch columns are missing in exports from before 2024."""

_DERIVED_ITEM_COLUMNS: Final = frozenset(
    {"price_in_usd", "item_revenue", "item_revenue_in_usd", "item_refund", "item_refund_in_usd",
     "item_list_index", "item_params"}
)  # fmt: skip
"""Computed by the export itself, or renamed here."""

_ITEM_NUMBERS: Final = frozenset({"price", "quantity"})

_ECOMMERCE: Final = (
    ("transaction_id", "transaction_id"),
    ("purchase_revenue", "value"),
    ("tax_value", "tax"),
    ("shipping_value", "shipping"),
)

_CONSENT: Final = (("analytics_storage", "analytics_storage"), ("ads_storage", "ad_storage"))

_CONSENT_STATES: Final[Mapping[str, bool]] = {"yes": True, "no": False}


def is_export_row(raw: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is a row of the export rather than sGTM event data."""
    return (
        "event_timestamp" in raw
        and "event_name" in raw
        and (isinstance(raw.get("event_params"), list) or "user_pseudo_id" in raw)
    )


def row_from_text(text: str) -> dict[str, Any] | None:
    """Return a row from a line with NaN in it, which JSON does not know, or None when it is none.

    Tools that go through data frames write an absent number so: it is read as null.
    """
    try:
        row = json.loads(text, parse_constant=lambda _name: None)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and is_export_row(row) else None


def event_id_of_row(row: Mapping[str, Any], ordinal: int = 0) -> str:
    """Return an id that the same row gives again.

    `ordinal` counts the rows before this one that agree in every key column: the export holds
    such twins when a page sends the same event twice within one batch.
    """
    parts = [str(row.get(column) if row.get(column) is not None else "") for column in _ROW_KEY]
    digest = hashlib.sha256("\x1f".join([*parts, str(ordinal)]).encode()).hexdigest()
    return f"ga4_{digest[:32]}"


def convert_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event as `getAllEventData()` would have given it.

    Places keep the export's names (`United States`, not `US`). Consent that the export does not
    know stays unsaid. Raises InvalidInput when the row has no event name.
    """
    name = row.get("event_name")
    if not isinstance(name, str) or not name:
        raise InvalidInput("missing_field", "a row needs its event name", "event_name")
    event: dict[str, Any] = dict(_keyed_values(row.get("event_params")))
    if "ga_session_id" in event:
        event["ga_session_id"] = str(event["ga_session_id"])  # sGTM gives it as text
    event["event_name"] = name
    event |= _identity(row)
    event |= _device_and_place(row)
    event |= _commerce(row, event)
    if user_properties := dict(_keyed_values(row.get("user_properties"))):
        event["x-ga-mp2-user_properties"] = user_properties
    if system := _system_properties(row):
        event["x-sst-system_properties"] = system
    return event


def _identity(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for column, parameter in (("user_pseudo_id", "client_id"), ("user_id", "user_id")):
        value = row.get(column)
        if isinstance(value, str | int) and _is_set(value):
            yield parameter, str(value)


def _keyed_values(entries: object) -> Iterator[tuple[str, Any]]:
    """Yield key and value of a repeated record; an entry without any value is left out."""
    for entry in entries if isinstance(entries, list) else ():
        key, value = (
            (entry.get("key"), entry.get("value")) if isinstance(entry, Mapping) else ("",) * 2
        )
        if not isinstance(key, str) or not key or not isinstance(value, Mapping):
            continue
        for kind in _VALUE_KINDS:
            if value.get(kind) is not None:
                yield key, _number(value[kind]) if kind != "string_value" else value[kind]
                break


def _device_and_place(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    device, geo = _record(row, "device"), _record(row, "geo")
    web = _record(device, "web_info")
    for parameter, value in (
        ("language", device.get("language")),
        ("page_hostname", web.get("hostname")),
        ("device_category", device.get("category")),
    ):
        if isinstance(value, str) and _is_set(value):
            yield parameter, value
    place = {k: geo[k] for k in ("country", "region") if _is_set(geo.get(k))}
    if place:
        yield "event_location", place


def _commerce(row: Mapping[str, Any], event: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield items and the order's figures; a parameter that the page sent itself wins."""
    items = [item for raw in _records(row, "items") if (item := _item(raw))]
    if items:
        yield "items", items
    ecommerce = _record(row, "ecommerce")
    for column, parameter in _ECOMMERCE:
        value = ecommerce.get(column)
        if parameter not in event and _is_set(value):
            yield parameter, str(value) if parameter == "transaction_id" else _number(value)
    if "currency" not in event and (items or "value" in event or ecommerce.get("purchase_revenue")):
        currency = _record(row, "user_ltv").get("currency")
        if _is_set(currency):
            yield "currency", currency


def _item(raw: object) -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        return {}
    item = {
        column: _number(value) if column in _ITEM_NUMBERS else value
        for column, value in raw.items()
        if column not in _DERIVED_ITEM_COLUMNS and _is_set(value)
    }
    index = raw.get("item_list_index")
    if _is_set(index):
        item["index"] = _number(index)
    item.update(_keyed_values(raw.get("item_params")))
    return item


def _system_properties(row: Mapping[str, Any]) -> dict[str, Any]:
    system: dict[str, Any] = {}
    timestamp = _number(row.get("event_timestamp"))
    if isinstance(timestamp, int):
        system["request_start_time_ms"] = timestamp // 1000  # the export counts microseconds
    privacy = _record(row, "privacy_info")
    granted = {
        purpose: _CONSENT_STATES[state.lower()]
        for column, purpose in _CONSENT
        if isinstance(state := privacy.get(column), str) and state.lower() in _CONSENT_STATES
    }
    if granted:
        system["consent"] = {"consentGrantedState": granted}
    return system


def _record(row: Mapping[str, Any], column: str) -> Mapping[str, Any]:
    value = row.get(column)
    return value if isinstance(value, Mapping) else {}


def _records(row: Mapping[str, Any], column: str) -> list[Any]:
    value = row.get(column)
    return value if isinstance(value, list) else []


def _is_set(value: object) -> bool:
    return value is not None and value not in ("", "(not set)")


def _number(value: Any) -> Any:
    """Return a number from the text that `bq extract` writes for INT64; keep everything else."""
    if not isinstance(value, str):
        return value
    try:
        return int(value)
    except ValueError:
        try:
            return float(value)
        except ValueError:
            return value
