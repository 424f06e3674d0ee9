-- What each rule did on each day (UTC): how often it applied, and what that did to the events.
-- A rule can apply without an effect (it set what was there already), so its matches count from
-- rule_ids and its effects from the modifications.
WITH
  applied AS (
    SELECT
      DATE(audit.occurred_at) AS day,
      rule_id,
      COUNT(*) AS matches
    FROM `${dataset}.audit_deduplicated` AS audit
    CROSS JOIN UNNEST(audit.rule_ids) AS rule_id
    GROUP BY day, rule_id
  ),
  effects AS (
    SELECT
      DATE(occurred_at) AS day,
      rule_id,
      COUNT(*) AS modifications,
      COUNTIF(type = 'rename_event') AS renames,
      COUNTIF(type = 'drop_event') AS drops,
      SUM(IF(parameter = 'value', old_number, NULL)) AS value_before,
      SUM(IF(parameter = 'value', new_number, NULL)) AS value_after
    FROM `${dataset}.modifications`
    GROUP BY day, rule_id
  )
SELECT
  applied.day,
  applied.rule_id,
  applied.matches,
  IFNULL(effects.modifications, 0) AS modifications,
  IFNULL(effects.renames, 0) AS renames,
  IFNULL(effects.drops, 0) AS drops,
  effects.value_before,
  effects.value_after
FROM applied
LEFT JOIN effects
  ON applied.day = effects.day AND applied.rule_id = effects.rule_id
