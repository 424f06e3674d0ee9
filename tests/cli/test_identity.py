"""Identity on the command line: whom an identifier leads to, and taking people apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli


@pytest.fixture
def known(cli: Cli, tmp_path: Path) -> Cli:
    """A customer, imported with an address and two browsers."""
    line = {
        "identifiers": {"user_id": ["u-1"], "client_id": ["100.200", "300.400"]},
        "attributes": {"tier": "Gold"},
    }
    file = tmp_path / "profiles.jsonl"
    file.write_text(json.dumps(line) + "\n")
    assert cli("profiles", "import", file).exit_code == 0
    return cli


def test_an_identifier_shows_its_profile_and_what_else_leads_there(known: Cli) -> None:
    shown = known("identity", "show", "client_id", "100.200", "--json").document

    assert sorted(i["type"] for i in shown["identifiers"]) == ["client_id", "client_id", "user_id"]
    assert "100.200" not in known("identity", "show", "client_id", "100.200").out


def test_nobody_is_known_by_a_strange_identifier(known: Cli) -> None:
    ran = known("identity", "show", "client_id", "1.1234567")

    assert ran.exit_code == 1
    assert "nobody is known" in ran.err


def test_an_identifier_that_is_taken_out_has_a_profile_of_its_own(known: Cli) -> None:
    before = known("identity", "show", "user_id", "u-1", "--json").document

    done = known("identity", "split", "client_id", "300.400", "--json").document

    after = known("identity", "show", "client_id", "300.400", "--json").document
    assert done["stays"] == before["profile_id"]
    assert done["leaves"] == after["profile_id"] != before["profile_id"]
    assert after["log"][0]["kind"] == "split"
    assert done["record_id"] in known("identity", "show", "client_id", "300.400").out
    then = known("identity", "as-of", "client_id", "300.400", "2026-01-01T00:00:00Z", "--json")
    assert then.document["profile_id"] == before["profile_id"]


def test_the_log_says_why_an_identifier_was_kept_apart(known: Cli, tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    logins = [
        {
            "event_name": "purchase",
            "client_id": "100.200",
            "user_id": user,
            "event_timestamp_ms": 1_763_700_000_000,
        }
        for user in ("u-2", "u-1")
    ]
    events.write_text("".join(json.dumps(event) + "\n" for event in logins))
    traits = tmp_path / "traits.json"
    traits.write_text(json.dumps({"traits": {"orders": {"event": "*", "operation": "count"}}}))
    assert known("rules", "push", traits).exit_code == 0
    assert known("traits", "backfill", events).exit_code == 0

    shown = known("identity", "show", "user_id", "u-2", "--json").document

    [entry] = shown["log"]
    assert entry["demoted_for"] == [{"type": "client_id", "reason": "USER_SWITCH"}]
    assert "≠client_id (USER_SWITCH)" in known("identity", "show", "user_id", "u-2").out


@pytest.mark.parametrize("arguments", [(), ("client_id",), ("client_id", "1.2", "--undo", "x")])
def test_a_split_needs_one_of_both(known: Cli, arguments: tuple[str, ...]) -> None:
    assert known("identity", "split", *arguments).exit_code == 2


def test_a_merge_that_nobody_knows_cannot_be_undone(known: Cli) -> None:
    ran = known("identity", "split", "--undo", "stitch_x")

    assert ran.exit_code == 1
    assert "no merge is known by this record" in ran.err
