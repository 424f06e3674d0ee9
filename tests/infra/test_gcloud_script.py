"""The script for teams without Terraform does the same, in words that gcloud knows."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.gcloud_script import COMMON_SECRETS, SECRETS, definitions, script
from infra.secrets_file import write as write_secrets
from infra.tests.expected import (
    ERASING,
    PERMISSIONS,
    PROJECT_ROLES,
    RESOURCE_ROLES,
    SECRET_SETTINGS,
)
from infra.tests.plan import Plan, last_part
from tests.infra.conftest import Planned

ROOT = Path(__file__).resolve().parents[2]

RECORDING = """#!/bin/bash
{{ printf '%s\\0' "${{0##*/}}" "$@"; printf '\\036'; }} >> '{log}'
case " $* " in
  *" --data-file=- "*) {{ cat; printf '\\0'; }} >> '{log}.secrets' ;;
  *" --format="*) if [ "$1" = functions ]; then echo "https://$3"; else echo 123456789012; fi ;;
  *" describe "* | *" show "*) exit {there} ;;
esac
"""
"""Writes down its words, each ended by NUL, and answers as if everything or nothing were there."""

Command = list[str]

ORIGINS = ("https://shop.example.com", "https://www.example.com")

WITH_TERRAFORM_ONLY = {
    "LOG_EXECUTION_ID", "TAGSTITCH_RULES_REFRESH_S", "TAGSTITCH_AUDIT_PARAMETERS",
    "TAGSTITCH_TIME_ZONE", "TAGSTITCH_IDENTITY", "TAGSTITCH_RATE_LIMIT",
}  # fmt: skip


def run_script(folder: Path, *, there: bool, push_origins: str = "") -> list[Command]:
    """Run the script with programs that only write down how they were called."""
    (folder / "deploy.sh").write_text(script(*definitions()))
    log = folder / "log"
    for name in ("gcloud", "bq"):
        program = folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(RECORDING.format(log=log, there=0 if there else 1))
        program.chmod(0o755)
    for part in ("infra/schemas", "schemas"):
        shutil.copytree(ROOT / part, folder / part)
    (folder / "build").mkdir()
    (folder / "build" / "push_service.zip").write_bytes(b"what the service is made of")
    write_secrets(folder / "infra" / "secrets.auto.tfvars.json", None)
    run = subprocess.run(
        ["bash", str(folder / "deploy.sh")],
        cwd=folder,
        env={
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "PROJECT": "my-project", "REGION": "europe-west1", "CONSENT_DEFAULT": "denied",
            "PUSH_ORIGINS": push_origins,
        },
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    calls = log.read_text().removesuffix("\036").split("\036")
    return [call.removesuffix("\0").split("\0") for call in calls]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("script")


@pytest.fixture(scope="module")
def commands(folder: Path) -> list[Command]:
    """What the script calls where nothing is there yet."""
    return run_script(folder, there=False)


def of(commands: list[Command], *words: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the name and the flags of each command that begins with these words."""
    for command in commands:
        if command[: len(words)] == list(words):
            flags = dict(w.partition("=")[::2] for w in command[len(words) :] if w[:2] == "--")
            names = [w for w in command[len(words) :] if w[:2] != "--"]
            yield (names[0] if names else ""), flags


def test_every_topic_and_subscription_is_the_one_of_terraform(
    commands: list[Command], plan: dict[str, Any]
) -> None:
    planned = Plan.of(plan)
    topics = dict(of(commands, "gcloud", "pubsub", "topics", "create"))
    subscriptions = dict(of(commands, "gcloud", "pubsub", "subscriptions", "create"))

    assert topics == {
        topic.values["name"]: {
            "--message-retention-duration": topic.values["message_retention_duration"]
        }
        | (
            {"--schema": "tagstitch-actions", "--message-encoding": "json"}
            if topic.values["schema_settings"]
            else {}
        )
        for topic in planned.all("google_pubsub_topic")
    }
    assert subscriptions.keys() == {s.values["name"] for s in planned.subscriptions()}
    for subscription in planned.subscriptions():
        flags = subscriptions[subscription.values["name"]]
        retry = subscription.first("retry_policy")
        given_up = subscription.first("dead_letter_policy")
        token = subscription.first("push_config")["oidc_token"][0]
        assert flags["--ack-deadline"] == str(subscription.values["ack_deadline_seconds"])
        assert flags["--min-retry-delay"] == retry["minimum_backoff"]
        assert flags["--max-retry-delay"] == retry["maximum_backoff"]
        assert flags["--expiration-period"] == "never"
        assert flags["--push-auth-service-account"] == token["service_account_email"]
        assert flags["--push-auth-token-audience"] == token["audience"]
        if given_up:
            assert flags["--dead-letter-topic"] == last_part(given_up["dead_letter_topic"])
            assert flags["--max-delivery-attempts"] == str(given_up["max_delivery_attempts"])


def test_every_function_runs_as_it_does_with_terraform(
    commands: list[Command], plan: dict[str, Any]
) -> None:
    deployed = dict(of(commands, "gcloud", "functions", "deploy"))

    for name, function, config in Plan.of(plan).functions():
        flags = deployed[function.values["name"]]
        environment = variables_of(flags)
        mounted = {pair.partition("=")[0] for pair in flags["--set-secrets"].split(",")}
        kept = config["environment_variables"].keys() - WITH_TERRAFORM_ONLY
        assert environment == {key: config["environment_variables"][key] for key in kept}
        assert mounted == {value for value in environment.values() if value.startswith("/secrets/")}
        assert flags["--entry-point"] == name
        assert flags["--source"] == f"build/{name}"
        assert flags["--service-account"] == config["service_account_email"]
        assert flags["--memory"] == config["available_memory"]
        assert flags["--concurrency"] == str(config["max_instance_request_concurrency"])
        assert flags["--min-instances"] == str(config["min_instance_count"])
        assert flags["--max-instances"] == str(config["max_instance_count"])
        assert flags["--timeout"] == f"{config['timeout_seconds']}s"
        assert (flags["--ingress-settings"] == "all") == (config["ingress_settings"] == "ALLOW_ALL")


def granted_by(commands: list[Command]) -> set[tuple[str, str]]:
    return {
        (flags["--member"], last_part(flags["--role"]))
        for command in commands
        if "add-iam-policy-binding" in command
        for _, flags in of([command], *command[:1])
        if "--member" in flags
    }


def granted_in(plan: dict[str, Any]) -> set[tuple[str, str]]:
    planned: set[tuple[str, str]] = set()
    for grant in Plan.of(plan).resources:
        if re.search(r"_iam_(member|binding)$", grant.type):
            members = grant.values.get("members") or [grant.values["member"]]
            planned |= {(member, last_part(grant.values["role"])) for member in members}
    return {
        (re.sub(r"number-of-it", "123456789012", member), role)
        for member, role in planned
        if "@example.com" not in member and "crm@" not in member  # the test's own variables
    }


def variables_of(flags: dict[str, str]) -> dict[str, str]:
    separator, _, variables = flags["--set-env-vars"].removeprefix("^").partition("^")
    return dict(pair.partition("=")[::2] for pair in variables.split(separator))


def test_everybody_has_the_role_that_terraform_gives(
    commands: list[Command], plan: dict[str, Any]
) -> None:
    granted = granted_by(commands)

    assert granted == granted_in(plan)
    roles = {last_part(role) for role in PROJECT_ROLES | RESOURCE_ROLES}
    assert {role for _, role in granted if not role.startswith("tagstitch_")} <= roles


def test_our_own_roles_hold_what_they_do_with_terraform(
    commands: list[Command], plan: dict[str, Any]
) -> None:
    made = {
        name: set(flags["--permissions"].split(","))
        for name, flags in of(commands, "gcloud", "iam", "roles", "create")
    }

    assert made == {
        role.values["role_id"]: set(role.values["permissions"])
        for role in Plan.of(plan).all("google_project_iam_custom_role")
    }


@pytest.fixture(scope="module")
def with_browsers(tmp_path_factory: pytest.TempPathFactory) -> list[Command]:
    """What the script calls where pages may listen."""
    folder = tmp_path_factory.mktemp("browsers")
    return run_script(folder, there=False, push_origins=",".join(ORIGINS))


def test_browsers_listen_only_where_pages_are_named(
    commands: list[Command], with_browsers: list[Command]
) -> None:
    assert list(of(commands, "gcloud", "run", "deploy")) == []
    assert [name for name, _ in of(with_browsers, "gcloud", "run", "deploy")] == [
        "tagstitch-push-service"
    ]


def test_the_push_service_runs_as_it_does_with_terraform(
    with_browsers: list[Command], planned: Planned
) -> None:
    push_service = {"image": "registry/push:1", "origins": list(ORIGINS)}
    plan = planned(push_service=push_service)
    [(_, service, template, container)] = Plan.of(plan).services()
    [(name, flags)] = of(with_browsers, "gcloud", "run", "deploy")
    [(source, built)] = of(with_browsers, "gcloud", "builds", "submit")
    image = built["--pack"].removeprefix("image=")

    assert name == service.values["name"]
    assert (source, flags["--image"]) == ("build/push_service", image)
    assert re.fullmatch(
        r"europe-west1-docker.pkg.dev/my-project/tagstitch-functions/push-service:[0-9a-f]{12}",
        image,
    )
    assert variables_of(flags) == {
        entry["name"]: entry["value"]
        for entry in container["env"]
        if entry["name"] not in WITH_TERRAFORM_ONLY
    }
    assert flags["--service-account"] == template["service_account"]
    assert flags["--concurrency"] == str(template["max_instance_request_concurrency"])
    assert flags["--max-instances"] == str(template["scaling"][0]["max_instance_count"])
    assert flags["--timeout"] == template["timeout"]
    assert flags["--memory"] == container["resources"][0]["limits"]["memory"]
    assert granted_by(with_browsers) == granted_in(plan)
    for command in with_browsers:
        if command[0] == "gcloud":
            assert unknown_flags(command, known_commands()) == set(), command


def test_documents_expire_and_are_indexed_as_with_terraform(
    commands: list[Command], plan: dict[str, Any]
) -> None:
    fields = list(Plan.of(plan).all("google_firestore_field"))
    expiring = set(of_fields(commands, "ttls", "update", flag="--enable-ttl"))
    exempt = set(of_fields(commands, "update", flag="--disable-indexes"))
    indexed = set(of_fields(commands, "update", flag="--index"))

    def told(*, ttl: bool | None = None, index: bool | None = None) -> set[tuple[str, str]]:
        return {
            (field.values["collection"], field.values["field"])
            for field in fields
            if ttl in (None, bool(field.values["ttl_config"]))
            and index in (None, bool(field.first("index_config")["indexes"]))
        }

    assert expiring == told(ttl=True)
    assert indexed == told(index=True)
    assert exempt == told(index=False)


def of_fields(commands: list[Command], *words: str, flag: str) -> Iterator[tuple[str, str]]:
    group = ("gcloud", "firestore", "fields" if words[0] == "ttls" else "indexes")
    middle = () if words[0] == "ttls" else ("fields",)
    for field, flags in of(commands, *group, *middle, *words):
        if flag in flags:
            yield flags["--collection-group"], field


def test_the_audit_is_made_with_its_views_in_order(commands: list[Command]) -> None:
    made = [command for command in commands if command[0] == "bq" and "mk" in command]
    names = [last_part(command[-1].replace(".", "/").replace(":", "/")) for command in made]
    views = {name: flags for name, (_, flags) in zip(names, of(made, "bq"), strict=True)}

    assert names[:4] == ["tagstitch", "audit", "audit_deduplicated", "modifications"]
    for path in (ROOT / "schemas" / "views").glob("*.sql"):
        sql = path.read_text("utf-8").replace("${dataset}", "my-project.tagstitch")
        assert views[path.stem]["--view"] == sql.rstrip("\n")


def test_the_schedule_and_the_log_are_those_of_terraform(
    commands: list[Command], plan: dict[str, Any]
) -> None:
    [job] = Plan.of(plan).all("google_cloud_scheduler_job")
    [exclusion] = Plan.of(plan).all("google_logging_project_exclusion")
    [(_, made)] = of(commands, "gcloud", "scheduler", "jobs", "create", "http")
    [(_, sink)] = of(commands, "gcloud", "logging", "sinks", "update")
    token = job.first("http_target")["oidc_token"][0]

    assert made["--schedule"] == job.values["schedule"]
    assert made["--attempt-deadline"] == job.values["attempt_deadline"]
    assert made["--oidc-service-account-email"] == token["service_account_email"]
    assert made["--oidc-token-audience"] == token["audience"]
    assert made["--uri"].endswith("/sweep")
    assert sink["--add-exclusion"] == (
        f"name={exclusion.values['name']},filter={exclusion.values['filter']}"
    )


def test_what_is_switched_on_is_what_terraform_switches_on(
    commands: list[Command], plan: dict[str, Any]
) -> None:
    """But for what alerts, a budget and Terraform itself need."""
    [enabled] = [c[3:] for c in commands if c[:3] == ["gcloud", "services", "enable"]]
    planned = {api.values["service"] for api in Plan.of(plan).all("google_project_service")}

    assert planned - set(enabled) == {
        f"{name}.googleapis.com"
        for name in ("billingbudgets", "cloudresourcemanager", "monitoring", "serviceusage")
    }
    assert set(enabled) <= planned


def test_what_is_there_stays(tmp_path: Path) -> None:
    commands = run_script(tmp_path, there=True)

    made = [" ".join(command[:4]) for command in commands if {"create", "mk"} & set(command)]
    assert made == []
    assert len(list(of(commands, "gcloud", "functions", "deploy"))) == 4


def test_the_roles_and_secrets_are_the_least(commands: list[Command], folder: Path) -> None:
    roles = dict(of(commands, "gcloud", "iam", "roles", "create"))
    permissions = {p for flags in roles.values() for p in flags["--permissions"].split(",")}
    made = (folder / "log.secrets").read_text().removesuffix("\0").split("\0")
    kept = json.loads((folder / "infra" / "secrets.auto.tfvars.json").read_text())["secrets"]

    assert permissions == PERMISSIONS | ERASING
    assert sorted(made) == sorted(
        value for name, value in kept.items() if name != "signing-secrets"
    )
    for function, secrets in SECRETS.items():
        for setting in secrets.values():
            assert function in SECRET_SETTINGS[setting]
        assert secrets.items() >= COMMON_SECRETS.items()


def test_gcloud_knows_every_command_and_flag(commands: list[Command]) -> None:
    for command in commands:
        if command[0] == "gcloud":
            assert unknown_flags(command, known_commands()) == set(), command


def test_gcloud_knows_what_the_documents_tell_to_run() -> None:
    told = [
        shlex.split(line)
        for name in ("deploy", "runbook")
        for block in re.findall(
            r"```bash\n(.*?)```", (ROOT / "docs" / f"{name}.md").read_text("utf-8"), re.DOTALL
        )
        for line in block.splitlines()
        if line.strip().startswith("gcloud ")
    ]

    assert len(told) >= 8
    for command in told:
        assert unknown_flags(command[: [*command, ">"].index(">")], known_commands()) == set()


def unknown_flags(command: Command, tree: dict[str, Any]) -> set[str]:
    """Return the flags that gcloud's command does not have; fails when there is no such command."""
    node, rest = tree, command[1:]
    flags = set(tree["flags"])
    while rest and rest[0] in node["commands"]:
        node, rest = node["commands"][rest[0]], rest[1:]
        flags |= set(node["flags"])
    assert node["commands"] == {}, f"not a whole command: {command}"
    used = {word.partition("=")[0] for word in rest if word.startswith("--")}
    return {flag if flag in flags else flag.replace("--no-", "--", 1) for flag in used} - flags


@functools.cache
def known_commands() -> dict[str, Any]:
    """Return gcloud's own table of commands and flags, which its completion uses."""
    gcloud = shutil.which("gcloud")
    table = Path(gcloud or "").resolve().parents[1] / "data" / "cli" / "gcloud_completions.py"
    if gcloud is None or not table.is_file():
        pytest.skip("needs gcloud")
    spec = importlib.util.spec_from_file_location("gcloud_completions", table)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tree: dict[str, Any] = module.STATIC_COMPLETION_CLI_TREE
    return tree
