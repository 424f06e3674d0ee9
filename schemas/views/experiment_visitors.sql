-- Visitors of each variant, by experiment and version: who was served it, counted once. The row
-- without a variant counts those who saw several, whom an analysis leaves out.
WITH
  exposed AS (
    SELECT subject, JSON_QUERY_ARRAY(extra, '$.exposures') AS entries
    FROM `${dataset}.audit_deduplicated`
    WHERE subject IS NOT NULL AND JSON_QUERY(extra, '$.exposures') IS NOT NULL
  ),
  listed AS (
    SELECT exposed.subject, entries[SAFE_OFFSET(position)] AS exposure
    FROM exposed
    CROSS JOIN UNNEST(GENERATE_ARRAY(0, ARRAY_LENGTH(entries) - 1)) AS position
  ),
  visitors AS (
    SELECT
      JSON_VALUE(exposure, '$.experiment_id') AS experiment_id,
      CAST(JSON_VALUE(exposure, '$.version') AS INT64) AS version,
      subject,
      MIN(JSON_VALUE(exposure, '$.variant')) AS first_variant,
      MAX(JSON_VALUE(exposure, '$.variant')) AS last_variant,
      COUNTIF(JSON_VALUE(exposure, '$.multiple') = 'true') AS times_changed
    FROM listed
    GROUP BY experiment_id, version, subject
  )
SELECT
  experiment_id,
  version,
  IF(first_variant = last_variant AND times_changed = 0, first_variant, NULL) AS variant,
  COUNT(*) AS visitors
FROM visitors
GROUP BY experiment_id, version, variant
