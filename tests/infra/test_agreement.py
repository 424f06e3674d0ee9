"""What is deployed is what the code needs: one topology, its settings, documents and log lines."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.secrets_file import new_secrets
from infra.secrets_file import write as write_secrets
from infra.tests.expected import (
    EXPIRING,
    HELD,
    KEPT,
    PLAIN_SETTINGS,
    PUSH_HANDLER_S,
    PUSH_TOKEN_S,
    QUERIED,
    SECRET_SETTINGS,
)
from infra.tests.plan import Plan, Resource
from tagstitch.adapters.http_function import PUSH_DEADLINE_S
from tagstitch.adapters.settings import Settings, SettingsError, read_settings
from tagstitch.adapters.topology import read_topology
from tagstitch.core import limits
from tagstitch.core.callback import BACKOFF_S
from tagstitch.core.rule_definitions import COLLECTIONS
from tagstitch.pipeline.holdings import OF_SUBJECT
from tests.infra.conftest import Planned

LISTING_OPTIONS = {"after", "limit", "deadline", None}
"""Options of a listing that need no index; None is `**options`, of what passes calls on."""

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
MODULES = sorted((ROOT / "tagstitch").rglob("*.py"))


def trees() -> Iterator[ast.AST]:
    for path in MODULES:
        yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def texts_of(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


def collections_of_the_code() -> set[str]:
    """Return the first part of every path that the code makes, and every collection it lists."""
    found = set(COLLECTIONS)
    for node in trees():
        if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            found |= set(re.findall(r"^([a-z]+(?:_[a-z]+)*)/$", str(node.values[0].value)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= set(re.findall(r"^([a-z]+(?:_[a-z]+)*)/(?:current)?$", node.value))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("list_all"):
            found |= {text for argument in node.args[1:2] for text in texts_of(argument)}
    in_a_simulation = {"given"}
    return found - in_a_simulation - {"projects", "sgtm", "shop", "tagstitch"}


def of(plan: Mapping[str, Any], type_: str) -> dict[Any, Resource]:
    return {resource.index: resource for resource in Plan.of(plan).all(type_)}


def test_every_collection_is_deployed_and_no_other_than_the_contract_knows() -> None:
    deployed = json.loads((INFRA / "firestore.json").read_text("utf-8"))

    assert deployed.keys() == EXPIRING | KEPT
    assert collections_of_the_code() == EXPIRING | KEPT


def test_two_fields_are_queried_and_only_in_these_collections() -> None:
    adapter = (ROOT / "tagstitch" / "adapters" / "firestore_documents.py").read_text("utf-8")
    calls = [node for node in trees() if isinstance(node, ast.Call)]
    asked = [(call, k.arg) for call in calls if is_listing(call) for k in call.keywords]
    sweep = ast.parse((ROOT / "tagstitch" / "pipeline" / "sweep.py").read_text("utf-8"))
    swept = {
        text
        for node in ast.walk(sweep)
        if isinstance(node, ast.comprehension)
        for text in texts_of(node.iter)
    }
    named = {text for call, field in asked if field == "pending" for text in texts_of(call.args[0])}

    assert set(re.findall(r'equal\.field\.field_path, \S+ = "(\w+)"', adapter)) == {
        "pending", "subject",
    }  # fmt: skip
    assert {field for _, field in asked} - LISTING_OPTIONS == {"pending", "subject"}
    assert {(collection, "pending") for collection in swept | named} | {
        (collection, "subject") for collection in OF_SUBJECT
    } == QUERIED


def is_listing(call: ast.Call) -> bool:
    """Return whether a call asks a store for documents, itself or through another's hands."""
    asked = ast.unparse(call.func).rpartition(".")[2]
    return asked == "list_documents" and not ast.unparse(call.func).startswith("self._adapter")


def test_the_policies_know_how_long_a_handler_works() -> None:
    chosen = (INFRA / "functions.tf").read_text("utf-8")

    assert PUSH_DEADLINE_S + 5 == PUSH_HANDLER_S
    assert f".timeout_s > {PUSH_HANDLER_S:g} &&" in chosen


def test_the_policies_know_how_long_a_browser_may_listen() -> None:
    assert limits.PUSH_TOKEN_S == PUSH_TOKEN_S


def test_entries_and_the_sweep_know_how_long_a_message_may_take_to_come_again() -> None:
    topology = json.loads((ROOT / "infra" / "topology.json").read_text("utf-8"))

    assert {
        (subscription["backoff_min_s"], subscription["backoff_max_s"])
        for subscription in topology["subscriptions"].values()
    } == {BACKOFF_S}


def test_the_message_of_an_action_is_what_the_topics_schema_says() -> None:
    schema = json.loads((INFRA / "schemas" / "actions.avsc").read_text("utf-8"))
    sent = [
        [ast.literal_eval(key) for key in node.keys if key is not None]
        for name in ("sweep.py", "outbox.py")
        for node in ast.walk(ast.parse((ROOT / "tagstitch/pipeline" / name).read_text("utf-8")))
        if isinstance(node, ast.Dict)
        and {"v", "outbox_id"} == set(texts_of(node)) & {"v", "outbox_id"}
    ]

    fields = [field["name"] for field in schema["fields"]]
    assert [keys for keys in sent if "request_id" not in keys] == [fields, fields]


def test_the_policies_know_which_function_needs_which_secret() -> None:
    rows = re.findall(
        r"^\| `(TAGSTITCH_\w+)` \|[^|]*\|[^|]*\| (yes)? ?\| ([^|]*) \|$",
        (ROOT / "docs" / "settings.md").read_text("utf-8"),
        re.MULTILINE,
    )
    functions = {"stitch_sync", "stitch_async", "decide", "audit_sink"}
    documented = {
        name: functions if who == "all" else functions & set(re.findall(r"\w+", who))
        for name, is_secret, who in rows
        if is_secret
    }

    assert documented == SECRET_SETTINGS
    assert {name for name, _, _ in rows} >= PLAIN_SETTINGS - {
        "LOG_EXECUTION_ID", "OTEL_EXPORTER_OTLP_ENDPOINT",
    }  # fmt: skip


def test_new_secrets_are_made_once_and_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"

    first = write_secrets(path, None)
    made = path.read_text("utf-8")
    second = write_secrets(path, "https://sgtm.example.com/stitched")

    assert path.stat().st_mode & 0o777 == 0o600
    assert (sorted(json.loads(made)["secrets"]), second) == (first, [])
    assert path.read_text("utf-8") == made


@pytest.mark.parametrize("auth", ["key", "signature", "iam"])
def test_each_function_starts_with_what_is_deployed(
    planned: Planned, auth: str, tmp_path: Path
) -> None:
    secrets = new_secrets("https://sgtm.example.com/stitched")
    plan = Plan.of(planned(auth=auth))
    for name, value in secrets.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "value").write_text(value)

    started: dict[str, Settings] = {}
    for name, function, config in plan.functions():
        environment = {
            key: value.replace("/secrets/", f"{tmp_path}/")
            for key, value in config["environment_variables"].items()
        }
        started[name] = read_settings({**environment, "K_SERVICE": function.values["name"]})

    assert {name: settings.auth for name, settings in started.items()} == {
        "stitch_sync": auth, "decide": auth, "stitch_async": "iam", "audit_sink": "iam",
    }  # fmt: skip
    assert {settings.consent_default for settings in started.values()} == {"denied"}
    assert [endpoint.id for endpoint in started["stitch_async"].callbacks] == ["main"]
    assert started["audit_sink"].push_accounts == {
        "tagstitch-push@my-project.iam.gserviceaccount.com"
    }
    assert len(started["stitch_async"].push_accounts) == 2


@pytest.mark.parametrize("forgotten", sorted(new_secrets(None)))
def test_no_function_starts_with_what_stands_for_a_forgotten_secret(
    forgotten: str, tmp_path: Path
) -> None:
    text = (INFRA / "secrets.tf").read_text("utf-8")
    [stand_in] = re.findall(r'lookup\(var\.secrets, each\.key, "(\w+)"\)', text)
    settings = dict(re.findall(r'^    ([a-z-]+) += "(TAGSTITCH_\w+)"$', text, re.MULTILINE))
    environment = {
        "TAGSTITCH_BACKEND": "cloud", "TAGSTITCH_PROJECT": "my-project",
        "TAGSTITCH_CONSENT_DEFAULT": "denied", "K_SERVICE": "any",
        "TAGSTITCH_AUTH": "signature" if forgotten == "signing-secrets" else "key",
    }  # fmt: skip
    for name, value in new_secrets("https://sgtm.example.com/stitched").items():
        (tmp_path / name).write_text(stand_in if name == forgotten else value)
        environment[settings[name]] = str(tmp_path / name)

    with pytest.raises(SettingsError, match=settings[forgotten]):
        read_settings(environment)


def test_the_push_service_starts_with_what_is_deployed(planned: Planned, tmp_path: Path) -> None:
    origins = ["https://shop.example.com", "https://www.example.com"]
    plan = Plan.of(planned(push_service={"image": "registry/push:1", "origins": origins}))
    for name, value in new_secrets(None).items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "value").write_text(value)

    [(name, service, template, container)] = plan.services()
    environment = {
        entry["name"]: entry["value"].replace("/secrets/", f"{tmp_path}/")
        for entry in container["env"]
    }
    settings = read_settings({**environment, "K_SERVICE": service.values["name"]})

    spec = read_topology().services[name]
    assert settings.push_origins == set(origins)
    assert container["image"] == "registry/push:1"
    assert template["timeout"] == f"{spec.timeout_s:g}s"
    assert template["max_instance_request_concurrency"] == spec.concurrency
    assert template["scaling"][0]["max_instance_count"] == spec.max_instances
    assert {mount["name"] for mount in container["volume_mounts"]} == {
        volume["name"] for volume in template["volumes"]
    }


def test_there_is_no_push_service_unless_it_is_asked_for(plan: dict[str, Any]) -> None:
    addresses = [resource.address for resource in Plan.of(plan).resources]

    assert len(addresses) > 100
    assert [address for address in addresses if "push_service" in address] == []


def test_the_plan_is_the_topology_of_the_local_stack(plan: dict[str, Any]) -> None:
    topology = read_topology()
    subscriptions = of(plan, "google_pubsub_subscription")
    jobs = of(plan, "google_cloud_scheduler_job")

    assert of(plan, "google_pubsub_topic").keys() == topology.topics.keys()
    assert of(plan, "google_cloudfunctions2_function").keys() == topology.functions.keys()
    assert subscriptions.keys() == topology.subscriptions.keys()
    assert jobs.keys() == topology.schedules.keys()
    for name, spec in topology.subscriptions.items():
        values = subscriptions[name].values
        given_up = subscriptions[name].first("dead_letter_policy")
        retry = subscriptions[name].first("retry_policy")
        assert (values["name"], values["topic"]) == (name, spec.topic)
        assert values["ack_deadline_seconds"] == spec.ack_deadline_s
        assert retry["minimum_backoff"] == f"{spec.backoff_min_s:g}s"
        assert retry["maximum_backoff"] == f"{spec.backoff_max_s:g}s"
        assert given_up.get("max_delivery_attempts") == spec.max_delivery_attempts
        if spec.dead_letter_topic is not None:
            assert given_up["dead_letter_topic"].endswith(f"/topics/{spec.dead_letter_topic}")
    for name, _, config in Plan.of(plan).functions():
        assert config["timeout_seconds"] == topology.functions[name].timeout_s


def test_the_audit_is_made_from_the_same_files_as_the_code(plan: dict[str, Any]) -> None:
    tables = {t.values["table_id"]: t for t in Plan.of(plan).all("google_bigquery_table")}
    views = {path.stem: path.read_text("utf-8") for path in (ROOT / "schemas/views").glob("*.sql")}
    columns = json.loads((ROOT / "schemas" / "audit_table.json").read_text("utf-8"))

    assert tables.keys() == {"audit", *views}
    assert json.loads(tables["audit"].values["schema"]) == columns
    for name, sql in views.items():
        query = tables[name].first("view")["query"]
        assert query == sql.replace("${dataset}", "my-project.tagstitch")


def test_the_dashboard_is_readable_and_draws_what_the_log_counts(plan: dict[str, Any]) -> None:
    [dashboard] = of(plan, "google_monitoring_dashboard").values()
    layout = json.loads(dashboard.values["dashboard_json"])["mosaicLayout"]
    drawn = json.dumps(layout)

    assert all(tile["xPos"] + tile["width"] <= layout["columns"] for tile in layout["tiles"])
    assert len({(tile["xPos"], tile["yPos"]) for tile in layout["tiles"]}) == len(layout["tiles"])
    for metric in of(plan, "google_logging_metric").values():
        assert f"user/{metric.values['name']}" in drawn


def test_every_alert_is_documented_and_no_other() -> None:
    text = (ROOT / "docs" / "deploy.md").read_text("utf-8").partition("\n## Alerts\n")[2]
    documented = re.findall(
        r"^\| (?!alert|---)([^|]+) \|", text.partition("\n## ")[0], re.MULTILINE
    )
    titles = re.findall(r' title +[=] "([^"]+)"\n +severity', (INFRA / "monitoring.tf").read_text())

    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8").partition("\n## Alerts\n")[2]

    assert sorted(documented) == sorted(titles)
    assert re.findall(r"^### (.+)$", runbook, re.MULTILINE) == documented


def test_every_account_is_documented_with_what_it_may() -> None:
    text = (ROOT / "docs" / "deploy.md").read_text("utf-8").partition("\n### Roles\n")[2]
    rows = dict(
        re.findall(r"^\| (\w+)[^|]* \| (.*) \|$", text.partition("\n### ")[0], re.MULTILINE)
    )
    words = {
        "datastore.entities.create": "create and change|create, change",
        "datastore.entities.delete": "delete documents",
        "datastore.entities.get": "read",
        "bigquery.tables.updateData": "table `audit`",
        "bigquery.jobs.create": "run queries",
        "roles/pubsub.publisher": "publish to",
        "roles/run.invoker": "call",
        "roles/artifactregistry.writer": "write images",
    }

    assert rows.keys() - {"account"} == HELD.keys()
    for name, held in HELD.items():
        told = {what for what, word in words.items() if re.search(word, rows[name])}
        read = {"datastore.entities.get"} if name == "build" else set()  # it reads sources
        assert told - read == held & words.keys(), name


def test_every_collection_is_documented_as_it_is_deployed() -> None:
    text = (ROOT / "docs" / "deploy.md").read_text("utf-8").partition("\n### Documents\n")[2]
    rows = re.findall(r"^\| (`.*`) \| (.*) \| (.*)\|$", text.partition("\n### ")[0], re.MULTILINE)
    documented = {
        name: {
            "ttl": None if expires == "never" else "expires_at",
            "indexed": re.findall(r"`(\w+)`", indexed),
        }
        for names, expires, indexed in rows
        for name in re.findall(r"`(\w+)`", names)
    }

    assert documented == json.loads((INFRA / "firestore.json").read_text("utf-8"))
