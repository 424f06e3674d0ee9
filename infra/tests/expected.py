"""What policies expect: facts of the code and of the contract that a plan is held against."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

INFRA: Final = Path(__file__).resolve().parents[1]

TOPOLOGY: Final[dict[str, Any]] = json.loads((INFRA / "topology.json").read_text("utf-8"))

EVERYBODY: Final = frozenset({"allUsers", "allAuthenticatedUsers"})

BESIDE_INVOKERS: Final = (
    r"google_(cloud_run_service|cloud_run_v2_service|cloudfunctions2_function)_iam_(member|policy)"
    r"|google_cloudfunctions2_function_iam_binding"
)
"""What would let somebody call a function beside the list of who may."""

PUSH_HANDLER_S: Final = 35
"""Seconds that a push handler gives itself (`PUSH_DEADLINE_S` and five more, http_function.py)."""

EXPIRING: Final = frozenset(
    {
        "profiles", "identifiers", "links", "contributions", "processed", "outbox", "quarantine",
        "dead_letters", "dead_letter_parts", "disabled_endpoints", "exposures", "erasures",
        "push_inboxes",
    }
)  # fmt: skip
"""The collections whose documents expire, by their field `expires_at`."""

KEPT: Final = frozenset(
    {
        "event_rules", "personalization_rules", "experiments", "audiences", "traits", "views",
        "rule_book", "rule_bundles",
    }
)  # fmt: skip
"""The collections that somebody edits, or that are made from those."""

QUERIED: Final = frozenset(
    {
        ("processed", "pending"), ("outbox", "pending"), ("erasures", "pending"),
        ("processed", "subject"), ("outbox", "subject"), ("exposures", "subject"),
        ("push_inboxes", "subject"),
    }
)  # fmt: skip
"""The fields by which the code looks for documents: what was left behind, and what is a person's."""

SECRET_SETTINGS: Final[Mapping[str, frozenset[str]]] = {
    "TAGSTITCH_IDENTITY_KEY": frozenset(TOPOLOGY["functions"]),
    "TAGSTITCH_PSEUDONYM_KEYS": frozenset(TOPOLOGY["functions"]),
    "TAGSTITCH_RECEIPT_KEY": frozenset(TOPOLOGY["functions"]),
    "TAGSTITCH_CALLBACKS": frozenset({"stitch_sync", "stitch_async"}),
    "TAGSTITCH_DESTINATIONS": frozenset({"stitch_async"}),
    "TAGSTITCH_KEYS": frozenset({"stitch_sync", "decide"}),
    "TAGSTITCH_SIGNING_SECRETS": frozenset({"stitch_sync", "decide"}),
}
"""Which function needs which secret (docs/settings.md, "Who needs what")."""

PLAIN_SETTINGS: Final = frozenset(
    {
        "LOG_EXECUTION_ID", "OTEL_EXPORTER_OTLP_ENDPOINT",
        "TAGSTITCH_AUDIT_PARAMETERS", "TAGSTITCH_AUTH", "TAGSTITCH_BACKEND",
        "TAGSTITCH_CONSENT_DEFAULT", "TAGSTITCH_DATASET", "TAGSTITCH_IDENTITY", "TAGSTITCH_PROJECT",
        "TAGSTITCH_PUSH_ACCOUNTS", "TAGSTITCH_PUSH_AUDIENCE", "TAGSTITCH_PUSH_ORIGINS",
        "TAGSTITCH_RATE_LIMIT", "TAGSTITCH_RULES_REFRESH_S", "TAGSTITCH_TIME_ZONE",
    }
)  # fmt: skip
"""The settings that are no secrets and may stand in a function's environment."""

SERVICE_SECRETS: Final = frozenset(
    {"TAGSTITCH_IDENTITY_KEY", "TAGSTITCH_PSEUDONYM_KEYS", "TAGSTITCH_RECEIPT_KEY"}
)
"""The secrets without which nothing of ours starts; a service that browsers reach has no other."""

SECRET_READER: Final = "roles/secretmanager.secretAccessor"  # noqa: S105 - a role

READING: Final = frozenset({"datastore.entities.get", "datastore.entities.list"})
"""What a service that browsers reach may do."""

PUSH_TOKEN_S: Final = 900
"""Seconds for which a browser's token holds (`PUSH_TOKEN_S`, limits.py)."""

AUDIT_DAYS_MAX: Final = 400

PROJECT_ROLES: Final = frozenset({"roles/logging.logWriter", "roles/storage.objectViewer"})
"""Roles on the whole project, of the account that builds; Google asks for them so."""

RESOURCE_ROLES: Final = frozenset(
    {
        "roles/artifactregistry.writer", "roles/bigquery.dataViewer", "roles/run.invoker",
        "roles/iam.serviceAccountOpenIdTokenCreator", "roles/pubsub.publisher",
        "roles/pubsub.subscriber", "roles/secretmanager.secretAccessor",
    }
)  # fmt: skip
"""Roles on one thing."""

PERMISSIONS: Final = frozenset(
    {
        "datastore.entities.create", "datastore.entities.get", "datastore.entities.list",
        "datastore.entities.update", "bigquery.tables.get", "bigquery.tables.updateData",
    }
)  # fmt: skip
"""What roles of our own may hold for anybody."""

ERASING: Final = frozenset(
    {"datastore.entities.delete", "bigquery.tables.getData", "bigquery.jobs.create"}
)
"""What only the function that erases people may do."""

ERASER: Final = "stitch_async"

_WRITES: Final = READING | {"datastore.entities.create", "datastore.entities.update"}
_MOUNTS: Final = frozenset({SECRET_READER})
_PUBLISHES: Final = frozenset({"roles/pubsub.publisher"})
_APPENDS: Final = frozenset({"bigquery.tables.get", "bigquery.tables.updateData"})

HELD: Final[Mapping[str, frozenset[str]]] = {
    "stitch_sync": READING | _MOUNTS | _PUBLISHES,
    "decide": _WRITES | _MOUNTS | _PUBLISHES,
    "stitch_async": _WRITES | _MOUNTS | _PUBLISHES | _APPENDS | ERASING,
    "audit_sink": _WRITES | _MOUNTS | _PUBLISHES | _APPENDS,
    "push_service": READING | _MOUNTS,
    "push": frozenset({"roles/run.invoker"}),
    "schedule": frozenset({"roles/run.invoker"}),
    "build": PROJECT_ROLES | {"roles/artifactregistry.writer"},
}
"""What each of our accounts may do: Google's roles, and the permissions of our own (docs/deploy.md)."""

HELD_BY_PUBSUB: Final = frozenset(
    {
        "roles/iam.serviceAccountOpenIdTokenCreator", "roles/pubsub.publisher",
        "roles/pubsub.subscriber", "roles/bigquery.dataEditor",
    }
)  # fmt: skip
"""What Pub/Sub's own account may do: sign, forward dead letters, and fill the archive."""

HELD_BY_OTHERS: Final = frozenset(
    {"roles/run.invoker", "roles/pubsub.publisher", "roles/bigquery.dataViewer"}
)
"""What callers, publishers and readers of the audit may do."""

SERVICES: Final[Mapping[str, frozenset[str]]] = {
    "google_artifact_registry_": frozenset({"artifactregistry"}),
    "google_bigquery_": frozenset({"bigquery"}),
    "google_billing_": frozenset({"billingbudgets"}),
    "google_cloudfunctions2_": frozenset({"cloudfunctions", "cloudbuild", "run"}),
    "google_cloud_run_": frozenset({"run"}),
    "google_cloud_scheduler_": frozenset({"cloudscheduler"}),
    "google_firestore_": frozenset({"firestore"}),
    "google_logging_": frozenset({"logging"}),
    "google_monitoring_": frozenset({"monitoring"}),
    "google_project_iam_": frozenset({"cloudresourcemanager", "iam"}),
    "google_pubsub_": frozenset({"pubsub"}),
    "google_secret_manager_": frozenset({"secretmanager"}),
    "google_service_account": frozenset({"iam"}),
    "google_storage_": frozenset({"storage"}),
}
"""The interfaces that resources of a kind need."""

REQUIRED_ALERTS: Final[Mapping[str, tuple[str, ...]]] = {
    "dead_letters": ('"dead-letter-push"', "subscription/push_request_count"),
    "dead_letters_unread": ('"dead-letter-push"', "subscription/oldest_unacked_message_age"),
    "callback_failures": ('"actions-push"', "push_request_count", 'response_class!="ack"'),
    "decide_slow": ("-decide", "run.googleapis.com/request_latencies", "ALIGN_PERCENTILE_99"),
    "stale_rules": ("logging.googleapis.com/user/", "stale_rules"),
    "audit_lag": ('"audit-push"', "subscription/oldest_unacked_message_age"),
    "failed_sweep": ("logging.googleapis.com/user/", "failed_schedules"),
    "audit_fallback": ("logging.googleapis.com/user/", "audit_fallback"),
}
"""Each alert that must be there, and words of what it watches and how."""
