"""Erasing and exporting a person on the command line."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tagstitch.cli.opened_backend import opened_backend
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.list_all import list_all
from tests.cli.conftest import Cli

LINE = {
    "profile_id": "card-1",
    "identifiers": {"user_id": ["u-1"], "client_id": ["100.200"]},
    "attributes": {"tier": "Gold"},
}


@pytest.fixture
def known(cli: Cli, tmp_path: Path) -> Cli:
    """A customer with a card, and another one."""
    file = tmp_path / "profiles.jsonl"
    other = {"identifiers": {"user_id": ["u-2"]}, "attributes": {"tier": "Silver"}}
    file.write_text(json.dumps(LINE) + "\n" + json.dumps(other) + "\n")
    assert cli("profiles", "import", file).exit_code == 0
    return cli


def test_a_dry_run_counts_and_changes_nothing(known: Cli) -> None:
    counted = known("identity", "erase", "user_id", "u-1", "--dry-run", "--json").document

    assert counted["held"]["profiles"] == 1
    assert counted["held"]["identifiers"] == 2
    assert known("identity", "show", "user_id", "u-1").exit_code == 0
    assert (
        "would go: profiles 1, identifiers 2"
        in known("identity", "erase", "user_id", "u-1", "--dry-run").out
    )


@pytest.mark.parametrize(
    "named", [("user_id", "u-1"), ("client_id", "100.200"), ("--profile", "card-1")]
)
def test_who_is_erased_is_unknown_and_cannot_be_imported_again(
    known: Cli, named: tuple[str, str], tmp_path: Path
) -> None:
    done = known("identity", "erase", *named, "--yes", "--json").document
    proof = known("identity", "erasure-proof", *named, "--json")

    assert (done["status"], done["was_known"]) == ("waiting", True)
    assert proof.exit_code == 0
    assert not any(proof.document["left"].values())
    assert known("identity", "show", "user_id", "u-1").exit_code == 1
    assert known("profiles", "get", "card-1").exit_code == 1
    again = known("profiles", "import", tmp_path / "profiles.jsonl", "--json").document
    assert (again["rejected"], again["unchanged"]) == (1, 1)
    patch = tmp_path / "patch.json"
    patch.write_text('{"attributes": {"tier": "Gold"}}')
    assert "was erased" in known("profiles", "put", "card-1", patch).err
    assert known("identity", "show", "user_id", "u-2").exit_code == 0


def test_without_a_yes_it_asks_and_does_nothing(known: Cli) -> None:
    ran = known("identity", "erase", "user_id", "u-1")

    assert ran.exit_code == 1
    assert "a profile with 2 identifiers" in ran.err
    assert known("identity", "show", "user_id", "u-1").exit_code == 0


@pytest.mark.parametrize(
    ("named", "told"),
    [
        (("user_id", "u-9"), "nobody is known by this"),
        (("--profile", "card-9"), "nobody is known by this"),
        (("user_id", "u-1"), "erased already"),
    ],
)
def test_before_it_asks_it_says_whom_it_would_meet(
    known: Cli, named: tuple[str, str], told: str
) -> None:
    known("identity", "erase", "user_id", "u-1", "--yes")

    ran = known("identity", "erase", *named)

    assert ran.exit_code == 1
    assert told in ran.err
    assert known("identity", "erasure-proof", "user_id", "u-9").exit_code == 1


@pytest.mark.parametrize("command", ["erase", "export", "erasure-proof", "unerase"])
@pytest.mark.parametrize("profile_id", ["", ".", "..", "a/b", "__all__", "x" * 1_501])
def test_what_cannot_be_a_profiles_id_is_refused_and_leaves_nothing(
    known: Cli, command: str, profile_id: str
) -> None:
    before = asyncio.run(paths())

    ran = known("identity", command, "--profile", profile_id, *(["--yes"] * (command == "erase")))

    assert ran.exit_code == 1
    assert "cannot be a profile's id" in ran.err
    assert asyncio.run(paths()) == before


async def paths() -> list[str]:
    """Return what lies where profiles and tombstones lie."""
    async with opened_backend() as opened:
        found = await list_all(opened.backend.documents, "profiles", deadline=Deadline.after(10))
    return [document.path for document in found]


def test_the_proof_runs_in_the_audit_too(known: Cli) -> None:
    known("identity", "erase", "user_id", "u-1", "--yes")

    proof = known("identity", "erasure-proof", "user_id", "u-1", "--json").document

    assert known("audit", "query", proof["sql"], "--json").document == [{"n": 0}]


def test_there_is_no_proof_for_somebody_who_was_not_erased(known: Cli) -> None:
    ran = known("identity", "erasure-proof", "user_id", "u-1")

    assert ran.exit_code == 1
    assert "nobody was erased" in ran.err


def test_who_comes_back_can_be_let_in(known: Cli, tmp_path: Path) -> None:
    known("identity", "erase", "user_id", "u-1", "--yes")

    lifted = known("identity", "unerase", "client_id", "100.200", "--json").document

    assert lifted["tombstones"] == 3
    again = known("profiles", "import", tmp_path / "profiles.jsonl", "--json").document
    assert again["created"] == 1


def test_an_export_has_everything_and_goes_to_a_file(known: Cli, tmp_path: Path) -> None:
    file = tmp_path / "person.json"

    shown = known("identity", "export", "client_id", "100.200", "--json").document
    written = known("identity", "export", "--profile", "card-1", "--output", file)

    assert shown["sections"]["attributes"]["data"][0]["value"] == "Gold"
    assert (written.exit_code, written.out) == (0, "")
    assert json.loads(file.read_text())["sections"] == shown["sections"]
    assert known("identity", "export", "user_id", "u-9").exit_code == 1


@pytest.mark.parametrize("command", ["erase", "export", "erasure-proof", "unerase"])
@pytest.mark.parametrize("arguments", [(), ("client_id",), ("client_id", "1.2", "--profile", "x")])
def test_one_person_must_be_named(known: Cli, command: str, arguments: tuple[str, ...]) -> None:
    more = ("--yes",) if command == "erase" else ()

    assert known("identity", command, *arguments, *more).exit_code == 2


def test_a_value_that_many_share_erases_nobody(known: Cli) -> None:
    ran = known("identity", "erase", "client_id", "undefined", "--yes")

    assert ran.exit_code == 1
    assert "many visitors share this value" in ran.err


@pytest.mark.parametrize(
    "command",
    [
        ("erase", "userid", "u-1", "--yes"),
        ("export", "userid", "u-1"),
        ("erasure-proof", "userid", "u-1"),
        ("show", "userid", "u-1"),
        ("as-of", "userid", "u-1", "2026-11-21T20:00:00Z"),
        ("split", "userid", "u-1"),
        ("review", "block", "userid", "u-1"),
    ],
)
def test_a_misspelt_type_does_not_pass_for_somebody_unknown(
    known: Cli, command: tuple[str, ...]
) -> None:
    done = known("identity", *command)

    assert done.exit_code == 1
    assert "not declared" in done.err
    assert "declared types: user_id, " in done.err
    assert known("identity", "show", "user_id", "u-1").exit_code == 0
