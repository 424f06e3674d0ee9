"""Simulated identity: the same graph as stitching makes, told step by step, and nothing written."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli

ANN, BOB = {"type": "user_id", "value": "ann"}, {"type": "user_id", "value": "bob"}
PHONE = {"type": "client_id", "value": "100.1"}
LAPTOP = {"type": "client_id", "value": "200.2"}

FAMILY: list[dict[str, Any]] = [
    {"identifiers": [PHONE, ANN], "occurred_at": "2026-01-01T10:00:00Z", "callback": "main"},
    {
        "identifiers": {"client_id": "100.1", "user_id": "bob"},
        "occurred_at": "2026-01-02T10:00:00Z",
    },
    {"event_name": "page_view", "client_id": "200.2"},
    {"event_name": "login", "client_id": "200.2", "user_id": "ann"},
    {"event_name": "login", "client_id": "undefined", "user_id": "ann"},
    {"event_name": "page_view"},
    {"id": "ann"},
    {"identifiers": [PHONE, ANN], "asserted": False},
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "events.jsonl", FAMILY)


def written(file: Path, lines: Sequence[Mapping[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def parts(step: Mapping[str, Any]) -> dict[str, str]:
    return {f"{i['type']} {i['value']}": i["part"] for i in step["identifiers"]}


def people(document: Mapping[str, Any]) -> list[list[str]]:
    return sorted(sorted(i["value"] for i in each["identifiers"]) for each in document["profiles"])


def test_every_step_says_what_became_of_each_identifier(cli: Cli, file: Path) -> None:
    steps = cli("identity", "simulate", file, "--json").document["steps"]

    assert [(step["line"], step["outcome"], parts(step)) for step in steps] == [
        (1, "created", {"user_id ann": "linked", "client_id 100.1": "linked"}),
        (2, "created", {"user_id bob": "linked", "client_id 100.1": "demoted"}),
        (3, "created", {"client_id 200.2": "linked"}),
        (4, "merged", {"user_id ann": "known", "client_id 200.2": "known"}),
        (5, "unchanged", {"user_id ann": "known", "client_id undefined": "blocked"}),
        (7, "unchanged", {}),
        (8, "unchanged", {"user_id ann": "unasserted", "client_id 100.1": "known"}),
    ]
    assert steps[3]["merged"] == [steps[2]["profile_id"]]
    assert len({steps[n]["profile_id"] for n in (0, 3, 4, 5, 6)}) == 1
    assert steps[1]["reason"] == "PROFILE_CREATED"
    assert [each["demoted_for"] for each in steps[1]["identifiers"]] == [None, "USER_SWITCH"]
    assert steps[1]["recorded"]["demoted_for"] == [{"type": "client_id", "reason": "USER_SWITCH"}]


def test_the_graph_at_the_end_names_identifiers_as_they_were_given(cli: Cli, file: Path) -> None:
    document = cli("identity", "simulate", file, "--json").document

    assert people(document) == [["100.1", "200.2", "ann"], ["bob"]]
    bob = next(each for each in document["profiles"] if each["identifiers"] == [BOB])
    assert bob["demoted"] == [PHONE]
    assert document["summary"] == {
        "outcomes": {"created": 3, "unchanged": 3, "merged": 1},
        "without_identifier": 1,
        "profiles": 2,
        "identifiers": 4,
        "rejected": 0,
        "rejections": [],
    }


def test_nothing_is_written_anywhere(cli: Cli, file: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())

    ran = cli("identity", "simulate", file)

    assert ran.exit_code == 0
    assert sorted(tmp_path.iterdir()) == before
    assert "+user_id ann  +client_id 100.1" in ran.out
    assert "+user_id bob  ≠client_id 100.1 (USER_SWITCH)" in ran.out
    assert "≠ client_id 100.1" in ran.out
    assert "ann" not in ran.err


def test_two_simulations_of_one_file_say_the_same(cli: Cli, file: Path) -> None:
    first, second = (cli("identity", "simulate", file, "--json").out for _ in range(2))

    assert first == second


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, [["100.1", "200.2", "ann"], ["bob"]]),
        ({"limits": {"user_id": None}}, [["100.1", "200.2", "ann", "bob"]]),
        ({"blocked_values": ["200.2"]}, [["100.1", "ann"], ["bob"]]),
        ({"types": ["client_id", "user_id"]}, [["100.1", "200.2", "ann"]]),
    ],
)
def test_other_settings_make_other_people(
    cli: Cli, file: Path, tmp_path: Path, settings: dict[str, Any], wanted: list[list[str]]
) -> None:
    declared = tmp_path / "identity.json"
    declared.write_text(json.dumps(settings))

    document = cli("identity", "simulate", file, "--settings", declared, "--json").document

    assert people(document) == wanted


def test_without_settings_of_its_own_the_project_s_hold(
    cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAGSTITCH_IDENTITY", json.dumps({"limits": {"user_id": None}}))

    assert len(cli("identity", "simulate", file, "--json").document["profiles"]) == 1


@pytest.mark.parametrize("content", ["nonsense", "[]", '{"limits": 5}', '{"limitz": {}}'])
def test_broken_settings_are_refused(cli: Cli, file: Path, tmp_path: Path, content: str) -> None:
    declared = tmp_path / "identity.json"
    declared.write_text(content)

    ran = cli("identity", "simulate", file, "--settings", declared, "--json")

    assert ran.exit_code == 1
    assert "--settings" in ran.document["error"]["message"]


def test_lines_that_are_none_are_told_and_fail_the_command(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    lines = ["nonsense", json.dumps(FAMILY[0]), '{"identifiers": {"shoe_size": "43"}}', "{}"]
    file.write_text("\n".join(lines))

    ran = cli("identity", "simulate", file, "--json")

    assert ran.exit_code == 1
    summary = ran.document["summary"]
    assert [rejection["line"] for rejection in summary["rejections"]] == [1, 3, 4]
    assert summary["profiles"] == 1
    assert not list(tmp_path.glob("*.rejects.jsonl"))


def test_a_request_that_would_be_a_dead_letter_is_told_and_the_next_one_comes(
    cli: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "requests.jsonl"
    requests = [{"request_id": id_, "identifiers": {"user_id": user}} for id_, user in (
        ("a", "ann"), ("a", "bob"), ("b", "cyd")
    )]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, requests)))

    ran = cli("identity", "simulate", file, "--json")

    assert ran.exit_code == 1
    summary = ran.document["summary"]
    [rejection] = summary["rejections"]
    assert (rejection["line"], rejection["code"]) == (2, "idempotency_conflict")
    assert summary["outcomes"] == {"created": 2}


def test_rows_of_the_export_and_compressed_files_are_read(cli: Cli, tmp_path: Path) -> None:
    row = {
        "event_name": "login",
        "event_timestamp": "1767261600000000",
        "user_pseudo_id": "100.1",
        "user_id": "ann",
        "event_params": [],
        "stream_id": "1",
        "platform": "WEB",
        "event_date": "20260101",
    }
    file = tmp_path / "export.jsonl.gz"
    file.write_bytes(gzip.compress(json.dumps(row).encode()))

    document = cli("identity", "simulate", file, "--json").document

    assert people(document) == [["100.1", "ann"]]


def test_a_diagram_shows_who_is_who(cli: Cli, tmp_path: Path) -> None:
    hostile = {"type": "user_id", "value": 'a"]; click i0 href "x\n'}
    file = written(tmp_path / "events.jsonl", [*FAMILY[:2], {"identifiers": [hostile]}])
    diagram = tmp_path / "graph.mmd"

    cli("identity", "simulate", file, "--diagram", diagram)

    drawn = diagram.read_text()
    assert drawn.startswith("flowchart LR\n")
    assert '["client_id<br/>100.1"]' in drawn
    assert drawn.count("-. apart .-") == 1
    assert 'click i0 href "' not in drawn


def test_the_stored_profiles_can_be_where_it_begins(cli: Cli, tmp_path: Path) -> None:
    imported = {"identifiers": {"user_id": ["ann"], "device_id": ["tablet"]}}
    cli("profiles", "import", written(tmp_path / "profiles.jsonl", [imported]))
    before = cli("identity", "show", "user_id", "ann", "--json").document
    file = written(tmp_path / "events.jsonl", [{"identifiers": [ANN, PHONE]}])

    document = cli("identity", "simulate", file, "--from-store", "--json").document

    [step] = document["steps"]
    assert (step["outcome"], step["profile_id"]) == ("linked", before["profile_id"])
    [profile] = document["profiles"]
    assert profile["identifiers"] == [PHONE, {"type": "device_id", "value": None}, ANN]
    assert cli("identity", "show", "user_id", "ann", "--json").document == before
    alone = cli("identity", "simulate", file, "--json").document
    assert alone["steps"][0]["outcome"] == "created"


def test_a_year_passes_in_a_line(cli: Cli, tmp_path: Path) -> None:
    """Limits count from when the events happened, and profiles expire between them."""
    devices = [
        {
            "identifiers": [ANN, {"type": "client_id", "value": f"{n}00.1"}],
            "occurred_at": f"2025-0{n}-01T00:00:00Z",
        }
        for n in range(1, 8)
    ]
    late = {"identifiers": [ANN], "occurred_at": "2026-10-01T00:00:00Z"}
    file = written(tmp_path / "events.jsonl", [*devices, late])

    steps = cli("identity", "simulate", file, "--json").document["steps"]

    assert [step["outcome"] for step in steps] == ["created", *["linked"] * 6, "created"]


def test_a_kiosk_ends_in_quarantine(cli: Cli, tmp_path: Path) -> None:
    visits = [
        {"identifiers": [{"type": "user_id", "value": f"u-{n}"}, PHONE]} for n in range(1, 14)
    ]
    file = written(tmp_path / "events.jsonl", visits)

    steps = cli("identity", "simulate", file, "--json").document["steps"]

    became = [parts(step)["client_id 100.1"] for step in steps]
    assert became == ["linked", *["demoted"] * 9, *["held"] * 3]
    assert len({step["profile_id"] for step in steps}) == 13
    assert "!client_id 100.1" in cli("identity", "simulate", file).out


def test_the_same_request_again_is_told_as_such(cli: Cli, tmp_path: Path) -> None:
    request = {"identifiers": [ANN, LAPTOP], "request_id": "r1", "asserted": True}
    file = written(tmp_path / "events.jsonl", [request, request])

    steps = cli("identity", "simulate", file, "--json").document["steps"]

    assert [step["outcome"] for step in steps] == ["created", "repeated"]
