# One account for each function, one that pushes and one that calls on schedule, one that builds.
# Nobody has a role on the project that a role on one thing can replace.

locals {
  service_name   = { for name in keys(local.topology.functions) : name => "${var.prefix}-${replace(name, "_", "-")}" }
  pubsub_service = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"

  # What each function does with documents. Only stitch_async deletes any: it erases people.
  firestore_role = {
    stitch_sync  = "reader"
    decide       = "writer"
    stitch_async = "eraser"
    audit_sink   = "writer"
  }

  firestore_permissions = {
    reader = ["datastore.entities.get", "datastore.entities.list"]
    writer = [
      "datastore.entities.create", "datastore.entities.get", "datastore.entities.list",
      "datastore.entities.update",
    ]
    eraser = [
      "datastore.entities.create", "datastore.entities.delete", "datastore.entities.get",
      "datastore.entities.list", "datastore.entities.update",
    ]
  }
}

resource "google_service_account" "function" {
  for_each = local.topology.functions

  project      = var.project_id
  account_id   = local.service_name[each.key]
  display_name = "Tagstitch: the function ${each.key}"

  depends_on = [google_project_service.api]
}

resource "google_service_account" "caller" {
  for_each = { push = "Pub/Sub pushes", schedule = "the schedule calls" }

  project      = var.project_id
  account_id   = "${var.prefix}-${each.key}"
  display_name = "Tagstitch: as whom ${each.value} the functions"

  depends_on = [google_project_service.api]
}

resource "google_service_account" "build" {
  project      = var.project_id
  account_id   = "${var.prefix}-build"
  display_name = "Tagstitch: as whom the functions are built"

  depends_on = [google_project_service.api]
}

# Pub/Sub signs its tokens as the account that pushes.
resource "google_service_account_iam_member" "pubsub_signs" {
  service_account_id = google_service_account.caller["push"].name
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = local.pubsub_service

  depends_on = [google_pubsub_topic.topic] # the first one makes Pub/Sub's own account
}

# What https://cloud.google.com/functions/docs/securing/build-custom-sa asks for. The platform copies
# the sources into a bucket of its own first, so that reading one bucket would not do.
resource "google_project_iam_member" "build" {
  for_each = toset(["roles/logging.logWriter", "roles/storage.objectViewer"])

  project = var.project_id
  role    = each.key
  member  = google_service_account.build.member
}

resource "google_artifact_registry_repository_iam_member" "build" {
  project    = var.project_id
  location   = var.region
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.build.member
}

resource "google_project_iam_custom_role" "firestore" {
  for_each = local.firestore_permissions

  project     = var.project_id
  role_id     = "${replace(var.prefix, "-", "_")}_documents_${each.key}"
  title       = "Tagstitch: documents, ${each.key}"
  description = "What a function does with documents in Firestore."
  permissions = each.value

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "firestore" {
  for_each = local.topology.functions

  project = var.project_id
  role    = "projects/${var.project_id}/roles/${google_project_iam_custom_role.firestore[local.firestore_role[each.key]].role_id}"
  member  = google_service_account.function[each.key].member

  condition {
    title      = "This database only"
    expression = "resource.name == \"projects/${var.project_id}/databases/${google_firestore_database.this.name}\""
  }
}

resource "google_project_iam_custom_role" "audit_appender" {
  project     = var.project_id
  role_id     = "${replace(var.prefix, "-", "_")}_audit_appender"
  title       = "Tagstitch: audit, appending"
  description = "Appends rows. Without the right to run jobs or to read rows it can neither change nor delete any."
  permissions = ["bigquery.tables.get", "bigquery.tables.updateData"]

  depends_on = [google_project_service.api]
}

resource "google_project_iam_custom_role" "audit_eraser" {
  project     = var.project_id
  role_id     = "${replace(var.prefix, "-", "_")}_audit_eraser"
  title       = "Tagstitch: audit, erasing"
  description = "Makes rows of the audit nobody's: an UPDATE reads them too."
  permissions = ["bigquery.tables.get", "bigquery.tables.getData", "bigquery.tables.updateData"]

  depends_on = [google_project_service.api]
}

# A job belongs to the project: there is no smaller thing to grant this on.
resource "google_project_iam_custom_role" "query_runner" {
  project     = var.project_id
  role_id     = "${replace(var.prefix, "-", "_")}_query_runner"
  title       = "Tagstitch: running queries"
  description = "Runs queries over what its holder may read or change."
  permissions = ["bigquery.jobs.create"]

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "query_runner" {
  project = var.project_id
  role    = "projects/${var.project_id}/roles/${google_project_iam_custom_role.query_runner.role_id}"
  member  = google_service_account.function["stitch_async"].member
}
