"""The profile commands on Firestore, in its emulator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tagstitch.local_stack.emulators import Emulators
from tests.cli.conftest import Cli

pytestmark = pytest.mark.emulators


@pytest.fixture
def on_firestore(cli: Cli, emulators: Emulators, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line on a database of this file's own."""
    monkeypatch.setenv("TAGSTITCH_BACKEND", "cloud")
    monkeypatch.setenv("TAGSTITCH_PROJECT", "tagstitch-profiles")
    for name, value in emulators.environment().items():
        monkeypatch.setenv(name, value)
    return cli


def test_rows_are_imported_changed_by_version_and_exported(
    on_firestore: Cli, tmp_path: Path
) -> None:
    rows, patch = tmp_path / "people.csv", tmp_path / "patch.json"
    rows.write_text(
        "profile_id,identifiers.user_id,tier,cart,attributes_at\n"
        'card-1,u-1,Gold,"{""b"": 1, ""a"": [true]}",2026-01-01T00:00:00Z\n'
        "card-2,u-2,Silver,,\n"
    )
    patch.write_text('{"attributes": {"tier": "Black"}}')

    first = on_firestore("profiles", "import", rows, "--json").document
    second = on_firestore("profiles", "import", rows, "--json").document
    seen = on_firestore("profiles", "get", "card-1", "--json").document["version"]
    put = on_firestore("profiles", "put", "card-1", patch, "--if-version", seen)
    late = on_firestore("profiles", "put", "card-1", patch, "--if-version", seen)
    older = on_firestore("profiles", "import", rows, "--json").document
    exported = on_firestore("profiles", "export", "--json").document
    lines = tmp_path / "out.jsonl"
    lines.write_text("".join(json.dumps(line) + "\n" for line in exported))

    assert (first["created"], second["unchanged"]) == (2, 2)
    assert (put.exit_code, late.exit_code) == (0, 1)
    assert older["older_values"] == 1
    assert {p["profile_id"]: p["attributes"]["tier"] for p in exported} == {
        "card-1": "Black",
        "card-2": "Silver",
    }
    assert on_firestore("profiles", "import", lines, "--json").document["unchanged"] == 2
