from __future__ import annotations

import asyncio
import base64
import functools
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tagstitch.adapters.backend_factory import close_backend, open_backend
from tagstitch.adapters.local_secrets import read_local_secrets
from tagstitch.adapters.settings import exported_settings, read_settings
from tagstitch.core.callback import CallbackEndpoint
from tagstitch.local_stack.functions import load_functions
from tagstitch.local_stack.server import LocalStackError, StackOptions, local_stack_in_thread
from tagstitch.pipeline.backend import Backend, Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.webhook_signature import sign_callback

ROOT = Path(__file__).resolve().parents[2]
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DEFINED = ("event_rules/r", "audiences/a", "experiments/e", "traits/t", "views/v")
FUNCTIONS = ("stitch_sync", "decide", "stitch_async", "audit_sink")


@pytest.fixture(scope="module")
def functions_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of stand-in functions, laid out like the real one."""
    directory = tmp_path_factory.mktemp("functions")
    text = Path(__file__).with_name("stand_in.py").read_text()
    for name in FUNCTIONS:
        (directory / name).mkdir()
        (directory / name / "main.py").write_text(text.replace("FUNCTION", name))
    return directory


@pytest.fixture
def options(functions_dir: Path, tmp_path: Path) -> StackOptions:
    return StackOptions(
        data_dir=tmp_path,
        port=0,
        settings={"TAGSTITCH_RETRY_SCALE": "0.001"},
        load=functools.partial(load_functions, FUNCTIONS, directory=functions_dir),
    )


@pytest.fixture
def stack(options: StackOptions) -> Iterator[httpx.Client]:
    with local_stack_in_thread(options) as url, httpx.Client(base_url=url, timeout=20) as client:
        yield client


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return result


def count(stack: httpx.Client, what: str, **parameters: str) -> int:
    number: int = stack.get(f"/_local/{what}", params=parameters).json()["count"]
    return number


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/decide", "/"),
        ("/decide/", "/"),
        ("/decide/decide", "/decide"),
        ("/decide/make-event-decision/", "/make-event-decision/"),
        ("/stitch_sync", "/"),
        ("/stitch_async/actions", "/actions"),
        ("/audit_sink/deadletters", "/deadletters"),
    ],
)
def test_a_function_sees_the_path_that_it_has_in_the_cloud(
    stack: httpx.Client, path: str, expected: str
) -> None:
    answer = stack.post(path, params={"a": "ü"}, content="ü".encode())

    assert answer.status_code == 200
    assert answer.json() == {
        "function": path.split("/")[1],
        "method": "POST",
        "path": expected,
        "query": "a=%C3%BC",
        "body": "ü",
    }


@pytest.mark.parametrize("path", ["/", "/health", "/health/"])
def test_the_root_answers(stack: httpx.Client, path: str) -> None:
    answer = stack.get(path)

    assert answer.status_code == 200
    assert answer.json()["version"]


@pytest.mark.parametrize("path", ["/nothing", "/_local/nothing", "/decidex", "/%2e%2e/decide"])
def test_what_does_not_exist_is_not_found(stack: httpx.Client, path: str) -> None:
    answer = stack.get(path)

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("path", ["/_local/reset", "/stitch_sync", "/_local/sgtm/x"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8080"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost@evil.example"},
        {"Host": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "null"},
    ],
)
def test_a_page_from_elsewhere_is_refused(
    stack: httpx.Client, headers: dict[str, str], path: str
) -> None:
    answer = stack.post(path, json={}, headers=headers)

    (name,) = headers
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["path"]) == (400, "invalid_field", name)
    assert "evil" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:80", "[::1]:8080"])
def test_this_machine_may_be_called_by_each_of_its_names(stack: httpx.Client, host: str) -> None:
    headers = {"Host": host, "Origin": f"http://{host}"}

    assert stack.get("/health", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/_local/audit?limit=x", 400),
        ("POST", "/_local/sgtm/x", 401),
        ("POST", "/_local/reset", 400),
    ],
)
def test_every_error_of_the_stack_has_an_id(
    stack: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = stack.request(method, path, content=b"no JSON")

    assert answer.status_code == status
    assert len(answer.json()["error"]["error_id"]) == 32


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("stitch-requests", {"function": "stitch_async", "path": "/"}),
        ("actions", {"function": "stitch_async", "path": "/actions"}),
        ("audit", {"function": "audit_sink", "path": "/"}),
        ("dead-letter", {"function": "audit_sink", "path": "/deadletters"}),
    ],
)
def test_a_published_message_is_pushed_to_its_function_on_the_same_backend(
    stack: httpx.Client, tmp_path: Path, topic: str, expected: dict[str, str]
) -> None:
    message_id = stack.post(f"/decide/publish/{topic}", content=b"x").json()["message_id"]

    document = until(lambda: read_document(tmp_path, f"processed/{message_id}"))

    assert document == expected


def test_the_schedule_calls_its_function(stack: httpx.Client) -> None:
    until(lambda: stack.get("/stitch_async/swept").json() >= 2)


def test_a_crash_in_a_function_is_a_500_and_the_stack_goes_on(stack: httpx.Client) -> None:
    assert stack.get("/decide/raise").status_code == 500
    assert stack.get("/decide").status_code == 200


# The stand-in for sGTM


def test_a_callback_reaches_the_stand_in_signed_with_the_local_secret(stack: httpx.Client) -> None:
    stack.post("/decide/publish/stitch-requests", content=b"callback-1")
    stack.post("/decide/publish/stitch-requests", content=b"callback-2")
    until(lambda: count(stack, "callbacks") == 2)

    answer = stack.get("/_local/callbacks", params={"request_id": "callback-2"}).json()

    (item,) = answer["items"]
    assert answer["count"] == 1
    assert item["path"] == "/_local/sgtm/callback"
    assert item["webhook_id"] == "callback-2"
    assert item["signature_valid"] is True
    assert item["headers"]["webhook-id"] == "callback-2"
    assert item["body"] == {"data": {"request_id": "callback-2"}}
    assert datetime.fromisoformat(item["received_at"]).tzinfo is not None


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": "nonsense"},
        {"webhook-signature": ""},
        {"webhook-id": "other"},
        {"webhook-timestamp": "1"},
        {"webhook-timestamp": "soon"},
    ],
)
def test_a_bad_signature_is_refused_and_kept(
    stack: httpx.Client, tmp_path: Path, change: dict[str, str]
) -> None:
    headers = signed_headers(tmp_path, b"{}") | change

    answer = stack.post("/_local/sgtm/any/path", content=b"{}", headers=headers)

    assert answer.status_code == 401
    (item,) = stack.get("/_local/callbacks").json()["items"]
    assert (item["signature_valid"], item["path"]) == (False, "/_local/sgtm/any/path")


def test_a_good_signature_is_taken_at_any_path_and_with_any_body(
    stack: httpx.Client, tmp_path: Path
) -> None:
    body = b"\x7b no JSON"
    for path in ("/_local/sgtm", "/_local/sgtm/", "/_local/sgtm/a/b"):
        headers = signed_headers(tmp_path, body)
        assert stack.post(path, content=body, headers=headers).status_code == 200

    assert stack.post("/_local/sgtm/a", content=b"x" * 65_537).status_code == 413
    listed = stack.get("/_local/callbacks").json()
    assert listed["count"] == 3
    assert listed["items"][0]["body"] == "{ no JSON"


def test_callbacks_are_listed_in_order_up_to_the_limit_and_survive_a_restart(
    options: StackOptions, tmp_path: Path
) -> None:
    with local_stack_in_thread(options) as url:
        for n in range(3):
            body = json.dumps({"n": n}).encode()
            headers = signed_headers(tmp_path, body)
            httpx.post(f"{url}/_local/sgtm/x", content=body, headers=headers).raise_for_status()

    with local_stack_in_thread(options) as url:
        listed = httpx.get(f"{url}/_local/callbacks", params={"limit": "2"}).json()
        refused = httpx.get(f"{url}/_local/callbacks", params={"limit": "many"})

    assert listed["count"] == 3
    assert [item["body"]["n"] for item in listed["items"]] == [0, 1]
    assert refused.status_code == 400


# Audit, dead letters, reset


async def fill(backend: Backend) -> None:
    rows = [
        {
            "record_id": f"r{n}",
            "record_type": "event_decision",
            "occurred_at": NOON - timedelta(hours=n),
            "recorded_at": NOON,
            "request_id": f"q{n % 2}",
            "outcome": "modified",
            "receipt": b"\x00\xff",
            "extra": {"n": n},
        }
        for n in range(3)
    ]
    assert await backend.audit_table.append(rows, deadline=Deadline.after(5)) == []
    letters = [
        {
            "dead_letter_id": f"l{n}",
            "request_id": f"q{n % 2}",
            "received_at": NOON - timedelta(hours=n),
            "sealed": b"secret",
            "parts": 1,
        }
        for n in range(3)
    ]
    puts = [Put(f"dead_letters/{letter['dead_letter_id']}", letter) for letter in letters]
    others = [Put(path, {"a": 1}) for path in ("profiles/p", *DEFINED)]
    await backend.documents.commit([*puts, *others], deadline=Deadline.after(5))


@pytest.fixture
def filled(stack: httpx.Client, tmp_path: Path) -> httpx.Client:
    """The stack, after another process has written to its data folder."""

    async def write() -> None:
        settings = read_settings(
            {"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(tmp_path)}
        )
        await fill(open_backend(settings))
        await close_backend(settings)

    asyncio.run(write())
    return stack


def test_audit_rows_are_listed_as_they_were_stored(filled: httpx.Client) -> None:
    everything = filled.get("/_local/audit").json()
    some = filled.get("/_local/audit", params={"request_id": "q0", "limit": "1"}).json()

    assert [item["record_id"] for item in everything["items"]] == ["r0", "r1", "r2"]
    assert some["count"] == 2
    (item,) = some["items"]
    assert item["occurred_at"] == "2026-11-21T12:00:00Z"
    assert base64.b64decode(item["receipt"]) == b"\x00\xff"
    assert item["extra"] == {"n": 0}
    assert item["rule_ids"] == []
    assert item["subject"] is None


def test_dead_letters_are_listed_the_oldest_first_without_their_payload(
    filled: httpx.Client,
) -> None:
    everything = filled.get("/_local/deadletters").json()
    some = filled.get("/_local/deadletters", params={"request_id": "q0", "limit": "1"}).json()

    assert [item["dead_letter_id"] for item in everything["items"]] == ["l2", "l1", "l0"]
    assert "sealed" not in everything["items"][0]
    assert (some["count"], [item["dead_letter_id"] for item in some["items"]]) == (2, ["l2"])


def test_reset_clears_all_but_the_definitions(filled: httpx.Client, tmp_path: Path) -> None:
    filled.post("/_local/sgtm/x", content=b"{}")

    answer = filled.post("/_local/reset")

    assert (answer.status_code, answer.content) == (204, b"")
    assert [count(filled, name) for name in ("audit", "deadletters", "callbacks")] == [0, 0, 0]
    assert read_document(tmp_path, "profiles/p") is None
    assert [path for path in DEFINED if read_document(tmp_path, path) is None] == []


def test_reset_clears_the_definitions_too_when_told(filled: httpx.Client, tmp_path: Path) -> None:
    assert filled.post("/_local/reset", json={"keep": []}).status_code == 204

    assert read_document(tmp_path, "event_rules/r") is None


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"keep": 1}', b'{"other": 1}'])
def test_reset_refuses_what_it_does_not_understand(filled: httpx.Client, content: bytes) -> None:
    assert filled.post("/_local/reset", content=content).status_code == 400
    assert count(filled, "audit") == 3


def test_reset_waits_for_work_in_flight(stack: httpx.Client) -> None:
    for n in range(50):
        stack.post("/decide/publish/stitch-requests", content=f"callback-{n}".encode())

    assert stack.post("/_local/reset").status_code == 204
    time.sleep(0.3)

    assert count(stack, "callbacks") == 0


# Starting and stopping


def test_the_functions_settings_are_back_as_they_were_afterwards(
    options: StackOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TAGSTITCH_CALLBACKS", raising=False)
    monkeypatch.setenv("TAGSTITCH_DATA_DIR", "/elsewhere")
    with local_stack_in_thread(options):
        inside = read_settings()

    assert inside.data_dir == options.data_dir
    assert [endpoint.id for endpoint in inside.callbacks] == ["main"]
    assert inside.callbacks[0].allow_private
    with exported_settings({"TAGSTITCH_BACKEND": "local"}):
        assert "TAGSTITCH_BACKEND" in os.environ
    assert os.environ["TAGSTITCH_DATA_DIR"] == "/elsewhere"
    assert "TAGSTITCH_CALLBACKS" not in os.environ


def test_callbacks_that_the_operator_registered_stay(
    options: StackOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = {
        "id": "own",
        "url": "https://sgtm.example/",
        "secret": "whsec_" + "A" * 40,
        "attributes": [],
    }
    monkeypatch.setenv("TAGSTITCH_CALLBACKS", json.dumps([endpoint]))
    with local_stack_in_thread(options):
        assert [endpoint.id for endpoint in read_settings().callbacks] == ["own"]


def test_a_taken_port_is_named(options: StackOptions, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(LocalStackError, match=str(port)),
            local_stack_in_thread(StackOptions(data_dir=tmp_path, port=port, load=options.load)),
        ):
            pass


def test_a_data_folder_has_one_stack_at_a_time(options: StackOptions) -> None:
    with (
        local_stack_in_thread(options),
        pytest.raises(LocalStackError, match="data folder"),
        local_stack_in_thread(options),
    ):
        pass


RUN = """
import functools, pathlib, sys
from tagstitch.local_stack.functions import load_functions
from tagstitch.local_stack.server import StackOptions, run_local_stack
names = ("stitch_sync", "decide", "stitch_async", "audit_sink")
load = functools.partial(load_functions, names, directory=pathlib.Path(sys.argv[1]))
run_local_stack(
    StackOptions(data_dir=pathlib.Path(sys.argv[2]), port=0, load=load),
    lambda url: print(url, flush=True),
)
print("stopped", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(functions_dir: Path, tmp_path: Path, number: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(functions_dir), str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert httpx.get(f"{url}/health").status_code == 200

    process.send_signal(number)
    rest, errors = process.communicate(timeout=30)

    assert (process.returncode, rest, errors) == (0, "stopped\n", "")


def signed_headers(data_dir: Path, body: bytes) -> dict[str, str]:
    endpoint = CallbackEndpoint(
        id="main",
        url="",
        secret=read_local_secrets(data_dir)["LOCAL_CALLBACK_SECRET"],
        attributes=frozenset(),
    )
    content = body.decode()
    return sign_callback(endpoint, "w-1", content.encode(), sent_at=datetime.now(UTC))


def read_document(data_dir: Path, path: str) -> dict[str, Any] | None:
    with sqlite3.connect(data_dir / "tagstitch.sqlite") as connection:
        row = connection.execute("SELECT body FROM documents WHERE path = ?", (path,)).fetchone()
    connection.close()
    return None if row is None else msgspec.msgpack.decode(row[0])
