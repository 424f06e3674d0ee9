-- What the audit still holds of a visitor: zeros after an erasure. It reads the table itself, not
-- the view, because an erasure must reach every stored row.
-- ${subject}: the visitor's pseudonym, `kid:…`, one of each key that was ever used.
SELECT
  COUNT(*) AS rows_left,
  IFNULL(COUNTIF(request_id IS NOT NULL), 0) AS request_ids_left,
  IFNULL(COUNTIF(receipt IS NOT NULL), 0) AS receipts_left,
  IFNULL(COUNTIF(modifications IS NOT NULL), 0) AS modifications_left,
  MAX(occurred_at) AS newest_at
FROM `${dataset}.audit`
WHERE subject = '${subject}'
