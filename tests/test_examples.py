"""The samples are what their README says, and their script gives them again."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from tagstitch.core.event import parse_event

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_the_script_writes_the_committed_day(tmp_path: Path) -> None:
    script = Path(shutil.copy(EXAMPLES / "make_day.py", tmp_path))
    spec = importlib.util.spec_from_file_location("make_day", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "make_day", module)
        spec.loader.exec_module(module)
        module.main()

    written = (tmp_path / "events.jsonl").read_text(encoding="utf-8")

    assert written == (EXAMPLES / "events.jsonl").read_text(encoding="utf-8")


def test_every_event_of_the_day_is_different_and_in_order_of_time() -> None:
    lines = (EXAMPLES / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    times = [event["x-sst-system_properties"]["request_start_time_ms"] for event in events]

    assert [parse_event(event).name for event in events]
    assert times == sorted(times)
    assert len(set(lines)) == len(lines)
    assert f"{len(lines)} events" in (EXAMPLES / "README.md").read_text(encoding="utf-8")
