"""Commands on the local backend: exit codes, one JSON document, and what they change."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tagstitch.adapters.settings import read_settings
from tagstitch.cli import app
from tagstitch.cli.import_options import needs_ramp
from tagstitch.cli.opened_backend import opened_backend
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.write_ramp import WriteRamp
from tests.cli.conftest import Cli

EXAMPLES = Path(__file__).parents[2] / "examples"
RULES = EXAMPLES / "rules"
BROKEN = {
    "target_event_name": "purchase",
    "conditions": {"value": {"lessThen": 1}},
    "action_type": "drop_event",
}
ORDERS = {"event": "purchase", "operation": "count"}


def commands() -> list[list[str]]:
    found = [[command.callback.__name__] for command in app.registered_commands]  # type: ignore[union-attr]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        assert group.name is not None
        for command in group.typer_instance.registered_commands:
            assert command.callback is not None
            found.append([group.name, command.name or command.callback.__name__])
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_has_help(cli: Cli, command: list[str]) -> None:
    ran = cli(*command, "--help")

    assert ran.exit_code == 0
    assert "Usage" in ran.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["rules", "validate"],
        ["rules", "push", "/nowhere"],
        ["rules", "status", "--x"],
    ],
)
def test_wrong_usage_ends_with_2(cli: Cli, arguments: list[str]) -> None:
    ran = cli(*arguments)

    assert ran.exit_code == 2
    assert ran.out == ""


def test_settings_that_cannot_be_used_end_with_2(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGSTITCH_AUTH", "perhaps")

    ran = cli("rules", "status")

    assert ran.exit_code == 2
    assert "TAGSTITCH_AUTH" in ran.err


def test_an_empty_store_holds_nothing_to_publish(cli: Cli) -> None:
    assert cli("rules", "status").out.split("\n")[0] == "nothing is published yet"
    assert "tagstitch rules publish" not in cli("rules", "status").out


def test_rules_go_to_the_store_and_back(cli: Cli, tmp_path: Path) -> None:
    pushed = cli("rules", "push", RULES, "--json")
    status = cli("rules", "status", "--json")
    pulled = cli("rules", "pull", tmp_path / "pulled", "--json")
    again = cli("rules", "push", tmp_path / "pulled", "--replace", "--json")

    assert pushed.document["is_new"] is True
    assert pushed.document["counts"]["event_rules"] == 5
    assert status.document["published"]["version"] == pushed.document["version"]
    assert status.document["is_current"] is True
    assert pulled.document["counts"] == {
        "event_rules": 5,
        "personalization_rules": 3,
        "experiments": 1,
        "audiences": 0,
        "traits": 7,
    }
    assert pushed.document["traits"] == {"computed": 7, "broken": 0}
    assert again.document["is_new"] is False
    assert {r.exit_code for r in (pushed, status, pulled, again)} == {0}


def test_push_adds_and_replace_makes_equal(cli: Cli, tmp_path: Path) -> None:
    one = tmp_path / "one.json"
    one.write_text(json.dumps(BROKEN | {"conditions": {"value": {"lessThan": 1}}}))
    cli("rules", "push", RULES)

    added = cli("rules", "push", one, "--json")
    replaced = cli("rules", "push", one, "--replace", "--json")

    assert added.document["counts"]["event_rules"] == 6
    assert replaced.document["counts"] == {
        "event_rules": 1, "personalization_rules": 0, "broken": 0,
        "experiments": 0,
        "audiences": 0,
    }  # fmt: skip


def test_traits_go_to_the_store_with_the_rules(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "traits.json"
    file.write_text(json.dumps({"traits": {"orders": ORDERS}}))
    cli("rules", "push", RULES)

    pushed = cli("rules", "push", file, "--json")
    status = cli("rules", "status", "--json")
    replaced = cli("rules", "push", file, "--replace", "--json")

    assert pushed.document["traits"] == {"computed": 8, "broken": 0}
    assert pushed.document["counts"]["event_rules"] == 5
    assert status.document["stored"]["counts"]["traits"] == 8
    assert status.document["is_current"] is True
    assert replaced.document["traits"] == {"computed": 1, "broken": 0}
    assert "1 traits in the store" in cli("rules", "status").out


def test_a_broken_trait_is_refused_whatever_else_is_right(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "traits.json"
    traits = {"orders": ORDERS, "revenue": {**ORDERS, "operation": "sum"}}
    file.write_text(json.dumps({"traits": traits}))

    checked = cli("rules", "validate", file, "--json")
    pushed = cli("rules", "push", file, "--json")

    assert (checked.exit_code, pushed.exit_code) == (1, 1)
    (problem,) = checked.document["problems"]
    assert (problem["rule_id"], problem["kind"], problem["path"]) == ("revenue", "trait", "field")
    assert cli("rules", "status", "--json").document["published"] is None


def test_a_trait_that_leaves_another_one_no_room_is_refused(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "traits.json"
    large = {"event": "*", "operation": "unique_list", "field": "page_location", "limit": 100}
    file.write_text(json.dumps({"traits": {f"t{n}": large for n in range(7)}}))
    cli("rules", "push", file)
    file.write_text(json.dumps({"traits": {"a": large}}))

    pushed = cli("rules", "push", file, "--json")

    assert pushed.exit_code == 1
    assert {problem["rule_id"] for problem in pushed.document["problems"]} == {"t6"}


def test_what_is_broken_in_the_store_hinders_no_push_and_is_shown(cli: Cli, tmp_path: Path) -> None:
    asyncio.run(put_document("traits/revenue", {"event": "purchase", "operation": "sum"}))
    file = tmp_path / "traits.json"
    file.write_text(json.dumps({"traits": {"orders": ORDERS}}))

    pushed = cli("rules", "push", file, "--json")
    published = cli("rules", "publish", "--json")
    status = cli("rules", "status", "--json")

    assert (pushed.exit_code, published.exit_code, status.exit_code) == (0, 1, 0)
    for answer in (pushed, published, status):
        (broken,) = answer.document["broken"]
        assert (broken["rule_id"], broken["kind"]) == ("revenue", "trait")


def test_an_invalid_set_is_refused_whole(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "event_rules"
    folder.mkdir()
    (folder / "good.json").write_text(json.dumps(BROKEN | {"conditions": {"a": 1}}))
    (folder / "bad.json").write_text(json.dumps(BROKEN))

    checked = cli("rules", "validate", folder, "--json")
    pushed = cli("rules", "push", folder, "--json")

    assert (checked.exit_code, pushed.exit_code) == (1, 1)
    (problem,) = checked.document["problems"]
    assert problem["rule_id"] == "bad"
    assert "lessThan" in problem["hint"]
    assert cli("rules", "status", "--json").document["published"] is None


def test_emptying_the_store_needs_to_be_said(cli: Cli, tmp_path: Path) -> None:
    empty = tmp_path / "empty.json"
    empty.write_text('{"event_rules": {}}')
    cli("rules", "push", RULES)

    assert cli("rules", "push", empty, "--replace").exit_code == 1
    assert cli("rules", "push", empty, "--allow-empty").exit_code == 1
    emptied = cli("rules", "push", empty, "--replace", "--allow-empty", "--json")

    assert sum(emptied.document["counts"].values()) == 0


def test_publish_says_what_is_broken(cli: Cli) -> None:
    cli("rules", "push", RULES)

    ran = cli("rules", "publish", "--json")

    assert ran.exit_code == 0
    assert ran.document["is_new"] is False
    assert ran.document["broken"] == []


def test_a_rule_of_both_kinds_in_readable_form(cli: Cli) -> None:
    ran = cli("rules", "validate", RULES)

    assert ran.exit_code == 0
    assert "5 event rules, 3 personalization rules" in ran.out


def test_profiles_are_imported_exported_shown_and_put(cli: Cli, tmp_path: Path) -> None:
    first = cli("profiles", "import", EXAMPLES / "profiles.jsonl", "--json")
    second = cli("profiles", "import", EXAMPLES / "profiles.jsonl", "--json")
    exported = cli("profiles", "export", "--json").document
    shown = cli("profiles", "get", "loyalty-card-88", "--json").document
    patch = tmp_path / "one.json"
    patch.write_text('{"attributes": {"store": "Graz"}}')
    put = cli("profiles", "put", "loyalty-card-88", patch, "--json")

    assert (first.document["created"], first.document["rejected"]) == (7, 0)
    assert (second.document["created"], second.document["unchanged"]) == (0, 7)
    assert len(exported) == 7
    assert shown["attributes"] == {"user_loyalty_tier": "Bronze", "store": "Vienna"}
    assert put.document["updated"] == 1
    stored = cli("profiles", "get", "loyalty-card-88", "--json").document
    assert stored["attributes"] == {"store": "Graz"}
    assert not list(EXAMPLES.glob("*.import*")) + list(EXAMPLES.glob("*.rejects*"))


def test_an_export_is_lines_that_import_reads(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("profiles", "import", EXAMPLES / "profiles.jsonl")
    cli("profiles", "export", "--output", tmp_path / "out.jsonl")
    monkeypatch.setenv("TAGSTITCH_DATA_DIR", str(tmp_path / "other"))

    imported = cli("profiles", "import", tmp_path / "out.jsonl", "--json")

    assert imported.document["created"] == 7


def test_a_dry_run_writes_nothing(cli: Cli) -> None:
    ran = cli("profiles", "import", EXAMPLES / "profiles.jsonl", "--dry-run", "--json")

    assert ran.document["created"] == 7
    assert cli("profiles", "export", "--json").document == []


def test_rejected_lines_are_in_a_file_with_their_reasons(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "people.jsonl"
    good = {"profile_id": "a", "attributes": {"x": 1}}
    lines = [good, {"attributes": {}}, "nonsense", good | {"profile_id": "b"}]
    file.write_text("\n".join(json.dumps(line) for line in lines))

    ran = cli("profiles", "import", file, "--json")

    assert ran.exit_code == 1
    assert (ran.document["created"], ran.document["rejected"]) == (2, 2)
    rejects = [json.loads(line) for line in Path(ran.document["rejects_file"]).read_text().splitlines()]  # fmt: skip
    assert [(r["line"], r["code"]) for r in rejects] == [(2, "missing_field"), (3, "invalid_field")]
    assert rejects[0]["content"] == {"attributes": {}}


def test_an_interrupted_import_goes_on_where_it_stopped(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tagstitch.cli import profiles
    from tagstitch.core.errors import Unavailable
    from tagstitch.pipeline.profile_import import import_profiles

    file = tmp_path / "people.jsonl"
    lines: list[dict[str, Any]] = [{"profile_id": f"p{n}", "attributes": {}} for n in range(100)]
    lines[3] = {"attributes": {}}
    file.write_text("\n".join(json.dumps(line) for line in lines))
    calls: list[Any] = []

    async def stops(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments[1])
        if len(calls) == 3:
            raise Unavailable("firestore")
        return await import_profiles(*arguments, **options)

    monkeypatch.setattr(profiles, "import_profiles", stops)
    assert cli("profiles", "import", file).exit_code == 1
    calls.clear()
    monkeypatch.setattr(profiles, "import_profiles", import_profiles)

    ran = cli("profiles", "import", file, "--json")

    assert ran.document["created"] == 100 - 61
    assert len(cli("profiles", "export", "--json").document) == 99
    rejects = Path(str(file) + ".rejects.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in rejects] == [4]
    assert not Path(str(file) + ".import").exists()


def test_a_profile_that_is_not_there_is_a_failure(cli: Cli) -> None:
    ran = cli("profiles", "get", "nobody", "--json")

    assert ran.exit_code == 1
    assert ran.document == {"error": {"message": "no profile has this id"}}
    assert "no profile" in ran.err


def test_a_put_on_a_version_that_is_gone_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    file.write_text('{"attributes": {"tier": "Gold"}}')
    made = cli("profiles", "put", "card-7", file, "--if-version", "", "--json")
    seen = cli("profiles", "get", "card-7", "--json").document["version"]
    file.write_text('{"attributes": {"tier": "Silver"}}')
    changed = cli("profiles", "put", "card-7", file, "--if-version", seen, "--json")
    file.write_text('{"attributes": {"tier": "None"}}')

    late = cli("profiles", "put", "card-7", file, "--if-version", seen, "--json")

    assert (made.document["created"], changed.document["updated"]) == (1, 1)
    assert late.exit_code == 1
    assert late.document["error"]["code"] == "version_conflict"
    assert "somebody wrote it meanwhile" in late.err
    shown = cli("profiles", "get", "card-7", "--json").document
    assert shown["attributes"] == {"tier": "Silver"}
    assert shown["version"] != seen


async def put_document(path: str, fields: dict[str, Any]) -> None:
    async with opened_backend() as opened:
        await opened.backend.documents.commit([Put(path, fields)], deadline=Deadline.after(5))


def test_what_somebody_wrote_by_hand_is_no_version_of_ours(cli: Cli) -> None:
    asyncio.run(put_document("profiles/R1", {"version": "2.0", "tier": "Gold"}))

    shown = cli("profiles", "get", "R1", "--json").document

    assert shown["attributes"] == {"version": "2.0", "tier": "Gold"}
    assert shown["version"] != "2.0"


def test_only_firestore_itself_wants_a_ramp() -> None:
    secret = "x" * 32
    cloud = {
        "TAGSTITCH_PROJECT": "p",
        "TAGSTITCH_AUTH": "iam",
        "TAGSTITCH_CONSENT_DEFAULT": "denied",
        "TAGSTITCH_IDENTITY_KEY": secret,
        "TAGSTITCH_PSEUDONYM_KEYS": f"k1:{secret}",
        "TAGSTITCH_RECEIPT_KEY": secret,
    }

    assert needs_ramp(read_settings(cloud))
    assert not needs_ramp(read_settings(cloud | {"FIRESTORE_EMULATOR_HOST": "127.0.0.1:1"}))
    assert not needs_ramp(read_settings(cloud | {"TAGSTITCH_BACKEND": "local"}))


def test_an_import_on_the_ramp_keeps_to_it(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "people.jsonl"
    file.write_text("".join(f'{{"profile_id": "p{n}"}}\n' for n in range(90)))
    waits: list[float] = []
    counted = WriteRamp.wait_s

    def wait_s(ramp: WriteRamp, writes: int, *, now_s: float) -> float:
        waits.append(counted(ramp, writes, now_s=now_s))
        return 0.0

    monkeypatch.setattr(WriteRamp, "wait_s", wait_s)
    cli("profiles", "import", file)
    assert waits == []  # the local store needs none
    monkeypatch.setattr("tagstitch.cli.profiles.needs_ramp", lambda _: True)
    cli("profiles", "import", file, "--no-ramp")
    assert waits == []
    file.write_text(file.read_text().replace("p", "q").replace("qrofile", "profile"))

    ran = cli("profiles", "import", file, "--json")

    assert ran.document["created"] == 90
    assert len(waits) == 3
    assert 0 < waits[1] <= 30 / 500


def test_a_query_answers_rows(cli: Cli) -> None:
    ran = cli("audit", "query", "SELECT 1 AS one, 'a' AS letter", "--json")

    assert ran.document == [{"one": 1, "letter": "a"}]
    assert cli("audit", "query", "--json").document == []


def test_a_query_with_a_mistake_fails(cli: Cli) -> None:
    ran = cli("audit", "query", "SELECT nothing FROM nowhere", "--json")

    assert ran.exit_code == 1
    assert "error" in ran.document


def test_fallback_lines_of_a_log_are_published(cli: Cli, tmp_path: Path) -> None:
    record = {"record_id": "r1", "record_type": "event_decision", "outcome": "unchanged"}
    line = {"message": "AUDIT_FALLBACK", "record": record}
    plain = tmp_path / "plain.log"
    plain.write_text("\n".join([json.dumps(line), "not JSON", json.dumps({"message": "other"})]))
    exported = tmp_path / "exported.json"
    exported.write_text(json.dumps([{"jsonPayload": line}, {"textPayload": "x"}]))

    assert cli("audit", "load", plain, "--json").document == {"records": 1, "other_lines": 2}
    assert cli("audit", "load", exported, "--json").document == {"records": 1, "other_lines": 1}
    assert cli("audit", "load", EXAMPLES / "events.jsonl").exit_code == 1
