"""What the tests of the sGTM side need installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SGTM = Path(__file__).parents[2] / "sgtm"

_INSTALL_S = 120


@pytest.fixture(scope="session")
def installed() -> None:
    """Install the two packages that the simulator needs, where nobody has yet."""
    if (SGTM / "node_modules" / "acorn").exists():
        return
    command = ["npm", "ci", "--omit=dev", "--no-audit", "--no-fund"]
    ran = subprocess.run(
        command, cwd=SGTM, capture_output=True, text=True, timeout=_INSTALL_S, check=False
    )
    if ran.returncode != 0:
        pytest.skip("needs npm ci in sgtm")
