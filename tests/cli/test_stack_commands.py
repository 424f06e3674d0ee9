"""up, demo and replay with the real local stack in another process."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tagstitch.cli.opened_backend import opened_backend
from tagstitch.cli.started_stack import started_stack
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.list_all import list_all
from tests.cli.conftest import Cli

EXAMPLES = Path(__file__).parents[2] / "examples"
ROOT = Path(__file__).parents[2]


@contextmanager
def started_up(*options: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run `tagstitch up` on a free port and give the process; ends it if need be."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tagstitch.cli", "up", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.stdout.close()
        if process.poll() is None:
            process.kill()
        process.wait()


@contextmanager
def running_up(
    data_dir: Path, *options: str, by_setting: bool = False
) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """Run `tagstitch up --json` and give the process and its document; ends it if need be."""
    more = [] if any("container" in option for option in options) else ["--no-container"]
    if not by_setting:
        more += ["--data-dir", str(data_dir)]
    environment = {"TAGSTITCH_DATA_DIR": str(data_dir)} if by_setting else {}
    with started_up("--json", *options, *more, **environment) as process:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_serves_the_samples_and_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with running_up(tmp_path) as (process, document):
        found = httpx.get(document["functions"]["stitch_sync"]).json()
        process.send_signal(number)
        exit_code = process.wait(20)
        assert process.stdout is not None
        rest = process.stdout.read()

    assert found["attributes"]["user_loyalty_tier"] == "Gold"
    assert document["samples"] == {"rules": 8, "profiles": 7}
    assert exit_code == 0
    assert rest == ""


def test_up_works_on_the_folder_that_the_setting_names(tmp_path: Path) -> None:
    with running_up(tmp_path / "one", by_setting=True) as (_, document):
        assert document["samples"] is not None
    with running_up(tmp_path / "one") as (_, document):
        assert document["samples"] is None


def test_samples_come_only_into_an_empty_folder(tmp_path: Path) -> None:
    with running_up(tmp_path, "--no-samples") as (_, document):
        assert document["samples"] is None
        assert not httpx.get(document["functions"]["stitch_sync"]).json()["found"]
    with running_up(tmp_path) as (_, document):
        assert document["samples"] is not None
    with running_up(tmp_path) as (_, document):
        assert document["samples"] is None


def test_a_second_stack_on_a_folder_is_refused(cli: Cli, tmp_path: Path) -> None:
    with running_up(tmp_path):
        ran = cli("up", "--port", "0", "--no-container", "--data-dir", tmp_path, "--json")

    assert ran.exit_code == 1
    assert "data folder" in ran.document["error"]["message"]


def test_a_rule_that_is_pushed_holds_within_a_second_or_so(cli: Cli, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    rule = {
        "rule_id": "drop_all",
        "target_event_name": "noise",
        "conditions": {},
        "match_all": True,
        "action_type": "drop_event",
    }
    (tmp_path / "rule.json").write_text(json.dumps(rule))
    event = {"event": {"event_name": "noise", "client_id": "12.34"}}
    with running_up(data_dir) as (_, document), httpx.Client(base_url=document["url"]) as client:
        before = client.post("/decide", json=event).json()
        assert cli("rules", "push", tmp_path / "rule.json").exit_code == 0
        for _ in range(100):  # ten seconds: a machine under load
            after = client.post("/decide", json=event).json()
            if after["event"]["drop"]:
                break
            asyncio.run(asyncio.sleep(0.1))

    assert before["event"]["drop"] is False
    assert after["event"]["drop"] is True


def test_the_curl_lines_name_every_function(tmp_path: Path) -> None:
    with started_up("--no-container", "--data-dir", str(tmp_path)) as process:
        curls = _curl_lines(process)
        answers = [_answer_of(curl) for curl in curls] if shutil.which("curl") else []
        process.terminate()
        exit_code = process.wait(20)

    assert exit_code == 0
    assert len(curls) == 4
    assert not [answer for answer in answers if "error" in answer]


def _curl_lines(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    printed = ""
    while "Ctrl-C" not in printed:
        line = process.stdout.readline()
        assert line, printed
        printed += line
    return re.findall(r"^  (curl .*)$", printed, re.MULTILINE)


def _answer_of(curl: str) -> Any:
    ran = subprocess.run(shlex.split(curl), check=True, capture_output=True, timeout=30)
    return json.loads(ran.stdout)


def test_the_demo_is_right(cli: Cli) -> None:
    ran = cli("demo", "--json")

    assert [step["problems"] for step in ran.document["steps"]] == [[]] * 12
    assert ran.document["ok"] is True
    assert ran.exit_code == 0


def test_the_day_is_replayed_as_its_readme_says_and_again_without_effect(
    cli: Cli, tmp_path: Path
) -> None:
    day = tmp_path / "day.jsonl"
    shutil.copy(EXAMPLES / "events.jsonl", day)

    first = cli("replay", day, "--json")
    profiles = asyncio.run(stored_people())
    audited = cli("audit", "query", "SELECT COUNT(*) AS n FROM audit", "--json").document
    second = cli("replay", day, "--json")

    assert first.exit_code == 0
    document = first.document
    assert (document["events"], document["failed"], document["rejected"]) == (139, 0, 0)
    assert (document["renamed"], document["dropped"]) == (6, 6)
    assert document["rules"]["adjust_churn_risk_value"] == 2
    assert document["personalized"] >= 3  # more where a browser was recognised by then
    assert document["degraded"] == {}
    assert document["stitching"]["profiles"] < document["stitching"]["visitors"]
    assert document["latency_ms"]["decide"].keys() == {"p50", "p95", "p99"}
    unchanged = ("events", "renamed", "changed", "dropped", "stitching")
    assert {k: second.document[k] for k in unchanged} == {k: document[k] for k in unchanged}
    assert asyncio.run(stored_people()) == profiles
    assert any("traits" in fields for fields in profiles.values())
    again = cli("audit", "query", "SELECT COUNT(*) AS n FROM audit", "--json").document
    assert again == audited


async def stored_people() -> dict[str, Any]:
    """Return every document that is about a visitor, whole."""
    async with opened_backend() as opened:
        return {
            document.path: dict(document.fields)
            for collection in ("profiles", "contributions", "identifiers", "links")
            for document in await list_all(
                opened.backend.documents, collection, deadline=Deadline.after(30)
            )
        }


@pytest.mark.skipif(
    "TAGSTITCH_GA4_EXPORT" not in os.environ,
    reason="TAGSTITCH_GA4_EXPORT names no file of export rows (JSON Lines, gzip)",
)
def test_a_second_replay_of_a_real_export_changes_no_profile_and_no_trait(
    cli: Cli, tmp_path: Path
) -> None:
    rows = Path(shutil.copy(os.environ["TAGSTITCH_GA4_EXPORT"], tmp_path))

    assert cli("replay", rows, "--json").exit_code == 0
    people = asyncio.run(stored_people())
    assert cli("replay", rows, "--json").exit_code == 0

    assert asyncio.run(stored_people()) == people
    assert len(people) > 100
    assert any("traits" in fields for fields in people.values())


async def test_a_stack_that_cannot_start_says_why(tmp_path: Path) -> None:
    from tagstitch.cli.output import CommandFailed

    environment = {"TAGSTITCH_AUTH": "perhaps"}
    with pytest.raises(CommandFailed, match="TAGSTITCH_AUTH"):
        async with started_stack(data_dir=tmp_path, log=tmp_path / "log", environment=environment):
            pytest.fail("it started")


def test_a_replay_to_a_stack_that_is_not_there_fails(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    file.write_text('{"event_name": "page_view"}\n')

    ran = cli("replay", file, "--url", "http://127.0.0.1:9", "--json")

    assert ran.exit_code == 1
    assert "does not answer" in ran.document["error"]["message"]


def test_a_running_stack_keeps_its_own_consent_default(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    file.write_text('{"event_name": "page_view"}\n')

    ran = cli("replay", file, "--url", "http://127.0.0.1:9", "--consent-default", "denied")

    assert ran.exit_code == 2


def test_denied_consent_as_default_leaves_nobody_known(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "two.jsonl"
    events: list[dict[str, Any]] = [
        {"event_name": "page_view", "client_id": "1.2", "value": n} for n in range(2)
    ]
    events.append({"event_name": "page_view"})
    file.write_text("\n".join(map(json.dumps, events)))

    ran = cli("replay", file, "--consent-default", "denied", "--json")

    assert ran.exit_code == 0
    assert ran.document["stitching"] == {
        "sent": 2, "without_identifier": 1, "visitors": 1, "profiles": 0,
    }  # fmt: skip
