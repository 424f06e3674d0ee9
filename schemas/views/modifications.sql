-- One row a modification; `position` counts from 0 in the order in which the decision made them.
-- (Numbered by GENERATE_ARRAY, because SQLGlot's WITH OFFSET counts from 1 on DuckDB.)
WITH
  listed AS (
    SELECT *, JSON_QUERY_ARRAY(modifications, '$') AS entries
    FROM `${dataset}.audit_deduplicated`
    WHERE modifications IS NOT NULL
  ),
  numbered AS (
    SELECT listed.*, position, entries[SAFE_OFFSET(position)] AS modification
    FROM listed
    CROSS JOIN UNNEST(GENERATE_ARRAY(0, ARRAY_LENGTH(entries) - 1)) AS position
  )
SELECT
  record_id,
  position,
  occurred_at,
  decision_id,
  request_id,
  subject,
  event_name,
  resolved_event_name,
  outcome,
  rules_version,
  JSON_VALUE(modification, '$.rule_id') AS rule_id,
  JSON_VALUE(modification, '$.type') AS type,
  JSON_VALUE(modification, '$.parameter') AS parameter,
  JSON_VALUE(modification, '$.old_name') AS old_name,
  JSON_VALUE(modification, '$.new_name') AS new_name,
  JSON_QUERY(modification, '$.old_value') AS old_value,
  JSON_QUERY(modification, '$.new_value') AS new_value,
  SAFE_CAST(JSON_VALUE(modification, '$.old_value') AS FLOAT64) AS old_number,
  SAFE_CAST(JSON_VALUE(modification, '$.new_value') AS FLOAT64) AS new_number
FROM numbered
