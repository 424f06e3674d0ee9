"""The four functions as `make package` stages them, served by the framework alone."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.package import main as stage_functions
from tagstitch.core.limits import DEADLINE_MS_MAX
from tests.emulators import REPOSITORY
from tests.end_to_end.deployment import patient_lookup
from tests.end_to_end.function_process import FunctionProcess

FUNCTIONS = ("stitch_sync", "stitch_async", "decide", "audit_sink")

# Without `site` nothing in site-packages can put the checkout on the path, as an editable install
# does, and -P keeps the working directory off it: what is left is what the platform has.
ISOLATED = [sys.executable, "-S", "-P", "-c"]
SERVE = [*ISOLATED, "from functions_framework._cli import _cli; _cli()"]
IMPORTED = """
import json, sys
from functions_framework import _function_registry
module, spec = _function_registry.load_function_module("main.py")
spec.loader.exec_module(module)
files = [getattr(module, "__file__", None) for module in sys.modules.values()]
print(json.dumps([file for file in files if file]))
"""

STRONG = "0123456789abcdefghijklmnopqrstuvwxyz"
WEAK = "hunter2-weak"
DEPLOYED = {
    "K_SERVICE": "decide",
    "TAGSTITCH_PROJECT": "a-project",
    "TAGSTITCH_AUTH": "key",
    "TAGSTITCH_KEYS": json.dumps([{"id": "sgtm", "secret": STRONG, "scopes": ["decide"]}]),
    "TAGSTITCH_CONSENT_DEFAULT": "denied",
    "TAGSTITCH_IDENTITY_KEY": STRONG,
    "TAGSTITCH_PSEUDONYM_KEYS": f"k1:{STRONG}",
    "TAGSTITCH_RECEIPT_KEY": STRONG,
}
"""All that a deployed function needs."""


@dataclass(frozen=True)
class Staged:
    """The build folder, and each function running from it on one data folder."""

    folder: Path
    running: Mapping[str, FunctionProcess]

    def post(self, function: str, path: str, body: Any) -> httpx.Response:
        return httpx.post(self.running[function].url + path, json=body, timeout=30)


def environment(**settings: str) -> dict[str, str]:
    """Return an environment with the installed libraries and without anybody's settings."""
    foreign = ("TAGSTITCH_", "K_", "FUNCTION_", "FIRESTORE_", "PUBSUB_", "BIGQUERY_", "GOOGLE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "PYTHONPATH": sysconfig.get_path("purelib"), **settings}


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    folder = tmp_path_factory.mktemp("build")
    assert stage_functions([str(folder), *FUNCTIONS]) == 0
    settings = environment(TAGSTITCH_BACKEND="local", TAGSTITCH_DATA_DIR=str(folder / "data"))
    running = {
        name: FunctionProcess(
            name, settings, folder, source=folder / name / "main.py", framework=SERVE
        )
        for name in FUNCTIONS
    }
    try:
        for process in running.values():
            process.start()
        for process in running.values():
            process.wait_until_ready()
        yield Staged(folder, running)
    finally:
        for process in running.values():
            process.stop()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_staged_function_imports_nothing_of_the_checkout(staged: Staged, function: str) -> None:
    folder = staged.folder / function

    ran = subprocess.run(
        [*ISOLATED, IMPORTED],
        cwd=folder,
        env=environment(TAGSTITCH_BACKEND="local", TAGSTITCH_DATA_DIR=str(staged.folder / "data")),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    files = [Path(file) for file in json.loads(ran.stdout)]
    own = [file for file in files if "tagstitch" in file.parts[-4:]]
    assert folder / "tagstitch" / "__init__.py" in own
    assert [file for file in own if not file.is_relative_to(folder)] == []
    checkouts = [REPOSITORY / "tagstitch", REPOSITORY / "functions"]
    assert not any(file.is_relative_to(each) for file in files for each in checkouts)
    assert {each.name for each in folder.iterdir()} >= {"main.py", "requirements.txt", "tagstitch"}
    assert not (folder / "tagstitch" / "cli").exists()
    assert not (folder / "tagstitch" / "local_stack").exists()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_it_is_healthy(staged: Staged, function: str) -> None:
    answer = httpx.get(f"{staged.running[function].url}/health", timeout=30)

    assert (answer.status_code, answer.json()["function"]) == (200, function)


def test_stitch_sync_looks_up(staged: Staged) -> None:
    answer = staged.post("stitch_sync", "/", patient_lookup(client_id="1.17"))

    assert (answer.status_code, answer.json()["reason"]) == (200, "UNKNOWN_PROFILE")


def test_decide_decides(staged: Staged) -> None:
    event = {"event_name": "purchase", "client_id": "2.17", "value": 5}

    answer = staged.post("decide", "/decide", {"event": event, "deadline_ms": DEADLINE_MS_MAX})

    assert answer.status_code == 200
    assert answer.json()["event"]["drop"] is False


def test_what_stitch_async_links_stitch_sync_finds(staged: Staged) -> None:
    message = {"identifiers": [{"type": "client_id", "value": "3.17"}]}

    answer = staged.post("stitch_async", "/", push_body(message, "m3"))

    assert answer.status_code == 204
    found = staged.post("stitch_sync", "/", patient_lookup(client_id="3.17")).json()
    assert found["reason"] == "KNOWN_PROFILE"


def test_audit_sink_takes_a_record_and_a_dead_letter(staged: Staged) -> None:
    record = {
        "record_id": "staged-1",
        "record_type": "identity_link",
        "occurred_at": "2026-11-21T20:00:00Z",
        "outcome": "linked",
    }

    statuses = [
        staged.post("audit_sink", path, push_body(record, "m4")).status_code
        for path in ("/", "/deadletters")
    ]

    assert statuses == [204, 204]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"TAGSTITCH_AUTH": "none"}, "TAGSTITCH_AUTH=none"),
        ({"TAGSTITCH_AUTH": None}, "TAGSTITCH_AUTH is not set"),
        ({"TAGSTITCH_CONSENT_DEFAULT": None}, "TAGSTITCH_CONSENT_DEFAULT is not set"),
        ({"TAGSTITCH_IDENTITY_KEY": None}, "TAGSTITCH_IDENTITY_KEY is not set"),
        ({"TAGSTITCH_RECEIPT_KEY": WEAK}, "TAGSTITCH_RECEIPT_KEY must have"),
        ({"TAGSTITCH_PSEUDONYM_KEYS": f"k1:{WEAK}"}, "TAGSTITCH_PSEUDONYM_KEYS must be"),
        (
            {"TAGSTITCH_KEYS": json.dumps([{"id": "a", "secret": WEAK, "scopes": ["decide"]}])},
            "the secret of the key 'a' must have",
        ),
        ({"TAGSTITCH_KEYS": None}, "TAGSTITCH_AUTH=key needs TAGSTITCH_KEYS"),
        ({"TAGSTITCH_TIME_ZONE": "Europe/Berln"}, "TAGSTITCH_TIME_ZONE: unknown time zone"),
        ({"TAGSTITCH_BACKEND": "local"}, "remove TAGSTITCH_BACKEND=local"),
    ],
)
def test_a_deployed_function_that_is_set_up_wrongly_refuses_to_start(
    staged: Staged, tmp_path: Path, changes: Mapping[str, str | None], named: str
) -> None:
    settings = {**DEPLOYED, "TAGSTITCH_DATA_DIR": str(tmp_path), **changes}
    present = {name: value for name, value in settings.items() if value is not None}

    ran = subprocess.run(
        [*SERVE, "--target", "decide", "--host", "127.0.0.1", "--port", "0"],
        cwd=staged.folder / "decide",
        env=environment(**present),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode != 0
    last_line = ran.stderr.strip().splitlines()[-1]
    assert "SettingsError" in last_line
    assert named in last_line
    assert WEAK not in ran.stderr + ran.stdout


def test_a_deployed_function_that_is_set_up_rightly_starts(staged: Staged, tmp_path: Path) -> None:
    process = FunctionProcess(
        "stitch_sync",
        environment(**DEPLOYED),
        tmp_path,
        source=staged.folder / "stitch_sync" / "main.py",
        framework=SERVE,
    )
    try:
        process.start()
        process.wait_until_ready()
        answer = httpx.get(process.url, params={"client_id": "1.17"}, timeout=30)
    finally:
        process.stop()

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")


def push_body(message: Mapping[str, Any], message_id: str) -> dict[str, Any]:
    data = base64.b64encode(json.dumps(message).encode()).decode()
    return {"message": {"data": data, "messageId": message_id}}
