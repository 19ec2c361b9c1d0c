-- name: OutboxLock :exec
SELECT pg_advisory_xact_lock(@class::int, hashtext(@stream::text));

-- name: OutboxInsert :execrows
INSERT INTO outbox (stream, topic, key, event_id, type, source, body, written_at, due_at)
SELECT @stream::uuid, m.topic, m.key, m.event_id, m.type, m.source, m.body::json, @at::timestamptz, @at
FROM (SELECT unnest(@topics::text[]) AS topic, unnest(@keys::text[]) AS key, unnest(@event_ids::uuid[]) AS event_id,
             unnest(@types::text[]) AS type, unnest(@sources::text[]) AS source, unnest(@bodies::text[]) AS body) m
ON CONFLICT ON CONSTRAINT outbox_key DO NOTHING;

-- name: OutboxClaim :many
UPDATE outbox o SET due_at = @until::timestamptz, attempts = o.attempts + 1
WHERE o.id IN (
    SELECT h.id FROM outbox h
    WHERE h.sent_at IS NULL AND h.dead_at IS NULL AND h.due_at <= @now::timestamptz
      AND NOT EXISTS (
          SELECT 1 FROM outbox p
          WHERE p.stream = h.stream AND p.topic = h.topic AND p.id < h.id AND p.sent_at IS NULL AND p.dead_at IS NULL)
    ORDER BY h.due_at LIMIT @lim::int FOR UPDATE SKIP LOCKED)
RETURNING *;

-- name: OutboxSent :execrows
UPDATE outbox SET sent_at = @at::timestamptz, error = '' WHERE id = @id AND attempts = @attempt AND sent_at IS NULL AND dead_at IS NULL;

-- name: OutboxDead :execrows
UPDATE outbox SET dead_at = @at::timestamptz, error = @error WHERE id = @id AND attempts = @attempt AND sent_at IS NULL AND dead_at IS NULL;

-- name: OutboxNext :many
UPDATE outbox o SET due_at = @until::timestamptz, attempts = o.attempts + 1
WHERE o.id = (
    SELECT n.id FROM outbox n
    WHERE n.stream = @stream AND n.topic = @topic AND n.sent_at IS NULL AND n.dead_at IS NULL
    ORDER BY n.id LIMIT 1)
RETURNING *;

-- name: OutboxFailed :execrows
UPDATE outbox SET due_at = @due::timestamptz, error = @error WHERE id = @id AND attempts = @attempt AND sent_at IS NULL AND dead_at IS NULL;

-- name: OutboxPurge :execrows
DELETE FROM outbox
WHERE id IN (
    SELECT o.id FROM outbox o
    WHERE o.written_at < @before::timestamptz AND (o.sent_at IS NOT NULL OR o.dead_at IS NOT NULL)
    ORDER BY o.written_at LIMIT @lim::int);

-- name: OutboxState :one
SELECT count(*) FILTER (WHERE sent_at IS NULL AND dead_at IS NULL) AS pending,
       count(*) FILTER (WHERE dead_at IS NOT NULL) AS dead,
       coalesce(min(written_at) FILTER (WHERE sent_at IS NULL AND dead_at IS NULL), @now::timestamptz)::timestamptz AS oldest
FROM outbox
WHERE (sent_at IS NULL AND dead_at IS NULL) OR dead_at IS NOT NULL;

-- name: OutboxList :many
SELECT id, stream, topic, key, event_id, type, octet_length(body::text) AS size, written_at, due_at, attempts, error, sent_at, dead_at FROM outbox
WHERE id < @before::bigint AND (
    @status::text = ''
    OR @status = 'Dead' AND dead_at IS NOT NULL
    OR @status = 'Sent' AND sent_at IS NOT NULL
    OR @status = 'Pending' AND sent_at IS NULL AND dead_at IS NULL)
ORDER BY id DESC
LIMIT @lim::int;

-- name: OutboxRevive :one
UPDATE outbox SET dead_at = NULL, due_at = @now::timestamptz, attempts = 0 WHERE id = @id AND dead_at IS NOT NULL
RETURNING id, stream, topic, key, event_id, type, octet_length(body::text) AS size, written_at, due_at, attempts, error, sent_at, dead_at;

-- name: OutboxDiscard :one
DELETE FROM outbox WHERE id = @id AND dead_at IS NOT NULL
RETURNING id, stream, topic, key, event_id, type, octet_length(body::text) AS size, written_at, due_at, attempts, error, sent_at, dead_at;
