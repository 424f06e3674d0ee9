"""Event names with more rules than are asked one by one: what holds of few holds of many."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from msgspec import structs

from tagstitch.core.consent import resolve_consent
from tagstitch.core.event import Event
from tagstitch.core.event_decision import EventDecision
from tagstitch.core.rule_book import RuleBook, compile_rule_book
from tagstitch.core.rule_bucket import PLAIN_RULES_MAX
from tagstitch.core.rule_definitions import RuleDefinitions
from tests.core.deciding import decide_event

MANY = PLAIN_RULES_MAX + 4

Rule = dict[str, Any]


def rule(*actions: Rule, **fields: Any) -> Rule:
    """Return a rule of whose condition the index is sure."""
    return {"target_event_name": "e", "conditions": {"t": 1}, "actions": [*actions], **fields}


def setting(parameter: str, operand: Any, operator: str = "set", **fields: Any) -> Rule:
    action = {"type": "modify_parameter", "parameter": parameter, "operator": operator}
    return action | ({} if operand is None else {"operand": operand}) | fields


def book(*rules: Rule, others: int = MANY) -> RuleBook:
    """Return a book of these rules, in this order, behind others that hold for no event."""
    never = rule(setting("never", 1), conditions={"never": True}, priority=1)
    named = {f"never{n}": never for n in range(others)}
    named |= {f"r{n:04}": {"priority": 100, **each} for n, each in enumerate(rules)}
    made = compile_rule_book(RuleDefinitions(named))
    assert made.broken == ()
    return made


def event(**parameters: Any) -> Event:
    return Event("e", {"event_name": "e", "t": 1, **parameters})


def untold(decision: EventDecision) -> EventDecision:
    return structs.replace(decision, trace=())


CONSENT_DENIED = resolve_consent(
    requested={"onsite": False}, event=None, profile=None, default_granted=True
)


def test_a_rule_with_one_action_keeps_all_that_it_says() -> None:
    """What a sure rule's only action stands for must not hide its purpose, its stop, its drop."""
    rules = (
        rule(setting("a", 1, purposes="onsite")),
        rule({"type": "redact", "parameters": ["email"]}),
        rule(setting("b", 1), stop_on_match=True),
        rule(setting("c", 1)),
    )

    decision = decide_event(event(email="me@x.example"), book(*rules), consent=CONSENT_DENIED)

    assert (decision.set, decision.unset) == ({"b": 1}, ("email",))
    assert decision.rule_ids == ("r0000", "r0001", "r0002")


def test_nothing_happens_behind_a_drop() -> None:
    decision = decide_event(event(), book(rule({"type": "drop_event"}), rule(setting("a", 1))))

    assert decision.drop
    assert decision.set == {}


def test_a_redaction_forgets_what_sole_actions_recorded_of_the_value() -> None:
    rules = (
        rule(setting("email", None, "upper")),
        rule({"type": "redact", "parameters": ["email"]}),
    )

    decision = decide_event(event(email="me@x.example"), book(*rules))

    assert "x.example" not in str(decision.modifications).lower()


def test_a_redaction_at_the_cut_off_forgets_it_too() -> None:
    """The evaluation ends between the change and the redaction."""
    dear = {"type": "map_items", "item_property": "price", "operator": "multiply", "operand": 1.01}
    rules = (
        rule(setting("email", None, "upper")),
        *(rule(*[dear] * 20) for _ in range(600)),
        rule({"type": "redact", "parameters": ["email"]}),
    )
    items = [{"price": 1.0}] * 1000

    decision = decide_event(event(email="me@x.example", items=items), book(*rules))

    assert decision.cut_off_at is not None
    assert decision.unset == ("email",)
    assert "X.EXAMPLE" not in str(decision.modifications).upper()


def test_a_lone_redaction_leaves_no_value_in_the_event() -> None:
    arrived = event(email="me@x.example")

    decision = decide_event(arrived, book(rule({"type": "redact", "parameters": ["email"]})))

    assert decision.apply_to(arrived) == {"event_name": "e", "t": 1}


def test_explaining_ends_where_deciding_ends_whatever_the_work() -> None:
    rules = [
        rule(setting(f"p{n}", n), **({"conditions": {}, "match_all": True} if n % 3 == 0 else {}))
        for n in range(MANY)
    ]
    rules += [rule(setting("t", 2, "add"), conditions={"t": {"atLeast": 0}}, chain=True)]
    made = book(*rules)

    for steps in range(0, 900, 5):
        plain = decide_event(event(t=1), made, work_steps=steps)
        told = decide_event(event(t=1), made, work_steps=steps, explain=True)
        assert untold(told) == plain, steps


def test_a_shadow_rule_whose_actions_are_denied_is_told_alike() -> None:
    shadow = rule(setting("a", 1, purposes="onsite"), shadow=True)
    made = book(shadow)

    plain = decide_event(event(), made, consent=CONSENT_DENIED)
    told = decide_event(event(), made, consent=CONSENT_DENIED, explain=True)

    assert untold(told) == plain
    assert plain.shadow == ({"rule_id": "r0000", "modifications": []},)


def test_additions_count_the_name_that_each_modification_repeats() -> None:
    name = "n" * 400
    rules = [rule(setting(name, 1, "add")) for _ in range(4_000)]

    decision = decide_event(event(**{name: 1}), book(*rules))

    assert 0 < len(decision.skipped) < 4_000
    assert {skipped.error for skipped in decision.skipped} == {"ResultOutOfRange"}


def test_replacing_a_large_list_takes_the_work_of_keeping_it() -> None:
    made = book(*[rule(setting("x", n)) for n in range(40)])
    large = [{"a": "b" * 200}] * 2_000

    free = decide_event(event(x=1), made, work_steps=3_000)
    dear = decide_event(event(x=large), made, work_steps=3_000)

    assert (free.cut_off_at, dear.cut_off_at) == (None, "r0000")


def test_a_value_that_no_index_can_look_up_leaves_the_choice_to_the_conditions() -> None:
    """An integer beyond every float: no decoder gives it, but nothing may fail for it."""
    rules = [rule(setting("a", 1), conditions={"l.$": {"atLeast": 1}}) for _ in range(MANY)]

    decision = decide_event(event(l=[10**400]), book(*rules, rule(setting("b", 1))))

    assert decision.set["b"] == 1


@pytest.mark.parametrize("path", ["/shop/garden", "/shop", "/sh", "/s", "/"])
def test_prefixes_of_every_length_are_looked_up(path: str) -> None:
    starts = ["/", "/s", "/sh", "/shop", "/shop/garden", "/x"]
    rules = [
        rule(setting(f"p{n}", 1), conditions={"page": {"startsWith": start}})
        for n, start in enumerate(starts)
    ]

    decision = decide_event(event(page=path), book(*rules))

    assert set(decision.set) == {f"p{n}" for n, s in enumerate(starts) if path.startswith(s)}


def test_a_refused_constant_harms_only_its_rule() -> None:
    bad = rule(setting("a", "\ud800"))

    made = compile_rule_book(RuleDefinitions({"bad": bad, "good": rule(setting("b", 1))}))

    assert [broken.rule_id for broken in made.broken] == ["bad"]
    assert decide_event(event(), made).set == {"b": 1}


def test_an_action_that_looks_at_something_is_not_shared_between_declarations() -> None:
    copying = rule(
        {"type": "modify_parameter", "parameter": "a", "operator": "copy", "from": "tier"}
    )
    plain = compile_rule_book(RuleDefinitions({"r": copying}))
    protecting = compile_rule_book(RuleDefinitions({"r": copying}, protected=("tier",)))

    assert decide_event(event(tier="forged"), plain).set == {"a": "forged"}
    assert decide_event(event(tier="forged"), protecting).set == {}


_LEFT = """
from tests.core.test_many_rules import book, event, rule, setting
from tests.core.deciding import decide_event
drop = rule({"type": "drop_event"},
            conditions={"items.$.a": "x", "tags.$": "y", "more.$.b": "z"})
made = book(*[drop] * 8, rule(setting("v", 1)), others=0)
for steps in range(100, 1500, 50):
    decision = decide_event(
        event(items=[{"a": "n"}] * 500, tags=["n"] * 3, more=[{"b": "n"}] * 90), made,
        work_steps=steps,
    )
    print(steps, dict(decision.set), decision.cut_off_at)
"""


def test_the_work_of_a_look_up_does_not_depend_on_the_process() -> None:
    """A replay runs in another process, with other hashes."""
    said = {
        subprocess.run(
            [sys.executable, "-c", _LEFT],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(4)
    }

    assert len(said) == 1
