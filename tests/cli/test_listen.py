"""`tagstitch up` with its simulated container, and `tagstitch listen` beside it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.conftest import Cli
from tests.cli.test_stack_commands import ROOT, running_up, started_up
from tests.node_tests import install_simulator, needs_node, one_worker

GOLD = "4711.1763700000"
WAIT_S = 60


@contextmanager
def listening(url: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run `tagstitch listen` and wait until it does."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tagstitch.cli", "listen", "--url", url, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    watchdog = threading.Timer(WAIT_S, process.kill)
    watchdog.start()
    try:
        assert "listening to" in process.stderr.readline()
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def read_until(process: subprocess.Popen[str], what: str) -> list[str]:
    """Return the lines up to the first in which `what` is found."""
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if re.search(what, line):
            return lines
    raise AssertionError(f"never: {what}, only {lines}")


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def hit(container: str, **parameters: str) -> httpx.Response:
    common = {"v": "2", "tid": "G-1", "cid": GOLD, "gcs": "G111"}
    return httpx.post(f"{container}/g/collect", params=common | parameters, timeout=30)


def decide_once(url: str) -> None:
    """Let decide load what it needs: on a busy machine that takes longer than the tags wait."""
    event = {"event_name": "scroll", "client_id": "1.2"}
    assert httpx.post(f"{url}/decide", json={"event": event}, timeout=WAIT_S).status_code == 200


@needs_node
@one_worker
def test_what_arrives_is_shown_as_it_comes_without_who_it_is_of(tmp_path: Path) -> None:
    install_simulator()
    with running_up(tmp_path, "--container-port", "0") as (_, document):
        url, container = document["url"], document["container"]
        decide_once(url)
        with listening(url) as listener:
            hit(container, en="purchase", **{"epn.value": "7.5"})
            bought = read_until(listener, r"  decision +purchase -> micro_purchase")
            hit(container, en="login", uid="u-1001")
            logged_in = read_until(listener, r"  callback +visitor.stitched .*answered 200")
            answer = hit(container, en="view_item", **{"ep.item_category": "Electronics"})
            viewed = read_until(listener, "  answer .*sets show_discount_banner")
            hit(container, en="view_item", **{"ep.item_id": "PROD_MAINT_001"})
            dropped = read_until(listener, r"  decision +view_item +dropped")
            listener.send_signal(signal.SIGINT)
            exit_code = listener.wait(20)

    shown = [*bought, *logged_in, *viewed, *dropped]
    assert answer.headers["set-cookie"].startswith("show_discount_banner=electronics_10off;")
    assert [line for line in shown if re.search(r"  hit +purchase", line)]
    assert [line for line in shown if re.search(r"  sent +micro_purchase", line)]
    assert [line for line in shown if re.search(r"  hit +visitor_stitched", line)]
    assert not [line for line in dropped if "  sent " in line]
    assert not [line for line in shown if GOLD in line or "u-1001" in line or "Gold" in line]
    assert exit_code == 0


@needs_node
@one_worker
def test_lines_can_be_json(tmp_path: Path) -> None:
    install_simulator()
    with (
        running_up(tmp_path, "--container-port", "0") as (stack, document),
        listening(document["url"], "--json") as listener,
    ):
        hit(document["container"], en="scroll")
        [line] = read_until(listener, '"hit"')
        stack.send_signal(signal.SIGTERM)
        ended = stack.wait(20)
        assert listener.stdout is not None
        listener.stdout.read()
        exit_code = listener.wait(20)

    shown = json.loads(line)
    assert shown.pop("at").endswith("Z")
    assert shown == {"kind": "hit", "name": "scroll", "detail": "by GA4"}
    assert (ended, exit_code) == (0, 0)


@needs_node
@one_worker
def test_the_container_ends_with_a_stack_that_was_killed(tmp_path: Path) -> None:
    install_simulator()
    with running_up(tmp_path, "--container-port", "0") as (stack, document):
        assert hit(document["container"], en="scroll").status_code == 200
        stack.kill()
        stack.wait()

        until(lambda: not answers(document["container"]))


def answers(url: str) -> bool:
    try:
        httpx.get(url, timeout=5)
    except httpx.HTTPError:
        return False
    return True


def test_a_stack_without_node_says_what_is_missing_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with running_up(tmp_path / "data", "--container-port", "0") as (_, document):
        answer = httpx.get(document["functions"]["stitch_sync"])

    assert answer.status_code == 200
    assert document["container"] is None
    assert document["container_absence"] == "it needs Node 20, which is not there"


@needs_node
@one_worker
def test_what_is_printed_for_people_names_the_container_and_the_page(tmp_path: Path) -> None:
    install_simulator()
    with started_up("--container-port", "0", "--data-dir", str(tmp_path)) as stack:
        printed = "\n".join(read_until(stack, "Ctrl-C"))
        container = re.findall(
            r"^simulated sGTM container: (\S+), hits at /g/collect$", printed, re.MULTILINE
        )
        page = re.findall(r"^sample page, for a browser:\s(\S+)$", printed, re.MULTILINE)
        statuses = [hit(container[0], en="scroll").status_code, httpx.get(page[0]).status_code]
        stack.terminate()
        stack.wait(20)

    assert statuses == [200, 200]
    assert page[0].endswith(f"?container={container[0]}")


def test_listening_to_nobody_fails_and_says_what_to_do(cli: Cli) -> None:
    ran = cli("listen", "--url", "http://127.0.0.1:9", "--json")

    assert ran.exit_code == 1
    assert "make up" in ran.document["error"]["message"]
