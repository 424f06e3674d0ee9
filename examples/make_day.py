"""Write examples/events.jsonl: one day of a fictional shop, as sGTM event data.

No randomness: the same script gives the same file. Everybody and everything in it is invented.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

DAY = datetime(2026, 11, 20, tzinfo=UTC)
SHOP = "https://shop.example.com"

PRODUCTS: dict[str, dict[str, Any]] = {
    "LAMP-01": {"item_name": "Desk lamp", "item_category": "Home", "price": 39.0},
    "MUG-02": {"item_name": "Mug", "item_category": "Kitchen", "price": 7.5},
    "CARD-03": {"item_name": "Greeting card", "item_category": "Paper", "price": 2.9},
    "PHONE-04": {"item_name": "Phone", "item_category": "Electronics", "price": 449.0},
    "HEAD-05": {"item_name": "Headphones", "item_category": "Electronics", "price": 89.0},
    "CHAIR-06": {"item_name": "Chair", "item_category": "Home", "price": 129.0},
    "PROD_MAINT_001": {"item_name": "Test product", "item_category": "Home", "price": 1.0},
    "PROD_MAINT_002": {"item_name": "Old listing", "item_category": "Paper", "price": 1.0},
}
OUT_OF_STOCK = {"CHAIR-06"}
GRANTED = {
    "ad_storage": True,
    "analytics_storage": True,
    "ad_user_data": True,
    "ad_personalization": True,
}
DENIED = dict.fromkeys(GRANTED, False)


@dataclass
class Visit:
    """One visitor's session; `now` moves on with every event."""

    client_id: str
    hour: float
    country: str = "AT"
    language: str = "de-at"
    user_id: str | None = None
    email: str | None = None
    consent: dict[str, bool] | None = field(default_factory=lambda: dict(GRANTED))
    session_number: int = 1
    now: datetime = field(init=False)
    session_id: str = field(init=False)

    def __post_init__(self) -> None:
        self.now = DAY + timedelta(hours=self.hour)
        self.session_id = str(int(self.now.timestamp()))

    def event(self, name: str, page: str, **parameters: Any) -> dict[str, Any]:
        """Return the next event of the visit, 20 to 50 seconds after the one before."""
        self.now += timedelta(seconds=20 + len(page) % 31, milliseconds=len(name) * 7)
        system: dict[str, Any] = {"request_start_time_ms": int(self.now.timestamp() * 1000)}
        if self.consent is not None:
            system["consent"] = {"consentGrantedState": self.consent}
        event: dict[str, Any] = {
            "event_name": name,
            "client_id": self.client_id,
            "language": self.language,
            "event_location": {"country": self.country},
            "ga_session_id": self.session_id,
            "ga_session_number": self.session_number,
            "page_location": SHOP + page,
            "x-ga-protocol_version": "2",
            "x-ga-measurement_id": "G-EXAMPLE",
            "x-sst-system_properties": system,
        }
        if self.user_id is not None:
            event["user_id"] = self.user_id
        if self.email is not None:
            event["user_data"] = {"email": self.email}
        return event | parameters


def items(*item_ids: str) -> list[dict[str, Any]]:
    """Return the items array of a commerce event."""
    return [
        {
            "item_id": item_id,
            **PRODUCTS[item_id],
            "quantity": 1,
            "index": index,
            "stock_status": "out_of_stock" if item_id in OUT_OF_STOCK else "in_stock",
        }
        for index, item_id in enumerate(item_ids)
    ]


def browse(visit: Visit, *item_ids: str) -> Iterator[dict[str, Any]]:
    """Yield a home page, then a page and a view for every product."""
    yield visit.event("page_view", "/", page_title="Shop")
    for item_id in item_ids:
        product = PRODUCTS[item_id]
        yield visit.event("page_view", f"/p/{item_id.lower()}", page_title=product["item_name"])
        yield visit.event(
            "view_item",
            f"/p/{item_id.lower()}",
            currency="EUR",
            value=product["price"],
            items=items(item_id),
        )


def log_in(visit: Visit, user_id: str, email: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the login; from here on the user_id stands beside the client_id."""
    visit.user_id, visit.email = user_id, email
    yield visit.event("login", "/account", method="password")


def add(visit: Visit, *item_ids: str) -> Iterator[dict[str, Any]]:
    """Yield one add_to_cart with all the items."""
    yield visit.event(
        "add_to_cart", "/cart", currency="EUR", value=total(item_ids), items=items(*item_ids)
    )


def buy(
    visit: Visit, order: str, *item_ids: str, coupon: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield checkout and purchase."""
    value = total(item_ids)
    yield visit.event(
        "begin_checkout", "/checkout", currency="EUR", value=value, items=items(*item_ids)
    )
    extra = {"coupon": coupon} if coupon else {}
    yield visit.event(
        "purchase",
        f"/thanks?order={order}",
        transaction_id=order,
        currency="EUR",
        value=value,
        tax=round(value / 6, 2),
        shipping=0 if value > 50 else 4.9,
        items=items(*item_ids),
        **extra,
    )


def total(item_ids: tuple[str, ...]) -> float:
    """Return the price of the items in euros."""
    return round(sum(PRODUCTS[item_id]["price"] for item_id in item_ids), 2)


def customers() -> Iterator[dict[str, Any]]:
    """Yield the people whom examples/profiles.jsonl knows."""
    mara = Visit("1294673677.1763600001", 8.0, session_number=14)
    yield from browse(mara, "LAMP-01")
    yield from log_in(mara, "u-1001", "mara@example.com")
    yield from browse(mara, "PHONE-04", "HEAD-05")
    yield from add(mara, "HEAD-05", "CHAIR-06")
    yield from buy(mara, "T-5001", "HEAD-05", coupon="AUTUMN")
    phone = Visit("2094673677.1763600002", 20.5, language="de", session_number=3)
    yield from browse(phone, "PHONE-04")
    yield from log_in(phone, "u-1001")
    yield from browse(phone, "PHONE-04")

    jonas = Visit("1394673677.1763600003", 9.0, country="DE", language="de-de", session_number=5)
    yield from log_in(jonas, "u-1002", "jonas@example.com")
    yield from browse(jonas, "CHAIR-06", "LAMP-01")
    yield from add(jonas, "CHAIR-06")
    yield from buy(jonas, "T-5002", "LAMP-01")
    yield from buy(jonas, "T-5003", "MUG-02")

    ines = Visit("1494673677.1763600004", 10.25, country="PT", language="pt-pt")
    yield from browse(ines, "MUG-02", "CARD-03")
    yield from log_in(ines, "u-1003", "ines@example.net")
    yield from add(ines, "MUG-02", "CARD-03")
    yield from buy(ines, "T-5004", "CARD-03", "CARD-03")

    tom = Visit("1594673677.1763600005", 11.0, country="GB", language="en-gb", consent=None)
    yield from log_in(tom, "u-1004")
    yield from browse(tom, "CHAIR-06", "PROD_MAINT_001")
    yield from add(tom, "CHAIR-06", "LAMP-01", "MUG-02")
    yield from buy(tom, "T-5005", "LAMP-01", "MUG-02")

    newcomer = Visit("1694673677.1763600006", 12.0)
    yield from browse(newcomer, "HEAD-05")
    yield from log_in(newcomer, "u-1005")
    yield from buy(newcomer, "T-5006", "CARD-03")

    oda = Visit("1794673677.1763600007", 13.0, consent=None)
    yield from log_in(oda, "u-1006", "oda@example.com")
    yield from browse(oda, "PHONE-04")

    card = Visit("1894673677.1763600008", 14.0)
    yield from log_in(card, "u-1007")
    yield from browse(card, "PROD_MAINT_002", "MUG-02")


def strangers() -> Iterator[dict[str, Any]]:
    """Yield visitors without a login, one of whom allows nothing."""
    shelf = ["LAMP-01", "MUG-02", "CARD-03", "HEAD-05", "CHAIR-06", "PROD_MAINT_001"]
    for number in range(12):
        visit = Visit(
            f"{3000000000 + number}.17636001{number:02}",
            7.5 + number,
            country=("AT", "DE", "CH")[number % 3],
            consent=dict(GRANTED) if number % 4 else None,
        )
        seen = [shelf[number % len(shelf)], shelf[(number + 2) % len(shelf)]]
        yield from browse(visit, *seen)
        if number % 3 == 0:
            yield from add(visit, *seen)
        if number % 5 == 4:
            yield from buy(visit, f"T-60{number:02}", "MUG-02")
    private = Visit("4000000000.1763600200", 15.0, consent=dict(DENIED))
    yield from browse(private, "PHONE-04", "MUG-02")
    yield from buy(private, "T-7001", "MUG-02")


def main() -> None:
    """Write the file beside this script, in order of time."""
    events = sorted(
        [*customers(), *strangers()],
        key=lambda event: event["x-sst-system_properties"]["request_start_time_ms"],
    )
    target = Path(__file__).with_name("events.jsonl")
    lines = (json.dumps(event, ensure_ascii=False, separators=(",", ":")) for event in events)
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
