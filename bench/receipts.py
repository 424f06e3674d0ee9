"""What a receipt costs: `.venv/bin/python -m bench.receipts`, without any store.

One purchase with 45 parameters, five items and a profile of 32 attributes, by 102 rules of which
two apply. Each figure is the best of ten rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tagstitch.core.consent import Consent
from tagstitch.core.decision import EVENT_AND_PERSONALIZATION, decide
from tagstitch.core.event import Event
from tagstitch.core.receipt import digest_of, encode_receipt, make_receipt
from tagstitch.core.rule_book import RuleBook, compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.core.situation import Situation
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.sealed_receipt import seal_receipt

PATHS = (
    "value", "currency", "coupon", "page_location", "page_referrer", "language",
    "screen_resolution", "user_loyalty_tier", "event_location.country", "items.$.item_category",
    "items.$.price", "profile.lifetime_value", "user_state.offer", "transaction_id",
    "campaign.medium",
)  # fmt: skip
KEYRING = Keyring(b"i" * 32, (("k", b"p" * 32),), b"r" * 32)
ROUNDS, CALLS = 10, 2_000


def rule_book() -> RuleBook:
    """Return 100 rules that look and do not apply, and two that do."""
    multiply = {
        "target_event_name": "purchase",
        "action_type": "modify_parameter",
        "action_details": {"parameter": "value", "operator": "multiply", "operand": 1.1},
    }
    rules: dict[str, Any] = {
        f"r{n}": {**multiply, "conditions": {PATHS[n % len(PATHS)]: f"x{n}"}} for n in range(100)
    }
    rules["value"] = {**multiply, "conditions": {"value": {"lessThan": 100}}}
    rules["items"] = {
        "target_event_name": "purchase",
        "conditions": {"items.$.stock_status": "out"},
        "action_type": "filter_items",
        "action_details": {
            "item_property": "stock_status",
            "operator": "not_equals",
            "operand": "out",
        },
    }
    return compile_rule_book(RuleDefinitions(rules))


def situation() -> Situation:
    """Return a purchase of somebody who is known."""
    items = [
        {
            "item_id": f"SKU{n}", "item_name": "Something to wear", "item_category": "c",
            "item_brand": "b", "price": 9.99, "quantity": 1, "index": n, "currency": "EUR",
            "stock_status": "in" if n else "out",
        }
        for n in range(5)
    ]  # fmt: skip
    parameters = {
        "event_name": "purchase", "client_id": "1294673677.1747154479", "value": 42.5,
        "currency": "EUR", "items": items, "transaction_id": "T1", "language": "de-de",
        "event_location": {"country": "DE", "region": "BE"}, "screen_resolution": "1920x1080",
        "page_location": "https://example.com/a?b=c", "page_referrer": "https://example.com/",
    } | {f"p{n}": f"value {n}" for n in range(34)}  # fmt: skip
    return Situation(
        event=Event("purchase", parameters),
        consent=Consent({"analytics_storage": True}, {}, default_granted=True),
        now=1_795_348_800.0,
        attributes={"user_loyalty_tier": "Gold", "lifetime_value": 500}
        | {f"a{n}": n for n in range(30)},
        state={"offer": True},
        subject="p_ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    )


def best_microseconds(call: Callable[[], object]) -> float:
    """Return the mean of the fastest round."""
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(CALLS):
            call()
        rounds.append((time.perf_counter() - started) / CALLS)
    return min(rounds) * 1e6


def report() -> list[str]:
    """Return a table."""
    book, given = rule_book(), situation()
    decision = decide(given, book)
    receipt = make_receipt(given, book, decision, EVENT_AND_PERSONALIZATION)

    def seal(profile: dict[str, Any]) -> bytes:
        return seal_receipt(
            lambda: make_receipt(given, book, decision, EVENT_AND_PERSONALIZATION),
            subject=given.subject,
            keyring=KEYRING,
            profile=profile,
            decision_id="x" * 26,
        )

    salted = {"identifiers": {}, "attributes": {}, "salt": b"s" * 16}
    parts: dict[str, Callable[[], object]] = {
        "decide": lambda: decide(given, book),
        "digest": lambda: digest_of(decision),
        "make": lambda: make_receipt(given, book, decision, EVENT_AND_PERSONALIZATION),
        "encode": lambda: encode_receipt(receipt),
        "make, encode and seal": lambda: seal(salted),
        "without a salt": lambda: seal({}),
    }
    return [
        "| part | µs |",
        "|---|---:|",
        *(f"| {name} | {best_microseconds(call):.1f} |" for name, call in parts.items()),
        "",
        f"{len(seal(salted))} bytes, {len(encode_receipt(receipt))} before it is sealed.",
        "",
    ]


if __name__ == "__main__":
    print("\n".join(report()))
