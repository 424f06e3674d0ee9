"""Tests that Node runs, from pytest: what they need, and that none of them is skipped."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SGTM = ROOT / "sgtm"

_NODE_MAJOR_MIN = 20
_INSTALL_S = 120
_RUN_S = 300


def node_major() -> int:
    """Return the major version of Node, 0 where there is none."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return 0
    ran = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    return int(ran.stdout.lstrip("v").partition(".")[0])


needs_node = pytest.mark.skipif(node_major() < _NODE_MAJOR_MIN, reason="needs Node 20 and npm")
one_worker = pytest.mark.xdist_group("sgtm")
"""Two `npm ci` at a time would get in each other's way."""


def install_simulator() -> None:
    """Install the two packages that the simulator needs, where nobody has yet."""
    if (SGTM / "node_modules" / "acorn").exists():
        return
    command = ["npm", "ci", "--omit=dev", "--no-audit", "--no-fund"]
    ran = subprocess.run(
        command, cwd=SGTM, capture_output=True, text=True, timeout=_INSTALL_S, check=False
    )
    if ran.returncode != 0:
        pytest.skip("needs npm ci in sgtm")


def check_node_tests(file: Path) -> None:
    """Run the tests of one file; all of them must pass."""
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
