"""Receipts: they give the same decision again, and hold nothing that no rule looked at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagstitch.core.consent import Consent
from tagstitch.core.decision import decide
from tagstitch.core.event import Event
from tagstitch.core.profile import Profile
from tagstitch.core.receipt import (
    Receipt,
    decision_bytes,
    decode_receipt,
    digest_of,
    encode_receipt,
    make_receipt,
)
from tagstitch.core.rule_book import RuleBook, compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.core.situation import Situation
from tests.core.deciding import situation_of
from tests.core.test_decision_properties import (
    CONDITIONS,
    EVENT_ACTIONS,
    EVENTS,
    KEYS,
    PERSONAL_ACTIONS,
    PLAIN_PATHS,
    UNAVAILABLE,
    VALUES,
    relaxed,
)

BOTH: Final = frozenset({"event", "personalization"})

GATES = st.fixed_dictionaries({}, optional={
    "frequency_cap": st.sampled_from([{"max": 1}, {"max": 2, "per": "day"}, {"max": 1, "group": "g"}]),
    "rollout": st.sampled_from([50, {"percent": 30, "by": "tier"}, {"percent": 80, "by": "profile.a"}]),
    "consent": st.sampled_from([{"purpose": "analytics_storage"}, {"purpose": ["own"]}]),
    "shadow": st.just(value=True),
    "is_active": st.sampled_from([True, True, False]),
    "schedule": st.sampled_from([{"days": "sun"}, {"hours": "09:00-11:00"}]),
})  # fmt: skip
MORE_CONDITIONS = st.sampled_from([
    {"experiment.e": "A"}, {"experiment.e": {"not_equals": "B"}}, {"experiment.f": {"exists": True}},
    {"items.$count": {"atLeast": 2}}, {"items.$.a.b": {"exists": True}}, {"b.$": {"type": "number"}},
    {"profile.items.$none.price": 1}, {"user_state.b": {"exists": False}}, {"event_name": "purchase"},
    {"items.$": {"match": {"items.$.a": {"exists": True}}}}, {"_original_event_name": {"exists": True}},
])  # fmt: skip
OUTBOX_ACTIONS = st.sampled_from([
    {"type": "send_email", "template_id": "t", "recipient": "profile.email", "once_per": "day"},
    {"type": "webhook", "endpoint": "e", "once_per": "decision", "body": {"x": "${a.b} ${profile.tier}", "y": "${user_state.a}"}},
])  # fmt: skip
EXPERIMENTS = st.fixed_dictionaries({
    name: st.fixed_dictionaries({
        "target_event_name": st.sampled_from(["*", "purchase"]),
        "conditions": st.sampled_from([{"tier": {"exists": True}}, {"profile.a": {"exists": True}}, {}]),
        "match_all": st.just(value=True),
        "variants": st.just({"A": 0.5, "B": 0.5}),
        "sticky": st.booleans(),
    }) for name in ("e", "f")
})  # fmt: skip


def any_rules(actions: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    rule = st.builds(
        lambda common, gates: common | gates,
        st.fixed_dictionaries({
            "target_event_name": st.sampled_from(["*", "purchase", ["purchase", "view_item"]]),
            "conditions": st.one_of(st.just({}), CONDITIONS, CONDITIONS, MORE_CONDITIONS),
            "match_all": st.just(value=True),
            "actions": st.lists(actions, min_size=1, max_size=3),
            "priority": st.integers(0, 3),
        }),
        GATES,
    )  # fmt: skip
    return st.lists(rule, min_size=2, max_size=6).map(
        lambda rules: {f"r{number}": rule for number, rule in enumerate(rules)}
    )


def chained(rules: dict[str, Any], flags: list[bool]) -> dict[str, Any]:
    return {
        rule_id: rule | {"chain": flag}
        for (rule_id, rule), flag in zip(rules.items(), flags, strict=False)
    }


BOOKS = st.builds(
    lambda for_events, flags, for_visitors, experiments, protected: compile_rule_book(
        RuleDefinitions(
            chained(for_events, flags),
            for_visitors,
            experiments=experiments,
            protected=("tier",) if protected else (),
        )
    ),
    any_rules(EVENT_ACTIONS),
    st.lists(st.booleans(), min_size=6, max_size=6),
    any_rules(st.one_of(OUTBOX_ACTIONS, PERSONAL_ACTIONS)),
    EXPERIMENTS,
    st.booleans(),
)

TIMES = st.sampled_from(
    [datetime(2026, 11, 21, tzinfo=UTC), datetime(2026, 11, 21, 20, 5, 0, 7, UTC)]
)
ATTRIBUTES = st.dictionaries(
    KEYS, VALUES | TIMES | st.lists(TIMES | st.binary(max_size=3)), max_size=5
)
CAPS = st.dictionaries(
    st.sampled_from(["g_g", "r_x"]), st.lists(st.floats(1.7e9, 1.8e9), max_size=3) | st.none()
)
ASSIGNMENTS = st.dictionaries(
    st.sampled_from(["e", "f", "gone"]),
    st.sampled_from([{"variant": "B", "version": 1, "at": 5, "bucket": 0.2}, {"variant": 5}]),
)
CONSENTS = st.builds(
    Consent,
    st.dictionaries(
        st.sampled_from(["analytics_storage", "ad_personalization", "own"]), st.sampled_from([True, True, False])
    ),
    st.just({}),
    default_granted=st.booleans(),
    recorded_grants=st.sampled_from([frozenset({"email"}), frozenset()]),
)  # fmt: skip
SITUATIONS = st.builds(
    lambda event, attributes, state, caps, assignments, consent, unavailable, can_commit: situation_of(
        event,
        Profile("p_1", attributes, state, caps, assignments),
        consent=consent,
        unavailable=unavailable,
        can_commit=can_commit,
    ),
    EVENTS, ATTRIBUTES, st.dictionaries(KEYS, VALUES, max_size=3), CAPS, ASSIGNMENTS, CONSENTS,
    UNAVAILABLE, st.booleans(),
)  # fmt: skip


def sent_and_back(receipt: Receipt) -> Receipt:
    return decode_receipt(encode_receipt(receipt))


@given(
    SITUATIONS, BOOKS, st.sampled_from([BOTH, frozenset({"event"}), frozenset({"personalization"})])
)
@relaxed(300)
def test_a_receipt_gives_the_same_decision_again(
    situation: Situation, book: RuleBook, include: frozenset[str]
) -> None:
    decision = decide(situation, book, include=include)

    receipt = sent_and_back(make_receipt(situation, book, decision, include))
    again = receipt.replay(book)

    assert decision_bytes(again) == decision_bytes(decision)
    assert digest_of(again) == receipt.digest
    assert again == decision


def book_of(*rules: dict[str, Any], personal: dict[str, Any] | None = None) -> RuleBook:
    """Return the book of rules for every event, which hold always unless they say otherwise."""
    common = {"target_event_name": "*", "match_all": True}
    book = compile_rule_book(
        RuleDefinitions(
            {f"r{number}": common | rule for number, rule in enumerate(rules)},
            {} if personal is None else {"p": common | personal},
        )
    )
    assert book.broken == ()
    return book


def receipt_of(situation: Situation, book: RuleBook) -> Receipt:
    return sent_and_back(make_receipt(situation, book, decide(situation, book), BOTH))


def redact(*parameters: str) -> dict[str, Any]:
    return {"type": "redact", "parameters": list(parameters)}


def set_to(parameter: str, value: Any) -> dict[str, Any]:
    return {"type": "modify_parameter", "parameter": parameter, "operator": "set", "operand": value}


def copy(parameter: str, source: str) -> dict[str, Any]:
    return {"type": "modify_parameter", "parameter": parameter, "operator": "copy", "from": source}


NO_PROFILE = frozenset({"profile", "state"})
TRAPS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], list[dict[str, Any]]]] = {
    "a text in the event where the profile has a list": (
        {"items": "none"}, {"items": [{"a": 1}]}, {},
        [{"conditions": {"items.$.a": 1}, "actions": [{"type": "drop_event"}]}],
    ),
    "an unasked copy that needs no profile": (
        {"coupon": "x", "secret": "s", "by": "nobody"}, {}, {"unavailable": NO_PROFILE},
        [{"rollout": {"percent": 0, "by": "by"}, "actions": [redact("secret"), copy("a", "coupon")]}],
    ),
    "a part that is redacted and a part that changes": (
        {"user": {"mail": "m", "tier": "gold"}}, {}, {},
        [{"actions": [redact("user.mail"), set_to("user.tier", "silver")]}],
    ),
    "a part that a shadow would redact and a part that changes": (
        {"user": {"mail": "m", "tier": "gold"}}, {}, {},
        [{"shadow": True, "actions": [redact("user.mail")]}, {"actions": [set_to("user.tier", "x")]}],
    ),
    "what is redacted and looked at": (
        {"user": {"mail": "m", "tier": "gold"}}, {}, {},
        [{"conditions": {"user.mail": "m"}, "actions": [redact("user.mail")]}],
    ),
    "what is redacted and copied": (
        {"user": {"mail": "m"}}, {}, {}, [{"actions": [copy("to", "user.mail"), redact("user")]}],
    ),
    "what is redacted twice": (
        {"user": {"mail": {"work": "m"}}, "user.mail": 1}, {}, {},
        [{"actions": [redact("user.mail.work"), redact("user.mail")]}],
    ),
    "an item that is redacted": (
        {"items": [{"a": 1}, {"a": 2, "b": [5]}]}, {}, {},
        [{"conditions": {"items.$count": 2, "items.$.a": 1}, "actions": [redact("items.1.b")]}],
    ),
    "a redaction of what is not there": (
        {"user": "text"}, {}, {}, [{"actions": [redact("user.mail", "other")]}],
    ),
    "an index": ({"items": [{"a": 1}, {"a": 2}]}, {}, {},
        [{"conditions": {"items.1.a": 2}, "actions": [{"type": "drop_event"}]}],
    ),
    "a chain": (
        {"a": {"b": 1, "c": 2}}, {}, {},
        [{"actions": [set_to("a.b", 5)]}, {"chain": True, "conditions": {"a.b": 5, "a.c": 2}, "actions": [{"type": "drop_event"}]}],
    ),
    "a bare name that the profile has": (
        {}, {"tier": "gold", "other": "x"}, {},
        [{"conditions": {"tier": "gold"}, "actions": [copy("tier", "tier")]}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TRAPS.values(), ids=TRAPS)
def test_a_receipt_holds_what_is_easily_left_out(
    case: tuple[dict[str, Any], dict[str, Any], dict[str, Any], list[dict[str, Any]]],
) -> None:
    parameters, attributes, fields, rules = case
    situation = situation_of(Event("purchase", parameters), Profile("p_1", attributes), **fields)
    book = book_of(*rules)

    assert receipt_of(situation, book).replay(book) == decide(situation, book)


def test_a_redacted_value_is_in_no_receipt() -> None:
    parameters = {
        "user": {"mail": "CANARY", "phones": ["CANARY"], "tier": "gold"},
        "note": "CANARY",
    }
    book = book_of(
        {
            "conditions": {"user.tier": "gold"},
            "actions": [redact("user.mail", "user.phones", "note")],
        }
    )

    receipt = receipt_of(situation_of(Event("purchase", parameters)), book)

    assert receipt.event == {
        "user": {"mail": None, "phones": [None], "tier": "gold"},
        "note": None,
    }


@given(
    EVENTS, st.lists(PLAIN_PATHS, min_size=1, max_size=4), st.dictionaries(KEYS, VALUES, max_size=3)
)
@relaxed(200)
def test_a_receipt_holds_no_value_that_no_rule_names(
    event: Event, paths: list[str], attributes: dict[str, Any]
) -> None:
    """Conditions alone: an action answers with the whole parameter that it changes."""
    conditions: list[dict[str, Any]] = [{"conditions": {p: {"exists": True}}} for p in paths]
    conditions.append({"conditions": {"things.$.a": 1, "things.$count": {"atLeast": 1}}})
    book = book_of(
        *(c | {"shadow": True, "actions": [{"type": "drop_event"}]} for c in conditions),
        personal={
            "conditions": {"user_state.a": 1},
            "actions": [{"type": "return_value", "key": "k", "value": 1}],
        },
    )
    planted = {
        "z": "CANARY", "nested": {"tier": "CANARY", "z": ["CANARY"]}, "a.z": "CANARY",
        "things": [{"a": 1, "z": "CANARY"}, {"z": {"a": "CANARY"}}, "CANARY"],
    }  # fmt: skip
    profile = Profile(
        "p_1",
        attributes | planted,
        {"z": "CANARY"},
        {"r_z": [5.0]},
        {"CANARY": {"variant": "CANARY"}},
    )
    situation = situation_of(Event(event.name, {**event.parameters, **planted}), profile)

    receipt = make_receipt(situation, book, decide(situation, book), BOTH)

    assert b"CANARY" not in encode_receipt(receipt)
    assert receipt.caps == {}
    assert sent_and_back(receipt).replay(book) == decide(situation, book)


def test_a_receipt_keeps_of_state_and_caps_what_the_rules_use() -> None:
    cap = {"max": 3, "group": "offers"}
    book = book_of(
        personal={
            "conditions": {"user_state.seen": {"exists": False}},
            "frequency_cap": cap,
            "updates_user_state": {"shown": True},
        }
    )
    profile = Profile(
        "p_1", {}, {"seen": None, "shown": False, "other": 1}, {"g_offers": [5.0], "g_other": [6.0]}
    )

    receipt = receipt_of(situation_of(Event("purchase", {}), profile), book)

    assert receipt.state == {"seen": None, "shown": False}
    assert receipt.caps == {"g_offers": [5.0]}


def test_a_receipt_keeps_that_something_was_sent_before() -> None:
    body = {"type": "webhook", "endpoint": "e", "once_per": "day", "body": {"tier": "${tier}"}}
    book = book_of(personal={"actions": [body]})
    first = decide(situation_of(Event("purchase", {"tier": "gold"})), book)
    again = situation_of(
        Event("purchase", {"tier": "gold"}), Profile("p_1", caps=first.changes.caps)
    )
    decision = decide(again, book)

    assert first.changes.outbox
    assert not decision.changes.outbox
    assert receipt_of(again, book).replay(book) == decision


DEEP: list[Any] = []
for _ in range(5000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 11, 21),  # noqa: DTZ001 - a naive time comes back as text
        datetime(2026, 11, 21, tzinfo=timezone(timedelta(hours=2))),
        (1, 2), {1, 2}, {5: "a"}, {"a": {None: 1}}, 2**64, -(2**64), "\ud800", DEEP, object(), bytearray(b"x"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_value_that_would_not_come_back_is_refused(value: Any) -> None:
    book = book_of({"conditions": {"odd": {"exists": True}}, "actions": [{"type": "drop_event"}]})
    situation = situation_of(Event("purchase", {}), Profile("p_1", {"odd": value}))
    receipt = make_receipt(situation, book, decide(situation, book), BOTH)

    with pytest.raises((TypeError, OverflowError, UnicodeEncodeError, RecursionError)):
        encode_receipt(receipt)


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 11, 21, 0, 0, 0, 1, UTC), b"\xff\x00", 2**63, -(2**63), 0.1, 5.0, 5, True, None,
        ["a", [None, {"b": []}]],
    ],
    ids=str,
)  # fmt: skip
def test_a_value_comes_back_with_its_type(value: Any) -> None:
    book = book_of({"conditions": {"odd": {"exists": True}}, "actions": [{"type": "drop_event"}]})
    situation = situation_of(Event("purchase", {}), Profile("p_1", {"odd": value}))

    back = receipt_of(situation, book).attributes["odd"]

    assert (back, type(back)) == (value, type(value))


@pytest.mark.parametrize("content", [b"", b"\x80", b"\xc1", msgspec.msgpack.encode([1, 2])])
def test_what_is_no_receipt_is_refused(content: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_receipt(content)
