"""The sGTM side: its own tests, run by Node, and that its guide says what is there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SGTM = ROOT / "sgtm"
TESTS = Path(__file__).parent

_NODE_MAJOR_MIN = 20
_RUN_S = 300


def node_major() -> int:
    """Return the major version of Node, 0 where there is none."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return 0
    ran = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    return int(ran.stdout.lstrip("v").partition(".")[0])


needs_node = pytest.mark.skipif(node_major() < _NODE_MAJOR_MIN, reason="needs Node 20 and npm")
one_worker = pytest.mark.xdist_group("sgtm")


@needs_node
@one_worker
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("file", sorted(TESTS.glob("*.test.mjs")), ids=lambda path: path.name)
def test_the_sgtm_side_passes_its_own_tests(file: Path) -> None:
    ran = subprocess.run(
        ["node", "--test", "--test-reporter=tap", str(file)],
        cwd=ROOT,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=_RUN_S,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^# pass [1-9]\d*$", ran.stdout, re.MULTILINE), ran.stdout
    assert re.search(r"^# skipped 0$", ran.stdout, re.MULTILINE), ran.stdout


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


def test_no_file_of_the_simulator_is_long() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in SGTM.glob("simulator/**/*.js")}

    assert lines
    assert {path.name: count for path, count in lines.items() if count > 400} == {}
