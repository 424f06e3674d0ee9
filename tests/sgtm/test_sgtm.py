"""The sGTM side: its own tests, run by Node, and that its guide says what is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.node_tests import SGTM, check_node_tests, needs_node, one_worker

TESTS = Path(__file__).parent


@needs_node
@one_worker
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("file", sorted(TESTS.glob("*.test.mjs")), ids=lambda path: path.name)
def test_the_sgtm_side_passes_its_own_tests(file: Path) -> None:
    check_node_tests(file)


def test_what_it_installs_is_pinned() -> None:
    package = json.loads((SGTM / "package.json").read_text())
    wanted = {**package["dependencies"], **package["devDependencies"]}
    locked = json.loads((SGTM / "package-lock.json").read_text())["packages"]

    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert all("integrity" in package for path, package in locked.items() if path)


def test_the_readmes_list_every_template() -> None:
    folders = {path.parent.name for path in SGTM.glob("templates/*/template.tpl")}
    listed = set(
        re.findall(r"\]\(templates/([\w-]+)/README\.md\)", (SGTM / "README.md").read_text())
    )

    assert folders == listed


def test_what_only_a_live_container_can_say_is_checked_in_ten_minutes() -> None:
    guide = (SGTM.parent / "docs" / "sgtm.md").read_text()
    section = guide.partition("## What only a live container can say")[2]
    steps = re.findall(r"^\| ([A-Z]) \| .+ \| (\d) \|$", section, re.MULTILINE)
    rows = re.findall(r"^\| (.{2,}) \| ([A-Z](?:, [A-Z])*) \| (.+) \|$", section, re.MULTILINE)
    used = {letter for _, letters, _ in rows for letter in letters.split(", ")}

    assert sum(int(minutes) for _, minutes in steps) == 10
    assert used == {letter for letter, _ in steps}
    assert len(rows) >= 16


def test_no_file_of_the_simulator_is_long() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in SGTM.glob("simulator/**/*.js")}

    assert lines
    assert {path.name: count for path, count in lines.items() if count > 400} == {}
