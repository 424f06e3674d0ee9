"""The quarantine on the command line, and every block in one query of the audit."""

from __future__ import annotations

import asyncio
import re
import uuid
from pathlib import Path

import pytest

from tagstitch.adapters.wiring import Wiring
from tagstitch.cli.opened_backend import opened_backend
from tagstitch.core.stitch_request import parse_stitch_request
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.publish_audit import AuditPublisher
from tests.cli.conftest import Cli
from tests.cli.recorded import AuditSink

CLIENT_ID = "1294673677.1747154479"
IDENTITY_DOCUMENT = Path(__file__).parents[2] / "docs" / "identity.md"


@pytest.fixture
def kiosk(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """A kiosk on which three people logged in, where two are allowed."""
    monkeypatch.setenv("TAGSTITCH_IDENTITY", '{"quarantine": {"profiles": 2, "within_hours": 1}}')
    stitch(*({"user_id": f"u-{n}", "client_id": CLIENT_ID} for n in range(3)))
    return cli


def stitch(*requests: dict[str, str]) -> None:
    """Process stitch requests as the function does, with their records in the table at once."""

    async def work() -> None:
        async with opened_backend() as opened:
            wiring = Wiring(opened.settings)
            wiring.audit = AuditPublisher(AuditSink(opened.backend))
            for identifiers in requests:
                request = parse_stitch_request(
                    {"identifiers": identifiers},
                    opened.settings.identity,
                    default_request_id=uuid.uuid4().hex,
                    received_at=opened.backend.clock(),
                )
                await wiring.stitcher.process(request, deadline=Deadline.after(10))

    asyncio.run(work())


@pytest.mark.parametrize("command", [("review",), ("review", "list")])
def test_what_is_held_is_listed(kiosk: Cli, command: tuple[str, ...]) -> None:
    [held] = kiosk("identity", *command, "--json").document

    assert (held["type"], held["profiles"]) == ("client_id", 3)
    assert held["held_at"] < held["expires_at"]
    shown = kiosk("identity", *command).out
    assert held["key"] in shown
    assert "3 profiles" in shown
    assert CLIENT_ID not in shown


def test_nothing_is_held_in_an_empty_store(cli: Cli) -> None:
    assert cli("identity", "review", "list").out == "nothing is held\n"


def test_an_identifier_that_is_held_is_shown_as_such(kiosk: Cli) -> None:
    shown = kiosk("identity", "show", "client_id", CLIENT_ID, "--json").document

    assert {i["type"]: i["held"] for i in shown["identifiers"]} == {
        "client_id": True,
        "user_id": False,
    }


def test_it_is_released_by_its_value_and_blocked_by_its_key(kiosk: Cli) -> None:
    [held] = kiosk("identity", "review", "--json").document

    released = kiosk("identity", "review", "release", "client_id", CLIENT_ID, "--json").document
    after_release = kiosk("identity", "review", "--json").document
    blocked = kiosk("identity", "review", "block", held["key"], "--json").document
    shown = kiosk("identity", "show", "client_id", CLIENT_ID, "--json").document

    assert released == {
        "type": "client_id",
        "key": held["key"],
        "verdict": "RELEASED",
        "record_id": released["record_id"],
    }
    assert after_release == []
    assert blocked["verdict"] == "BLOCKED"
    assert any(i["held"] for i in shown["identifiers"])
    assert "blocked" in kiosk("identity", "review", "block", held["key"]).out


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("release", "client_id"), 2, "name an identifier"),
        (("block", "client_id:TOOSHORT"), 2, "name an identifier"),
        (("release", "user_id", "u-1"), 1, "this identifier is not held"),
        (("release", "client_id", "1.2"), 1, "nobody is known by this identifier"),
        (("block", "user_id", "stranger"), 1, "blocked_values of TAGSTITCH_IDENTITY"),
    ],
)
def test_what_cannot_be_done_is_said(
    kiosk: Cli, arguments: tuple[str, ...], exit_code: int, message: str
) -> None:
    ran = kiosk("identity", "review", *arguments)

    assert ran.exit_code == exit_code
    assert message in ran.err


def test_every_block_is_found_by_the_documented_query(kiosk: Cli) -> None:
    stitch(
        {"user_id": "u-9", "client_id": "undefined"},
        {"client_id": "null", "device_id": "(not set)"},
        {"user_id": "u-1", "client_id": CLIENT_ID},
        {"client_id": CLIENT_ID},
        {"user_id": "u-7"},
    )
    [query] = re.findall(r"```sql\n(.*?)```", IDENTITY_DOCUMENT.read_text("utf-8"), re.DOTALL)

    rows = kiosk("audit", "query", query, "--json").document

    columns = ("record_type", "outcome", "reason", "type", "blocked_types", "held")
    found = [tuple(row[name] for name in columns) for row in rows]
    client = ["client_id"]
    assert found == [
        ("identity_blocked", "held", "QUARANTINED", "client_id", None, None),
        ("identity_link", "created", "PROFILE_CREATED", None, client, None),
        ("identity_blocked", "blocked", "BLOCKED_IDENTIFIER", None, ["client_id", "device_id"], None),
        ("identity_link", "unchanged", "KNOWN_PROFILE", None, None, client),
        ("identity_blocked", "blocked", "BLOCKED_IDENTIFIER", None, None, client),
    ]  # fmt: skip


@pytest.mark.parametrize("command", [("export",), ("erase", "--yes"), ("erase", "--dry-run")])
def test_by_what_is_held_nobody_is_exported_or_erased(kiosk: Cli, command: tuple[str, ...]) -> None:
    """The kiosk belongs to the profile of its first user, who is not whoever asks."""
    ran = kiosk("identity", *command, "client_id", CLIENT_ID)

    assert ran.exit_code == 1
    assert "whose it is cannot be told" in ran.err
    assert kiosk("identity", command[0], *command[1:], "user_id", "u-0").exit_code == 0
