# terraform.tfvars.example shows the ones that most teams set.

variable "project_id" {
  description = "The Google Cloud project. It must exist and have a billing account."
  type        = string
}

variable "region" {
  description = "Where the functions, their images and the schedule are, for example europe-west1."
  type        = string
}

variable "firestore_location" {
  description = "Where the documents are: a region, or a multi-region (eur3, nam5). It can never be changed. Null means the region."
  type        = string
  default     = null
}

variable "bigquery_location" {
  description = "Where the audit table is: a region, EU or US. It can never be changed. Null means the region."
  type        = string
  default     = null
}

variable "prefix" {
  description = "What the names of functions, accounts, secrets and alerts begin with."
  type        = string
  default     = "tagstitch"

  validation {
    # An account's name has 30 characters, and "-stitch-async" needs 13 of them.
    condition     = can(regex("^[a-z][a-z0-9-]{2,15}[a-z0-9]$", var.prefix))
    error_message = "prefix must have 4 to 17 lower-case letters, digits and hyphens, and begin with a letter."
  }
}

variable "package_dir" {
  description = "Where `make package` has put the functions: <function>.zip. Null means build/ beside infra/."
  type        = string
  default     = null
}

variable "auth" {
  description = "How sGTM proves who it is: key, signature or iam (docs/settings.md, TAGSTITCH_AUTH)."
  type        = string
  default     = "key"

  validation {
    condition     = contains(["key", "signature", "iam"], var.auth)
    error_message = "auth must be key, signature or iam."
  }
}

variable "callers" {
  description = "With auth = iam, who may call stitch_sync and decide, for example serviceAccount:sgtm@my-project.iam.gserviceaccount.com."
  type        = list(string)
  default     = []

  validation {
    condition     = length(setintersection(var.callers, ["allUsers", "allAuthenticatedUsers"])) == 0
    error_message = "callers must name accounts: with auth = iam the platform is the only check there is."
  }
}

variable "publishers" {
  description = "Who may publish stitch requests besides our own functions, for example serviceAccount:crm@my-project.iam.gserviceaccount.com."
  type        = list(string)
  default     = []

  validation {
    condition     = length(setintersection(var.publishers, ["allUsers", "allAuthenticatedUsers"])) == 0
    error_message = "publishers must name accounts: what they publish counts as asserted."
  }
}

variable "consent_default" {
  description = "What holds when nothing is known of a visitor's consent: granted or denied. There is no default: somebody must decide it."
  type        = string

  validation {
    condition     = contains(["granted", "denied"], var.consent_default)
    error_message = "consent_default must be granted or denied."
  }
}

variable "audit_parameters" {
  description = "Event parameters whose old and new values the audit may hold."
  type        = list(string)
  default     = ["value", "tax", "shipping", "currency"]
}

variable "rules_refresh_s" {
  description = "Seconds after which a process looks whether the rules have changed: one read each time."
  type        = number
  default     = 10
}

variable "rate_limit" {
  description = "How often each key may ask, counted in each process (docs/settings.md, TAGSTITCH_RATE_LIMIT): off, or requests a second and how many at once, for example 50,100."
  type        = string
  default     = "off"

  validation {
    condition     = can(regex("^(off|[0-9]+([.][0-9]+)?( ?, ?[0-9]+)?)$", var.rate_limit))
    error_message = "rate_limit must be off, or numbers such as 50 or 50,100."
  }
}

variable "time_zone" {
  description = "By whose clock traits such as hour_of_day tell the hour and the day: a name of the IANA database, for example Europe/Vienna."
  type        = string
  default     = "UTC"
}

variable "otlp_endpoint" {
  description = "Where the functions send spans, for example https://collector.example.com:4318 (docs/observability.md, needs `make package OTEL=1`); empty for nowhere."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(https?://[^/@?#]+/?[^@?#]*)?$", var.otlp_endpoint))
    error_message = "otlp_endpoint must be a URL without a user, a query or a fragment, or empty."
  }
}

variable "identity" {
  description = "What the project declares about its identifiers, as JSON (docs/settings.md, TAGSTITCH_IDENTITY); empty for the defaults."
  type        = string
  default     = ""

  validation {
    condition     = var.identity == "" || can(keys(jsondecode(var.identity)))
    error_message = "identity must be a JSON object, as docs/settings.md says of TAGSTITCH_IDENTITY."
  }
}

variable "secrets" {
  description = "Values of the secrets by name, from secrets.auto.tfvars.json (python3 infra/secrets_file.py writes it). They go to Secret Manager and nowhere else, and are needed only when a secret is made or its version below is raised."
  type        = map(string)
  default     = {}
  ephemeral   = true
  sensitive   = true
}

variable "secret_versions" {
  description = "Raise a secret's number to store its new value from var.secrets, for example { keys = 2 }. The functions that read it are deployed anew."
  type        = map(number)
  default     = {}

  validation {
    condition     = !contains(keys(var.secret_versions), "identity-key")
    error_message = "The identity key is never rotated: with another one nobody is recognised any more."
  }

  validation {
    condition     = length(setsubtract(keys(var.secret_versions), ["identity-key", "pseudonym-keys", "receipt-key", "callbacks", "destinations", "keys", "signing-secrets"])) == 0
    error_message = "secret_versions knows pseudonym-keys, receipt-key, callbacks, destinations, keys and signing-secrets."
  }
}

variable "runtime" {
  description = "The functions' Python, 3.11 or newer."
  type        = string
  default     = "python311"

  validation {
    condition     = contains(["python311", "python312", "python313"], var.runtime)
    error_message = "runtime must be python311, python312 or python313 (from 3.14 on the build resolves requirements otherwise)."
  }
}

variable "functions" {
  description = "Memory, processors, requests at once in an instance, instances, and seconds to time-out of each function, where they differ from the defaults in functions.tf and topology.json. Start-up boost is always on: the platform sets it for every function."
  type = map(object({
    memory        = optional(string)
    cpu           = optional(string)
    concurrency   = optional(number)
    min_instances = optional(number)
    max_instances = optional(number)
    timeout_s     = optional(number)
  }))
  default = {}

  validation {
    condition     = length(setsubtract(keys(var.functions), ["stitch_sync", "decide", "stitch_async", "audit_sink"])) == 0
    error_message = "functions knows stitch_sync, decide, stitch_async and audit_sink."
  }
}

variable "push_service" {
  description = "The optional service by which browsers hear messages (push_service/README.md): its image, and the origins of the pages that may listen. Null for none."
  type = object({
    image   = string
    origins = set(string)
  })
  default = null

  validation {
    condition     = try(length(var.push_service.origins) > 0 && alltrue([for origin in var.push_service.origins : can(regex("^https://[a-z0-9.-]+(:[0-9]+)?$", origin))]), var.push_service == null)
    error_message = "push_service.origins must name the pages' origins as browsers write them, such as https://shop.example.com: https, no path, no pattern."
  }

  validation {
    condition     = try(can(regex("[:@]", var.push_service.image)) && !endswith(var.push_service.image, ":latest"), var.push_service == null)
    error_message = "push_service.image must name one version of the image, with a tag other than latest or a digest: another name is what deploys it anew."
  }
}

variable "deletion_protection" {
  description = "Whether profiles and the audit outlive `terraform destroy`."
  type        = bool
  default     = true
}

variable "point_in_time_recovery" {
  description = "Whether Firestore keeps every version of a document for 7 days. An erased visitor is gone from them after that."
  type        = bool
  default     = true
}

variable "backup_days" {
  description = "Days for which a daily backup of Firestore is kept, 0 for none. An erased visitor stays in them for as long."
  type        = number
  default     = 7

  validation {
    condition     = var.backup_days >= 0 && var.backup_days <= 98
    error_message = "backup_days must be 0 to 98: Firestore keeps a backup for 14 weeks at most."
  }
}

variable "audit_days" {
  description = "Days after which a day of the audit is deleted."
  type        = number
  default     = 400
}

variable "audit_readers" {
  description = "Who may query the audit, for example group:analysts@example.com."
  type        = list(string)
  default     = []

  validation {
    condition     = length(setintersection(var.audit_readers, ["allUsers", "allAuthenticatedUsers"])) == 0
    error_message = "audit_readers must name accounts: the audit is about people."
  }
}

variable "audit_archive" {
  description = "Whether a BigQuery subscription also stores each message of the topic audit as it is, for 7 days. It is a second way beside audit_sink, not one instead of it."
  type        = bool
  default     = false
}

variable "alert_emails" {
  description = "Who gets the alerts. Without anybody they show in the console only."
  type        = list(string)
  default     = []
}

variable "decide_p99_ms" {
  description = "Milliseconds that one of a hundred answers of decide may take longer than, before an alert."
  type        = number
  default     = 250
}

variable "billing_account" {
  description = "The billing account of the project, for a budget alert. Null for none."
  type        = string
  default     = null
}

variable "monthly_budget" {
  description = "What a month may cost, in the billing account's currency, before the budget alert."
  type        = number
  default     = 100
}
