# `terraform test` in infra/, with the real provider or the stub: nothing is asked of Google Cloud.
# What these runs cannot say stands in policies.py.

mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
  mock_resource "google_cloudfunctions2_function" {
    defaults = { service_config = { uri = "https://function.example.run.app" } }
  }
}

variables {
  project_id      = "my-project"
  region          = "europe-west1"
  consent_default = "denied"
  secrets = {
    identity-key   = "a value of a test, long enough"
    pseudonym-keys = "k1:a-value-of-a-test-long-enough"
    receipt-key    = "a value of a test, long enough"
    keys           = "[]"
    callbacks      = "[]"
    destinations   = "[]"
  }
}

run "a_deployment_from_nothing" {
  command = apply

  assert {
    condition = alltrue([
      for name, subscription in google_pubsub_subscription.push :
      subscription.push_config[0].push_endpoint == "https://function.example.run.app${local.topology.subscriptions[name].path}"
    ])
    error_message = "A subscription pushes to another address than its function's."
  }

  assert {
    condition     = google_cloud_scheduler_job.job["sweep"].http_target[0].uri == "https://function.example.run.app/sweep"
    error_message = "The schedule calls another address."
  }

  assert {
    condition     = google_cloud_scheduler_job.job["sweep"].schedule == "* * * * *"
    error_message = "The sweep does not run each minute."
  }

  assert {
    condition     = output.decide_url == "https://function.example.run.app" && output.stitch_sync_url == output.decide_url
    error_message = "The outputs do not give the addresses for sGTM."
  }

  assert {
    condition     = alltrue([for version in google_secret_manager_secret_version.secret : version.secret_data_wo == null])
    error_message = "A secret's value is in the state."
  }

  assert {
    condition     = google_firestore_database.this.delete_protection_state == "DELETE_PROTECTION_ENABLED" && google_bigquery_table.audit.deletion_protection
    error_message = "Profiles or the audit may be deleted by mistake."
  }
}

run "browsers_listen_at_a_service_of_their_own" {
  command = apply

  variables {
    push_service = { image = "registry/push:1", origins = ["https://shop.example.com"] }
  }

  assert {
    condition     = output.push_url != null && length(google_cloud_run_v2_service_iam_binding.browsers) == 1
    error_message = "There is no push service, or nobody may call it."
  }
}

run "no_page_is_everybodys" {
  command = plan

  variables {
    push_service = { image = "registry/push:1", origins = ["https://*.example.com"] }
  }

  expect_failures = [var.push_service]
}

run "a_time_out_may_be_chosen" {
  command = plan

  variables {
    functions = { decide = { timeout_s = 5 }, stitch_async = { timeout_s = 50 } }
  }

  assert {
    condition     = google_cloudfunctions2_function.function["decide"].service_config[0].timeout_seconds == 5
    error_message = "decide has another time-out than the chosen one."
  }

  assert {
    condition     = google_cloud_scheduler_job.job["sweep"].attempt_deadline == "50s"
    error_message = "The schedule gives up before the function does."
  }
}

run "a_worker_does_not_outlive_its_ack_deadline" {
  command = plan

  variables {
    functions = { stitch_async = { timeout_s = 60 } }
  }

  expect_failures = [google_cloudfunctions2_function.function]
}

run "a_worker_outlives_its_handler" {
  command = plan

  variables {
    functions = { audit_sink = { timeout_s = 35 } }
  }

  expect_failures = [google_cloudfunctions2_function.function]
}

run "a_secret_is_rotated_with_its_new_value" {
  command = plan

  variables {
    secret_versions = { keys = 2 }
  }

  assert {
    condition     = google_secret_manager_secret_version.secret["keys"].secret_data_wo_version == 2
    error_message = "The new value is not sent."
  }
}

# Each of these is refused on its own; they stand together because a run takes seconds.
run "nothing_unsafe_or_mistyped_is_accepted" {
  command = plan

  variables {
    audit_readers   = ["allAuthenticatedUsers"]
    auth            = "none"
    callers         = ["allUsers"]
    consent_default = "unknown"
    functions       = { stich_sync = { memory = "1Gi" } }
    prefix          = "a-name-that-is-too-long-for-an-account"
    publishers      = ["allAuthenticatedUsers"]
    push_service    = { image = "registry/push:latest", origins = ["*"] }
    runtime         = "python39"
    secret_versions = { identity-key = 2 } # it is never rotated
  }

  expect_failures = [
    var.audit_readers, var.auth, var.callers, var.consent_default, var.functions, var.prefix, var.publishers,
    var.push_service, var.runtime, var.secret_versions,
  ]
}

run "no_secret_of_another_name_is_rotated" {
  command = plan

  variables {
    secret_versions = { kyes = 2 }
  }

  expect_failures = [var.secret_versions]
}
