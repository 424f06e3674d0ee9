# `make package` makes the archives; their content names the object, so that only a function whose
# sources have changed is built anew.

locals {
  package_dir = coalesce(var.package_dir, "${path.module}/../build")

  # A processor of its own is what allows more than one request at once. Each process holds the rule
  # book (100,000 rules take some 250 MB) and 50,000 profile hints (15 MB).
  defaults = {
    stitch_sync  = { memory = "512Mi", cpu = "1", concurrency = 80, min_instances = 1, max_instances = 20 }
    decide       = { memory = "1Gi", cpu = "1", concurrency = 80, min_instances = 1, max_instances = 20 }
    stitch_async = { memory = "512Mi", cpu = "1", concurrency = 40, min_instances = 0, max_instances = 10 }
    audit_sink   = { memory = "512Mi", cpu = "1", concurrency = 40, min_instances = 0, max_instances = 10 }
  }
  sizes = {
    for name, default in local.defaults : name => {
      for key, value in merge(default, { timeout_s = local.topology.functions[name].timeout_s }) :
      key => try(coalesce(var.functions[name][key], value), value)
    }
  }

  # The ack deadlines of what is pushed to a function.
  ack_deadlines = {
    for name in keys(local.topology.functions) :
    name => [for s in values(local.topology.subscriptions) : s.ack_deadline_s if s.function == name]
  }

  # The platform accepts a function's cloudfunctions.net address as the audience of a token, and that
  # address is known before the function is there.
  audience = {
    for name, service in local.service_name :
    name => "https://${var.region}-${var.project_id}.cloudfunctions.net/${service}"
  }

  environment = merge(local.spans, {
    TAGSTITCH_BACKEND         = "cloud"
    TAGSTITCH_PROJECT         = var.project_id
    TAGSTITCH_CONSENT_DEFAULT = var.consent_default
    TAGSTITCH_DATASET         = google_bigquery_dataset.audit.dataset_id
    TAGSTITCH_RULES_REFRESH_S = tostring(var.rules_refresh_s)
    TAGSTITCH_TIME_ZONE       = var.time_zone
    TAGSTITCH_IDENTITY        = var.identity
    LOG_EXECUTION_ID          = "false" # our own lines name the request
  })

  spans = var.otlp_endpoint == "" ? {} : { OTEL_EXPORTER_OTLP_ENDPOINT = var.otlp_endpoint }
  environment_of = {
    for name, function in local.topology.functions : name => merge(
      local.environment,
      # The workers look at the identity of who pushes, and at no key.
      function.public ? {
        TAGSTITCH_AUTH             = var.auth
        TAGSTITCH_AUDIT_PARAMETERS = join(",", var.audit_parameters)
        TAGSTITCH_RATE_LIMIT       = var.rate_limit
        } : {
        TAGSTITCH_AUTH          = "iam"
        TAGSTITCH_PUSH_AUDIENCE = local.audience[name]
        TAGSTITCH_PUSH_ACCOUNTS = join(",", sort([for kind in local.invokers[name] : google_service_account.caller[kind].email]))
      },
      { for secret in local.secrets_of[name] : local.secret_settings[secret] => "/secrets/${secret}/value" },
    )
  }

  # Who calls a worker: push subscriptions, schedules, or both.
  invokers = {
    for name in keys(local.topology.functions) : name => compact([
      anytrue([for s in values(local.topology.subscriptions) : s.function == name]) ? "push" : "",
      anytrue([for s in values(local.topology.schedules) : s.function == name]) ? "schedule" : "",
    ])
  }
}

resource "google_storage_bucket" "sources" {
  project                     = var.project_id
  name                        = "${var.project_id}-${var.prefix}-sources"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true # what is in it comes from this checkout

  lifecycle_rule {
    condition {
      age        = 30
      with_state = "ANY"
    }
    action {
      type = "Delete"
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_storage_bucket_object" "source" {
  for_each = local.topology.functions

  bucket = google_storage_bucket.sources.name
  name   = "${each.key}-${filesha256("${local.package_dir}/${each.key}.zip")}.zip"
  source = "${local.package_dir}/${each.key}.zip"
}

resource "google_artifact_registry_repository" "images" {
  project       = var.project_id
  location      = var.region
  repository_id = "${var.prefix}-functions"
  description   = "Images of the functions, made by their builds."
  format        = "DOCKER"

  cleanup_policies {
    id     = "keep-the-last-five"
    action = "KEEP"
    most_recent_versions {
      keep_count = 5
    }
  }
  cleanup_policies {
    id     = "delete-after-30-days"
    action = "DELETE"
    condition {
      older_than = "2592000s"
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_cloudfunctions2_function" "function" {
  for_each = local.topology.functions

  project     = var.project_id
  location    = var.region
  name        = local.service_name[each.key]
  description = "Tagstitch: ${each.key}"

  build_config {
    runtime           = var.runtime
    entry_point       = each.key
    docker_repository = google_artifact_registry_repository.images.id
    service_account   = google_service_account.build.id

    source {
      storage_source {
        bucket = google_storage_bucket.sources.name
        object = google_storage_bucket_object.source[each.key].name
      }
    }
  }

  service_config {
    available_memory                 = local.sizes[each.key].memory
    available_cpu                    = local.sizes[each.key].cpu
    max_instance_request_concurrency = local.sizes[each.key].concurrency
    min_instance_count               = local.sizes[each.key].min_instances
    max_instance_count               = local.sizes[each.key].max_instances
    timeout_seconds                  = local.sizes[each.key].timeout_s
    service_account_email            = google_service_account.function[each.key].email
    all_traffic_on_latest_revision   = true

    # Pub/Sub and the schedule of the same project count as internal.
    ingress_settings = each.value.public ? "ALLOW_ALL" : "ALLOW_INTERNAL_ONLY"

    environment_variables = local.environment_of[each.key]

    dynamic "secret_volumes" {
      for_each = local.secrets_of[each.key]
      content {
        mount_path = "/secrets/${secret_volumes.value}"
        project_id = var.project_id
        secret     = google_secret_manager_secret.secret[secret_volumes.value].secret_id
        versions {
          # A number, not "latest": a new value deploys the function anew.
          version = google_secret_manager_secret_version.secret[secret_volumes.value].version
          path    = "value"
        }
      }
    }
  }

  lifecycle {
    precondition {
      condition     = each.value.public || (local.sizes[each.key].timeout_s > 35 && alltrue([for s in local.ack_deadlines[each.key] : s > local.sizes[each.key].timeout_s]))
      error_message = "timeout_s of a worker is above the 35 seconds that its handler gives itself and below the ack deadlines in topology.json: otherwise a message comes again while it is worked on."
    }
  }

  depends_on = [
    google_artifact_registry_repository_iam_member.build,
    google_project_iam_member.build,
    google_project_iam_member.firestore,
    google_secret_manager_secret_iam_member.function,
  ]
}

# The whole list of who may call a function. Where the function itself checks a key or a signature,
# the platform lets everybody through to that check.
resource "google_cloud_run_service_iam_binding" "invoker" {
  for_each = {
    for name, function in local.topology.functions : name => (
      !function.public ? [for kind in local.invokers[name] : google_service_account.caller[kind].member] :
      var.auth == "iam" ? var.callers : ["allUsers"]
    )
  }

  project  = var.project_id
  location = var.region
  service  = google_cloudfunctions2_function.function[each.key].name
  role     = "roles/run.invoker"
  members  = each.value
}
