# Each alert says what it means and what to do; docs/runbook.md says more.

locals {
  run     = { for name, service in local.service_name : name => "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${service}\"" }
  all_run = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=monitoring.regex.full_match(\"${var.prefix}-(${local.our_services})\")"
  backlog = { for name in keys(local.topology.subscriptions) : name => "resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${name}\"" }
  log_metric = {
    for name in keys(local.log_metrics) : name => join(" AND ", [
      "metric.type=\"logging.googleapis.com/user/${google_logging_metric.event[name].name}\"",
      "resource.type=\"${name == "failed_schedules" ? "cloud_scheduler_job" : "cloud_run_revision"}\"",
    ])
  }

  alerts = {
    # By what arrives, not by what is published: what Pub/Sub itself forwards counts too.
    dead_letters = {
      title     = "Messages become dead letters"
      severity  = "WARNING"
      filter    = "${local.backlog["dead-letter-push"]} AND metric.type=\"pubsub.googleapis.com/subscription/push_request_count\""
      aligner   = "ALIGN_DELTA"
      reducer   = "REDUCE_SUM"
      threshold = 0
      minutes   = 0
      text      = "Somebody publishes messages that nobody understands, an endpoint refuses callbacks for good, or a handler fails time and again. `tagstitch deadletters list` says what and why. Mend the cause, then `tagstitch deadletters replay ID`. They are kept for 7 days."
    }
    dead_letters_unread = {
      title     = "Dead letters are not stored"
      severity  = "CRITICAL"
      filter    = "${local.backlog["dead-letter-push"]} AND metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\""
      aligner   = "ALIGN_MAX"
      reducer   = "REDUCE_MAX"
      threshold = 900
      minutes   = 5
      text      = "audit_sink does not take what is in `dead-letter`: after 7 days it is lost. Look at its log for request_failed and at Firestore's state."
    }
    audit_lag = {
      title     = "The audit lags behind"
      severity  = "WARNING"
      filter    = "${local.backlog["audit-push"]} AND metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\""
      aligner   = "ALIGN_MAX"
      reducer   = "REDUCE_MAX"
      threshold = 600
      minutes   = 5
      text      = "audit_sink cannot append, or not fast enough. Nothing is lost for 7 days. Look at its log, at BigQuery's quotas, and at its instances: raise max_instances of audit_sink when all of them are busy."
    }
    stitch_lag = {
      title     = "Stitching lags behind"
      severity  = "WARNING"
      filter    = "${local.backlog["stitch-requests-push"]} AND metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\""
      aligner   = "ALIGN_MAX"
      reducer   = "REDUCE_MAX"
      threshold = 300
      minutes   = 5
      text      = "A stitched result is of use for 10 minutes; links are made however late. Look at the log of stitch_async, at Firestore's state, and raise max_instances of stitch_async when all of them are busy."
    }
    callback_failures = {
      title       = "Callbacks fail again and again"
      severity    = "WARNING"
      filter      = "${local.backlog["actions-push"]} AND metric.type=\"pubsub.googleapis.com/subscription/push_request_count\" AND metric.labels.response_class!=\"ack\""
      denominator = "${local.backlog["actions-push"]} AND metric.type=\"pubsub.googleapis.com/subscription/push_request_count\""
      aligner     = "ALIGN_DELTA"
      reducer     = "REDUCE_SUM"
      threshold   = 0.5
      minutes     = 10
      text        = "Half of the further attempts of callbacks and actions fail, so an endpoint is down or slower than 5 seconds. The view callback_health_hourly says which. Linking goes on meanwhile; results expire after 10 minutes. (First attempts do not count here: they are made by stitch_async at once.)"
    }
    disabled_endpoint = {
      title     = "An endpoint is gone"
      severity  = "ERROR"
      filter    = local.log_metric["disabled_endpoints"]
      aligner   = "ALIGN_DELTA"
      reducer   = "REDUCE_SUM"
      threshold = 0
      minutes   = 0
      text      = "An endpoint answered 410: nothing is sent to it any more, and what comes for it becomes a dead letter. `endpoint` in the log's endpoint_disabled names it. Mend it, then `tagstitch deadletters replay ID`: a replay that arrives enables it again."
    }
    decide_slow = {
      title     = "decide is slow"
      severity  = "WARNING"
      filter    = "${local.run["decide"]} AND metric.type=\"run.googleapis.com/request_latencies\""
      aligner   = "ALIGN_PERCENTILE_99"
      reducer   = "REDUCE_MAX"
      threshold = var.decide_p99_ms
      minutes   = 5
      text      = "One of a hundred answers takes longer than decide_p99_ms. Cold starts: raise min_instances of decide. All instances busy: raise max_instances, or lower concurrency. Firestore slow: answers say `degraded` within their deadline, and events pass unchanged."
    }
    server_errors = {
      title       = "Functions fail"
      severity    = "CRITICAL"
      filter      = "${local.all_run} AND metric.type=\"run.googleapis.com/request_count\" AND metric.labels.response_code_class=\"5xx\""
      denominator = "${local.all_run} AND metric.type=\"run.googleapis.com/request_count\""
      aligner     = "ALIGN_DELTA"
      reducer     = "REDUCE_SUM"
      threshold   = 0.05
      minutes     = 5
      text        = "More than one in twenty requests ends with 5xx. 503 is a service behind it that is gone or slow: messages are delivered again. 500 is a bug: the log's line request_failed has where. After a deployment, deploy the release before it."
    }
    crashes = {
      title     = "A function meets a bug"
      severity  = "ERROR"
      filter    = local.log_metric["crashes"]
      aligner   = "ALIGN_DELTA"
      reducer   = "REDUCE_SUM"
      threshold = 0
      minutes   = 0
      text      = "The log has a line of severity ERROR with the exception's name and where it passed, without anybody's data. A message that meets a bug every time becomes a dead letter."
    }
    stale_rules = {
      title     = "decide works with stale rules"
      severity  = "WARNING"
      filter    = local.log_metric["stale_rules"]
      aligner   = "ALIGN_DELTA"
      reducer   = "REDUCE_SUM"
      threshold = 5
      minutes   = 0
      text      = "Instances cannot load the rule book and go on with the one they have; new instances let events pass unchanged. Look at `why` in the log's refresh_failed, and at `tagstitch rules status`."
    }
    unpublished_rules = {
      title     = "Edited rules are not published"
      severity  = "WARNING"
      filter    = local.log_metric["unpublished_rules"]
      aligner   = "ALIGN_DELTA"
      reducer   = "REDUCE_SUM"
      threshold = 0
      minutes   = 0
      text      = "The sweep found rules in the store that it did not publish; the log's rules_refused or rules_not_published says why. An emptied store is published only by `tagstitch rules publish --allow-empty`."
    }
    audit_fallback = {
      title     = "Audit records leave through the log"
      severity  = "ERROR"
      filter    = local.log_metric["audit_fallback"]
      aligner   = "ALIGN_DELTA"
      reducer   = "REDUCE_SUM"
      threshold = 0
      minutes   = 0
      text      = "decide could not publish to `audit` in time. Export the lines AUDIT_FALLBACK from the log and load them with `tagstitch audit load FILE`, within the days that the log is kept."
    }
    stuck_erasures = {
      title     = "An erasure does not come to its end"
      severity  = "ERROR"
      filter    = local.log_metric["stuck_erasures"]
      aligner   = "ALIGN_DELTA"
      reducer   = "REDUCE_SUM"
      threshold = 3
      minutes   = 0
      text      = "The sweep tries again each minute; the person is gone from lookups and decisions already. Look at `why` in the log's erasure_left_to_next_sweep: mostly a store that does not answer, or a role that stitch_async lacks on the table audit. `tagstitch identity erasure-proof` says what is left."
    }
    failed_sweep = {
      title     = "The sweep does not run"
      severity  = "ERROR"
      filter    = local.log_metric["failed_schedules"]
      aligner   = "ALIGN_DELTA"
      reducer   = "REDUCE_SUM"
      threshold = 3
      minutes   = 0
      text      = "What was committed and not published stays so, and edited rules are not published, until the sweep runs again. Look at the job's log for the answer of stitch_async: 401 means TAGSTITCH_PUSH_ACCOUNTS or the audience do not fit, 403 the invoker."
    }
    refused_callers = {
      title     = "Many callers are refused"
      severity  = "WARNING"
      filter    = local.log_metric["refused_signatures"]
      aligner   = "ALIGN_DELTA"
      reducer   = "REDUCE_SUM"
      threshold = 100
      minutes   = 0
      text      = "Over 100 answers 401 in 5 minutes: a rotated key that sGTM does not have yet, a clock that is wrong, or somebody who tries keys."
    }
  }
}

resource "google_monitoring_notification_channel" "email" {
  for_each = toset(var.alert_emails)

  project      = var.project_id
  display_name = "Tagstitch: ${each.key}"
  type         = "email"
  labels       = { email_address = each.key }

  depends_on = [google_project_service.api]
}

resource "google_monitoring_alert_policy" "alert" {
  for_each = local.alerts

  project               = var.project_id
  display_name          = "${var.prefix}: ${each.value.title}"
  severity              = each.value.severity
  combiner              = "OR"
  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]

  conditions {
    display_name = each.value.title

    condition_threshold {
      filter             = each.value.filter
      denominator_filter = lookup(each.value, "denominator", null)
      comparison         = "COMPARISON_GT"
      threshold_value    = each.value.threshold
      duration           = "${each.value.minutes * 60}s"

      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = each.value.aligner
        cross_series_reducer = each.value.reducer
      }

      dynamic "denominator_aggregations" {
        for_each = contains(keys(each.value), "denominator") ? [each.value] : []
        content {
          alignment_period     = "300s"
          per_series_aligner   = each.value.aligner
          cross_series_reducer = each.value.reducer
        }
      }

      trigger {
        count = 1
      }
    }
  }

  alert_strategy {
    auto_close = "3600s"
  }

  documentation {
    subject   = "${var.prefix}: ${each.value.title}"
    content   = each.value.text
    mime_type = "text/markdown"
  }
}
