-- name: EventInsert :exec
INSERT INTO events (at, type, cluster_id, subject, actor, message, data, transient)
SELECT unnest(@at::timestamptz[]), unnest(@types::text[]), nullif(unnest(@cluster_ids::uuid[]), '00000000-0000-0000-0000-000000000000'),
       unnest(@subjects::text[]), unnest(@actors::text[]), unnest(@messages::text[]), unnest(@data::text[])::json, unnest(@transient::bool[])
FROM (SELECT pg_advisory_xact_lock(@class::int, 0)) AS first;

-- name: EventList :many
SELECT * FROM events
WHERE id > @after::bigint
  AND (sqlc.narg('cluster_id')::uuid IS NULL OR cluster_id = sqlc.narg('cluster_id'))
  AND (coalesce(cardinality(@types::text[]), 0) = 0 OR type = ANY (@types))
ORDER BY id
LIMIT @lim::int;

-- name: EventLatest :one
SELECT coalesce(max(id), 0)::bigint FROM events;

-- name: EventPurge :execrows
DELETE FROM events
WHERE id IN (
    (SELECT a.id FROM events a WHERE a.at < @old::timestamptz ORDER BY a.at LIMIT @lim::int)
    UNION
    (SELECT t.id FROM events t WHERE t.transient AND t.at < @old_transient::timestamptz ORDER BY t.at LIMIT @lim::int));

-- name: Notify :exec
SELECT pg_notify(@channel::text, @payload::text);
