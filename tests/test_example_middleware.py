"""The example middleware: its own tests, and that its README says what it reads."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "examples" / "middleware"

_NODE_MAJOR_MIN = 20


def node_major() -> int:
    """Return the major version of Node, 0 where there is none."""
    if shutil.which("node") is None:
        return 0
    ran = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    return int(ran.stdout.lstrip("v").partition(".")[0])


@pytest.mark.skipif(node_major() < _NODE_MAJOR_MIN, reason="needs Node 20")
def test_the_middleware_passes_its_own_tests() -> None:
    ran = subprocess.run(
        ["node", "--test", "--test-reporter=tap"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^# pass [1-9]\d+$", ran.stdout, re.MULTILINE), ran.stdout


def test_every_variable_that_it_reads_is_in_its_readme_and_no_other() -> None:
    read = re.findall(r"process\.env\.(TAGSTITCH_\w+)", (FOLDER / "middleware.ts").read_text())
    rows = re.findall(r"^\| `(\w+)` \|", (FOLDER / "README.md").read_text(), re.MULTILINE)

    assert rows == read


def test_what_it_installs_is_pinned() -> None:
    wanted = json.loads((FOLDER / "package.json").read_text())["devDependencies"]
    locked = json.loads((FOLDER / "package-lock.json").read_text())["packages"]

    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    installed = [package for path, package in locked.items() if path and "optional" not in package]
    assert all("integrity" in package for package in installed)
