"""The rules and events of the comparison with other engines are what its tables say they are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.results import replace_section
from bench.rule_engines import ours, published_loop
from bench.rule_engines.figures import BASELINE, Comparison, Description, Figures, Group
from bench.rule_engines.report import section
from bench.rule_engines.rule_set import (
    EVENT_NAMES,
    ITEMS,
    MIXES,
    PARAMETERS,
    Mix,
    generate_events,
    generate_rules,
)

RULES = 2_000
EVENTS = generate_events(40)


def matched(rules: dict[str, Any], event: dict[str, Any]) -> list[str]:
    answer = published_loop.load(rules)(json.dumps(event).encode())
    return [applied["rule_id"] for applied in json.loads(answer)["applied_modifications"]]


@pytest.mark.parametrize("mix", MIXES)
def test_the_plain_loop_and_both_of_our_shapes_decide_alike(mix: Mix) -> None:
    rules = generate_rules(RULES, mix)
    books = ours.RuleBooks()
    whole, changes = books.load_published_shape(rules), books.load_decide(rules)
    plain = published_loop.load(rules)

    for event in EVENTS:
        expected = json.loads(plain(json.dumps(event).encode()))
        answer = json.loads(whole(json.dumps(event).encode()))
        decided = json.loads(changes(json.dumps({"event": event, "include": ["event"]}).encode()))

        rule_ids = [applied["rule_id"] for applied in expected["applied_modifications"]]
        assert answer["resolved_event_payload"] == expected["resolved_event_payload"]
        assert [m["rule_id"] for m in answer["applied_modifications"]] == rule_ids
        assert [m["rule_id"] for m in decided["event"]["modifications"]] == rule_ids


def test_one_to_two_percent_of_the_broad_rules_of_an_event_match() -> None:
    rules = generate_rules(RULES, "broad")

    found = sum(len(matched(rules, event)) for event in EVENTS)

    assert 0.01 <= found / len(EVENTS) / (RULES / len(EVENT_NAMES)) <= 0.02


def test_hardly_any_selective_rule_matches() -> None:
    rules = generate_rules(RULES, "selective")

    assert sum(len(matched(rules, event)) for event in EVENTS) < len(EVENTS)


def test_events_have_their_parameters_and_items() -> None:
    assert {len(event) for event in EVENTS} == {PARAMETERS}
    assert {len(event["items"]) for event in EVENTS} == {ITEMS}


def test_the_same_seed_gives_the_same_rules_and_events() -> None:
    assert generate_rules(50, "broad") == generate_rules(50, "broad")
    assert generate_events(5) == EVENTS[:5]


def test_a_table_shows_the_median_its_ratio_and_who_was_skipped() -> None:
    names = (BASELINE, "quick", "slow")
    figures = [
        Figures(BASELINE, 0.1, [90.0, 100.0, 110.0]),
        Figures("quick", 0.2, [20.0, 25.0, 900.0]),
        Figures("slow", 0.0, []),
    ]
    described = [Description(name, "as advised", is_ours=False) for name in names]
    groups = [Group("broad", 1_000, 1.5, figures)]

    lines = section(Comparison(3, {"quick": "1.0"}, described, groups))

    assert f"| {BASELINE} | 100 |" in lines
    assert "| quick | 25 (4.0) |" in lines
    assert "| slow | skipped |" in lines
    assert any("(1.50% of an event's rules match)" in line for line in lines)


def test_a_section_of_the_results_is_replaced_at_its_place(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "RESULTS.md"
    results.write_text("# Results\n\n## One\n\nold\n\n### Part\n\nold\n\n## Two\n\nkept\n")
    monkeypatch.setattr("bench.results.RESULTS", results)

    replace_section("One", ["new", ""])
    replace_section("Three", ["added"])

    assert results.read_text() == (
        "# Results\n\n## One\n\nnew\n\n## Two\n\nkept\n\n## Three\n\nadded\n"
    )
