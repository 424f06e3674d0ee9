"""The deployment without Terraform: `python3 infra/gcloud_script.py > deploy.sh`.

Prints a shell script of `gcloud` and `bq` commands, made from the same topology.json, firestore.json
and schemas/ as Terraform. It creates what is not there, leaves what is, and deploys the functions
anew each time; with PUSH_ORIGINS it deploys the push service too. It has neither alerts, nor a
dashboard, nor a budget. Needs nothing installed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

INFRA: Final = Path(__file__).resolve().parent
PREFIX: Final = "tagstitch"

HEAD: Final = """\
#!/usr/bin/env bash
# Made by infra/gcloud_script.py. Run it at the top of the checkout, after `make package` and
# `python3 infra/secrets_file.py`, as an owner of the project:
#   PROJECT=my-project REGION=europe-west1 CONSENT_DEFAULT=denied bash deploy.sh
set -euo pipefail
: "${PROJECT:?the Google Cloud project}" "${REGION:?for example europe-west1}"
: "${CONSENT_DEFAULT:?granted or denied: what holds when nothing is known of a visitor}"
LOCATION="${LOCATION:-$REGION}"  # of documents and audit; it can never be changed
export CLOUDSDK_CORE_PROJECT="$PROJECT" CLOUDSDK_CORE_DISABLE_PROMPTS=1
NUMBER="$(gcloud projects describe "$PROJECT" --format='value(projectNumber)')"
PUBSUB="serviceAccount:service-$NUMBER@gcp-sa-pubsub.iam.gserviceaccount.com"
there() { "$@" > /dev/null 2>&1; }
secret() { python3 -c 'import json, sys
print(json.load(open("infra/secrets.auto.tfvars.json"))["secrets"][sys.argv[1]], end="")' "$1"; }
"""

APIS: Final = (
    "artifactregistry", "bigquery", "cloudbuild", "cloudfunctions", "cloudscheduler", "firestore",
    "iam", "logging", "pubsub", "run", "secretmanager", "storage",
)  # fmt: skip

COMMON_SECRETS: Final = {
    "identity-key": "TAGSTITCH_IDENTITY_KEY",
    "pseudonym-keys": "TAGSTITCH_PSEUDONYM_KEYS",
    "receipt-key": "TAGSTITCH_RECEIPT_KEY",
}
KEYS: Final = {"keys": "TAGSTITCH_KEYS"}
CALLBACKS: Final = {"callbacks": "TAGSTITCH_CALLBACKS"}
DESTINATIONS: Final = {"destinations": "TAGSTITCH_DESTINATIONS"}

SECRETS: Final[Mapping[str, Mapping[str, str]]] = {
    "stitch_sync": {**COMMON_SECRETS, **KEYS, **CALLBACKS},
    "decide": {**COMMON_SECRETS, **KEYS},
    "stitch_async": {**COMMON_SECRETS, **CALLBACKS, **DESTINATIONS},
    "audit_sink": COMMON_SECRETS,
}
"""docs/settings.md, "Who needs what", with callers that show a key."""

ROLES: Final = {
    "documents_reader": "datastore.entities.get,datastore.entities.list",
    "documents_writer": "datastore.entities.create,datastore.entities.get,"
    "datastore.entities.list,datastore.entities.update",
    "documents_eraser": "datastore.entities.create,datastore.entities.delete,"
    "datastore.entities.get,datastore.entities.list,datastore.entities.update",
    "audit_appender": "bigquery.tables.get,bigquery.tables.updateData",
    "audit_eraser": "bigquery.tables.get,bigquery.tables.getData,bigquery.tables.updateData",
    "query_runner": "bigquery.jobs.create",
}

SIZES: Final = {"stitch_sync": ("512Mi", 1), "decide": ("1Gi", 1)}
WORKER_SIZE: Final = ("512Mi", 0)

PARTITION_S: Final = 400 * 86400


def service(function: str) -> str:
    """Return what the platform calls a function."""
    return f"{PREFIX}-{function.replace('_', '-')}"


def account(name: str) -> str:
    """Return the address of one of our service accounts."""
    return f"{name}@$PROJECT.iam.gserviceaccount.com"


def script(topology: Mapping[str, Any], collections: Mapping[str, Any]) -> str:
    """Return the whole script."""
    parts = {
        "Services": _services(),
        "Accounts and roles": _accounts(topology),
        "Secrets": _secrets(topology),
        "Documents": _documents(collections),
        "Audit": _audit(),
        "Topics": _topics(topology),
        "Functions": _functions(topology),
        "Subscriptions": _subscriptions(topology),
        "Schedules": _schedules(topology),
        "Push service, where PUSH_ORIGINS names pages": _optional_services(topology),
        "Log": _log(),
    }
    sections = (f"\n# {title}\n" + "\n".join(lines) for title, lines in parts.items())
    return HEAD + "\n".join(sections) + "\n"


def _services() -> Iterator[str]:
    yield "gcloud services enable " + " ".join(f"{name}.googleapis.com" for name in APIS)


def _accounts(topology: Mapping[str, Any]) -> Iterator[str]:
    callers = ("push", "schedule", "build")
    names = [*map(service, topology["functions"]), *(f"{PREFIX}-{name}" for name in callers)]
    for name in names:
        yield (
            f'there gcloud iam service-accounts describe "{account(name)}" ||'
            f" gcloud iam service-accounts create {name}"
        )
    for role, permissions in ROLES.items():
        yield (
            f'there gcloud iam roles describe {PREFIX}_{role} --project="$PROJECT" ||'
            f' gcloud iam roles create {PREFIX}_{role} --project="$PROJECT"'
            f" --permissions={permissions}"
        )
    for function in topology["functions"]:
        kind = {"stitch_sync": "reader", "stitch_async": "eraser"}.get(function, "writer")
        yield _may_use_documents(function, kind)
    yield _on_project(
        service("stitch_async"), f"projects/$PROJECT/roles/{PREFIX}_query_runner", "None"
    )
    for role in ("roles/logging.logWriter", "roles/storage.objectViewer"):
        yield _on_project(f"{PREFIX}-build", role, "None")
    yield (
        f'gcloud iam service-accounts add-iam-policy-binding "{account(f"{PREFIX}-push")}"'
        ' --member="$PUBSUB" --role=roles/iam.serviceAccountOpenIdTokenCreator'
    )


def _may_use_documents(name: str, kind: str) -> str:
    return _on_project(
        service(name),
        f"projects/$PROJECT/roles/{PREFIX}_documents_{kind}",
        "title=this-database-only,expression=resource.name =="
        " 'projects/$PROJECT/databases/(default)'",
    )


def _on_project(name: str, role: str, condition: str) -> str:
    return (
        f'gcloud projects add-iam-policy-binding "$PROJECT" --member="serviceAccount:{account(name)}"'
        f' --role="{role}" --condition="{condition}"'
    )


def _secrets(topology: Mapping[str, Any]) -> Iterator[str]:
    for secret in sorted({secret for secrets in SECRETS.values() for secret in secrets}):
        name = f"{PREFIX}-{secret}"
        yield (
            f"there gcloud secrets describe {name} ||"
            f" secret {secret} | gcloud secrets create {name} --data-file=-"
        )
    for function in topology["functions"]:
        yield from (_may_read_secret(function, secret) for secret in SECRETS[function])


def _may_read_secret(name: str, secret: str) -> str:
    return (
        f"gcloud secrets add-iam-policy-binding {PREFIX}-{secret}"
        f' --member="serviceAccount:{account(service(name))}"'
        " --role=roles/secretmanager.secretAccessor"
    )


def _documents(collections: Mapping[str, Any]) -> Iterator[str]:
    database = "--database='(default)'"
    yield (
        f"there gcloud firestore databases describe {database} ||"
        f' gcloud firestore databases create {database} --location="$LOCATION"'
        " --type=firestore-native --delete-protection --enable-pitr"
    )
    for collection, told in collections.items():
        where = f"--collection-group={collection} {database}"
        yield f"gcloud firestore indexes fields update '*' {where} --disable-indexes"
        for field in told["indexed"]:
            yield (
                f"gcloud firestore indexes fields update {field} {where}"
                " --index=order=ascending,query-scope=collection"
            )
        if told["ttl"] is not None:
            yield f"gcloud firestore indexes fields update {told['ttl']} {where} --disable-indexes"
            yield f"gcloud firestore fields ttls update {told['ttl']} {where} --enable-ttl"


def _audit() -> Iterator[str]:
    dataset = f"$PROJECT:{PREFIX}"
    yield f'there bq show "{dataset}" || bq --location="$LOCATION" mk --dataset "{dataset}"'
    yield (
        f'there bq show "{dataset}.audit" || bq mk --table --schema=schemas/audit_table.json'
        " --time_partitioning_type=DAY --time_partitioning_field=occurred_at"
        f" --time_partitioning_expiration={PARTITION_S}"
        f' --clustering_fields=record_type,event_name "{dataset}.audit"'
    )
    first = ("audit_deduplicated", "modifications")
    others = {path.stem for path in (INFRA.parent / "schemas" / "views").glob("*.sql")}
    for view in (*first, *sorted(others - set(first))):
        sql = f"$(sed 's/${{dataset}}/'\"$PROJECT.{PREFIX}\"'/g' schemas/views/{view}.sql)"
        yield (
            f'there bq show "{dataset}.{view}" ||'
            f' bq mk --use_legacy_sql=false --view="{sql}" "{dataset}.{view}"'
        )
    for function, role in (("audit_sink", "audit_appender"), ("stitch_async", "audit_eraser")):
        yield (
            "bq add-iam-policy-binding --table=true"
            f' --member="serviceAccount:{account(service(function))}"'
            f' --role="projects/$PROJECT/roles/{PREFIX}_{role}" "{dataset}.audit"'
        )


def _topics(topology: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"there gcloud pubsub schemas describe {PREFIX}-actions ||"
        f" gcloud pubsub schemas create {PREFIX}-actions --type=avro"
        " --definition-file=infra/schemas/actions.avsc"
    )
    forwarded_to = {s.get("dead_letter_topic") for s in topology["subscriptions"].values()}
    for topic, told in topology["topics"].items():
        checked = f" --schema={PREFIX}-actions --message-encoding=json"
        yield (
            f"there gcloud pubsub topics describe {topic} || gcloud pubsub topics create {topic}"
            f" --message-retention-duration={told['retention_s']}s"
            + (checked if topic == "actions" else "")
        )
        members = [
            f"serviceAccount:{account(service(name))}"
            for name, function in topology["functions"].items()
            if topic in function["publishes"]
        ]
        for member in [*members, *(["$PUBSUB"] if topic in forwarded_to else [])]:
            yield (
                f"gcloud pubsub topics add-iam-policy-binding {topic}"
                f' --member="{member}" --role=roles/pubsub.publisher'
            )


def _functions(topology: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f'there gcloud artifacts repositories describe {PREFIX}-functions --location="$REGION" ||'
        f" gcloud artifacts repositories create {PREFIX}-functions"
        ' --location="$REGION" --repository-format=docker'
    )
    yield (
        f"gcloud artifacts repositories add-iam-policy-binding {PREFIX}-functions"
        f' --location="$REGION" --member="serviceAccount:{account(f"{PREFIX}-build")}"'
        " --role=roles/artifactregistry.writer"
    )
    for name, function in topology["functions"].items():
        yield _deployment(topology, name, function)
        for member in _invokers(topology, name, function):
            yield (
                f"gcloud run services add-iam-policy-binding {service(name)}"
                f' --region="$REGION" --member="{member}" --role=roles/run.invoker'
            )


def _deployment(topology: Mapping[str, Any], name: str, function: Mapping[str, Any]) -> str:
    memory, instances = SIZES.get(name, WORKER_SIZE)
    secrets = ",".join(
        f"/secrets/{secret}/value={PREFIX}-{secret}:latest" for secret in sorted(SECRETS[name])
    )
    variables = {
        "TAGSTITCH_BACKEND": "cloud",
        "TAGSTITCH_PROJECT": "$PROJECT",
        "TAGSTITCH_CONSENT_DEFAULT": "$CONSENT_DEFAULT",
        "TAGSTITCH_DATASET": PREFIX,
        "TAGSTITCH_AUTH": "key" if function["public"] else "iam",
        **{setting: f"/secrets/{secret}/value" for secret, setting in SECRETS[name].items()},
    }
    if not function["public"]:
        accounts = (member.partition(":")[2] for member in _invokers(topology, name, function))
        variables["TAGSTITCH_PUSH_AUDIENCE"] = _audience(name)
        variables["TAGSTITCH_PUSH_ACCOUNTS"] = ",".join(accounts)
    return " ".join(
        (
            f'gcloud functions deploy {service(name)} --gen2 --region="$REGION"',
            f"--runtime=python311 --source=build/{name} --entry-point={name} --trigger-http",
            f'--docker-repository="projects/$PROJECT/locations/$REGION/repositories/{PREFIX}-functions"',
            f'--build-service-account="projects/$PROJECT/serviceAccounts/{account(f"{PREFIX}-build")}"',
            f'--service-account="{account(service(name))}" --no-allow-unauthenticated',
            f"--ingress-settings={'all' if function['public'] else 'internal-only'}",
            f"--memory={memory} --cpu=1 --concurrency={80 if function['public'] else 40}",
            f"--min-instances={instances} --max-instances={20 if function['public'] else 10}",
            f"--timeout={function['timeout_s']}s --set-secrets={secrets}",
            f'--set-env-vars="{_written(variables)}"',
        )
    )


def _written(variables: Mapping[str, str]) -> str:
    """Return variables for gcloud; `gcloud topic escaping` says how values may hold commas."""
    return "^;^" + ";".join(f"{key}={value}" for key, value in variables.items())


def _invokers(topology: Mapping[str, Any], name: str, function: Mapping[str, Any]) -> list[str]:
    """Return who may call a function; those that check a key themselves let everybody through."""
    if function["public"]:
        return ["allUsers"]
    kinds = {"push": topology["subscriptions"], "schedule": topology["schedules"]}
    return [
        f"serviceAccount:{account(f'{PREFIX}-{kind}')}"
        for kind, callers in kinds.items()
        if any(caller["function"] == name for caller in callers.values())
    ]


def _audience(function: str) -> str:
    return f"https://$REGION-$PROJECT.cloudfunctions.net/{service(function)}"


def _uri(function: str) -> str:
    return (
        f'$(gcloud functions describe {service(function)} --region="$REGION"'
        " --format='value(serviceConfig.uri)')"
    )


def _subscriptions(topology: Mapping[str, Any]) -> Iterator[str]:
    for name, told in topology["subscriptions"].items():
        retention_s = topology["topics"][told["topic"]]["retention_s"]
        given_up = ""
        if "dead_letter_topic" in told:
            given_up = (
                f" --dead-letter-topic={told['dead_letter_topic']}"
                f" --max-delivery-attempts={told['max_delivery_attempts']}"
            )
        yield (
            f"there gcloud pubsub subscriptions describe {name} ||"
            f" gcloud pubsub subscriptions create {name} --topic={told['topic']}"
            f' --push-endpoint="{_uri(told["function"])}{told["path"]}"'
            f' --push-auth-service-account="{account(f"{PREFIX}-push")}"'
            f' --push-auth-token-audience="{_audience(told["function"])}"'
            f" --ack-deadline={told['ack_deadline_s']} --expiration-period=never"
            f" --message-retention-duration={retention_s}s"
            f" --min-retry-delay={told['backoff_min_s']}s"
            f" --max-retry-delay={told['backoff_max_s']}s{given_up}"
        )
        if given_up:
            yield (
                f"gcloud pubsub subscriptions add-iam-policy-binding {name}"
                ' --member="$PUBSUB" --role=roles/pubsub.subscriber'
            )


def _schedules(topology: Mapping[str, Any]) -> Iterator[str]:
    for name, told in topology["schedules"].items():
        minutes = told["every_s"] // 60
        yield (
            f'there gcloud scheduler jobs describe {PREFIX}-{name} --location="$REGION" ||'
            f" gcloud scheduler jobs create http {PREFIX}-{name}"
            f' --location="$REGION" --schedule="{"*" if minutes == 1 else f"*/{minutes}"} * * * *"'
            f' --uri="{_uri(told["function"])}{told["path"]}" --http-method=post'
            f' --oidc-service-account-email="{account(f"{PREFIX}-schedule")}"'
            f' --oidc-token-audience="{_audience(told["function"])}"'
            f" --attempt-deadline={topology['functions'][told['function']]['timeout_s']}s"
        )


def _optional_services(topology: Mapping[str, Any]) -> Iterator[str]:
    yield 'if [ -n "${PUSH_ORIGINS:-}" ]; then  # https://shop.example.com,https://www.example.com'
    for name, told in topology["services"].items():
        yield (
            f'there gcloud iam service-accounts describe "{account(service(name))}" ||'
            f" gcloud iam service-accounts create {service(name)}"
        )
        yield _may_use_documents(name, "reader")
        yield from (_may_read_secret(name, secret) for secret in COMMON_SECRETS)
        yield f'IMAGE="{_image(name)}"'
        yield f'gcloud builds submit build/{name} --region="$REGION" --pack=image="$IMAGE"'
        yield _service_deployment(name, told)
        yield (
            f"gcloud run services add-iam-policy-binding {service(name)}"
            ' --region="$REGION" --member="allUsers" --role=roles/run.invoker'
        )
    yield "fi"


def _image(name: str) -> str:
    """Return where an image goes, named by what it is made of."""
    digest = f"$(sha256sum build/{name}.zip | cut -c1-12)"
    repository = f"$REGION-docker.pkg.dev/$PROJECT/{PREFIX}-functions"
    return f"{repository}/{name.replace('_', '-')}:{digest}"


def _service_deployment(name: str, told: Mapping[str, Any]) -> str:
    variables = {
        "TAGSTITCH_BACKEND": "cloud",
        "TAGSTITCH_PROJECT": "$PROJECT",
        "TAGSTITCH_AUTH": "iam",
        "TAGSTITCH_CONSENT_DEFAULT": "$CONSENT_DEFAULT",
        "TAGSTITCH_PUSH_ORIGINS": "$PUSH_ORIGINS",
        **{setting: f"/secrets/{secret}/value" for secret, setting in COMMON_SECRETS.items()},
    }
    secrets = ",".join(
        f"/secrets/{secret}/value={PREFIX}-{secret}:latest" for secret in sorted(COMMON_SECRETS)
    )
    return " ".join(
        (
            f'gcloud run deploy {service(name)} --region="$REGION" --image="$IMAGE"',
            f'--service-account="{account(service(name))}" --no-allow-unauthenticated --ingress=all',
            f"--memory=512Mi --cpu=1 --concurrency={told['concurrency']} --min-instances=0",
            f"--max-instances={told['max_instances']} --timeout={told['timeout_s']}s",
            f'--set-secrets={secrets} --set-env-vars="{_written(variables)}"',
        )
    )


def _log() -> Iterator[str]:
    conditions = (
        'resource.type="cloud_run_revision"',
        f'resource.labels.service_name=("{service("stitch_sync")}" OR "{service("push_service")}")',
        'log_id("run.googleapis.com/requests")',
    )
    name = f"{PREFIX}-lookup-requests"
    yield (
        "gcloud logging sinks describe _Default --format='value(exclusions.name)' |"
        f" grep -q {name} || gcloud logging sinks update _Default"
        f" --add-exclusion='name={name},filter={' AND '.join(conditions)}'"
    )


def definitions() -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the topology and the collections of documents."""
    topology, collections = (
        json.loads((INFRA / f"{name}.json").read_text("utf-8"))
        for name in ("topology", "firestore")
    )
    return topology, collections


def main() -> int:
    """Print the script."""
    print(script(*definitions()), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
