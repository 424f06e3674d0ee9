-- Each record once: the first row that was stored of it.
SELECT *
FROM `${dataset}.audit`
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY record_id ORDER BY recorded_at) = 1
