# The table and its views come from the same files as the code: schemas/.

locals {
  schemas     = "${path.module}/../schemas"
  dataset     = "${var.project_id}.${google_bigquery_dataset.audit.dataset_id}"
  view_files  = fileset("${local.schemas}/views", "*.sql")
  first_views = ["audit_deduplicated", "modifications"] # the others read them
  other_views = toset([for file in local.view_files : trimsuffix(file, ".sql") if !contains(local.first_views, trimsuffix(file, ".sql"))])
}

resource "google_bigquery_dataset" "audit" {
  project                    = var.project_id
  dataset_id                 = replace(var.prefix, "-", "_")
  location                   = coalesce(var.bigquery_location, var.region)
  description                = "Every decision and modification of Tagstitch."
  delete_contents_on_destroy = !var.deletion_protection

  depends_on = [google_project_service.api]
}

resource "google_bigquery_table" "audit" {
  project             = var.project_id
  dataset_id          = google_bigquery_dataset.audit.dataset_id
  table_id            = "audit"
  description         = "One row a record; audit_deduplicated has each record once."
  schema              = file("${local.schemas}/audit_table.json")
  clustering          = ["record_type", "event_name"]
  deletion_protection = var.deletion_protection

  time_partitioning {
    type          = "DAY"
    field         = "occurred_at"
    expiration_ms = var.audit_days * 24 * 60 * 60 * 1000
  }
}

resource "google_bigquery_table" "audit_deduplicated" {
  project             = var.project_id
  dataset_id          = google_bigquery_dataset.audit.dataset_id
  table_id            = "audit_deduplicated"
  deletion_protection = false # a view holds nothing

  view {
    query          = templatefile("${local.schemas}/views/audit_deduplicated.sql", { dataset = local.dataset })
    use_legacy_sql = false
  }

  depends_on = [google_bigquery_table.audit]
}

resource "google_bigquery_table" "modifications" {
  project             = var.project_id
  dataset_id          = google_bigquery_dataset.audit.dataset_id
  table_id            = "modifications"
  deletion_protection = false

  view {
    query          = templatefile("${local.schemas}/views/modifications.sql", { dataset = local.dataset })
    use_legacy_sql = false
  }

  depends_on = [google_bigquery_table.audit_deduplicated]
}

resource "google_bigquery_table" "view" {
  for_each = local.other_views

  project             = var.project_id
  dataset_id          = google_bigquery_dataset.audit.dataset_id
  table_id            = each.key
  deletion_protection = false

  view {
    query          = templatefile("${local.schemas}/views/${each.key}.sql", { dataset = local.dataset })
    use_legacy_sql = false
  }

  depends_on = [google_bigquery_table.modifications]
}

resource "google_bigquery_table_iam_member" "appender" {
  project    = var.project_id
  dataset_id = google_bigquery_dataset.audit.dataset_id
  table_id   = google_bigquery_table.audit.table_id
  role       = "projects/${var.project_id}/roles/${google_project_iam_custom_role.audit_appender.role_id}"
  member     = google_service_account.function["audit_sink"].member
}

resource "google_bigquery_table_iam_member" "eraser" {
  project    = var.project_id
  dataset_id = google_bigquery_dataset.audit.dataset_id
  table_id   = google_bigquery_table.audit.table_id
  role       = "projects/${var.project_id}/roles/${google_project_iam_custom_role.audit_eraser.role_id}"
  member     = google_service_account.function["stitch_async"].member
}

resource "google_bigquery_dataset_iam_member" "reader" {
  for_each = toset(var.audit_readers)

  project    = var.project_id
  dataset_id = google_bigquery_dataset.audit.dataset_id
  role       = "roles/bigquery.dataViewer"
  member     = each.key
}

# A second way for what is published to `audit`, in case audit_sink is broken for longer than Pub/Sub
# keeps messages. It cannot stand instead of it: a message may hold up to 500 records, where a
# BigQuery subscription makes one row of each message, and only audit_sink clears the mark by which
# the sweep publishes a record again. It is kept for as long as Pub/Sub keeps messages, because an
# erasure does not reach it.
resource "google_bigquery_table" "archive" {
  count = var.audit_archive ? 1 : 0

  project             = var.project_id
  dataset_id          = google_bigquery_dataset.audit.dataset_id
  table_id            = "audit_messages"
  description         = "The messages of the topic audit as they are, for 7 days."
  schema              = file("${path.module}/schemas/audit_messages.json")
  deletion_protection = false

  time_partitioning {
    type          = "DAY"
    field         = "publish_time"
    expiration_ms = local.topology.topics.audit.retention_s * 1000
  }
}

resource "google_bigquery_table_iam_member" "archiver" {
  count = var.audit_archive ? 1 : 0

  project    = var.project_id
  dataset_id = google_bigquery_dataset.audit.dataset_id
  table_id   = google_bigquery_table.archive[0].table_id
  role       = "roles/bigquery.dataEditor" # what a BigQuery subscription asks for
  member     = local.pubsub_service
}

resource "google_pubsub_subscription" "archive" {
  count = var.audit_archive ? 1 : 0

  project                    = var.project_id
  name                       = "audit-archive"
  topic                      = google_pubsub_topic.topic["audit"].name
  ack_deadline_seconds       = 60
  message_retention_duration = "${local.topology.topics.audit.retention_s}s"

  expiration_policy {
    ttl = ""
  }

  bigquery_config {
    table          = "${var.project_id}.${google_bigquery_dataset.audit.dataset_id}.${google_bigquery_table.archive[0].table_id}"
    write_metadata = true
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  dead_letter_policy {
    dead_letter_topic     = "projects/${var.project_id}/topics/${google_pubsub_topic.topic["dead-letter"].name}"
    max_delivery_attempts = 100
  }

  depends_on = [google_bigquery_table_iam_member.archiver]
}

resource "google_pubsub_subscription_iam_member" "archive_forwarder" {
  count = var.audit_archive ? 1 : 0

  project      = var.project_id
  subscription = google_pubsub_subscription.archive[0].name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_service
}
