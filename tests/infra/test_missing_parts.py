"""Where Terraform or npm is missing, its tests are skipped by name, and fail where they must run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("ci", "outcome"), [("false", "1 skipped"), ("true", "1 error")])
def test_a_missing_program_is_named(tmp_path: Path, ci: str, outcome: str) -> None:
    run = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider",
            "tests/infra/test_terraform.py::test_the_files_are_formatted",
        ],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path), "CI": ci, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert outcome in run.stdout
    assert "not installed: terraform, npm" in run.stdout
