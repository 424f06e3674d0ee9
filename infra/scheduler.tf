resource "google_cloud_scheduler_job" "job" {
  for_each = local.topology.schedules

  project          = var.project_id
  region           = var.region
  name             = "${var.prefix}-${each.key}"
  description      = "POST ${each.value.path} of ${each.value.function}, every ${each.value.every_s} seconds"
  schedule         = each.value.every_s == 60 ? "* * * * *" : "*/${each.value.every_s / 60} * * * *"
  time_zone        = "Etc/UTC"
  attempt_deadline = "${local.sizes[each.value.function].timeout_s}s"

  retry_config {
    retry_count = 0 # the next run does what this one left
  }

  http_target {
    http_method = "POST"
    uri         = "${google_cloudfunctions2_function.function[each.value.function].service_config[0].uri}${each.value.path}"

    oidc_token {
      service_account_email = google_service_account.caller["schedule"].email
      audience              = local.audience[each.value.function]
    }
  }

  lifecycle {
    precondition {
      condition     = each.value.every_s >= 60 && each.value.every_s % 60 == 0 && each.value.every_s < 3600
      error_message = "A schedule runs every so many whole minutes, below an hour."
    }
  }

  depends_on = [google_cloud_run_service_iam_binding.invoker]
}
