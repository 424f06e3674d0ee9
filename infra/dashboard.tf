locals {
  charts = [
    { title = "Requests a second", unit = "1/s", series = [{ filter = "${local.all_run} AND metric.type=\"run.googleapis.com/request_count\"", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = "resource.label.service_name" }] },
    { title = "Answers by status", unit = "1/s", series = [{ filter = "${local.all_run} AND metric.type=\"run.googleapis.com/request_count\"", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = "metric.label.response_code_class" }] },
    { title = "decide: p50, p99 in milliseconds", unit = "ms", series = [for p in ["50", "99"] : { legend = "p${p}", filter = "${local.run["decide"]} AND metric.type=\"run.googleapis.com/request_latencies\"", aligner = "ALIGN_PERCENTILE_${p}", reducer = "REDUCE_MAX", by = "resource.label.service_name" }] },
    { title = "stitch_sync: p50, p99 in milliseconds", unit = "ms", series = [for p in ["50", "99"] : { legend = "p${p}", filter = "${local.run["stitch_sync"]} AND metric.type=\"run.googleapis.com/request_latencies\"", aligner = "ALIGN_PERCENTILE_${p}", reducer = "REDUCE_MAX", by = "resource.label.service_name" }] },
    { title = "Instances", unit = "1", series = [{ filter = "${local.all_run} AND metric.type=\"run.googleapis.com/container/instance_count\"", aligner = "ALIGN_MAX", reducer = "REDUCE_SUM", by = "resource.label.service_name" }] },
    { title = "Memory in use, share of the limit (p99)", unit = "10^2.%", series = [{ filter = "${local.all_run} AND metric.type=\"run.googleapis.com/container/memory/utilizations\"", aligner = "ALIGN_PERCENTILE_99", reducer = "REDUCE_MAX", by = "resource.label.service_name" }] },
    { title = "Age of the oldest message in seconds", unit = "s", series = [{ filter = "resource.type=\"pubsub_subscription\" AND metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\"", aligner = "ALIGN_MAX", reducer = "REDUCE_MAX", by = "resource.label.subscription_id" }] },
    { title = "Messages waiting", unit = "1", series = [{ filter = "resource.type=\"pubsub_subscription\" AND metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\"", aligner = "ALIGN_MAX", reducer = "REDUCE_SUM", by = "resource.label.subscription_id" }] },
    { title = "Messages published a second", unit = "1/s", series = [{ filter = "resource.type=\"pubsub_topic\" AND metric.type=\"pubsub.googleapis.com/topic/send_message_operation_count\"", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = "resource.label.topic_id" }] },
    { title = "Pushes by outcome", unit = "1/s", series = [{ filter = "resource.type=\"pubsub_subscription\" AND metric.type=\"pubsub.googleapis.com/subscription/push_request_count\"", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = "metric.label.response_class" }] },
    { title = "Documents read and written a second", unit = "1/s", series = [for kind in ["read", "write"] : { legend = kind, filter = "resource.type=\"firestore.googleapis.com/Database\" AND metric.type=\"firestore.googleapis.com/document/${kind}_ops_count\"", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = "resource.label.database_id" }] },
    { title = "What the log counts, in 5 minutes", unit = "1", series = [for name in sort(keys(local.log_metrics)) : { filter = local.log_metric[name], aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = null, legend = name }] },
  ]
}

resource "google_monitoring_dashboard" "this" {
  project = var.project_id
  dashboard_json = jsonencode({
    displayName = "Tagstitch (${var.prefix})"
    mosaicLayout = {
      columns = 12
      tiles = [
        for position, chart in local.charts : {
          xPos   = position % 2 * 6
          yPos   = floor(position / 2) * 4
          width  = 6
          height = 4
          widget = {
            title = chart.title
            xyChart = {
              dataSets = [
                for series in chart.series : {
                  plotType       = "LINE"
                  legendTemplate = lookup(series, "legend", "$${${series.by == null ? "metric.type" : replace(series.by, ".label.", ".labels.")}}")
                  timeSeriesQuery = {
                    unitOverride = chart.unit
                    timeSeriesFilter = {
                      filter = series.filter
                      aggregation = {
                        alignmentPeriod    = "300s"
                        perSeriesAligner   = series.aligner
                        crossSeriesReducer = series.reducer
                        groupByFields      = compact([series.by])
                      }
                    }
                  }
                }
              ]
            }
          }
        }
      ]
    }
  })

  depends_on = [google_project_service.api]
}
