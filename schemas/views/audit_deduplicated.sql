-- Each record once: the first row that was stored of it. A decision whose commit seemed to fail has
-- an id that ends with `:uncommitted`; where it was committed all the same, or later, that row counts.
SELECT *
FROM `${dataset}.audit`
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (
  PARTITION BY REPLACE(record_id, ':uncommitted', '')
  ORDER BY ENDS_WITH(record_id, ':uncommitted'), recorded_at
) = 1
