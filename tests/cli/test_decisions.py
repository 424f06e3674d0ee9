"""`tagstitch decisions replay` on recorded decisions of the local backend."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.recorded import erase, record_decisions

GOLD, SILVER = "111.222", "333.444"
PROFILES = {GOLD: {"tier": "Gold"}, SILVER: {"tier": "Silver"}}
RULE = {
    "target_event_name": "purchase",
    "conditions": {"profile.tier": "Gold"},
    "action_type": "modify_parameter",
    "action_details": {"parameter": "value", "operator": "multiply", "operand": 0.5},
}


def purchase(client_id: str) -> dict[str, object]:
    return {"event_name": "purchase", "client_id": client_id, "value": 10}


@pytest.fixture
def ids(cli: Cli, tmp_path: Path) -> list[str]:
    """Give two decisions of one version, and one of the next."""
    write_rules(cli, tmp_path, RULE)
    first = record_decisions([purchase(GOLD), purchase(SILVER)], PROFILES)
    write_rules(cli, tmp_path, {**RULE, "conditions": {"profile.tier": "Silver"}})
    return first + record_decisions([purchase(SILVER)], {})


def write_rules(cli: Cli, folder: Path, rule: Mapping[str, object]) -> None:
    file = folder / "rules.json"
    file.write_text(json.dumps({"event_rules": {"half": rule}}))
    assert cli("rules", "push", file).exit_code == 0


def test_decisions_of_all_versions_are_identical(cli: Cli, ids: list[str]) -> None:
    ran = cli("decisions", "replay", *ids, "--json")

    assert ran.exit_code == 0
    assert {name: ran.document[name] for name in ("identical", "different", "unreadable")} == {
        "identical": 3, "different": 0, "unreadable": 0,
    }  # fmt: skip
    decided = {d["decision_id"]: d["decision"]["event"]["set"] for d in ran.document["decisions"]}
    assert decided == {ids[0]: {"value": 5}, ids[1]: {}, ids[2]: {"value": 5}}


def test_one_decision_is_shown(cli: Cli, ids: list[str]) -> None:
    ran = cli("decisions", "replay", ids[0])

    assert ran.exit_code == 0
    assert f"{ids[0]}: identical" in ran.out
    assert '"new_value": 5' in ran.out


def test_the_decisions_of_the_last_hours_are_those_with_values(cli: Cli, ids: list[str]) -> None:
    record_decisions([purchase("555.666")], {})  # nobody's: it cannot be replayed

    every = cli("decisions", "replay", "--last", "2", "--json")
    newest = cli("decisions", "replay", "--last", "2", "--limit", "1")

    assert every.exit_code == 0
    assert [d["decision_id"] for d in every.document["decisions"]] == ids
    assert "1 identical, 0 different, 0 unreadable" in newest.out or ids[2] in newest.out


def test_what_an_erasure_made_unreadable_fails(cli: Cli, ids: list[str]) -> None:
    erase(GOLD)

    ran = cli("decisions", "replay", *ids, "unknown", "--json")

    outcomes = {d["decision_id"]: (d["outcome"], d["problem"]) for d in ran.document["decisions"]}
    assert ran.exit_code == 1
    assert outcomes == {
        ids[0]: ("unreadable", "the visitor's salt is gone: nobody can read this"),
        ids[1]: ("identical", None),
        ids[2]: ("identical", None),
        "unknown": ("unreadable", "the audit has no receipt of this decision"),
    }


@pytest.mark.parametrize("arguments", [[], ["x", "--last", "1"]])
def test_either_ids_or_hours(cli: Cli, arguments: list[str]) -> None:
    assert cli("decisions", "replay", *arguments).exit_code == 2


def test_what_cannot_be_an_id_is_refused(cli: Cli) -> None:
    ran = cli("decisions", "replay", "x' OR '1'='1", "--json")

    assert ran.exit_code == 1
    assert "must be ids of decisions" in ran.document["error"]["message"]
