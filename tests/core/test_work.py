"""Hostile rules: one decision does a bounded amount of work, whatever its rules and event are."""

from __future__ import annotations

from typing import Any

import pytest

from tagstitch.core.consent import resolve_consent
from tagstitch.core.event import Event
from tagstitch.core.limits import OUTBOX_ENTRIES_MAX, WORK_STEPS_MAX
from tagstitch.core.paths import Facts, Source
from tagstitch.core.receipt import digest_of, make_receipt
from tagstitch.core.rule import parse_event_rule
from tagstitch.core.rule_book import RuleBook, compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.core.work import Work, WorkExceeded
from tests.core.deciding import decide_both, situation_of

A_B = "ab" * 4_000
SLOW_REGEX = "(a|b)*a(a|b){12}c"
ITEMS = [{"item_id": f"i{number}", "price": 1.0} for number in range(1_000)]
TINY_ITEMS: list[dict[str, Any]] = [{} for _ in range(100_000)]


def modify(parameter: str, operator: str, **details: Any) -> dict[str, Any]:
    return {
        "type": "modify_parameter",
        "parameter": parameter,
        "operator": operator,
        **details,
    }


RAISE = {"type": "map_items", "item_property": "price", "operator": "multiply", "operand": 1.01}


def rule(*actions: dict[str, Any], **fields: Any) -> dict[str, Any]:
    match_all = {} if "conditions" in fields else {"match_all": True}
    return {"target_event_name": "e", "actions": list(actions), **match_all, **fields}


def many(number: int, definition: dict[str, Any]) -> dict[str, Any]:
    return {f"r{index:04}": definition for index in range(number)}


def book_of(
    event_rules: dict[str, Any] | None = None, personalization_rules: dict[str, Any] | None = None
) -> RuleBook:
    book = compile_rule_book(RuleDefinitions(event_rules or {}, personalization_rules or {}))
    assert not book.broken
    return book


def event(**parameters: Any) -> Event:
    return Event("e", {"event_name": "e", **parameters})


DROP = {"type": "drop_event"}

HOSTILE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "items mapped": (rule(*[RAISE] * 20), {"items": ITEMS}),
    "items filtered": (
        rule({"type": "filter_items", "match": {"a": {"exists": False}}}), {"items": TINY_ITEMS},
    ),
    "items matched": (rule(DROP, conditions={"items.$": {"match": {"a": 1}}}), {"items": TINY_ITEMS}),
    "items changed one by one": (
        rule(*(modify(f"items.{n}.x", "set", operand=n) for n in range(20))), {"items": TINY_ITEMS},
    ),
    "items copied": (rule(*(modify(f"x{n}", "copy", **{"from": "items"}) for n in range(20))), {"items": TINY_ITEMS}),
    "a list of values": (rule(DROP, conditions={"t": {"anyOf": [-1]}}), {"t": list(range(100_000))}),
    "a slow expression": (rule(DROP, conditions={"t": {"matches": SLOW_REGEX}}), {"t": A_B}),
    "a slow replacement": (
        rule(*[modify("t", "regex_replace", pattern=SLOW_REGEX, replacement="x")] * 20), {"t": A_B},
    ),
    "a long text": (rule(DROP, conditions={"t": {"contains": "c"}}), {"t": A_B * 100}),
    "a long text in any case": (
        rule(DROP, conditions={"t": {"contains": "C", "ignoreCase": True}}), {"t": A_B * 100},
    ),
    "a long text hashed": (rule(*[modify("t", "hash")] * 20), {"t": A_B * 100}),
    "names in a circle": (
        rule(*({"type": "rename_event", "new_event_name": name} for name in "ab" * 10)), {},
    ),
    "factors out of range": (rule(*[modify("v", "multiply", operand=1e308)] * 20), {"v": 3}),
    "a wide event, chained": (
        rule(*[modify("v", "add", operand=1)] * 20, chain=True),
        {"v": 0, **{f"p{n}": n for n in range(1_900)}},
    ),
    "shadows": (rule(*[modify("x", "set", operand="z" * 16_000)] * 20, shadow=True), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_take_long_is_cut_off_and_ends_at_the_same_place_every_time(name: str) -> None:
    definition, parameters = HOSTILE[name]
    book = book_of(many(600, definition))
    arrived = event(**parameters)

    decision = decide_both(arrived, book)

    assert decision.event is not None
    assert decision.event.cut_off_at is not None
    assert decision.event.cut_off_at > "r0000" or "items" in parameters
    assert decision == decide_both(arrived, book)


COSTLY = [
    ({"id": {"percent": [0, 1], "salt": "s"}}, {"id": "x" * 512}, 160),
    ({"ids.$": {"percent": [0, 1], "salt": "s"}}, {"ids": ["x" * 512] * 100}, 16_000),
    ({"ids.$": {"versionAtLeast": "9.0"}}, {"ids": ["1.2.3-a." + "1." * 40 + "1"] * 100}, 3_000),
    ({"ids.$": {"before": "1999-01-01"}}, {"ids": ["2026-11-21T20:00:00+01:00"] * 100}, 600),
    ({"ids.$": {"cidr": ["10.0.0.0/8"]}}, {"ids": ["2001:db8:85a3::8a2e:370:7334"] * 100}, 1_500),
    ({"text": {"contains": "a" * 250 + "b" + "a" * 249}}, {"text": "a" * 2_400}, 400),
    ({"text": {"contains": "a" * 50 + "b" + "a" * 49}}, {"text": "a" * 29_000}, 1_200),
    ({"text": {"contains": "A" * 5, "ignoreCase": True}}, {"text": "b" * 100_000}, 1_000),
    ({"text": {"startsWith": "é" * 4_000, "ignoreCase": True}}, {"text": "É" * 10_000}, 40),
    ({"text": {"endsWith": "é" * 4_000, "ignoreCase": True}}, {"text": "É" * 10_000}, 40),
    ({"ids": {"equals": list(range(1_000))}}, {"ids": [*range(999), 0]}, 300),
]


@pytest.mark.parametrize(("conditions", "parameters", "steps"), COSTLY)
def test_a_comparison_counts_about_what_it_costs(
    conditions: dict[str, Any], parameters: dict[str, Any], steps: int
) -> None:
    facts = Facts(parameters, work=Work(10**6))

    parse_event_rule("r", rule(DROP, conditions=conditions)).condition.holds(facts)

    assert steps <= 10**6 - facts.work.left <= 4 * steps


def test_a_rollout_and_a_sample_count_the_length_of_an_id() -> None:
    by_id = rule(
        {"type": "sample", "percent": 100, "by": "id"}, rollout={"percent": 100, "by": "id"}
    )
    short, long = (
        decide_both(event(id=id_), book_of(many(50, by_id)), work_steps=5_000).event
        for id_ in ("x", "x" * 512)
    )

    assert short is not None
    assert long is not None
    assert (short.cut_off_at is None, long.cut_off_at is None) == (True, False)


def test_telling_that_data_is_missing_counts_what_it_costs() -> None:
    conditions = {f"attribute{j}": {"in": ["a", "b"]} for j in range(40)}
    known = {"code": {"notIn": [f"c{k}" for k in range(500)]}}
    facts = Facts({"code": "x"}, work=Work(10**6))
    condition = parse_event_rule("r", rule(DROP, conditions=conditions | known)).condition
    missing: frozenset[Source] = frozenset(("profile", "user_state"))

    assert condition.is_lacking(facts, missing)
    assert condition.may_hold(facts, missing)
    assert 1_000 <= 10**6 - facts.work.left <= 2_000


def test_work_counts_down_and_never_recovers() -> None:
    work = Work(10)

    work.spend(10)
    assert not work.is_exceeded
    for _ in range(2):
        with pytest.raises(WorkExceeded):
            work.spend(1)

    assert work.is_exceeded


def test_thousands_of_plain_rules_are_no_hostile_work() -> None:
    rules = many(5_000, rule(modify("v", "add", operand=1), conditions={"t": {"notEquals": 1}}))

    decision = decide_both(event(t=2, v=0), book_of(rules))

    assert not decision.is_cut_off
    assert decision.event is not None
    assert decision.event.set == {"v": 5_000}


def test_what_was_decided_before_the_cut_stays() -> None:
    first = rule(modify("v", "set", operand=1), priority=1)

    decision = decide_both(
        event(items=ITEMS), book_of({"a": first, **many(600, rule(*[RAISE] * 20))})
    )

    assert decision.event is not None
    assert decision.event.set["v"] == 1
    assert decision.event.rule_ids[0] == "a"


def test_redactions_behind_the_cut_still_happen_and_take_the_whole_parameter() -> None:
    """Whether their conditions hold is not known, and what is not known may be private."""
    heavy = many(600, rule(*[RAISE] * 20, priority=1))
    redact = {"type": "redact", "parameters": ["email", "user_data.phone"]}
    private = rule(redact, DROP, conditions={"t": {"notEquals": 2}}, priority=2)
    denied = rule({"type": "redact", "parameters": ["v"]}, purposes=["ad_storage"], priority=2)
    watched = rule({"type": "redact", "parameters": ["w"]}, shadow=True, priority=2)
    book = book_of({**heavy, "s1": private, "s2": denied, "s3": watched})
    personal = {
        "email": "a@b.example",
        "user_data": {"phone": "1", "city": "x"},
        "v": 1,
        "w": 2,
        "t": 2,
    }
    arrived = event(items=ITEMS, consent_state={"ad_storage": "denied"}, **personal)
    consent = resolve_consent(requested=None, event=arrived, profile=None, default_granted=True)

    decision = decide_both(arrived, book, consent=consent).event

    assert decision is not None
    assert set(decision.unset) == {"email", "user_data"}
    assert not decision.drop
    assert decision.rule_ids[-1] == "s1"
    assert decision.modifications[-2:] == (
        {"rule_id": "s1", "type": "redact", "parameter": "email"},
        {"rule_id": "s1", "type": "redact", "parameter": "user_data"},
    )


def test_the_personalization_of_a_cut_off_event_is_degraded() -> None:
    offer = {
        "event_name_trigger": "e", "match_all": True, "action_type": "return_value",
        "action_details": {"key": "k", "value": 1},
    }  # fmt: skip
    book = book_of(many(600, rule(*[RAISE] * 20)), {"p": offer})

    decision = decide_both(event(items=ITEMS), book).personalization

    assert decision is not None
    assert (decision.reason, decision.cut_off_at, decision.actions) == ("DEGRADED", "p", ())


def test_answers_and_outbox_entries_of_one_decision_are_bounded() -> None:
    value = {"type": "return_value", "key": "k", "value": "v" * 4_000}
    hook = {"type": "webhook", "endpoint": "hook", "body": {"a": "b"}}
    base = {"event_name_trigger": "e", "match_all": True}
    values = decide_both(event(), book_of({}, many(600, {**base, "actions": [value] * 20})))
    hooks = decide_both(event(), book_of({}, many(600, {**base, "actions": [hook] * 3})))

    assert values.personalization is not None
    assert values.personalization.cut_off_at is not None
    assert 0 < len(values.personalization.actions) < 2_000
    assert OUTBOX_ENTRIES_MAX - 3 < len(hooks.changes.outbox) <= OUTBOX_ENTRIES_MAX
    assert hooks.has_withheld


def test_a_trace_of_a_cut_off_event_tells_where_and_changes_nothing() -> None:
    book = book_of({**many(300, rule(*[RAISE] * 20)), "z": rule(DROP, priority=200)})

    plain = decide_both(event(items=ITEMS), book).event
    explained = decide_both(event(items=ITEMS), book, explain=True).event

    assert plain is not None
    assert explained is not None
    assert (plain.cut_off_at, plain.set) == (explained.cut_off_at, explained.set)
    reasons = [line["reason"] for line in explained.trace]
    assert reasons[-1] == "WORK_EXCEEDED"
    assert len(reasons) == 301


def test_a_short_deadline_leaves_less_work_and_its_receipt_replays_the_same() -> None:
    book = book_of(
        many(40, rule(modify("v", "add", operand=1), conditions={"t": {"notEquals": 1}}))
    )
    arrived = event(t=2, v=0)
    situation = situation_of(arrived, work_steps=500)

    short = decide_both(arrived, book, work_steps=500)
    whole = decide_both(arrived, book, work_steps=WORK_STEPS_MAX)
    receipt = make_receipt(situation, book, short, frozenset({"event", "personalization"}))

    assert (short.is_cut_off, whole.is_cut_off) == (True, False)
    assert digest_of(receipt.replay(book)) == receipt.digest == digest_of(short)
