"""The sample rules, views and profiles on a running stack, loaded as an operator does."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tagstitch.adapters.settings import read_settings
from tagstitch.cli.opened_backend import opened_backend
from tagstitch.cli.samples import put_sample_views
from tagstitch.pipeline.deadline import Deadline
from tests.end_to_end.running_stack import (
    ROOT,
    RunningStack,
    checkout_environment,
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
    """Push the sample rules and import the sample profiles, as an operator does.

    The views lie in the store before: they say what the rules read from the profile alone.
    """
    asyncio.run(_load_views(data_dir))
    run_command(data_dir, "rules", "push", EXAMPLES / "rules")
    profiles = shutil.copy(EXAMPLES / "profiles.jsonl", folder)  # rejects are written beside it
    run_command(data_dir, "profiles", "import", profiles)


async def _load_views(data_dir: Path) -> None:
    settings = {"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(data_dir)}
    async with opened_backend(read_settings(settings)) as opened:
        await put_sample_views(opened.backend.documents, Deadline.after(10))


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
