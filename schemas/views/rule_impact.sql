-- How the events that a rule applies to fared in the 7 days before it first did, and in the 7 days
-- from then on. `value_difference` is what all rules together did to `value`.
WITH
  decisions AS (
    SELECT record_id, occurred_at, event_name, resolved_event_name, outcome, rule_ids
    FROM `${dataset}.audit_deduplicated`
    WHERE record_type = 'event_decision'
  ),
  beginnings AS (
    SELECT rule_id, decisions.event_name, MIN(decisions.occurred_at) AS began_at
    FROM decisions
    CROSS JOIN UNNEST(decisions.rule_ids) AS rule_id
    GROUP BY rule_id, event_name
  ),
  differences AS (
    SELECT record_id, SUM(new_number - old_number) AS value_difference
    FROM `${dataset}.modifications`
    WHERE parameter = 'value'
    GROUP BY record_id
  ),
  compared AS (
    SELECT
      beginnings.rule_id,
      beginnings.event_name,
      beginnings.began_at,
      decisions.occurred_at >= beginnings.began_at AS is_after,
      decisions.outcome = 'dropped' AS is_dropped,
      decisions.resolved_event_name <> decisions.event_name AS is_renamed,
      differences.value_difference
    FROM beginnings
    JOIN decisions
      ON decisions.event_name = beginnings.event_name
      AND decisions.occurred_at >= TIMESTAMP_SUB(beginnings.began_at, INTERVAL 7 DAY)
      AND decisions.occurred_at < TIMESTAMP_ADD(beginnings.began_at, INTERVAL 7 DAY)
    LEFT JOIN differences
      ON differences.record_id = decisions.record_id
  )
SELECT
  rule_id,
  event_name,
  began_at,
  COUNTIF(NOT is_after) AS events_before,
  COUNTIF(is_after) AS events_after,
  COUNTIF(NOT is_after AND is_renamed) AS renames_before,
  COUNTIF(is_after AND is_renamed) AS renames_after,
  COUNTIF(NOT is_after AND is_dropped) AS drops_before,
  COUNTIF(is_after AND is_dropped) AS drops_after,
  SUM(IF(is_after, NULL, value_difference)) AS value_difference_before,
  SUM(IF(is_after, value_difference, NULL)) AS value_difference_after
FROM compared
GROUP BY rule_id, event_name, began_at
