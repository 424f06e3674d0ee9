"""Erasing and exporting a person on Firestore and BigQuery, in their emulators."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from tagstitch.adapters.backend_factory import close_backend, open_backend
from tagstitch.adapters.wiring import make_keyring
from tagstitch.cli.opened_backend import command_settings
from tagstitch.core.audit import AuditRecord
from tagstitch.core.identifier import Identifier
from tagstitch.local_stack.bigquery_setup import create_audit_dataset
from tagstitch.local_stack.emulators import Emulators
from tagstitch.local_stack.pubsub_topology import create_topology, one_server
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tests.cli.conftest import Cli

pytestmark = pytest.mark.emulators


PROJECT: Final = "tagstitch-persons"


@pytest.fixture
def on_google(cli: Cli, emulators: Emulators, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line on a project of this file's own."""
    topics = {"topics": {"audit": {"retention_s": 3600}}, "subscriptions": {}}
    create_topology(
        topics, emulator=emulators.pubsub, project=PROJECT, push_url=one_server("http://x")
    )
    create_audit_dataset("persons", emulator=emulators.bigquery, project=PROJECT)
    monkeypatch.setenv("TAGSTITCH_BACKEND", "cloud")
    monkeypatch.setenv("TAGSTITCH_PROJECT", PROJECT)
    monkeypatch.setenv("TAGSTITCH_DATASET", "persons")
    for name, value in emulators.environment().items():
        monkeypatch.setenv(name, value)
    return cli


async def leave_traces(user_id: str) -> None:
    """Store what decisions and deliveries leave of a person, and a row of the audit."""
    settings = command_settings()
    keyring = make_keyring(settings)
    subject = keyring.pseudonym(keyring.profile_id(Identifier("user_id", user_id)))
    backend = open_backend(settings)
    row: dict[str, Any] = AuditRecord(
        record_id=f"erase-{user_id}",
        record_type="event_decision",
        occurred_at=datetime.now(UTC),
        outcome="modified",
        request_id=f"request of {user_id}",
        subject=subject,
        modifications=[{"rule_id": "r", "type": "modify_parameter", "old_value": 7.5}],
        receipt=b"sealed",
    ).to_row()
    traces = [
        Put(f"{collection}/{user_id}-{n}", {"subject": subject})
        for collection in ("processed", "outbox", "exposures")
        for n in range(130)  # more than one page
    ]
    try:
        await backend.documents.commit(traces, deadline=Deadline.after(20))
        await backend.audit_table.append(
            [row | {"recorded_at": row["occurred_at"]}], deadline=Deadline.after(20)
        )
    finally:
        await close_backend(settings)


def test_a_person_is_exported_and_erased(on_google: Cli, tmp_path: Path) -> None:
    file = tmp_path / "profiles.jsonl"
    people = [
        {"identifiers": {"user_id": [name], "client_id": [f"{name}.1747154479"]}, "attributes": {}}
        for name in ("erase-ada", "erase-bob")
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in people))
    assert on_google("profiles", "import", file, "--no-ramp").exit_code == 0
    for name in ("erase-ada", "erase-bob"):
        asyncio.run(leave_traces(name))
    ada, bob = ("user_id", "erase-ada"), ("user_id", "erase-bob")

    exported = on_google("identity", "export", *ada, "--json").document["sections"]
    done = on_google("identity", "erase", *ada, "--yes", "--json").document
    proof = on_google("identity", "erasure-proof", "client_id", "erase-ada.1747154479", "--json")

    assert len(exported["deliveries"]["data"]) == 130
    assert exported["audit"]["data"][0]["receipt"] == "sealed"
    assert done["counts"]["exposures"] == 130
    assert done["counts"]["audit_rows"] == 1
    assert proof.exit_code == 0, proof.out
    rows = on_google(
        "audit", "query",
        "SELECT subject IS NULL AS gone, request_id, receipt IS NULL AS r, modifications"
        " FROM audit WHERE record_id IN ('erase-erase-ada', 'erase-erase-bob') ORDER BY record_id",
        "--json",
    ).document  # fmt: skip
    assert rows == [
        {
            "gone": True,
            "request_id": None,
            "r": True,
            "modifications": [{"rule_id": "r", "type": "modify_parameter"}],
        },
        {
            "gone": False,
            "request_id": "request of erase-bob",
            "r": False,
            "modifications": [{"rule_id": "r", "type": "modify_parameter", "old_value": 7.5}],
        },
    ]
    again = on_google("profiles", "import", file, "--no-ramp", "--json").document
    assert (again["rejected"], again["unchanged"]) == (1, 1)
    assert on_google("identity", "show", *bob).exit_code == 0
