"""The rules and events of the comparison, from one seed, in our rule language.

Two mixes of rules. In the `broad` one, conditions on what many events share let 1 to 2 % of an
event's rules match. In the `selective` one, each rule waits for one campaign, item or coupon, so
that hardly any matches. Priorities, actions and event names are the same in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal

Mix = Literal["broad", "selective"]
MIXES: Final[tuple[Mix, ...]] = ("broad", "selective")

Definition = Mapping[str, Any]
"""One rule as its author writes it."""

SEED: Final = 20_261_122
PARAMETERS: Final = 60
ITEMS: Final = 5

EVENT_NAMES: Final = (
    "add_payment_info", "add_to_cart", "begin_checkout", "generate_lead", "page_view",
    "purchase", "search", "select_item", "view_cart", "view_item",
)  # fmt: skip

_MEDIA = ("cpc", "email", "organic", "referral", "social")
_DEVICES = ("desktop", "mobile", "tablet")
_COUNTRIES = ("AT", "BE", "CH", "DE", "ES", "FR", "GB", "IT", "NL", "US")
_SECTIONS = ("/blog", "/books", "/garden", "/games", "/help", "/kitchen", "/music", "/sale")
_VISITORS = ("new", "returning")
_BRANDS = tuple(f"Brand {number}" for number in range(12))
_CAMPAIGNS = 5_000
_PRODUCTS = 20_000
_COUPONS = 5_000
_VALUE_MAX = 200.0


def generate_events(count: int, *, seed: int = SEED) -> list[dict[str, Any]]:
    """Return GA4 events of 60 parameters and 5 items; their names take turns."""
    random = Random(seed)
    return [_event(EVENT_NAMES[n % len(EVENT_NAMES)], random) for n in range(count)]


def generate_rules(count: int, mix: Mix, *, seed: int = SEED) -> dict[str, Definition]:
    """Return rules by id; each event name has a tenth of them."""
    random = Random(f"{seed} {mix}")
    conditions = _CONDITIONS[mix]
    return {
        f"rule_{n:06}": {
            "target_event_name": EVENT_NAMES[n % len(EVENT_NAMES)],
            "conditions": random.choice(conditions)(random),
            **_action(n, random),
            "priority": random.randrange(1_000),
            "is_active": True,
        }
        for n in range(count)
    }


def _event(name: str, random: Random) -> dict[str, Any]:
    number = random.randrange(10**9)
    event: dict[str, Any] = {
        "event_name": name,
        "client_id": f"{1_000_000_000 + number}.1747154479",
        "page_location": f"https://shop.example{random.choice(_SECTIONS)}/{number}",
        "page_path": f"{random.choice(_SECTIONS)}/{number}",
        "page_title": f"Page {number}",
        "medium": random.choice(_MEDIA),
        "campaign_id": f"campaign_{random.randrange(_CAMPAIGNS)}",
        "device_category": random.choice(_DEVICES),
        "country": random.choice(_COUNTRIES),
        "visitor_type": random.choice(_VISITORS),
        "value": round(random.uniform(0.0, _VALUE_MAX), 2),
        "currency": "EUR",
        "score": random.randrange(100),
        "items": [_item(random) for _ in range(ITEMS)],
    }
    if random.random() < 0.3:
        event["coupon"] = f"coupon_{random.randrange(_COUPONS)}"
    more = PARAMETERS - len(event)
    return event | {f"parameter_{n}": f"value {random.randrange(1_000)}" for n in range(more)}


def _item(random: Random) -> dict[str, Any]:
    number = random.randrange(_PRODUCTS)
    return {
        "item_id": f"SKU_{number}",
        "item_name": f"Product {number}",
        "item_brand": random.choice(_BRANDS),
        "price": round(random.uniform(1.0, 80.0), 2),
        "quantity": random.randrange(1, 4),
    }


def _value_range(random: Random) -> dict[str, float]:
    """Return a condition that holds for about half of the values."""
    bound = round(random.uniform(0.3, 0.7) * _VALUE_MAX, 2)
    return {random.choice(("atLeast", "lessThan")): bound}


def _of_a_medium(random: Random) -> dict[str, Any]:
    return {
        "medium": random.choice(_MEDIA),
        "device_category": {"equals": random.choice(_DEVICES)},
        "value": {"atLeast": round(random.uniform(0.7, 0.8) * _VALUE_MAX, 2)},
    }


def _of_a_section(random: Random) -> dict[str, Any]:
    return {
        "country": random.sample(_COUNTRIES, 3),
        "page_path": {"startsWith": random.choice(_SECTIONS)},
        "value": _value_range(random),
    }


def _of_a_brand(random: Random) -> dict[str, Any]:
    return {
        "medium": random.choice(_MEDIA),
        "device_category": random.choice(_DEVICES),
        "visitor_type": random.choice(_VISITORS),
        "items.$.item_brand": random.choice(_BRANDS),
    }


def _of_a_campaign(random: Random) -> dict[str, Any]:
    return {
        "campaign_id": f"campaign_{random.randrange(_CAMPAIGNS)}",
        "value": _value_range(random),
    }


def _of_a_product(random: Random) -> dict[str, Any]:
    return {
        "items.$.item_id": f"SKU_{random.randrange(_PRODUCTS)}",
        "country": random.sample(_COUNTRIES, 3),
    }


def _of_a_coupon(random: Random) -> dict[str, Any]:
    return {
        "coupon": {"in": [f"coupon_{n}" for n in random.sample(range(_COUPONS), 2)]},
        "device_category": random.choice(_DEVICES),
    }


_CONDITIONS: Final[Mapping[Mix, tuple[Callable[[Random], dict[str, Any]], ...]]] = {
    "broad": (_of_a_medium, _of_a_section, _of_a_brand),
    "selective": (_of_a_campaign, _of_a_campaign, _of_a_product, _of_a_coupon),
}


def _action(number: int, random: Random) -> dict[str, Any]:
    """Return an action that changes something whenever it applies, so that none goes unseen."""
    kind = random.randrange(3)
    if kind == 0:
        details: dict[str, Any] = {"new_event_name": f"renamed_{number}"}
        return {"action_type": "rename_event", "action_details": details}
    details = {"parameter": "audience", "operator": "set", "operand": f"audience {number}"}
    if kind == 1:
        details = {"parameter": "score", "operator": "add", "operand": 1 + number % 9}
    return {"action_type": "modify_parameter", "action_details": details}


@dataclass(frozen=True, slots=True)
class Predicate:
    """One comparison of a rule, for those who translate rules."""

    parameter: str
    item_property: str | None
    """Set when some element of the list must hold it."""
    operator: str
    operand: Any


def predicates(definition: Definition) -> Iterator[Predicate]:
    """Yield the comparisons of a rule, all of which must hold."""
    for path, condition in definition["conditions"].items():
        parameter, _, item_property = path.partition(".$.")
        operators = condition
        if isinstance(condition, list):
            operators = {"in": condition}
        elif not isinstance(condition, dict):
            operators = {"equals": condition}
        for operator, operand in operators.items():
            yield Predicate(parameter, item_property or None, operator, operand)
