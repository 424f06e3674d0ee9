"""Dead letters are listed, opened on request, and sent again under their request id."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tagstitch.adapters.backend_factory import close_backend, open_backend
from tagstitch.adapters.settings import environment_with, read_settings
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.dead_letter import Message
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.record_dead_letter import record_dead_letter
from tests.cli.conftest import Cli

PAYLOAD = {"v": 1, "identifiers": [{"type": "client_id", "value": "100.200"}]}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def given_up(
    data_dir: Path, message_id: str, data: bytes, topic: str = "stitch-requests", day: int = 21
) -> None:
    """Store what audit_sink stores for a message that a subscription gave up."""

    async def store() -> None:
        settings = read_settings(
            environment_with(
                overrides={"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(data_dir)}
            )
        )
        keyring = Keyring(settings.identity_key, settings.pseudonym_keys, settings.receipt_key)
        attributes = {
            "CloudPubSubDeadLetterSourceSubscription": f"{topic}-push",
            "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        }
        message = Message(
            data, message_id, "dead-letter", datetime(2026, 11, day, tzinfo=UTC), attributes
        )
        backend = open_backend(settings)
        await record_dead_letter(backend, keyring, message, deadline=Deadline.after(5))
        await close_backend(settings)

    asyncio.run(store())


def unknown_outcome(data_dir: Path, outbox_id: str) -> None:
    """Store an entry whose e-mail may or may not have left."""

    async def store() -> None:
        settings = read_settings(
            {"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(data_dir)}
        )
        backend = open_backend(settings)
        now = datetime(2026, 11, 21, tzinfo=UTC)
        fields = {
            "kind": "action", "status": "dead_letter", "reason": "OUTCOME_UNKNOWN",
            "action": {"fields": b"{}"}, "created_at": now, "useful_until": now, "attempts": 1,
        }  # fmt: skip
        await backend.documents.commit(
            [Put(f"outbox/{outbox_id}", fields)], deadline=Deadline.after(5)
        )
        await close_backend(settings)

    asyncio.run(store())


def published(data_dir: Path) -> list[tuple[str, bytes]]:
    database = sqlite3.connect(data_dir / "tagstitch.sqlite")
    rows = database.execute("SELECT topic, data FROM messages ORDER BY id").fetchall()
    database.close()
    return rows


def test_letters_are_listed_and_shown_without_their_payload(cli: Cli, data_dir: Path) -> None:
    given_up(data_dir, "m1", json.dumps(PAYLOAD).encode())

    (letter,) = cli("deadletters", "list", "--json").document
    shown = cli("deadletters", "show", letter["dead_letter_id"], "--json")
    opened = cli("deadletters", "show", letter["dead_letter_id"], "--payload", "--json")

    assert letter["topic"] == "stitch-requests"
    assert letter["code"] == "delivery_attempts_exceeded"
    assert "100.200" not in shown.out
    assert "sealed" not in shown.document
    assert json.loads(opened.document["payload"]) == PAYLOAD


def test_a_replay_goes_to_its_topic_under_the_id_it_was_known_by(cli: Cli, data_dir: Path) -> None:
    given_up(data_dir, "m1", json.dumps(PAYLOAD).encode())
    (letter,) = cli("deadletters", "list", "--json").document

    ran = cli("deadletters", "replay", letter["dead_letter_id"], "--json")

    assert ran.exit_code == 0
    ((topic, data),) = published(data_dir)
    assert topic == "stitch-requests"
    first = {"request_id": "m1", "occurred_at": "2026-11-21T00:00:00Z"}
    assert json.loads(data) == PAYLOAD | first
    (after,) = cli("deadletters", "list", "--json").document
    assert after["replayed_at"] is not None


def test_a_request_id_of_its_own_stays(cli: Cli, data_dir: Path) -> None:
    given_up(data_dir, "m1", json.dumps(PAYLOAD | {"request_id": "r1"}).encode())
    (letter,) = cli("deadletters", "list", "--json").document

    cli("deadletters", "replay", letter["dead_letter_id"])

    assert json.loads(published(data_dir)[0][1])["request_id"] == "r1"


def test_other_topics_get_the_bytes_as_they_were(cli: Cli, data_dir: Path) -> None:
    given_up(data_dir, "m1", b'{"v":1,"records":[]}', topic="audit")
    (letter,) = cli("deadletters", "list", "--json").document

    cli("deadletters", "replay", letter["dead_letter_id"])

    assert published(data_dir) == [("audit", b'{"v":1,"records":[]}')]


def test_an_action_without_its_callback_is_not_said_to_be_replayed(
    cli: Cli, data_dir: Path
) -> None:
    given_up(data_dir, "m1", b'{"v":1,"outbox_id":"o1"}', topic="actions")
    (letter,) = cli("deadletters", "list", "--json").document

    ran = cli("deadletters", "replay", letter["dead_letter_id"], "--json")

    assert ran.exit_code == 1
    assert ran.document["failed"] == {letter["dead_letter_id"]: "it is no longer in the outbox"}
    assert published(data_dir) == []


def test_letters_that_cannot_be_replayed_are_named_and_the_others_go(
    cli: Cli, data_dir: Path
) -> None:
    given_up(data_dir, "m1", b"{}", topic="unknown-topic")
    given_up(data_dir, "m2", b"not JSON")
    ids = {
        letter["topic"]: letter["dead_letter_id"]
        for letter in cli("deadletters", "list", "--json").document
    }

    ran = cli("deadletters", "replay", *ids.values(), "nothing", "a/b", "--json")

    assert ran.exit_code == 1
    assert ran.document["failed"].keys() == {ids["unknown-topic"], "nothing", "a/b"}
    assert published(data_dir) == [("stitch-requests", b"not JSON")]


def test_an_unknown_letter_cannot_be_shown(cli: Cli) -> None:
    assert cli("deadletters", "show", "nothing").exit_code == 1
    assert "no dead letters" in cli("deadletters", "list").out


@pytest.mark.parametrize("command", ["list", "show"])
def test_nothing_of_a_message_is_obeyed_by_the_terminal(
    cli: Cli, data_dir: Path, command: str
) -> None:
    commands = "\x1b[2J\x9b2J\x07\u202e"
    given_up(data_dir, "m1", b"{}", topic=f"[bold]topic[/x]{commands}")
    listed = cli("deadletters", "list", "--json")
    (letter,) = listed.document
    arguments = [letter["dead_letter_id"]] if command == "show" else []

    shown = cli("deadletters", command, *arguments)
    as_json = cli("deadletters", command, *arguments, "--json")

    assert not set(commands) & set(shown.out) - set("[2J")
    assert not set("\x1b\x9b\x07") & set(as_json.out)
    assert "[bold]" in shown.out or command == "list"  # a narrow table may cut it
    assert letter["topic"].endswith(commands)


def test_an_action_that_may_have_been_done_is_replayed_only_when_that_is_meant(
    cli: Cli, data_dir: Path
) -> None:
    given_up(data_dir, "m1", b'{"v": 1, "outbox_id": "mail-1"}', topic="actions")
    (letter,) = cli("deadletters", "list", "--json").document
    unknown_outcome(data_dir, "mail-1")

    plain = cli("deadletters", "replay", letter["dead_letter_id"], "--json")
    meant = cli("deadletters", "replay", letter["dead_letter_id"], "--even-if-done", "--json")

    assert plain.exit_code == 1
    assert "ask the provider" in plain.document["failed"][letter["dead_letter_id"]]
    assert (meant.exit_code, meant.document["failed"]) == (0, {})
    assert [topic for topic, _ in published(data_dir)] == ["actions"]


class TestFilters:
    @pytest.fixture(autouse=True)
    def letters(self, data_dir: Path) -> None:
        invalid = {**PAYLOAD, "request_id": "r1"}
        given_up(data_dir, "m1", json.dumps(invalid).encode(), day=19)
        given_up(data_dir, "m2", json.dumps(PAYLOAD).encode(), day=20)
        given_up(data_dir, "m3", b'{"v":1,"records":[]}', topic="audit", day=21)

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ([], ["audit", "stitch-requests", "stitch-requests"]),
            (["--topic", "audit"], ["audit"]),
            (["--reason", "delivery_attempts_exceeded"], ["audit"] + ["stitch-requests"] * 2),
            (["--reason", "missing_field"], []),
            (["--since", "2026-11-20"], ["audit", "stitch-requests"]),
            (["--until", "2026-11-20T00:00:00Z"], ["stitch-requests"]),
            (["--since", "2026-11-20T00:00", "--until", "2026-11-21"], ["stitch-requests"]),
            (["--topic", "audit", "--until", "2026-11-21"], []),
        ],
    )
    def test_letters_are_chosen_by_reason_topic_and_time(
        self, cli: Cli, options: list[str], expected: list[str]
    ) -> None:
        listed = cli("deadletters", "list", *options, "--json").document

        assert [letter["topic"] for letter in listed] == expected

    def test_a_replay_takes_what_the_filters_choose_the_oldest_first(
        self, cli: Cli, data_dir: Path
    ) -> None:
        ran = cli("deadletters", "replay", "--topic", "stitch-requests", "--json")

        assert (ran.exit_code, len(ran.document["replayed"])) == (0, 2)
        ids = [json.loads(data)["request_id"] for _, data in published(data_dir)]
        assert ids == ["r1", "m2"]

    def test_what_was_replayed_is_left_out_unless_it_is_to_go_again(
        self, cli: Cli, data_dir: Path
    ) -> None:
        first = cli("deadletters", "replay", "--since", "2026-11-01", "--json").document
        second = cli("deadletters", "replay", "--since", "2026-11-01", "--json").document
        third = cli("deadletters", "replay", "--since", "2026-11-01", "--again", "--json").document

        assert [len(ran["replayed"]) for ran in (first, second, third)] == [3, 0, 3]
        assert len(published(data_dir)) == 6

    def test_a_dry_run_publishes_and_notes_nothing(self, cli: Cli, data_dir: Path) -> None:
        given_up(data_dir, "m4", b"{}", topic="unknown-topic")

        ran = cli("deadletters", "replay", "--since", "2026-11-01", "--dry-run", "--json")

        assert ran.exit_code == 1
        assert ran.document["dry_run"] is True
        assert len(ran.document["replayed"]) == 3
        assert list(ran.document["failed"].values()) == ["its topic takes no messages"]
        assert published(data_dir) == []
        listed = cli("deadletters", "list", "--json").document
        assert {letter["replayed_at"] for letter in listed} == {None}

    def test_a_dry_run_reopens_no_action(self, cli: Cli, data_dir: Path) -> None:
        given_up(data_dir, "m5", b'{"v": 1, "outbox_id": "mail-1"}', topic="actions")
        unknown_outcome(data_dir, "mail-1")

        ran = cli("deadletters", "replay", "--topic", "actions", "--even-if-done", "--dry-run")
        meant = cli("deadletters", "replay", "--topic", "actions", "--json")

        assert ran.exit_code == 0
        assert "1 messages would be published again" in ran.out
        assert "ask the provider" in str(meant.document["failed"])  # it is as it was

    @pytest.mark.parametrize("arguments", [[], ["some-id", "--topic", "audit"]])
    def test_ids_and_filters_are_two_ways_and_one_is_needed(
        self, cli: Cli, arguments: list[str]
    ) -> None:
        assert cli("deadletters", "replay", *arguments).exit_code == 2

    def test_a_time_that_is_none_is_wrong_usage(self, cli: Cli) -> None:
        assert cli("deadletters", "list", "--since", "yesterday").exit_code == 2


def test_a_letter_that_no_key_opens_any_more_is_named_and_the_others_go(
    cli: Cli, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up(data_dir, "m1", json.dumps(PAYLOAD).encode())
    monkeypatch.setenv("TAGSTITCH_RECEIPT_KEY", "A" * 43 + "=")
    given_up(data_dir, "m2", json.dumps(PAYLOAD).encode())

    ran = cli("deadletters", "replay", "--topic", "stitch-requests", "--json")

    assert ran.exit_code == 1
    assert len(ran.document["replayed"]) == 1
    assert "receipt key" in str(ran.document["failed"])
