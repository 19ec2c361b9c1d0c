-- name: WebhookInsert :exec
INSERT INTO webhooks (id, name, url, types, cluster_id, secret, created_at, created_by, after, due_at, lease_until)
VALUES (@id, @name, @url, @types, @cluster_id, @secret, @created_at, @created_by, @after, @created_at, @created_at);

-- name: Webhooks :many
SELECT * FROM webhooks ORDER BY name;

-- name: WebhookByRef :one
SELECT * FROM webhooks WHERE name = @ref::text OR id::text = @ref;

-- name: WebhookDelete :execrows
DELETE FROM webhooks WHERE id = @id;

-- name: WebhookClaim :many
UPDATE webhooks w SET lease_until = @until::timestamptz, token = w.token + 1
WHERE w.id IN (
    SELECT d.id FROM webhooks d
    WHERE d.due_at <= @now::timestamptz AND d.lease_until <= @now AND d.after < @latest::bigint
    ORDER BY d.due_at LIMIT @lim::int FOR UPDATE SKIP LOCKED)
RETURNING *;

-- name: WebhookAdvance :execrows
UPDATE webhooks SET
    after = @after, attempts = @attempts, failures = @failures, due_at = @due_at, lease_until = @lease_until, last_sent_at = @last_sent_at,
    error = @error
WHERE id = @id AND token = @token;

-- name: DeliveryPut :exec
INSERT INTO webhook_deliveries (webhook_id, event_id, type, body, status, attempts, first_at, last_at, response, took_us, error)
VALUES (@webhook_id, @event_id, @type, @body, @status, 1, @at::timestamptz, @at, @response, @took_us, @error)
ON CONFLICT (webhook_id, event_id) DO UPDATE SET
    status = excluded.status, attempts = webhook_deliveries.attempts + 1, last_at = excluded.last_at, response = excluded.response,
    took_us = excluded.took_us, error = excluded.error;

-- name: DeliveryByEvent :one
SELECT * FROM webhook_deliveries WHERE webhook_id = @webhook_id AND event_id = @event_id;

-- name: DeliveryList :many
SELECT * FROM webhook_deliveries
WHERE webhook_id = @webhook_id AND event_id < @before::bigint AND (sqlc.narg('status')::text IS NULL OR status = sqlc.narg('status'))
ORDER BY event_id DESC
LIMIT @lim::int;

-- name: DeliveryPurge :execrows
DELETE FROM webhook_deliveries
WHERE (webhook_id, event_id) IN (
    SELECT d.webhook_id, d.event_id FROM webhook_deliveries d
    WHERE d.last_at < @before::timestamptz AND (d.status = 'Sent' OR d.last_at < @dead_before::timestamptz)
    ORDER BY d.last_at LIMIT @lim::int);
