"""The same canary through every command and the push service: nothing of it comes out again."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from tagstitch.adapters.settings import read_settings
from tagstitch.adapters.wiring import make_keyring
from tagstitch.cli import app
from tagstitch.cli.opened_backend import opened_backend
from tagstitch.pipeline.push_token import PushTokens
from tests.end_to_end.function_process import free_port
from tests.end_to_end.running_stack import (
    ROOT,
    RunningStack,
    checkout_environment,
    running_stack,
    until,
)
from tests.end_to_end.samples import load_samples, push_body
from tests.end_to_end.test_logs import (
    BREAK,
    EMAIL,
    EVENT,
    FORBIDDEN,
    PERSON,
    PHONE,
    STREET,
    USER_ID,
    check,
)

PROFILE = {
    "identifiers": {"user_id": [USER_ID], "email_sha256": [EMAIL], "phone_sha256": [PHONE]},
    "attributes": {"email": EMAIL, "phone": PHONE, "street": STREET},
    "consent": {"analytics_storage": True, "email": True},
}
BAD_PROFILES: list[Any] = [
    EMAIL,
    {**PROFILE, EMAIL: EMAIL},
    {**PROFILE, "identifiers": {EMAIL: [USER_ID]}},
    {**PROFILE, "identifiers": {"user_id": [BREAK]}},
    {**PROFILE, "identifiers": {"user_id": EMAIL}},
    {**PROFILE, "attributes": {EMAIL: {PHONE: 2**70}}},
    {**PROFILE, "attributes": {f"__{EMAIL}__": 1}},
    {**PROFILE, "attributes": EMAIL},
    {**PROFILE, "consent": {EMAIL: EMAIL}},
    {**PROFILE, "consent": {"analytics_storage": EMAIL}},
    {**PROFILE, "updated_at": EMAIL},
]
BAD_EVENTS: list[Any] = [
    EMAIL,
    {**EVENT, "event_name": [EMAIL]},
    {**EVENT, EMAIL: 2**70},
    {**EVENT, "timestamp": EMAIL},
    {"client_id": EMAIL},
]
RULES: list[Any] = [
    {
        "rule_id": "mail",
        "target_event_name": "purchase",
        EMAIL: EMAIL,
        "conditions": {"coupon": {EMAIL: PHONE}, "user_data": {"email": {"equals": [EMAIL]}}},
        "actions": [
            {"type": EMAIL, "parameter": EMAIL},
            {"type": "modify_parameter", "parameter": "value", "operator": EMAIL, "value": STREET},
        ],
    },
    {"rule_id": "other", EMAIL: EMAIL},
    EMAIL,
]
FALLBACK = {
    "message": "AUDIT_FALLBACK", "record": {"record_id": EMAIL, "outcome": [EMAIL], EMAIL: PHONE},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Command:
    """One call of the command line; a name of our own (a letter's id, a trait) is no canary."""

    arguments: tuple[str, ...]
    shows_a_person: bool = False
    """Whether stdout is there to show one's data to an operator."""

    def __str__(self) -> str:
        return " ".join(a for a in self.arguments[:3] if a.isascii() and "anna" not in a)


def commands(folder: Path, url: str, letter_id: str) -> Iterator[Command]:
    """Yield every command with a canary in what it reads; good input and bad."""
    events, profiles = str(folder / "events.jsonl"), str(folder / "profiles.jsonl")
    rules, event = str(folder / "rules.json"), str(folder / "event.json")
    profile, csv = str(folder / "profile.json"), str(folder / "profiles.csv")
    mail = ("email_sha256", EMAIL)
    for text in [
        f"profiles import {profiles} --dry-run --json", f"profiles import {profiles}",
        f"profiles import {csv}", f"profiles put {USER_ID} {profile}",
        f"traits backfill {events}", f"traits backfill {events} --dry-run",
        f"traits backfill {events} --until {EMAIL}",
        f"replay {events} --url {url}",
        "identity review",
        f"deadletters show {letter_id}", f"deadletters show {EMAIL}", "deadletters list",
        f"deadletters replay {letter_id}",
        f"rules validate {rules}", f"rules push {rules}", f"rules explain {rules} {event}",
        f"rules fields {events}", f"rules backtest {ROOT / 'examples/rules'} --events {events}",
        f"rules explain {ROOT / 'examples/rules'} {event} --profile {profile}",
        "rules status", "decisions replay --last 24", f"decisions replay {EMAIL}",
        f"audit load {folder / 'fallback.jsonl'}", "audit query",
    ]:  # fmt: skip
        yield Command(tuple(shlex.split(text)))
    yield Command(("deadletters", "show", letter_id, "--payload"), shows_a_person=True)
    yield Command(("profiles", "export"), shows_a_person=True)
    yield Command(("profiles", "get", USER_ID), shows_a_person=True)
    yield Command(("identity", "simulate", events), shows_a_person=True)
    yield Command(("identity", "export", *mail), shows_a_person=True)
    for words in [
        ("show", *mail), ("show", EMAIL, EMAIL), ("show", "user_id", BREAK),
        ("as-of", *mail, "2026-11-21T20:00:00Z"), ("as-of", *mail, EMAIL), ("split", *mail),
        ("split", "user_id", "nobody-" + EMAIL), ("erase", *mail, "--dry-run"),
        ("erase", EMAIL, EMAIL, "--yes"), ("erasure-proof", *mail), ("erase", *mail, "--yes"),
        ("erasure-proof", *mail), ("unerase", *mail), ("export", "client_id", BREAK),
        ("review", "release", *mail), ("review", "block", *mail),
    ]:  # fmt: skip
        yield Command(("identity", *words))


@dataclass(frozen=True, slots=True)
class Ran:
    command: Command
    exit_code: int
    out: str
    err: str
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class Outputs:
    """Everything that came out."""

    ran: list[Ran]
    lines: list[dict[str, Any]]
    stderr: str
    audit: list[dict[str, Any]]
    dead_letters: list[dict[str, Any]]
    push_answers: list[httpx.Response]
    push_output: str


def write_inputs(folder: Path) -> None:
    good = {**EVENT, "timestamp": "2026-11-20T10:00:00Z"}
    events = [good, *BAD_EVENTS, good]
    lines = "\n".join(map(json.dumps, events)) + f"\n{{{EMAIL}\n"
    (folder / "events.jsonl").write_text(lines)
    profiles = [PROFILE, *BAD_PROFILES]
    lines = "\n".join(map(json.dumps, profiles)) + f"\n{{{EMAIL}\n"
    (folder / "profiles.jsonl").write_text(lines)
    (folder / "profiles.csv").write_text(
        f"identifiers.user_id,attributes.mail,consent.analytics_storage\n"
        f"{USER_ID},{EMAIL},true\n{USER_ID},{EMAIL},{EMAIL}\n{EMAIL}\n"
    )
    (folder / "rules.json").write_text(json.dumps(RULES))
    (folder / "event.json").write_text(json.dumps(good))
    (folder / "profile.json").write_text(json.dumps(PROFILE))
    (folder / "fallback.jsonl").write_text(json.dumps(FALLBACK) + f"\n{{{EMAIL}\n")


def run(command: Command) -> Ran:
    ran = CliRunner().invoke(app, list(command.arguments))
    error = ran.exception if not isinstance(ran.exception, SystemExit) else None
    return Ran(command, ran.exit_code, ran.stdout, ran.stderr, error)


async def make_push_token(data_dir: Path) -> str:
    settings = {"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(data_dir)}
    async with opened_backend(read_settings(settings)) as opened:
        return PushTokens(make_keyring(opened.settings), opened.backend.clock).make(USER_ID)


def ask_push_service(folder: Path, data_dir: Path, token: str) -> tuple[list[httpx.Response], str]:
    """Run the push service as its Procfile does; return its answers and all that it wrote."""
    port = free_port()
    procfile = (ROOT / "push_service" / "Procfile").read_text().removeprefix("web: ")
    command = shlex.split(re.sub(r"\$\{PORT:-\d+\}", str(port), procfile))
    environment = checkout_environment(
        TAGSTITCH_BACKEND="local", TAGSTITCH_DATA_DIR=str(data_dir),
        TAGSTITCH_PUSH_ORIGINS="https://shop.example.com",
    )  # fmt: skip
    output = folder / "push_service"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT / "push_service", env=environment,
            stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as browser:
            until(lambda: is_up(browser), seconds=60, what="the push service")
            asked = [
                ("GET", "/", {"token": EMAIL}), ("GET", "/", {"token": "é" + EMAIL}), ("GET", "/", {"mail": EMAIL}),
                ("POST", "/", {"token": token}), ("GET", f"/{EMAIL}", {}),
            ]  # fmt: skip
            headers = {"origin": f"https://{EMAIL}", "last-event-id": EMAIL, "cookie": EMAIL}
            answers = [browser.request(m, p, params=q, headers=headers) for m, p, q in asked]
            query = {"token": token, "after": EMAIL}
            with browser.stream("GET", "/", params=query, headers=headers) as stream:
                assert stream.status_code == 200
                assert next(stream.iter_bytes())
    finally:
        process.terminate()
        process.wait(30)
    return answers, output.read_text()


def is_up(browser: httpx.Client) -> bool:
    try:
        return browser.get("/health").is_success
    except httpx.TransportError:
        return False


def wait_for_letters(stack: RunningStack, *, count: int) -> None:
    """Wait until so many dead letters are stored and recorded."""

    def recorded() -> bool:
        rows = [row for row in stack.listed("audit") if row["record_type"] == "dead_letter"]
        return len(rows) >= count <= stack.count("deadletters")

    until(recorded, seconds=30, what="the dead letters")


def bury_one(stack: RunningStack) -> str:
    """Make a dead letter of a message that names a person; return its id."""
    message = {"identifiers": {EMAIL: USER_ID}, "context": {"mail": EMAIL}}
    with stack.client() as client:
        body = push_body(json.dumps(message).encode(), "m-asked")
        assert client.post("/stitch_async", json=body).is_success
    until(lambda: stack.count("deadletters") > 0, seconds=30, what="the dead letter")
    letter_id: str = stack.listed("deadletters")[0]["dead_letter_id"]
    return letter_id


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outputs]:
    import asyncio

    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    settings = {"TAGSTITCH_RETRY_SCALE": "0.01", "TAGSTITCH_RULES_REFRESH_S": "0.2"}
    with running_stack(folder, **settings) as stack, pytest.MonkeyPatch.context() as patch:
        load_samples(stack.data_dir, folder)
        for name in [n for n in os.environ if n.endswith("_EMULATOR_HOST")]:
            patch.delenv(name)
        patch.setenv("TAGSTITCH_BACKEND", "local")
        patch.setenv("TAGSTITCH_DATA_DIR", str(stack.data_dir))
        write_inputs(folder)
        with stack.client() as client:
            stitch = {"identifiers": PERSON, "mode": "async", "request_id": "asked"}
            assert client.post("/stitch_sync", json=stitch).is_success
            assert client.post("/decide", json={"event": EVENT}).is_success
        ran = [run(each) for each in commands(folder, stack.url, bury_one(stack))]
        token = asyncio.run(make_push_token(stack.data_dir))
        answers, output = ask_push_service(folder, stack.data_dir, token)
        wait_for_letters(stack, count=3)  # the first, its replay, and the record that was loaded
        audit, letters = stack.listed("audit"), stack.listed("deadletters")
        assert stack.stop() == 0
        yield Outputs(
            ran, stack.log_lines(), stack.errors.read_text(), audit, letters, answers, output
        )


def leaks(told: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return what was told with a canary in it."""
    return [(who, text) for who, text in told if any(c in text.lower() for c in FORBIDDEN)]


def test_every_command_ran_to_its_end(outputs: Outputs) -> None:
    crashed = [(str(ran.command), ran.error) for ran in outputs.ran if ran.error is not None]
    worked = {ran.command.arguments[:2] for ran in outputs.ran if ran.exit_code == 0}

    assert crashed == []
    assert {
        ("profiles", "put"), ("profiles", "export"), ("rules", "backtest"), ("audit", "load"),
        ("identity", "show"), ("identity", "as-of"), ("identity", "erase"),
        ("identity", "erasure-proof"), ("identity", "export"), ("deadletters", "show"),
        ("deadletters", "replay"), ("rules", "explain"), ("decisions", "replay"),
    } <= worked  # fmt: skip


def test_no_command_tells_a_person_on_stderr(outputs: Outputs) -> None:
    assert leaks((str(ran.command), ran.err) for ran in outputs.ran) == []


def test_no_command_answers_with_a_person_unless_it_is_asked_to(outputs: Outputs) -> None:
    told = ((str(ran.command), ran.out) for ran in outputs.ran if not ran.command.shows_a_person)

    assert leaks(told) == []


def test_no_command_leaves_a_person_in_the_stacks_log(outputs: Outputs) -> None:
    for line in [*outputs.lines, {"stderr": outputs.stderr}]:
        check(line)


def test_no_command_leaves_a_person_in_audit_or_dead_letters(outputs: Outputs) -> None:
    for row in [*outputs.audit, *outputs.dead_letters]:
        check(row)


def test_the_push_service_tells_nobody_of_a_person(outputs: Outputs) -> None:
    assert [answer.status_code for answer in outputs.push_answers] == [401, 401, 401, 405, 404]
    for answer in outputs.push_answers:
        check({"headers": dict(answer.headers), "body": answer.text})
    check({"output": outputs.push_output})
