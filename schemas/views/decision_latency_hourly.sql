-- How long decisions took, by hour (UTC) and kind. Percentiles are approximate.
SELECT
  TIMESTAMP_TRUNC(occurred_at, HOUR) AS hour,
  record_type,
  COUNT(*) AS decisions,
  COUNTIF(ARRAY_LENGTH(degraded) > 0) AS degraded_decisions,
  APPROX_QUANTILES(latency_ms, 100)[OFFSET(50)] AS latency_ms_p50,
  APPROX_QUANTILES(latency_ms, 100)[OFFSET(95)] AS latency_ms_p95,
  APPROX_QUANTILES(latency_ms, 100)[OFFSET(99)] AS latency_ms_p99,
  MAX(latency_ms) AS latency_ms_max
FROM `${dataset}.audit_deduplicated`
WHERE record_type IN ('event_decision', 'personalization_decision') AND latency_ms IS NOT NULL
GROUP BY hour, record_type
