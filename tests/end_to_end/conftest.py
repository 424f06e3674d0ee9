"""Stacks that the end-to-end tests share."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.running_stack import (
    ROOT,
    RunningStack,
    checkout_environment,
    running_stack,
    until,
)

EXAMPLES = ROOT / "examples"


def run_command(data_dir: Path, *arguments: str | Path) -> Any:
    """Run `tagstitch … --json` on a data folder and return its document."""
    environment = checkout_environment(TAGSTITCH_BACKEND="local", TAGSTITCH_DATA_DIR=str(data_dir))
    command = [sys.executable, "-m", "tagstitch.cli", *map(str, arguments), "--json"]
    ran = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def load_samples(data_dir: Path, folder: Path) -> None:
    """Push the sample rules and import the sample profiles, as an operator does."""
    run_command(data_dir, "rules", "push", EXAMPLES / "rules")
    profiles = shutil.copy(EXAMPLES / "profiles.jsonl", folder)  # rejects are written beside it
    run_command(data_dir, "profiles", "import", profiles)


def push_body(message: bytes, message_id: str) -> dict[str, Any]:
    """Return what a push subscription posts."""
    return {
        "subscription": "projects/local/subscriptions/stitch-requests-push",
        "message": {
            "data": base64.b64encode(message).decode(),
            "messageId": message_id,
            "publishTime": datetime.now(UTC).isoformat(),
        },
    }


def has_rules(stack: RunningStack) -> bool:
    """Return whether decide has loaded rules."""
    with stack.client() as client:
        return bool(client.get("/decide/health").json()["rules"]["count"])


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """One stack with the samples for a whole file: its tests use visitors of their own."""
    folder = tmp_path_factory.mktemp("stack")
    settings = {"TAGSTITCH_RULES_REFRESH_S": "0.2", "TAGSTITCH_RETRY_SCALE": "0.01"}
    with running_stack(folder, **settings) as stack:
        load_samples(stack.data_dir, folder)
        until(lambda: has_rules(stack), seconds=20, what="the rules in decide")
        yield stack
