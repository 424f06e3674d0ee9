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
    var.auth, var.callers, var.consent_default, var.functions, var.prefix, var.publishers,
    var.push_service, var.runtime, var.secret_versions,
  ]
}

run "a_secret_is_not_rotated_to_nothing" {
  command = plan

  variables {
    secrets         = {}
    secret_versions = { keys = 2 }
  }

  expect_failures = [var.secrets]
}
