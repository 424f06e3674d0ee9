"""Runs every case of tests/cases: rules, an event and its visitor -> decision and audit record."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from msgspec import structs

from tagstitch.core import rule_bucket
from tests import case_files
from tests.case_files import CASES, cases_with
from tests.core.deciding import outcome

Case = Mapping[str, Any]


def run(case: Case) -> None:
    decision = case_files.decide_case(case)
    records = case_files.records_of(case, decision)
    if "event" in case["want"]:
        assert decision.event is not None
        assert case_files.wanted_event(case) == decision.event.to_json()
        assert case_files.wanted_event_record(case) == records["event"]
        if "leaves_as" in case["want"]["event"]:
            leaves = decision.event.apply_to(case_files.event_of(case))
            assert case["want"]["event"]["leaves_as"] == leaves
    if "personalization" in case["want"]:
        assert decision.personalization is not None
        assert case_files.wanted_personalization(case) == decision.personalization.to_json()
        assert case_files.wanted_personalization_record(case) == records["personalization"]
    assert case_files.wanted_changes(case) == case_files.told_changes(case, decision)
    explained = case_files.decide_case(case, explain=True)
    assert decision.to_json() == explained.to_json()
    untold = outcome(explained)
    assert outcome(decision) == structs.replace(
        untold,
        event=untold.event and structs.replace(untold.event, trace=()),
        personalization=untold.personalization
        and structs.replace(untold.personalization, trace=()),
        experiments=(),
    )


@pytest.mark.parametrize("case", [*cases_with("holds")])
def test_the_conditions_hold_or_not_as_the_case_says(case: Case) -> None:
    run(case_files.with_conditions(case))


@pytest.mark.parametrize("case", [*cases_with("want")])
def test_it_is_decided_and_recorded_as_the_case_wants(case: Case) -> None:
    run(case)


@pytest.mark.parametrize("case", [*cases_with("want")])
def test_an_index_decides_the_same(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_bucket, "PLAIN_RULES_MAX", 0)
    run(case)


@pytest.mark.parametrize("case", [*cases_with("refused")])
def test_what_is_wrong_is_refused_at_its_place(case: Case) -> None:
    assert case["refused"] == case_files.refused_places(case)


@pytest.mark.parametrize("file", case_files.case_files(), ids=lambda file: file.stem)
def test_a_case_file_is_what_its_schema_says(file: Path) -> None:
    schema = json.loads((CASES / "case.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    content = json.loads(file.read_text(encoding="utf-8"))

    problems = [error.message for error in Draft202012Validator(schema).iter_errors(content)]
    names = Counter(case["name"] for case in content["cases"])

    assert problems == []
    assert [name for name, number in names.items() if number > 1] == []


def test_the_cases_are_the_languages_documentation() -> None:
    """Every operator, action and gate has a case; what is added to the language needs one."""
    from tagstitch.core.event_action_parsing import PARSERS as EVENT_ACTIONS
    from tagstitch.core.operators import OPERATORS, PLACED_WORDS
    from tagstitch.core.personalization_action_parsing import PARSERS as PERSONALIZATION_ACTIONS
    from tagstitch.core.text_computation import OPERATORS as COMPUTATIONS

    texts = "\n".join(file.read_text(encoding="utf-8") for file in case_files.case_files())
    placed = {name for name, _ in PLACED_WORDS.values()}
    gates = {"schedule", "rollout", "frequency_cap", "purposes", "shadow", "chain", "once_per"}
    words = {*OPERATORS, *placed, *EVENT_ACTIONS, *PERSONALIZATION_ACTIONS, *COMPUTATIONS, *gates}

    assert {word for word in words if f'"{word}"' not in texts} == set()
