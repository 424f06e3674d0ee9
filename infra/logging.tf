# The platform's request logs hold whole addresses. A lookup by GET has identifiers in its query
# string, and a browser that listens has a token there, which opens a visitor's messages.
resource "google_logging_project_exclusion" "lookups" {
  project     = var.project_id
  name        = "${var.prefix}-lookup-requests"
  description = "Identifiers and tokens in query strings stay out of the log."
  filter = join(" AND ", [
    "resource.type=\"cloud_run_revision\"",
    "resource.labels.service_name=(\"${local.service_name["stitch_sync"]}\" OR \"${var.prefix}-push-service\")",
    "log_id(\"run.googleapis.com/requests\")",
  ])

  depends_on = [google_project_service.api]
}

locals {
  our_services = join("|", [for name in concat(keys(local.topology.functions), keys(local.topology.services)) : replace(name, "_", "-")])

  our_lines = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=~\"^${var.prefix}-(${local.our_services})$\""

  # Our lines have a fixed name of what happened in `message`. tagstitch/pipeline/log_metrics.py has
  # the same list; no metric has a label, since a field's values have no end.
  log_metrics = {
    audit_fallback     = "${local.our_lines} AND jsonPayload.message=\"AUDIT_FALLBACK\""
    dead_letters       = "${local.our_lines} AND jsonPayload.message=(\"dead_letter\" OR \"dead_letter_left_to_subscription\" OR \"dead_letter_record_refused\")"
    disabled_endpoints = "${local.our_lines} AND jsonPayload.message=\"endpoint_disabled\""
    stale_rules        = "${local.our_lines} AND jsonPayload.message=(\"refresh_failed\" OR \"refresh_crashed\") AND jsonPayload.of=\"rules\""
    unpublished_rules  = "${local.our_lines} AND jsonPayload.message=(\"rules_refused\" OR \"rules_not_published\" OR \"rules_crashed\")"
    crashes            = "${local.our_lines} AND severity>=ERROR AND jsonPayload.message=(\"request_failed\" OR \"opening_failed\" OR \"refresh_crashed\" OR \"rules_crashed\" OR \"erasure_crashed\" OR \"trait_fold_failed\" OR \"push_stream_crashed\")"
    stuck_erasures     = "${local.our_lines} AND jsonPayload.message=(\"erasures_not_looked_for\" OR \"erasure_left_to_next_sweep\" OR \"erasure_crashed\")"
    left_to_sweep      = "${local.our_lines} AND jsonPayload.message=\"swept\""
    failed_schedules   = "resource.type=\"cloud_scheduler_job\" AND resource.labels.job_id=~\"^${var.prefix}-(${join("|", keys(local.topology.schedules))})$\" AND severity>=ERROR"
    refused_signatures = "${local.our_lines} AND jsonPayload.message=\"request\" AND jsonPayload.status=401"
  }
}

resource "google_logging_metric" "event" {
  for_each = local.log_metrics

  project     = var.project_id
  name        = "${var.prefix}/${each.key}"
  description = "Lines of the log: ${replace(each.key, "_", " ")}."
  filter      = each.value

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
  }

  depends_on = [google_project_service.api]
}
