"""`tagstitch rules backtest`, on files and on recorded decisions."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.cli.recorded import erase, record_decisions

EXAMPLES = Path(__file__).parents[2] / "examples"
HALF = {
    "target_event_name": "purchase",
    "conditions": {"profile.tier": "Gold"},
    "action_type": "modify_parameter",
    "action_details": {"parameter": "value", "operator": "multiply", "operand": 0.5},
}
DROP = {**HALF, "action_type": "drop_event", "action_details": {}}
GOLD = "111.222"


def purchase(client_id: str, value: float, **parameters: Any) -> dict[str, Any]:
    return {"event_name": "purchase", "client_id": client_id, "value": value, **parameters}


def rules_file(folder: Path, name: str, **rules: Any) -> Path:
    file = folder / f"{name}.json"
    file.write_text(json.dumps({"event_rules": rules}))
    return file


def lines_file(folder: Path, name: str, *lines: Any) -> Path:
    file = folder / f"{name}.jsonl.gz"
    file.write_bytes(gzip.compress(b"\n".join(json.dumps(line).encode() for line in lines)))
    return file


def test_files_are_compared_with_the_profiles_of_an_export(cli: Cli, tmp_path: Path) -> None:
    old, new = rules_file(tmp_path, "old", half=HALF), rules_file(tmp_path, "new", drop=DROP)
    events = lines_file(tmp_path, "events", purchase(GOLD, 10), purchase("333.444", 7), [])
    profiles = lines_file(
        tmp_path, "profiles",
        {"identifiers": {"client_id": [GOLD]}, "attributes": {"tier": "Gold"}}, {"identifiers": 5},
    )  # fmt: skip

    ran = cli(
        "rules", "backtest", new, "--old", old, "--events", events, "--profiles", profiles, "--json"
    )

    document = ran.document
    assert ran.exit_code == 0
    assert document["values"] == {"value": {"before": 12, "after": 7}}
    assert (document["events"], document["changed"], document["newly_dropped"]) == (2, 1, 1)
    assert document["rejected_lines"] == 2
    assert document["examples"][0]["event"] == 1
    assert (document["ok"], document["failures"]) == (True, [])


@pytest.mark.parametrize(
    ("options", "failures"),
    [
        (["--max-changed", "50"], []),
        (["--max-changed", "49.9"], ["50 % changed, more than 49.9 %"]),
        (["--fail-on", "change"], ["1 events changed"]),
        (["--fail-on", "drop"], ["1 events are newly dropped"]),
    ],
)
def test_a_gate_fails_when_too_much_changes(
    cli: Cli, tmp_path: Path, options: list[str], failures: list[str]
) -> None:
    rule = {**DROP, "conditions": {"value": 10}}
    old, new = rules_file(tmp_path, "old", half=HALF), rules_file(tmp_path, "new", drop=rule)
    events = lines_file(tmp_path, "events", purchase(GOLD, 10), purchase(GOLD, 7))

    ran = cli("rules", "backtest", new, "--old", old, "--events", events, *options, "--json")

    assert (ran.exit_code, ran.document["failures"]) == (int(bool(failures)), failures)


def test_a_gate_fails_when_nothing_was_compared(cli: Cli, tmp_path: Path) -> None:
    old, events = rules_file(tmp_path, "old", half=HALF), lines_file(tmp_path, "events")

    ran = cli(
        "rules", "backtest", old, "--old", old, "--events", events, "--fail-on", "change", "--json"
    )

    assert (ran.exit_code, ran.document["failures"]) == (1, ["nothing was compared"])


def test_the_published_rules_are_the_old_ones(cli: Cli, tmp_path: Path) -> None:
    old = rules_file(tmp_path, "old", half={**HALF, "conditions": {"value": 10}})
    events = lines_file(tmp_path, "events", purchase(GOLD, 10))
    new = rules_file(tmp_path, "new", note={**HALF, "conditions": {"value": 11}})

    unpublished = cli("rules", "backtest", new, "--events", events)
    cli("rules", "push", old)
    published = cli("rules", "backtest", new, "--events", events)

    assert unpublished.exit_code == 1
    assert "no rules are published" in unpublished.err
    assert published.exit_code == 0
    assert "1 events, 1 changed (100 %), 0 newly dropped" in published.out


def test_the_examples_do_not_change_by_themselves(cli: Cli) -> None:
    ran = cli(
        "rules", "backtest", EXAMPLES / "rules", "--old", EXAMPLES / "rules",
        "--events", EXAMPLES / "events.jsonl", "--profiles", EXAMPLES / "profiles.jsonl",
        "--fail-on", "change", "--json",
    )  # fmt: skip

    assert ran.exit_code == 0
    assert ran.document["counts"]["renamed"]["before"] > 0
    assert ran.document["actions"]["set_cookie"]["before"] > 0


def test_recorded_decisions_are_compared_with_their_own_rules(cli: Cli, tmp_path: Path) -> None:
    cli("rules", "push", rules_file(tmp_path, "old", half=HALF))
    events = [purchase(GOLD, 10, note="CANARY"), purchase("333.444", 10), purchase("555.666", 10)]
    record_decisions(events, {GOLD: {"tier": "Gold"}, "333.444": {"tier": "Gold"}})
    erase("333.444")
    new = rules_file(
        tmp_path, "new",
        drop=DROP, note={**DROP, "conditions": {"note": {"exists": True}}, "priority": 1},
    )  # fmt: skip

    ran = cli("rules", "backtest", new, "--receipts", "2", "--json")

    document = ran.document
    assert ran.exit_code == 0
    assert (document["events"], document["unreadable"], document["newly_dropped"]) == (1, 1, 1)
    assert document["rules"][0]["rule_id"] == "drop"
    assert document["unseen_paths"] == ["note"]
    assert "CANARY" not in ran.out


def test_broken_rules_are_not_tested(cli: Cli, tmp_path: Path) -> None:
    new = rules_file(tmp_path, "new", broken={"target_event_name": "purchase"})
    events = lines_file(tmp_path, "events", purchase(GOLD, 10))

    ran = cli("rules", "backtest", new, "--old", new, "--events", events, "--json")

    assert ran.exit_code == 1
    assert "broken" in ran.document["error"]["message"]


@pytest.mark.parametrize(
    "options",
    [[], ["--events", __file__, "--receipts", "1"], ["--receipts", "1", "--old", __file__]],
)
def test_either_events_or_receipts(cli: Cli, options: list[str]) -> None:
    assert cli("rules", "backtest", EXAMPLES / "rules", *options).exit_code == 2
