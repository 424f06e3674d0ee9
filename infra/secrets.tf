# Secrets are mounted as files. Their values pass through Terraform without being kept in its state:
# they are write-only, and sent when a secret is made or its number in var.secret_versions is raised.

locals {
  secret_settings = {
    identity-key    = "TAGSTITCH_IDENTITY_KEY"
    pseudonym-keys  = "TAGSTITCH_PSEUDONYM_KEYS"
    receipt-key     = "TAGSTITCH_RECEIPT_KEY"
    callbacks       = "TAGSTITCH_CALLBACKS"
    destinations    = "TAGSTITCH_DESTINATIONS"
    keys            = "TAGSTITCH_KEYS"
    signing-secrets = "TAGSTITCH_SIGNING_SECRETS"
  }

  caller_secrets = { key = ["keys"], signature = ["signing-secrets"], iam = [] }[var.auth]
  common_secrets = ["identity-key", "pseudonym-keys", "receipt-key"]

  # docs/settings.md, "Who needs what".
  secrets_of = {
    stitch_sync  = sort(concat(local.common_secrets, ["callbacks"], local.caller_secrets))
    decide       = sort(concat(local.common_secrets, local.caller_secrets))
    stitch_async = sort(concat(local.common_secrets, ["callbacks", "destinations"]))
    audit_sink   = sort(local.common_secrets)
  }
  secrets = toset(flatten(values(local.secrets_of)))

  secret_mounts = merge([
    for name, secrets in local.secrets_of : {
      for secret in secrets : "${name}/${secret}" => { function = name, secret = secret }
    }
  ]...)
}

resource "google_secret_manager_secret" "secret" {
  for_each = local.secrets

  project   = var.project_id
  secret_id = "${var.prefix}-${each.key}"

  # A version that somebody destroys by hand can be had back within a day.
  version_destroy_ttl = "86400s"

  replication {
    auto {}
  }

  depends_on = [google_project_service.api]
}

# Only the run that raises a number needs the new value, and without it that run ends here: a variable
# cannot tell that run from the ones after it, which know the number and not the value any more.
resource "terraform_data" "new_value_in_secrets" {
  for_each = { for name, version in var.secret_versions : name => version if version > 1 }

  triggers_replace = each.value

  provisioner "local-exec" {
    command = contains(keys(var.secrets), each.key) ? "exit 0" : "exit 1"
  }
}

resource "google_secret_manager_secret_version" "secret" {
  for_each = local.secrets

  secret = google_secret_manager_secret.secret[each.key].id
  # A value that was forgotten is too short for any setting: the functions refuse to start.
  secret_data_wo         = lookup(var.secrets, each.key, "missing")
  secret_data_wo_version = lookup(var.secret_versions, each.key, 1)
  deletion_policy        = "DISABLE" # the way back, when the new value was wrong

  lifecycle {
    create_before_destroy = true
  }

  depends_on = [terraform_data.new_value_in_secrets]
}

resource "google_secret_manager_secret_iam_member" "function" {
  for_each = local.secret_mounts

  project   = var.project_id
  secret_id = google_secret_manager_secret.secret[each.value.secret].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.function[each.value.function].member
}
