# Optional: browsers listen here to the messages of push_message (push_service/README.md). It reads
# documents, and everybody may reach it: its own check is the token that a decision gave the page.

locals {
  push_services = var.push_service == null ? {} : { for name, told in local.topology.services : name => merge(told, var.push_service) }

  push_secrets = {
    for pair in setproduct(keys(local.push_services), local.common_secrets) :
    "${pair[0]}/${pair[1]}" => { service = pair[0], secret = pair[1] }
  }
}

resource "google_service_account" "service" {
  for_each = local.push_services

  project      = var.project_id
  account_id   = "${var.prefix}-${replace(each.key, "_", "-")}"
  display_name = "Tagstitch: the service ${each.key}"

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "service_reads" {
  for_each = local.push_services

  project = var.project_id
  role    = "projects/${var.project_id}/roles/${google_project_iam_custom_role.firestore["reader"].role_id}"
  member  = google_service_account.service[each.key].member

  condition {
    title      = "This database only"
    expression = "resource.name == \"projects/${var.project_id}/databases/${google_firestore_database.this.name}\""
  }
}

resource "google_secret_manager_secret_iam_member" "service" {
  for_each = local.push_secrets

  project   = var.project_id
  secret_id = google_secret_manager_secret.secret[each.value.secret].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.service[each.value.service].member
}

resource "google_cloud_run_v2_service" "service" {
  for_each = local.push_services

  project             = var.project_id
  location            = var.region
  name                = "${var.prefix}-${replace(each.key, "_", "-")}"
  description         = "Tagstitch: ${each.key}"
  ingress             = "INGRESS_TRAFFIC_ALL" # browsers
  deletion_protection = false                 # it holds nothing

  template {
    service_account                  = google_service_account.service[each.key].email
    timeout                          = "${each.value.timeout_s}s"
    max_instance_request_concurrency = each.value.concurrency

    scaling {
      min_instance_count = 0
      max_instance_count = each.value.max_instances
    }

    containers {
      image = each.value.image

      resources {
        limits            = { cpu = "1", memory = "512Mi" }
        cpu_idle          = true # an open connection counts as a request, so nothing listens without it
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = merge(
          {
            TAGSTITCH_BACKEND         = "cloud"
            TAGSTITCH_PROJECT         = var.project_id
            TAGSTITCH_AUTH            = "iam" # no key: the token is what it looks at
            TAGSTITCH_CONSENT_DEFAULT = var.consent_default
            TAGSTITCH_IDENTITY        = var.identity
            TAGSTITCH_PUSH_ORIGINS    = join(",", sort(each.value.origins))
          },
          { for secret in local.common_secrets : local.secret_settings[secret] => "/secrets/${secret}/value" },
        )
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "volume_mounts" {
        for_each = toset(local.common_secrets)
        content {
          name       = volume_mounts.value
          mount_path = "/secrets/${volume_mounts.value}"
        }
      }
    }

    dynamic "volumes" {
      for_each = toset(local.common_secrets)
      content {
        name = volumes.value
        secret {
          secret = google_secret_manager_secret.secret[volumes.value].secret_id
          items {
            # A number, not "latest": a new value starts a new revision.
            version = google_secret_manager_secret_version.secret[volumes.value].version
            path    = "value"
          }
        }
      }
    }
  }

  depends_on = [
    google_project_iam_member.service_reads,
    google_secret_manager_secret_iam_member.service,
  ]
}

# The whole list of who may call it.
resource "google_cloud_run_v2_service_iam_binding" "browsers" {
  for_each = local.push_services

  project  = var.project_id
  location = var.region
  name     = google_cloud_run_v2_service.service[each.key].name
  role     = "roles/run.invoker"
  members  = ["allUsers"]
}
