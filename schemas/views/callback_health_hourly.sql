-- How the callbacks to each registered endpoint ended, by hour (UTC). `extra.callback` is the
-- endpoint's id.
SELECT
  TIMESTAMP_TRUNC(occurred_at, HOUR) AS hour,
  JSON_VALUE(extra, '$.callback') AS callback,
  COUNT(*) AS callbacks,
  COUNTIF(outcome = 'delivered') AS delivered,
  COUNTIF(outcome = 'expired') AS expired,
  COUNTIF(outcome = 'rejected') AS rejected,
  COUNTIF(outcome NOT IN ('delivered', 'expired', 'rejected')) AS other,
  SAFE_DIVIDE(COUNTIF(outcome = 'delivered'), COUNT(*)) AS delivered_share,
  AVG(latency_ms) AS latency_ms_average,
  MAX(latency_ms) AS latency_ms_max
FROM `${dataset}.audit_deduplicated`
WHERE record_type = 'callback_delivery'
GROUP BY hour, callback
