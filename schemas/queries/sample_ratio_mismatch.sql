-- Whether the visitors of an experiment's variants fit its weights, or the counting is wrong: ALERT
-- below a probability of 0.001, WARN below 0.01 (Pearson's chi-square test).
-- ${experiment_id}, ${version}; ${weights}: SELECT 'control' AS variant, 0.5 AS weight UNION ALL …
WITH
  weights AS (
    SELECT variant, weight
    FROM (
      ${weights}
    ) AS given
    WHERE weight > 0 -- a visitor of a variant without weight cannot be chance
  ),
  counts AS (
    SELECT variant, visitors
    FROM `${dataset}.experiment_visitors`
    WHERE experiment_id = '${experiment_id}' AND version = ${version} AND variant IS NOT NULL
  ),
  compared AS (
    SELECT
      IFNULL(counts.visitors, 0) AS visitors,
      weights.weight,
      SUM(IFNULL(counts.visitors, 0)) OVER () * weights.weight / SUM(weights.weight) OVER ()
        AS expected
    FROM weights
    FULL JOIN counts ON counts.variant = weights.variant
  ),
  tested AS (
    SELECT
      SUM(visitors) AS visitors,
      COUNT(weight) - 1 AS degrees,
      COUNTIF(weight IS NULL) AS variants_without_weight,
      SUM(SAFE_DIVIDE((visitors - expected) * (visitors - expected), expected)) AS chi_square
    FROM compared
  )
SELECT
  visitors,
  degrees,
  chi_square,
  CASE
    WHEN variants_without_weight > 0 THEN 'ALERT'
    WHEN chi_square > CASE degrees
      WHEN 1 THEN 10.8276 WHEN 2 THEN 13.8155 WHEN 3 THEN 16.2662 WHEN 4 THEN 18.4668
      WHEN 5 THEN 20.5150 WHEN 6 THEN 22.4577 WHEN 7 THEN 24.3219 WHEN 8 THEN 26.1245
      WHEN 9 THEN 27.8772 WHEN 10 THEN 29.5883 WHEN 11 THEN 31.2641 WHEN 12 THEN 32.9095
      WHEN 13 THEN 34.5282 WHEN 14 THEN 36.1233 WHEN 15 THEN 37.6973 WHEN 16 THEN 39.2524
      WHEN 17 THEN 40.7902 WHEN 18 THEN 42.3124 WHEN 19 THEN 43.8202 END THEN 'ALERT'
    WHEN chi_square > CASE degrees
      WHEN 1 THEN 6.6349 WHEN 2 THEN 9.2103 WHEN 3 THEN 11.3449 WHEN 4 THEN 13.2767
      WHEN 5 THEN 15.0863 WHEN 6 THEN 16.8119 WHEN 7 THEN 18.4753 WHEN 8 THEN 20.0902
      WHEN 9 THEN 21.6660 WHEN 10 THEN 23.2093 WHEN 11 THEN 24.7250 WHEN 12 THEN 26.2170
      WHEN 13 THEN 27.6882 WHEN 14 THEN 29.1412 WHEN 15 THEN 30.5779 WHEN 16 THEN 31.9999
      WHEN 17 THEN 33.4087 WHEN 18 THEN 34.8053 WHEN 19 THEN 36.1909 END THEN 'WARN'
    ELSE 'OK'
  END AS verdict
FROM tested
