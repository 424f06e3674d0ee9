resource "google_pubsub_schema" "actions" {
  project    = var.project_id
  name       = "${var.prefix}-actions"
  type       = "AVRO"
  definition = file("${path.module}/schemas/actions.avsc")

  depends_on = [google_project_service.api]
}

resource "google_pubsub_topic" "topic" {
  for_each = local.topology.topics

  project                    = var.project_id
  name                       = each.key
  message_retention_duration = "${each.value.retention_s}s"

  # Only what has one closed shape can be checked by Pub/Sub: a stitch request carries an event with
  # any parameters, an audit message one record or many, and `dead-letter` what nobody understood.
  dynamic "schema_settings" {
    for_each = each.key == "actions" ? [google_pubsub_schema.actions.id] : []
    content {
      schema   = schema_settings.value
      encoding = "JSON"
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_pubsub_subscription" "push" {
  for_each = local.topology.subscriptions

  project                    = var.project_id
  name                       = each.key
  topic                      = google_pubsub_topic.topic[each.value.topic].name
  ack_deadline_seconds       = each.value.ack_deadline_s
  message_retention_duration = "${local.topology.topics[each.value.topic].retention_s}s"

  expiration_policy {
    ttl = "" # never: an idle month must not lose the way to a function
  }

  push_config {
    push_endpoint = "${google_cloudfunctions2_function.function[each.value.function].service_config[0].uri}${each.value.path}"

    oidc_token {
      service_account_email = google_service_account.caller["push"].email
      audience              = local.audience[each.value.function]
    }
  }

  retry_policy {
    minimum_backoff = "${each.value.backoff_min_s}s"
    maximum_backoff = "${each.value.backoff_max_s}s"
  }

  dynamic "dead_letter_policy" {
    for_each = contains(keys(each.value), "dead_letter_topic") ? [each.value] : []
    content {
      dead_letter_topic     = "projects/${var.project_id}/topics/${google_pubsub_topic.topic[dead_letter_policy.value.dead_letter_topic].name}"
      max_delivery_attempts = dead_letter_policy.value.max_delivery_attempts
    }
  }

  depends_on = [google_cloud_run_service_iam_binding.invoker, google_service_account_iam_member.pubsub_signs]
}

locals {
  dead_letter_topics = toset(compact([for s in values(local.topology.subscriptions) : lookup(s, "dead_letter_topic", "")]))

  # Pub/Sub itself publishes what it forwards.
  publishers = {
    for topic in keys(local.topology.topics) : topic => concat(
      [for name, function in local.topology.functions : google_service_account.function[name].member if contains(function.publishes, topic)],
      topic == "stitch-requests" ? var.publishers : [],
      contains(local.dead_letter_topics, topic) ? [local.pubsub_service] : [],
    )
  }
}

# The whole list of who may publish to a topic.
resource "google_pubsub_topic_iam_binding" "publisher" {
  for_each = local.publishers

  project = var.project_id
  topic   = google_pubsub_topic.topic[each.key].name
  role    = "roles/pubsub.publisher"
  members = each.value
}

# Pub/Sub acknowledges what it has forwarded to a dead-letter topic.
resource "google_pubsub_subscription_iam_member" "forwarder" {
  for_each = { for name, s in local.topology.subscriptions : name => s if contains(keys(s), "dead_letter_topic") }

  project      = var.project_id
  subscription = google_pubsub_subscription.push[each.key].name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_service
}
