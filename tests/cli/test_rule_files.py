"""Rule files in every accepted form, and their problems all at once."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tagstitch.cli.rule_files import RuleFilesError, read_rule_files, write_rule_files
from tagstitch.core.experiment_parsing import parse_experiment
from tagstitch.core.profile_traits import compile_traits
from tagstitch.core.rule_book import compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions

EXAMPLES = Path(__file__).parents[2] / "examples"
DROP = {"target_event_name": "view_item", "conditions": {"a": 1}, "action_type": "drop_event"}
SPLIT = {"target_event_name": "view_item", "variants": {"a": 0.5, "b": 0.5}}
GOLD = {"conditions": {"tier": "Gold"}}
ORDERS = {"event": "purchase", "operation": "count"}
COOKIE = {"event_name_trigger": "view_item", "conditions": {"a": 1}, "action_type": "return_value"}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def problems_of(path: Path) -> list[tuple[str | None, str]]:
    with pytest.raises(RuleFilesError) as refused:
        read_rule_files(path)
    return [(problem.rule_id, problem.message) for problem in refused.value.problems]


def test_the_samples_are_read_and_compile() -> None:
    definitions = read_rule_files(EXAMPLES / "rules")

    assert definitions.event_rules.keys() == {
        "rename_micro_purchase",
        "adjust_churn_risk_value",
        "remove_oos_items",
        "drop_maintenance_product_views",
        "drop_maintenance_item_views",
    }
    assert definitions.personalization_rules.keys() == {
        "discount_electronics_gold_tier",
        "discount_electronics_items_gold_tier",
        "priority_support_good_customers",
    }
    assert definitions.experiments.keys() == {"free_shipping_bar"}
    assert compile_rule_book(definitions).broken == ()
    traits = compile_traits(definitions.traits)
    assert len(traits.by_name) == 7
    assert traits.broken == ()
    for experiment_id, raw in definitions.experiments.items():
        parse_experiment(experiment_id, raw)


@pytest.mark.parametrize(
    ("name", "content", "ids"),
    [
        ("drop.json", DROP, {"drop"}),
        ("anything.json", {**DROP, "rule_id": "drop"}, {"drop"}),
        ("list.json", [{**DROP, "rule_id": "a"}, {**DROP, "rule_id": "b"}], {"a", "b"}),
        ("all.json", {"event_rules": {"a": DROP}, "personalization_rules": {}}, {"a"}),
        ("all.json", {"event_rules": [{**DROP, "rule_id": "a"}]}, {"a"}),
        ("drop.yaml", "target_event_name: x\naction_type: drop_event\n", {"drop"}),
        ("drop.yml", "rule_id: drop\ntarget_event_name: x\naction_type: drop_event\n", {"drop"}),
    ],
)
def test_a_file_may_hold_one_rule_a_list_or_a_mapping(
    tmp_path: Path, name: str, content: Any, ids: set[str]
) -> None:
    definitions = read_rule_files(write(tmp_path / name, content))

    assert definitions.event_rules.keys() == ids
    assert all("rule_id" not in rule for rule in definitions.event_rules.values())


def test_the_kind_comes_from_top_key_folder_or_event_field(tmp_path: Path) -> None:
    neutral = {"event_name_trigger": "x", "action_type": "drop_event"}
    write(tmp_path / "by_key.json", {"event_rules": {"key": neutral}})
    write(tmp_path / "event_rules" / "folder.json", neutral)
    write(tmp_path / "field.json", DROP)
    write(tmp_path / "cookie.json", COOKIE)

    definitions = read_rule_files(tmp_path)

    assert definitions.event_rules.keys() == {"key", "folder", "field"}
    assert definitions.personalization_rules.keys() == {"cookie"}


@pytest.mark.parametrize(
    ("name", "content", "ids"),
    [
        ("experiments/a.json", SPLIT, {"a"}),
        ("experiments/some.json", [{**SPLIT, "experiment_id": "a"}], {"a"}),
        ("experiments.json", {**SPLIT, "experiment_id": "a"}, {"a"}),
        ("a.yaml", "target_event_name: x\nvariants: {a: 0.5, b: 0.5}\n", {"a"}),
        ("some.json", [{**SPLIT, "experiment_id": "a"}, {**SPLIT, "experiment_id": "b"}], {"a", "b"}),
        ("some.json", {"experiments": {"a": SPLIT}, "event_rules": {"b": DROP}}, {"a"}),
        ("some.json", {"experiments": [{**SPLIT, "experiment_id": "a"}]}, {"a"}),
    ],
)  # fmt: skip
def test_experiments_are_told_by_top_key_place_or_variants(
    tmp_path: Path, name: str, content: Any, ids: set[str]
) -> None:
    write(tmp_path / name, content)

    definitions = read_rule_files(tmp_path)

    assert definitions.experiments.keys() == ids
    assert all("experiment_id" not in found for found in definitions.experiments.values())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("audiences/gold.json", GOLD),
        ("audiences.json", {**GOLD, "audience_id": "gold"}),
        ("some.json", {"audiences": {"gold": GOLD}}),
    ],
)
def test_audiences_are_told_by_top_key_or_place(tmp_path: Path, name: str, content: Any) -> None:
    write(tmp_path / name, content)

    assert read_rule_files(tmp_path).audiences == {"gold": GOLD}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("traits/orders.json", ORDERS),
        ("orders.json", ORDERS),
        ("orders.yaml", "target_event_name: purchase\noperation: count\n"),
        ("traits.json", {**ORDERS, "trait_id": "orders"}),
        ("some.json", [{**ORDERS, "trait_id": "orders"}]),
        ("some.json", {"traits": {"orders": ORDERS}, "event_rules": {"a": DROP}}),
    ],
)
def test_traits_are_told_by_top_key_place_or_operation(
    tmp_path: Path, name: str, content: Any
) -> None:
    write(tmp_path / name, content)

    definitions = read_rule_files(tmp_path)

    assert definitions.traits.keys() == {"orders"}
    assert definitions.protected_names == {"orders"}
    assert compile_traits(definitions.traits).names == {"orders"}


def test_conditions_alone_are_nothing_that_can_be_told(tmp_path: Path) -> None:
    [(_, message)] = problems_of(write(tmp_path / "gold.json", GOLD))

    assert "audience" in message


def test_one_id_may_name_a_rule_and_an_experiment(tmp_path: Path) -> None:
    both = {"event_rules": {"a": DROP}, "experiments": {"a": SPLIT}}

    definitions = read_rule_files(write(tmp_path / "some.json", both))

    assert definitions == RuleDefinitions({"a": DROP}, {}, {"a": SPLIT})


def test_a_folder_is_read_to_the_bottom_and_other_files_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "drop.yaml", "target_event_name: x\naction_type: drop_event\n")
    write(tmp_path / "notes.txt", "not a rule")
    write(tmp_path / ".git" / "hidden.json", DROP)

    assert read_rule_files(tmp_path).event_rules.keys() == {"drop"}


def test_every_problem_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "a.json", DROP)
    write(tmp_path / "b.json", {**DROP, "rule_id": "a"})
    write(tmp_path / "c.json", "{")
    write(tmp_path / "d.json", {"action_type": "drop_event"})
    write(tmp_path / "e.json", [DROP])
    write(tmp_path / "f.json", 7)
    write(tmp_path / "g.json", {"event_rules": {}, "evnt_rules": {}})
    write(tmp_path / "h.json", {**DROP, "rule_id": "a/b"})

    problems = problems_of(tmp_path)

    assert len(problems) == 7
    assert ("a", "this id is defined twice") in problems


def test_an_empty_folder_is_a_problem(tmp_path: Path) -> None:
    assert problems_of(tmp_path) == [(None, "no YAML or JSON file here")]


@pytest.mark.parametrize("text", [r"\ud800", r"\ud83d\ude00"])
def test_half_a_character_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    file = write(tmp_path / "half.yaml", f'traits:\n  t: {{description: "{text}"}}\n')

    assert problems_of(file)[0][1] == (
        "cannot be read: half a character: write it in full in line 2, column 20"
    )


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "twice.yaml", "event_rules:\n  a: {b: 1}\n  a: {b: 2}\n")

    assert "twice" in problems_of(file)[0][1]


def test_an_alias_is_written_out(tmp_path: Path) -> None:
    text = """
        event_rules:
          a: &a {target_event_name: x, action_type: drop_event, conditions: &c {y: 1}}
          b: *a
          e: {target_event_name: x, action_type: drop_event, conditions: *c}
    """
    rules = read_rule_files(write(tmp_path / "r.yaml", dedent(text))).event_rules

    assert rules["a"] == rules["b"] == rules["e"]


@pytest.mark.parametrize("step", ["[{}]", "{{<<: [{}]}}"])
def test_a_few_lines_that_stand_for_a_billion_values_are_refused(tmp_path: Path, step: str) -> None:
    many = [step.format(", ".join([f"*a{n}"] * 9)) for n in range(11)]
    lines = ["a0: &a0 {k: v}", *(f"a{n}: &a{n} {each}" for n, each in enumerate(many, 1))]

    [(_, message)] = problems_of(write(tmp_path / "bomb.yaml", "\n".join(lines)))

    assert "aliases" in message


def test_a_value_that_contains_itself_is_refused(tmp_path: Path) -> None:
    [(_, message)] = problems_of(write(tmp_path / "r.yaml", "a: &a [*a]\n"))

    assert "itself" in message


def test_norway_is_a_country_and_a_date_is_text(tmp_path: Path) -> None:
    text = """
        target_event_name: purchase
        conditions: {country: [NO, SE], day: 2026-11-21, at: 2026-11-21T20:00:00Z}
        is_active: true
        action_type: drop_event
    """
    rules = read_rule_files(write(tmp_path / "r.yaml", dedent(text))).event_rules

    assert rules["r"]["is_active"] is True
    assert rules["r"]["conditions"] == {
        "country": ["NO", "SE"],
        "day": "2026-11-21",
        "at": "2026-11-21T20:00:00+00:00",
    }


@pytest.mark.parametrize("target", ["rules", "rules.yaml", "rules.json"])
def test_what_is_written_is_read_again(tmp_path: Path, target: str) -> None:
    tricky = {**DROP, "conditions": {"x": ["yes", "NO", "1", 1, 1.5, None, True, "2026-11-21"]}}
    definitions = RuleDefinitions(
        {"a": tricky, "b.c": DROP},
        {"d": COOKIE},
        {"e": SPLIT},
        {"gold": GOLD},
        traits={"t": ORDERS},
    )

    write_rule_files(tmp_path / target, definitions)

    assert read_rule_files(tmp_path / target) == definitions


def test_a_file_whose_rule_is_not_in_the_store_is_named_and_kept(tmp_path: Path) -> None:
    old = write(tmp_path / "event_rules" / "old.yaml", "target_event_name: x\n")

    left = write_rule_files(tmp_path, RuleDefinitions({"a": DROP}, {}))

    assert left == [old]
    assert old.exists()
