"""Ways to break a deployment, and what a policy says to each."""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """One way to break a deployment, and what a policy says to that.

    Those of one batch are planned together, since none of them hides another.
    """

    batch: int
    policy: str
    file: str
    old: str
    new: str
    sentence: str


MUTATIONS = [
    Mutation(
        0, "only_the_platform_calls_workers", "functions.tf",
        "[for kind in local.invokers[name] : google_service_account.caller[kind].member]",
        '["allUsers"]',
        "stitch_async is a worker and may be called by ['allUsers']",
    ),
    Mutation(
        0, "only_the_platform_calls_workers", "functions.tf",
        '"ALLOW_ALL" : "ALLOW_INTERNAL_ONLY"', '"ALLOW_ALL" : "ALLOW_ALL"',
        "stitch_async is a worker and reachable from outside",
    ),
    Mutation(
        1, "only_the_platform_calls_workers", "functions.tf",
        "google_cloudfunctions2_function.function[each.key].name\n", '"another"\n',
        "audit_sink has no closed list of who may call it",
    ),
    Mutation(
        0, "every_subscription_retries_and_gives_up", "pubsub.tf",
        '"${each.value.backoff_min_s}s"', '"0s"',
        'google_pubsub_subscription.push["audit-push"] retries after (\'0s\', \'600s\')',
    ),
    Mutation(
        1, "every_subscription_retries_and_gives_up", "pubsub.tf",
        'contains(keys(each.value), "dead_letter_topic") ? [each.value] : []', "[]",
        'google_pubsub_subscription.push["audit-push"] never gives a message up',
    ),
    Mutation(
        0, "every_subscription_retries_and_gives_up", "pubsub.tf",
        'ttl = "" # never', 'ttl = "2678400s" # never',
        'google_pubsub_subscription.push["audit-push"] expires when nobody visits for a month',
    ),
    Mutation(
        2, "every_subscription_retries_and_gives_up", "topology.json",
        '"path": "/deadletters",\n',
        '"path": "/deadletters", "dead_letter_topic": "dead-letter", "max_delivery_attempts": 5,\n',
        'google_pubsub_subscription.push["dead-letter-push"] would send dead letters round and round',
    ),
    Mutation(
        0, "dead_letters_are_read", "topology.json",
        '"topic": "dead-letter", ', '"topic": "audit", ',
        "the dead-letter topic dead-letter has no subscription: it loses messages",
    ),
    Mutation(
        0, "dead_letters_are_read", "pubsub.tf",
        '"roles/pubsub.subscriber"', '"roles/pubsub.viewer"',
        "Pub/Sub may not forward from audit-push",
    ),
    Mutation(
        0, "dead_letters_are_read", "pubsub.tf",
        "contains(local.dead_letter_topics, topic) ? [local.pubsub_service] : []", "[]",
        "Pub/Sub may not forward to dead-letter",
    ),
    Mutation(
        0, "deadlines_are_in_order", "pubsub.tf",
        "= each.value.ack_deadline_s", "= 20",
        'google_pubsub_subscription.push["audit-push"]: 20 s, while audit_sink may still work',
    ),
    Mutation(
        0, "deadlines_are_in_order", "functions.tf",
        "= local.sizes[each.key].timeout_s", "= 30",
        "audit_sink is stopped after 30 s, before its handler gives up",
    ),
    Mutation(
        0, "pushes_prove_who_they_are", "pubsub.tf",
        "= local.audience[each.value.function]", '= "https://example.com"',
        'google_pubsub_subscription.push["audit-push"] pushes with another audience'
        " than the function expects",
    ),
    Mutation(
        0, "pushes_prove_who_they_are", "scheduler.tf",
        'google_service_account.caller["schedule"].email', "google_service_account.build.email",
        'google_cloud_scheduler_job.job["sweep"] pushes as nobody whom the function accepts',
    ),
    Mutation(
        0, "everything_personal_expires", "firestore.json",
        '"outbox": {"ttl": "expires_at"', '"outbox": {"ttl": null',
        "documents of outbox never expire",
    ),
    Mutation(
        0, "everything_personal_expires", "firestore.json",
        '"views": {"ttl": null', '"views": {"ttl": "expires_at"',
        "documents of views would vanish",
    ),
    Mutation(
        0, "everything_personal_expires", "firestore.json",
        '"profiles": {"ttl": "expires_at"', '"profiles": {"ttl": "updated_at"',
        "documents of profiles expire by updated_at, which nobody writes",
    ),
    Mutation(
        1, "queries_have_an_index_and_nothing_else", "firestore.json",
        '"outbox": {"ttl": "expires_at", "indexed": ["pending", "subject"]}',
        '"outbox": {"ttl": "expires_at", "indexed": ["subject"]}',
        "the query by outbox.pending has no index",
    ),
    Mutation(
        1, "queries_have_an_index_and_nothing_else", "firestore.json",
        '"profiles": {"ttl": "expires_at", "indexed": []}',
        '"profiles": {"ttl": "expires_at", "indexed": ["attributes"]}',
        "profiles.attributes is indexed and nothing asks for it",
    ),
    Mutation(
        1, "queries_have_an_index_and_nothing_else", "firestore.tf",
        '= "*"', '= "attributes"',
        "fields of profiles are indexed unless each is exempted",
    ),
    Mutation(
        2, "queries_have_an_index_and_nothing_else", "firestore.tf",
        '= "*"\n\n  index_config {}\n', '= "*"\n',
        'google_firestore_field.unindexed["profiles"] leaves the automatic indexes in place',
    ),
    Mutation(
        0, "the_audit_ends_some_day", "bigquery.tf",
        "= var.audit_days * 24 * 60 * 60 * 1000", "= null",
        "google_bigquery_table.audit keeps its rows for 0 days (0: for ever)",
    ),
    Mutation(
        0, "the_audit_ends_some_day", "bigquery.tf",
        '= ["record_type", "event_name"]', '= ["event_name"]',
        "the table audit is not clustered by record_type, event_name",
    ),
    Mutation(
        0, "secrets_are_files", "functions.tf",
        '=> "/secrets/${secret}/value"', '=> "[{\\"id\\": \\"sgtm\\"}]"',
        "decide: TAGSTITCH_KEYS is no mounted file",
    ),
    Mutation(
        1, "secrets_are_files", "secrets.tf",
        "audit_sink   = sort(local.common_secrets)",
        'audit_sink   = sort(concat(local.common_secrets, ["callbacks"]))',
        "audit_sink has TAGSTITCH_CALLBACKS and does not need it",
    ),
    Mutation(
        2, "secrets_are_files", "functions.tf",
        "      { for secret in local.secrets_of[name] : local.secret_settings[secret] =>"
        ' "/secrets/${secret}/value" },\n',
        "",
        "decide mounts a secret that no setting names",
    ),
    Mutation(
        2, "secrets_are_files", "functions.tf",
        '    dynamic "secret_volumes" {\n',
        "    secret_environment_variables {\n"
        '      key        = "TAGSTITCH_KEYS"\n'
        "      project_id = var.project_id\n"
        '      secret     = "keys"\n'
        '      version    = "latest"\n'
        "    }\n"
        '    dynamic "secret_volumes" {\n',
        "decide has a secret in its environment",
    ),
    Mutation(
        1, "secrets_are_read_where_they_are_mounted", "secrets.tf",
        "google_service_account.function[each.value.function].member",
        "google_service_account.build.member",
        'google_secret_manager_secret_iam_member.function["decide/keys"]'
        " lets somebody read a secret that they do not mount",
    ),
    Mutation(
        1, "each_function_has_an_account_of_its_own", "functions.tf",
        "google_service_account.function[each.key].email",
        'google_service_account.function["decide"].email',
        "stitch_sync runs as tagstitch-decide@my-project.iam.gserviceaccount.com, like stitch_async",
    ),
    Mutation(
        0, "roles_are_the_least", "service_accounts.tf",
        '"roles/logging.logWriter", ', '"roles/editor", ',
        'google_project_iam_member.build["roles/editor"] grants roles/editor on the whole project',
    ),
    Mutation(
        0, "roles_are_the_least", "service_accounts.tf",
        '"bigquery.tables.get", "bigquery.tables.updateData"]',
        '"bigquery.tables.get", "bigquery.tables.updateData", "bigquery.tables.delete"]',
        "google_project_iam_custom_role.audit_appender holds bigquery.tables.delete",
    ),
    Mutation(
        0, "roles_are_the_least", "service_accounts.tf",
        'audit_sink   = "writer"', 'audit_sink   = "eraser"',
        'google_project_iam_member.firestore["audit_sink"] lets another than stitch_async delete',
    ),
    Mutation(
        1, "accounts_hold_what_they_need", "service_accounts.tf",
        'stitch_sync  = "reader"', 'stitch_sync  = "writer"',
        "stitch_sync holds datastore.entities.create and does not need it",
    ),
    Mutation(
        2, "accounts_hold_what_they_need", "bigquery.tf",
        'google_service_account.function["audit_sink"].member',
        'google_service_account.function["decide"].member',
        "audit_sink needs bigquery.tables.updateData",
    ),
    Mutation(
        1, "others_hold_little", "bigquery.tf",
        "toset(var.audit_readers)", 'toset(["allUsers"])',
        "allUsers holds roles/bigquery.dataViewer",
    ),
    Mutation(
        1, "others_hold_little", "service_accounts.tf",
        '  role               = "roles/iam.serviceAccountOpenIdTokenCreator"\n'
        "  member             = local.pubsub_service\n",
        '  role               = "roles/iam.serviceAccountOpenIdTokenCreator"\n'
        '  member             = "user:somebody@example.com"\n',
        "user:somebody@example.com holds roles/iam.serviceAccountOpenIdTokenCreator",
    ),
    Mutation(
        1, "services_in_use_are_switched_on", "apis.tf",
        '    "cloudscheduler.googleapis.com",\n', "",
        "cloudscheduler is not switched on, and google_cloud_scheduler_… needs it",
    ),
    Mutation(
        2, "query_strings_are_not_logged_by_the_platform", "logging.tf",
        '  filter = join(" AND ", [\n', '  disabled    = true\n  filter = join(" AND ", [\n',
        "the platform logs the query strings of stitch_sync",
    ),
    Mutation(
        0, "roles_are_the_least", "secrets.tf",
        '"roles/secretmanager.secretAccessor"', '"roles/secretmanager.admin"',
        'google_secret_manager_secret_iam_member.function["decide/keys"]'
        " grants roles/secretmanager.admin",
    ),
    Mutation(
        1, "only_our_functions_publish", "pubsub.tf",
        'topic == "stitch-requests" ? var.publishers : []', "var.publishers",
        "audit may be published to by others than our functions",
    ),
    Mutation(
        0, "only_our_functions_publish", "pubsub.tf",
        'topic == "stitch-requests" ? var.publishers : []', 'var.publishers != [] ? ["allUsers"] : []',
        "audit may be published to by ['allUsers',"
        " 'serviceAccount:tagstitch-decide@my-project.iam.gserviceaccount.com',"
        " 'serviceAccount:tagstitch-stitch-async@my-project.iam.gserviceaccount.com']",
    ),
    Mutation(
        3, "query_strings_are_not_logged_by_the_platform", "logging.tf",
        "${var.prefix}-push-service", "${var.prefix}-push",
        "the platform logs the query strings of push_service",
    ),
    Mutation(
        0, "query_strings_are_not_logged_by_the_platform", "logging.tf",
        'local.service_name["stitch_sync"]', 'local.service_name["decide"]',
        "the platform logs the query strings of stitch_sync",
    ),
    Mutation(
        0, "what_goes_wrong_is_told", "monitoring.tf",
        "    audit_lag = {", "    audit_late = {",
        "there is no alert audit_lag",
    ),
    Mutation(
        0, "what_goes_wrong_is_told", "monitoring.tf",
        '"ALIGN_PERCENTILE_99"', '"ALIGN_PERCENTILE_50"',
        "the alert decide_slow does not watch ALIGN_PERCENTILE_99",
    ),
    Mutation(
        1, "what_goes_wrong_is_told", "monitoring.tf",
        "[for channel in google_monitoring_notification_channel.email : channel.id]", "[]",
        "the alert audit_lag reaches nobody",
    ),
    Mutation(
        2, "what_goes_wrong_is_told", "monitoring.tf",
        '  combiner              = "OR"\n', '  combiner              = "OR"\n  enabled = false\n',
        "the alert audit_lag is off",
    ),
    Mutation(
        2, "what_goes_wrong_is_told", "monitoring.tf",
        "= each.value.text\n", '= "Look at the log."\n',
        "the alert audit_lag does not say what to do",
    ),
    Mutation(
        2, "somebody_watches", "dashboard.tf",
        'resource "google_monitoring_dashboard" "this" {\n',
        'resource "google_monitoring_dashboard" "this" {\n  count = 0\n',
        "there is no dashboard",
    ),
    Mutation(
        2, "only_our_functions_publish", "pubsub.tf",
        "  for_each = local.publishers\n",
        '  for_each = { for topic, who in local.publishers : topic => who if topic != "audit" }\n',
        "who may publish to audit is no closed list",
    ),
    Mutation(
        2, "secrets_are_files", "secrets.tf",
        'secret_data_wo         = lookup(var.secrets, each.key, "missing")',
        'secret_data = "a value"',
        'google_secret_manager_secret_version.secret["keys"] keeps its value in Terraform\'s state',
    ),
    Mutation(
        0, "somebody_watches", "budget.tf",
        "var.billing_account == null ? 0 : 1", "0",
        "there is no budget, though there is a billing account",
    ),
    Mutation(
        1, "somebody_watches", "budget.tf",
        "[0.5, 0.9, 1.0]", "[1.0]",
        "google_billing_budget.monthly[0] warns only when it is spent",
    ),
    Mutation(
        1, "somebody_watches", "budget.tf",
        '"FORECASTED_SPEND"', '"CURRENT_SPEND"',
        "google_billing_budget.monthly[0] does not look ahead",
    ),
    Mutation(
        3, "each_function_has_an_account_of_its_own", "push_service.tf",
        "google_service_account.service[each.key].email",
        'google_service_account.function["decide"].email',
        "push_service runs as tagstitch-decide@my-project.iam.gserviceaccount.com, like decide",
    ),
    Mutation(
        4, "browsers_reach_what_only_reads", "push_service.tf",
        'google_project_iam_custom_role.firestore["reader"]',
        'google_project_iam_custom_role.firestore["writer"]',
        "push_service may do more than read:"
        ' google_project_iam_member.service_reads["push_service"]',
    ),
    Mutation(
        3, "browsers_reach_what_only_reads", "push_service.tf",
        'join(",", sort(each.value.origins))', '"*"',
        "push_service lets pages of * listen",
    ),
    Mutation(
        3, "browsers_reach_what_only_reads", "topology.json",
        '"push_service": {"timeout_s": 1200', '"push_service": {"timeout_s": 300',
        "push_service ends a connection before its token does",
    ),
    Mutation(
        3, "browsers_reach_what_only_reads", "push_service.tf",
        "max_instance_count = each.value.max_instances", "max_instance_count = null",
        "push_service may start any number of instances",
    ),
    Mutation(
        3, "browsers_reach_what_only_reads", "push_service.tf",
        'local.secret_settings[secret] => "/secrets/${secret}/value" }',
        'local.secret_settings[secret] => "a-value" }',
        "push_service: TAGSTITCH_RECEIPT_KEY is no mounted file",
    ),
    Mutation(
        4, "browsers_reach_what_only_reads", "push_service.tf",
        "for secret in local.common_secrets : local",
        'for secret in concat(local.common_secrets, ["keys"]) : local',
        "push_service has TAGSTITCH_KEYS and does not need it",
    ),
    Mutation(
        4, "browsers_reach_what_only_reads", "push_service.tf",
        "          value = env.value\n",
        "          value_source {\n"
        "            secret_key_ref {\n"
        "              secret = env.key\n"
        "            }\n"
        "          }\n",
        "push_service has a secret in its environment",
    ),
    Mutation(
        3, "browsers_reach_what_only_reads", "push_service.tf",
        "name     = google_cloud_run_v2_service.service[each.key].name", 'name     = "another"',
        "push_service has no closed list of who may call it",
    ),
    Mutation(
        0, "metrics_have_no_labels", "logging.tf",
        "  metric_descriptor {\n",
        '  label_extractors = { why = "EXTRACT(jsonPayload.why)" }\n  metric_descriptor {\n'
        '    labels {\n      key = "why"\n    }\n',
        "the metric crashes has a label",
    ),
]  # fmt: skip
