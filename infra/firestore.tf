resource "google_firestore_database" "this" {
  project     = var.project_id
  name        = "(default)" # the code knows no other
  location_id = coalesce(var.firestore_location, var.region)
  type        = "FIRESTORE_NATIVE"

  concurrency_mode                  = "OPTIMISTIC"
  point_in_time_recovery_enablement = var.point_in_time_recovery ? "POINT_IN_TIME_RECOVERY_ENABLED" : "POINT_IN_TIME_RECOVERY_DISABLED"
  delete_protection_state           = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy                   = var.deletion_protection ? "ABANDON" : "DELETE"

  depends_on = [google_project_service.api]
}

resource "google_firestore_backup_schedule" "daily" {
  count = var.backup_days > 0 ? 1 : 0

  project   = var.project_id
  database  = google_firestore_database.this.name
  retention = "${var.backup_days * 86400}s"

  daily_recurrence {}
}

# Nothing is indexed unless a query needs it: an index on a large map costs a write for each of its
# entries, and one on a time limits a collection to some 500 writes a second
# (https://cloud.google.com/firestore/docs/best-practices). The provider takes "*" with an index_config
# and no ttl_config (https://github.com/GoogleCloudPlatform/magic-modules/pull/12856).
resource "google_firestore_field" "unindexed" {
  for_each = local.firestore

  project    = var.project_id
  database   = google_firestore_database.this.name
  collection = each.key
  field      = "*"

  index_config {}
}

locals {
  indexed_fields = merge([
    for collection, told in local.firestore : {
      for field in told.indexed : "${collection}.${field}" => { collection = collection, field = field }
    }
  ]...)
}

# `field == value ORDER BY __name__` needs this index and no composite one.
resource "google_firestore_field" "indexed" {
  for_each = local.indexed_fields

  project    = var.project_id
  database   = google_firestore_database.this.name
  collection = each.value.collection
  field      = each.value.field

  index_config {
    indexes {
      order       = "ASCENDING"
      query_scope = "COLLECTION"
    }
  }
}

resource "google_firestore_field" "ttl" {
  for_each = { for collection, told in local.firestore : collection => told.ttl if told.ttl != null }

  project    = var.project_id
  database   = google_firestore_database.this.name
  collection = each.key
  field      = each.value

  ttl_config {}
  index_config {}
}
