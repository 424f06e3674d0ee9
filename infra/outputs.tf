output "stitch_sync_url" {
  description = "The lookup URL for the sGTM templates."
  value       = google_cloudfunctions2_function.function["stitch_sync"].service_config[0].uri
}

output "decide_url" {
  description = "The decision URL for the sGTM templates."
  value       = google_cloudfunctions2_function.function["decide"].service_config[0].uri
}

output "push_url" {
  description = "Where browsers listen, when there is a push service."
  value       = one([for service in google_cloud_run_v2_service.service : service.uri])
}

output "images" {
  description = "Where images of the project are kept: that of the push service goes there too."
  value       = "${var.region}-docker.pkg.dev/${var.project_id}/${google_artifact_registry_repository.images.repository_id}"
}

output "stitch_requests_topic" {
  description = "Where var.publishers publish stitch requests."
  value       = google_pubsub_topic.topic["stitch-requests"].id
}

output "dataset" {
  description = "The audit's dataset in BigQuery."
  value       = local.dataset
}

output "dashboard" {
  description = "The dashboard in Cloud Monitoring."
  value       = "https://console.cloud.google.com/monitoring/dashboards?project=${var.project_id}"
}

output "settings" {
  description = "What the command line needs in its environment to work on this project (besides the three common keys, which it reads from files as the functions do)."
  value = {
    TAGSTITCH_BACKEND         = "cloud"
    TAGSTITCH_PROJECT         = var.project_id
    TAGSTITCH_DATASET         = google_bigquery_dataset.audit.dataset_id
    TAGSTITCH_CONSENT_DEFAULT = var.consent_default
    TAGSTITCH_AUTH            = "iam"
    TAGSTITCH_TIME_ZONE       = var.time_zone
    TAGSTITCH_IDENTITY        = var.identity
  }
}
