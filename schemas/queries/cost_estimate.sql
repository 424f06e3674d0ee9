-- What a month cost by function, estimated from the records that it left. It reads the table itself,
-- not the view, because a row that was stored twice is paid for twice.
-- ${first_day}: the month's first day, as in 2026-11-01; ${lookups}: the lookups of that month, which
-- leave no record (the dashboard counts stitch_sync's requests); ${definitions}: the rules,
-- experiments, audiences, views and traits in the store.
-- Change `prices` to those of your region, `awake` to your min_instances, and `work` to what
-- `python -m bench.cost` counts. The free tiers, queries, the log and the deletes of what expires are
-- left out. Three things are estimated from above: a decision that gave an action counts as one that
-- changed the visitor's state, each decision as a message of its own, though busy instances send
-- several in one, and an instance that is kept awake as idle all the time.
WITH
  prices AS (
    SELECT
      0.06 / 100000 AS document_read,
      0.18 / 100000 AS document_write,
      40 / 1099511627776 AS message_byte,
      (0.025 + 0.02) / 1073741824 AS audit_byte, -- appended, and kept for a month
      -- A request, and the processor and memory (1 GiB) of 100 ms, shared by four requests at once.
      0.40 / 1000000 + 0.1 / 4 * (0.000024 + 0.0000025) AS request,
      CAST(0.0000025 + 0.0000025 AS FLOAT64) AS idle_second -- processor and memory
  ),
  awake AS (
    SELECT 'decide' AS `function`, 1 AS instances
    UNION ALL SELECT 'stitch_sync', 1
  ),
  work AS (
    SELECT 'decision' AS kind, 'decide' AS `function`, 1 AS requests, 1 AS reads, 0 AS writes,
      1 AS messages, 2060 AS message_bytes, 0 AS audit_bytes
    UNION ALL SELECT 'decision that changes state', 'decide', 0, 0, 2, 0, 0, 0
    UNION ALL SELECT 'stitch request', 'stitch_async', 1, 2, 0, 2, 2000, 0
    UNION ALL SELECT 'changed profile', 'stitch_async', 0, 0, 3, 0, 0, 0
    UNION ALL SELECT 'further identifier', 'stitch_async', 0, 1, 2, 0, 0, 0
    UNION ALL SELECT 'delivery', 'stitch_async', 1, 2, 2, 2, 2000, 0
    UNION ALL SELECT 'sweep', 'stitch_async', 1, 9, 0, 0, 0, 0
    UNION ALL SELECT 'definition swept', 'stitch_async', 0, 1, 0, 0, 0, 0
    UNION ALL SELECT 'lookup', 'stitch_sync', 1, 1, 0, 0, 0, 0
    UNION ALL SELECT 'audit message', 'audit_sink', 1, 0, 0, 0, 0, 0
    UNION ALL SELECT 'mark cleared', 'audit_sink', 0, 0, 1, 0, 0, 0
    UNION ALL SELECT 'delivery', 'audit_sink', 0, 1, 0, 0, 0, 0
    UNION ALL SELECT 'record of a decision', 'audit_sink', 0, 0, 0, 0, 0, 1400
    UNION ALL SELECT 'other record', 'audit_sink', 0, 0, 0, 0, 0, 660
  ),
  days AS (
    SELECT
      DATE_DIFF(DATE_ADD(DATE '${first_day}', INTERVAL 1 MONTH), DATE '${first_day}', DAY) AS days
  ),
  counted AS (
    SELECT
      COUNT(DISTINCT decision_id) AS decisions,
      COUNT(DISTINCT IF(outcome = 'personalized', decision_id, NULL)) AS personalized,
      IFNULL(COUNTIF(
        record_type IN ('identity_link', 'identity_merge', 'profile_update', 'identity_blocked')
      ), 0) AS stitches,
      IFNULL(COUNTIF(outcome IN ('created', 'linked', 'merged', 'updated')), 0) AS changes,
      IFNULL(COUNTIF(outcome IN ('linked', 'merged')), 0) AS further,
      IFNULL(COUNTIF(record_type IN ('callback_delivery', 'action_delivery')), 0) AS deliveries,
      IFNULL(COUNTIF(
        record_type IN ('event_decision', 'personalization_decision')
      ), 0) AS decision_records,
      COUNT(*) AS records
    FROM `${dataset}.audit`
    WHERE occurred_at >= TIMESTAMP(DATE '${first_day}')
      AND occurred_at < TIMESTAMP(DATE_ADD(DATE '${first_day}', INTERVAL 1 MONTH))
  ),
  volumes AS (
    SELECT 'decision' AS kind, decisions AS times FROM counted
    UNION ALL SELECT 'decision that changes state', personalized FROM counted
    UNION ALL SELECT 'stitch request', stitches FROM counted
    UNION ALL SELECT 'changed profile', changes FROM counted
    UNION ALL SELECT 'further identifier', further FROM counted
    UNION ALL SELECT 'delivery', deliveries FROM counted
    UNION ALL SELECT 'sweep', days * 1440 FROM days
    UNION ALL SELECT 'definition swept', days * 1440 * LEAST(${definitions}, 1000) FROM days
    UNION ALL SELECT 'lookup', ${lookups}
    UNION ALL SELECT 'audit message', decisions + records - decision_records FROM counted
    UNION ALL SELECT 'mark cleared', personalized + changes + deliveries FROM counted
    UNION ALL SELECT 'record of a decision', decision_records FROM counted
    UNION ALL SELECT 'other record', records - decision_records FROM counted
  ),
  used AS (
    SELECT
      work.`function`,
      SUM(times * requests) AS requests,
      SUM(times * reads) AS reads,
      SUM(times * writes) AS writes,
      SUM(times * messages) AS messages,
      SUM(times * message_bytes) AS message_bytes,
      SUM(times * audit_bytes) AS audit_bytes
    FROM work
    JOIN volumes ON volumes.kind = work.kind
    GROUP BY `function`
  )
SELECT
  used.`function`,
  requests,
  reads,
  writes,
  messages,
  reads * document_read + writes * document_write AS documents_cost,
  2 * message_bytes * message_byte AS messages_cost, -- published and delivered
  audit_bytes * audit_byte AS audit_cost,
  requests * request AS requests_cost,
  IFNULL(instances, 0) * days * 86400 * idle_second AS idle_cost,
  reads * document_read + writes * document_write + 2 * message_bytes * message_byte
    + audit_bytes * audit_byte + requests * request
    + IFNULL(instances, 0) * days * 86400 * idle_second AS cost
FROM used
CROSS JOIN prices
CROSS JOIN days
LEFT JOIN awake ON awake.`function` = used.`function`
ORDER BY cost DESC
