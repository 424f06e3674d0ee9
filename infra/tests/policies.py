"""What must hold of a deployment, checked on a plan: `terraform show -json plan | policies.py`.

A policy is a function from the plan's resources to the sentences that say what is wrong. Values that
Terraform learns only while it applies are not in a plan; a policy passes over them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

INFRA: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(INFRA.parent))

from infra.tests.account_policies import (  # noqa: E402 - the path comes first
    accounts_hold_what_they_need,
    each_function_has_an_account_of_its_own,
    others_hold_little,
    roles_are_the_least,
)
from infra.tests.expected import (  # noqa: E402
    AUDIT_DAYS_MAX,
    BESIDE_INVOKERS,
    EVERYBODY,
    EXPIRING,
    KEPT,
    PLAIN_SETTINGS,
    PUSH_HANDLER_S,
    QUERIED,
    REQUIRED_ALERTS,
    SECRET_SETTINGS,
    SERVICES,
    TOPOLOGY,
)
from infra.tests.plan import Plan, Resource, last_part  # noqa: E402
from infra.tests.service_policies import browsers_reach_what_only_reads  # noqa: E402

Policy = Callable[[Plan], Iterator[str]]


def only_the_platform_calls_workers(plan: Plan) -> Iterator[str]:
    """Check for public invokers on workers, and for a closed list of invokers on each function."""
    bindings = {b.values["service"]: b for b in plan.all("google_cloud_run_service_iam_binding")}
    for name, function, config in plan.functions():
        if function.values["name"] not in bindings:
            yield f"{name} has no closed list of who may call it"
            continue
        members = set(bindings[function.values["name"]].values["members"])
        if TOPOLOGY["functions"][name]["public"]:
            continue
        if members & EVERYBODY or not members:
            yield f"{name} is a worker and may be called by {sorted(members)}"
        if config["ingress_settings"] != "ALLOW_INTERNAL_ONLY":
            yield f"{name} is a worker and reachable from outside"
    for grant in plan.resources:
        if re.fullmatch(BESIDE_INVOKERS, grant.type):
            yield f"{grant.address} stands beside the closed list"


def every_subscription_retries_and_gives_up(plan: Plan) -> Iterator[str]:
    """Check for retries from 10 s to 600 s, a dead letter after 5 to 100 attempts, no expiry."""
    last_stop = plan.dead_letter_topics()
    for subscription in plan.subscriptions():
        retry = subscription.first("retry_policy")
        backoff = (retry.get("minimum_backoff"), retry.get("maximum_backoff"))
        if backoff != ("10s", "600s"):
            yield f"{subscription.address} retries after {backoff}"
        attempts = subscription.first("dead_letter_policy").get("max_delivery_attempts")
        if last_part(subscription.values["topic"]) in last_stop:
            if attempts is not None:
                yield f"{subscription.address} would send dead letters round and round"
        elif attempts is None or not 5 <= attempts <= 100:
            yield f"{subscription.address} never gives a message up"
        if subscription.first("expiration_policy").get("ttl") != "":
            yield f"{subscription.address} expires when nobody visits for a month"


def dead_letters_are_read(plan: Plan) -> Iterator[str]:
    """Check that each dead-letter topic has a subscription and that Pub/Sub may forward to it."""
    read = {last_part(subscription.values["topic"]) for subscription in plan.subscriptions()}
    for topic in plan.dead_letter_topics() - read:
        yield f"the dead-letter topic {topic} has no subscription: it loses messages"
    publishers = {
        b.values["topic"]: b.values["members"] for b in plan.all("google_pubsub_topic_iam_binding")
    }
    for topic in plan.dead_letter_topics():
        if not any("@gcp-sa-pubsub." in member for member in publishers.get(topic, ())):
            yield f"Pub/Sub may not forward to {topic}"
    forwarding = {
        m.values["subscription"]
        for m in plan.all("google_pubsub_subscription_iam_member")
        if m.values["role"] == "roles/pubsub.subscriber" and "@gcp-sa-pubsub." in m.values["member"]
    }
    for subscription in plan.subscriptions():
        given_up = subscription.first("dead_letter_policy")
        if given_up and subscription.values["name"] not in forwarding:
            yield f"Pub/Sub may not forward from {subscription.values['name']}"


def deadlines_are_in_order(plan: Plan) -> Iterator[str]:
    """Check handler < function < ack deadline: nothing comes twice while it is worked on."""
    timeouts = {name: config["timeout_seconds"] for name, _, config in plan.functions()}
    for name, spec in TOPOLOGY["functions"].items():
        if not spec["public"] and timeouts[name] <= PUSH_HANDLER_S:
            yield f"{name} is stopped after {timeouts[name]} s, before its handler gives up"
    for subscription in plan.all("google_pubsub_subscription"):
        spec = TOPOLOGY["subscriptions"].get(subscription.values["name"])
        if spec is None:
            continue
        ack_s = subscription.values["ack_deadline_seconds"]
        if not timeouts[spec["function"]] < ack_s <= 600:
            yield f"{subscription.address}: {ack_s} s, while {spec['function']} may still work"


def pushes_prove_who_they_are(plan: Plan) -> Iterator[str]:
    """Check that every push carries a token that its function accepts."""
    environments = {name: config["environment_variables"] for name, _, config in plan.functions()}
    for subscription in plan.subscriptions():
        spec = TOPOLOGY["subscriptions"].get(subscription.values["name"])
        if spec is not None:
            push = subscription.first("push_config")
            yield from _unaccepted(subscription, push, environments[spec["function"]])
    for job in plan.all("google_cloud_scheduler_job"):
        function = TOPOLOGY["schedules"][str(job.index)]["function"]
        yield from _unaccepted(job, job.first("http_target"), environments[function])


def _unaccepted(
    caller: Resource, call: Mapping[str, Any], environment: Mapping[str, str]
) -> Iterator[str]:
    token: Mapping[str, Any] = next(iter(call.get("oidc_token") or ()), {})
    accounts = environment.get("TAGSTITCH_PUSH_ACCOUNTS", "").split(",")
    if token.get("service_account_email") not in accounts:
        yield f"{caller.address} pushes as nobody whom the function accepts"
    if token.get("audience") != environment.get("TAGSTITCH_PUSH_AUDIENCE"):
        yield f"{caller.address} pushes with another audience than the function expects"


def everything_personal_expires(plan: Plan) -> Iterator[str]:
    """Check for a TTL wherever documents expire, and for none on what somebody edits."""
    fields = [field for field in plan.all("google_firestore_field") if field.values["ttl_config"]]
    expiring = {field.values["collection"]: field.values["field"] for field in fields}
    for collection in sorted(EXPIRING - expiring.keys()):
        yield f"documents of {collection} never expire"
    for collection, field in sorted(expiring.items()):
        if field != "expires_at":
            yield f"documents of {collection} expire by {field}, which nobody writes"
        if collection not in EXPIRING:
            yield f"documents of {collection} would vanish"


def queries_have_an_index_and_nothing_else(plan: Plan) -> Iterator[str]:
    """Check for an index of each field that the code queries, and an exemption of all others."""
    indexed: set[tuple[str, str]] = set()
    exempt: set[tuple[str, str]] = set()
    for field in plan.all("google_firestore_field"):
        key = (field.values["collection"], field.values["field"])
        has_indexes = bool(field.first("index_config").get("indexes"))
        (indexed if has_indexes else exempt).add(key)
        if not field.values["index_config"]:
            yield f"{field.address} leaves the automatic indexes in place"
    for collection, name in sorted(QUERIED - indexed):
        yield f"the query by {collection}.{name} has no index"
    for collection, name in sorted(indexed - QUERIED):
        yield f"{collection}.{name} is indexed and nothing asks for it"
    for collection in sorted(EXPIRING | KEPT):
        if (collection, "*") not in exempt:
            yield f"fields of {collection} are indexed unless each is exempted"


def the_audit_ends_some_day(plan: Plan) -> Iterator[str]:
    """Check that the audit table is partitioned by day, clustered, and ends."""
    tables = [t for t in plan.all("google_bigquery_table") if not t.values["view"]]
    for table in tables:
        partitions = table.first("time_partitioning")
        days = (partitions.get("expiration_ms") or 0) / 86_400_000
        if partitions.get("type") != "DAY" or not 0 < days <= AUDIT_DAYS_MAX:
            yield f"{table.address} keeps its rows for {days:g} days (0: for ever)"
    audit = next((t for t in tables if t.values["table_id"] == "audit"), None)
    if audit is None or audit.values["clustering"] != ["record_type", "event_name"]:
        yield "the table audit is not clustered by record_type, event_name"


def secrets_are_files(plan: Plan) -> Iterator[str]:
    """Check that a secret is mounted where it is needed, and its value written nowhere."""
    for name, _, config in plan.functions():
        environment = config["environment_variables"]
        mounted = {volume["mount_path"] for volume in config.get("secret_volumes") or ()}
        if config.get("secret_environment_variables"):
            yield f"{name} has a secret in its environment"
        for setting in sorted(environment.keys() - PLAIN_SETTINGS):
            if environment[setting].rpartition("/")[0] not in mounted:
                yield f"{name}: {setting} is no mounted file"
            if name not in SECRET_SETTINGS.get(setting, ()):
                yield f"{name} has {setting} and does not need it"
        if len(mounted) > len(environment.keys() - PLAIN_SETTINGS):
            yield f"{name} mounts a secret that no setting names"
    for version in plan.all("google_secret_manager_secret_version"):
        if version.values.get("secret_data") or version.values.get("secret_data_wo"):
            yield f"{version.address} keeps its value in Terraform's state"


def secrets_are_read_where_they_are_mounted(plan: Plan) -> Iterator[str]:
    """Check that nobody may read a secret whose file they do not have anyway."""
    mounts = {
        (volume["secret"], f"serviceAccount:{config['service_account_email']}")
        for _, _, config in plan.functions()
        for volume in config.get("secret_volumes") or ()
    } | {
        (volume["secret"][0]["secret"], f"serviceAccount:{template['service_account']}")
        for _, _, template, _ in plan.services()
        for volume in template.get("volumes") or ()
    }
    for grant in plan.all("google_secret_manager_secret_iam_member"):
        if (grant.values["secret_id"], grant.values.get("member")) not in mounts:
            yield f"{grant.address} lets somebody read a secret that they do not mount"


def only_our_functions_publish(plan: Plan) -> Iterator[str]:
    """Check that only the functions that the topology names publish to the topics behind them."""
    accounts = {name: config["service_account_email"] for name, _, config in plan.functions()}
    bindings = {b.values["topic"]: b for b in plan.all("google_pubsub_topic_iam_binding")}
    for topic in TOPOLOGY["topics"]:
        if topic not in bindings:
            yield f"who may publish to {topic} is no closed list"
            continue
        members = {m for m in bindings[topic].values["members"] if "@gcp-sa-pubsub." not in m}
        wanted = {
            f"serviceAccount:{accounts[name]}"
            for name, spec in TOPOLOGY["functions"].items()
            if topic in spec["publishes"]
        }
        if not wanted <= members or members & EVERYBODY:
            yield f"{topic} may be published to by {sorted(members)}"
        if topic != "stitch-requests" and members != wanted:
            yield f"{topic} may be published to by others than our functions"
    for member in plan.all("google_pubsub_topic_iam_member"):
        yield f"{member.address} stands beside the closed list"


def query_strings_are_not_logged_by_the_platform(plan: Plan) -> Iterator[str]:
    """Check that query strings with identifiers (lookups) or tokens (browsers) are not logged."""
    services = {name: function.values["name"] for name, function, _ in plan.functions()}
    services |= {name: service.values["name"] for name, service, _, _ in plan.services()}
    exclusions = plan.all("google_logging_project_exclusion")
    filters = [e.values["filter"] for e in exclusions if not e.values.get("disabled")]
    for name in ("stitch_sync", *TOPOLOGY["services"]):
        wanted = (f'"{services.get(name)}"', "service_name=", "run.googleapis.com/requests")
        if name in services and not any(all(part in text for part in wanted) for text in filters):
            yield f"the platform logs the query strings of {name}"


def what_goes_wrong_is_told(plan: Plan) -> Iterator[str]:
    """Check that the alerts are there and on, watch what they are for, and say what to do."""
    alerts = {str(alert.index): alert for alert in plan.all("google_monitoring_alert_policy")}
    for name, words in REQUIRED_ALERTS.items():
        if name not in alerts:
            yield f"there is no alert {name}"
            continue
        watched = json.dumps(alerts[name].values["conditions"]).replace('\\"', '"')
        for word in words:
            if word not in watched:
                yield f"the alert {name} does not watch {word}"
    channels = list(plan.all("google_monitoring_notification_channel"))
    for name, alert in alerts.items():
        if alert.values.get("enabled") is False:
            yield f"the alert {name} is off"
        if len(alert.first("documentation").get("content", "")) < 80:
            yield f"the alert {name} does not say what to do"
        if channels and alert.values.get("notification_channels") == []:
            yield f"the alert {name} reaches nobody"


def somebody_watches(plan: Plan) -> Iterator[str]:
    """Check for the dashboard, and for a budget that warns before it is spent."""
    if not list(plan.all("google_monitoring_dashboard")):
        yield "there is no dashboard"
    budgets = list(plan.all("google_billing_budget"))
    if plan.variables.get("billing_account") and not budgets:
        yield "there is no budget, though there is a billing account"
    for budget in budgets:
        rules = budget.values.get("threshold_rules") or ()
        if not any(rule["threshold_percent"] < 1 for rule in rules):
            yield f"{budget.address} warns only when it is spent"
        if not any(rule.get("spend_basis") == "FORECASTED_SPEND" for rule in rules):
            yield f"{budget.address} does not look ahead"


def metrics_have_no_labels(plan: Plan) -> Iterator[str]:
    """Check that no metric of the log grows with the values of a line's fields."""
    for metric in plan.all("google_logging_metric"):
        named = metric.values.get("label_extractors") or metric.first("metric_descriptor").get(
            "labels"
        )
        if named:
            yield f"the metric {metric.index} has a label"


def services_in_use_are_switched_on(plan: Plan) -> Iterator[str]:
    """Check that the interface of every resource is enabled, so that an empty project will do."""
    enabled = {
        api.values["service"].partition(".")[0] for api in plan.all("google_project_service")
    }
    for prefix, services in SERVICES.items():
        if any(resource.type.startswith(prefix) for resource in plan.resources):
            for service in sorted(services - enabled):
                yield f"{service} is not switched on, and {prefix}… needs it"


POLICIES: Final[tuple[Policy, ...]] = (
    only_the_platform_calls_workers,
    every_subscription_retries_and_gives_up,
    dead_letters_are_read,
    deadlines_are_in_order,
    pushes_prove_who_they_are,
    everything_personal_expires,
    queries_have_an_index_and_nothing_else,
    the_audit_ends_some_day,
    secrets_are_files,
    secrets_are_read_where_they_are_mounted,
    each_function_has_an_account_of_its_own,
    browsers_reach_what_only_reads,
    roles_are_the_least,
    accounts_hold_what_they_need,
    others_hold_little,
    only_our_functions_publish,
    query_strings_are_not_logged_by_the_platform,
    what_goes_wrong_is_told,
    somebody_watches,
    metrics_have_no_labels,
    services_in_use_are_switched_on,
)


def violations(shown: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return what is wrong with a plan, by policy."""
    plan = Plan.of(shown)
    found = {policy.__name__: list(policy(plan)) for policy in POLICIES}
    return {name: sentences for name, sentences in found.items() if sentences}


def main() -> int:
    """Check the plan on stdin."""
    found = violations(json.load(sys.stdin))
    for name, sentences in found.items():
        for sentence in sentences:
            print(f"{name}: {sentence}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
