"""The queries that the documents tell to fill in and run do run, as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [
    command
    for document in ("docs/cost.md", "schemas/README.md")
    for command in re.findall(r"```bash\n(.*?)```", (ROOT / document).read_text("utf-8"), re.DOTALL)
    if "schemas/queries/" in command
]


def test_there_are_documented_queries() -> None:
    assert len(COMMANDS) == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_a_documented_query_runs(command: str, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "tagstitch"
    program.parent.mkdir()
    main = "import sys, tagstitch.cli; sys.argv[0] = 'tagstitch'; tagstitch.cli.main()"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{main}" "$@" \n')
    program.chmod(0o755)

    run = subprocess.run(
        ["bash", "-c", command.replace("audit query", "audit query --json")],
        cwd=ROOT,
        env={
            "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
            "TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(tmp_path / "data"),
        },
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert run.returncode == 0, run.stderr
    assert len(json.loads(run.stdout)) in {1, 4}, "the proof has one row, the costs one a function"
